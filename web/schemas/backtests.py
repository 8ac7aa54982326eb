"""What recorded runs are held against, and what comes of it."""

from __future__ import annotations

from typing import get_args

from marshmallow import Schema, fields, validate

from engine.core.transitions import RunStatus
from engine.guardrails.backtest import Consequence
from engine.retrace import Kind
from engine.runs import backtests
from web.schemas.fields import Moment

_STATUSES = [status.value for status in RunStatus]
_CONSEQUENCES = list(get_args(Consequence))


def _money(description: str) -> fields.Decimal:
    """Dollars as text: a number of JSON would not keep every digit."""
    told = {"type": "string", "description": f"US dollars, every digit: {description}"}
    return fields.Decimal(as_string=True, metadata=told)


class ChosenSchema(Schema):
    """Which runs: the newest of those that everything given holds of."""

    ids = fields.List(fields.UUID(), load_default=(), validate=validate.Length(max=backtests.MOST))
    workflow = fields.String(load_default=None)
    user = fields.String(load_default=None, metadata={"description": "Who submitted them"})
    status = fields.List(
        fields.String(validate=validate.OneOf(_STATUSES)),
        load_default=(),
        metadata={"description": "One of these"},
    )
    since = Moment(load_default=None, metadata={"description": "Submitted after it"})
    until = Moment(load_default=None, metadata={"description": "Submitted before it"})
    limit = fields.Integer(
        load_default=backtests.USUAL, validate=validate.Range(min=1, max=backtests.MOST)
    )


class PolicyBacktestSchema(Schema):
    """A policy, and the runs that it is held against."""

    policy = fields.Raw(
        required=True, metadata={"description": "The document: a text of YAML, or an object"}
    )
    beside = fields.Boolean(
        load_default=False,
        metadata={
            "description": "Beside the policies in force, rather than in place of all of them"
        },
    )
    runs = fields.Nested(ChosenSchema, load_default=dict)


class VersionBacktestSchema(Schema):
    """A version of a workflow, and the runs of the workflow that are led through it."""

    workflow = fields.String(required=True)
    version = fields.String(
        load_default=None, metadata={"description": "The latest, unless one is named"}
    )
    runs = fields.Nested(ChosenSchema, load_default=dict)


class ExtentSchema(Schema):
    """What was looked at."""

    runs = fields.Integer()
    truncated = fields.Boolean(metadata={"description": "More runs were chosen than looked at"})
    because = fields.String(
        allow_none=True,
        validate=validate.OneOf(["runs", "size", "time"]),
        metadata={"description": "What was too much"},
    )
    until = fields.DateTime(
        allow_none=True, metadata={"description": "What happened later was not judged any more"}
    )


class HeadSchema(Schema):
    """A run that was looked at."""

    run = fields.String(metadata={"format": "uuid"})
    workflow = fields.String()
    version = fields.String()
    user = fields.String()
    status = fields.String(validate=validate.OneOf(_STATUSES))
    created_at = fields.DateTime()
    cost_usd = _money("what it was charged")
    saved_usd = _money("what of this would not have been spent")
    untold = fields.List(
        fields.String(),
        attribute="unknown",
        data_key="unknown",
        metadata={"description": "What its record does not tell"},
    )


class JudgedRunSchema(HeadSchema):
    """What a policy would have made of a run."""

    moments = fields.Integer(metadata={"description": "How many were judged"})
    was = fields.String(
        validate=validate.OneOf(_CONSEQUENCES),
        metadata={"description": "What policies made of it when it was carried out"},
    )
    would = fields.String(validate=validate.OneOf(_CONSEQUENCES))
    first = fields.Dict(
        allow_none=True,
        metadata={
            "description": "The first moment at which something else would have followed: `at`, "
            "`moment`, `node`, `step`, `attempt`, `tool`, `recorded`, `would`, and the verdict"
        },
    )
    block = fields.Dict(
        allow_none=True,
        metadata={"description": "The first at which what was not blocked would have been"},
    )
    asked = fields.Integer(metadata={"description": "Questions to people that there were"})
    would_ask = fields.Integer(metadata={"description": "And that there would have been"})
    warnings = fields.Integer()


class PolicyTotalsSchema(Schema):
    """Of all runs together."""

    moments = fields.Integer()
    blocked = fields.Integer(
        metadata={"description": "Runs that would have been blocked where they were not"}
    )
    blocked_by = fields.Dict(keys=fields.String(), values=fields.Integer())
    were_blocked = fields.Integer(metadata={"description": "Runs that were blocked"})
    freed = fields.Integer(metadata={"description": "Of these, those that would not have been"})
    diverged = fields.Integer()
    asked = fields.Integer()
    would_ask = fields.Integer()
    more = fields.Integer(metadata={"description": "Questions more, of the runs with more"})
    fewer = fields.Integer(metadata={"description": "Questions fewer, of the runs with fewer"})
    cost_usd = _money("what the runs were charged")
    saved_usd = _money("what of this would not have been spent")
    fired = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        metadata={"description": "How often each rule and budget would have fired"},
    )
    untold = fields.Integer(
        attribute="unknown",
        data_key="unknown",
        metadata={"description": "Runs of which something is not known"},
    )


class JudgedRunsSchema(Schema):
    """What a policy would have made of recorded runs."""

    policy = fields.String()
    beside = fields.Boolean()
    extent = fields.Nested(ExtentSchema)
    totals = fields.Nested(PolicyTotalsSchema)
    runs = fields.List(fields.Nested(JudgedRunSchema))
    notes = fields.List(fields.String(), metadata={"description": "What is assumed"})


class LedRunSchema(HeadSchema):
    """What would have become of a run in another version."""

    outcome = fields.String(validate=validate.OneOf(["same", "different", "unknown"]))
    would_end = fields.String(
        allow_none=True,
        metadata={"description": "Its status at its end; null: its record does not reach there"},
    )
    would_reason = fields.String(allow_none=True)
    same_path = fields.Boolean()
    same_end = fields.Boolean()
    first = fields.Dict(
        allow_none=True,
        metadata={
            "description": f"The first difference: `kind` ({', '.join(get_args(Kind))}), `at`, "
            "`step`, `recorded`, `would`"
        },
    )
    missing = fields.List(
        fields.String(), metadata={"description": "Steps that would be asked for and were not done"}
    )
    not_made = fields.List(
        fields.String(), metadata={"description": "Steps that were done and would not be"}
    )


class VersionTotalsSchema(Schema):
    """Of all runs together."""

    same = fields.Integer()
    different = fields.Integer()
    untold = fields.Integer(attribute="unknown", data_key="unknown")
    first = fields.Dict(keys=fields.String(), values=fields.Integer())
    not_made = fields.Integer()
    missing = fields.Integer()
    cost_usd = _money("what the runs were charged")
    saved_usd = _money("what the steps have cost that would not have been done")


class LedRunsSchema(Schema):
    """What would have become of recorded runs in another version of their workflow."""

    workflow = fields.String()
    version = fields.String()
    version_id = fields.String(metadata={"format": "uuid"})
    extent = fields.Nested(ExtentSchema)
    totals = fields.Nested(VersionTotalsSchema)
    runs = fields.List(fields.Nested(LedRunSchema))
    notes = fields.List(fields.String(), metadata={"description": "What is assumed"})
