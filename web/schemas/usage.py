"""What was used, and budgets."""

from __future__ import annotations

from marshmallow import Schema, fields, validate
from webargs.fields import DelimitedList

from engine.guardrails import vocabulary as words
from engine.runs.usage import KEYS, WINDOWS
from web.schemas.fields import Amount, Moment
from web.schemas.pages import PageArguments

_UNITS = {"description": "By unit", "example": {"cost_usd": 0.25, "tokens_used": 812, "calls": 2}}


class UsageArguments(PageArguments):
    """Whose and what for, how told apart, and which page."""

    by = DelimitedList(
        fields.String(validate=validate.OneOf(KEYS)),
        load_default=(),
        metadata={
            "description": "What it is told apart by, one or several, separated by commas; else it is "
            "one sum"
        },
    )
    user = fields.String(metadata={"description": "Only what runs of this user used"})
    workflow = fields.String(metadata={"description": "Only what runs of this workflow used"})
    run = fields.String(metadata={"description": "Only what this run used"})
    node = fields.String(metadata={"description": "Only what nodes of this name used"})
    model = fields.String(metadata={"description": "Only what this model was used for"})
    tool = fields.String(metadata={"description": "Only calls of this tool"})
    since = Moment(metadata={"description": "From this time on"})
    until = Moment(metadata={"description": "Before this time"})
    window = fields.String(
        validate=validate.OneOf(WINDOWS),
        metadata={"description": "Only in the present hour, or day, UTC"},
    )


class KeysSchema(Schema):
    """Of whom and what: the keys that were asked for. Attempts have no tool."""

    user = fields.String()
    workflow = fields.String()
    run = fields.String()
    node = fields.String()
    model = fields.String(allow_none=True)
    tool = fields.String(allow_none=True)
    hour = fields.DateTime(metadata={"description": "When it begins, UTC"})
    day = fields.DateTime(metadata={"description": "When it begins, UTC"})


class UsedSchema(Schema):
    """What was used."""

    tenant = fields.String()
    by = fields.Nested(KeysSchema)
    used = fields.Dict(keys=fields.String(), values=Amount(), metadata=_UNITS)
    assumed = fields.Dict(
        keys=fields.String(),
        values=Amount(),
        metadata={"description": "As much of it as was assumed, because nobody reported it"},
    )
    reserved = fields.Dict(
        keys=fields.String(),
        values=Amount(),
        metadata={"description": "What is set aside beside it for what is under way"},
    )
    attempts = fields.Integer(metadata={"description": "How many were charged"})
    calls = fields.Integer(metadata={"description": "How many were charged"})


class BudgetsArguments(Schema):
    """Whose budgets."""

    user = fields.String(metadata={"description": "By default whoever asks"})
    workflow = fields.String(metadata={"description": "By default any"})
    run = fields.String(metadata={"description": "This run's: of its user and its workflow"})


class BudgetSchema(Schema):
    """A budget that is in force, and how it stands."""

    policy = fields.String()
    version = fields.Integer()
    name = fields.String()
    scope = fields.String(validate=validate.OneOf(words.SCOPES))
    subject = fields.String(
        allow_none=True,
        metadata={"description": "The run, workflow, user or tenant; null where none was named"},
    )
    metric = fields.String(metadata={"example": "cost_usd"})
    window = fields.String(validate=validate.OneOf(words.WINDOWS))
    begins = fields.DateTime(
        allow_none=True, metadata={"description": "The present window; null without one"}
    )
    ends = fields.DateTime(allow_none=True)
    limit = Amount()
    extra = Amount(metadata={"description": "What people have allowed beside the limit"})
    spent = Amount(
        allow_none=True, metadata={"description": "null where nobody counts, or without a subject"}
    )
    reserved = Amount(allow_none=True)
    left = Amount(allow_none=True)
    enforced = fields.Boolean(metadata={"description": "false: what passes it is only noted"})
    on_shortfall = fields.String(validate=validate.OneOf(words.SHORTFALLS))
    ask_above = Amount(
        allow_none=True,
        metadata={"description": "The share of the limit above which people are asked"},
    )


class BudgetsSchema(Schema):
    """The budgets that apply to somebody's runs, at one moment."""

    tenant = fields.String()
    user = fields.String()
    workflow = fields.String(allow_none=True)
    run = fields.String(allow_none=True)
    at = fields.DateTime()
    budgets = fields.List(fields.Nested(BudgetSchema))
