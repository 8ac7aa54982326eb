"""Workflows and their versions."""

from __future__ import annotations

from marshmallow import Schema, fields


class VersionSchema(Schema):
    """A published version of a workflow."""

    id = fields.String(metadata={"format": "uuid"})
    workflow = fields.String()
    version = fields.String(metadata={"example": "1.0.0"})
    checksum = fields.String()
    created_by = fields.String()
    created_at = fields.DateTime()


class WholeVersionSchema(VersionSchema):
    """A published version, with its document."""

    document = fields.Dict()
