"""Executions of tasks and plans, and the timeline of a run, with seed 001's names."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from engine.core.executions import Status

_STATUS = validate.OneOf([status.value for status in Status])
#: Lines of a timeline that are told at once.
MOST_EVENTS = 5000


class HeaderSchema(Schema):
    """Who, when and how."""

    name = fields.String(metadata={"description": "The node, or `plan:NODE` of an implicit plan"})
    exec_id = fields.String()
    graph_id = fields.String(metadata={"description": "The id of the workflow version"})
    lifetime_id = fields.String(metadata={"description": "The id of the run"})
    tenant_id = fields.String()
    attempt = fields.Integer(metadata={"description": "From 1"})
    iteration_idx = fields.Integer(metadata={"description": "From 0"})
    created_at = fields.String(metadata={"format": "date-time"})
    started_at = fields.String(allow_none=True, metadata={"format": "date-time"})
    ended_at = fields.String(allow_none=True, metadata={"format": "date-time"})
    status = fields.String(validate=_STATUS)
    edge_taken = fields.String(
        metadata={"description": "The label, title or id of each edge that it took"}
    )


class PolicyTelemetrySchema(Schema):
    """What it used."""

    tokens_used = fields.Float()
    cost_usd = fields.Float()
    latency_ms = fields.Float()
    memory_bytes = fields.Integer()
    cpu_ms = fields.Float()
    custom_metrics = fields.Dict()


class ExecutionResultSchema(Schema):
    """What it left: `inline`, or `uri` where it is to be had."""

    id = fields.String()
    inline = fields.Raw(allow_none=True)
    uri = fields.String()
    size_bytes = fields.Integer()
    error_message = fields.String()


class AnyResultSchema(ExecutionResultSchema):
    """What a task left, or what a plan chose and passed on."""

    next_task_names = fields.List(fields.String(), metadata={"description": "Of plans alone"})
    upstream_tasks_results = fields.List(
        fields.Nested(ExecutionResultSchema), metadata={"description": "Of plans alone"}
    )


class ExecutionSchema(Schema):
    """One attempt of a step, as a TaskExecution or a PlanExecution."""

    header = fields.Nested(HeaderSchema)
    policy_telemetry = fields.Nested(PolicyTelemetrySchema)
    result = fields.Nested(AnyResultSchema)
    parent_plan_exec_id = fields.String(metadata={"description": "Of tasks; empty at the start"})
    parent_plan_name = fields.String(metadata={"description": "Of tasks"})
    parent_task_exec_ids = fields.List(
        fields.String(),
        metadata={"description": "Of plans; of a plan that follows a plan, that plan's id"},
    )
    parent_task_names = fields.List(fields.String(), metadata={"description": "Of plans"})
    implicit = fields.Boolean(
        metadata={"description": "Of plans: no node of the graph, but what stands between tasks"}
    )


class TimelineArguments(Schema):
    """Which part of it."""

    cursor = fields.String(metadata={"description": "`next` of the part before"})
    limit = fields.Integer(load_default=1000, validate=validate.Range(min=1, max=MOST_EVENTS))


class TimelineEventSchema(Schema):
    """One execution."""

    eventType = fields.String(validate=validate.OneOf(["PLAN_EXECUTION", "TASK_EXECUTION"]))  # noqa: N815  # the seed's names, here and below
    nodeName = fields.String()  # noqa: N815
    executionId = fields.String()  # noqa: N815
    status = fields.String(validate=_STATUS)
    createdAt = fields.String(metadata={"format": "date-time"})  # noqa: N815
    persistedAt = fields.String(allow_none=True, metadata={"format": "date-time"})  # noqa: N815
    parentNodeName = fields.String(  # noqa: N815
        allow_none=True, metadata={"description": "The first, where there are several"}
    )
    parentExecutionId = fields.String(allow_none=True)  # noqa: N815
    nextTaskNames = fields.List(fields.String())  # noqa: N815
    errorMessage = fields.String(allow_none=True)  # noqa: N815
    implicit = fields.Boolean()


class TimelineSchema(Schema):
    """What was executed for a run, in order."""

    tenantId = fields.String()  # noqa: N815
    graphId = fields.String()  # noqa: N815
    lifetimeId = fields.String()  # noqa: N815
    status = fields.String(
        validate=validate.OneOf(["QUEUED", "RUNNING", "PAUSED", "SUCCEEDED", "FAILED", "CANCELED"])
    )
    entryPlanNames = fields.List(fields.String())  # noqa: N815
    errorMessage = fields.String(allow_none=True)  # noqa: N815
    createdAt = fields.DateTime()  # noqa: N815
    startedAt = fields.DateTime(allow_none=True)  # noqa: N815
    completedAt = fields.DateTime(allow_none=True)  # noqa: N815
    planExecutions = fields.Integer(  # noqa: N815
        metadata={"description": "Visits to plans so far, implicit ones not counted"}
    )
    taskExecutions = fields.Integer(metadata={"description": "Visits to tasks so far"})  # noqa: N815
    events = fields.List(fields.Nested(TimelineEventSchema))
    next = fields.String(
        allow_none=True, metadata={"description": "the `cursor` of the next part, or null"}
    )
