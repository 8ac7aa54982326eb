"""Threads of a real worker that go on with what follows, each step a Celery task of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery.worker import state

from engine import lanes
from engine.broker import EXECUTE_STEP, STEPS
from engine.platform import Platform
from engine.runs import doctor, launch, views
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.fleet import Fleet, fleet, wait_for_end, wait_until, witnessed
from tests.support.monitors import heard, told
from tests.support.platforms import TENANT, publish, register
from workers import succession

VISIT = {"uses": "visit", "timeout": 60}


def line(*names: str, **others: Any) -> dict[str, Any]:
    nodes = {**dict.fromkeys(names, VISIT), **others}
    return {"workflow": "line", "nodes": nodes, "edges": [" -> ".join((*nodes, "end"))]}


@pytest.fixture
def chosen() -> dict[str, Any]:
    return {}


@pytest.fixture
def going(settings: Settings, chosen: dict[str, Any]) -> Settings:
    """A worker that takes turns; nothing is sent again while a test looks."""
    return replace(
        settings,
        worker_turns=True,
        concurrency=2,
        resend_seconds=60.0,
        lease_seconds=60.0,
        **chosen,
    )


@pytest.fixture
def platform(going: Settings) -> Iterator[Platform]:
    with platforms.platform(going) as built:
        register(built, "visit", library="tests.support.witness:visit")
        yield built


@pytest.fixture
def running(going: Settings, platform: Platform, tmp_path: Path) -> Iterator[Fleet]:
    with fleet(going, ["worker1", "coordinator1"], tmp_path) as started:
        wait_until(lambda: bool(platform.broker.app.control.ping(timeout=0.5)), what="a worker")
        yield started
    assert doctor.examine(platform.database) == ()


def start(platform: Platform, document: dict[str, Any], tmp_path: Path, **inputs: Any) -> RunId:
    variables = {"witness": str(tmp_path / "witness"), **inputs}
    run = launch.submit(platform, TENANT, publish(platform, document), variables, by="ada").run
    platform.broker.nudge([run])
    return run


@pytest.mark.usefixtures("running")
def test_each_step_is_a_celery_task_of_its_own_and_one_comes_over_the_broker(
    platform: Platform, tmp_path: Path
) -> None:
    begun: list[int] = []
    with heard(platform) as found:
        run = start(platform, line("a", "b", "c"), tmp_path)
        wait_for_end(platform, [run])
        wait_until(lambda: told(found, run).total() == 9, what="all that is told of three steps")
    kinds = ("task-received", "task-started", "task-succeeded")
    assert told(found, run) == Counter((f"{n}#1", kind) for n in "abc" for kind in kinds)
    stats = platform.broker.app.control.inspect().stats()
    begun = [
        stat["total"][EXECUTE_STEP] for stat in stats.values() if EXECUTE_STEP in stat["total"]
    ]
    assert begun == [3]
    # A step that was taken with its turn has never been sent.
    attempts = views.attempts(platform, run)
    assert [(one.step, one.outcome) for one in attempts] == [
        (f"{name}#1", "succeeded") for name in "abc"
    ]


@pytest.mark.usefixtures("running")
def test_nobody_is_told_of_tasks_who_has_not_asked(platform: Platform) -> None:
    answers = platform.broker.app.control.enable_events(reply=True)
    assert answers
    assert {answer["ok"] for told in answers for answer in told.values()} == {"task events enabled"}


def test_a_worker_that_is_told_to_leave_its_queues_alone_goes_on_with_nothing(
    platform: Platform, running: Fleet, queues: redis.Redis, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    run = start(platform, line("a", "b"), tmp_path, go=str(go))
    wait_until(lambda: bool(witnessed(tmp_path / "witness")), what="the first step to begin")
    control = platform.broker.app.control
    (worker,) = [name for answer in control.ping() for name in answer if "worker" in name]
    for lane in lanes.names(STEPS):
        control.cancel_consumer(lane, destination=[worker], reply=True, timeout=10)
    go.touch()
    wait_until(lambda: queues.llen(STEPS) == 1, what="the second step's message")
    (waiting,) = [step for step in views.steps(platform, run) if step.status == "ready"]
    assert waiting.key == "b#1"
    for lane in lanes.names(STEPS):
        control.add_consumer(lane, destination=[worker], reply=True, timeout=10)
    wait_for_end(platform, [run])
    assert running.deaths["worker1"] == 0


def test_a_step_of_a_queue_that_the_worker_does_not_serve_is_sent(
    platform: Platform, running: Fleet, queues: redis.Redis, tmp_path: Path
) -> None:
    document = line("a", b={**VISIT, "queue": "elsewhere"})
    run = start(platform, document, tmp_path)
    wait_until(lambda: queues.llen("elsewhere") == 1, what="the second step's message")
    assert list(witnessed(tmp_path / "witness")) == [(run.run, "a", 1)]
    assert running.deaths["worker1"] == 0


@pytest.mark.usefixtures("running")
def test_a_thread_that_goes_on_counts_as_the_message_that_it_began_with(
    platform: Platform, queues: redis.Redis, tmp_path: Path
) -> None:
    """Two threads go on with steps that take their time: what is sent meanwhile stays with the broker."""
    first, then = tmp_path / "first", tmp_path / "then"
    first.touch()
    document = line("a", b={**VISIT, "with": {"go": str(then)}})
    runs = [start(platform, document, tmp_path) for _ in range(2)]
    seen = tmp_path / "witness"
    wait_until(
        lambda: sum(node == "b" for _, node, _ in witnessed(seen)) == 2, what="both to go on"
    )
    late = start(platform, line("c"), tmp_path)
    wait_until(lambda: queues.llen(STEPS) == 1, what="a message that nobody fetches")
    assert late.run not in {run for run, _, _ in witnessed(seen)}
    then.touch()
    wait_for_end(platform, [*runs, late])


def test_a_worker_that_is_told_to_end_goes_on_with_nothing_and_another_does(
    platform: Platform, running: Fleet, tmp_path: Path
) -> None:
    import signal  # noqa: PLC0415

    go = tmp_path / "go"
    run = start(platform, line("a", "b"), tmp_path, go=str(go))
    wait_until(lambda: bool(witnessed(tmp_path / "witness")), what="the first step to begin")
    before = running.pid("worker1")
    running.send("worker1", signal.SIGTERM)
    wait_until(lambda: _ending(platform), what="the worker to have heard")
    go.touch()
    wait_for_end(platform, [run])
    assert running.pid("worker1") != before
    assert [attempt.outcome for attempt in views.attempts(platform, run)] == ["succeeded"] * 2
    assert len({attempt.worker for attempt in views.attempts(platform, run)}) == 2


def _ending(platform: Platform) -> bool:
    """Whether no worker answers any more: it has left its loop, and waits for its threads."""
    answers = platform.broker.app.control.ping(timeout=0.5)
    return not any(name.startswith("worker") for answer in answers for name in answer)


@pytest.mark.parametrize("told", ["should_stop", "should_terminate"])
def test_nothing_more_is_given_to_threads_of_a_worker_that_is_to_end(
    monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    """Also where its consumer was not stopped: the best of exit statuses is 0."""
    pool = succession.TaskPool(limit=1)
    running = SimpleNamespace(state=1)
    pool.consumer = SimpleNamespace(task_consumer=object(), task_buckets={}, blueprint=running)
    assert pool.gives()
    monkeypatch.setattr(state, told, 0)
    assert not pool.gives()
    monkeypatch.setattr(state, told, None)
    running.state = 2
    assert not pool.gives()
