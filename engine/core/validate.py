"""What must hold of a graph as a whole, beyond the form of its parts.

Every run of a graph that passes here ends by itself, because each loop is bounded and a way
out leads from each node. What could only be a mistake, an edge that is never taken, a name
that nothing gives a value, is refused here and not found out by a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from engine.core import loops
from engine.core.expressions import Expression, Template
from engine.core.graph import END, LOOP, Arrive, Edge, Graph, NodeId, Role
from engine.core.problem import Problem
from engine.core.section import UNREAD, below, nearest, short, suggestion

#: Names that are not variables. The second half belongs to the language and not yet to us.
AVAILABLE = frozenset({"result", "run"})
RESERVED = AVAILABLE | {"steps", "item", "index", "env"}


def problems(graph: Graph) -> tuple[Problem, ...]:
    """Everything that is wrong with a graph whose parts are well formed.

    The nodes that edges name need not exist: a name close to one that does is taken for it,
    so that one slip of the pen is one problem.
    """
    found = list(_dangling(graph))
    sound = _mended(graph)
    if graph.start in graph.nodes:
        found += _unreachable(sound)
    found += _endless(sound)
    found += _idle(sound)
    found += _ends(sound)
    found += _workers(sound)
    # Other languages have their own idea of a mistake; their readers see to it.
    if graph.origin is None:
        found += _never_taken(sound)
        found += _needless_loops(sound)
    found += _unknown_names(sound)
    return tuple(found)


def _dangling(graph: Graph) -> Iterator[Problem]:
    if graph.start not in graph.nodes:
        yield Problem(
            path="start",
            message=f"there is no node {short(graph.start)}",
            remedy=suggestion(graph.start, graph.nodes) or "name one of the nodes",
        )
    for edge in graph.edges:
        for node in dict.fromkeys((edge.source, edge.target)):
            if node not in graph.nodes:
                yield Problem(
                    path=_place(graph, edge.id),
                    message=f"there is no node {short(node)}",
                    remedy=suggestion(node, [*graph.nodes, END.id]) or f"declare it: {node}: {{…}}",
                )


def _mended(graph: Graph) -> Graph:
    nodes = dict(graph.nodes)
    edges = []
    for edge in graph.edges:
        source, target = (_nearest(graph, node) for node in (edge.source, edge.target))
        if END.id in {source, target}:
            nodes.setdefault(END.id, END)
        if source is not None and target is not None:
            edges.append(replace(edge, source=source, target=target))
    return replace(graph, nodes=nodes, edges=tuple(edges))


def _nearest(graph: Graph, node: NodeId) -> NodeId | None:
    near = node if node in graph.nodes else nearest(node, [*graph.nodes, END.id])
    return None if near is None else NodeId(near)


def _unreachable(graph: Graph) -> Iterator[Problem]:
    reached = loops.reachable([graph.start], ((e.source, e.target) for e in graph.edges))
    for node in graph.nodes:
        if node not in reached:
            yield Problem(
                path=_place(graph, node),
                message=f"no way leads to it from the start ({graph.start})",
                remedy="add an edge to it, or remove it",
            )


def _endless(graph: Graph) -> Iterator[Problem]:
    """Nodes whose threads never end but by a bound: a loop without a way out.

    An edge labelled `loop` is a way back that is known to close, so a node that has no other
    edges is an end.
    """
    ends = {
        node
        for node in graph.nodes
        if all(edge.label == LOOP for edge in graph.edges_from(node))
        or any(edge.arrive is Arrive.FINAL for edge in graph.edges_from(node))
    }
    ending = loops.reachable(ends, ((e.target, e.source) for e in graph.edges))
    if stuck := [node for node in graph.nodes if node not in ending]:
        some = ", ".join(stuck[:10]) + (", …" if len(stuck) > 10 else "")  # noqa: PLR2004
        yield Problem(
            path="edges",
            message=f"no end can be reached from {some}" if ends else "the graph has no end",
            remedy="add an edge to `end`, or label the way back `loop`",
        )


def _idle(graph: Graph) -> Iterator[Problem]:
    """Loops in which nothing is ever carried out: the coordinator would turn in them by itself."""
    control = {node for node, known in graph.nodes.items() if known.role is Role.CONTROL}
    links = [(e.source, e.target) for e in graph.edges if {e.source, e.target} <= control]
    for loop in loops.components(sorted(control), links):
        if any(source in loop and target in loop for source, target in links):
            node = min(loop)
            yield Problem(
                path=_place(graph, node),
                message=f"a loop of nodes that do nothing: {', '.join(sorted(loop))}",
                remedy="put a node into the loop that does something, or open it",
            )


def _ends(graph: Graph) -> Iterator[Problem]:
    for edge in graph.edges:
        if graph.nodes[edge.source].kind == "end":
            yield Problem(
                path=_place(graph, edge.id),
                message=f"{edge.source} is an end; nothing follows it",
                remedy="remove the edge, or make the node a pass node",
            )


def _workers(graph: Graph) -> Iterator[Problem]:
    """What a worker does at a node: its function, its choice, the questions of its edges."""
    for node in graph.nodes.values():
        edges = graph.edges_from(node.id)
        asking = next((edge for edge in edges if edge.ask), None)
        if node.kind == "function" and not (node.uses or node.choose or asking):
            yield Problem(
                path=_place(graph, node.id),
                message="the node names no function",
                remedy="write uses: NAME, or kind: pass if there is nothing to do",
            )
        if asking and node.role is Role.CONTROL:
            yield Problem(
                path=below(_place(graph, asking.id), "ask"),
                message=f"{node.id} is passed without a worker, which alone can ask a function",
                remedy="use `when`, or ask from a function node",
            )
        if asking and any(edge.when for edge in edges):
            yield Problem(
                path=below(_place(graph, asking.id), "ask"),
                message=f"the edges of {node.id} have both `ask` and `when`",
                remedy="use one of them throughout: functions answer before expressions do",
            )


def _never_taken(graph: Graph) -> Iterator[Problem]:
    for node in graph.nodes.values():
        certain: Edge | None = None
        seen: dict[tuple[object, ...], Edge] = {}
        for edge in graph.edges_from(node.id):
            facets = (edge.target, edge.when, edge.ask, edge.label, edge.arrive)
            if twin := seen.get(facets):
                yield Problem(
                    path=_place(graph, edge.id),
                    message=f"{edge.source} -> {edge.target} is there twice",
                    remedy=f"remove one; the other is at {_place(graph, twin.id)}",
                )
            elif certain is not None and edge.when is not UNREAD:
                yield Problem(
                    path=_place(graph, edge.id),
                    message=f"{edge.source} -> {edge.target} is never taken: {certain.source} -> "
                    f"{certain.target} comes before it and always holds",
                    remedy=f"give {_place(graph, certain.id)} a `when`, or move it behind",
                )
            seen[facets] = edge
            if (
                certain is None
                and node.choose is None
                and edge.when is None
                and edge.ask is None
                and not graph.leads_back(edge)
            ):
                certain = edge


def _needless_loops(graph: Graph) -> Iterator[Problem]:
    together: dict[NodeId, frozenset[NodeId]] = {}
    for component in loops.components(graph.nodes, [(e.source, e.target) for e in graph.edges]):
        together.update(dict.fromkeys(component, component))
    for edge in graph.edges:
        if edge.label == LOOP and edge.target not in together[edge.source]:
            yield Problem(
                path=_place(graph, edge.id),
                message=f"labelled loop, but no way leads from {edge.target} to {edge.source}",
                remedy="remove the label, or lead the way back",
            )


def _unknown_names(graph: Graph) -> Iterator[Problem]:
    inputs = graph.inputs.get("properties")
    declared = {*graph.variables, *(inputs if isinstance(inputs, dict) else ())}
    saved = {name for node in graph.nodes.values() for name in node.save}
    # Without declarations the variables are whatever a run is given and its functions set.
    known = declared | saved if declared else None
    for path, expression, result in _expressions(graph):
        for name in sorted(expression.names):
            if name == "result" and not result:
                yield Problem(
                    path=path,
                    message="$result is not known here",
                    remedy="it is the result of a step, for its `save` and its edges' `when`",
                )
            elif name in RESERVED - AVAILABLE:
                yield Problem(
                    path=path,
                    message=f"${name} is not available in this version",
                    remedy="`save` what later steps need in a variable",
                )
            elif known is not None and name not in known | RESERVED:
                yield Problem(
                    path=path,
                    message=f"nothing gives ${name} a value",
                    remedy=suggestion(name, known, sign="$")
                    or f"declare {name} in `inputs` or `variables`, or `save` it",
                )


def _expressions(graph: Graph) -> Iterator[tuple[str, Expression, bool]]:
    """Every expression of a graph, with its path and whether there is a result to speak of."""
    for node in graph.nodes.values():
        place = _place(graph, node.id)
        if node.inputs is not None:
            yield from _within(f"{place}.with", node.inputs, result=False)
        for name, template in node.save.items():
            yield from _within(f"{place}.save.{name}", template, result=True)
    for edge in graph.edges:
        if edge.when is not None:
            yield below(_place(graph, edge.id), "when"), edge.when, True
    for name, template in graph.outputs.items():
        yield from _within(f"outputs.{name}", template, result=False)


def _within(
    path: str, template: Template, *, result: bool
) -> Iterator[tuple[str, Expression, bool]]:
    for inner, expression in template.expressions.items():
        yield below(path, inner), expression, result


def _place(graph: Graph, part: str) -> str:
    return graph.places.get(part, f"nodes.{part}")
