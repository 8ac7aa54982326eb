from __future__ import annotations

from engine.core import messages as msg
from engine.core.graph import EdgeId, NodeId
from engine.formats.taken import taken
from tests.support.play import at

A, B = NodeId("a"), NodeId("b")
EDGE, SHORT = EdgeId("a->b"), EdgeId("b->end")


def test_visits_and_edges_are_counted_and_retries_are_not() -> None:
    requested = msg.RequestStart(step=msg.step_key(A, 1), node=A, iteration=1, attempt=1)
    again = msg.RequestStart(step=msg.step_key(A, 1), node=A, iteration=1, attempt=2)
    passed = msg.PassNode(step=msg.step_key(B, 1), node=B, iteration=1)
    took = msg.TakeEdges(
        step=msg.step_key(A, 1),
        taken=(msg.Taken(edge=EDGE, target=B),),
        untaken=(msg.Untaken(edge=SHORT, why="condition"),),
    )
    joined = msg.JoinThreads(
        node=B, scope="s", joined=(), thread=(), short=msg.Taken(edge=SHORT, target=A)
    )
    missed = msg.MissMilestone(
        node=B,
        edge=EDGE,
        thread=(),
        because="expired",
        short=msg.Taken(edge=SHORT, target=A),
    )
    asked = msg.CancelRequested(at=at(0), by="me")
    found = taken([asked, requested, again, took, passed, took, joined, missed], [B])
    assert found.nodes == {A: 1, B: 1}
    assert found.edges == {EDGE: 2, SHORT: 2}
    assert found.live == {B}
