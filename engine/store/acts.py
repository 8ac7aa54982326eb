"""What people did that is no event of a run. Rows are written once, and altered by nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from engine.core.values import Json
from engine.store.tables import admin_act


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One act, as it is kept. `before` and `after` are SHA-256 digests."""

    tenant: str
    id: str
    by: str
    action: str
    subject: str
    why: str
    detail: Mapping[str, Json]
    before: str | None
    after: str | None


def put(connection: Connection, act: Act) -> None:
    """Keep an act, in the transaction that does it."""
    connection.execute(
        insert(admin_act).values(
            tenant_id=act.tenant,
            id=act.id,
            by=act.by,
            action=act.action,
            subject=act.subject,
            why=act.why,
            detail=dict(act.detail),
            before=act.before,
            after=act.after,
        )
    )


def of(connection: Connection, tenant: str, action: str, subject: str) -> Sequence[Row[Any]]:
    """What was so done to something."""
    found = select(admin_act).where(
        admin_act.c.tenant_id == tenant,
        admin_act.c.subject == subject,
        admin_act.c.action == action,
    )
    return connection.execute(found.order_by(admin_act.c.id)).all()
