"""What a session is told to have come to where the platform's own policies ask people."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from celeriac.steps import AgenticWorkflowEngine, AgentState, StepStatus, StepType, ToolDefinition
from engine.core import messages as msg
from engine.core.permits import permit
from engine.core.values import Inline
from engine.sessions import story


def history() -> Sequence[msg.Entry]:
    """Of a session that has made one call."""

    async def play() -> Sequence[msg.Entry]:
        engine = AgenticWorkflowEngine()
        engine.tool_registry.register(ToolDefinition("look", cost_estimate_usd=0.5), lambda: 1)
        workflow = await engine.create_workflow("Task")
        await engine.execute_step(
            workflow.workflow_id, StepType.TOOL_CALL, "Look", tool_name="look"
        )
        local: Any = engine._home
        run: Any = local._sessions[workflow.workflow_id].run
        return list(run.history)

    return asyncio.run(play())


def suspended(lines: Sequence[msg.Entry]) -> tuple[list[msg.Entry], msg.Entry]:
    """The lines up to the call's report, in whose place people are asked; and the report."""
    at = next(i for i, line in enumerate(lines) if isinstance(line.record, msg.AttemptSucceeded))
    report = lines[at].record
    assert isinstance(report, msg.AttemptSucceeded)
    asks = msg.AttemptSuspended(
        at=report.at,
        step=report.step,
        attempt=1,
        fence=1,
        permits=(permit("call", "costs:dear_calls", "x"),),
    )
    return [*lines[:at], replace(lines[at], record=asks)], lines[at]


def answer(report: msg.Entry, choice: str) -> msg.Entry:
    said = {"choice": choice, "by": ["eve"], "form": {"reason": "so"}}
    record = msg.WaitEnded(
        at=report.at,
        step=report.record.step,  # type: ignore[union-attr]  # a report has one
        attempt=1,
        by=("user:eve",),
        result=Inline(value=said),
        choice=choice,
    )
    return replace(report, record=record)


@pytest.mark.parametrize("choice", [None, "approve", "deny"])
def test_a_call_that_people_must_allow_says_so(choice: str | None) -> None:
    lines, report = suspended(history())
    if choice == "approve":
        again = next(
            line
            for line in lines
            if isinstance(line.record, msg.Admitted) and line.record.step == report.record.step  # type: ignore[union-attr]  # see above
        )
        lines += [answer(report, choice), again, report]
    elif choice is not None:
        key = report.record.step  # type: ignore[union-attr]  # see above
        lines += [answer(report, choice), replace(report, record=msg.TakeEdges(step=key))]
    workflow = story.tell("r", lines).workflow
    (step,) = workflow.steps
    assert step.approval is not None
    assert step.approval.policy_id == "costs:dear_calls"
    match choice:
        case None:
            assert (step.status, workflow.state) == (
                StepStatus.WAITING_APPROVAL,
                AgentState.WAITING_APPROVAL,
            )
        case "approve":
            assert (step.status, step.output_data) == (StepStatus.COMPLETED, {"result": 1})
            assert (step.approval.status, workflow.spent_usd) == ("approved", 0.5)
        case _:
            assert (step.status, step.error) == (StepStatus.FAILED, "denied by eve: so")
            assert (step.approval.status, workflow.spent_usd) == ("denied", 0.0)
