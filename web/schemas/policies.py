"""Policies and what they say."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from engine.guardrails import vocabulary as words
from web.schemas.problems import FieldProblemSchema

_REASON = 1000


class PolicySchema(Schema):
    """A version of a policy."""

    name = fields.String()
    version = fields.Integer(metadata={"example": 3})
    active = fields.Boolean(metadata={"description": "Whether this version is in force"})
    checksum = fields.String()
    created_by = fields.String()
    created_at = fields.DateTime()


class WholePolicySchema(PolicySchema):
    """A version of a policy, with its document."""

    document = fields.String(metadata={"description": "As it was written, YAML or JSON"})


class AppliedSchema(Schema):
    """A policy that is in force."""

    policy = fields.Nested(WholePolicySchema)
    changed = fields.Boolean(metadata={"description": "Whether it was not in force before"})
    warnings = fields.List(fields.Nested(FieldProblemSchema))


class ApplyArguments(Schema):
    """Why a policy is put in force."""

    reason = fields.String(load_default="", validate=validate.Length(max=_REASON))


class WithdrawSchema(Schema):
    """Why a policy is taken out of force."""

    reason = fields.String(load_default="", validate=validate.Length(max=_REASON))


class LintSchema(Schema):
    """What is wrong with a policy, and what is most likely not meant."""

    valid = fields.Boolean()
    problems = fields.List(fields.Nested(FieldProblemSchema))
    warnings = fields.List(fields.Nested(FieldProblemSchema))


class TrialSchema(Schema):
    """A policy, and what it is tried on: facts, or a run as it was recorded."""

    policy = fields.Raw(
        required=True, metadata={"description": "The document: a text of YAML, or an object"}
    )
    facts = fields.Raw(
        metadata={
            "description": "A moment, or a list of them: `moment`, `tool`, `arguments`, `inputs`, "
            "`result`, `usage`, `totals` such as `user hour cost_usd`, `live`, `user`, `workflow`, …"
        }
    )
    run = fields.UUID()


class VerdictSchema(Schema):
    """A rule that fired."""

    policy = fields.String()
    version = fields.Integer()
    rule = fields.String()
    action = fields.String(validate=validate.OneOf(words.ACTIONS))
    would = fields.String(metadata={"description": "What it would be if the policy were enforced"})
    observed = fields.Raw(allow_none=True)
    limit = fields.Raw(allow_none=True)
    message = fields.String()
    scope = fields.String()
    window = fields.String()
    set = fields.Dict()
    from_ = fields.List(fields.String(), attribute="from", data_key="from")
    quorum = fields.Integer()
    expires = fields.Float(metadata={"description": "Seconds"})


class TriedSchema(Schema):
    """What a policy says of one moment."""

    moment = fields.String(validate=validate.OneOf(words.MOMENTS))
    node = fields.String()
    step = fields.String()
    attempt = fields.Integer()
    tool = fields.String(allow_none=True)
    action = fields.String(metadata={"description": "Of the verdict that decides; else `allow`"})
    verdicts = fields.List(fields.Nested(VerdictSchema))


class TrialsSchema(Schema):
    """What a policy says, moment by moment."""

    moments = fields.List(fields.Nested(TriedSchema))
    #: How many moments each rule fired at.
    fired = fields.Dict(keys=fields.String(), values=fields.Integer())
