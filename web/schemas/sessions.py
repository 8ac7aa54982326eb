"""Sessions: runs that a client drives step by step."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from engine.sessions.steps import ON_FAILURE, STEP_ID
from engine.sessions.words import AgentState, StepStatus, StepType, WorkflowStatus
from web.schemas.runs import REASON_CHARACTERS, ReasonSchema

_NAME = validate.Length(min=1, max=200)
_TEXT = validate.Length(max=REASON_CHARACTERS)


class SessionAnswerSchema(ReasonSchema):
    """Why a step is allowed or not, and what of it was seen."""

    digest = fields.String(
        load_default=None,
        allow_none=True,
        metadata={
            "description": "That of the approval that was shown; else it is what the session asks now"
        },
    )


class NewSessionSchema(Schema):
    """A session as it is asked for."""

    name = fields.String(required=True, validate=_NAME, metadata={"example": "Research Task"})
    description = fields.String(load_default="", validate=validate.Length(max=4000))
    user_id = fields.String(
        load_default=None,
        allow_none=True,
        validate=_NAME,
        metadata={"description": "For whom it is; what it may do is a matter of who asks"},
    )
    config = fields.Dict(
        keys=fields.String(),
        load_default=dict,
        metadata={
            "description": "Its own limits: max_steps, max_cost_usd, max_duration_seconds, …",
            "example": {"max_steps": 50, "max_cost_usd": 10.0},
        },
    )
    context = fields.Dict(
        keys=fields.String(),
        load_default=dict,
        metadata={"description": "What steps may refer to from the beginning"},
    )


class NewCallSchema(Schema):
    """A call of a parallel step."""

    name = fields.String(required=True, validate=_NAME)
    tool_name = fields.String(required=True)
    input_data = fields.Dict(keys=fields.String(), load_default=dict)


class NewStepSchema(Schema):
    """A step as it is asked for."""

    step_id = fields.String(
        validate=validate.Regexp(f"^{STEP_ID}$"),
        metadata={"description": "What is sent under one id is one step"},
    )
    step_type = fields.Enum(StepType, by_value=fields.String, required=True)
    name = fields.String(required=True, validate=_NAME, metadata={"example": "Search"})
    description = fields.String(load_default="", validate=validate.Length(max=4000))
    input_data = fields.Dict(
        keys=fields.String(),
        load_default=dict,
        metadata={
            "description": "A text such as `$context.Search.result` stands for what that step left",
            "example": {"query": "diabetes guidelines"},
        },
    )
    tool_name = fields.String(load_default=None, allow_none=True)
    on_failure = fields.String(
        load_default=None,
        allow_none=True,
        validate=validate.OneOf(ON_FAILURE),
        metadata={"description": "Null: the step is failed, and the session goes on"},
    )
    condition = fields.String(
        load_default=None,
        allow_none=True,
        metadata={"description": "An expression; if it does not hold the step is skipped"},
    )
    child_steps = fields.List(fields.Nested(NewCallSchema), load_default=list)


class GivenSchema(Schema):
    """What somebody gives a step that waits for it."""

    input = fields.Raw(required=True, allow_none=True)


class NewCheckpointSchema(Schema):
    """A checkpoint as it is asked for."""

    name = fields.String(load_default="checkpoint", validate=_NAME)


class RollbackToSchema(Schema):
    """Where a session is set back to."""

    checkpoint_id = fields.String(required=True, metadata={"example": "ckpt_0123456789ab"})


class InvocationSchema(Schema):
    """A call of a tool."""

    invocation_id = fields.String()
    tool_name = fields.String()
    parameters = fields.Raw()
    result = fields.Raw(allow_none=True)
    success = fields.Boolean()
    error_message = fields.String(allow_none=True)
    duration_ms = fields.Integer(allow_none=True)
    timestamp = fields.DateTime()
    cost_usd = fields.Float()


class SessionAttemptSchema(Schema):
    """One try of a call."""

    attempt = fields.Integer()
    outcome = fields.String(metadata={"enum": ["succeeded", "failed", "lost"]})
    ended_at = fields.DateTime()
    reason = fields.String(allow_none=True)
    message = fields.String(allow_none=True)
    again_at = fields.DateTime(allow_none=True)


class SessionApprovalSchema(Schema):
    """What somebody is asked before a step goes on."""

    request_id = fields.String()
    policy_id = fields.String()
    requested_by = fields.String()
    status = fields.String(metadata={"enum": ["pending", "approved", "denied", "expired"]})
    approved_by = fields.String(allow_none=True)
    approved_at = fields.DateTime(allow_none=True)
    expires_at = fields.DateTime(allow_none=True)
    reason = fields.String()
    digest = fields.String(
        allow_none=True, metadata={"description": "Of exactly what is asked about, if it is a call"}
    )


class SessionCallSchema(Schema):
    """A step of a parallel one."""

    step_id = fields.String()
    step_type = fields.String(metadata={"enum": [*StepType]})
    name = fields.String()
    description = fields.String()
    input_data = fields.Dict()
    output_data = fields.Dict(allow_none=True)
    status = fields.String(metadata={"enum": [*StepStatus]})
    started_at = fields.DateTime(allow_none=True)
    completed_at = fields.DateTime(allow_none=True)
    duration_ms = fields.Integer(allow_none=True)
    error = fields.String(allow_none=True)
    reason = fields.String(allow_none=True)
    tool_invocation = fields.Nested(InvocationSchema, allow_none=True)
    attempts = fields.List(fields.Nested(SessionAttemptSchema))
    approval = fields.Nested(SessionApprovalSchema, allow_none=True)
    rolled_back = fields.Boolean()


class SessionStepSchema(SessionCallSchema):
    """A step, as far as it has come."""

    child_steps = fields.List(fields.Nested(SessionCallSchema))


class SessionCheckpointSchema(Schema):
    """A place that a session can be set back to."""

    checkpoint_id = fields.String()
    workflow_id = fields.String()
    step_id = fields.String(allow_none=True)
    state = fields.Dict(metadata={"description": "context, step_count, total_cost_usd"})
    created_at = fields.DateTime()
    rolled_back = fields.Boolean()


class SessionCheckpointsSchema(Schema):
    """Checkpoints in their order."""

    items = fields.List(fields.Nested(SessionCheckpointSchema))


class SessionRollbackSchema(Schema):
    """That a session was set back."""

    checkpoint_id = fields.String()
    by = fields.String()
    at = fields.DateTime()
    step_ids = fields.List(fields.String())


class SessionSchema(Schema):
    """A session, as far as it has come."""

    workflow_id = fields.String()
    run_id = fields.String(metadata={"format": "uuid"})
    name = fields.String()
    description = fields.String()
    user_id = fields.String()
    state = fields.String(metadata={"enum": [*AgentState]})
    status = fields.String(metadata={"enum": [*WorkflowStatus]})
    steps = fields.List(fields.Nested(SessionStepSchema))
    checkpoints = fields.List(fields.Nested(SessionCheckpointSchema))
    rollbacks = fields.List(fields.Nested(SessionRollbackSchema))
    context = fields.Dict()
    context_keys = fields.List(fields.String())
    step_count = fields.Integer()
    started_at = fields.DateTime(allow_none=True)
    completed_at = fields.DateTime(allow_none=True)
    total_duration_ms = fields.Integer(allow_none=True)
    total_cost_usd = fields.Float(metadata={"description": "Of the steps that count"})
    spent_usd = fields.Float(metadata={"description": "Of all calls, those set back included"})
    total_tool_calls = fields.Integer()
    error = fields.String(allow_none=True)
    config = fields.Dict()


class SessionBriefSchema(Schema):
    """A session in a list."""

    workflow_id = fields.String()
    run_id = fields.String(metadata={"format": "uuid"})
    status = fields.String()
    created_by = fields.String()
    created_at = fields.DateTime()
    completed_at = fields.DateTime(allow_none=True)
