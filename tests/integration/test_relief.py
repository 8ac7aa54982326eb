"""The thread that a real worker spares for those of whom it carries nothing out."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from structlog.testing import capture_logs

from engine import envelope, lanes
from engine.broker import EXECUTE_STEP, STEPS, TAKE_TURNS, TURNS, connect
from engine.envelope import Message, enveloped, lists
from engine.platform import Platform
from engine.runs import doctor, launch, tenants, views
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.fleet import Fleet, fleet, wait_for_end, wait_until, witnessed
from tests.support.monitors import heard, told
from tests.support.platforms import sql
from workers.relief import Relief
from workers.succession import Threads

BUSY, QUIET, OTHER = platforms.TENANT, "quiet", "other"
THREADS = 2
VISIT = {"uses": "visit", "timeout": 300}
ONCE = {"workflow": "once", "nodes": {"a": VISIT}, "edges": ["a -> end"]}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A worker whose threads one tenant holds, and others who come."""

    platform: Platform
    fleet: Fleet
    versions: Mapping[str, str]
    folder: Path

    def submit(
        self,
        tenant: str,
        *,
        held: bool = True,
        nudge: Callable[[Sequence[RunId]], None] | None = None,
    ) -> RunId:
        """A run of one step, which waits for `let_go` where it is to be held."""
        inputs = {"witness": str(self.folder / "witness"), "n": 0}
        if held:
            inputs["go"] = str(self.folder / f"go-{tenant}")
        run = launch.submit(self.platform, tenant, self.versions[tenant], inputs, by="ada").run
        (nudge or self.platform.broker.nudge)([run])
        return run

    def let_go(self, tenant: str) -> None:
        (self.folder / f"go-{tenant}").touch()

    def begun(self, run: RunId) -> bool:
        return any(of == run.run for of, _, _ in witnessed(self.folder / "witness"))

    def flood(self, *, threads: int = THREADS) -> list[RunId]:
        """Runs of the busy tenant: each thread is at one of them, and as many wait."""
        runs = [self.submit(BUSY) for _ in range(2 * threads)]
        wait_until(lambda: sum(map(self.begun, runs)) == threads, what="every thread to be at work")
        wait_until(lambda: self.ready() == threads, what="the others to be ready")
        return runs

    def ready(self) -> int:
        return len(sql(self.platform, "SELECT FROM step WHERE status = 'ready'"))


@pytest.fixture
def chosen() -> dict[str, Any]:
    """What a test asks for besides."""
    return {}


@pytest.fixture
def given(settings: Settings, chosen: dict[str, Any]) -> Settings:
    """Nothing is sent again, nor is a lease over, while a test looks."""
    terms = {"concurrency": THREADS, "resend_seconds": 60.0, "lease_seconds": 60.0, **chosen}
    return replace(settings, **terms)


@pytest.fixture
def stage(given: Settings, tmp_path: Path) -> Iterator[Stage]:
    with platforms.platform(given) as built:
        versions = {}
        for tenant in (BUSY, QUIET, OTHER):
            if tenant != BUSY:
                tenants.create(built.database, tenant, name=tenant, admin="ada")
            platforms.register(built, "visit", library="tests.support.witness:visit", tenant=tenant)
            versions[tenant] = platforms.publish(built, ONCE, tenant=tenant)
        with fleet(given, ["worker1", "coordinator1"], tmp_path) as started:
            wait_until(lambda: bool(worker(built)), what="a worker")
            yield Stage(platform=built, fleet=started, versions=versions, folder=tmp_path)
        assert doctor.examine(built.database) == ()


def worker(platform: Platform) -> str | None:
    """What Celery calls the worker, if it answers."""
    answers = platform.broker.app.control.ping(timeout=0.5)
    return next((name for answer in answers for name in answer if "worker" in name), None)


