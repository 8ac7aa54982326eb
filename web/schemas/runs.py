"""Runs, and what can be asked of them."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, pre_dump, validate, validates_schema
from webargs.fields import DelimitedList

from engine.core.document import vocabulary as words
from engine.core.transitions import RunStatus
from engine.runs import bulk
from engine.waiting import MAX_NAME
from web import rendering
from web.schemas.fields import Choice, Moment
from web.schemas.pages import PageArguments
from web.schemas.problems import FieldProblemSchema

REASON_CHARACTERS = 2000
MOST_WAIT_SECONDS = 300


class NewRunSchema(Schema):
    """A run as it is asked for: a workflow by name, or a version of it by id."""

    workflow = fields.String(metadata={"example": "summarize"})
    version = fields.String(
        metadata={"description": "One, or a range such as `^1.2`; the latest unless it is named"}
    )
    version_id = fields.String(metadata={"format": "uuid"})
    inputs = fields.Dict(keys=fields.String(), load_default=dict)

    @validates_schema
    def _one_of_two(self, data: dict[str, object], **_: object) -> None:
        if ("workflow" in data) == ("version_id" in data):
            raise ValidationError("name either this or `version_id`", "workflow")
        if "version" in data and "workflow" not in data:
            raise ValidationError("belongs to `workflow`", "version")


class ReasonSchema(Schema):
    """Why somebody acts on a run; the history keeps it."""

    reason = fields.String(load_default="", validate=validate.Length(max=REASON_CHARACTERS))


class CancelSchema(ReasonSchema):
    """How a run stops."""

    compensate = fields.Boolean(
        load_default=False,
        metadata={"description": "Undo what it has done first, by the handlers of its nodes"},
    )


class SkipSchema(ReasonSchema):
    """How a step is to count as done."""

    choice = Choice(
        load_default=None,
        metadata={
            "description": "What the step chose: a label or target, true or false, or the names "
            "of the nodes that a plan chose"
        },
    )


class FilterSchema(Schema):
    """Which runs: those that everything that is given holds of. It must name something."""

    ids = fields.List(fields.UUID(), load_default=list, validate=validate.Length(max=bulk.MOST))
    workflow = fields.String(load_default=None)
    version_id = fields.UUID(load_default=None)
    status = fields.List(
        fields.String(validate=validate.OneOf([status.value for status in RunStatus])),
        load_default=list,
        metadata={"description": "Without it, and without ids, those that the action can change"},
    )
    before = Moment(load_default=None, metadata={"description": "Submitted before this time"})
    after = Moment(load_default=None, metadata={"description": "Submitted after this time"})


class SignalSchema(Schema):
    """An event that each run is sent for itself."""

    name = fields.String(required=True, validate=validate.Length(1, MAX_NAME))
    payload = fields.Raw(allow_none=True, load_default=None)
    match = fields.Dict(keys=fields.String(), load_default=dict)


class MigrationSchema(Schema):
    """Under which version of its workflow a run goes on."""

    to = fields.String(
        required=True, metadata={"description": "A version, or a range", "example": "^1.2"}
    )
    nodes = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        load_default=dict,
        validate=validate.Length(max=words.MAX_NODES),
        metadata={"description": 'Nodes that have another name there: `{"old": "new"}`'},
    )
    dry_run = fields.Boolean(
        load_default=False, metadata={"description": "Say what would become of it; change nothing"}
    )


class MigrateSchema(MigrationSchema, ReasonSchema):
    """How a run goes on under another version, and why."""


class MoveSchema(Schema):
    """A live step, where it stands, and where it would stand."""

    step = fields.String(metadata={"example": "draft#2"})
    node = fields.String()
    becomes = fields.String()
    status = fields.String()


class PlanSchema(Schema):
    """What would become of a run under another version, or has."""

    run_id = fields.String(attribute="run", metadata={"format": "uuid"})
    workflow = fields.String()
    version = fields.String(metadata={"description": "The one that it was under"})
    to = fields.String()
    to_id = fields.String(metadata={"format": "uuid"})
    status = fields.String()
    migrated = fields.Boolean(
        metadata={"description": "Whether it is under the other one; else that was only asked"}
    )
    steps = fields.List(fields.Nested(MoveSchema))
    problems = fields.List(
        fields.Nested(FieldProblemSchema),
        metadata={"description": "What keeps it where it is; without `dry_run`, a 409 says it"},
    )
    pins = fields.Dict(metadata={"description": "What is pinned to other versions then"})


class BulkSchema(ReasonSchema):
    """One act on many runs."""

    action = fields.String(
        required=True, validate=validate.OneOf([action.value for action in bulk.Action])
    )
    filter = fields.Nested(FilterSchema, required=True)
    event = fields.Nested(
        SignalSchema, load_default=None, metadata={"description": "For the action `signal`"}
    )
    migration = fields.Nested(
        MigrationSchema, load_default=None, metadata={"description": "For the action `migrate`"}
    )
    cursor = fields.String(
        load_default=None, metadata={"description": "`next` of the answer before"}
    )
    limit = fields.Integer(load_default=100, validate=validate.Range(min=1, max=bulk.MOST))


class BulkAnswerSchema(Schema):
    """What came of it for one run."""

    run_id = fields.String(attribute="run")
    outcome = fields.String(
        validate=validate.OneOf([outcome.value for outcome in bulk.Outcome]),
        metadata={"description": "`accepted`: recorded, and held to by the run's next turn"},
    )
    status = fields.String(allow_none=True)
    why = fields.String(metadata={"description": "Why it was refused, or is not yet done"})


class BulkAnswersSchema(Schema):
    """What came of it for each run, newest first."""

    items = fields.List(fields.Nested(BulkAnswerSchema))
    next = fields.String(
        allow_none=True,
        metadata={"description": "the `cursor` of the same request for the runs that are left"},
    )


class RunsArguments(PageArguments):
    """Which runs."""

    status = DelimitedList(
        fields.String(validate=validate.OneOf([status.value for status in RunStatus])),
        load_default=(),
        metadata={"description": "One or several, separated by commas"},
    )
    workflow = fields.String()
    version_id = fields.String()


class WaitArguments(Schema):
    """How long to wait."""

    seconds = fields.Float(
        load_default=None,
        validate=validate.Range(min=0, max=MOST_WAIT_SECONDS),
        metadata={"description": "At most so long; the platform's own limit unless given"},
    )


class ParentSchema(Schema):
    """A step that started a run."""

    run_id = fields.String(metadata={"format": "uuid"})
    step = fields.String()


class OriginSchema(Schema):
    """The place of another run that a run goes on from."""

    run_id = fields.String(metadata={"format": "uuid"})
    seq = fields.Integer()


class RunSchema(Schema):
    """A run in a list."""

    id = fields.String(metadata={"format": "uuid"})
    workflow = fields.String()
    version = fields.String()
    version_id = fields.String(metadata={"format": "uuid"})
    status = fields.String(validate=validate.OneOf([status.value for status in RunStatus]))
    seq = fields.Integer(metadata={"description": "The last line of its history"})
    submitted_by = fields.String()
    created_at = fields.DateTime()
    started_at = fields.DateTime(allow_none=True)
    finished_at = fields.DateTime(allow_none=True)
    reason = fields.String(allow_none=True)
    message = fields.String(allow_none=True)
    ended_step = fields.String(allow_none=True)
    stuck_error = fields.String(allow_none=True)
    stuck_until = fields.DateTime(allow_none=True)
    parent = fields.Nested(
        ParentSchema, allow_none=True, metadata={"description": "The step that started it"}
    )
    forked_from = fields.Nested(
        OriginSchema,
        allow_none=True,
        metadata={"description": "The place of another run that it goes on from"},
    )
    imported = fields.Dict(
        allow_none=True,
        metadata={
            "description": "Of a run that was recorded elsewhere, and is read-only: its tenant, version, "
            "pins and policies there, the digest of the file, who brought it in and when"
        },
    )

    @pre_dump
    def _nest(self, data: Any, **_: object) -> Any:
        """The parent as one thing."""
        apart = ("parent_run", "parent_step", "forked_run", "forked_seq")
        found = rendering.record(data, without=apart)
        parent = {"run_id": data.parent_run, "step": data.parent_step}
        forked = {"run_id": data.forked_run, "seq": data.forked_seq}
        return {
            **found,
            "parent": None if data.parent_run is None else parent,
            "forked_from": None if data.forked_run is None else forked,
        }


class LiveStepSchema(Schema):
    """A step that is not settled, and whom it waits for."""

    key = fields.String(metadata={"example": "increment#1"})
    node = fields.String()
    iteration = fields.Integer()
    status = fields.String()
    attempt = fields.Integer()
    errors = fields.Integer()
    lost = fields.Integer()
    queue = fields.String(allow_none=True)
    worker = fields.String(allow_none=True)
    lease_until = fields.DateTime(allow_none=True)
    begun = fields.Boolean()
    wake_at = fields.DateTime(
        allow_none=True,
        metadata={"description": "Of a step that waits: when it stops waiting"},
    )
    wait = fields.String(allow_none=True, metadata={"description": "The kind of what it waits for"})
    event = fields.String(allow_none=True)
    asks = fields.Dict(
        allow_none=True,
        metadata={"description": "What people are asked, or what the event must match and fit"},
    )
    child = fields.String(
        allow_none=True, metadata={"format": "uuid", "description": "The run that it waits for"}
    )
    awaits = fields.String(
        allow_none=True, metadata={"description": "The lock that somebody else holds"}
    )


class WholeRunSchema(RunSchema):
    """A run, whole."""

    variables = fields.Dict()
    outputs = fields.Dict(
        allow_none=True,
        metadata={"description": "What it gives, where its workflow declares that"},
    )
    pins = fields.Dict()
    steps = fields.List(fields.Nested(LiveStepSchema))
    changed_at = fields.DateTime()
    waiting_since = fields.DateTime(allow_none=True)


class StatusSchema(Schema):
    """Where a run stands."""

    run_id = fields.String()
    status = fields.String()
    seq = fields.Integer()
    ended = fields.Boolean(attribute="terminal")
