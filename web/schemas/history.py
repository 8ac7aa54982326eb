"""History, events and checkpoints."""

from __future__ import annotations

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from engine.runs import compensations, effects
from web.schemas.fields import Choice
from web.schemas.pages import MOST
from web.schemas.runs import ReasonSchema, StatusSchema

#: As large as any seq can be.
LAST = 2**62
_NAME = 200
#: Characters of the name of a call: that of its run, and that of its step, which is one of a node within maps.
_CALL = 500
_FATES = ("undone", "undoing", "unknown", "stands")


class HistoryArguments(Schema):
    """Which lines."""

    after = fields.Integer(
        load_default=0,
        validate=validate.Range(min=0, max=LAST),
        metadata={"description": "The `seq` that was read last"},
    )
    limit = fields.Integer(load_default=100, validate=validate.Range(min=1, max=MOST))
    payloads = fields.Boolean(
        load_default=False, metadata={"description": "With the users' data that lines point to"}
    )


class LineSchema(Schema):
    """One line of a run's history: what was reported, or what was decided."""

    seq = fields.Integer()
    at = fields.DateTime()
    kind = fields.String(metadata={"example": "AttemptSucceeded"})
    format = fields.Integer()
    body = fields.Dict()
    payload = fields.Dict(allow_none=True)
    hash = fields.String()


class HistorySchema(Schema):
    """Lines in order."""

    items = fields.List(fields.Nested(LineSchema))
    next = fields.Integer(
        allow_none=True, metadata={"description": "the `after` of what follows, or null"}
    )


class EventsArguments(Schema):
    """From where on."""

    after = fields.String(metadata={"description": "The `id` of the event that was read last"})
    payloads = fields.Boolean(load_default=False)
    logs = fields.Boolean(load_default=True)


class CheckpointSchema(Schema):
    """A place in history that a run can be taken up from."""

    seq = fields.Integer()
    at = fields.DateTime()
    step = fields.String(allow_none=True, metadata={"description": "The step that settled there"})
    snapshot = fields.Boolean()
    name = fields.String(allow_none=True)
    named_by = fields.String(allow_none=True)
    rolled_back = fields.Boolean(metadata={"description": "The run has gone back to before it"})


class PlaceArguments(Schema):
    """What a place is held against."""

    against = fields.Integer(
        load_default=None,
        validate=validate.Range(min=0, max=LAST),
        metadata={"description": "Another `seq` of the run: say what has changed since"},
    )


class NameSchema(Schema):
    """What a place is called from now on."""

    name = fields.String(required=True, validate=validate.Length(min=1, max=_NAME))


class ForkSchema(Schema):
    """What of the variables is not to be as it was there, and what becomes of calls that were made since."""

    variables = fields.Dict(keys=fields.String(), load_default=dict)
    removed = fields.List(
        fields.String(), load_default=list, metadata={"description": "Variables to be taken away"}
    )
    choices = fields.Dict(
        keys=fields.String(),
        values=fields.String(validate=validate.OneOf((*effects.CHOICES, effects.COMPENSATE))),
        load_default=dict,
        validate=validate.Length(max=MOST),
        metadata={
            "description": "By call (`STEP.ORDINAL`) or effect class. `reuse`: its result is served if the "
            "same call is made; `skip`: that is not made, and gives null; `execute`: it is made again. Calls "
            "that may happen only once, and have happened, must be chosen. `compensate` is refused with what is to "
            "be asked for first (`POST …/undo`), but a paused run goes back with it: the same call is refused until the one "
            "that was made is undone, which can be asked for then. It is nothing for what is undone",
            "example": {"at_most_once": "reuse", "pay#1.1": "skip"},
        },
    )


class RollbackSchema(ForkSchema, ReasonSchema):
    """Where a run goes back to: a line of its history, or a place that has a name."""

    seq = fields.Integer(validate=validate.Range(min=1, max=LAST))
    name = fields.String(validate=validate.Length(min=1, max=_NAME))

    @validates_schema
    def _one_of_two(self, data: dict[str, object], **_: object) -> None:
        if ("seq" in data) == ("name" in data):
            raise ValidationError("name either this or `name`", "seq")


