"""Health."""

from __future__ import annotations

from marshmallow import Schema, fields, validate


class HealthSchema(Schema):
    """That the process answers."""

    status = fields.String(validate=validate.Equal("healthy"))


class ReadySchema(Schema):
    """That requests can be served."""

    status = fields.String(validate=validate.Equal("ready"))
