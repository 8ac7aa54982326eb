"""`kill -9`, again and again, of whoever carries runs that wait: for a child, items, a time, a lock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import faults
from engine.core.values import Json
from engine.runs import doctor, launch, views
from engine.store.ids import RunId
from tests.faults.conftest import Stage
from tests.support import platforms
from tests.support.fleet import wait_until

#: Processes that die at one point while the runs are under way.
DEATHS = 3
RUNS = 3
#: At these points a worker dies, and with it whatever else it carries out at that moment.
INTERRUPTING = {faults.LEASE_COMMITTED, faults.EFFECT_DONE, faults.REPORT_COMMITTED}

INPUTS: Json = {"witness": {"type": "string"}, "seconds": {"type": "number"}}
INNER: dict[str, Json] = {
    "workflow": "inner",
    "inputs": INPUTS,
    "nodes": {
        "pause": {"kind": "timer", "for": "300ms"},
        "work": {"uses": "mark", "save": {"marked": "$result.marked"}},
    },
    "edges": ["pause -> work -> end"],
    "outputs": {"marked": "$marked"},
}
OUTER: dict[str, Json] = {
    "workflow": "outer",
    "inputs": INPUTS,
    "variables": {"child": {}, "items": {}, "left": {"reduce": "merge", "type": "object"}},
    "nodes": {
        "start": {"kind": "start"},
        "child": {
            "kind": "workflow",
            "workflow": "inner",
            "with": {"witness": "$witness", "seconds": 0},
            "save": {"child": "$result.marked"},
        },
        "items": {
            "kind": "map",
            "over": [1, 2, 3],
            "do": "mark",
            "at_once": 2,
            "save": {"items": "$result"},
        },
        "nap": {"kind": "timer", "for": "200ms"},
        "in": {
            "uses": "mark",
            "lock": {"name": "door", "until": "out", "of": "tenant"},
            "with": {"seconds": 0.05},
            "save": {"left": {"in": "$result.marked"}},
        },
        "hold": {"kind": "timer", "for": "100ms"},
        "out": {
            "uses": "mark",
            "with": {"seconds": 0.05},
            "save": {"left": {"out": "$result.marked"}},
        },
    },
    "edges": [
        {"from": "start", "to": ["child", "items", "nap"], "type": "parallel"},
        "nap -> in -> hold -> out",
        {"from": ["child", "items", "out"], "to": "end", "type": "join"},
    ],
}


@pytest.mark.parametrize(
    "point",
    [
        faults.TURN_INSIDE,
        faults.TURN_COMMITTED,
        faults.LEASE_COMMITTED,
        faults.EFFECT_DONE,
        faults.REPORT_COMMITTED,
        faults.SWEEP_INSIDE,
    ],
)
def test_runs_that_wait_end_as_if_nobody_had_died(stage: Stage, point: str) -> None:
    platforms.register(stage.platform, "mark", library="tests.support.witness:mark")
    platforms.publish(stage.platform, INNER)
    version = platforms.publish(stage.platform, OUTER)
    stage.check([stage.submit()])
    armed = stage.arm(point)
    inputs = {"witness": str(stage.witness), "seconds": 0}
    stage.witness.unlink()
    runs = [
        launch.submit(stage.platform, platforms.TENANT, version, inputs, by="ada").run
        for _ in range(RUNS)
    ]
    stage.platform.broker.nudge(runs)

    for _ in range(DEATHS - 1):
        wait_until(lambda: not armed.exists(), what=f"a process to die at {point}")
        stage.arm(point)

    def ended() -> bool:
        # A worker dies with whatever else it holds, and a lease is as long as the patience of a test.
        stage.age()
        return all(views.status(stage.platform, run).terminal for run in runs)

    wait_until(ended, what="the runs to end")
    for run in runs:
        done = views.run(stage.platform, run)
        assert done.status == "completed", done
        assert done.variables["child"] == "work#1"
        assert done.variables["items"] == [{"marked": f"items#1.{place}"} for place in range(3)]
        assert done.variables["left"] == {"in": "in#1", "out": "out#1"}
        (child,) = _children(stage, run)
        assert views.status(stage.platform, child).status == "completed"
        items = [f"items#1.{place}" for place in range(3)]
        _check_effects(stage, run, ["in#1", "out#1", *items], point)
        _check_effects(stage, child, ["work#1"], point)
    _check_lock(stage.witness)
    assert platforms.sql(stage.platform, "SELECT * FROM lock") == []
    assert doctor.examine(stage.platform.database) == ()


def _children(stage: Stage, run: RunId) -> list[RunId]:
    rows = platforms.sql(
        stage.platform, "SELECT id::text FROM run WHERE parent_run = :run", run=run.run
    )
    return [RunId(run.tenant, row.id) for row in rows]


def _check_effects(stage: Stage, run: RunId, steps: list[str], point: str) -> None:
    """Every step had its effect once, or again where what it did was lost; the last one counts."""
    marks = [mark for mark in _marks(stage.witness) if mark[:2] == ("enter", run.run)]
    assert {step for _, _, step, _ in marks} == set(steps)
    for step in steps:
        tries = [attempt for _, _, marked, attempt in marks if marked == step]
        attempts = views.attempts(stage.platform, run, step)
        (accepted,) = [one.attempt for one in attempts if one.outcome == "succeeded"]
        assert tries == sorted(set(tries)), f"{step}: an attempt ran twice: {tries}"
        assert tries[-1] == accepted, f"{step} ran again after attempt {accepted} was accepted"
        assert len(tries) == 1 or point in INTERRUPTING, f"{step} ran again: {tries}"


def _check_lock(witness: Path) -> None:
    """From a run's first sign of `in` to its last of `out` there is none of another run."""
    inside = [run for _, run, step, _ in _marks(witness) if step in {"in#1", "out#1"}]
    turns = [run for place, run in enumerate(inside) if place == 0 or inside[place - 1] != run]
    assert len(turns) == len(set(turns)) == RUNS, inside


def _marks(witness: Path) -> Iterator[tuple[str, str, str, int]]:
    for line in witness.read_text().splitlines():
        kind, run, step, attempt = line.split()
        yield kind, run, step, int(attempt)
