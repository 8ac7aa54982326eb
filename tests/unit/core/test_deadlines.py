"""What is not waited for for ever."""

from __future__ import annotations

import pytest

from engine.core import deadlines
from engine.core import messages as msg
from engine.core.graph import Join, Route, Surplus
from engine.core.transitions import RunStatus
from tests.support.play import (
    NOW,
    at,
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
    ticked,
)

FORKS = {"route": Route.ALL}
STARTED = (succeeded("f#1"), succeeded("a#1", seconds=5, patch={"a": 1}))


def waiting(*more, **join):
    """`f` forks to `a`, `b` and `c`, which meet at `j` and wait for each other for 60 seconds."""
    return graph(
        *fork("f", "a", "b", "c"),
        *meet("j", "a", "b", "c"),
        edge("j -> end"),
        *more,
        nodes=[node("f", **FORKS), node("j", join=Join(timeout=60, **join))],
    )


def live(taken):
    return sorted(taken.state.steps)


def joins_of(taken):
    return [c for c in commands(taken) if isinstance(c, msg.JoinThreads)]


def absorbed(taken):
    return [(c.edge, c.because) for c in commands(taken) if isinstance(c, msg.AbsorbToken)]


# --- sad paths ------------------------------------------------------------------------------


def test_a_join_that_does_not_get_what_it_demands_in_time_fails_the_run():
    done = play(waiting(all=True), *STARTED, ticked(seconds=65))
    assert (done.state.status, done.state.ending.reason) == (RunStatus.FAILED, "join_timeout")
    assert "node j got 1 of the threads that it demands in the 60 s" in done.state.ending.message


def test_threads_that_contradict_each_other_do_so_when_time_is_over_too():
    events = [*STARTED, succeeded("b#1", patch={"a": 2}), ticked(seconds=65)]
    assert play(waiting(), *events).state.ending.reason == "contradiction"


def test_who_cannot_come_any_more_is_not_waited_for_until_then():
    starving = graph(
        *fork("f", "a", "b"),
        *meet("j", "a"),
        edge("b -> j", join=True, when="$late"),
        edge("j -> end"),
        nodes=[node("f", **FORKS), node("j", join=Join(all=True, timeout=60))],
    )
    done = play(starving, submitted(late=False), *STARTED, succeeded("b#1", seconds=6))
    assert done.state.ending.reason == "join_starved"


# --- time is over ---------------------------------------------------------------------------


@pytest.mark.parametrize("join", [{}, {"all": True}, {"count": 2}])
def test_a_tick_before_its_time_changes_nothing(join):
    before = play(waiting(**join), *STARTED)
    after = play(waiting(**join), *STARTED, ticked(seconds=64.9))
    assert after.state == before.state
    assert deadlines.next_wake(waiting(**join), after.state) == at(65)


def test_time_is_counted_from_the_first_that_waits():
    events = [*STARTED, succeeded("b#1", seconds=50)]
    assert joins_of(play(waiting(), *events, ticked(seconds=64))) == []
    (join,) = joins_of(play(waiting(), *events, ticked(seconds=65)))
    assert (join.because, [edge for edge, _ in join.joined]) == ("timeout", ["a->j", "b->j"])


def test_a_join_without_a_demand_goes_on_with_those_that_are_there_and_cancels_the_others():
    done = play(waiting(), *STARTED, ticked(seconds=65))
    assert live(done) == ["j#1"]
    assert joins_of(done)[0].cancels
    assert done.state.steps["j#1"].thread == msg.ROOT
    assert done.state.variables == {"a": 1}
    assert fold(done.entries) == done.state


def test_those_that_come_too_late_may_finish():
    template = waiting(surplus=Surplus.FINISH)
    events = [*STARTED, ticked(seconds=65)]
    assert live(play(template, *events)) == ["b#1", "c#1", "j#1"]
    rest = [succeeded(key, seconds=70) for key in ("b#1", "j#1", "c#1")]
    done = play(template, *events, *rest)
    assert absorbed(done) == [("b->j", "late"), ("c->j", "late")]
    assert done.state.status is RunStatus.COMPLETED


