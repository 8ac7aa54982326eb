"""Nodes that speak of other threads: these must be able to run beside them."""

from __future__ import annotations

from collections.abc import Iterator

from engine.core import loops
from engine.core.graph import Graph, Node, NodeId, Role, Route
from engine.core.problem import Problem
from engine.core.section import short, suggestion


def problems(graph: Graph) -> Iterator[Problem]:
    """Regions and milestones that name what is not there, or what never runs beside them."""
    for node in graph.nodes.values():
        if node.at is not None:
            yield from _milestone(graph, node, node.at)
        for index, name in enumerate(node.cancels):
            path = f"{graph.place(node.id)}.cancels[{index}]"
            if name in node.cancels[:index]:
                yield Problem(path=path, message=f"{name} stands there twice", remedy="remove one")
            elif name == node.id:
                yield Problem(
                    path=path,
                    message=f"{name} has succeeded when it cancels: it cannot cancel itself",
                    remedy="leave it out; its other visits go on",
                )
            else:
                yield from _other(graph, node, name, path)


def _milestone(graph: Graph, node: Node, at: NodeId) -> Iterator[Problem]:
    path = f"{graph.place(node.id)}.at"
    if node.id == graph.start:
        yield Problem(
            path="start",
            message=f"the run begins with {node.id}, a milestone, and nobody else is anywhere yet",
            remedy="start before the fork whose threads wait for each other",
        )
    other = graph.nodes.get(at)
    if other is not None and (other.role is Role.CONTROL or other.rules):
        yield Problem(
            path=path,
            message=f"{at} is passed at once, and nobody is ever found there",
            remedy="name a node that is carried out",
        )
    else:
        yield from _other(graph, node, at, path)


def _forks(graph: Graph, node: NodeId) -> set[NodeId]:
    """The nodes that may leave several tokens, and lead to a node."""
    before = loops.reachable([node], [(edge.target, edge.source) for edge in graph.edges])
    return {name for name in before if _splits(graph.nodes[name])}


def _splits(node: Node) -> bool:
    return node.route is Route.ALL or node.role is Role.PLAN


def _other(graph: Graph, node: Node, name: NodeId, path: str) -> Iterator[Problem]:
    """What is wrong with a node that another speaks of."""
    if name not in graph.nodes:
        yield Problem(
            path=path,
            message=f"there is no node {short(name)}",
            remedy=suggestion(name, graph.nodes) or "name one of the nodes",
        )
    elif not _forks(graph, node.id) & _forks(graph, name):
        yield Problem(
            path=path,
            message=f"nothing is ever at {name} beside {node.id}: no fork leads to both",
            remedy="name another node, or fork before them: type: parallel",
        )
