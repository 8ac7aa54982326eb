"""A run that is decided once more, and what comes of it."""

from __future__ import annotations

from typing import get_args

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from engine import retrace
from engine.core import replay
from engine.core.transitions import RunStatus
from engine.core.values import MAX_INTEGER
from engine.runs import explanations, replays


class ReplaySchema(Schema):
    """What a run is held against: itself, or one of these."""

    version = fields.String(
        load_default=None,
        allow_none=False,
        metadata={"description": "Another version of its workflow"},
    )
    policy = fields.Raw(
        load_default=None,
        allow_none=False,
        metadata={"description": "A policy's document: a text of YAML, or an object"},
    )
    beside = fields.Boolean(
        load_default=False,
        metadata={
            "description": "The policy beside those in force, rather than in place of all of them"
        },
    )

    @validates_schema
    def _one_of_two(self, data: dict[str, object], **_: object) -> None:
        if data["version"] is not None and data["policy"] is not None:
            raise ValidationError("name either this or `version`", "policy")
        if data["beside"] and data["policy"] is None:
            raise ValidationError("belongs to `policy`", "beside")


class WouldSchema(Schema):
    """What would have changed."""

    end = fields.String(
        allow_none=True,
        metadata={"description": "Its status at its end; null: its record does not reach there"},
    )
    reason = fields.String(allow_none=True)
    missing = fields.List(
        fields.String(), metadata={"description": "Steps that would be asked for and were not done"}
    )
    not_made = fields.List(
        fields.String(), metadata={"description": "Steps that were done and would not be"}
    )
    consequence = fields.String(
        allow_none=True, metadata={"description": "What a policy would have made of it"}
    )
    asked = fields.Integer(metadata={"description": "Questions to people that there were"})
    would_ask = fields.Integer(metadata={"description": "And that there would have been"})
    saved_usd = fields.Decimal(
        as_string=True,
        metadata={"type": "string", "description": "US dollars that would not have been spent"},
    )


class ReplayedSchema(Schema):
    """What came of deciding a run once more."""

    run = fields.String(metadata={"format": "uuid"})
    workflow = fields.String()
    version = fields.String()
    against = fields.String(validate=validate.OneOf(get_args(replays.Against)))
    other = fields.String(allow_none=True, metadata={"description": "The version, or the policy"})
    outcome = fields.String(validate=validate.OneOf(get_args(replays.Outcome)))
    decisions = fields.Integer(
        metadata={
            "description": "What was compared: decisions; of a policy, moments at which it is asked"
        }
    )
    divergences = fields.Integer(
        metadata={"description": "0 or 1: what follows the first one rests on it"}
    )
    first = fields.Dict(
        allow_none=True,
        metadata={
            "description": "The first divergence, with `at`, `step`, `recorded` and `would`. Of a "
            f"run by itself `kind` is {', '.join(get_args(replay.Kind))}, `seq` its line and "
            "`differs` the fields that do; of a version `kind` is "
            f"{', '.join(get_args(retrace.Kind))}; of a policy there are `moment` and the verdict"
        },
    )
    untold = fields.Integer(
        metadata={"description": "Decisions that could not be compared, and were taken as told"}
    )
    seq = fields.Integer(metadata={"description": "The last line that was looked at"})
    complete = fields.Boolean(metadata={"description": "It was looked at up to there, or its end"})
    unknown_things = fields.List(
        fields.String(),
        attribute="unknown",
        data_key="unknown",
        metadata={"description": "What could not be compared, and why"},
    )
    notes = fields.List(fields.String(), metadata={"description": "What is assumed"})
    would = fields.Nested(WouldSchema, allow_none=True)


class ExplainArguments(Schema):
    """Which decisions: the newest, or those before a line."""

    before = fields.Integer(
        load_default=None,
        validate=validate.Range(min=1, max=MAX_INTEGER),
        metadata={"description": "Only decisions before this line of history"},
    )


class WaitingSchema(Schema):
    """Something that waits, for what, and when it wakes."""

    what = fields.String(validate=validate.OneOf(get_args(explanations.What)))
    step = fields.String(allow_none=True)
    node = fields.String(allow_none=True)
    status = fields.String()
    waits_for = fields.String()
    since = fields.DateTime(allow_none=True)
    wakes_at = fields.DateTime(
        allow_none=True,
        metadata={
            "description": "When somebody looks at it again, or it stops waiting; null: when what "
            "it waits for comes"
        },
    )
    of = fields.Dict(metadata={"description": "What it waits for, by name"})


class WaySchema(Schema):
    """An edge that was taken or was not, and why."""

    edge = fields.String()
    target = fields.String(allow_none=True)
    taken = fields.Boolean()
    why = fields.String(
        allow_none=True,
        metadata={
            "description": "Why not: `choice`, `condition`, `earlier` (another edge was taken before "
            "it), `max_iterations`"
        },
    )
    when = fields.String(allow_none=True, metadata={"description": "Its condition"})
    saw = fields.Dict(metadata={"description": "The values that the condition rested on"})
    verdict = fields.Boolean(
        allow_none=True, metadata={"description": "What it came to; null: it was not asked"}
    )
    told = fields.String(metadata={"description": "All of it in a sentence"})


class DecisionSchema(Schema):
    """What was decided of a step that was settled."""

    seq = fields.Integer()
    at = fields.DateTime()
    step = fields.String()
    node = fields.String()
    choice = fields.Raw(allow_none=True)
    ways = fields.List(fields.Nested(WaySchema))
    rolled_back = fields.Boolean(metadata={"description": "The run has gone back to before it"})


class ExplanationSchema(Schema):
    """Why a run is where it is."""

    run = fields.String(metadata={"format": "uuid"})
    workflow = fields.String()
    version = fields.String()
    status = fields.String(validate=validate.OneOf([status.value for status in RunStatus]))
    seq = fields.Integer(metadata={"description": "The last line of its history"})
    why = fields.String(metadata={"description": "In a sentence"})
    reason = fields.String(allow_none=True, metadata={"description": "Why it ended"})
    message = fields.String(allow_none=True)
    step = fields.String(allow_none=True, metadata={"description": "The step that it ended for"})
    live = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        metadata={"description": "How many steps are live, by status"},
    )
    waits = fields.List(fields.Nested(WaitingSchema))
    more_waits = fields.Boolean(metadata={"description": "Not all live steps are told"})
    decisions = fields.List(
        fields.Nested(DecisionSchema), metadata={"description": "The newest first"}
    )
    before = fields.Integer(
        allow_none=True,
        metadata={"description": "Asked for with it, the decisions before these; null: none are"},
    )
