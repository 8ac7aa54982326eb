"""Tenants, and the keys by which their users are known.

Of a key's secret only the SHA-256 is kept: it is 256 random bits, which no guessing finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Row, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from engine.store.tables import api_key, tenant

#: Advisory lock under which the local key is made.
_LOCAL_KEY_LOCK = 0x6C6F63616C6B6579  # "localkey"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key of a tenant: for whom it stands and what it may be used for."""

    tenant: str
    #: The public half of the token.
    id: str
    name: str
    hash: bytes
    roles: frozenset[str]
    created_at: datetime
    expires_at: datetime | None


def ensure(connection: Connection, tenant_id: str, *, name: str) -> None:
    """Make a tenant unless it is there."""
    connection.execute(upsert(tenant).values(id=tenant_id, name=name).on_conflict_do_nothing())


def names(connection: Connection) -> tuple[str, ...]:
    """The ids of all tenants."""
    return tuple(connection.execute(select(tenant.c.id).order_by(tenant.c.id)).scalars())


def add_key(
    connection: Connection,
    tenant_id: str,
    id: str,  # noqa: A002  # the column's name
    *,
    name: str,
    hash: bytes,  # noqa: A002  # see id
    roles: Sequence[str],
    expires_at: datetime | None = None,
) -> None:
    """Keep a new key."""
    connection.execute(
        insert(api_key).values(
            tenant_id=tenant_id,
            id=id,
            name=name,
            hash=hash,
            roles=sorted(roles),
            expires_at=expires_at,
        )
    )


def find_key(connection: Connection, id: str) -> ApiKey | None:  # noqa: A002  # the column's name
    """The key with this id, whosever it is, unless it has expired."""
    row = connection.execute(select(api_key).where(api_key.c.id == id, _valid())).first()
    return None if row is None else _key(row)


def keys(connection: Connection, tenant_id: str) -> tuple[ApiKey, ...]:
    """The keys of a tenant that are valid, oldest first."""
    rows = connection.execute(
        select(api_key)
        .where(api_key.c.tenant_id == tenant_id, _valid())
        .order_by(api_key.c.created_at, api_key.c.id)
    )
    return tuple(_key(row) for row in rows)


def expire_key(connection: Connection, tenant_id: str, id: str) -> bool:  # noqa: A002  # see find_key
    """End a key now; whether it was still valid."""
    ended = connection.execute(
        update(api_key)
        .where(api_key.c.tenant_id == tenant_id, api_key.c.id == id, _valid())
        .values(expires_at=func.clock_timestamp())
    )
    return ended.rowcount == 1


def lock_local_key(connection: Connection) -> None:
    """Wait until nobody else makes the local key; until the end of the transaction."""
    connection.execute(select(func.pg_advisory_xact_lock(_LOCAL_KEY_LOCK)))


def _valid() -> ColumnElement[bool]:
    return or_(api_key.c.expires_at.is_(None), api_key.c.expires_at > func.clock_timestamp())


def _key(row: Row[tuple[object, ...]]) -> ApiKey:
    return ApiKey(
        tenant=row.tenant_id,
        id=row.id,
        name=row.name,
        hash=bytes(row.hash),
        roles=frozenset(row.roles),
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
