"""Where threads of several forks come together."""

from __future__ import annotations

from dataclasses import replace

from engine.core import messages as msg
from engine.core.graph import Join, Route, Surplus
from engine.core.transitions import RunStatus
from tests.support.play import (
    commands,
    edge,
    fold,
    fork,
    graph,
    meet,
    node,
    play,
    submitted,
    succeeded,
)

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


# --- what is kept for the next time -----------------------------------------------------------


def nuts_and_bolts(**join):
    """Each of two branches sends as many threads to the join as it goes round."""
    return graph(
        *fork("f", "a", "b"),
        *fork("a", "a", "x"),
        *fork("b", "b", "y"),
        *meet("j", "x", "y"),
        edge("j -> end"),
        nodes=[
            *(node(name, **FORKS, max_iterations=2) for name in "ab"),
            node("f", **FORKS),
            node("j", join=Join(all=True, **join)),
        ],
    )


def test_what_came_too_often_waits_for_the_next_time():
    events = [succeeded(key) for key in ("f#1", "a#1", "x#1", "a#2", "x#2")]
    keeping = nuts_and_bolts(surplus=Surplus.KEEP)
    assert [token.edge for token in play(keeping, *events).state.tokens] == ["x->j", "x->j"]
    once = play(keeping, *events, succeeded("b#1"), succeeded("y#1"))
    assert live(once) == ["b#2", "j#1"]
    assert once.state.steps["j#1"].parents == ("x#1", "y#1")
    twice = play(keeping, *events, *[succeeded(key) for key in ("b#1", "y#1", "b#2", "y#2")])
    assert live(twice) == ["j#1", "j#2"]
    assert twice.state.steps["j#2"].parents == ("x#2", "y#2")


def test_what_is_kept_for_a_next_time_that_never_comes_is_absorbed():
    events = [succeeded(key) for key in ("f#1", "a#1", "x#1", "a#2", "b#1", "y#1")]
    template = nuts_and_bolts(surplus=Surplus.KEEP)
    template = replace(
        template, edges=tuple(e for e in template.edges if (e.source, e.target) != ("b", "b"))
    )
    kept = succeeded("x#2", patch={"kept": 1})
    for order in ([kept, succeeded("j#1")], [succeeded("j#1"), kept]):
        done = play(template, *events, *order)
        absorbed = [c for c in commands(done) if isinstance(c, msg.AbsorbToken)]
        assert [(a.edge, a.because) for a in absorbed] == [("x->j", "kept")]
        assert (done.state.status, done.state.ending.reason) == (RunStatus.COMPLETED, "end")
        assert done.state.variables == {"kept": 1}
        assert fold(done.entries) == done.state


def test_what_a_join_of_the_run_itself_keeps_is_absorbed_too():
    keeping = graph(
        edge("start -> d", when="$early"),
        edge("start -> f"),
        *fork("f", "a", "b", "c"),
        *meet("j", "a", "b", "c", "d"),
        edge("j -> end"),
        nodes=[node("f", **FORKS), node("j", join=Join(count=2, surplus=Surplus.KEEP))],
    )
    events = [succeeded(key) for key in ("f#1", "a#1", "b#1")]
    first = play(keeping, submitted(early=False), *events)
    assert live(first) == ["c#1", "j#1"]
    done = play(keeping, submitted(early=False), *events, succeeded("c#1"), succeeded("j#1"))
    assert done.state.status is RunStatus.COMPLETED
    assert [c.because for c in commands(done) if isinstance(c, msg.AbsorbToken)] == ["kept"]


def test_a_first_time_that_never_comes_starves_a_join_that_would_keep():
    starving = graph(
        *fork("f", "a", "b"),
        *meet("j", "a"),
        edge("b -> j", join=True, when="$ok"),
        edge("j -> end"),
        nodes=[node("f", **FORKS), node("j", join=Join(all=True, surplus=Surplus.KEEP))],
    )
    done = play(starving, submitted(ok=False), succeeded("f#1"), succeeded("a#1"), succeeded("b#1"))
    assert done.state.ending.reason == "join_starved"
