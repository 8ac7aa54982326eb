"""The step API of seed 003: a workflow that its client drives, step by step.

    from celeriac import AgenticWorkflowEngine, StepType, ToolDefinition

    engine = AgenticWorkflowEngine()
    engine.tool_registry.register(
        ToolDefinition(name="search", description="Search", parameters={"query": {"type": "string"}}),
        handler=search,
    )
    workflow = await engine.create_workflow(name="Research", description="", user_id="ada")
    step = await engine.execute_step(
        workflow_id=workflow.workflow_id,
        step_type=StepType.TOOL_CALL,
        name="Search",
        input_data={"query": "diabetes guidelines"},
        tool_name="search",
    )
    await engine.complete_workflow(workflow.workflow_id)

Without a platform the workflow runs in this process, by the same core and the same graph, and is
gone with it (`local`). With `AgenticWorkflowEngine(client=Client())` it is a run on the platform,
and what was done survives whatever dies (`remote`). `engine` is the face of both.
"""

from __future__ import annotations

from celeriac.sdk.tools import ToolDefinition, ToolRegistry
from celeriac.steps.engine import AgenticWorkflowEngine
from engine.errors import Conflict, Forbidden, Invalid, NotFound
from engine.sessions.config import Config
from engine.sessions.steps import Child
from engine.sessions.words import (
    AgentState,
    Approval,
    Attempt,
    Checkpoint,
    PolicyDecision,
    PolicyType,
    Rollback,
    StepStatus,
    StepType,
    ToolCategory,
    ToolInvocation,
    Workflow,
    WorkflowStatus,
    WorkflowStep,
)

__all__ = [
    "AgentState",
    "AgenticWorkflowEngine",
    "Approval",
    "Attempt",
    "Checkpoint",
    "Child",
    "Config",
    "Conflict",
    "Forbidden",
    "Invalid",
    "NotFound",
    "PolicyDecision",
    "PolicyType",
    "Rollback",
    "StepStatus",
    "StepType",
    "ToolCategory",
    "ToolDefinition",
    "ToolInvocation",
    "ToolRegistry",
    "Workflow",
    "WorkflowStatus",
    "WorkflowStep",
]
