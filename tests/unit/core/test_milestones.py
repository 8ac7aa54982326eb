"""Milestones: what waits until somebody else is somewhere."""

from __future__ import annotations

import pytest

from engine.core import deadlines
from engine.core import messages as msg
from engine.core.graph import Join, NodeId, Retry, Role, Route, Surplus
from engine.core.transitions import RunStatus
from tests.support.play import (
    at,
    commands,
    edge,
    failed,
    fold,
    fork,
    graph,
    meet,
    node,
    play,
    succeeded,
    ticked,
    visited,
)

FORKS = {"route": Route.ALL}


def milestone(name, where, **options):
    return node(name, kind="milestone", role=Role.CONTROL, at=NodeId(where), **options)


def waiting(*more, **options):
    """`f` forks to `a`, which leads to `x`, and to `b`, which waits at `m` until one is at `x`."""
    return graph(
        *fork("f", "a", "b"),
        edge("a -> x"),
        edge("x -> y"),
        edge("y -> end"),
        edge("b -> m"),
        edge("m -> c"),
        edge("c -> end"),
        *more,
        nodes=[node("f", **FORKS), milestone("m", "x", **options)],
    )


def live(taken):
    return sorted(taken.state.steps)


def missed(taken):
    return [c for c in commands(taken) if isinstance(c, msg.MissMilestone)]


# --- sad paths ------------------------------------------------------------------------------


def test_a_milestone_that_nobody_can_come_to_any_more_fails_the_run():
    events = [succeeded(key) for key in ("f#1", "a#1", "x#1", "b#1")]
    assert live(play(waiting(), *events)) == ["y#1"]
    done = play(waiting(), *events, succeeded("y#1"))
    assert (done.state.status, done.state.ending.reason) == (RunStatus.FAILED, "milestone_missed")
    assert "node m waited for somebody to be at x, and nobody can" in done.state.ending.message
    assert "c#1" not in visited(done)


def test_a_milestone_that_expires_fails_the_run():
    events = [succeeded("f#1"), succeeded("b#1", seconds=5)]
    patient = play(waiting(expires=60), *events, ticked(seconds=64))
    assert live(patient) == ["a#1"]
    assert deadlines.next_wake(waiting(expires=60), patient.state) == at(65)
    done = play(waiting(expires=60), *events, ticked(seconds=65))
    assert done.state.ending.reason == "milestone_missed"
    assert "nobody came there in 60 s" in done.state.ending.message


def test_two_milestones_that_wait_for_each_other_end_the_run():
    crossed = graph(
        *fork("f", "m", "n"),
        edge("m -> a"),
        edge("n -> b"),
        edge("a -> end"),
        edge("b -> end"),
        nodes=[node("f", **FORKS), milestone("m", "b"), milestone("n", "a")],
    )
    done = play(crossed, succeeded("f#1"))
    assert done.state.ending.reason == "milestone_missed"
    assert "node m waited" in done.state.ending.message


# --- another way ----------------------------------------------------------------------------


@pytest.mark.parametrize("because", ["expired", "quiescence"])
def test_a_milestone_that_is_missed_takes_its_short_way(because):
    template = waiting(edge("m -> d", on="short"), edge("d -> end"), expires=60)
    events = [succeeded(key) for key in ("f#1", "b#1", "a#1", "x#1")]
    if because == "expired":
        done = play(template, succeeded("f#1"), succeeded("b#1"), ticked(seconds=60))
        assert live(done) == ["a#1", "d#1"]
    else:
        events = [succeeded(key) for key in ("f#1", "a#1", "x#1", "y#1", "b#1")]
        done = play(template, *events)
        assert live(done) == ["d#1"]
    (miss,) = missed(done)
    assert (miss.node, miss.because, miss.short.edge) == ("m", because, "m->d")
    assert done.state.steps["d#1"].parents == ("b#1",)
    assert "m#1" not in visited(done)
    assert fold(done.entries) == done.state


def test_of_milestones_that_wait_for_each_other_one_with_another_way_goes_first():
    crossed = graph(
        *fork("f", "m", "n"),
        edge("m -> a"),
        edge("n -> b"),
        edge("n -> d", on="short"),
        edge("d -> b"),
        edge("a -> end"),
        edge("b -> end"),
        nodes=[node("f", **FORKS), milestone("m", "b"), milestone("n", "a")],
    )
    done = play(crossed, succeeded("f#1"))
    assert [miss.node for miss in missed(done)] == ["n"]
    assert live(done) == ["d#1"]
    assert live(play(crossed, succeeded("f#1"), succeeded("d#1"))) == ["a#1", "b#1"]


def test_a_short_way_may_lead_to_another_milestone_that_expires():
    template = graph(
        *fork("f", "a", "m"),
        edge("a -> x"),
        edge("x -> end"),
        edge("m -> c"),
        edge("c -> end"),
        edge("m -> n", on="short"),
        edge("n -> d"),
        edge("d -> end"),
        nodes=[
            node("f", **FORKS),
            milestone("m", "x", expires=60),
            milestone("n", "x", expires=30),
        ],
    )
    events = [succeeded("f#1"), ticked(seconds=60)]
    assert deadlines.next_wake(template, play(template, *events).state) == at(90)
    assert live(play(template, *events, succeeded("a#1", seconds=80))) == ["d#1", "x#1"]
    assert play(template, *events, ticked(seconds=90)).state.ending.reason == "milestone_missed"


# --- passing --------------------------------------------------------------------------------