@pytest.mark.parametrize("chosen", [{"worker_turns": False}, {"worker_turns": True}])
def test_who_is_left_out_waits_for_no_thread_and_the_busy_get_none_more(stage: Stage) -> None:
    busy = stage.flood()
    quiet = [stage.submit(QUIET, held=False) for _ in range(3)]
    wait_for_end(stage.platform, quiet)
    assert sum(map(stage.begun, busy)) == THREADS
    stage.let_go(BUSY)
    wait_for_end(stage.platform, busy)
    tries = [one for run in (*busy, *quiet) for one in views.attempts(stage.platform, run)]
    assert [(one.attempt, one.outcome) for one in tries] == [(1, "succeeded")] * 7


@pytest.mark.parametrize("chosen", [{"worker_turns": False}, {"worker_turns": True}])
def test_who_is_left_out_waits_for_no_thread_where_nothing_else_is_ready(stage: Stage) -> None:
    """Then all steps are in one lane, those of whom the threads are at and his."""
    busy = [stage.submit(BUSY) for _ in range(THREADS)]
    wait_until(lambda: all(map(stage.begun, busy)), what="every thread to be at work")
    quiet = stage.submit(QUIET)
    wait_until(lambda: stage.begun(quiet), what="his step to begin")
    more = [stage.submit(BUSY) for _ in range(THREADS)]
    wait_until(lambda: stage.ready() == THREADS, what="more of the busy tenant to be ready")
    stage.let_go(QUIET)
    wait_for_end(stage.platform, [quiet])
    again = stage.submit(QUIET, held=False)
    wait_for_end(stage.platform, [again])
    assert not any(map(stage.begun, more))


def test_it_is_spared_for_one_at_a_time(stage: Stage) -> None:
    stage.flood()
    first = stage.submit(QUIET)
    wait_until(lambda: stage.begun(first), what="the one who is left out to be served")
    second = stage.submit(OTHER)
    wait_until(lambda: stage.ready() == THREADS + 1, what="the next to be ready")
    stage.let_go(QUIET)
    wait_until(lambda: stage.begun(second), what="the next to be served")
    assert views.status(stage.platform, first).terminal
    assert len(sql(stage.platform, "SELECT FROM step WHERE status = 'leased'")) == THREADS + 1


def test_what_it_carries_out_is_a_celery_task_like_any_other(stage: Stage) -> None:
    stage.flood()
    with heard(stage.platform) as found:
        run = stage.submit(QUIET)
        wait_until(lambda: stage.begun(run), what="its step to begin")
        tasks = stage.platform.broker.app.control.inspect(timeout=5).active()
        stage.let_go(QUIET)
        wait_for_end(stage.platform, [run])
        wait_until(lambda: told(found, run).total() == 3, what="all that is told of a step")
    kinds = ("task-received", "task-started", "task-succeeded")
    assert told(found, run) == {("a#1", kind): 1 for kind in kinds}
    at = [task["delivery_info"]["routing_key"] for some in tasks.values() for task in some]
    assert sorted(at) == [STEPS] * THREADS + [lanes.name(STEPS, 1)]


def test_a_worker_that_is_told_to_leave_a_queue_alone_spares_nothing_for_it(
    stage: Stage, queues: redis.Redis
) -> None:
    stage.flood()
    lane = lanes.name(STEPS, 1)
    control = stage.platform.broker.app.control
    control.cancel_consumer(lane, destination=[worker(stage.platform)], reply=True, timeout=10)
    run = stage.submit(QUIET, held=False)
    wait_until(lambda: queues.llen(lane) == 1, what="a message that nobody takes")
    # What is looked for by then is looked for without that lane.
    other = stage.submit(OTHER, held=False)
    wait_until(lambda: stage.begun(other), what="another to be served")
    assert not stage.begun(run)
    control.add_consumer(lane, destination=[worker(stage.platform)], reply=True, timeout=10)
    wait_for_end(stage.platform, [run])


