"""A deploy: a worker that is told to end, and another that takes over."""

from __future__ import annotations

import os
import signal

import pytest
import redis

from engine.broker import STEPS
from engine.runs import doctor, launch, tenants, views
from tests.faults.conftest import VISIT, Stage
from tests.support import platforms
from tests.support.fleet import fleet, wait_until
from tests.support.platforms import sql

OTHERS = 6
QUIET = {"workflow": "quiet", "nodes": {"a": VISIT}, "edges": ["a -> end"]}


@pytest.mark.parametrize("stage", [("worker1", "coordinator1")], indirect=True)
def test_a_worker_that_ends_holds_no_step_but_those_it_is_at(stage: Stage, tmp_path) -> None:
    """What it is not at it has neither leased nor fetched: it is another's at once."""
    go = tmp_path / "go"
    held = [stage.submit(go=go) for _ in range(stage.settings.concurrency)]
    wait_until(lambda: all(stage.ran(run) for run in held), what="every thread to be at a step")
    others = [stage.submit() for _ in range(OTHERS)]
    wait_until(lambda: ready(stage) == OTHERS, what="the others to be ready")
    ending = stage.fleet.pid("worker1")
    os.kill(ending, signal.SIGTERM)
    wait_until(lambda: "Warm shutdown" in stage.fleet.log("worker1"), what="it to have heard")
    assert queued(stage) >= OTHERS
    assert owners(stage) == {(ending, True): len(held)}
    with fleet(stage.settings, ["worker2"], tmp_path):
        # Leases last longer than is waited here, and none runs out.
        stage.check(others)
        assert owners(stage) == {(ending, True): len(held)}
        go.touch()
        stage.check(held)
    attempts = [one for run in (*held, *others) for one in views.attempts(stage.platform, run)]
    assert {(one.attempt, one.outcome) for one in attempts} == {(1, "succeeded")}
    assert doctor.examine(stage.platform.database) == ()


@pytest.mark.parametrize("stage", [("worker1", "coordinator1")], indirect=True)
def test_a_worker_that_was_told_to_end_without_a_broker_takes_nothing_when_that_is_back(
    stage: Stage, tmp_path
) -> None:
    """Celery ends what it has not started anew by stopping none of it: its consumer stays as it was."""
    tenants.create(stage.platform.database, "quiet", name="quiet", admin="ada")
    platforms.register(
        stage.platform, "visit", library="tests.support.witness:visit", tenant="quiet"
    )
    version = platforms.publish(stage.platform, QUIET, tenant="quiet")
    go = tmp_path / "go"
    held = [stage.submit(go=go) for _ in range(stage.settings.concurrency)]
    wait_until(lambda: all(stage.ran(run) for run in held), what="every thread to be at a step")
    ending = stage.fleet.pid("worker1")
    stage.servers.crash_valkey()
    wait_until(lambda: "Trying again" in stage.fleet.log("worker1"), what="it to miss the broker")
    os.kill(ending, signal.SIGTERM)
    wait_until(lambda: "Warm shutdown" in stage.fleet.log("worker1"), what="it to have heard")
    stage.servers.start_valkey()
    inputs = {"witness": str(stage.witness), "n": 0}
    quiet = [
        launch.submit(stage.platform, "quiet", version, inputs, by="ada").run for _ in range(3)
    ]
    stage.platform.broker.nudge(quiet)
    wait_until(lambda: ready(stage) == len(quiet), what="what it is not to take")
    with fleet(stage.settings, ["worker2"], tmp_path):
        stage.check(quiet)
        go.touch()
        stage.check(held)
    by = {one.worker for run in quiet for one in views.attempts(stage.platform, run)}
    assert not any(str(worker).endswith(f":{ending}") for worker in by)


def queued(stage: Stage) -> int:
    with redis.Redis.from_url(stage.servers.redis_url) as client:
        return int(client.llen(STEPS))


def ready(stage: Stage) -> int:
    return len(sql(stage.platform, "SELECT FROM step WHERE status = 'ready'"))


def owners(stage: Stage) -> dict[tuple[int, bool], int]:
    """How many steps each process holds, by whether their attempts have begun."""
    rows = sql(
        stage.platform,
        "SELECT worker, begun, count(*) AS held FROM step WHERE status = 'leased' GROUP BY 1, 2",
    )
    return {(int(row.worker.rpartition(":")[2]), row.begun): row.held for row in rows}
