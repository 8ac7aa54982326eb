"""The sample pack: its tools, their terms, and the policy for what is told of patients."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from celeriac.steps import StepStatus, StepType
from examples.healthcare import TERMS, TOOLS
from examples.healthcare.__main__ import consult, engine
from examples.healthcare.phi import Phi


def test_the_consultation_asks_before_it_tells_and_hides_who_it_is_about() -> None:
    workflow = asyncio.run(consult(engine()))
    assert [step.status for step in workflow.steps] == [StepStatus.COMPLETED] * 4
    told = workflow.steps[-1]
    assert told.input_data["text"] == "[hidden]: go on as before."
    assert told.approval is not None
    assert told.approval.approved_by == "dr_senior"
    assert workflow.total_cost_usd == 0.03


def test_who_may_not_read_records_reads_none() -> None:
    async def play() -> Any:
        clinic = engine()
        workflow = await clinic.create_workflow("Look", user_id="visitor")
        return await clinic.execute_step(
            workflow.workflow_id,
            StepType.TOOL_CALL,
            "Record",
            input_data={"patient_id": "P001"},
            tool_name="patient_record",
        )

    step = asyncio.run(play())
    assert (step.status, step.error) == (StepStatus.FAILED, "visitor lacks read:phi")


@pytest.mark.parametrize(
    ("arguments", "user", "answer"),
    [
        ({"to": "eve@clinic.example"}, "", "DENY"),
        ({"to": "eve@elsewhere.example"}, "ada", "REQUIRE_APPROVAL"),
        ({"query": "gout"}, "ada", "ALLOW"),
    ],
)
def test_the_policy_says_who_may_be_told(arguments: dict[str, Any], user: str, answer: str) -> None:
    said = Phi().evaluate({"arguments": arguments}, {"user_id": user})
    assert (said if isinstance(said, str) else said[0]) == answer


def test_every_tool_has_terms() -> None:
    assert TERMS.keys() == TOOLS.keys()
