"""Drafts of workflows: one by name, saved again and again, gone when it is published or given up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from engine.store.tables import workflow_draft as table


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A draft as it was saved last."""

    workflow: str
    #: One more each time it is saved.
    revision: int
    #: As it was written, YAML or JSON.
    text: str
    created_by: str
    created_at: datetime
    saved_by: str
    saved_at: datetime


def get(connection: Connection, tenant: str, workflow: str, *, hold: bool = False) -> Draft | None:
    """The draft of a workflow; with `hold`, nobody else saves it before the transaction is over."""
    statement = select(table).where(table.c.tenant_id == tenant, table.c.workflow == workflow)
    row = connection.execute(statement.with_for_update() if hold else statement).first()
    return None if row is None else _draft(row)


def page(
    connection: Connection, tenant: str, *, after: str = "", limit: int = 100
) -> tuple[Draft, ...]:
    """Drafts by name, after a name."""
    statement = (
        select(table)
        .where(table.c.tenant_id == tenant, table.c.workflow > after)
        .order_by(table.c.workflow)
        .limit(limit)
    )
    return tuple(map(_draft, connection.execute(statement)))


def add(connection: Connection, tenant: str, workflow: str, text: str, *, by: str) -> Draft | None:
    """A new draft; None where there is one already."""
    statement = (
        upsert(table)
        .values(
            tenant_id=tenant, workflow=workflow, revision=1, text=text, created_by=by, saved_by=by
        )
        .on_conflict_do_nothing()
        .returning(table)
    )
    row = connection.execute(statement).first()
    return None if row is None else _draft(row)


def save(connection: Connection, tenant: str, workflow: str, text: str, *, by: str) -> Draft:
    """Save a draft that the transaction holds."""
    statement = (
        update(table)
        .where(table.c.tenant_id == tenant, table.c.workflow == workflow)
        .values(
            revision=table.c.revision + 1, text=text, saved_by=by, saved_at=func.clock_timestamp()
        )
    )
    return _draft(connection.execute(statement.returning(table)).one())


def remove(connection: Connection, tenant: str, workflow: str) -> None:
    """Let go of a draft that the transaction holds."""
    connection.execute(
        delete(table).where(table.c.tenant_id == tenant, table.c.workflow == workflow)
    )


def _draft(row: Row[Any]) -> Draft:
    return Draft(
        workflow=row.workflow,
        revision=row.revision,
        text=row.text,
        created_by=row.created_by,
        created_at=row.created_at,
        saved_by=row.saved_by,
        saved_at=row.saved_at,
    )
