"""Users, and the keys that belong to them."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from engine.core.principal import ROLES
from engine.runs.users import MOST
from web.schemas.fields import Moment, Names
from web.schemas.pages import PageArguments

_ROLES = f"{', '.join(ROLES)}; any other is a team of the tenant's own"
_PERMISSIONS = "`noun:verb`, `noun:*` or `*`"
_SCOPES = "What it may be used for, of what its user holds; null for all"


def _names(description: str) -> fields.List[str]:
    return fields.List(
        fields.String(), validate=validate.Length(max=MOST), metadata={"description": description}
    )


class MeSchema(Schema):
    """Who asks."""

    tenant = fields.String()
    user = fields.String()
    roles = Names()
    permissions = Names(metadata={"description": "What roles and user bring together"})
    scopes = Names(allow_none=True, metadata={"description": _SCOPES})
    credential = fields.String(metadata={"description": "`key:ID`, `jwt:KID`"})


class UserSchema(Schema):
    """A user of the tenant."""

    id = fields.String()
    roles = Names(metadata={"description": _ROLES})
    permissions = Names(metadata={"description": "What he holds beside what his roles bring"})
    active = fields.Boolean()
    created_by = fields.String()
    created_at = fields.DateTime()


class NewUserSchema(Schema):
    """A user to be made."""

    id = fields.String(required=True)
    roles = _names(_ROLES)
    permissions = _names(_PERMISSIONS)


class ChangedUserSchema(Schema):
    """What is to change of a user; what is left out stays."""

    roles = _names(_ROLES)
    permissions = _names(_PERMISSIONS)
    active = fields.Boolean()
    why = fields.String(load_default="", validate=validate.Length(max=2000))


class KeysArguments(PageArguments):
    """Which keys."""

    user = fields.String()


class KeySchema(Schema):
    """A key, but for its secret."""

    id = fields.String()
    name = fields.String()
    user = fields.String()
    scopes = Names(allow_none=True, metadata={"description": _SCOPES})
    created_by = fields.String()
    created_at = fields.DateTime()
    expires_at = fields.DateTime(allow_none=True)
    last_used_at = fields.DateTime(allow_none=True, metadata={"description": "To the minute"})
    revoked_at = fields.DateTime(allow_none=True)


class MadeKeySchema(KeySchema):
    """A key that was just made, with its token, which is shown this once."""

    token = fields.String(metadata={"description": "`clr_ID.SECRET`"})


class NewKeySchema(Schema):
    """A key to be made."""

    name = fields.String(required=True, metadata={"description": "What it is for"})
    user = fields.String(metadata={"description": "Whose it is; your own unless named"})
    scopes = fields.List(
        fields.String(),
        allow_none=True,
        load_default=None,
        validate=validate.Length(max=MOST),
        metadata={"description": _SCOPES},
    )
    expires_at = Moment(allow_none=True, load_default=None)


class RotatedSchema(Schema):
    """How a key is replaced."""

    grace_seconds = fields.Float(
        load_default=0.0,
        validate=validate.Range(min=0, max=604_800),
        metadata={"description": "For how long the old one remains valid"},
    )
