"""Secrets, but for their values, and what is granted to whom."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

_REASON = 1000
_PROFILE = (
    "What may be reached: `files`, `hosts`, `databases`, `services`, `modules`, `memory_bytes`, "
    "`cpu_seconds`, `seconds`, `secrets`; what is left out is denied"
)


def _reason() -> fields.String:
    return fields.String(load_default="", validate=validate.Length(max=_REASON))


class SecretSchema(Schema):
    """A version of a secret, but for its value."""

    name = fields.String()
    version = fields.Integer()
    sensitive = fields.Boolean(
        metadata={"description": "Whether it is hidden wherever it turns up"}
    )
    created_by = fields.String()
    created_at = fields.DateTime()
    key_id = fields.String(
        allow_none=True,
        metadata={"description": "What it is sealed with; null where it was replaced or deleted"},
    )


class SecretVersionsSchema(Schema):
    """The versions of a secret, the newest first."""

    items = fields.List(fields.Nested(SecretSchema))


class NewSecretSchema(Schema):
    """A value to be kept. Nothing ever shows it again."""

    name = fields.String(required=True)
    value = fields.String(required=True, load_only=True)
    sensitive = fields.Boolean(load_default=True)
    reason = _reason()


class DeletedSecretSchema(Schema):
    """Why a secret is deleted, or sealed anew."""

    reason = _reason()


class RotatedSecretsSchema(Schema):
    """How many secrets were sealed anew, and with what."""

    key_id = fields.String()
    count = fields.Integer()


class CapabilitySchema(Schema):
    """What is granted to a function, a tool or a workflow."""

    subject = fields.Function(
        lambda granted: granted.subject.text,
        metadata={"type": "string", "example": "function:charge@3"},
    )
    profile = fields.Dict(metadata={"description": _PROFILE})
    granted_by = fields.String()
    granted_at = fields.DateTime()
    reason = fields.String(attribute="why")


class NewCapabilitySchema(Schema):
    """What is to be granted, in the place of what was."""

    subject = fields.String(
        required=True,
        metadata={
            "description": "`function:NAME@3`; without a version for all, those to come included",
            "example": "function:charge@3",
        },
    )
    profile = fields.Raw(required=True, metadata={"description": _PROFILE})
    reason = _reason()


class RevokedCapabilitySchema(Schema):
    """Why it is taken back."""

    reason = _reason()