class WentBackSchema(Schema):
    """What became of a run that went back."""

    to = fields.Integer(metadata={"description": "The line that it went back to"})
    seq = fields.Integer(metadata={"description": "The line that says so"})
    ended = fields.List(
        fields.String(), metadata={"description": "Steps that were live until then"}
    )
    anew = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        metadata={
            "description": "Steps that were live there, and the names under which they begin anew"
        },
    )
    spent_there = fields.Dict(
        keys=fields.String(),
        values=fields.Float(),
        metadata={"description": "What its attempts had used by that line"},
    )
    spent = fields.Dict(
        keys=fields.String(),
        values=fields.Float(),
        metadata={"description": "What they have really used"},
    )
    charged = fields.Dict(
        keys=fields.String(),
        values=fields.Float(),
        metadata={
            "description": "What was charged for the run so far, with calls, and what is assumed of "
            "attempts that were cut off"
        },
    )


class RollbackAnswerSchema(StatusSchema):
    """Where a run stands, and what became of going back."""

    rollback = fields.Nested(
        WentBackSchema,
        allow_none=True,
        metadata={"description": "null: it is asked for, and happens with the run's next turn"},
    )


class GivenResultSchema(Schema):
    """What the result of a step is to be, so that it is not carried out."""

    result = fields.Raw(required=True, allow_none=True)
    choice = Choice(
        load_default=None,
        metadata={"description": "What it chose, where its edges ask for that"},
    )


class RestartSchema(ForkSchema):
    """How a run goes on from just before a step: with that carried out anew, unless a result is given."""

    given = fields.Nested(GivenResultSchema, load_default=None, allow_none=True)


class EffectSchema(Schema):
    """A call of the run, or of one around or within it, and what would become of it."""

    name = fields.String(metadata={"description": "By which it is chosen for"})
    run = fields.String()
    step = fields.String()
    ordinal = fields.Integer()
    tool = fields.String()
    version = fields.Integer()
    effect = fields.String(
        validate=validate.OneOf(["pure", "idempotent", "at_most_once", "compensable"])
    )
    happened = fields.String(
        validate=validate.OneOf(["yes", "no", "unknown", "undone", "undoing"]),
        metadata={
            "description": "Whether it was made; of one that is not `later`, as was known then. `undone`: it is as "
            "if it had not been; `undoing`: a run is at that"
        },
    )
    becomes = fields.String(
        validate=validate.OneOf(["served", "asked", "repeated", "undecided"]),
        metadata={
            "description": "`served`: not made again; `asked`: whether it happened is not known, and "
            "people are asked; `repeated`: made again, if the run comes there; `undecided`: somebody must "
            "choose (`choices`)"
        },
    )
    later = fields.Boolean(
        metadata={"description": "It was made after the place: it can be chosen for"}
    )
    anew = fields.Boolean(
        metadata={
            "description": "It is of a run within, which is started anew and makes its own calls"
        }
    )
    choices = fields.List(fields.String(), metadata={"description": "What can be chosen for it"})
    undone_by = fields.String(
        allow_none=True, metadata={"description": "The run that undoes it, or was to"}
    )


class EffectsArguments(Schema):
    """Who would go on."""

    itself = fields.Boolean(
        load_default=False,
        metadata={
            "description": "The run itself goes back there, rather than that another one goes on from there"
        },
    )


class EffectsSchema(Schema):
    """Calls whose effects a run that goes on from a place may repeat, or not."""

    seq = fields.Integer()
    items = fields.List(fields.Nested(EffectSchema))


