"""Lists of steps that turn a thousand times, while whoever carries them out is killed."""

from __future__ import annotations

import json

import pytest

from engine.runs import agents, doctor, launch, views
from engine.store.ids import RunId
from tests.faults.conftest import Stage
from tests.support.fleet import wait_for_end, wait_until
from tests.support.platforms import TENANT
from tests.support.services import ROOT

LAPS = 1000
LIBRARY = json.loads((ROOT / "examples/agents/library.json").read_bytes())
#: Counts the laps that it is asked to, each by its index.
COUNT = {
    "type": "proc",
    "function": "count",
    "function_def": "def count(index, seen):\n    return {'seen': [*(seen or []), index]}\n",
    "inputs": ["index", "seen"],
    "outputs": ["seen"],
}


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", [("worker1", "worker2", "coordinator1")], indirect=True)
@pytest.mark.parametrize("worker_turns", [True])
def test_each_lap_of_a_thousand_counts_once_whatever_dies(stage: Stage) -> None:
    loop = dict(LIBRARY["agents"]["loop_test"])
    del loop["tests"]  # they are of the steps that it has
    start, _, end = loop["steps"]
    count = {"agent": "count", "params": {"index": "$loop_idx_1", "seen": "$seen"}}
    loop |= {
        "steps": [start, {**count, "output": ["seen"]}, end],
        "outputs": ["loop_idx_1", "seen"],
    }
    found = {name: LIBRARY["agents"][name] for name in ("loop_start", "loop_end")}
    entered = agents.enter(
        stage.platform, TENANT, {"agents": {**found, "count": COUNT, "loop": loop}}, by="ada"
    )
    (version,) = [each.version for each in entered if each.version.name == "loop"]
    given = agents.inputs({"loop_max": LAPS})
    run = launch.submit(stage.platform, TENANT, version.version_id, given, by="ada").run
    stage.platform.broker.nudge([run])
    for number, seen in enumerate((LAPS // 4, LAPS // 2), start=1):
        wait_until(lambda: laps(stage, run) >= seen, seconds=240, what=f"lap {seen}")  # noqa: B023  # called here
        stage.fleet.kill(f"worker{number}")
        stage.age()
    wait_for_end(stage.platform, [run], seconds=400)
    ended = views.run(stage.platform, run)
    assert ended.status == "completed", ended
    assert ended.outputs == {"loop_idx_1": LAPS, "seen": [*range(LAPS)]}
    assert doctor.examine(stage.platform.database) == ()


def laps(stage: Stage, run: RunId) -> int:
    """How far a run has come."""
    found = views.run(stage.platform, run).variables.get("loop_idx_1", 0)
    assert isinstance(found, int)
    return found
