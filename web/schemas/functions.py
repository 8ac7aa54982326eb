"""Functions and tools."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from engine import services, tools
from web.schemas.pages import PageArguments

MOST_LISTED = 1000


class NewFunctionSchema(Schema):
    """A function as it is handed in: its source, which defines a function of its name."""

    name = fields.String(required=True, metadata={"example": "increment"})
    code = fields.String(
        required=True,
        metadata={"example": "def increment(state):\n  state.set('n', state.get('n', 0) + 1)\n"},
    )
    description = fields.String(load_default=None, allow_none=True)


class TermsSchema(Schema):
    """What a tool asks of its callers; part of its version."""

    required_permissions = fields.List(
        fields.String(),
        metadata={
            "description": "What a caller must be allowed",
            "example": ["read:documents"],
        },
    )
    cost_estimate_usd = fields.Float(
        metadata={"description": "USD that a call is taken to cost until that is known"}
    )
    tokens_estimate = fields.Integer(
        strict=True, metadata={"description": "LLM tokens that a call is taken to use"}
    )
    timeout_seconds = fields.Float(metadata={"description": "How long a call may take"})
    rate_per_minute = fields.Integer(
        strict=True,
        allow_none=True,
        metadata={"description": "Calls of one user; null: any number"},
    )
    rate_per_hour = fields.Integer(strict=True, allow_none=True)
    requires_approval = fields.Boolean(
        metadata={"description": "A person is asked before each call"}
    )
    category = fields.String(allow_none=True, metadata={"enum": [*tools.CATEGORIES, None]})
    undo = fields.Raw(
        allow_none=True,
        metadata={
            "description": "What undoes a call, should somebody choose that: a tool's name, or an object "
            "of `tool` and `with`: its arguments, in which `$arguments` and `$result` are those of the call; "
            "left out, it is given these two",
            "example": {"tool": "refund", "with": {"charge": "$result.id"}},
        },
    )


class StandingSchema(Schema):
    """How a tool stands, in all of its versions."""

    status = fields.String(
        metadata={
            "enum": [*tools.STATUSES],
            "description": "A tool that is disabled or in maintenance is not called",
        }
    )
    tags = fields.List(fields.String())


class ChangeSchema(StandingSchema):
    """How a tool is to stand from now on; what is left out stays as it is."""

    reason = fields.String(load_default="", metadata={"description": "For the audit"})


class NewToolSchema(NewFunctionSchema, TermsSchema, StandingSchema):
    """A tool as it is handed in."""

    parameters = fields.Dict(
        keys=fields.String(),
        allow_none=True,
        metadata={
            "description": "The JSON Schema of its arguments, or schemas by name; arguments are "
            "held to it before the tool is called",
            "example": {"query": {"type": "string"}},
        },
    )
    effect = fields.String(
        load_default="pure",
        validate=validate.OneOf(tools.EFFECTS),
        metadata={"description": "What a call leaves in the world, and so what a retry may do"},
    )


class NewServiceSchema(TermsSchema, StandingSchema):
    """A service as it is handed in: a tool of a kind, and how it is set up."""

    name = fields.String(required=True, metadata={"example": "openai"})
    kind = fields.String(required=True, metadata={"enum": sorted(services.READERS)})
    config = fields.Dict(
        keys=fields.String(),
        required=True,
        metadata={
            "description": "As its kind has it; what must stay secret as $env.NAME",
            "example": {"hosts": ["https://api.example.com"]},
        },
    )
    description = fields.String(load_default=None, allow_none=True)
    effect = fields.String(
        load_default=None,
        allow_none=True,
        validate=validate.OneOf(tools.EFFECTS),
        metadata={"description": "What a call leaves in the world; else as its kind says"},
    )


class ServiceSchema(Schema):
    """What a service is."""

    kind = fields.String()
    config = fields.Dict()


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


class ToolVersionSchema(FunctionSchema, TermsSchema, StandingSchema):
    """A version of a tool, and how it stands."""

    parameters = fields.Dict(
        metadata={"description": "The JSON Schema that it declares; else as `takes`"}
    )
    service = fields.Nested(
        ServiceSchema, allow_none=True, metadata={"description": "Of a service: how it is set up"}
    )
    takes = fields.Dict(metadata={"description": "What its code takes, by name"})
    schema = fields.Dict(
        metadata={"description": "The JSON Schema of its arguments, declared or derived"}
    )


class WholeToolVersionSchema(ToolVersionSchema):
    """A version of a tool, with its source."""

    source = fields.String(allow_none=True)


class ToolVersionsSchema(Schema):
    """Versions, newest first."""

    items = fields.List(fields.Nested(ToolVersionSchema))


class ModelToolsArguments(PageArguments):
    """Which tools."""

    limit = fields.Integer(
        load_default=MOST_LISTED, validate=validate.Range(min=1, max=MOST_LISTED)
    )
    tag = fields.String()
    category = fields.String(metadata={"enum": [*tools.CATEGORIES]})


class ModelFunctionSchema(Schema):
    """A function in the words of language models."""

    name = fields.String()
    description = fields.String()
    parameters = fields.Dict()


class ModelToolSchema(Schema):
    """A tool in the words of language models."""

    type = fields.String(metadata={"enum": ["function"]})
    function = fields.Nested(ModelFunctionSchema)


class WholeFunctionSchema(FunctionSchema):
    """A version of a function or tool, with its source."""

    source = fields.String(allow_none=True)


class FunctionVersionsSchema(Schema):
    """Versions, newest first."""

    items = fields.List(fields.Nested(FunctionSchema))
