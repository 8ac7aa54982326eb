"""Runs as files."""

from __future__ import annotations

from marshmallow import Schema, fields, validate


class ExportArguments(Schema):
    """How much of users' data goes along."""

    payloads = fields.String(
        load_default="all",
        validate=validate.OneOf(["all", "small", "none"]),
        metadata={"description": "`small`: up to 4096 bytes of each line and call"},
    )
