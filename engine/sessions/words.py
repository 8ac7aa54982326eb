"""The words of seed 003: what its client is shown of a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class AgentState(StrEnum):
    """What a workflow is at."""

    IDLE = "idle"
    PLANNING = "planning"
    EXECUTING = "executing"
    WAITING_APPROVAL = "waiting_approval"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class WorkflowStatus(StrEnum):
    """How far a workflow has come."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WAITING_HUMAN = "waiting_human"


class StepType(StrEnum):
    """What a step is."""

    REASONING = "reasoning"
    TOOL_CALL = "tool_call"
    HUMAN_INPUT = "human_input"
    CHECKPOINT = "checkpoint"
    DECISION = "decision"
    PARALLEL = "parallel"


class StepStatus(StrEnum):
    """How far a step has come."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    WAITING_APPROVAL = "waiting_approval"
    CANCELLED = "cancelled"


class PolicyDecision(StrEnum):
    """What a policy says of an act."""

    ALLOW = "allow"
    DENY = "deny"
    REQUIRE_APPROVAL = "require_approval"
    MODIFY = "modify"
    ALLOW_WITH_AUDIT = "allow_with_audit"


class PolicyType(StrEnum):
    """What a policy is about."""

    ACCESS_CONTROL = "access_control"
    DATA_PROTECTION = "data_protection"
    RATE_LIMIT = "rate_limit"
    CONTENT_SAFETY = "content_safety"
    COST_CONTROL = "cost_control"
    COMPLIANCE = "compliance"


class ToolCategory(StrEnum):
    """What a tool is for."""

    DATA_READ = "data_read"
    DATA_WRITE = "data_write"
    EXTERNAL_API = "external_api"
    PHI_ACCESS = "phi_access"
    ADMIN = "admin"
    SEARCH = "search"
    COMPUTE = "compute"


#: A step of these is over.
SETTLED = frozenset(
    {StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED}
)
#: A workflow of these is over.
ENDED = frozenset({AgentState.COMPLETED, AgentState.FAILED, AgentState.CANCELLED})


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One try of a step's call, and how it ended."""

    attempt: int
    #: `succeeded`, `failed` or `lost`.
    outcome: str
    ended_at: datetime
    reason: str | None = None
    message: str | None = None
    #: When it was tried again at the earliest.
    again_at: datetime | None = None


@dataclass(slots=True, kw_only=True)
class ToolInvocation:
    """A call of a tool that a step made."""

    #: `inv_…`
    invocation_id: str
    tool_name: str
    parameters: Any
    result: Any = None
    success: bool = False
    error_message: str | None = None
    duration_ms: int | None = None
    timestamp: datetime
    #: USD that it is taken to have cost.
    cost_usd: float = 0.0


@dataclass(slots=True, kw_only=True)
class Approval:
    """What a person is asked before a step goes on."""

    #: `apr_…`
    request_id: str
    #: Why somebody must be asked.
    policy_id: str
    requested_by: str
    #: `pending`, `approved`, `denied` or `expired`.
    status: str = "pending"
    approved_by: str | None = None
    approved_at: datetime | None = None
    expires_at: datetime | None = None
    reason: str = ""
    #: Of exactly what is asked about, where the answer is bound to it: a call, its arguments, its price.
    digest: str | None = None


@dataclass(slots=True, kw_only=True)
class WorkflowStep:
    """A step, as far as it has come."""

    #: `step_…`
    step_id: str
    step_type: StepType
    name: str
    description: str = ""
    #: What it was given, its references to the context resolved.
    input_data: dict[str, Any] = field(default_factory=dict)
    output_data: dict[str, Any] | None = None
    status: StepStatus = StepStatus.PENDING
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration_ms: int | None = None
    error: str | None = None
    #: Why it failed, in a word: `timeout`, `error`, `limit`, `denied`, …
    reason: str | None = None
    tool_invocation: ToolInvocation | None = None
    child_steps: tuple[WorkflowStep, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    approval: Approval | None = None
    #: Its workflow was rolled back to a checkpoint before it.
    rolled_back: bool = False


@dataclass(slots=True, kw_only=True)
class Checkpoint:
    """A place that a workflow can be rolled back to."""

    #: `ckpt_…`
    checkpoint_id: str
    workflow_id: str
    #: The last step before it; None: there was none.
    step_id: str | None
    #: `{context, step_count, total_cost_usd}` as they were.
    state: dict[str, Any]
    created_at: datetime
    rolled_back: bool = False


@dataclass(slots=True, kw_only=True)
class Rollback:
    """That a workflow was set back, and by whom."""

    checkpoint_id: str
    by: str
    at: datetime
    #: The steps that count no more.
    step_ids: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Workflow:
    """A session, as far as it has come."""

    #: `wf_…`
    workflow_id: str
    #: The run that it is.
    run_id: str
    name: str
    description: str
    user_id: str
    state: AgentState = AgentState.IDLE
    status: WorkflowStatus = WorkflowStatus.CREATED
    steps: tuple[WorkflowStep, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    rollbacks: tuple[Rollback, ...] = ()
    #: What later steps may refer to: the output of each completed step, by its name.
    context: dict[str, Any] = field(default_factory=dict)
    context_keys: tuple[str, ...] = ()
    #: Steps that count, those that were rolled back left out.
    step_count: int = 0
    started_at: datetime | None = None
    completed_at: datetime | None = None
    total_duration_ms: int | None = None
    #: USD of the steps that count, and of all that was ever called.
    total_cost_usd: float = 0.0
    spent_usd: float = 0.0
    total_tool_calls: int = 0
    error: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def step(self, step_id: str) -> WorkflowStep | None:
        """A step by its id, be it a call of a parallel one."""
        steps = (one for step in self.steps for one in (step, *step.child_steps))
        return next((step for step in steps if step.step_id == step_id), None)

    def place(self, step_id: str) -> int | None:
        """Which call of its parallel step a step is, from 0; None of a step that is none."""
        calls = (each for step in self.steps for each in enumerate(step.child_steps))
        return next((place for place, call in calls if call.step_id == step_id), None)
