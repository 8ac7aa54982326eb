from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text

from engine.core.state import State
from engine.core.transitions import RunStatus
from engine.core.values import Json
from engine.errors import NotFound
from engine.platform import DatabaseRole, Platform
from engine.runs import attempts, calls, control, launch, logs, sweep, turns, views
from engine.runs.attempts import Failed, Succeeded
from engine.settings import Settings
from engine.store import session
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.platforms import LINE, TENANT, Sent, finish, publish, register, submit, take

LOOP: dict[str, Json] = {
    "workflow": "loop",
    "nodes": {"a": {"uses": "noop"}},
    "edges": [{"from": "a", "to": "a", "label": "loop", "when": "$n < 6"}, "a -> end"],
}
RETRIED: dict[str, Json] = {
    "workflow": "retried",
    "nodes": {"a": {"uses": "noop", "retry": {"attempts": 2, "backoff": 3600}}},
    "edges": ["a -> end"],
}


@pytest.fixture
def main(settings: Settings) -> Iterator[Platform]:
    with platforms.platform(settings) as built:
        sent = dataclasses.replace(built, broker=Sent(app=built.broker.app))
        register(sent, "noop")
        register(sent, "lookup", namespace="tool")
        yield sent


@pytest.fixture
def worker(settings: Settings, main: Platform) -> Iterator[Platform]:
    with platforms.platform(settings, DatabaseRole.WORKER) as built:
        yield built


def looped(main: Platform, worker: Platform, laps: int = 6) -> RunId:
    """A run that went round, leaving enough behind for snapshots."""
    run = submit(main, publish(main, LOOP), n=0)
    for lap in range(1, laps + 1):
        finish(main, worker, take(worker, run, f"a#{lap}"), n=lap, text=f"{lap}" * 6_000)
    return run


