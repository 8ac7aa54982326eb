"""Workflows, their versions, and drafts of them."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, pre_dump, validate

from web import rendering
from web.schemas.agents import WrittenBySchema
from web.schemas.problems import FieldProblemSchema

NOTES_CHARACTERS = 4000
_ADDRESS_CHARACTERS = 1000


class VersionSchema(Schema):
    """A published version of a workflow."""

    id = fields.String(metadata={"format": "uuid"})
    workflow = fields.String()
    version = fields.String(metadata={"example": "1.0.0"})
    checksum = fields.String()
    created_by = fields.String()
    created_at = fields.DateTime()
    notes = fields.String(metadata={"description": "What whoever published it said of it"})
    retired_at = fields.DateTime(
        allow_none=True, metadata={"description": "Since then, no run of it is started"}
    )
    retired_by = fields.String(allow_none=True)


class WholeVersionSchema(VersionSchema):
    """A published version, with its document."""

    document = fields.Dict()
    written_by = fields.Nested(
        WrittenBySchema, allow_none=True, metadata={"description": "Null: a person published it"}
    )


class PublishArguments(Schema):
    """What is said of a version as it is published. Of a draft it may be more: there it is a body."""

    notes = fields.String(load_default="", validate=validate.Length(max=_ADDRESS_CHARACTERS))


class NotesSchema(Schema):
    """What is said of a version that a draft becomes."""

    notes = fields.String(load_default="", validate=validate.Length(max=NOTES_CHARACTERS))


class DraftSchema(Schema):
    """A draft in a list."""

    workflow = fields.String()
    revision = fields.Integer(
        metadata={"description": "One more each time it is saved; its ETag", "example": 3}
    )
    created_by = fields.String()
    created_at = fields.DateTime()
    saved_by = fields.String()
    saved_at = fields.DateTime()


class WholeDraftSchema(DraftSchema):
    """A draft as it was written, and all that keeps it from being published."""

    text = fields.String(metadata={"description": "As it was written, YAML or JSON"})
    valid = fields.Boolean()
    problems = fields.List(fields.Nested(FieldProblemSchema))

    @pre_dump
    def _flatten(self, data: Any, **_: object) -> Any:
        """The draft and what is wrong with it as one thing."""
        told = {"valid": not data.problems, "problems": data.problems}
        return {**rendering.record(data.draft), **told}
