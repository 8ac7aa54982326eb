"""A consultation, step by step, in this process: `python -m examples.healthcare`."""

from __future__ import annotations

import asyncio

from celeriac import AgenticWorkflowEngine, StepType, ToolDefinition
from celeriac.steps import StepStatus, Workflow
from examples import healthcare
from examples.healthcare.phi import Phi


def engine() -> AgenticWorkflowEngine:
    """An engine with the tools of the clinic, a policy, and a doctor who may use them."""
    found = AgenticWorkflowEngine(
        permissions={"dr_example": ["read:documents", "read:phi", "write:phi"]}
    )
    for name, tool in healthcare.TOOLS.items():
        terms = healthcare.TERMS[name]
        found.tool_registry.register(
            ToolDefinition(
                name, (tool.__doc__ or "").strip(), effect=healthcare.EFFECTS[name], **terms
            ),
            handler=tool,
        )
    found.add_policy(Phi())
    return found


async def consult(clinic: AgenticWorkflowEngine) -> Workflow:
    """Look a patient and the guidelines up, then tell a colleague, who is asked for first."""
    workflow = await clinic.create_workflow("Consultation", user_id="dr_example")
    key = workflow.workflow_id
    await clinic.execute_step(
        key, StepType.TOOL_CALL, "Record", input_data={"patient_id": "P001"},
        tool_name="patient_record",
    )  # fmt: skip
    await clinic.execute_step(
        key, StepType.TOOL_CALL, "Guidelines", input_data={"query": "diabetes metformin"},
        tool_name="find_guidelines",
    )  # fmt: skip
    await clinic.execute_step(
        key, StepType.REASONING, "Think", input_data={"reasoning": "First line is in place."}
    )
    step = await clinic.execute_step(
        key, StepType.TOOL_CALL, "Tell",
        input_data={"to": "eve@clinic.example", "text": "000-00-0001: go on as before."},
        tool_name="send_summary",
    )  # fmt: skip
    if step.status is StepStatus.WAITING_APPROVAL:
        await clinic.approve_step(key, step.step_id, "dr_senior", "agreed")
    return await clinic.complete_workflow(key)


async def main() -> None:
    """Print what was done."""
    workflow = await consult(engine())
    for step in workflow.steps:
        print(f"{step.status:10} {step.name:12} {step.output_data}")
    print(f"{workflow.state}: {workflow.total_cost_usd} USD")


if __name__ == "__main__":
    asyncio.run(main())