VIEWS: dict[str, Callable[[Platform, RunId], Any]] = {
    "status": views.status,
    "run": views.run,
    "steps": views.steps,
    "step": lambda main, run: views.step(main, run, "a#1"),
    "result": lambda main, run: views.result(main, run, "a#1"),
    "attempts": views.attempts,
    "history": views.history,
    "calls": views.calls,
    "logs": views.logs,
    "checkpoints": views.checkpoints,
    "state_at": lambda main, run: views.state_at(main, run, 0),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_run_that_does_not_exist_is_not_found(
    main: Platform, view: Callable[[Platform, RunId], Any]
) -> None:
    run = submit(main, publish(main, dict(LINE)))
    unknown = ["01975c3e-0000-7000-8000-000000000001", "nonsense", "", "' OR true --"]
    for wrong in (*(RunId(TENANT, name) for name in unknown), RunId("other", run.run)):
        with pytest.raises(NotFound, match="Run not found"):
            view(main, wrong)


def test_a_step_that_does_not_exist_is_not_found(main: Platform) -> None:
    run = submit(main, publish(main, dict(LINE)))
    with pytest.raises(NotFound, match="Step not found: a#2"):
        views.step(main, run, "a#2")
    assert views.result(main, run, "a#2") is None
    assert views.attempts(main, run, "a#2") == ()


def test_a_place_that_history_does_not_have_is_not_found(main: Platform) -> None:
    run = submit(main, publish(main, dict(LINE)))
    last = views.status(main, run).seq
    for seq in (-1, last + 1, 2**62):
        with pytest.raises(NotFound, match=f"has lines 1 to {last}, no line {seq}"):
            views.state_at(main, run, seq)


def test_a_queued_run_waits_for_its_first_turn(main: Platform) -> None:
    run = launch.submit(main, TENANT, publish(main, dict(LINE)), {}, by="ada").run
    detail = views.run(main, run)
    assert (detail.status, detail.seq, detail.steps) == (RunStatus.QUEUED, 0, ())
    assert (detail.started_at, detail.finished_at) == (None, None)
    assert detail.waiting_since is not None
    assert detail.waiting_since >= detail.created_at
    for view in (views.steps, views.history, views.checkpoints, views.attempts):
        assert view(main, run) == ()
    assert views.state_at(main, run, 0) == State(run=run.run)


def test_a_run_waits_unless_something_is_being_carried_out(
    main: Platform, worker: Platform
) -> None:
    run = submit(main, publish(main, dict(LINE)))
    ready = views.run(main, run)
    assert ready.waiting_since == ready.changed_at
    assert [(s.key, s.status, s.worker, s.begun) for s in ready.steps] == [
        ("a#1", "ready", None, False)
    ]
    lease = take(worker, run, "a#1")
    leased = views.run(main, run)
    assert leased.waiting_since is None
    assert [(s.status, s.worker, s.begun) for s in leased.steps] == [("leased", "w1", True)]
    attempts.report(worker, "w1", [(lease, Succeeded())])
    reported = views.run(main, run)
    assert reported.waiting_since is not None
    assert reported.waiting_since > leased.changed_at
    turns.take_turns(main, [run])
    control.cancel(main, run, by="ada", reason="enough")
    ended = views.run(main, run)
    assert (ended.status, ended.reason, ended.message) == ("cancelled", "cancelled", "enough")
    assert (ended.waiting_since, ended.steps) == (None, ())


def test_a_run_is_shown_with_its_workflow_and_what_it_left(
    main: Platform, worker: Platform
) -> None:
    run = submit(main, publish(main, LOOP), n=5)
    finish(main, worker, take(worker, run, "a#1"), n=6)
    detail = views.run(main, run)
    assert (detail.workflow, detail.version, detail.submitted_by) == ("loop", "1.0.0", "ada")
    assert (detail.status, detail.variables) == ("completed", {"n": 6})
    assert detail.pins == {"function:noop": 1}
    assert detail.finished_at is not None


def test_every_step_is_shown_with_its_fate(main: Platform, worker: Platform) -> None:
    run = submit(main, publish(main, RETRIED))
    finish(main, worker, take(worker, run, "a#1"), Failed(reason="error", message="boom"))
    (step,) = views.steps(main, run)
    assert (step.status, step.settled_at, step.live is not None) == ("retrying", None, True)
    assert [(a.attempt, a.outcome, a.reason, a.message) for a in step.attempts] == [
        (1, "failed", "error", "boom")
    ]
    control.cancel(main, run, by="ada")
    (step,) = views.steps(main, run)
    assert (step.status, step.live) == ("cancelled", None)
    assert step.settled_at is not None

    run = submit(main, publish(main, dict(LINE)))
    finish(main, worker, take(worker, run, "a#1"), n=1)
    take(worker, run, "b#1")
    first, second = views.steps(main, run)
    assert (first.key, first.status, first.via) == ("a#1", "succeeded", None)
    assert [edge["edge"] for edge in first.taken] == ["a->b"]
    assert (second.status, second.via, second.attempts[0].outcome) == ("leased", "a->b", None)
    assert second.requested_at == first.settled_at

    run = submit(main, publish(main, dict(LINE)))
    finish(main, worker, take(worker, run, "a#1"), Failed(reason="error", message="boom"))
    (step,) = views.steps(main, run)
    assert (step.status, views.run(main, run).ended_step) == ("failed", "a#1")


def test_steps_page_in_the_order_they_were_begun(main: Platform, worker: Platform) -> None:
    run = looped(main, worker)
    every = views.steps(main, run)
    assert [step.key for step in every] == [*(f"a#{lap}" for lap in range(1, 7)), "end#1"]
    paged: list[views.Step] = []
    after = 0
    while page := views.steps(main, run, after=after, limit=2):
        paged += page
        after = page[-1].seq
    assert tuple(paged) == every
    for step in every:
        assert views.step(main, run, step.key) == step


def test_untaken_edges_say_why(main: Platform, worker: Platform) -> None:
    run = looped(main, worker)
    last = views.step(main, run, "a#6")
    assert [edge["edge"] for edge in last.taken] == ["a->end"]
    assert [(edge["edge"], edge["why"]) for edge in last.untaken] == [("a->a", "condition")]


def test_the_result_of_a_step_is_that_of_its_accepted_attempt(
    main: Platform, worker: Platform
) -> None:
    run = submit(main, publish(main, RETRIED))
    finish(main, worker, take(worker, run, "a#1"), Failed(reason="error", message="boom"))
    assert views.result(main, run, "a#1") is None
    _wake(main)
    finish(main, worker, take(worker, run, "a#1"), Succeeded(result=[1, None], patch={"n": 1}))
    assert views.result(main, run, "a#1") == views.Result(result=[1, None], patch={"n": 1})
    assert [(a.attempt, a.outcome) for a in views.attempts(main, run)] == [
        (1, "failed"),
        (2, "succeeded"),
    ]


def test_runs_are_listed_newest_first_by_tenant_status_and_workflow(
    main: Platform, worker: Platform
) -> None:
    line, loop = publish(main, dict(LINE)), publish(main, LOOP)
    ids = [
        submit(main, version, **more).run
        for version, more in [(line, {}), (loop, {"n": 0}), (line, {})]
    ]
    control.cancel(main, RunId(TENANT, ids[0]), by="ada")

    def listed(**options: Any) -> list[str]:
        return [run.id for run in views.runs(main, TENANT, **options)]

    assert listed() == ids[::-1]
    assert listed(workflow="line") == [ids[2], ids[0]]
    assert listed(version_id=loop) == [ids[1]]
    assert listed(statuses=[RunStatus.CANCELLED]) == [ids[0]]
    assert listed(statuses=[RunStatus.CANCELLED, RunStatus.RUNNING], workflow="line") == [
        ids[2],
        ids[0],
    ]
    assert listed(limit=2) == ids[:0:-1]
    assert listed(before=ids[1], limit=2) == [ids[0]]
    assert listed(before="nonsense") == []
    assert views.runs(main, "other") == ()


def test_history_is_read_on_from_any_line_with_or_without_users_data(
    main: Platform, worker: Platform
) -> None:
    run = looped(main, worker)
    every = views.history(main, run, limit=1000)
    assert [line.seq for line in every] == list(range(1, views.status(main, run).seq + 1))
    assert (every[0].kind, every[0].body["by"], every[0].payload) == ("RunSubmitted", "ada", None)
    assert [line.seq for line in views.history(main, run, after=3, limit=4)] == [4, 5, 6, 7]
    assert views.history(main, run, after=every[-1].seq) == ()
    first = views.history(main, run, limit=1, payloads=True)[0]
    assert (first.payload_id, first.payload) == ("input", {"inputs": {"n": 0}})
    assert len(every[0].hash) == 64


def test_calls_are_shown_with_how_they_ended(main: Platform, worker: Platform) -> None:
    run = submit(main, publish(main, dict(LINE)))
    lease = take(worker, run, "a#1")
    answers = [calls.Answer(value={"hits": 1}), calls.Answer(reason="error", message="boom"), None]
    for ordinal, answer in enumerate(answers, start=1):
        given: Json = {"q": ordinal}
        call = calls.authorise(worker, lease, ordinal, "lookup", given)
        assert isinstance(call, calls.Authorised)
        if answer is not None:
            calls.settle(worker, lease, call, answer)
    shown = views.calls(main, run, "a#1")
    assert [(c.ordinal, c.tool, c.arguments, c.outcome, c.value, c.reason) for c in shown] == [
        (1, "lookup", {"q": 1}, "succeeded", {"hits": 1}, None),
        (2, "lookup", {"q": 2}, "failed", None, "error"),
        (3, "lookup", {"q": 3}, "open", None, None),
    ]
    assert views.calls(main, run) == shown
    assert views.calls(main, run, "b#1") == ()


def test_whoever_follows_the_log_misses_no_line_and_sees_none_twice(
    main: Platform, worker: Platform
) -> None:
    run = submit(main, publish(main, RETRIED))
    seen: dict[tuple[str, int], int] = {}
    read: list[str] = []

    def follow() -> None:
        while lines := views.logs(main, run, after=seen, limit=2):
            for line in lines:
                seen[line.step, line.attempt] = line.line
                read.append(line.text)

    first = take(worker, run, "a#1")
    log = logs.Log(worker, first)
    for number in range(5):
        log.add("stdout", f"one {number}")
    log.flush()
    follow()
    log.add("stderr", "one more")
    log.flush()
    finish(main, worker, first, Failed(reason="error", message="boom"))
    _wake(main)
    again = logs.Log(worker, take(worker, run, "a#1"))
    again.add("stdout", "two")
    again.flush()
    follow()
    assert read == [*(f"one {number}" for number in range(5)), "one more", "two"]
    assert [line.text for line in views.logs(main, run, after={("a#1", 1): 6})] == ["two"]
    assert views.logs(main, run, key="b#1") == ()


def test_what_models_say_is_kept_in_order_by_call_and_only_so_much_of_it_is_shown(
    main: Platform, worker: Platform
) -> None:
    run = submit(main, publish(main, RETRIED))
    log = logs.Log(worker, take(worker, run, "a#1"))
    # The first words are shown at once, those that follow closely come together.
    log.say(1, "one ")
    assert [(line.call, line.text) for line in views.logs(main, run)] == [(1, "one ")]
    for word in ("two ", "three", "\x00"):
        log.say(1, word)
    log.say(2, "four")
    log.add("stdout", "printed")
    log.say(2, "five")
    log.flush()
    assert [(line.stream, line.call, line.text) for line in views.logs(main, run)][1:] == [
        ("tokens", 1, "two three�"),
        ("tokens", 2, "four"),
        ("stdout", None, "printed"),
        ("tokens", 2, "five"),
    ]
    for _ in range(30):
        log.say(3, "x" * 100_000)
    log.flush()
    shown = "".join(line.text for line in views.logs(main, run) if line.call == 3)
    assert len(shown) < 1_100_000
    assert shown.endswith("(no more of it is shown here)")


def test_every_settled_step_is_a_checkpoint_and_snapshots_are_marked(
    main: Platform, worker: Platform
) -> None:
    run = looped(main, worker)
    found = views.checkpoints(main, run)
    assert [c.step for c in found if c.step] == [step.key for step in views.steps(main, run)]
    snapshots = [c.seq for c in found if c.snapshot]
    assert 0 < len(snapshots) < 6
    assert [c.seq for c in views.checkpoints(main, run, after=found[0].seq, limit=2)] == [
        c.seq for c in found[1:3]
    ]


def test_the_state_at_any_line_is_the_fold_up_to_there(main: Platform, worker: Platform) -> None:
    run = looped(main, worker)
    last = views.status(main, run).seq
    with session.transaction(main.database) as connection:
        for seq in range(last + 1):
            whole = views.folded(connection, run, seq, snapshot=False)
            assert views.state_at(main, run, seq) == whole
    assert views.state_at(main, run, last).status is RunStatus.COMPLETED


def _wake(main: Platform) -> None:
    with session.transaction(main.database) as connection:
        connection.execute(text("UPDATE step SET wake_at = now() WHERE status = 'retrying'"))
    sweep.sweep(main)
