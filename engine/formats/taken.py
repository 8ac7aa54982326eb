"""The way that a run took through its graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from engine.core import messages as msg
from engine.core.graph import EdgeId, NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """How often a run came where."""

    #: Visits of each node.
    nodes: Mapping[NodeId, int] = field(default_factory=dict)
    #: How often each edge was taken.
    edges: Mapping[EdgeId, int] = field(default_factory=dict)
    #: Where its live steps are.
    live: frozenset[NodeId] = frozenset()


def taken(records: Iterable[msg.Record], live: Iterable[NodeId] = ()) -> Taken:
    """The way that a history tells of."""
    nodes: Counter[NodeId] = Counter()
    edges: Counter[EdgeId] = Counter()
    for record in records:
        match record:
            case msg.RequestStart(attempt=1, node=node) | msg.PassNode(node=node):
                nodes[node] += 1
            case msg.TakeEdges(taken=several):
                edges.update(each.edge for each in several)
            case (
                msg.JoinThreads(short=msg.Taken(edge=edge))
                | msg.MissMilestone(short=msg.Taken(edge=edge))
            ):
                edges[edge] += 1
            case _:
                pass
    return Taken(nodes=nodes, edges=edges, live=frozenset(live))
