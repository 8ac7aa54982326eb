"""Forks and joins: what a join demands must be able to come."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.core import loops
from engine.core.graph import Arrive, Edge, Graph, Join, Node, NodeId, Role, Route
from engine.core.problem import Problem
from engine.core.section import UNREAD, below, short, suggestion

#: Steps of thought about how many threads may come; graphs that take more are let pass.
MAX_EFFORT = 500_000


def problems(graph: Graph) -> Iterator[Problem]:
    """Joins that join nothing, demand what cannot come, or lead where they never go."""
    joins = graph.joins
    effort = len(joins) * (len(graph.nodes) + len(graph.edges))
    for node in graph.nodes.values():
        place = graph.place(node.id)
        if node.id in joins:
            if (wrong := _elsewhere(graph, node)) is not None:
                yield wrong
            elif graph.start in graph.nodes and effort <= MAX_EFFORT:
                yield from _unmet(graph, node)
        elif node.join != Join():
            yield Problem(
                path=f"{place}.join",
                message=f"no edge into {node.id} waits there",
                remedy=f"write {{from: …, to: {node.id}, type: join}}, or leave `join` out",
            )
        yield from _short(graph, node)
    yield from _circles(graph)


def _circles(graph: Graph) -> Iterator[Problem]:
    """Ways round for want of threads alone, which visit no node, so that no bound ends them."""
    moved = [
        edge
        for edge in graph.edges
        if edge.on == "short"
        and (edge.arrive is Arrive.JOIN or graph.nodes[edge.target].at is not None)
    ]
    ways = [(edge.source, edge.target) for edge in moved]
    for circle in loops.components(sorted({node for way in ways for node in way}), ways):
        round_ = [edge for edge in moved if {edge.source, edge.target} <= circle]
        if round_:
            yield Problem(
                path=graph.place(round_[0].id),
                message=f"what comes short at {', '.join(sorted(circle))} waits there again",
                remedy="lead one of the edges `on: short` to a node that starts",
            )


def _elsewhere(graph: Graph, node: Node) -> Problem | None:
    """What is wrong with the fork that a join names."""
    path, of = f"{graph.place(node.id)}.join.of", node.join.of
    if of is None:
        return None
    if of not in graph.nodes:
        return Problem(
            path=path,
            message=f"there is no node {short(of)}",
            remedy=suggestion(of, graph.nodes) or "name the node whose threads are joined",
        )
    ways = [(e.source, e.target) for e in graph.edges if e.source != node.id or of == node.id]
    after = loops.reachable([of], ways)
    for edge in graph.joining(node.id):
        if edge.source not in after:
            return Problem(
                path=path,
                message=f"no way leads from {of} to {edge.source} -> {node.id}, but through "
                f"{node.id} itself",
                remedy="name a node from which all of the join's edges can be reached",
            )
    return None


def _unmet(graph: Graph, node: Node) -> Iterator[Problem]:
    join, most = node.join, _most(graph, node.id)
    edges = graph.joining(node.id)
    if any(edge.when is UNREAD for edge in edges):
        return
    demanded = len(edges) if join.all else join.count or 1
    if most == 1:
        yield Problem(
            path=graph.place(edges[0].id),
            message=f"{node.id} joins nothing: never more than one thread comes to it",
            remedy="leave `type: join` out, or fork before it: type: parallel",
        )
    elif demanded > most:
        yield Problem(
            path=f"{graph.place(node.id)}.join",
            message=f"{node.id} demands {demanded} threads, and never more than {most:g} come",
            remedy="demand fewer, or lead more to it",
        )


def _short(graph: Graph, node: Node) -> Iterator[Problem]:
    """Edges that a join takes for want of threads."""
    edges = graph.edges_from(node.id, on="short")
    if edges and node.at is None and not node.join.demands and node.join.timeout is None:
        yield Problem(
            path=below(graph.place(edges[0].id), "on"),
            message=f"{node.id} demands nothing, so nothing is ever short of its demand",
            remedy=f"give {node.id} a `join` that demands something or has a `timeout`, or remove "
            "the edge",
        )
    for edge in edges[1:]:
        yield Problem(
            path=graph.place(edge.id),
            message=f"{node.id} has an edge for that already",
            remedy=f"keep one; the other is at {graph.place(edges[0].id)}",
        )


def _most(graph: Graph, join: NodeId) -> float:
    """The most threads that may ever wait at a join together; infinite where none is known.

    All of them come from one visit of its fork, if no other way leads to the join.
    """
    fork = graph.joins[join]
    if fork is not None and not _before(graph, join, but=fork) & {graph.start, join}:
        return _coming(graph, join)[fork]
    if join in _before(graph, join):
        return math.inf
    return _coming(graph, join).get(graph.start, math.inf)


def _before(graph: Graph, join: NodeId, *, but: NodeId | None = None) -> set[NodeId]:
    """The nodes that lead to a join's edges, not through the join itself nor another node."""
    ends = {edge.source for edge in graph.joining(join)} - {but}
    blocked = (join, but)
    ways = ((e.target, e.source) for e in graph.edges if e.target not in blocked)
    return loops.reachable(ends, ways) - {but}


def _coming(graph: Graph, join: NodeId) -> Mapping[NodeId, float]:
    """How many threads at most reach a join's edges from one that stands at a node."""
    found = {join: math.inf}
    before = _before(graph, join) - {join}
    ways = [(e.source, e.target) for e in graph.edges if {e.source, e.target} <= before]
    # What a component leads to comes before it.
    for component in loops.components(before, ways):
        most, grows = 0.0, False
        for node in component:
            for option in _options(graph, graph.nodes[node]):
                inside = sum(edge.target in component for edge in option.edges)
                outside = sum(
                    _counts(edge, join, found)
                    for edge in option.edges
                    if edge.target not in component
                )
                if option.often:
                    inside, outside = inside * 2, math.inf if outside else 0.0
                most = max(most, outside)
                # Each lap leaves something behind.
                grows |= inside > 1 or (inside > 0 and outside > 0)
        found.update(dict.fromkeys(component, math.inf if grows and most else most))
    return found


def _counts(edge: Edge, join: NodeId, found: Mapping[NodeId, float]) -> float:
    if edge.target == join:
        return float(edge.arrive is Arrive.JOIN)
    return 0.0 if edge.arrive is Arrive.FINAL else found.get(edge.target, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Option:
    """Edges that a node may take together."""

    edges: Sequence[Edge]
    #: As often as it likes.
    often: bool = False


def _options(graph: Graph, node: Node) -> Iterator[_Option]:
    edges = graph.edges_from(node.id)
    if node.rules:
        first = {edge.target: edge for edge in reversed(edges)}
        for rule in node.rules:
            yield _Option(edges=[first[name] for name in rule.next if name in first])
    elif node.role is Role.PLAN or node.route is Route.ALL:
        yield _Option(edges=edges, often=node.role is Role.PLAN)
    else:
        for edge in edges:
            yield _Option(edges=[edge])
    for on in ("error", "short"):
        for edge in graph.edges_from(node.id, on=on):
            yield _Option(edges=[edge])
