"""Runs that a release, or nobody, can read any more: one clear error, and a way to end them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from engine.core import codec
from engine.core import messages as msg
from engine.core.policy import DEFAULT
from engine.core.problem import Problem
from engine.errors import Conflict
from engine.platform import DatabaseRole, Platform
from engine.runs import abandonment, attempts, control, doctor, graphs, launch, sweep, turns, views
from engine.settings import Settings
from engine.store import inbox, session
from engine.store import runs as run_rows
from engine.store.ids import RunId, StepId
from tests.support import platforms
from tests.support.platforms import (
    LINE,
    TENANT,
    Sent,
    as_owner,
    finish,
    publish,
    register,
    sql,
    status,
    submit,
    take,
    wake,
)

NONSENSE = """UPDATE run SET head = '{"nonsense": 1}' WHERE id = :id"""
FORK = {
    "workflow": "fork",
    "nodes": {"a": {"uses": "noop"}, "b": {"uses": "noop"}, "c": {"uses": "noop"}},
    "edges": [{"from": "a", "to": ["b", "c"], "type": "parallel"}],
}


@pytest.fixture
def main(settings: Settings) -> Iterator[Platform]:
    with platforms.platform(settings) as built:
        sent = replace(built, broker=Sent(app=built.broker.app))
        register(sent, "noop")
        yield sent


@pytest.fixture
def worker(settings: Settings, main: Platform) -> Iterator[Platform]:
    with platforms.platform(settings, DatabaseRole.WORKER) as built:
        yield replace(built, broker=Sent(app=built.broker.app))


@contextlib.contextmanager
def another_release(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Code that does not know what stands in any document."""
    problem = Problem(path="nodes.a.kind", message="there is no kind 'hologram'")
    with monkeypatch.context() as patched:
        patched.setattr(graphs, "_parsed", {})
        patched.setattr(graphs.document, "read", lambda _: (problem,))
        yield


def kinds(platform: Platform, run: RunId) -> list[str]:
    return [line.kind for line in views.history(platform, run)]


# --- a step that a worker cannot read ---------------------------------------------------------


def test_a_graph_that_a_worker_cannot_read_is_said_of_the_attempt(main, worker, monkeypatch):
    run = submit(main, publish(main, LINE))
    with another_release(monkeypatch):
        assert attempts.lease(worker, [StepId(*run, "a#1")], "old") == ()
    (attempt,) = views.attempts(main, run)
    assert (attempt.outcome, attempt.reason, attempt.worker) == ("failed", "lost", "old")
    assert "cannot read the run's graph" in (attempt.message or "")
    assert "there is no kind 'hologram'" in (attempt.message or "")
    assert attempts.lease(worker, [StepId(*run, "a#1")], "old") == (), "nobody tries it meanwhile"


def test_a_worker_that_can_read_it_carries_the_step_out(main, worker, monkeypatch):
    run = submit(main, publish(main, LINE))
    with another_release(monkeypatch):
        attempts.lease(worker, [StepId(*run, "a#1")], "old")
    turns.take_turns(main, [run])
    assert finish(main, worker, take(worker, run, "a#1", name="new"))
    assert finish(main, worker, take(worker, run, "b#1", name="new"))
    assert status(main, run) == "completed"
    assert doctor.examine(main.database) == ()


def test_a_graph_that_no_worker_can_read_fails_the_run_after_so_many(
    main, worker, settings, monkeypatch
):
    run = submit(main, publish(main, LINE))
    for _ in range(DEFAULT.lost_attempts + 1):
        with another_release(monkeypatch):
            assert attempts.lease(worker, [StepId(*run, "a#1")], "old") == ()
        turns.take_turns(main, [run])
        wake(settings)
        sweep.sweep(main)
    ended = views.run(main, run)
    assert (ended.status, ended.reason, ended.ended_step) == ("failed", "lost", "a#1")
    assert "there is no kind 'hologram'" in (ended.message or "")
    assert len(views.attempts(main, run)) == DEFAULT.lost_attempts + 1
    assert doctor.examine(main.database) == ()


def test_a_state_that_a_worker_cannot_read_is_said_of_the_attempt(main, worker, settings):
    run = submit(main, publish(main, FORK))
    assert finish(main, worker, take(worker, run, "a#1"))
    as_owner(settings, NONSENSE, id=run.run)
    wanted = [StepId(*run, key) for key in ("b#1", "c#1")]
    assert attempts.lease(worker, wanted, "old") == ()
    for attempt in views.attempts(main, run)[1:]:
        assert (attempt.outcome, attempt.reason) == ("failed", "lost")
        assert "cannot read the run's state" in (attempt.message or "")


def test_one_step_that_cannot_be_read_holds_up_no_other(main, worker, settings):
    bad, good = submit(main, publish(main, FORK)), submit(main, publish(main, LINE))
    assert finish(main, worker, take(worker, bad, "a#1"))
    as_owner(settings, NONSENSE, id=bad.run)
    (leased,) = attempts.lease(worker, [StepId(*bad, "b#1"), StepId(*good, "a#1")], "w1")
    assert leased.step == StepId(*good, "a#1")


