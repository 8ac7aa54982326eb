"""Requests that were refused: of known tenants by credential, route, reason and minute; of others
by reason and hour. Each is one row, however many there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from engine.store.tables import refused_request, unknown_request


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """So many requests without a tenant, of one hour."""

    hour: datetime
    reason: str
    count: int


def add(
    connection: Connection, tenant: str, *, credential: str, route: str, reason: str, count: int
) -> bool:
    """Count requests of this minute; whether they are the first of their kind in it."""
    counted = upsert(refused_request).values(
        tenant_id=tenant,
        credential=credential,
        route=route,
        reason=reason,
        minute=func.date_trunc("minute", func.clock_timestamp()),
        count=count,
    )
    total: int = connection.execute(
        counted.on_conflict_do_update(
            index_elements=list(refused_request.primary_key),
            set_={"count": refused_request.c.count + counted.excluded.count},
        ).returning(refused_request.c.count)
    ).scalar_one()
    return total == count


def forget(connection: Connection, tenant: str, *, days: int) -> None:
    """Drop the counts of a tenant that are older than so many days; the acts remain."""
    connection.execute(
        delete(refused_request).where(
            refused_request.c.tenant_id == tenant,
            refused_request.c.minute < func.clock_timestamp() - timedelta(days=days),
        )
    )


def add_unknown(connection: Connection, *, reason: str, count: int) -> None:
    """Count requests of this hour of which nobody knows whose they were."""
    counted = upsert(unknown_request).values(
        reason=reason, hour=func.date_trunc("hour", func.clock_timestamp()), count=count
    )
    connection.execute(
        counted.on_conflict_do_update(
            index_elements=list(unknown_request.primary_key),
            set_={"count": unknown_request.c.count + counted.excluded.count},
        )
    )


def unknown(connection: Connection, *, limit: int) -> Sequence[Count]:
    """What was counted without a tenant, the newest hours first."""
    rows = connection.execute(
        select(
            unknown_request.c.hour, unknown_request.c.reason, unknown_request.c.count.label("total")
        )
        .order_by(unknown_request.c.hour.desc(), unknown_request.c.reason)
        .limit(limit)
    )
    return [Count(hour=row.hour, reason=row.reason, count=row.total) for row in rows]
