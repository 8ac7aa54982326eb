"""Functions and tools."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

EFFECTS = ("pure", "idempotent", "at_most_once", "compensable")


class NewFunctionSchema(Schema):
    """A function as it is handed in: its source, which defines a function of its name."""

    name = fields.String(required=True, metadata={"example": "increment"})
    code = fields.String(
        required=True,
        metadata={"example": "def increment(state):\n  state.set('n', state.get('n', 0) + 1)\n"},
    )
    description = fields.String(load_default=None, allow_none=True)


class NewToolSchema(NewFunctionSchema):
    """A tool as it is handed in."""

    effect = fields.String(
        load_default="pure",
        validate=validate.OneOf(EFFECTS),
        metadata={"description": "What a call leaves in the world, and so what a retry may do"},
    )


class FunctionSchema(Schema):
    """A version of a function or tool."""

    name = fields.String()
    version = fields.Integer()
    description = fields.String()
    parameters = fields.Dict()
    effect = fields.String()
    checksum = fields.String()
    library = fields.String(
        allow_none=True, metadata={"description": "Where installed library code has it"}
    )
    created_by = fields.String()
    created_at = fields.DateTime()


class WholeFunctionSchema(FunctionSchema):
    """A version of a function or tool, with its source."""

    source = fields.String(allow_none=True)


class FunctionVersionsSchema(Schema):
    """Versions, newest first."""

    items = fields.List(fields.Nested(FunctionSchema))