# --- a run whose turn cannot be taken ---------------------------------------------------------


def test_a_run_whose_graph_cannot_be_read_is_set_aside_and_says_why(main, worker, monkeypatch):
    run = submit(main, publish(main, LINE))
    lease = take(worker, run, "a#1")
    with another_release(monkeypatch):
        finish(main, worker, lease)
    shown = views.run(main, run)
    assert "a published document can no longer be read" in (shown.stuck_error or "")
    assert "nodes.a.kind: there is no kind 'hologram'" in (shown.stuck_error or "")


def test_a_run_whose_state_cannot_be_read_is_ended_when_it_is_asked_again(main, worker, settings):
    run = submit(main, publish(main, LINE))
    lease = take(worker, run, "a#1")
    as_owner(settings, NONSENSE, id=run.run)
    assert control.cancel(main, run, by="ada") == "running", "its turn may yet succeed"
    assert control.cancel(main, run, by="ada", reason="enough") == "cancelled"
    assert attempts.held(worker, [lease.held]) == frozenset()
    ended = views.run(main, run)
    assert (ended.reason, ended.stuck_error, ended.steps) == ("cancelled", None, ())
    assert "by force" in (ended.message or "")
    assert "nonsense" in (ended.message or "")
    assert kinds(main, run)[-3:] == ["CancelRequested", "FinishRun", "CancelRequested"]
    assert doctor.examine(main.database) == (), "history told the state that could not be read"
    with pytest.raises(Conflict, match="already ended"):
        control.cancel(main, run, by="ada")
    assert turns.take_turns(main, [run], force=True) == 0


def test_what_had_been_reported_before_is_kept_and_counts(main, worker, settings):
    run = submit(main, publish(main, LINE))
    lease = take(worker, run, "a#1")
    as_owner(settings, NONSENSE, id=run.run)
    assert finish(main, worker, lease, n=7)
    assert control.cancel(main, run, by="ada") == "cancelled"
    assert kinds(main, run)[-3:] == ["AttemptSucceeded", "CancelRequested", "FinishRun"]
    assert views.run(main, run).variables == {"n": 7}
    assert doctor.examine(main.database) == ()


def test_a_run_that_never_had_a_turn_is_ended_too(main, monkeypatch):
    run = launch.submit(main, TENANT, publish(main, LINE), {"n": 1}, by="ada").run
    with another_release(monkeypatch):
        turns.take_turns(main, [run])
        assert views.run(main, run).stuck_error
        assert control.cancel(main, run, by="ada") == "cancelled"
    assert kinds(main, run) == ["RunSubmitted", "CancelRequested", "FinishRun"]
    assert views.run(main, run).variables == {"n": 1}
    assert doctor.examine(main.database) == ()


def test_an_event_that_nobody_can_read_does_not_keep_a_run_from_ending(main, worker):
    run = submit(main, publish(main, LINE))
    letter = inbox.Letter(run=run, kind="Nonsense", format=codec.FORMAT, body="{}")
    with session.transaction(main.database) as connection:
        inbox.put(connection, [letter] * (inbox.BATCH + 1))
    turns.take_turns(main, [run])
    assert control.cancel(main, run, by="ada") == "cancelled"
    assert len(sql(main, "SELECT FROM history WHERE kind = 'Nonsense'")) == inbox.BATCH + 1
    assert attempts.lease(worker, [StepId(*run, "a#1")], "w1") == ()
    assert {found.invariant for found in doctor.examine(main.database)} == {doctor.FOLD}


def test_a_run_that_others_hold_or_whose_turn_failed_once_is_left_alone(main, settings):
    run = submit(main, publish(main, LINE))
    as_owner(settings, NONSENSE, id=run.run)
    assert control.cancel(main, run, by="ada") == "running"
    assert not abandonment.abandon(main, run), "it failed once"
    turns.take_turns(main, [run], force=True)
    with session.transaction(main.database) as connection:
        assert run_rows.lock(connection, [run], force=True)
        assert not abandonment.abandon(main, run), "it is held"
    assert abandonment.abandon(main, run)
    assert not abandonment.abandon(main, run), "it has ended"


def test_a_run_that_nobody_asked_to_stop_is_never_ended(main, worker, settings):
    run = submit(main, publish(main, LINE))
    as_owner(settings, NONSENSE, id=run.run)
    finish(main, worker, take(worker, run, "a#1"))
    turns.take_turns(main, [run], force=True)
    with pytest.raises(Conflict, match="nobody asks"):
        abandonment.abandon(main, run)
    (waiting,) = sql(main, "SELECT kind FROM inbox")
    assert waiting.kind == msg.AttemptSucceeded.__name__
