"""What a run takes over that goes on from a place of another one, and results that somebody gives."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from engine.core import forking
from engine.core import messages as msg
from engine.core.decide import advance
from engine.core.fold import evolve
from engine.core.graph import Join, Route
from engine.core.policy import DEFAULT
from engine.core.state import Ending, Items, State, Token, Undoing, Within
from engine.core.transitions import IllegalTransition, RunStatus, StepStatus
from engine.core.values import Inline, Json
from tests.support.play import (
    LINE,
    NOW,
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
    turn,
)

A, B, ITEM = msg.StepKey("a#1"), msg.StepKey("b#1"), msg.StepKey("b#1.1")
DIAMOND = graph(
    edge("start -> f"),
    *fork("f", "a", "b"),
    *meet("j", "a", "b"),
    edge("j -> end"),
    nodes=[node("f", route=Route.ALL), node("j", join=Join())],
)
ENDING = Ending(status=RunStatus.FAILED, reason="error")


def forked(other: State, *, carried: Collection[msg.StepKey] = (), **edited: Json) -> msg.Forked:
    """The event by which a run goes on from a state."""
    frame, overlays = forking.told(forking.anew(other, carried))
    return msg.Forked(
        at=NOW,
        by="ada",
        version="v1",
        run=other.run,
        seq=3,
        hash="00",
        state=frame,
        variables={**other.variables, **edited},
        overlays=overlays,
    )


def half_way() -> State:
    """A line of two steps, the first of them done."""
    return play(LINE, submitted(n=1), succeeded("a#1", patch={"n": 2})).state


def with_step(state: State, **changes: object) -> State:
    """A state whose second step is otherwise."""
    return replace(state, steps={B: replace(state.steps[B], **changes)})


#: A lock that a step holds for itself.
OWN = ("run:gate", None)


def mapping(**changes: Any) -> State:
    """A state whose second step is a map with an item done, one under way and one to come."""
    state = with_step(half_way(), status=StepStatus.WAITING, wait="map")
    items = Items(count=3, node=state.steps[B].node, next=2, running=1, succeeded=1)
    one = replace(state.steps[B], key=ITEM, status=StepStatus.READY, wait=None, of=B, index=1)
    return replace(state, steps={**state.steps, ITEM: one}, maps={B: replace(items, **changes)})


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (State(run="r1"), "has not begun"),
        (play(LINE, succeeded("a#1"), succeeded("b#1")).state, "has ended"),
        (replace(half_way(), undoing=Undoing(ending=ENDING)), "about to end"),
        (replace(half_way(), stopping=ENDING), "about to end"),
        (evolve(half_way(), succeeded("b#1")), "step b#1 is being settled"),
        (mapping(sent=1), "items that were sent to step b#1 have no places yet"),
        (replace(mapping(), steps=with_step(mapping(), holds=(OWN,)).steps), "the lock gate"),
        (with_step(half_way(), holds=(("run:gate", "end"),)), "the lock gate"),
        (
            replace(
                half_way(),
                tokens=(
                    Token(
                        edge=LINE.edges[2].id,
                        target=LINE.edges[2].target,
                        holds=(("run:gate", "end"),),
                    ),
                ),
            ),
            "the lock gate",
        ),
    ],
)
def test_nothing_goes_on_from_where_something_is_half_done(state: State, why: str) -> None:
    assert why in forking.obstacle(state)


@pytest.mark.parametrize("holds", [(), (("run:gate", None),), (("run:gate", "b"),)])
def test_a_step_may_hold_a_lock_for_itself(holds: msg.Holds) -> None:
    assert forking.obstacle(with_step(half_way(), holds=holds)) == ""


def test_a_run_goes_on_where_the_other_one_stood() -> None:
    begun = turn(LINE, State(run="r2"), forked(half_way()))
    (asked,) = [c for c in commands(begun) if isinstance(c, msg.RequestStart)]
    assert (asked.step, asked.attempt) == (B, 1)
    assert begun.state.run == "r2"
    assert begun.state.variables == {"n": 2}
    assert fold([*begun.entries]).steps.keys() == {B}
    done = turn(LINE, begun.state, succeeded("b#1", patch={"m": 3}))
    assert done.state.status is RunStatus.COMPLETED
    assert done.state.variables == {"n": 2, "m": 3}


def test_it_goes_on_with_variables_that_were_edited() -> None:
    assert turn(LINE, State(run="r2"), forked(half_way(), n=7)).state.variables == {"n": 7}


def test_a_step_of_which_calls_are_known_begins_with_its_second_attempt() -> None:
    begun = turn(LINE, State(run="r2"), forked(half_way(), carried=[B]))
    assert begun.state.steps[B].attempt == 2


def test_what_was_spent_and_remembered_is_the_other_runs() -> None:
    rich = replace(half_way(), spent={"tokens": 9}, memory={"rule": 1}, governed=4)
    begun = turn(LINE, State(run="r2"), forked(rich)).state
    assert (begun.spent, begun.memory, begun.governed) == ({}, {}, 0)


def test_a_map_under_way_stays_so_and_what_is_live_of_it_begins_anew() -> None:
    other = forking.anew(mapping(), ())
    assert (other.steps[B].status, other.steps[B].wait) == (StepStatus.WAITING, "map")
    item = other.steps[ITEM]
    assert (item.status, item.attempt, item.of, item.index) == (StepStatus.DUE, 1, B, 1)
    assert other.maps == mapping().maps
    assert forking.mapped(mapping()) == (forking.Mapped(key=B, count=3, begun=2),)


def test_a_map_whose_items_are_gathered_needs_all_of_them_and_gathers_anew() -> None:
    gathering = with_step(half_way(), index=3)
    assert forking.mapped(gathering) == (forking.Mapped(key=B, count=3, begun=3),)
    assert forking.mapped(half_way()) == ()
    assert forking.anew(gathering, ()).steps[B].index == 3


def test_where_the_run_within_goes_on_from_is_known_until_its_step_has_started_it() -> None:
    waits = replace(half_way(), within=(Within(step=B, run="r0", seq=4),))
    opening = replace(waits, steps=with_step(waits, status=StepStatus.OPENING).steps)
    begun = turn(LINE, State(run="r2"), forked(waits)).state
    assert begun.within == waits.within
    assert evolve(opening, msg.Opened(at=NOW, step=B, child="r3")).within == ()
    other = replace(opening, within=(Within(step=A, run="r0", seq=4),))
    assert evolve(other, msg.Opened(at=NOW, step=B, child="r3")).within == other.within


def test_threads_go_on_with_what_each_has_written() -> None:
    other = play(DIAMOND, submitted(), succeeded("f#1"), succeeded("a#1", patch={"x": 1})).state
    begun = turn(DIAMOND, State(run="r2"), forked(other))
    assert begun.state.steps.keys() == {B}
    joined = turn(DIAMOND, begun.state, succeeded("b#1", patch={"y": 2}))
    assert joined.state.variables == {"x": 1, "y": 2}


def test_a_run_that_has_begun_goes_on_from_nowhere_else() -> None:
    with pytest.raises(IllegalTransition):
        evolve(half_way(), forked(half_way()))


def given(step: msg.StepKey, **patch: Json) -> msg.ResultGiven:
    return msg.ResultGiven(
        at=NOW, step=step, by="ada", result=Inline(value={"ok": True}), patch=patch
    )


def test_a_step_whose_result_is_given_is_not_carried_out() -> None:
    asked = advance(LINE, DEFAULT, State(run="r1"), [submitted()])
    assert asked.state.steps[A].status is StepStatus.REQUESTED
    told = advance(LINE, DEFAULT, asked.state, [given(A, n=5)])
    assert told.state.steps.keys() == {B}
    assert told.state.variables == {"n": 5}


def test_a_result_that_comes_when_the_step_has_begun_changes_nothing() -> None:
    ready = play(LINE).state
    assert turn(LINE, ready, given(A, n=5)).state == ready