def test_a_milestone_is_passed_while_somebody_is_there():
    before = play(waiting(), succeeded("f#1"), succeeded("b#1"))
    assert live(before) == ["a#1"]
    assert [token.target for token in before.state.tokens] == ["m"]
    done = play(waiting(), succeeded("f#1"), succeeded("b#1"), succeeded("a#1"))
    assert live(done) == ["c#1", "x#1"]
    assert done.state.steps["c#1"].parents == ("m#1",)
    assert fold(done.entries) == done.state


def test_who_comes_while_somebody_is_there_does_not_wait():
    done = play(waiting(), succeeded("f#1"), succeeded("a#1"), succeeded("b#1"))
    assert live(done) == ["c#1", "x#1"]


def test_somebody_who_waits_to_be_tried_again_is_still_there():
    template = waiting()
    retried = {**template.nodes, NodeId("x"): node("x", retry=Retry(attempts=3, backoff=100))}
    template = graph(*template.edges, nodes=retried.values())
    events = [succeeded("f#1"), succeeded("a#1"), failed("x#1"), succeeded("b#1", seconds=1)]
    assert live(play(template, *events)) == ["c#1", "x#1"]


def test_nothing_is_passed_while_a_run_is_paused():
    pause = msg.PauseRequested(at=at(1), by="ada")
    events = [succeeded("f#1"), succeeded("b#1"), pause, succeeded("a#1", seconds=2)]
    paused = play(waiting(), *events)
    assert live(paused) == []
    resumed = play(waiting(), *events, msg.ResumeRequested(at=at(3), by="ada"))
    assert live(resumed) == ["c#1", "x#1"]


def test_a_final_edge_to_a_milestone_waits_for_nobody():
    template = graph(
        *fork("f", "a", "b"),
        edge("a -> end"),
        edge("b -> m", final=True),
        edge("m -> end"),
        nodes=[node("f", **FORKS), milestone("m", "a")],
    )
    done = play(template, succeeded("f#1"), succeeded("b#1"))
    assert done.state.ending.reason == "final"


# --- with joins and regions -----------------------------------------------------------------


def joined(**join):
    """`b` waits at `m` until one is at `x`, and `a`, `b` and `x` meet at `j`."""
    return graph(
        *fork("f", "a", "b", "g"),
        edge("g -> x"),
        edge("b -> m"),
        *meet("j", "a", "m"),
        edge("x -> end"),
        edge("j -> end"),
        nodes=[node("f", **FORKS), milestone("m", "x"), node("j", join=Join(**join))],
    )


def test_a_join_waits_for_a_thread_that_waits_at_a_milestone():
    events = [succeeded(key) for key in ("f#1", "a#1", "b#1")]
    assert live(play(joined(), *events)) == ["g#1"]
    done = play(joined(), *events, succeeded("g#1"))
    assert live(done) == ["j#1", "x#1"]
    assert done.state.steps["j#1"].parents == ("a#1", "m#1")


def test_a_join_does_not_give_up_a_thread_before_the_milestone_does():
    template = graph(
        *fork("f", "a", "m"),
        *meet("j", "a", "m"),
        edge("j -> x"),
        edge("x -> end"),
        edge("m -> d", on="short"),
        *meet("j", "d"),
        nodes=[node("f", **FORKS), milestone("m", "x")],
    )
    first = play(template, succeeded("f#1"), succeeded("a#1"))
    assert [miss.because for miss in missed(first)] == ["quiescence"]
    assert live(first) == ["d#1"]
    assert live(play(template, succeeded("f#1"), succeeded("a#1"), succeeded("d#1"))) == ["j#1"]


def test_a_join_that_will_not_wait_for_ever_is_waited_for_before_a_milestone_is_missed():
    template = graph(
        *fork("f", "a", "m"),
        *meet("j", "a", "m"),
        edge("j -> x"),
        edge("x -> end"),
        nodes=[node("f", **FORKS), milestone("m", "x"), node("j", join=Join(timeout=60))],
    )
    events = [succeeded("f#1"), succeeded("a#1")]
    still = play(template, *events)
    assert (still.state.status, live(still)) == (RunStatus.RUNNING, [])
    assert deadlines.next_wake(template, still.state) == at(60)
    assert live(play(template, *events, ticked(seconds=60))) == ["j#1"]


def test_a_node_may_be_joined_first_and_then_wait():
    both = Join(all=True, surplus=Surplus.FINISH)
    template = graph(
        *fork("f", "a", "b", "g"),
        *meet("m", "a", "b"),
        edge("g -> x"),
        edge("x -> end"),
        edge("m -> c"),
        edge("c -> end"),
        nodes=[node("f", **FORKS), milestone("m", "x", expires=60, join=both)],
    )
    events = [succeeded(key) for key in ("f#1", "a#1", "b#1")]
    held = play(template, *events)
    assert live(held) == ["g#1"]
    assert [(token.waits, token.since) for token in held.state.tokens] == [(False, at(0))]
    assert live(play(template, *events, succeeded("g#1", seconds=9))) == ["c#1", "x#1"]


def test_a_region_withdraws_who_waits_at_a_milestone():
    template = waiting()
    cancelling = {**template.nodes, NodeId("y"): node("y", cancels=(NodeId("m"),))}
    template = graph(*template.edges, nodes=cancelling.values())
    events = [succeeded(key) for key in ("f#1", "a#1", "x#1", "b#1", "y#1")]
    assert play(template, *events).state.status is RunStatus.COMPLETED