def test_a_worker_that_is_told_to_end_ends_what_it_spared_a_thread_for(
    stage: Stage,
) -> None:
    stage.flood()
    run = stage.submit(QUIET)
    wait_until(lambda: stage.begun(run), what="its step to begin")
    before = stage.fleet.pid("worker1")
    os.kill(before, signal.SIGTERM)
    wait_until(lambda: "Warm shutdown" in stage.fleet.log("worker1"), what="it to have heard")
    late = stage.submit(OTHER, held=False)
    wait_until(lambda: stage.ready() == THREADS + 1, what="one that it does not take any more")
    stage.let_go(BUSY)
    stage.let_go(QUIET)
    wait_for_end(stage.platform, [run, late])
    (one,) = views.attempts(stage.platform, run)
    assert (one.attempt, one.outcome) == (1, "succeeded")
    assert one.worker.endswith(f":{before}")


@pytest.mark.parametrize("chosen", [{"concurrency": 1}])
def test_a_worker_of_one_thread_is_at_one_step_at_a_time(stage: Stage, queues: redis.Redis) -> None:
    stage.flood(threads=1)
    run = stage.submit(QUIET, held=False)
    wait_until(lambda: queues.llen(lanes.name(STEPS, 1)) == 1, what="a message that nobody takes")
    assert not stage.begun(run)
    stage.let_go(BUSY)
    wait_for_end(stage.platform, [run])


@pytest.mark.parametrize("chosen", [{"worker_turns": True}])
def test_turns_do_not_wait_among_steps(stage: Stage, queues: redis.Redis) -> None:
    stage.flood()
    quiet = stage.submit(QUIET)
    wait_until(lambda: stage.begun(quiet), what="the spare thread to be at work, too")
    later = [stage.submit(OTHER, held=False) for _ in range(3)]
    wait_until(lambda: queues.llen(TURNS) == len(later), what="turns that wait for a thread")
    assert queues.llen(STEPS) == THREADS
    stage.let_go(QUIET)
    # The busy tenant's go on all the while.
    wait_for_end(stage.platform, later)


def test_workers_that_take_no_turns_ask_who_does_where_they_are_nudged_for_them(
    stage: Stage, queues: redis.Redis
) -> None:
    """The web was told that workers take turns, and they were not."""
    nudging = connect(replace(stage.platform.settings, worker_turns=True))
    run = stage.submit(QUIET, held=False, nudge=nudging.nudge)
    wait_for_end(stage.platform, [run])
    nudging.close()
    assert not any(queues.exists(lanes.name(TURNS, lane)) for lane in (0, 1))


class Given:
    """Threads that do as a test says."""

    def __init__(self) -> None:
        self.full = self.may = True
        self.received: list[bytes] = []
        self.looked = threading.Event()

    def are_full(self, *, seconds: float) -> bool:
        assert seconds < 1
        self.looked.set()
        return self.full

    def at(self) -> Sequence[tuple[str, bytes]]:
        """A step of one tenant, and a turn of another."""
        opened = (
            (EXECUTE_STEP, message("busy")),
            (TAKE_TURNS, message("turning", task=TAKE_TURNS)),
        )
        return [(task, envelope.opened(text)[0]) for task, text in opened]

    def are_cut_short(self) -> bool:
        return False

    def may_take(self, _: str) -> bool:
        return self.may

    def receive(self, text: bytes) -> bool:
        self.received.append(text)
        return True


@pytest.fixture
def threads() -> Given:
    return Given()


@contextmanager
def looking(url: str, threads: Given) -> Iterator[Relief]:
    found = lists(url, timeout=5)
    assert found is not None
    relief = Relief(lists=found, threads=cast("Threads", threads), queues=["line", "turns"])
    relief.start()
    try:
        yield relief
    finally:
        relief.close()
        found.close()


def message(tenant: str, *, task: str = EXECUTE_STEP) -> bytes:
    run = "0190c0de-0000-7000-8000-000000000001"
    args = [tenant, run, "a#1"] if task == EXECUTE_STEP else [[[tenant, run]]]
    return enveloped(Message(queue="line", task=task, args=args, title=f"of {tenant}"))


