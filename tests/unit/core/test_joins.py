"""Where threads of several forks come together."""

from __future__ import annotations

from engine.core import messages as msg
from engine.core.graph import Join, Route, Surplus
from engine.core.transitions import RunStatus
from tests.support.play import edge, fork, graph, meet, node, play, submitted, succeeded

FORKS = {"route": Route.ALL}


def live(taken):
    return sorted(taken.state.steps)


def test_threads_of_an_inner_fork_may_meet_those_of_the_outer_one():
    inner = graph(
        *fork("f", "a", "b"),
        *fork("a", "a1", "a2"),
        *meet("j", "a1", "a2", "b"),
        edge("j -> end"),
        nodes=[node("f", **FORKS), node("a", **FORKS)],
    )
    events = [
        succeeded("f#1"),
        succeeded("a#1", patch={"x": 1}),
        succeeded("a2#1", patch={"z": 3}),
        succeeded("b#1", patch={"w": 4}),
    ]
    assert live(play(inner, *events)) == ["a1#1"]
    done = play(inner, *events, succeeded("a1#1", patch={"y": 2}))
    assert live(done) == ["j#1"]
    assert set(done.state.scopes) == {""}
    assert done.state.variables == {"x": 1, "y": 2, "z": 3, "w": 4}


def astray(**join):
    """A join that no fork leads to alone: `d` comes before the fork."""
    return graph(
        edge("start -> d", when="$early"),
        edge("start -> f"),
        *fork("f", "a", "b"),
        *meet("j", "a", "d"),
        edge("j -> end"),
        edge("b -> end"),
        nodes=[node("f", **FORKS), node("j", join=Join(**join))],
    )


def test_a_join_of_the_run_itself_cancels_every_other_thread():
    done = play(
        astray(count=1),
        submitted(early=False, n=0),
        succeeded("f#1"),
        succeeded("a#1", patch={"n": 1}),
    )
    assert live(done) == ["j#1"]
    assert set(done.state.scopes) == {""}
    assert done.state.steps["j#1"].thread == msg.ROOT
    assert done.state.view(msg.ROOT)["n"] == 1


def test_a_join_of_the_run_itself_may_let_the_others_finish():
    finishing = astray(count=1, surplus=Surplus.FINISH)
    events = [
        submitted(early=False),
        succeeded("f#1"),
        succeeded("a#1", patch={"n": 1}),
    ]
    first = play(finishing, *events)
    assert live(first) == ["b#1", "j#1"]
    assert first.state.view(msg.ROOT)["n"] == 1
    done = play(finishing, *events, succeeded("b#1", patch={"m": 2}), succeeded("j#1"))
    assert done.state.status is RunStatus.COMPLETED
    assert done.state.variables == {"early": False, "n": 1, "m": 2}
