"""Problems, as RFC 9457 has them, with one entry for everything that is wrong."""

from __future__ import annotations

from marshmallow import Schema, fields


class FieldProblemSchema(Schema):
    """One thing that is wrong, where, and what to do about it."""

    path = fields.String(metadata={"description": "Where: `nodes[2].timeout`, a header, ``"})
    message = fields.String()
    remedy = fields.String()


class SettledSchema(Schema):
    """How what somebody came too late for was settled."""

    by = fields.String(metadata={"description": "`user:NAME`, or `clock`"})
    choice = fields.String(allow_none=True)
    at = fields.DateTime(allow_none=True)


class ProblemSchema(Schema):
    """What went wrong."""

    type = fields.String(metadata={"example": "about:blank"})
    title = fields.String(metadata={"example": "Unprocessable Entity"})
    status = fields.Integer(metadata={"example": 422})
    detail = fields.String()
    request_id = fields.String()
    errors = fields.List(fields.Nested(FieldProblemSchema))
    verdict = fields.Nested(
        SettledSchema, metadata={"description": "Of a question that is settled already"}
    )


class SeedErrorSchema(Schema):
    """What went wrong, in the words of seed 000."""

    error = fields.String()
    detail = fields.String()
    errors = fields.List(fields.Nested(FieldProblemSchema))