def test_those_that_come_too_late_may_be_kept_for_the_next_time():
    template = waiting(surplus=Surplus.KEEP)
    events = [*STARTED, ticked(seconds=65), succeeded("b#1", seconds=70)]
    assert live(play(template, *events, ticked(seconds=129))) == ["c#1", "j#1"]
    assert live(play(template, *events, ticked(seconds=130))) == ["c#1", "j#1", "j#2"]
    last = play(template, *events, succeeded("c#1", seconds=71), succeeded("j#1", seconds=72))
    assert live(last) == ["j#2"]
    assert [join.because for join in joins_of(last)] == ["timeout", "last"]


@pytest.mark.parametrize("join", [{}, {"all": True}])
def test_a_join_takes_its_short_way_when_time_is_over(join):
    template = waiting(edge("j -> d", on="short"), **join)
    done = play(template, *STARTED, ticked(seconds=65))
    assert live(done) == ["d#1"]
    (taken_up,) = joins_of(done)
    assert (taken_up.because, taken_up.short.edge, taken_up.cancels) == ("timeout", "j->d", True)


def test_a_short_way_may_lead_to_another_join_that_waits_no_longer():
    template = graph(
        *fork("f", "a", "b", "c"),
        *meet("j", "a", "b"),
        edge("j -> k", on="short", join=True),
        *meet("k", "c"),
        edge("k -> end"),
        nodes=[
            node("f", **FORKS),
            node("j", join=Join(timeout=60, surplus=Surplus.FINISH)),
            node("k", join=Join(timeout=30)),
        ],
    )
    events = [*STARTED, ticked(seconds=65)]
    first = play(template, *events)
    assert live(first) == ["b#1", "c#1"]
    assert deadlines.next_wake(template, first.state) == at(95)
    assert live(play(template, *events, ticked(seconds=95))) == ["k#1"]


def test_any_event_is_a_look_at_the_clock():
    done = play(waiting(), *STARTED, succeeded("b#1", seconds=80))
    assert joins_of(done)[0].because == "timeout"
    assert len(joins_of(done)[0].joined) == 2


# --- wakes ----------------------------------------------------------------------------------


def test_a_run_wakes_for_the_first_of_its_joins_and_for_nothing_else():
    assert deadlines.next_wake(waiting(), play(waiting()).state) is None
    assert deadlines.next_wake(waiting(), play(waiting(), *STARTED).state) == at(65)
    patient = graph(
        *fork("f", "a", "b"), *meet("j", "a", "b"), edge("j -> end"), nodes=[node("f", **FORKS)]
    )
    taken = play(patient, *STARTED)
    assert deadlines.next_wake(patient, taken.state) is None
    assert all(token.since is None for token in taken.state.tokens)
    ended = play(waiting(), *STARTED, msg.CancelRequested(at=at(9), by="ada"))
    assert deadlines.next_wake(waiting(), ended.state) is None


def test_time_runs_on_while_a_run_is_paused_and_nothing_starts():
    events = [*STARTED, msg.PauseRequested(at=at(10), by="ada")]
    paused = play(waiting(), *events, ticked(seconds=65))
    assert (paused.state.status, joins_of(paused)) == (RunStatus.PAUSED, [])
    assert deadlines.next_wake(waiting(), paused.state) is None
    early = play(waiting(), *events, msg.ResumeRequested(at=at(20), by="ada"))
    assert deadlines.next_wake(waiting(), early.state) == at(65)
    late = play(waiting(), *events, msg.ResumeRequested(at=at(90), by="ada"))
    assert joins_of(late)[0].because == "timeout"


def test_a_tick_finds_nothing_in_a_run_that_waits_for_no_time():
    template = waiting()
    assert play(template, ticked()).state == play(template).state
    assert play(template, submitted(), ticked()).entries[-1].record == msg.Ticked(at=NOW)
