"""Who asks: every request resolves to one principal, here, and its credential alone decides to which.

A token is `clr_<id>.<secret>`, or a JWT of a signer whom the settings name. The secret of a key is
shown once, when the key is made; the database keeps its SHA-256. Either stands for a user of a tenant,
as he is now: with the roles and permissions of his row, narrowed by what the credential is for. So what
is taken from a user, a key that is revoked, a user who is deactivated, holds from the next request.

The embedded platform has one tenant, `local`, whose key lies in a file that only its user can read.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine

from engine.core.principal import LOCAL, Principal
from engine.platform import Platform
from engine.runs import acts
from engine.signers import Forged, Signers
from engine.store import keys, principals, session, tenants
from engine.store.keys import Key, Presented

__all__ = ["LOCAL", "Principal"]

#: Who does what the installation does by itself.
INSTALLATION = "celeriac"

_TOKEN = re.compile(r"clr_([0-9a-f]{16})\.([A-Za-z0-9_-]{43})", re.ASCII)
_DOTS_OF_A_JWT = 2
#: What a secret is compared with where there is no key, so that this takes as long.
_NO_HASH = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A credential that stands for nobody, and why, as far as that is known."""

    reason: str
    #: Whose it would have been, where that is certain.
    tenant: str | None = None
    #: As `Principal.credential`; empty where it is unknown.
    credential: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """A credential that stands for somebody."""

    principal: Principal
    #: Whether it is time to note that it is in use (`note_use`).
    unnoted: bool = False


def recognise(platform: Platform, token: str) -> Recognised | Refused:
    """Whom a token stands for, or why for nobody."""
    if token.count(".") == _DOTS_OF_A_JWT:
        return _recognise_signed(platform.database, platform.settings.signers, token)
    with session.alone(platform.database) as connection:
        return _recognise(connection, token)


def authenticate(engine: Engine, token: str) -> Principal | None:
    """Whom an API key stands for; None for one that is unknown, wrong or over."""
    with session.transaction(engine) as connection:
        found = _recognise(connection, token)
    return found.principal if isinstance(found, Recognised) else None


def local(platform: Platform) -> Principal | None:
    """Whom requests without a credential act as, while that user is active."""
    with session.transaction(session.bound(platform.database, LOCAL.tenant)) as connection:
        found = principals.find(connection, LOCAL.tenant, LOCAL.user)
    if found is None or not found.active:
        return None
    return Principal(
        tenant=found.tenant,
        user=found.id,
        roles=found.roles,
        permissions=found.permissions,
        credential=LOCAL.credential,
    )


def note_use(platform: Platform, who: Principal) -> None:
    """Note that the key by which somebody is known is in use, once a minute at most."""
    kind, _, key = who.credential.partition(":")
    if kind == "key":
        with session.transaction(session.bound(platform.database, who.tenant)) as connection:
            keys.used(connection, who.tenant, key)


def create_key(
    engine: Engine,
    principal: Principal,
    *,
    expires_at: datetime | None = None,
) -> str:
    """A new token that stands for a principal, whose user is made unless he is there.

    This is the installation's own way; a tenant's users go by `keys.create`.
    """
    with session.transaction(engine) as connection:
        return _create_key(connection, principal, expires_at=expires_at)


def ensure_local(engine: Engine) -> None:
    """Make the tenant of the embedded platform and its admin unless they are there."""
    with session.transaction(engine) as connection:
        if tenants.ensure(connection, LOCAL.tenant, name="This machine"):
            acts.record(
                connection,
                LOCAL.tenant,
                by=INSTALLATION,
                action="tenant.create",
                subject=f"tenant:{LOCAL.tenant}",
            )
        ensure_user(connection, LOCAL)


def ensure_local_admin(engine: Engine, key_file: Path) -> None:
    """Make sure that the file holds a valid key of the local user, for its owner alone.

    A new key takes the place of one whose file is lost, and of a file whose key is unknown.
    Any number of processes may ask at once.
    """
    with session.transaction(engine) as connection:
        keys.lock_local(connection)
        if _is_local(connection, _read(key_file)):
            key_file.chmod(0o600)
            return
        for key in keys.valid_of(connection, LOCAL.tenant, LOCAL.user):
            keys.revoke(connection, LOCAL.tenant, key)
            acts.record(
                connection,
                LOCAL.tenant,
                by=INSTALLATION,
                action="key.revoke",
                subject=f"key:{key}",
                why="the file of the local user's key did not hold it any more",
            )
        # Before the commit: a file without its key is mended by the next start, a key
        # without its file would lock the user out until then.
        _write(key_file, _create_key(connection, LOCAL, expires_at=None))


