"""How each node chooses among its edges: the first that holds, or all that do.

A source takes all if one of its edges is `parallel`. Where none can be, because all of them
are waited for or final, the node itself says `route: all`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from engine.core.document.edges import Drawn
from engine.core.graph import Arrive, Node, NodeId, Role, Route
from engine.core.problem import Problem
from engine.core.section import Section


def routed(
    top: Section, nodes: Mapping[NodeId, Node], drawn: Sequence[Drawn]
) -> dict[NodeId, Node]:
    """The nodes, each with the route that its edges give it."""
    leaving: dict[NodeId, list[Drawn]] = {}
    for each in drawn:
        if each.edge.on is None:
            leaving.setdefault(each.edge.source, []).append(each)
    found = dict(nodes)
    for name, node in nodes.items():
        own = leaving.get(name, [])
        if node.route is Route.ALL:
            _needed(top, node, own)
        elif any(each.parallel for each in own):
            found[name] = replace(node, route=Route.ALL)
            _alike(top, node, own)
    return found


def _needed(top: Section, node: Node, own: Sequence[Drawn]) -> None:
    """Refuse `route: all` where the edges say it, or where there is nothing to choose."""
    if any(each.edge.arrive is Arrive.START for each in own):
        top.fail(
            f"nodes.{node.id}.route",
            "edges that start their targets say themselves that all are taken",
            "leave `route` out, and give them `type: parallel`",
        )
    elif len(own) < 2:  # noqa: PLR2004
        top.fail(
            f"nodes.{node.id}.route",
            f"{node.id} has no two edges to take beside each other",
            "leave `route` out, or add the other edges",
        )


def _alike(top: Section, node: Node, own: Sequence[Drawn]) -> None:
    """Refuse a normal edge that nothing but its place keeps from being taken beside others."""
    if node.role is Role.PLAN or node.chooses:
        return
    for each in own:
        if not each.parallel and each.edge.arrive is Arrive.START and each.edge.ask is None:
            top.problems.append(
                Problem(
                    path=each.place,
                    message=f"{node.id} -> {each.edge.target} is normal, and beside parallel edges "
                    "it would be taken with them",
                    remedy="make it parallel as well, or let a plan choose between them",
                )
            )
