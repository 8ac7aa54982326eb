"""The simple language of `POST /graph/create`: nodes with functions, edges with conditions.

It is lowered to a document, so that everything behind it knows one language:

- A node's `function` becomes `uses`, its `condition` becomes `choose`, an edge's `condition`
  becomes `ask`. All are names of functions, called on the state; a tool may be named too.
- `conditional`: true takes the edge labelled `true`, else the first; false the one labelled
  `false`, else the second; a text the edge of that label or target.
- `loop`: true goes on over the edge labelled `loop`, or repeats the node where it has none
  (an edge to itself, labelled `loop`, is added); false takes the others.
- `start` and `end` are passed without a worker unless they have a function, and so is every
  node that names none. The run starts at `start_node`, else at the node of type `start`,
  else at the first.

Messages are the ones that its users know. What was given is kept as the document's `origin`,
and given back by `info`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engine.core import document, loops, values
from engine.core.document import vocabulary as words
from engine.core.graph import DEFAULT_ITERATIONS, LOOP, Graph, Node
from engine.core.problem import Problem
from engine.core.section import Section
from engine.core.values import Json

TYPES = ("standard", "conditional", "loop", "start", "end")
DEFAULT_NAME = "workflow"


def read(body: Json) -> Graph | tuple[Problem, ...]:
    """Make a graph of the body of a request, or say everything that is wrong with it."""
    if found := tuple(values.problems(body)):
        return found
    problems: list[Problem] = []
    top = _given(body, "", problems)
    name = top.text("name", words.WORKFLOW_NAME, "a name of up to 128 characters, without @ and /")
    start = top.text("start_node", words.NODE_NAME, "the name of a node")
    nodes = [_node(section) for section in _several(top, "nodes", words.MAX_NODES)]
    edges = [_edge(section) for section in _several(top, "edges", words.MAX_EDGES)]
    if problems:
        return tuple(problems)
    start = start or next(
        (node.name for node in nodes if node.type == "start"), nodes[0].name if nodes else ""
    )
    if found := tuple(_problems(nodes, edges, start)):
        return found
    asking = {edge.source for edge in edges if edge.condition}
    return document.read(
        {
            "workflow": name or DEFAULT_NAME,
            "start": start,
            "nodes": {node.name: _lowered(node, start, asking) for node in nodes},
            "edges": [*map(_arrow, edges), *_repeats(nodes, edges)],
            "origin": {
                "nodes": [_described(each.name, each.type, each.max_iterations) for each in nodes],
                "edges": [_drawn(each.source, each.target, each.label) for each in edges],
            },
        }
    )


def info(graph: Graph) -> dict[str, Json]:
    """A graph in the words of this language: as it was given, or as near as they come."""
    given = graph.origin if isinstance(graph.origin, dict) else {}
    nodes: Any = given.get("nodes")
    edges: Any = given.get("edges")
    if nodes is None or edges is None:
        nodes = [
            _described(node.id, _type(graph, node), node.max_iterations)
            for node in graph.nodes.values()
        ]
        edges = [_drawn(edge.source, edge.target, edge.label) for edge in graph.edges]
    return {
        "name": graph.workflow,
        "nodes": nodes,
        "edges": edges,
        "start_node": graph.start,
        "end_nodes": [node["name"] for node in nodes if node["type"] == "end"],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    path: str
    name: str
    type: str
    function: str | None
    condition: str | None
    max_iterations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Edge:
    path: str
    source: str
    target: str
    condition: str | None
    label: str | None


def _given(data: Json, path: str, problems: list[Problem]) -> Section:
    """An object without the fields that are null or empty: they say nothing here."""
    if isinstance(data, dict):
        data = {name: value for name, value in data.items() if value is not None and value != ""}
    return Section(data, path, problems)


def _several(top: Section, field: str, most: int) -> Iterator[Section]:
    given = top.fields.get(field, [])
    if not isinstance(given, list):
        top.wrong(field, given, f"a list of {field}")
    elif len(given) > most:
        top.fail(field, f"{len(given)} {field}", f"send up to {most}")
    else:
        for index, entry in enumerate(given):
            section = _given(entry, f"{field}[{index}]", top.problems)
            if isinstance(entry, dict):
                yield section


def _node(section: Section) -> _Node:
    kind = section.fields.get("type", "standard")
    if kind not in TYPES:
        section.fail("type", f"Unknown node type: {kind}", f"send one of {', '.join(TYPES)}")
    return _Node(
        path=section.path,
        name=_name(section, "name"),
        type=str(kind),
        function=_function(section, "function"),
        condition=_function(section, "condition"),
        max_iterations=section.integer(
            "max_iterations", 1, words.MAX_ITERATIONS, DEFAULT_ITERATIONS
        ),
    )


def _edge(section: Section) -> _Edge:
    return _Edge(
        path=section.path,
        source=_name(section, "source"),
        target=_name(section, "target"),
        condition=_function(section, "condition"),
        label=section.text("label", words.LABEL, "a label of one line, up to 100 characters"),
    )


def _name(section: Section, field: str) -> str:
    if field not in section.fields:
        section.fail(field, f"`{field}` is missing", "send the name of a node")
    wanted = "up to 64 letters, digits, _ . - and spaces"
    return section.text(field, words.NODE_NAME, wanted) or ""


def _function(section: Section, field: str) -> str | None:
    name = section.fields.get(field)
    if isinstance(name, str) and not words.matches(words.FUNCTION, name):
        section.fail(field, f"Function not found: {name}", "register it first")
        return None
    return section.text(field, words.FUNCTION, "the name of a function")


def _problems(nodes: list[_Node], edges: list[_Edge], start: str) -> Iterator[Problem]:
    known = {node.name: node for node in nodes}
    for node in nodes:
        if known[node.name] is not node:
            yield Problem(path=node.path, message=f"Duplicate node name: {node.name}")
        yield from _misplaced(node, edges)
    if not any(node.type == "end" for node in nodes):
        yield Problem(
            path="nodes", message="Graph missing end node", remedy="add a node of type end"
        )
    if not nodes:
        yield Problem(path="nodes", message="Graph missing start node", remedy="add one")
        return
    if start not in known:
        yield Problem(path="start_node", message=f"Start node not found: {start}")
    unknown = False
    for edge in edges:
        for field, name in (("source", edge.source), ("target", edge.target)):
            if name not in known:
                unknown = True
                message = f"Edge references unknown node: {name}"
                yield Problem(path=f"{edge.path}.{field}", message=message)
    if not unknown and start in known:
        yield from _ways(known, edges, start)


def _misplaced(node: _Node, edges: list[_Edge]) -> Iterator[Problem]:
    """Conditions where nothing would ever call them: what a run ignores, it must not be given."""
    leaving = [edge for edge in edges if edge.source == node.name]
    if node.condition and node.type not in {"conditional", "loop"}:
        yield Problem(
            path=f"{node.path}.condition",
            message=f"Node {node.name} is of type {node.type} and has a condition",
            remedy="make it conditional or loop, or put the condition on its edges",
        )
    for edge in leaving:
        if node.type == "end":
            yield Problem(path=edge.path, message=f"End node has an outgoing edge: {node.name}")
        elif (
            node.condition and edge.condition and (node.type == "conditional" or edge.label == LOOP)
        ):
            yield Problem(
                path=f"{edge.path}.condition",
                message=f"Node {node.name} chooses this edge by its own condition",
                remedy="leave one of the two conditions out",
            )


def _ways(known: dict[str, _Node], edges: list[_Edge], start: str) -> Iterator[Problem]:
    reached = loops.reachable([start], [(edge.source, edge.target) for edge in edges])
    if lost := [name for name in known if name not in reached]:
        yield Problem(
            path="nodes",
            message=f"Unreachable nodes: {', '.join(lost)}",
            remedy="add edges to them, or remove them",
        )
    forward = [(edge.source, edge.target) for edge in edges if edge.label != LOOP]
    if any(
        source in together and target in together
        for together in loops.components(known, forward)
        for source, target in forward
    ):
        yield Problem(
            path="edges",
            message="Cycle detected in graph",
            remedy="label the edge that leads back `loop`",
        )


def _lowered(node: _Node, start: str, asking: set[str]) -> Json:
    if node.function or node.condition or node.name in asking:
        fields: dict[str, Json] = {"uses": node.function, "choose": node.condition}
    else:
        marked = node.type == "start" and node.name == start
        fields = {"kind": "end" if node.type == "end" else "start" if marked else "pass"}
    fields["max_iterations"] = node.max_iterations
    return {name: value for name, value in fields.items() if value is not None}


def _arrow(edge: _Edge) -> Json:
    fields = {
        "from": edge.source,
        "to": edge.target,
        "ask": edge.condition,
        "label": edge.label,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _repeats(nodes: list[_Node], edges: list[_Edge]) -> Iterator[Json]:
    """The edges that loop nodes repeat themselves over when they have none that leads back."""
    for node in nodes:
        leads_back = any(edge.source == node.name and edge.label == LOOP for edge in edges)
        if node.type == "loop" and node.condition and not leads_back:
            yield {"from": node.name, "to": node.name, "label": LOOP}


def _described(name: str, kind: str, max_iterations: int) -> dict[str, Json]:
    return {"name": name, "type": kind, "max_iterations": max_iterations}


def _drawn(source: str, target: str, label: str | None) -> dict[str, Json]:
    return {"source": source, "target": target, "label": label}


def _type(graph: Graph, node: Node) -> str:
    edges = graph.edges_from(node.id)
    if not edges:
        return "end"
    if node.choose is not None:
        return "loop" if any(edge.label == LOOP for edge in edges) else "conditional"
    return "start" if node.id == graph.start and node.kind != "function" else "standard"
