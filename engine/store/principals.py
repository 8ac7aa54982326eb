"""The users of a tenant: who they are, and what they hold."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, any_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from engine.core.principal import ADMIN
from engine.store.tables import principal


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user of a tenant."""

    tenant: str
    id: str
    roles: frozenset[str]
    permissions: frozenset[str]
    active: bool
    created_by: str
    created_at: datetime


def add(
    connection: Connection,
    tenant: str,
    id: str,  # noqa: A002  # the column's name
    *,
    roles: Collection[str],
    permissions: Collection[str] = (),
    by: str,
) -> bool:
    """Make a user unless he is there; whether he was made."""
    made = connection.execute(
        upsert(principal)
        .values(
            tenant_id=tenant,
            id=id,
            roles=sorted(roles),
            permissions=sorted(permissions),
            created_by=by,
        )
        .on_conflict_do_nothing()
    )
    return made.rowcount == 1


def find(connection: Connection, tenant: str, id: str) -> User | None:  # noqa: A002  # see add
    """A user by his id."""
    row = connection.execute(
        select(principal).where(principal.c.tenant_id == tenant, principal.c.id == id)
    ).first()
    return None if row is None else _user(row)


def among(connection: Connection, tenant: str, ids: Collection[str]) -> Sequence[User]:
    """Those of some ids that are users."""
    if not ids:
        return ()
    rows = connection.execute(
        select(principal)
        .where(principal.c.tenant_id == tenant, principal.c.id.in_(sorted(ids)))
        .order_by(principal.c.id)
    )
    return [_user(row) for row in rows]


def lock(connection: Connection, tenant: str, id: str) -> User | None:  # noqa: A002  # see add
    """A user, and nobody else changes him until the end of the transaction."""
    row = connection.execute(
        select(principal)
        .where(principal.c.tenant_id == tenant, principal.c.id == id)
        .with_for_update()
    ).first()
    return None if row is None else _user(row)


def lock_admins(connection: Connection, tenant: str) -> frozenset[str]:
    """Who is an active admin, and remains so until the end of the transaction."""
    rows = connection.execute(
        select(principal.c.id)
        .where(
            principal.c.tenant_id == tenant,
            principal.c.active,
            any_(principal.c.roles) == ADMIN,
        )
        .order_by(principal.c.id)
        .with_for_update()
    )
    return frozenset(row.id for row in rows)


def page(connection: Connection, tenant: str, *, after: str, limit: int) -> Sequence[User]:
    """Users by their ids, those after one."""
    rows = connection.execute(
        select(principal)
        .where(principal.c.tenant_id == tenant, principal.c.id > after)
        .order_by(principal.c.id)
        .limit(limit)
    )
    return [_user(row) for row in rows]


def change(
    connection: Connection,
    tenant: str,
    id: str,  # noqa: A002  # see add
    *,
    roles: Collection[str],
    permissions: Collection[str],
    active: bool,
) -> None:
    """Write what a user holds now, and whether he is active."""
    connection.execute(
        update(principal)
        .where(principal.c.tenant_id == tenant, principal.c.id == id)
        .values(roles=sorted(roles), permissions=sorted(permissions), active=active)
    )


def _user(row: Row[Any]) -> User:
    return User(
        tenant=row.tenant_id,
        id=row.id,
        roles=frozenset(row.roles),
        permissions=frozenset(row.permissions),
        active=row.active,
        created_by=row.created_by,
        created_at=row.created_at,
    )