def ensure_user(connection: Connection, principal: Principal) -> None:
    """Make the user of a principal unless he is there."""
    if principals.add(
        connection,
        principal.tenant,
        principal.user,
        roles=principal.roles,
        permissions=principal.permissions,
        by=INSTALLATION,
    ):
        acts.record(
            connection,
            principal.tenant,
            by=INSTALLATION,
            action="user.create",
            subject=f"user:{principal.user}",
            detail={
                "roles": [*sorted(principal.roles)],
                "permissions": [*sorted(principal.permissions)],
            },
        )


def make_key(
    connection: Connection,
    tenant: str,
    user: str,
    *,
    name: str,
    roles: Collection[str] | None = None,
    scopes: Collection[str] | None = None,
    expires_at: datetime | None = None,
    by: str,
) -> tuple[Key, str]:
    """A new key of a user, and its token, which nobody can read again."""
    id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)  # noqa: A001  # the column's name
    made = keys.add(
        connection,
        tenant,
        id,
        name=name,
        hash=_hash(secret),
        user=user,
        roles=roles,
        scopes=scopes,
        expires_at=expires_at,
        by=by,
    )
    acts.record(
        connection,
        tenant,
        by=by,
        action="key.create",
        subject=f"key:{id}",
        detail={
            "user": user,
            "name": name,
            "scopes": None if scopes is None else [*sorted(scopes)],
            "expires_at": None if expires_at is None else expires_at.isoformat(),
        },
    )
    return made, f"clr_{id}.{secret}"


# --- keys -------------------------------------------------------------------------------------


def _recognise(connection: Connection, token: str) -> Recognised | Refused:
    parts = _TOKEN.fullmatch(token)
    if parts is None:
        return Refused(reason="malformed")
    id, secret = parts.groups()  # noqa: A001  # the column's name
    key = keys.presented(connection, id)
    right = hmac.compare_digest(_NO_HASH if key is None else key.hash, _hash(secret))
    if key is None:
        return Refused(reason="unknown")
    credential = f"key:{key.id}"
    why = _why_not(key, right=right)
    if why is not None:
        return Refused(reason=why, tenant=key.tenant, credential=credential)
    principal = Principal(
        tenant=key.tenant,
        user=key.user,
        roles=key.roles if key.key_roles is None else key.roles & key.key_roles,
        permissions=key.permissions,
        scopes=key.scopes,
        credential=credential,
    )
    return Recognised(principal=principal, unnoted=not key.lately)


def _why_not(key: Presented, *, right: bool) -> str | None:
    """Why a key stands for nobody; None when it does."""
    if not right:
        return "secret"
    if key.revoked:
        return "revoked"
    if key.expired:
        return "expired"
    return None if key.active else "inactive"


def _create_key(
    connection: Connection, principal: Principal, *, expires_at: datetime | None
) -> str:
    ensure_user(connection, principal)
    _, token = make_key(
        connection,
        principal.tenant,
        principal.user,
        name=principal.user,
        roles=principal.roles,
        scopes=principal.scopes,
        expires_at=expires_at,
        by=INSTALLATION,
    )
    return token


def _is_local(connection: Connection, token: str) -> bool:
    """Whether a token is one of the local user's, whatever he may do at the moment."""
    parts = _TOKEN.fullmatch(token)
    key = None if parts is None else keys.presented(connection, parts[1])
    return (
        parts is not None
        and key is not None
        and (key.tenant, key.user) == (LOCAL.tenant, LOCAL.user)
        and hmac.compare_digest(key.hash, _hash(parts[2]))
        and not (key.expired or key.revoked)
    )


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


# --- JWTs -------------------------------------------------------------------------------------


def _recognise_signed(engine: Engine, signers: Signers, token: str) -> Recognised | Refused:
    try:
        claims = signers.read(token)
    except Forged:
        return Refused(reason="forged")
    credential = f"jwt:{claims.kid}"
    # What is signed is certain: from here on the tenant's wall holds.
    with session.transaction(session.bound(engine, claims.tenant)) as connection:
        if not tenants.exists(connection, claims.tenant):
            return Refused(reason="stranger")
        user = principals.find(connection, claims.tenant, claims.user)
    if claims.expired or user is None or not user.active:
        reason = "expired" if claims.expired else "stranger" if user is None else "inactive"
        return Refused(reason=reason, tenant=claims.tenant, credential=credential)
    principal = Principal(
        tenant=user.tenant,
        user=user.id,
        roles=user.roles if claims.roles is None else user.roles & claims.roles,
        permissions=user.permissions,
        scopes=claims.scopes,
        credential=credential,
    )
    return Recognised(principal=principal)


# --- the local key's file ---------------------------------------------------------------------


def _read(key_file: Path) -> str:
    try:
        return key_file.read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def _write(key_file: Path, token: str) -> None:
    """Replace the file at once, so that no reader sees half a token."""
    key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = key_file.with_name(f".{key_file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{token}\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(key_file)
