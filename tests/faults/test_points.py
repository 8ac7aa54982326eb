"""`kill -9` at every named point of the protocol, on real processes."""

from __future__ import annotations

import pytest

from engine import faults
from engine.runs import doctor, views
from tests.support.fleet import wait_until

#: At these points a step is leased, and waits until the lease of the process that died is over.
HOLDING = {faults.LEASE_COMMITTED, faults.EFFECT_DONE}
#: At these user code has run, too, and what it did is lost with its process.
INTERRUPTING = {faults.EFFECT_DONE}
#: One worker, so that it is certain who takes what.
ONE_OF_EACH = ("worker1", "coordinator1")


@pytest.mark.parametrize(
    "point",
    [
        faults.LEASE_COMMITTED,
        faults.EFFECT_DONE,
        faults.REPORT_COMMITTED,
        faults.TURN_INSIDE,
        faults.TURN_COMMITTED,
        faults.SWEEP_INSIDE,
    ],
)
def test_a_process_that_dies_there_stops_nothing(stage, point):
    first = stage.submit()
    stage.check([first])
    for version in (stage.chain, stage.looping):
        armed = stage.arm(point)
        # One run alone: what else a process is at when it dies is lost with it, at any point.
        run = stage.submit(version)
        stage.await_death(armed)
        if point in HOLDING:
            wait_until(lambda: bool(stage.age()), what="the step that it held")
        stage.check([run])
        again = [tries for tries in stage.ran(run).values() if len(tries) > 1]
        assert again == ([[1, 2]] if point in INTERRUPTING else [])
    assert doctor.examine(stage.platform.database) == ()


@pytest.mark.parametrize("worker_turns", [True])
@pytest.mark.parametrize(
    ("point", "attempts"),
    [
        (faults.EFFECT_DONE, [1, 2]),
        # What it reported is lost with the turn: they are one commit.
        (faults.TURN_INSIDE, [1, 2]),
        (faults.REPORT_COMMITTED, [1]),
        (faults.TURN_COMMITTED, [1]),
        (faults.LEASE_COMMITTED, [1]),
    ],
)
def test_a_worker_that_takes_turns_and_dies_there_stops_nothing(stage, tmp_path, point, attempts):
    go = tmp_path / "go"
    run = stage.submit(go=go)
    wait_until(lambda: bool(stage.ran(run)), what="the first step to begin")
    armed = stage.arm(point)
    go.touch()
    stage.await_death(armed)
    # Either the step that it was at, or the one that it took with its report.
    held = "a#1" if len(attempts) > 1 else "b#1"
    wait_until(lambda: stage.age() == [held], what="the step that it held")
    stage.check([run])
    assert stage.ran(run)[("a", 1)] == attempts
    assert stage.ran(run)[("b", 1)] == [1 if held == "a#1" else 2]
    assert doctor.examine(stage.platform.database) == ()


@pytest.mark.parametrize("stage", [ONE_OF_EACH], indirect=True)
def test_what_a_process_was_at_beside_the_point_is_lost_and_run_again(stage, tmp_path):
    stage.check([stage.submit()])
    go = tmp_path / "go"
    beside = stage.submit(go=go)
    wait_until(lambda: bool(stage.ran(beside)), what="the first step to begin")
    armed = stage.arm(faults.REPORT_COMMITTED)
    run = stage.submit()
    stage.await_death(armed)
    wait_until(lambda: stage.age() == ["a#1"], what="the step that it was at")
    go.touch()
    stage.check([run, beside])
    assert [tries for tries in stage.ran(run).values() if len(tries) > 1] == []
    assert stage.ran(beside)[("a", 1)] == [1, 2]
    (first, *others) = views.steps(stage.platform, beside)
    assert [a.outcome for a in first.attempts] == ["lost", "succeeded"]
    assert all(len(step.attempts) <= 1 for step in others)
    assert doctor.examine(stage.platform.database) == ()


def test_user_code_that_is_killed_is_run_again(stage, tmp_path):
    go = tmp_path / "go"
    run = stage.submit(go=go)
    wait_until(lambda: bool(stage.ran(run)), what="the first step to begin")
    # Children that wait for the next execution of installed code are killed, too.
    assert sum(stage.fleet.kill_children(name) for name in ("worker1", "worker2")) >= 1
    go.touch()
    stage.check([run])
    assert stage.ran(run)[("a", 1)] == [1, 2]
    first = views.steps(stage.platform, run)[0]
    assert [(a.attempt, a.outcome, a.reason) for a in first.attempts] == [
        (1, "failed", "killed"),
        (2, "succeeded", None),
    ]
