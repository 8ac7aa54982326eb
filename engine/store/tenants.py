"""Tenants: whoever owns workflows, runs and all else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert as upsert

from engine.store.tables import tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant."""

    id: str
    name: str
    created_at: datetime


def ensure(connection: Connection, tenant_id: str, *, name: str) -> bool:
    """Make a tenant unless it is there; whether it was made."""
    made = connection.execute(
        upsert(tenant).values(id=tenant_id, name=name).on_conflict_do_nothing()
    )
    return made.rowcount == 1


def exists(connection: Connection, tenant_id: str) -> bool:
    """Whether there is such a tenant."""
    found = connection.execute(select(tenant.c.id).where(tenant.c.id == tenant_id))
    return found.first() is not None


def everyone(connection: Connection) -> tuple[Tenant, ...]:
    """All tenants, by id."""
    rows = connection.execute(select(tenant).order_by(tenant.c.id))
    return tuple(Tenant(id=row.id, name=row.name, created_at=row.created_at) for row in rows)
