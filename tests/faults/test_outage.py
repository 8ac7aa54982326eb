"""A database that is away for as long as leases last."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from engine.runs import doctor, views
from tests.faults.conftest import Stage
from tests.support.fleet import wait_until

RUNS = 3


@pytest.fixture
def lease_seconds() -> float:
    """Short: these tests sit them out."""
    return 2.0


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("leases", [0.7, 1.1])
def test_a_database_that_is_away_for_a_lease_fails_no_run(stage: Stage, leases: float) -> None:
    runs = [stage.submit(seconds=2 * stage.settings.lease_seconds) for _ in range(RUNS)]
    wait_until(lambda: all(stage.ran(run) for run in runs), what="the first steps to begin")
    stage.servers.crash_postgres()
    threading.Event().wait(leases * stage.settings.lease_seconds)
    stage.servers.start_postgres()
    stage.check(runs, seconds=200)
    assert doctor.examine(stage.platform.database) == ()


@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.parametrize("stage", [("worker1", "coordinator1")], indirect=True)
@pytest.mark.parametrize(
    "signals",
    [
        [signal.SIGTERM],
        [signal.SIGTERM, signal.SIGTERM],
        [signal.SIGQUIT],
        [signal.SIGINT, signal.SIGINT],
    ],
    ids=lambda signals: "+".join(number.name for number in signals),
)
def test_a_worker_that_is_told_to_end_fails_no_run_and_leaves_no_process(
    stage: Stage, signals: list[signal.Signals]
) -> None:
    run = stage.submit(seconds=2.0)
    wait_until(lambda: bool(stage.ran(run)), what="the first step to begin")
    pid = stage.fleet.pid("worker1")
    forks = stage.fleet.forks("worker1")
    assert forks
    for number in signals:
        _send(pid, number)
    wait_until(lambda: stage.fleet.deaths["worker1"] > 0, what="the worker to end")
    wait_until(
        lambda: not any(Path(f"/proc/{fork}").exists() for fork in forks), what="its forks to end"
    )
    stage.check([run])
    assert all(
        attempt.reason in {None, "lost", "killed"}
        for attempt in views.attempts(stage.platform, run)
    )


def _send(pid: int, number: signal.Signals) -> None:
    """A signal to a process that may have heeded an earlier one."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
