"""What people may do to a run while it is under way."""

from __future__ import annotations

import pytest

from engine.core import messages as msg
from engine.core.decide import advance
from engine.core.graph import Retry
from engine.core.policy import DEFAULT
from engine.core.state import State
from engine.core.transitions import RunStatus, StepStatus
from tests.support.play import (
    LINE,
    NOW,
    RETRYING,
    at,
    commands,
    edge,
    failed,
    fold,
    graph,
    lost,
    node,
    play,
    submitted,
    succeeded,
    turn,
)

A = msg.StepKey("a#1")
PAUSED = msg.PauseRequested(at=NOW, by="ada")
RESUMED = msg.ResumeRequested(at=NOW, by="ada")


def retry(step=A, *, attempt=None, seconds=0):
    return msg.RetryRequested(at=at(seconds), step=step, by="ada", attempt=attempt)


def test_a_retry_of_a_step_that_is_gone_changes_nothing():
    done = play(LINE, succeeded("a#1")).state
    assert turn(LINE, done, retry()).state == done


def test_a_retry_that_took_no_attempt_leaves_a_ready_step_as_it_is():
    ready = play(LINE).state
    assert turn(LINE, ready, retry()).state == ready


def test_a_retry_of_an_attempt_that_is_over_changes_nothing():
    second = play(RETRYING, lost("a#1")).state
    assert second.steps[A].attempt == 2
    assert turn(RETRYING, second, retry(attempt=1)).entries[1:] == ()


def test_an_attempt_that_is_taken_away_counts_against_nothing():
    once = graph(edge("start -> a"), edge("a -> end"), nodes=[node("a", retry=Retry(attempts=2))])
    again = play(once, retry(attempt=1))
    (asked,) = [c for c in commands(again) if isinstance(c, msg.RequestStart) and c.attempt == 2]
    step = again.state.steps[A]
    assert (step.status, step.attempt, step.errors, step.lost) == (StepStatus.READY, 2, 0, 0)
    assert asked.step == A
    # Its number is used up, its errors are not.
    still = turn(once, again.state, failed("a#1", attempt=2)).state
    assert still.steps[A].status is StepStatus.RETRYING
    # The report of the attempt that was taken away is stale.
    assert turn(once, again.state, succeeded("a#1", attempt=1)).state == again.state


def test_a_step_that_waits_for_its_next_attempt_starts_at_once():
    waiting = play(RETRYING, failed("a#1"))
    assert waiting.state.steps[A].status is StepStatus.RETRYING
    started = turn(RETRYING, waiting.state, retry(seconds=1)).state
    step = started.steps[A]
    assert (step.status, step.attempt, step.errors, step.wake) == (StepStatus.READY, 2, 1, None)


def test_a_deferred_step_is_put_to_the_admission_again():
    asked = advance(LINE, DEFAULT, State(run="r1"), [submitted()]).state
    later = msg.Deferred(at=NOW, step=A, rule="rate", until=at(60))
    waits = advance(LINE, DEFAULT, asked, [later]).state
    assert waits.steps[A].status is StepStatus.DEFERRED
    again = advance(LINE, DEFAULT, waits, [retry()]).state
    assert (again.steps[A].status, again.steps[A].attempt) == (StepStatus.REQUESTED, 1)


def test_a_retry_in_a_paused_run_leaves_it_paused():
    held = play(RETRYING, failed("a#1"), PAUSED, retry()).state
    assert held.status is RunStatus.PAUSED
    assert held.steps[A].status is StepStatus.READY
    assert turn(RETRYING, held, RESUMED).state.status is RunStatus.RUNNING


def test_history_with_retries_and_skips_decides_the_same_again():
    played = play(
        RETRYING,
        retry(attempt=1),
        failed("a#1", attempt=2),
        retry(seconds=1),
        msg.SkipRequested(at=NOW, step=A, by="ada", reason="enough"),
    )
    assert fold(played.entries) == played.state
    events = [e.record for e in played.entries if isinstance(e.record, msg.Event)]
    assert advance(RETRYING, DEFAULT, State(run="r1"), events).entries == played.entries
    assert played.state.status is RunStatus.COMPLETED


@pytest.mark.parametrize(
    ("asks", "reason"),
    [(msg.CancelRequested, "cancelled"), (msg.TerminateRequested, "terminated")],
)
def test_a_run_that_is_stopped_says_how(asks, reason):
    stopped = play(LINE, asks(at=NOW, by="ada", reason="enough")).state
    assert (stopped.status, stopped.ending.reason) == (RunStatus.CANCELLED, reason)
    assert stopped.ending.message == "enough"
    assert stopped.steps == {}
    assert turn(LINE, stopped, asks(at=NOW, by="eve")).state == stopped


def test_terminating_names_who_did_it_where_nobody_says_why():
    cut = play(LINE, submitted(), msg.TerminateRequested(at=NOW, by="ada")).state
    assert cut.ending.message == "by ada"
