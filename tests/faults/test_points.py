"""`kill -9` at every named point of the protocol, on real processes."""

from __future__ import annotations

import pytest

from engine import faults
from engine.runs import views
from tests.support.fleet import wait_until

#: At these points an attempt has begun, and what it did is lost with its process.
INTERRUPTING = {faults.EFFECT_DONE}


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
    armed = stage.arm(point)
    runs = [stage.submit(), stage.submit(stage.looping)]
    wait_until(lambda: not armed.exists(), what=f"a process to die at {point}")
    stage.check(runs)
    tries = [tries for run in runs for tries in stage.ran(run).values()]
    again = [one for one in tries if len(one) > 1]
    if point in INTERRUPTING:
        assert again == [[1, 2]]
    else:
        assert again == []


def test_user_code_that_is_killed_is_run_again(stage):
    run = stage.submit(seconds=1.0)
    wait_until(lambda: bool(stage.ran(run)), what="the first step to begin")
    assert sum(stage.fleet.kill_children(name) for name in ("worker1", "worker2")) == 1
    stage.check([run])
    assert stage.ran(run)[("a", 1)] == [1, 2]
    first = views.steps(stage.platform, run)[0]
    assert [(a.attempt, a.outcome, a.reason) for a in first.attempts] == [
        (1, "failed", "killed"),
        (2, "succeeded", None),
    ]
