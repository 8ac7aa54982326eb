"""What becomes of a run that goes back to an earlier place of its own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from engine.core import forking, rollback
from engine.core import messages as msg
from engine.core.fold import evolve
from engine.core.graph import Join, Limits, Route
from engine.core.rollback import Rollback
from engine.core.state import Ending, Items, State, Undoing
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import Json
from tests.support.play import (
    LINE,
    LOOP,
    NOW,
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
    submitted,
    succeeded,
    ticked,
    turn,
)

A, B = msg.StepKey("a#1"), msg.StepKey("b#1")
DIAMOND = graph(
    edge("start -> f"),
    *fork("f", "a", "b"),
    *meet("j", "a", "b"),
    edge("j -> end"),
    nodes=[node("f", route=Route.ALL), node("j", join=Join())],
)
ENDING = Ending(status=RunStatus.FAILED, reason="error")


def back(
    place: State, seq: int = 3, *, seconds: float = 0, carried: Collection[str] = (), **edited: Json
) -> msg.RollbackRequested:
    """The event by which a run goes on from an earlier state."""
    frame, overlays = forking.told(rollback.there(place, [msg.StepKey(key) for key in carried]))
    return msg.RollbackRequested(
        at=at(seconds),
        by="ada",
        seq=seq,
        state=frame,
        variables={**place.variables, **edited},
        overlays=overlays,
    )


def half_way() -> State:
    """A line of two steps, the first of them done."""
    return play(LINE, submitted(n=1), succeeded("a#1", patch={"n": 2})).state


@pytest.mark.parametrize(
    "state",
    [
        State(run="r1"),
        play(LINE, succeeded("a#1"), succeeded("b#1")).state,
        replace(half_way(), undoing=Undoing(ending=ENDING, running=True)),
    ],
)
def test_who_has_not_begun_has_ended_or_undoes_what_it_did_does_not_go_back(state: State) -> None:
    asked = turn(LINE, state, back(half_way()))
    assert commands(asked) == []
    assert asked.state == state


def test_nobody_goes_back_to_a_map_under_way() -> None:
    place = half_way()
    mapping = replace(place, maps={B: Items(count=2, node=place.steps[B].node)})
    assert rollback.obstacle(mapping) == "the map of step b#1 is under way there"
    assert rollback.obstacle(replace(place, stopping=ENDING)) == "the run is about to end there"
    assert rollback.obstacle(place) == ""


def test_nobody_goes_back_on_the_way_to_an_end() -> None:
    assert not rollback.goes(replace(half_way(), stopping=ENDING))


def test_what_was_live_there_begins_anew_under_another_name() -> None:
    later = turn(LOOP, play(LOOP, submitted(n=0), succeeded("work#1")).state, succeeded("work#2"))
    place = play(LOOP, submitted(n=0)).state
    went = turn(LOOP, later.state, back(place))
    first, asked = commands(went)
    assert first == msg.RollBack(seq=3, anew={msg.StepKey("work#1"): msg.StepKey("work#4")})
    assert isinstance(asked, msg.RequestStart)
    assert (asked.step, asked.iteration, asked.attempt, asked.visits) == (
        *("work#4", 4, 1),
        place.steps[msg.StepKey("work#1")].visits,
    )
    assert asked.parents == place.steps[msg.StepKey("work#1")].parents
    assert went.state.iterations["work"] == 4
    assert turn(LOOP, went.state, succeeded("work#3")).state == went.state


def test_variables_are_what_they_were_but_for_those_that_are_edited() -> None:
    start = play(LINE, submitted(n=1, m=1)).state
    went = turn(LINE, half_way(), back(start, m=5)).state
    assert went.variables == {"n": 1, "m": 5}
    assert went.steps.keys() == {"a#2"}
    done = turn(LINE, went, succeeded("a#2", patch={"n": 7}))
    assert turn(LINE, done.state, succeeded("b#2")).state.variables == {"n": 7, "m": 5}


def test_what_has_been_counted_and_spent_and_let_pass_stays() -> None:
    start = play(LINE, submitted()).state
    now = replace(
        half_way(),
        spent={"cost_usd": 2.0},
        memory={"rule": 1},
        halted={"a": 1},
        waived={"b": 2},
        governed=4,
    )
    went = turn(LINE, now, back(start)).state
    kept = ("spent", "memory", "halted", "waived", "governed", "visited")
    assert [getattr(went, name) for name in kept] == [getattr(now, name) for name in kept]


def test_going_back_passes_no_bound_on_steps() -> None:
    bounded = replace(LINE, limits=Limits(steps=4))
    now = play(bounded, succeeded("a#1")).state
    went = turn(bounded, now, back(play(bounded).state)).state
    assert went.steps.keys() == {"a#2"}
    again = turn(bounded, went, succeeded("a#2")).state
    assert turn(bounded, again, succeeded("b#2")).state.ending == Ending(
        status=RunStatus.FAILED,
        reason="step_budget",
        message="the run's budget of 4 steps is spent at node end",
    )


def test_threads_stand_where_they_stood_with_what_each_had_written() -> None:
    place = play(DIAMOND, succeeded("f#1"), succeeded("a#1", patch={"x": 1})).state
    now = turn(DIAMOND, place, failed("b#1", terminal=False)).state
    assert now.terminal
    live = turn(DIAMOND, place, ticked()).state
    went = turn(DIAMOND, live, back(place)).state
    assert went.steps.keys() == {"b#2"}
    joined = turn(DIAMOND, went, succeeded("b#2", patch={"y": 2})).state
    assert joined.variables == {"x": 1, "y": 2}
    assert joined.steps.keys() == {"j#1"}


def test_a_paused_run_goes_back_and_stays_paused() -> None:
    paused = turn(LINE, half_way(), msg.PauseRequested(at=NOW, by="ada")).state
    went = turn(LINE, paused, back(play(LINE).state)).state
    assert (went.status, went.steps[msg.StepKey("a#2")].status) == (
        RunStatus.PAUSED,
        StepStatus.READY,
    )


def test_a_step_of_which_calls_are_known_begins_with_its_second_attempt() -> None:
    went = turn(LINE, half_way(), back(half_way(), carried=["b#1"]))
    assert went.state.steps[msg.StepKey("b#2")].attempt == 2


def test_who_waited_for_others_waits_anew() -> None:
    timed = replace(
        DIAMOND, nodes={**DIAMOND.nodes, "j": replace(DIAMOND.nodes["j"], join=Join(timeout=30))}
    )
    place = play(timed, succeeded("f#1"), succeeded("a#1")).state
    assert [token.since for token in place.tokens] == [NOW]
    went = turn(timed, place, back(place, seconds=60)).state
    assert [token.since for token in went.tokens] == [at(60)]
    untimed = play(DIAMOND, succeeded("f#1"), succeeded("a#1")).state
    assert [token.since for token in turn(DIAMOND, untimed, back(untimed)).state.tokens] == [None]


@pytest.mark.parametrize("paused", [False, True])
def test_one_can_go_back_to_before_the_first_step(paused: bool) -> None:
    first = fold(play(LINE, submitted(n=1)).entries[:1])
    now = half_way()
    if paused:
        now = turn(LINE, now, msg.PauseRequested(at=NOW, by="ada")).state
    went = turn(LINE, now, back(first)).state
    if paused:
        assert (went.afresh, went.steps) == (True, {})
        went = turn(LINE, went, back(went)).state
        went = turn(LINE, went, msg.ResumeRequested(at=NOW, by="ada")).state
    assert (went.afresh, went.variables, went.steps.keys()) == (False, {"n": 1}, {"a#2"})


def test_a_history_that_went_back_twice_tells_the_state() -> None:
    template, entries, state = DIAMOND, play(DIAMOND).entries, play(DIAMOND).state
    start = state
    for event in (
        succeeded("f#1"),
        succeeded("a#1"),
        back(start),
        succeeded("f#2"),
        succeeded("b#1"),
        back(start),
        succeeded("f#3"),
        succeeded("a#3", patch={"n": 1}),
        succeeded("b#3"),
        succeeded("j#1"),
    ):
        taken = turn(template, state, event)
        state, entries = taken.state, entries + taken.entries
    assert fold(entries) == state
    assert state.status is RunStatus.COMPLETED
    assert state.variables == {"n": 1}


# --- which lines count ---------------------------------------------------------------------------


def leading(upto: int, *rollbacks: Rollback) -> set[int]:
    found = rollback.course(rollbacks)
    return {seq for seq in range(1, upto + 1) if found.leads(seq)}


def test_of_a_run_that_never_went_back_every_line_counts() -> None:
    assert leading(4) == {1, 2, 3, 4}
    assert rollback.course(()).keeps(A, 4)


def test_what_was_gone_back_over_counts_no_more() -> None:
    once = Rollback(seq=6, to=2, anew={A: B})
    assert leading(8, once) == {1, 2, 7, 8}
    course = rollback.course([once])
    assert not course.keeps(A, 1)
    assert course.keeps(B, 7)
    assert not course.keeps(B, 5)


def test_one_can_go_back_to_before_a_rollback_and_to_what_it_had_gone_back_over() -> None:
    first = Rollback(seq=6, to=2, anew={A: B})
    before = Rollback(seq=9, to=1)
    over = Rollback(seq=9, to=4)
    after = Rollback(seq=9, to=7)
    assert leading(10, first, before) == {1, 10}
    assert leading(10, first, over) == {1, 2, 3, 4, 10}
    assert leading(10, first, after) == {1, 2, 7, 10}
    assert rollback.course([first, over]).keeps(A, 1)
    assert not rollback.course([first, after]).keeps(A, 1)


def test_nobody_goes_back_to_before_another_version() -> None:
    place = half_way()
    under_another = evolve(
        place, msg.Migrated(at=NOW, by="ada", request="r", version="v2", was="v1")
    )
    assert evolve(under_another, back(place)) == under_another
    assert evolve(under_another, back(under_another)).back is not None
