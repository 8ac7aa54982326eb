"""History, events and checkpoints."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from web.schemas.pages import MOST

#: As large as any seq can be.
LAST = 2**62


class HistoryArguments(Schema):
    """Which lines."""

    after = fields.Integer(
        load_default=0,
        validate=validate.Range(min=0, max=LAST),
        metadata={"description": "The `seq` that was read last"},
    )
    limit = fields.Integer(load_default=100, validate=validate.Range(min=1, max=MOST))
    payloads = fields.Boolean(
        load_default=False, metadata={"description": "With the users' data that lines point to"}
    )


class LineSchema(Schema):
    """One line of a run's history: what was reported, or what was decided."""

    seq = fields.Integer()
    at = fields.DateTime()
    kind = fields.String(metadata={"example": "AttemptSucceeded"})
    format = fields.Integer()
    body = fields.Dict()
    payload = fields.Dict(allow_none=True)
    hash = fields.String()


class HistorySchema(Schema):
    """Lines in order."""

    items = fields.List(fields.Nested(LineSchema))
    next = fields.Integer(
        allow_none=True, metadata={"description": "the `after` of what follows, or null"}
    )


class EventsArguments(Schema):
    """From where on."""

    after = fields.String(metadata={"description": "The `id` of the event that was read last"})
    payloads = fields.Boolean(load_default=False)
    logs = fields.Boolean(load_default=True)


class CheckpointSchema(Schema):
    """A place in history that a run can be taken up from."""

    seq = fields.Integer()
    at = fields.DateTime()
    step = fields.String(allow_none=True)
    snapshot = fields.Boolean()


class StateSchema(Schema):
    """A run's whole state just after a line of its history."""

    seq = fields.Integer()
    state = fields.Dict()
