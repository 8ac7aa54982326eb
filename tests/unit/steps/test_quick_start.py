"""The Quick Start of seed 003, verbatim but for the import path."""

from __future__ import annotations

import asyncio
from typing import Any

from celeriac.steps import AgentState, StepStatus

QUICK_START = """
from celeriac import (
    AgenticWorkflowEngine, ToolRegistry, ToolDefinition, StepType
)

# Initialize engine
engine = AgenticWorkflowEngine()

# Register tools
engine.tool_registry.register(
    ToolDefinition(
        name="search_documents",
        description="Search internal documents",
        parameters={"query": {"type": "string"}},
        required_permissions=["read:documents"],
        cost_estimate_usd=0.01,
    ),
    handler=search_documents_handler,
)

# Create and execute workflow
workflow = await engine.create_workflow(
    name="Research Task",
    description="Find relevant documents",
    user_id="user_123",
)

step = await engine.execute_step(
    workflow_id=workflow.workflow_id,
    step_type=StepType.TOOL_CALL,
    name="Search",
    description="Search for relevant documents",
    input_data={"query": "diabetes guidelines"},
    tool_name="search_documents",
)

await engine.complete_workflow(workflow.workflow_id)
"""


def test_the_quick_start_runs_as_it_is_printed() -> None:
    calls: list[dict[str, Any]] = []

    async def search_documents_handler(**given: Any) -> list[str]:
        calls.append(given)
        return ["ADA Standards of Care"]

    found = played(search_documents_handler)

    assert calls == [{"query": "diabetes guidelines"}]
    step, workflow = found["step"], found["workflow"]
    assert step.status is StepStatus.COMPLETED
    assert step.output_data == {"result": ["ADA Standards of Care"]}
    assert step.step_id.startswith("step_")
    assert len(step.step_id) == len("step_") + 12
    assert step.tool_invocation.invocation_id.startswith("inv_")
    assert workflow.workflow_id.startswith("wf_")
    assert (workflow.state, workflow.user_id) == (AgentState.COMPLETED, "user_123")
    assert (workflow.total_cost_usd, workflow.total_tool_calls) == (0.01, 1)
    assert workflow.total_duration_ms is not None
    assert [each.name for each in workflow.steps] == ["Search"]


def played(handler: Any, **engine: Any) -> dict[str, Any]:
    """The names that the Quick Start leaves; `engine` is what its engine is made with."""
    body = "\n".join(f"    {line}" for line in QUICK_START.splitlines())
    if engine:
        body = body.replace("AgenticWorkflowEngine()", "AgenticWorkflowEngine(**engine_options)")
    scope: dict[str, Any] = {"search_documents_handler": handler, "engine_options": engine}
    exec(f"async def main():\n{body}\n    return locals()", scope)  # the text of the seed
    found: dict[str, Any] = asyncio.run(scope["main"]())
    return found
