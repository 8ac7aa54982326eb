"""Steps that wait for people, and what people say to them."""

from __future__ import annotations

from marshmallow import Schema, fields, validate
from webargs.fields import DelimitedList

from engine.runs.waits import KINDS
from web.schemas.pages import PageArguments


class WaitsArguments(PageArguments):
    """Which waits."""

    kind = DelimitedList(
        fields.String(validate=validate.OneOf(KINDS)),
        load_default=KINDS,
        metadata={"description": "One or several, separated by commas"},
    )
    run_id = fields.String()


class OpenWaitSchema(Schema):
    """A step that waits for people or for an event."""

    run_id = fields.String(metadata={"format": "uuid"})
    workflow = fields.String()
    step = fields.String(metadata={"example": "accept#1"})
    node = fields.String()
    kind = fields.String(validate=validate.OneOf(KINDS))
    name = fields.String(metadata={"description": "Of an event"})
    match = fields.Raw(allow_none=True, metadata={"description": "What an event must match"})
    schema = fields.Raw(allow_none=True, metadata={"description": "What its payload must fit"})
    title = fields.String(allow_none=True)
    show = fields.Raw(allow_none=True, metadata={"description": "What people are shown"})
    choices = fields.List(fields.String())
    form = fields.Raw(allow_none=True, metadata={"description": "The JSON Schema of the form"})
    who = fields.List(
        fields.String(),
        metadata={"description": "Who may answer: `role:NAME`, `user:NAME`; anybody where empty"},
    )
    quorum = fields.Integer(allow_none=True, metadata={"description": "How many must say the same"})
    opened_at = fields.DateTime()
    expires_at = fields.DateTime(allow_none=True)


class AnswerSchema(Schema):
    """What somebody says to a step that asks."""

    choice = fields.String(metadata={"description": "One of the choices, where there are any"})
    form = fields.Dict(keys=fields.String(), load_default=dict)


class AnsweredSchema(Schema):
    """What an answer came to."""

    settled = fields.Boolean(metadata={"description": "Nobody is asked any more"})
    said = fields.Integer(metadata={"description": "How many have said the same"})
    quorum = fields.Integer(metadata={"description": "How many must"})


class NewItemsSchema(Schema):
    """Items for a map."""

    items = fields.List(fields.Raw(allow_none=True), required=True)


class ItemsSchema(Schema):
    """How many items a map has."""

    items = fields.Integer(
        allow_none=True, metadata={"description": "null while its run is being held up"}
    )
