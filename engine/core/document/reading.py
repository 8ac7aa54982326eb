"""From a document to its graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from engine.core import validate, values
from engine.core.document import vocabulary as words
from engine.core.document.edges import edges
from engine.core.document.names import templates, variable_name
from engine.core.document.nodes import nodes
from engine.core.graph import DEFAULT_STEPS, END, Graph, Limits, Node, NodeId
from engine.core.problem import Problem
from engine.core.section import Section, below
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
    return graph


def _graph(top: Section) -> Graph | None:
    top.known(words.TOP, later=words.LATER_TOP)
    workflow = top.text(
        "workflow", words.WORKFLOW_NAME, "a name of up to 128 characters, without @ and /"
    )
    if "workflow" not in top.fields:
        top.fail("workflow", "the workflow has no name", "write workflow: NAME")
    inputs, variables = _inputs(top), _variables(top)
    for name in sorted(inputs.keys() & variables.keys()):
        top.fail(f"variables.{name}", f"{name} is an input as well", "keep one of them")
    limits = top.section("limits")
    limits.known(["steps"], later=words.LATER_LIMITS)
    steps = limits.integer("steps", 1, words.MAX_STEPS, DEFAULT_STEPS)
    version = top.text("version", words.VERSION, "three numbers, such as 1.2.0")
    outputs = templates(top, "outputs")
    found, drawn = nodes(top), edges(top)
    origin = dict(top.section("origin").fields) or None
    if found is None or drawn is None:
        return None
    if any(END.id in {edge.source, edge.target} for edge, _ in drawn):
        found.setdefault(END.id, END)
    return Graph(
        workflow=workflow or "",
        version=version,
        start=_start(top, found),
        nodes=found,
        edges=tuple(edge for edge, _ in drawn),
        variables=variables,
        inputs=_input_schema(inputs),
        outputs=outputs,
        limits=Limits(steps=steps),
        origin=origin,
        places={str(edge.id): place for edge, place in drawn},
    )


def _inputs(top: Section) -> dict[str, Json]:
    found: dict[str, Json] = {}
    section = top.section("inputs")
    for name, schema in section.fields.items():
        variable_name(section, name)
        found[name] = schema
        if not isinstance(schema, dict):
            section.wrong(section.at(name), schema, "a JSON Schema, such as {type: string}")
            continue
        for path in _references(schema, section.at(name)):
            section.problems.append(
                Problem(
                    path=path,
                    message="the schema of an input stands for itself",
                    remedy="write out what this refers to",
                )
            )
    return found


def _input_schema(properties: Mapping[str, Json]) -> dict[str, Json]:
    """The JSON Schema of a run's inputs. One without a default must be given."""
    if not properties:
        return {}
    required: list[Json] = [
        name
        for name, schema in properties.items()
        if isinstance(schema, dict) and "default" not in schema
    ]
    return {
        "type": "object",
        "properties": dict(properties),
        "required": sorted(required, key=str),
        "additionalProperties": False,
    }


def _references(schema: Json, path: str) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, entry in schema.items():
            if key in words.REFERRING:
                yield below(path, key)
            yield from _references(entry, below(path, key))
    elif isinstance(schema, list):
        for index, entry in enumerate(schema):
            yield from _references(entry, f"{path}[{index}]")


def _variables(top: Section) -> dict[str, Json]:
    found: dict[str, Json] = {}
    section = top.section("variables")
    for name in section.fields:
        variable_name(section, name)
        variable = section.section(name)
        variable.known(["default"], later=words.LATER_VARIABLE)
        found[name] = variable.fields.get("default")
    return found


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