class UndoSchema(ReasonSchema):
    """Which calls of a run are to be undone."""

    calls = fields.List(
        fields.String(validate=validate.Length(max=_CALL)),
        required=True,
        validate=validate.Length(min=1, max=MOST),
        metadata={
            "description": "`STEP.ORDINAL`, of other runs around or within it `RUN/STEP.ORDINAL`; `compensable`: "
            "all that are left to be undone of the run and those within it",
            "example": ["pay#1.1"],
        },
    )


class SettleUndoSchema(ReasonSchema):
    """What has become of undoing a call of which nobody knew."""

    call = fields.String(
        required=True,
        validate=validate.Length(min=1, max=_CALL),
        metadata={"description": "As `calls` of undoing name it", "example": "pay#1.1"},
    )
    fate = fields.String(
        required=True,
        validate=validate.OneOf(compensations.SETTLED),
        metadata={"description": "`undone`, or `stands`: it may be undone then, by another run"},
    )


class UndoableSchema(Schema):
    """A call of a run, and how it would be undone, or why it cannot be."""

    name = fields.String(metadata={"description": "By which it is asked for"})
    run = fields.String()
    step = fields.String()
    ordinal = fields.Integer()
    tool = fields.String()
    version = fields.Integer()
    effect = fields.String()
    happened = fields.String(
        validate=validate.OneOf(["yes", "no", "unknown", "served"]),
        metadata={"description": "`served`: another call was made, and its result was given again"},
    )
    undone = fields.String(
        allow_none=True,
        metadata={
            "enum": [*_FATES, None],
            "description": "What has become of undoing it; null: nobody has asked for that",
        },
    )
    by = fields.String(allow_none=True, metadata={"description": "The run that undoes it"})
    undo = fields.String(allow_none=True, metadata={"description": "The tool that does"})
    arguments = fields.Dict(
        keys=fields.String(), allow_none=True, metadata={"description": "What that is given"}
    )
    why = fields.String(
        allow_none=True, metadata={"description": "Why it cannot be undone; null: it can be"}
    )
    remedy = fields.String(allow_none=True)


class UndoablesSchema(Schema):
    """Calls that may not be repeated, in the order in which they were made."""

    items = fields.List(fields.Nested(UndoableSchema))


class StandingStepSchema(Schema):
    """A live step."""

    key = fields.String()
    node = fields.String()
    status = fields.String()
    attempt = fields.Integer()


class StandingTokenSchema(Schema):
    """A mark on an edge."""

    edge = fields.String()
    target = fields.String()
    waits = fields.Boolean(metadata={"description": "For others that belong with it"})


class FrontierSchema(Schema):
    """Where the threads of a run stand."""

    steps = fields.List(fields.Nested(StandingStepSchema))
    tokens = fields.List(fields.Nested(StandingTokenSchema))


class VariableChangeSchema(Schema):
    """A variable that is not the same."""

    before = fields.Raw(allow_none=True)
    after = fields.Raw(allow_none=True)


class DifferenceSchema(Schema):
    """What has changed since another place: variables, live steps, visits, what was used."""

    added = fields.Dict(keys=fields.String())
    removed = fields.Dict(keys=fields.String())
    changed = fields.Dict(keys=fields.String(), values=fields.Nested(VariableChangeSchema))
    begun = fields.List(fields.String(), metadata={"description": "Steps that are live here alone"})
    settled = fields.List(
        fields.String(), metadata={"description": "Steps that are live there alone"}
    )
    visited = fields.Integer()
    spent = fields.Dict(keys=fields.String(), values=fields.Float())


class StateSchema(Schema):
    """A run just after a line of its history."""

    seq = fields.Integer()
    name = fields.String(allow_none=True)
    named_by = fields.String(allow_none=True)
    frontier = fields.Nested(FrontierSchema)
    spent = fields.Dict(
        keys=fields.String(),
        values=fields.Float(),
        metadata={"description": "What its attempts had used by then, by name"},
    )
    state = fields.Dict(metadata={"description": "All of it, as it is folded from history"})
    against = fields.Integer(allow_none=True)
    difference = fields.Nested(DifferenceSchema, allow_none=True)
