"""A deploy: a worker that is told to end, and another that takes over."""

from __future__ import annotations

import os
import signal

import pytest
import redis

from engine.broker import STEPS
from engine.runs import doctor, views
from tests.faults.conftest import Stage
from tests.support.fleet import fleet, wait_until
from tests.support.platforms import sql

OTHERS = 6


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
