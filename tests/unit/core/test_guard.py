"""What policies say of a run as its history tells it, people who must allow something, and what is used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.core import messages as msg
from engine.core.decide import advance
from engine.core.fold.guard import added
from engine.core.graph import Retry
from engine.core.permits import is_for, moment_of, permit, rule_of
from engine.core.policy import DEFAULT
from engine.core.state import ABORTED, PERMIT, State
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import Inline
from tests.support.play import (
    at,
    edge,
    failed,
    fold,
    graph,
    lost,
    node,
    submitted,
    succeeded,
    turn,
    woke,
)

LINE = graph(edge("a -> b"), edge("b -> end"))
A = msg.StepKey("a#1")


def verdict(action: str, **more: Any) -> msg.Verdict:
    return msg.Verdict(policy="p", version=1, rule="r", action=action, message="so", **more)


def judged(moment: str, *verdicts: msg.Verdict, step: str = "a#1", **more: Any) -> msg.Judged:
    return msg.Judged(
        at=at(1),
        step=msg.StepKey(step),
        attempt=1,
        moment=moment,
        rules=1,
        verdicts=verdicts,
        **more,
    )


def parked() -> msg.Parked:
    return msg.Parked(at=at(1), step=A, permits=(permit("start", "p:r", "w"),), until=at(9))


def withheld(**usage: float) -> msg.AttemptWithheld:
    return msg.AttemptWithheld(
        at=at(1),
        step=A,
        attempt=1,
        fence=1,
        permits=(permit("report", "p:r", "w"),),
        until=at(9),
        usage=usage,
    )


def suspended(*permits: str, **usage: float) -> msg.AttemptSuspended:
    return msg.AttemptSuspended(
        at=at(1), step=A, attempt=1, fence=1, permits=permits, until=at(9), usage=usage
    )


def answered(choice: str, *, attempt: int = 1) -> msg.WaitEnded:
    return msg.WaitEnded(
        at=at(2),
        step=A,
        attempt=attempt,
        by=("eve",),
        result=Inline(value={"choice": choice}),
        choice=choice,
    )


def asking() -> State:
    """`a` asks for its start."""
    return advance(LINE, DEFAULT, State(run="r1"), [submitted()]).state


def ready() -> State:
    return turn(LINE, State(run="r1"), submitted()).state


# --- verdicts -----------------------------------------------------------------------------------


def test_a_run_that_a_policy_cuts_off_fails_and_names_the_rule() -> None:
    ended = turn(LINE, ready(), judged("report", verdict("abort_lifetime"))).state
    assert ended.status is RunStatus.FAILED
    assert ended.ending is not None
    assert (ended.ending.reason, ended.ending.message) == (ABORTED, "p:r: so")


def test_what_has_ended_is_not_ended_again() -> None:
    ended = turn(LINE, ready(), judged("report", verdict("abort_lifetime"))).state
    assert turn(LINE, ended, judged("call", verdict("abort_lifetime"))).state == ended


def test_a_pause_holds_the_run_until_somebody_lets_pass_what_it_was_for() -> None:
    paused = turn(LINE, ready(), judged("start", verdict("pause_lifetime", observed=3))).state
    assert (paused.status, paused.halted, paused.waived) == (RunStatus.PAUSED, {"p:r": 3}, {})
    again = turn(LINE, paused, judged("start", verdict("pause_lifetime", observed=4))).state
    assert (again.status, again.halted) == (RunStatus.PAUSED, {"p:r": 4})
    resumed = turn(LINE, again, msg.ResumeRequested(at=at(2), by="eve")).state
    assert (resumed.status, resumed.halted, resumed.waived) == (RunStatus.RUNNING, {}, {"p:r": 4})


def test_nothing_follows_from_a_report_that_is_rejected() -> None:
    twice = judged("report", verdict("reject_execution"), verdict("reject_execution"))
    ended = turn(LINE, ready(), twice, succeeded("a#1", patch={"x": 1})).state
    assert ended.ending is not None
    assert (ended.ending.reason, ended.ending.message) == ("rejected", "p:r: so")
    assert ended.variables == {}


def test_a_report_that_fails_after_it_was_rejected_is_made_again_and_counts() -> None:
    template = graph(edge("a -> end"), nodes=[node("a", retry=Retry(attempts=2))])
    state = turn(template, State(run="r1"), submitted()).state
    failing = (judged("report", verdict("reject_execution")), failed("a#1"))
    state = turn(template, state, *failing).state
    state = turn(template, state, woke("a#1", seconds=99)).state
    ended = turn(template, state, succeeded("a#1", attempt=2, patch={"x": 1})).state
    assert (ended.status, ended.variables) == (RunStatus.COMPLETED, {"x": 1})


def test_undoing_a_run_that_a_rule_has_paused_goes_by_what_the_rule_let_pass() -> None:
    undo = node("refund")
    template = graph(edge("a -> end"), nodes=[node("a", compensate=undo)])
    state = turn(template, State(run="r1"), submitted()).state
    state = turn(template, state, judged("call", verdict("pause_lifetime", observed=1))).state
    cancel = msg.CancelRequested(at=at(2), by="eve", compensate=True)
    state = turn(template, state, cancel).state
    assert (state.status, state.halted, state.waived) == (RunStatus.RUNNING, {}, {"p:r": 1})


@pytest.mark.parametrize(
    "event",
    [
        judged("call", verdict("reject_execution")),
        judged("report", verdict("reject_execution"), step="gone#1"),
        judged("start", verdict("warn")),
    ],
)
def test_what_is_said_of_a_call_or_of_nobody_moves_no_step(event: msg.Judged) -> None:
    state = ready()
    assert turn(LINE, state, event).state.steps == state.steps


def test_what_rules_remember_is_kept_until_they_remember_otherwise() -> None:
    state = turn(LINE, ready(), judged("report", memory={"laps": 1})).state
    assert state.memory == {"laps": 1}
    assert turn(LINE, state, judged("report")).state.memory == {"laps": 1}
    assert turn(LINE, state, msg.Governed(at=at(1), number=7)).state.governed == 7


# --- people -------------------------------------------------------------------------------------


def test_a_step_that_is_parked_asks_for_its_start_again_once_it_is_allowed() -> None:
    state = advance(LINE, DEFAULT, asking(), [parked()]).state
    step = state.steps[A]
    assert (step.status, step.wait, step.wake) == (StepStatus.WAITING, PERMIT, at(9))
    state = advance(LINE, DEFAULT, state, [answered("approve")]).state
    step = state.steps[A]
    assert (step.status, step.permits, step.asked) == (
        StepStatus.REQUESTED,
        ("start:p:r#w",),
        (),
    )
    # Asked for something else, it is asked under another number: answers are kept by it.
    admitted = advance(LINE, DEFAULT, state, [msg.Admitted(at=at(3), step=A)]).state
    # It goes on where it was, or is lost, under the same leave; a failure uses that up.
    assert turn(LINE, admitted, lost("a#1")).state.steps[A].permits == ("start:p:r#w",)
    again = replace(parked(), permits=(permit("start", "p:other", "w"),))
    state = advance(LINE, DEFAULT, state, [again]).state
    assert state.steps[A].attempt == 2


def test_a_step_that_people_deny_fails_for_good() -> None:
    state = advance(LINE, DEFAULT, asking(), [parked(), answered("deny")]).state
    assert state.ending is not None
    assert (state.ending.reason, state.ending.message) == ("denied", "denied by eve")


def test_a_report_that_was_set_aside_counts_when_it_follows_its_answer() -> None:
    state = turn(LINE, ready(), withheld(cost_usd=0.5)).state
    assert state.spent == {"cost_usd": 0.5}
    assert state.steps[A].status is StepStatus.WAITING
    state = turn(LINE, state, answered("approve"), succeeded("a#1", patch={"x": 1})).state
    assert (state.variables, [*state.steps]) == ({"x": 1}, ["b#1"])


def test_a_suspended_attempt_is_made_anew_once_its_call_is_allowed() -> None:
    taken = turn(LINE, ready(), suspended("call:p:r#w", cost_usd=0.1))
    assert taken.state.steps[A].status is StepStatus.WAITING
    assert taken.state.spent == {"cost_usd": 0.1}
    step = turn(LINE, taken.state, answered("approve")).state.steps[A]
    assert (step.status, step.attempt, step.errors) == (StepStatus.READY, 2, 0)


def test_an_attempt_that_gives_way_to_a_pause_is_made_anew() -> None:
    step = turn(LINE, ready(), suspended()).state.steps[A]
    assert (step.status, step.attempt, step.asked) == (StepStatus.READY, 2, ())


@pytest.mark.parametrize("event", [parked(), withheld(), suspended("call:p:r#w")])
def test_who_is_asked_about_a_step_that_went_on_changes_nothing(
    event: msg.Parked | msg.AttemptSuspended | msg.AttemptWithheld,
) -> None:
    state = turn(LINE, ready(), succeeded("a#1")).state
    assert turn(LINE, state, replace(event, step=msg.StepKey("a#1"))).state.steps == state.steps


def test_a_history_of_all_that_tells_the_same_state() -> None:
    first = turn(LINE, State(run="r1"), submitted())
    taken = first.entries
    state = first.state
    for events in (
        [judged("report", verdict("require_approval"), memory={"n": 1}), withheld()],
        [answered("approve"), judged("report"), succeeded("a#1", patch={"x": 1})],
    ):
        found = turn(LINE, state, *events)
        state, taken = found.state, taken + found.entries
    assert fold(taken) == state


def test_a_permit_says_when_of_what_and_for_what_it_is() -> None:
    text = permit("call", "tool:mail#2", "abc")
    assert (moment_of(text), rule_of(text)) == ("call", "tool:mail#2")
    assert is_for(text, "abc")
    assert not is_for(text, "ab")


# --- usage --------------------------------------------------------------------------------------


def test_what_is_used_adds_up_whatever_became_of_it() -> None:
    state = ready()
    for event in (
        replace(lost("a#1"), usage={"cost_usd": 0.1, "max_rss": 5.0}),
        replace(lost("a#9"), usage={"cost_usd": 0.2}),
        msg.RetryRequested(at=at(3), step=A, by="eve", usage={"cost_usd": 0.3}),
    ):
        state = turn(LINE, state, event).state
    assert state.spent == {"cost_usd": 0.6}


def test_two_peaks_are_no_peak() -> None:
    assert added({"max_rss": 3.0}, {"max_rss": 4.0, "n": 1}) == {"max_rss": 3.0, "n": 1.0}
