"""A client that drives a workflow step by step, and workers that die between steps and at one."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.platform import Platform
from engine.runs import doctor, sessions
from engine.sessions.steps import Wanted
from engine.sessions.words import SETTLED, StepStatus, StepType, WorkflowStep
from engine.store.ids import RunId
from tests.faults.conftest import Stage
from tests.support import platforms
from tests.support.fleet import wait_until
from tests.support.platforms import TENANT

STEPS = 9


@pytest.mark.parametrize("stage", [("worker1", "coordinator1")], indirect=True)
def test_after_its_worker_died_a_session_goes_on_at_the_next_step(
    stage: Stage, tmp_path: Path
) -> None:
    """S3-21: the worker is killed after step 7, and once more at step 8."""
    platform, go = stage.platform, tmp_path / "go"
    platforms.register(
        platform, "charge", library="tests.support.witness:charge", namespace="tool", effect="pure"
    )
    workflow = sessions.begin(
        platform, TENANT, "Task", settings={"max_duration_seconds": None}, by="ada"
    )
    run = RunId(TENANT, workflow.run_id)

    def send(number: int, **more: str) -> str:
        wanted = Wanted(
            step_type=StepType.TOOL_CALL,
            name=f"S{number}",
            tool_name="charge",
            input_data={"witness": str(stage.witness), **more},
        )
        sent = sessions.step(platform, run, wanted, by="ada")
        platform.broker.nudge([run])
        return sent.step_id

    def over(step_id: str) -> WorkflowStep:
        wait_until(lambda: shown(platform, run, step_id).status in SETTLED, what=step_id)
        return shown(platform, run, step_id)

    for number in range(1, 8):
        assert over(send(number)).status is StepStatus.COMPLETED
    stage.fleet.kill("worker1")
    eighth = send(8, go=str(go))
    wait_until(lambda: len(calls(stage)) == 8, what="step 8 to begin")
    stage.fleet.kill("worker1")
    wait_until(lambda: bool(stage.age()), what="the step that it held")
    go.touch()
    done = over(eighth)
    assert (done.status, done.output_data) == (StepStatus.COMPLETED, {"result": "charged"})
    assert over(send(9)).status is StepStatus.COMPLETED
    ended = sessions.complete(platform, run, by="ada")
    assert [step.name for step in ended.steps] == [f"S{number}" for number in range(1, STEPS + 1)]
    assert [checkpoint.state["step_count"] for checkpoint in ended.checkpoints] == [5]
    # Step 8 alone was called again: it was under way.
    made = calls(stage)
    assert len(made) == STEPS + 1
    assert len(set(made[:7])) == 7
    assert [step for step in set(made) if made.count(step) > 1] == [made[7]]
    assert doctor.examine(platform.database) == ()


def shown(platform: Platform, run: RunId, step_id: str) -> WorkflowStep:
    return sessions.show(platform, run, step_id)


def calls(stage: Stage) -> list[str]:
    """The steps that called the tool, in their order."""
    lines = stage.witness.read_text().splitlines() if stage.witness.exists() else []
    return [line.split()[1] for line in lines]
