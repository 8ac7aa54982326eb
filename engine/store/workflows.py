"""Workflows and their versions: published once, never changed.

A version is known by its id, or by name and semver. The *latest* one is the highest release;
a pre-release is the latest only where there is no release. The version of a run that was recorded
elsewhere is kept for that run alone: nobody finds it here, and nobody can run it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Text, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT
from sqlalchemy.dialects.postgresql import insert as upsert

from engine.core.values import Json
from engine.store.tables import workflow, workflow_version


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """A version as it is published."""

    id: str
    workflow: str
    version: str
    document: Json
    checksum: str
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowVersion(NewVersion):
    """A published version."""

    created_at: datetime


def ensure(connection: Connection, tenant: str, name: str) -> None:
    """Make a workflow unless it is there."""
    connection.execute(
        upsert(workflow).values(tenant_id=tenant, name=name).on_conflict_do_nothing()
    )


def names(connection: Connection, tenant: str) -> frozenset[str]:
    """The names of every workflow."""
    statement = select(workflow_version.c.workflow).where(_of(tenant)).distinct()
    return frozenset(connection.execute(statement).scalars())


def add(connection: Connection, tenant: str, new: NewVersion) -> bool:
    """Publish a version of a workflow that is there; False when its number is taken."""
    statement = (
        upsert(workflow_version)
        .values(
            tenant_id=tenant,
            id=new.id,
            workflow=new.workflow,
            version=new.version,
            document=new.document,
            checksum=new.checksum,
            created_by=new.created_by,
        )
        .on_conflict_do_nothing(index_elements=["tenant_id", "workflow", "version"])
    )
    return connection.execute(statement).rowcount == 1


def get(connection: Connection, tenant: str, id: str) -> WorkflowVersion | None:  # noqa: A002  # the column's name
    """The version with this id."""
    row = connection.execute(
        select(workflow_version).where(_of(tenant), workflow_version.c.id == id)
    ).first()
    return None if row is None else _version(row)


def document(connection: Connection, tenant: str, id: str) -> str | None:  # noqa: A002  # see get
    """The text of a version's document, be it published or that of a run from elsewhere."""
    return connection.execute(
        select(cast(workflow_version.c.document, Text)).where(
            workflow_version.c.tenant_id == tenant, workflow_version.c.id == id
        )
    ).scalar_one_or_none()


def find(
    connection: Connection, tenant: str, name: str, version: str | None = None
) -> WorkflowVersion | None:
    """A version of a workflow by its number; the latest unless one is named."""
    statement = (
        select(workflow_version)
        .where(_of(tenant), workflow_version.c.workflow == name)
        .order_by(*_latest_first())
        .limit(1)
    )
    if version is not None:
        statement = statement.where(workflow_version.c.version == version)
    row = connection.execute(statement).first()
    return None if row is None else _version(row)


def newest(connection: Connection, tenant: str, name: str, prefix: str | None) -> str | None:
    """The id of the latest version whose number begins so: `1`, `1.2`, `1.2.0`; None: of all."""
    statement = (
        select(workflow_version.c.id)
        .where(_of(tenant), workflow_version.c.workflow == name)
        .order_by(*_latest_first())
        .limit(1)
    )
    if prefix is not None:
        number = workflow_version.c.version
        statement = statement.where((number == prefix) | number.startswith(f"{prefix}."))
    return connection.execute(statement).scalar_one_or_none()


def page(
    connection: Connection,
    tenant: str,
    *,
    name: str | None = None,
    before: str | None = None,
    limit: int = 100,
) -> tuple[WorkflowVersion, ...]:
    """Versions, of one workflow or of all, newest first, older than an id."""
    statement = (
        select(workflow_version)
        .where(_of(tenant))
        .order_by(workflow_version.c.id.desc())
        .limit(limit)
    )
    if name is not None:
        statement = statement.where(workflow_version.c.workflow == name)
    if before is not None:
        statement = statement.where(workflow_version.c.id < before)
    return tuple(_version(row) for row in connection.execute(statement))


def latest(
    connection: Connection, tenant: str, *, after: str = "", limit: int = 100
) -> tuple[WorkflowVersion, ...]:
    """The latest version of every workflow, by name, after a name."""
    rank = func.row_number().over(
        partition_by=workflow_version.c.workflow, order_by=_latest_first()
    )
    ranked = (
        select(workflow_version, rank.label("rank"))
        .where(_of(tenant), workflow_version.c.workflow > after)
        .subquery()
    )
    rows = connection.execute(
        select(ranked).where(ranked.c.rank == 1).order_by(ranked.c.workflow).limit(limit)
    )
    return tuple(_version(row) for row in rows)


def _of(tenant: str) -> ColumnElement[bool]:
    """The versions that a tenant has published."""
    return (workflow_version.c.tenant_id == tenant) & ~workflow_version.c.imported


def _latest_first() -> tuple[ColumnElement[Any], ...]:
    core = func.split_part(workflow_version.c.version, "+", 1)
    numbers = cast(func.string_to_array(func.split_part(core, "-", 1), "."), ARRAY(BIGINT))
    return core.like("%-%"), numbers.desc(), workflow_version.c.id.desc()


def _version(row: Row[Any]) -> WorkflowVersion:
    return WorkflowVersion(
        id=row.id,
        workflow=row.workflow,
        version=row.version,
        document=row.document,
        checksum=row.checksum,
        created_by=row.created_by,
        created_at=row.created_at,
    )
