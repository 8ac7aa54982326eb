"""Steps that wait for people, and what people say to them."""

from __future__ import annotations

from marshmallow import Schema, fields, validate
from webargs.fields import DelimitedList

from engine.asking import MAX_REASON
from engine.runs import answers
from engine.runs.approvals import STATUSES
from engine.runs.waits import KINDS, PEOPLE, VIEWS
from web.schemas.fields import Moment
from web.schemas.pages import PageArguments

_KIND = {"description": "One or several, separated by commas"}
_VIEW = {
    "description": "`mine`: I may answer, and have not. `team`: a role is asked that I have. "
    "`overdue`: others are asked by now, or the time is over. Else all."
}


class CountArguments(Schema):
    """Which waits."""

    kind = DelimitedList(
        fields.String(validate=validate.OneOf(KINDS)), load_default=KINDS, metadata=_KIND
    )
    run_id = fields.String()
    workflow = fields.String()
    tool = fields.String(metadata={"description": "Whose call is asked about"})


class WaitsArguments(PageArguments, CountArguments):
    """Which waits."""

    view = fields.String(validate=validate.OneOf(VIEWS), metadata=_VIEW)


class CountsSchema(Schema):
    """How many waits each view has."""

    mine = fields.Integer()
    team = fields.Integer()
    overdue = fields.Integer()
    all = fields.Integer()


class HeardSchema(Schema):
    """What somebody has said."""

    by = fields.String()
    behalf = fields.String(
        allow_none=True, metadata={"description": "Whose say was used, if not his"}
    )
    choice = fields.String(allow_none=True)
    form = fields.Raw(allow_none=True)
    reason = fields.String()
    digest = fields.String(allow_none=True, metadata={"description": "Of what he was shown"})
    at = fields.DateTime()


class OpenWaitSchema(Schema):
    """A step that waits for people or for an event."""

    request_id = fields.String(allow_none=True, metadata={"example": "apr_…"})
    run_id = fields.String(metadata={"format": "uuid"})
    workflow = fields.String()
    step = fields.String(metadata={"example": "accept#1"})
    attempt = fields.Integer()
    node = fields.String()
    kind = fields.String(validate=validate.OneOf(KINDS))
    name = fields.String(metadata={"description": "Of an event"})
    match = fields.Raw(allow_none=True, metadata={"description": "What an event must match"})
    schema = fields.Raw(allow_none=True, metadata={"description": "What its payload must fit"})
    title = fields.String(allow_none=True)
    show = fields.Raw(allow_none=True, metadata={"description": "What people are shown"})
    choices = fields.List(fields.String())
    form = fields.Raw(allow_none=True, metadata={"description": "The JSON Schema of the form"})
    who = fields.List(
        fields.String(),
        metadata={"description": "Who may answer: `role:NAME`, `user:NAME`; anybody where empty"},
    )
    quorum = fields.Integer(
        allow_none=True, metadata={"description": "How many must say the same, at most"}
    )
    quorums = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        metadata={"description": "How many of each choice, where that differs"},
    )
    reason = fields.String(
        allow_none=True, metadata={"description": "`required`: whoever denies it must say why"}
    )
    four_eyes = fields.Boolean(metadata={"description": "Whoever submitted the run may not answer"})
    submitted_by = fields.String()
    tool = fields.String(allow_none=True, metadata={"description": "Whose call is asked about"})
    arguments = fields.Raw(allow_none=True)
    digest = fields.String(
        allow_none=True, metadata={"description": "Of all that an answer is for; send it with it"}
    )
    differs = fields.List(
        fields.String(),
        allow_none=True,
        metadata={
            "description": "Where the arguments differ from those of the last approved call of "
            "the tool; null: there was none"
        },
    )
    said = fields.List(fields.Nested(HeardSchema), metadata={"description": "So far"})
    opened_at = fields.DateTime()
    expires_at = fields.DateTime(allow_none=True)
    escalates_at = fields.DateTime(
        allow_none=True, metadata={"description": "When others are asked, too"}
    )
    escalated_at = fields.DateTime(allow_none=True)
    overdue = fields.Boolean()


class AnswerSchema(Schema):
    """What somebody says to a step that asks."""

    choice = fields.String(metadata={"description": "One of the choices, where there are any"})
    form = fields.Dict(keys=fields.String(), load_default=dict)
    reason = fields.String(load_default="", validate=validate.Length(max=MAX_REASON))
    behalf = fields.String(
        load_default=None,
        metadata={"description": "Whose say is used, of those that were handed to me"},
    )
    digest = fields.String(
        load_default=None,
        metadata={"description": "Of what was shown; a permit is answered with it alone"},
    )


class AnsweredSchema(Schema):
    """What an answer came to."""

    settled = fields.Boolean(metadata={"description": "Nobody is asked any more"})
    said = fields.Integer(metadata={"description": "How many have said the same"})
    quorum = fields.Integer(metadata={"description": "How many must"})
    verdict = fields.String(allow_none=True, metadata={"description": "What it is settled with"})


