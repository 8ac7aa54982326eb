"""A worker that runs, answers Celery, and takes nothing while work is due."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.runs import doctor
from tests.faults.conftest import Stage
from tests.support.fleet import wait_until
from tests.support.platforms import sql
from workers.watchdog import DEAF

pytestmark = pytest.mark.parametrize("stage", [("worker1", "coordinator1")], indirect=True)


@pytest.fixture
def stall_seconds() -> float:
    return 2.0


def test_it_ends_itself_says_why_and_its_successor_does_the_work(stage: Stage) -> None:
    stage.check([stage.submit()])
    deaf = stage.fleet.pid("worker1")
    deafen(stage)
    run = stage.submit()
    wait_until(lambda: stage.fleet.deaths["worker1"] > 0, what="it to end itself")
    assert stage.fleet.ended == [DEAF]
    (said,) = lines(stage, "worker.deaf")
    assert (said["run"], said["step"], said["seconds"]) == (run.run, "a#1", 2.0)
    wait_until(lambda: stage.fleet.pid("worker1") != deaf, what="its successor")
    stage.check([run])
    assert doctor.examine(stage.platform.database) == ()


def test_it_finishes_what_it_is_at_before_it_ends(stage: Stage, tmp_path: Path) -> None:
    go = tmp_path / "go"
    held = stage.submit(go=go)
    wait_until(lambda: bool(stage.ran(held)), what="the step to begin")
    deafen(stage)
    due = stage.submit()
    wait_until(lambda: bool(lines(stage, "worker.deaf")), what="it to notice")
    go.touch()
    stage.check([held, due])
    assert set(map(tuple, stage.ran(held).values())) == {(1,)}


def test_one_whose_threads_are_all_at_work_stays_however_much_is_due(
    stage: Stage, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    held = [stage.submit(go=go) for _ in range(stage.settings.concurrency)]
    wait_until(lambda: all(stage.ran(run) for run in held), what="every thread to be at a step")
    due = stage.submit()
    wait_until(
        lambda: sent_again(stage) > 2, seconds=30, what="its message to be sent again and again"
    )
    assert lines(stage, "worker.deaf") == []
    go.touch()
    stage.check([*held, due])
    assert not stage.fleet.deaths


def deafen(stage: Stage) -> None:
    """Have the worker read its queue no more; it goes on to answer everything else."""
    control = stage.platform.broker.app.control
    (answer,) = control.cancel_consumer("steps", reply=True, timeout=10, limit=1)
    assert "ok" in next(iter(answer.values()))


def lines(stage: Stage, event: str) -> list[dict[str, object]]:
    """What the worker has logged of one kind."""
    found = [json.loads(line) for line in stage.fleet.log("worker1").splitlines() if "{" in line]
    return [line for line in found if line.get("event") == event]


def sent_again(stage: Stage) -> int:
    ((sends,),) = sql(
        stage.platform, "SELECT coalesce(max(sends), 0) FROM step WHERE status = 'ready'"
    )
    return int(sends)
