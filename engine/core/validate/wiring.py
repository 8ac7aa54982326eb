"""Nodes and edges: what can be reached, what can be left, what is ever taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from engine.core import loops
from engine.core.graph import END, LOOP, Arrive, Edge, Graph, Node, NodeId, Role, Route
from engine.core.problem import Problem
from engine.core.section import UNREAD, nearest, short, suggestion


def dangling(graph: Graph) -> Iterator[Problem]:
    """Nodes that are named and not there."""
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
                    path=graph.place(edge.id),
                    message=f"there is no node {short(node)}",
                    remedy=suggestion(node, [*graph.nodes, END.id]) or f"declare it: {node}: {{…}}",
                )


def mended(graph: Graph) -> Graph:
    """The graph with the nodes that its edges most likely mean."""
    nodes = dict(graph.nodes)
    edges = []
    for edge in graph.edges:
        source, target = (_nearest(graph, node) for node in (edge.source, edge.target))
        if END.id in {source, target}:
            nodes.setdefault(END.id, END)
        if source is not None and target is not None:
            edges.append(replace(edge, source=source, target=target))
    return replace(graph, nodes=nodes, edges=tuple(edges))


def problems(graph: Graph) -> Iterator[Problem]:
    """What is wrong with the ways of a graph whose edges join nodes that are there."""
    if graph.start in graph.nodes:
        yield from _unreachable(graph)
    yield from _endless(graph)
    yield from _ends(graph)
    yield from _named_twice(graph)
    # Other languages have their own idea of a mistake; their readers see to it. Of a step list
    # everything is taken that the tape says.
    if graph.origin is None and graph.listing is None:
        for node in graph.nodes.values():
            yield from _never_taken(graph, node)
        yield from _needless_loops(graph)


def _nearest(graph: Graph, node: NodeId) -> NodeId | None:
    near = node if node in graph.nodes else nearest(node, [*graph.nodes, END.id])
    return None if near is None else NodeId(near)


def _named_twice(graph: Graph) -> Iterator[Problem]:
    """Nodes that call the place after them as another does: which one is meant nobody could say."""
    seen: dict[str, NodeId] = {}
    for node in graph.nodes.values():
        if node.checkpoint is None:
            continue
        other = seen.setdefault(node.checkpoint, node.id)
        if other != node.id:
            yield Problem(
                path=f"{graph.place(node.id)}.checkpoint",
                message=f"node {other} calls the place after it {short(node.checkpoint)} already",
                remedy="name this one otherwise",
            )


def _unreachable(graph: Graph) -> Iterator[Problem]:
    reached = loops.reachable([graph.start], ((e.source, e.target) for e in graph.edges))
    for node in graph.nodes:
        if node not in reached:
            yield Problem(
                path=graph.place(node),
                message=f"no way leads to it from the start ({graph.start})",
                remedy="add an edge to it, or remove it",
            )


def _endless(graph: Graph) -> Iterator[Problem]:
    """Nodes whose threads never end but by a bound: a loop without a way out.

    An edge labelled `loop` is a way back that is known to close, so a node that has no other
    edges is an end. Plans may choose nothing. What a failure leads to is no way out.
    """
    ends = {node.id for node in graph.nodes.values() if _may_end(graph, node)}
    usual = [(e.target, e.source) for e in graph.edges if e.on != "error"]
    ending = loops.reachable(ends, usual)
    if stuck := [node for node in graph.nodes if node not in ending]:
        some = ", ".join(stuck[:10]) + (", …" if len(stuck) > 10 else "")  # noqa: PLR2004
        yield Problem(
            path="edges",
            message=f"no end can be reached from {some}" if ends else "the graph has no end",
            remedy="add an edge to `end`, or label the way back `loop`",
        )


def _may_end(graph: Graph, node: Node) -> bool:
    edges = graph.edges_from(node.id)
    if all(edge.label == LOOP for edge in edges) or node.kind == "index":
        return True
    if node.rules:
        return node.rules[-1].when is not None or any(not rule.next for rule in node.rules)
    return node.role is Role.PLAN or any(edge.arrive is Arrive.FINAL for edge in edges)


def _ends(graph: Graph) -> Iterator[Problem]:
    for edge in graph.edges:
        if graph.nodes[edge.source].kind == "end":
            yield Problem(
                path=graph.place(edge.id),
                message=f"{edge.source} is an end; nothing follows it",
                remedy="remove the edge, or make the node a pass node",
            )


def _never_taken(graph: Graph, node: Node) -> Iterator[Problem]:
    edges = graph.edges_from(node.id)
    if node.role is Role.PLAN:
        yield from _unplanned(graph, node, edges)
    else:
        yield from _unchosen(graph, node, edges)
    yield from _unfailed(graph, graph.edges_from(node.id, on="error"))


def _unplanned(graph: Graph, node: Node, edges: Sequence[Edge]) -> Iterator[Problem]:
    """Edges that a plan never takes: to a target of its names it takes the first edge."""
    named = {name for rule in node.rules for name in rule.next}
    unread = any(rule.when is UNREAD for rule in node.rules)
    first: dict[str, Edge] = {}
    for edge in edges:
        known = first.setdefault(edge.target, edge)
        if known is not edge and (node.rules or edge.label in (None, known.label)):
            yield _twin(graph, edge, known)
        elif node.rules and not unread and edge.target not in named:
            yield Problem(
                path=graph.place(edge.id),
                message=f"{edge.source} -> {edge.target} is never taken: no rule names it",
                remedy=f"name {edge.target} in a rule's `next`, or remove the edge",
            )


def _unchosen(graph: Graph, node: Node, edges: Sequence[Edge]) -> Iterator[Problem]:
    """Edges behind one that is always taken, alone."""
    certain: Edge | None = None
    seen: dict[tuple[object, ...], Edge] = {}
    for edge in edges:
        facets = (edge.target, edge.when, edge.ask, edge.label, edge.arrive)
        if twin := seen.get(facets):
            yield _twin(graph, edge, twin)
        elif certain is not None and edge.when is not UNREAD:
            yield _behind(graph, edge, certain)
        seen[facets] = edge
        if certain is None and node.route is Route.FIRST and _is_certain(graph, node, edge):
            certain = edge


def _is_certain(graph: Graph, node: Node, edge: Edge) -> bool:
    """Whether an edge is taken whatever comes of its node, if none before it is."""
    conditional = edge.when is not None or edge.ask is not None
    return not node.chooses and not conditional and not graph.leads_back(edge)


def _unfailed(graph: Graph, edges: Sequence[Edge]) -> Iterator[Problem]:
    """Edges for failures behind others that are taken for the same."""
    every: Edge | None = None
    taken: dict[str, Edge] = {}
    for edge in edges:
        if edge.when is not UNREAD:
            if every is not None:
                yield _behind(graph, edge, every)
            elif edge.reasons and edge.reasons <= taken.keys():
                yield _behind(graph, edge, taken[min(edge.reasons)])
        if edge.when is None:
            taken = {**dict.fromkeys(edge.reasons, edge), **taken}
            every = every or (None if edge.reasons else edge)


def _behind(graph: Graph, edge: Edge, certain: Edge) -> Problem:
    return Problem(
        path=graph.place(edge.id),
        message=f"{edge.source} -> {edge.target} is never taken: {certain.source} -> "
        f"{certain.target} comes before it and always holds",
        remedy=f"give {graph.place(certain.id)} a `when`, or move it behind",
    )


def _twin(graph: Graph, edge: Edge, twin: Edge) -> Problem:
    return Problem(
        path=graph.place(edge.id),
        message=f"{edge.source} -> {edge.target} is there twice",
        remedy=f"remove one; the other is at {graph.place(twin.id)}. (A plan that names a node "
        "twice starts it twice.)",
    )


def _needless_loops(graph: Graph) -> Iterator[Problem]:
    together: dict[NodeId, frozenset[NodeId]] = {}
    for component in loops.components(graph.nodes, [(e.source, e.target) for e in graph.edges]):
        together.update(dict.fromkeys(component, component))
    for edge in graph.edges:
        if edge.label == LOOP and edge.target not in together[edge.source]:
            yield Problem(
                path=graph.place(edge.id),
                message=f"labelled loop, but no way leads from {edge.target} to {edge.source}",
                remedy="remove the label, or lead the way back",
            )
