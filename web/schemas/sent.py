"""Events from outside, and what became of them."""

from __future__ import annotations

from marshmallow import Schema, fields, validate
from webargs.fields import DelimitedList

from engine.runs.events import KEPT_SECONDS
from web.schemas.pages import PageArguments

STATES = ("kept", "claimed", "dropped", "refused")
_MOST_SECONDS = 366 * 86_400.0


class NewEventSchema(Schema):
    """An event as it is sent."""

    payload = fields.Raw(allow_none=True, load_default=None)
    match = fields.Dict(
        keys=fields.String(),
        load_default=dict,
        metadata={"description": "A step that waits with the same one is meant"},
    )
    transient = fields.Boolean(
        load_default=False, metadata={"description": "Dropped if nobody waits for it now"}
    )
    keep_seconds = fields.Float(
        load_default=KEPT_SECONDS,
        validate=validate.Range(min=0, max=_MOST_SECONDS),
        metadata={"description": "How long it is kept while nobody takes it"},
    )


class SentEventSchema(Schema):
    """An event, and what became of it."""

    id = fields.String(metadata={"format": "uuid"})
    name = fields.String()
    run_id = fields.String(allow_none=True, metadata={"description": "The run it was sent to"})
    match = fields.Raw()
    payload = fields.Raw(allow_none=True)
    sent_by = fields.String()
    state = fields.String(validate=validate.OneOf(STATES))
    detail = fields.String(metadata={"description": "Why it was dropped or refused"})
    claimed_run = fields.String(allow_none=True)
    claimed_step = fields.String(allow_none=True)
    received_at = fields.DateTime()
    expires_at = fields.DateTime()


class SentArguments(PageArguments):
    """Which events."""

    state = DelimitedList(
        fields.String(validate=validate.OneOf(STATES)),
        load_default=(),
        metadata={"description": "One or several, separated by commas"},
    )
    run_id = fields.String(metadata={"description": "Only those that were sent to this run"})