@pytest.mark.parametrize("change", ["told to leave it alone", "a thread has become free"])
def test_what_comes_when_it_is_not_to_be_taken_any_more_is_put_back(
    valkey_url: str, queues: redis.Redis, threads: Given, change: str
) -> None:
    first, second = message("quiet"), message("quiet")
    with looking(valkey_url, threads):
        wait_until(lambda: waits(queues), what="it to look")
        if change == "a thread has become free":
            threads.full = False
        else:
            threads.may = False
        threads.looked.clear()
        queues.lpush("line", first, second)
        assert threads.looked.wait(10)
        wait_until(lambda: queues.llen("line") == 2, what="it to be put back")
    assert queues.lrange("line", 0, -1) == [second, first]
    assert threads.received == []


@pytest.mark.parametrize(
    "next_one",
    [
        message("busy"),
        message("turning"),
        message("quiet", task="of somebody else"),
        b"{}",
        b"no message",
        b"[]",
        b'{"body": 1}',
    ],
    ids=[
        "a tenant that is served",
        "one whose turn is taken",
        "a strange task",
        "empty",
        "not JSON",
        "a list",
        "no body",
    ],
)
def test_what_is_not_for_it_stays_next_in_its_queue_and_keeps_it_from_no_other(
    valkey_url: str, queues: redis.Redis, threads: Given, next_one: bytes
) -> None:
    quiet, behind = message("quiet"), message("other")
    queues.lpush("line", next_one, behind)
    with looking(valkey_url, threads):
        queues.lpush("turns", quiet)
        wait_until(lambda: threads.received == [quiet], what="what is for it to be taken")
        # Somebody else takes what is not, and then it is asked for again.
        # (It is out of its queue while it is looked at.)
        wait_until(lambda: queues.lrem("line", 1, next_one) == 1, what="the other to be had")
        wait_until(lambda: threads.received == [quiet, behind], what="the next to be taken")
    assert not queues.exists("line")


def test_turns_are_taken_whoever_is_served(
    valkey_url: str, queues: redis.Redis, threads: Given
) -> None:
    turn = message("busy", task=TAKE_TURNS)
    with looking(valkey_url, threads):
        queues.lpush("line", message("busy"))
        queues.lpush("turns", turn)
        wait_until(lambda: threads.received == [turn], what="the turn to be taken")
        wait_until(lambda: queues.llen("line") == 1, what="the step to be left")


def test_what_was_not_carried_out_is_the_consumers(
    valkey_url: str, queues: redis.Redis, threads: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = threading.Event()

    def refuse(_: bytes) -> bool:
        refused.set()
        return False

    monkeypatch.setattr(threads, "receive", refuse)
    queues.lpush("line", message("quiet"))
    with looking(valkey_url, threads):
        assert refused.wait(10)
    assert queues.lrange("line", 0, -1) != []


def test_a_broker_that_is_away_is_told_of_once_and_looked_for_again(
    threads: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.relief.LOOK", 0.05)
    with capture_logs() as logs, looking("redis://127.0.0.1:1/0", threads):
        for _ in range(5):
            threads.looked.clear()
            assert threads.looked.wait(10)
    (failed,) = logs
    assert (failed["event"], failed["log_level"]) == ("relief.failed", "warning")


def test_a_stop_that_is_cut_short_does_not_wait_for_what_it_is_at(
    valkey_url: str, queues: redis.Redis, threads: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_it, go = threading.Event(), threading.Event()

    def stay(_: bytes) -> bool:
        at_it.set()
        return go.wait(60)

    monkeypatch.setattr(threads, "receive", stay)
    monkeypatch.setattr(threads, "are_cut_short", at_it.is_set)
    queues.lpush("line", message("quiet"))
    with looking(valkey_url, threads):
        assert at_it.wait(10)
    go.set()


def waits(client: redis.Redis) -> bool:
    """Whether somebody waits for a message."""
    return any(one["cmd"] == "brpop" for one in client.client_list())
