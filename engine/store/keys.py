"""API keys: each belongs to a user of a tenant.

Of a key's secret only the SHA-256 is kept: it is 256 random bits, which no guessing finds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, insert, or_, select, tuple_, update

from engine.store import session
from engine.store.tables import api_key

#: Advisory lock under which the local key is made.
_LOCAL_KEY_LOCK = 0x6C6F63616C6B6579  # "localkey"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key, but for what would let anybody use it."""

    tenant: str
    #: The public half of the token.
    id: str
    #: What it is called, for people.
    name: str
    user: str
    #: Which of its user's roles it stands for; None for all.
    roles: frozenset[str] | None
    #: Which permissions it may be used for; None for all that its user has.
    scopes: frozenset[str] | None
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """A key that somebody names, whosever it is, with what its user holds now."""

    tenant: str
    id: str
    hash: bytes
    user: str
    active: bool
    roles: frozenset[str]
    permissions: frozenset[str]
    key_roles: frozenset[str] | None
    scopes: frozenset[str] | None
    #: Whether it was noted within a minute that it is in use.
    lately: bool
    expired: bool
    revoked: bool


# With every request.
_PRESENTED = session.Statement(
    name="key_presented", types="text", sql="SELECT * FROM credential_of($1)"
)


def presented(connection: Connection, id: str) -> Presented | None:  # noqa: A002  # the column's name
    """The key of this id. Asks whoever's it is: the caller learns his tenant from it."""
    found = session.run(connection, _PRESENTED, id)
    if not found:
        return None
    (row,) = found
    return Presented(
        tenant=row.tenant_id,
        id=row.id,
        hash=bytes(row.hash),
        user=row.user_id,
        active=row.active,
        roles=frozenset(row.roles),
        permissions=frozenset(row.permissions),
        key_roles=_set(row.key_roles),
        scopes=_set(row.scopes),
        lately=row.lately,
        expired=row.expired,
        revoked=row.revoked,
    )


def add(
    connection: Connection,
    tenant: str,
    id: str,  # noqa: A002  # see presented
    *,
    name: str,
    hash: bytes,  # noqa: A002  # the column's name
    user: str,
    roles: Collection[str] | None = None,
    scopes: Collection[str] | None = None,
    expires_at: datetime | None = None,
    by: str,
) -> Key:
    """Keep a new key."""
    row = connection.execute(
        insert(api_key)
        .values(
            tenant_id=tenant,
            id=id,
            name=name,
            hash=hash,
            user_id=user,
            roles=None if roles is None else sorted(roles),
            scopes=None if scopes is None else sorted(scopes),
            expires_at=expires_at,
            created_by=by,
        )
        .returning(api_key)
    ).one()
    return _key(row)


def lock(connection: Connection, tenant: str, id: str) -> Key | None:  # noqa: A002  # see presented
    """A key, and nobody else ends it until the end of the transaction."""
    row = connection.execute(
        select(api_key).where(api_key.c.tenant_id == tenant, api_key.c.id == id).with_for_update()
    ).first()
    return None if row is None else _key(row)


def page(
    connection: Connection,
    tenant: str,
    *,
    user: str | None = None,
    before: tuple[datetime, str] | None = None,
    limit: int,
) -> Sequence[Key]:
    """Keys, the newest first, those before one; of one user, or of all."""
    statement = select(api_key).where(api_key.c.tenant_id == tenant)
    if user is not None:
        statement = statement.where(api_key.c.user_id == user)
    if before is not None:
        statement = statement.where(tuple_(api_key.c.created_at, api_key.c.id) < tuple_(*before))
    ordered = statement.order_by(api_key.c.created_at.desc(), api_key.c.id.desc())
    return [_key(row) for row in connection.execute(ordered.limit(limit))]


def revoke(connection: Connection, tenant: str, id: str) -> bool:  # noqa: A002  # see presented
    """End a key for good; whether it was not ended so before."""
    ended = connection.execute(
        update(api_key)
        .where(api_key.c.tenant_id == tenant, api_key.c.id == id, api_key.c.revoked_at.is_(None))
        .values(revoked_at=func.clock_timestamp())
    )
    return ended.rowcount == 1


def expire(
    connection: Connection,
    tenant: str,
    id: str,  # noqa: A002  # see presented
    *,
    seconds: float,
) -> None:
    """Let a key be valid for so long yet, and no longer than it was."""
    connection.execute(
        update(api_key)
        .where(api_key.c.tenant_id == tenant, api_key.c.id == id)
        .values(
            expires_at=func.least(
                api_key.c.expires_at, func.clock_timestamp() + timedelta(seconds=seconds)
            )
        )
    )


def valid_of(connection: Connection, tenant: str, user: str) -> Sequence[str]:
    """The ids of a user's keys that are neither expired nor revoked, oldest first."""
    rows = connection.execute(
        select(api_key.c.id)
        .where(
            api_key.c.tenant_id == tenant,
            api_key.c.user_id == user,
            api_key.c.revoked_at.is_(None),
            or_(api_key.c.expires_at.is_(None), api_key.c.expires_at > func.clock_timestamp()),
        )
        .order_by(api_key.c.created_at, api_key.c.id)
    )
    return [row.id for row in rows]


def used(connection: Connection, tenant: str, id: str) -> None:  # noqa: A002  # see presented
    """Note that a key is in use, unless that was noted within a minute."""
    ago = func.clock_timestamp() - timedelta(minutes=1)
    connection.execute(
        update(api_key)
        .where(
            api_key.c.tenant_id == tenant,
            api_key.c.id == id,
            or_(api_key.c.last_used_at.is_(None), api_key.c.last_used_at < ago),
        )
        .values(last_used_at=func.clock_timestamp())
    )


def lock_local(connection: Connection) -> None:
    """Wait until nobody else makes the local key; until the end of the transaction."""
    connection.execute(select(func.pg_advisory_xact_lock(_LOCAL_KEY_LOCK)))


def _key(row: Row[Any]) -> Key:
    return Key(
        tenant=row.tenant_id,
        id=row.id,
        name=row.name,
        user=row.user_id,
        roles=_set(row.roles),
        scopes=_set(row.scopes),
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )


def _set(found: Collection[str] | None) -> frozenset[str] | None:
    return None if found is None else frozenset(found)
