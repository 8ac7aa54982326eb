"""Steps, their attempts, calls and logs."""

from __future__ import annotations

from marshmallow import Schema, fields

from web.schemas.pages import PageArguments
from web.schemas.runs import LiveStepSchema


class AttemptSchema(Schema):
    """One try of a step."""

    step = fields.String()
    attempt = fields.Integer()
    fence = fields.Integer()
    worker = fields.String()
    started_at = fields.DateTime()
    ended_at = fields.DateTime(allow_none=True)
    outcome = fields.String(allow_none=True)
    reason = fields.String(allow_none=True)
    message = fields.String(allow_none=True)
    usage = fields.Dict()


class StepSchema(Schema):
    """One visit of a run to a node."""

    key = fields.String()
    node = fields.String()
    iteration = fields.Integer()
    status = fields.String(
        metadata={
            "description": "That of a live step; else `succeeded`, `failed`, `cancelled`, or "
            "`rolled_back`: the run has gone back to before it"
        }
    )
    seq = fields.Integer()
    requested_at = fields.DateTime()
    settled_at = fields.DateTime(allow_none=True)
    via = fields.String(allow_none=True)
    choice = fields.Raw(allow_none=True)
    taken = fields.List(fields.Dict())
    untaken = fields.List(fields.Dict())
    attempts = fields.List(fields.Nested(AttemptSchema))
    live = fields.Nested(LiveStepSchema, allow_none=True)


class ResultSchema(Schema):
    """What the accepted attempt of a step left."""

    result = fields.Raw(allow_none=True)
    patch = fields.Dict()


class OutputSchema(Schema):
    """Where a result lies: `inline` or `uri`, never both."""

    inline = fields.Raw(allow_none=True)
    uri = fields.String(metadata={"description": "Where its JSON is, if it is over 1 MiB"})
    size_bytes = fields.Integer(required=True)
    sha256 = fields.String(required=True, metadata={"description": "Of its canonical JSON"})


class CallSchema(Schema):
    """One tool call of a running step."""

    step = fields.String()
    ordinal = fields.Integer()
    attempt = fields.Integer()
    tool = fields.String()
    version = fields.Integer()
    effect = fields.String()
    arguments = fields.Raw(allow_none=True)
    started_at = fields.DateTime()
    ended_at = fields.DateTime(allow_none=True)
    outcome = fields.String()
    reason = fields.String(allow_none=True)
    message = fields.String(allow_none=True)
    value = fields.Raw(allow_none=True)
    undone = fields.String(
        allow_none=True,
        metadata={
            "enum": ["undone", "undoing", "unknown", "stands", None],
            "description": "What has become of undoing it; null: nobody has asked for that",
        },
    )
    undone_by = fields.String(
        allow_none=True, metadata={"description": "The run that undoes it, or was to"}
    )


class LogLineSchema(Schema):
    """One line that a step printed, or some words of a model that it asks."""

    step = fields.String()
    attempt = fields.Integer()
    line = fields.Integer()
    stream = fields.String(
        metadata={
            "description": "`stdout` and `stderr`: a line. `tokens`: words as they came, which go on"
            " where those before them ended"
        }
    )
    call = fields.Integer(
        allow_none=True, metadata={"description": "Of tokens: the call that they are said in"}
    )
    text = fields.String()
    at = fields.DateTime()


class OfStepArguments(Schema):
    """Of which step."""

    step = fields.String(metadata={"description": "Its key, such as `increment#1`"})


class LogsArguments(PageArguments):
    """Which lines."""

    step = fields.String(metadata={"description": "A step's key, such as `increment#1`"})


class AttemptsSchema(Schema):
    """Attempts, in order of their start."""

    items = fields.List(fields.Nested(AttemptSchema))


class CallsSchema(Schema):
    """Calls, in order of their start."""

    items = fields.List(fields.Nested(CallSchema))
