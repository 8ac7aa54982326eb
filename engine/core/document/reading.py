"""From a document to its graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from engine.core import validate, values
from engine.core.document import vocabulary as words
from engine.core.document.edges import edges
from engine.core.document.inputs import input_schema, inputs
from engine.core.document.names import templates
from engine.core.document.nodes import nodes
from engine.core.document.routes import routed
from engine.core.document.steps import listed
from engine.core.document.variables import variables
from engine.core.graph import DEFAULT_STEPS, END, Graph, Limits, Node, NodeId
from engine.core.problem import Problem
from engine.core.section import Section
from engine.core.values import Json


def read(data: Json) -> Graph | tuple[Problem, ...]:
    """Make a graph of a document, or say everything that is wrong with it."""
    if found := tuple(values.problems(data)):
        return found
    problems: list[Problem] = []
    top = Section(data, "", problems)
    graph = None if problems else _graph(top)
    if graph is not None:
        problems += validate.problems(graph)
    if graph is None or problems:
        return tuple(dict.fromkeys(problems))
    return replace(graph, remembered=validate.remembered(graph))


def _graph(top: Section) -> Graph | None:
    is_list = "steps" in top.fields
    top.known(
        words.LIST if is_list else words.TOP,
        later=words.LATER_TOP,
        elsewhere={*words.TOP, *words.LIST},
    )
    workflow = top.text(
        "workflow", words.WORKFLOW_NAME, "a name of up to 128 characters, without @ and /"
    )
    if "workflow" not in top.fields:
        top.fail("workflow", "the workflow has no name", "write workflow: NAME")
    given, remembered = inputs(top), variables(top)
    for name in sorted(given.keys() & remembered.defaults.keys()):
        top.fail(f"variables.{name}", f"{name} is an input as well", "keep one of them")
    limits = top.section("limits")
    limits.known(["steps"], later=words.LATER_LIMITS)
    steps = limits.integer("steps", 1, words.MAX_STEPS, DEFAULT_STEPS)
    version = top.text("version", words.VERSION, "three numbers, such as 1.2.0")
    whole = Graph(
        workflow=workflow or "",
        version=version,
        start=END.id,
        nodes={},
        edges=(),
        variables=remembered.defaults,
        types=remembered.types,
        reducers=remembered.reducers,
        shared=remembered.shared,
        inputs=input_schema(given),
        outputs=templates(top, "outputs"),
        limits=Limits(steps=steps),
        strict=top.flag("strict"),
        origin=dict(top.section("origin").fields) or None,
        tests=dict(top.section("tests").fields),
    )
    return listed(top, whole) if is_list else _drawn(top, whole)


def _drawn(top: Section, whole: Graph) -> Graph | None:
    """The graph of nodes and edges, given what its document says beside them."""
    found, drawn = nodes(top), edges(top)
    if found is None or drawn is None:
        return None
    if any(END.id in {each.edge.source, each.edge.target} for each in drawn):
        found.setdefault(END.id, END)
    return replace(
        whole,
        start=_start(top, found),
        nodes=routed(top, found, drawn),
        edges=tuple(each.edge for each in drawn),
        places={str(each.edge.id): each.place for each in drawn},
    )


def _start(top: Section, nodes: Mapping[NodeId, Node]) -> NodeId:
    marked = [node.id for node in nodes.values() if node.kind == "start"]
    for node in marked[1:]:
        top.fail(f"nodes.{node}", f"{marked[0]} is the start already", "make it a pass node")
    if "start" not in top.fields:
        return marked[0] if marked else next(iter(nodes))
    named = top.text("start", words.NODE_NAME, "the name of a node")
    if named is not None and marked and named not in marked:
        top.fail("start", f"the node of kind start is {marked[0]}", "leave `start` out")
    return NodeId(named if named is not None else next(iter(nodes)))
