"""Bundles as they were uploaded: what each was, and what came of it. Written once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, insert, select

from engine.core.values import Json
from engine.store.tables import bundle, workflow_version


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBundle:
    """An upload that has been dealt with."""

    id: str
    correlation_id: str
    #: What the file was called, and what it was.
    file: str
    size: int
    sha256: str
    #: `COMPLETED` or `FAILED`.
    status: str
    #: How each step of the processing went, in order.
    steps: Sequence[Mapping[str, Json]]
    problems: Sequence[Mapping[str, Json]]
    warnings: Sequence[str]
    #: The workflow version that it became.
    version_id: str | None
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle(NewBundle):
    """An upload, with the name of what it became."""

    created_at: datetime
    workflow: str | None
    version: str | None


def add(connection: Connection, tenant: str, new: NewBundle) -> None:
    """Keep an upload."""
    connection.execute(
        insert(bundle).values(
            tenant_id=tenant,
            id=new.id,
            correlation_id=new.correlation_id,
            file=new.file,
            size=new.size,
            sha256=new.sha256,
            status=new.status,
            steps=list(new.steps),
            problems=list(new.problems),
            warnings=list(new.warnings),
            version_id=new.version_id,
            created_by=new.created_by,
        )
    )


def get(connection: Connection, tenant: str, id: str) -> Bundle | None:  # noqa: A002  # the column's name
    """An upload by its id."""
    row = connection.execute(
        _named().where(bundle.c.tenant_id == tenant, bundle.c.id == id)
    ).first()
    return None if row is None else _bundle(row)


def page(
    connection: Connection, tenant: str, *, before: str | None = None, limit: int = 100
) -> tuple[Bundle, ...]:
    """Uploads, newest first, older than an id."""
    statement = _named().where(bundle.c.tenant_id == tenant)
    if before is not None:
        statement = statement.where(bundle.c.id < before)
    rows = connection.execute(statement.order_by(bundle.c.id.desc()).limit(limit))
    return tuple(_bundle(row) for row in rows)


def _named() -> Any:
    became = and_(
        workflow_version.c.tenant_id == bundle.c.tenant_id,
        workflow_version.c.id == bundle.c.version_id,
    )
    return select(bundle, workflow_version.c.workflow, workflow_version.c.version).select_from(
        bundle.outerjoin(workflow_version, became)
    )


def _bundle(row: Row[Any]) -> Bundle:
    return Bundle(
        id=row.id,
        correlation_id=row.correlation_id,
        file=row.file,
        size=row.size,
        sha256=row.sha256,
        status=row.status,
        steps=tuple(row.steps),
        problems=tuple(row.problems),
        warnings=tuple(row.warnings),
        version_id=row.version_id,
        created_by=row.created_by,
        created_at=row.created_at,
        workflow=row.workflow,
        version=row.version,
    )
