"""The audit: its entries, and what verifying it found."""

from __future__ import annotations

from marshmallow import Schema, fields

from web.schemas.fields import Moment
from web.schemas.pages import PageArguments


class AuditArguments(PageArguments):
    """Which entries."""

    since = Moment(metadata={"description": "From this time on"})
    until = Moment(metadata={"description": "Before this time"})
    run = fields.String(metadata={"description": "Only of this run"})
    workflow = fields.String(metadata={"description": "Only of this workflow and its runs"})
    by = fields.String(metadata={"description": "Only what this user did"})
    action = fields.String(
        metadata={"description": "Only of this kind", "example": "workflow.publish"}
    )


class EntrySchema(Schema):
    """One line of a run's history, or one act that was done beside runs."""

    at = fields.DateTime()
    action = fields.String(metadata={"description": "The kind of the line, or what was done"})
    by = fields.String()
    subject = fields.String(metadata={"description": "What it was done to; of a line, the step"})
    why = fields.String()
    run = fields.String(allow_none=True)
    workflow = fields.String(allow_none=True)
    seq = fields.Integer(allow_none=True)
    act = fields.String(allow_none=True, metadata={"description": "The id of the act"})
    position = fields.Integer(
        allow_none=True, metadata={"description": "Of the act in its chain, once it is sealed"}
    )
    detail = fields.Dict()
    before = fields.String(allow_none=True, metadata={"description": "Digest of what was there"})
    after = fields.String(allow_none=True, metadata={"description": "Digest of what is there"})
    hash = fields.String(allow_none=True)


class VerifyArguments(Schema):
    """What of it."""

    run = fields.String(metadata={"description": "Only this run"})


class FaultSchema(Schema):
    """Something that is not as it was."""

    table = fields.String()
    run = fields.String(allow_none=True)
    row = fields.String(
        metadata={"description": "The seq of a line, the id of an act, the number of an anchor"}
    )
    detail = fields.String()


class TailSchema(Schema):
    """Lines of a run that no anchor covers yet."""

    run = fields.String()
    first = fields.Integer()
    last = fields.Integer()


class VerifiedSchema(Schema):
    """What verifying found."""

    sound = fields.Boolean()
    runs = fields.Integer()
    lines = fields.Integer()
    acts = fields.Integer()
    anchors = fields.Integer()
    copies = fields.Integer(metadata={"description": "Of anchors, outside of the database"})
    shredded = fields.Integer(metadata={"description": "Users' data that an act has shredded"})
    anchored_at = fields.DateTime(allow_none=True)
    unsigned = fields.Integer(
        metadata={"description": "The newest anchors of which no signature was verified"}
    )
    uncopied = fields.Integer(metadata={"description": "Anchors that wait for their copy"})
    tail_acts = fields.Integer(metadata={"description": "Acts that are not promised yet"})
    tail_runs = fields.Integer()
    tail_lines = fields.Integer()
    tail = fields.List(fields.Nested(TailSchema))
    notes = fields.List(fields.String())
    faults = fields.List(fields.Nested(FaultSchema))