class WaitFilterSchema(Schema):
    """Which questions: those that everything that is given holds of."""

    view = fields.String(load_default=None, validate=validate.OneOf(VIEWS), metadata=_VIEW)
    kind = fields.List(fields.String(validate=validate.OneOf(PEOPLE)), load_default=PEOPLE)
    run_id = fields.String(load_default=None)
    workflow = fields.String(load_default=None)
    tool = fields.String(load_default=None)


class AnswersSchema(Schema):
    """One answer to many questions: by their names, or by a filter."""

    ids = fields.List(
        fields.String(), load_default=list, validate=validate.Length(max=answers.MOST)
    )
    filter = fields.Nested(WaitFilterSchema, load_default=None)
    choice = fields.String(load_default=None)
    form = fields.Dict(keys=fields.String(), load_default=dict)
    reason = fields.String(load_default="", validate=validate.Length(max=MAX_REASON))
    behalf = fields.String(load_default=None)
    digests = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        load_default=dict,
        metadata={"description": "By `request_id`, of what was shown"},
    )
    limit = fields.Integer(load_default=100, validate=validate.Range(min=1, max=answers.MOST))


class CameSchema(Schema):
    """What came of an answer to one of many questions."""

    request_id = fields.String()
    run_id = fields.String(allow_none=True)
    step = fields.String(allow_none=True)
    outcome = fields.String(
        validate=validate.OneOf(["done", "refused"]),
        metadata={"description": "`done`: it counts; `refused`: nothing was changed"},
    )
    settled = fields.Boolean()
    said = fields.Integer(allow_none=True)
    quorum = fields.Integer(allow_none=True)
    verdict = fields.String(allow_none=True, metadata={"description": "What it is settled with"})
    why = fields.String(metadata={"description": "Why it was refused"})


class CamesSchema(Schema):
    """What came of an answer to each of many questions."""

    items = fields.List(fields.Nested(CameSchema))


class ApprovalsArguments(PageArguments):
    """Which requests."""

    status = fields.String(validate=validate.OneOf(STATUSES))


class ApprovalSchema(Schema):
    """A request for an approval, from its beginning to its end."""

    request_id = fields.String(metadata={"example": "apr_…"})
    policy_id = fields.String(
        allow_none=True, metadata={"description": "null: the workflow itself asks"}
    )
    requested_by = fields.String()
    status = fields.String(validate=validate.OneOf(STATUSES))
    approved_by = fields.List(fields.String())
    approved_at = fields.DateTime(allow_none=True)
    expiry_hours = fields.Float(allow_none=True)
    reason = fields.String(
        metadata={"description": "What was said for the verdict; while pending, why it is asked"}
    )
    run_id = fields.String(metadata={"format": "uuid"})
    workflow = fields.String()
    step = fields.String()
    attempt = fields.Integer()
    kind = fields.String()
    title = fields.String(allow_none=True)
    show = fields.Raw(allow_none=True)
    choices = fields.List(fields.String())
    tool = fields.String(allow_none=True)
    arguments = fields.Raw(allow_none=True)
    digest = fields.String(allow_none=True)
    who = fields.List(fields.String())
    requested_at = fields.DateTime()
    expires_at = fields.DateTime(allow_none=True)
    escalated_at = fields.DateTime(allow_none=True)
    settled_by = fields.String(allow_none=True, metadata={"description": "`user:NAME`, or `clock`"})
    choice = fields.String(allow_none=True)
    settled_at = fields.DateTime(allow_none=True)
    message = fields.String(metadata={"description": "By which rule, where no choice was made"})
    answers = fields.List(fields.Nested(HeardSchema))


class AskedSchema(Schema):
    """All that a step has asked people."""

    items = fields.List(fields.Nested(ApprovalSchema))


class NewDelegationSchema(Schema):
    """A say to be handed over: in what one step asks, or in all that I am asked until a time."""

    to = fields.String(required=True)
    reason = fields.String(required=True, validate=validate.Length(1, MAX_REASON))
    run_id = fields.String(load_default=None)
    step = fields.String(load_default=None)
    until = Moment(load_default=None)


class DelegationSchema(Schema):
    """A say in another's hands."""

    id = fields.String(metadata={"format": "uuid"})
    giver = fields.String()
    taker = fields.String()
    request_id = fields.String(
        allow_none=True, metadata={"description": "null: for all that the giver is asked"}
    )
    run_id = fields.String(allow_none=True)
    step = fields.String(allow_none=True)
    until = fields.DateTime(allow_none=True)
    reason = fields.String()
    at = fields.DateTime()
    status = fields.String(validate=validate.OneOf(["open", "used", "over", "revoked"]))
    revoked_by = fields.String(allow_none=True)
    revoked_at = fields.DateTime(allow_none=True)


class NewItemsSchema(Schema):
    """Items for a map."""

    items = fields.List(fields.Raw(allow_none=True), required=True)


class ItemsSchema(Schema):
    """How many items a map has."""

    items = fields.Integer(
        allow_none=True, metadata={"description": "null while its run is being held up"}
    )
