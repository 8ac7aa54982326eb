"""Workflows and their versions: published once, never changed.

A version is known by its id, or by name and semver. What asks for more than one of them gets the
highest release that is not retired (`core.versions`); a version that is retired is known by its id and
its number alone.
The version of a run that was recorded elsewhere is kept for that run alone: nobody finds it here, and nobody
can run it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Text, cast, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT
from sqlalchemy.dialects.postgresql import insert as upsert

from engine.core import transitions
from engine.core.values import Json
from engine.core.versions import Asked, Numbers
from engine.store import session
from engine.store.ids import RunId
from engine.store.tables import run, workflow, workflow_version


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """A version as it is published."""

    id: str
    workflow: str
    version: str
    document: Json
    checksum: str
    created_by: str
    #: What whoever publishes it says of it.
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowVersion(NewVersion):
    """A published version."""

    created_at: datetime
    #: When it was retired, and by whom; None: it is not.
    retired_at: datetime | None
    retired_by: str | None


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
            notes=new.notes,
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


def of_run(connection: Connection, tenant: str, id: str) -> WorkflowVersion | None:  # noqa: A002  # see get
    """The version with this id, be it published or that of a run from elsewhere."""
    row = connection.execute(
        select(workflow_version).where(
            workflow_version.c.tenant_id == tenant, workflow_version.c.id == id
        )
    ).first()
    return None if row is None else _version(row)


def find(connection: Connection, tenant: str, name: str, asked: Asked) -> WorkflowVersion | None:
    """The version of a workflow that is asked for; by its number although it is retired."""
    statement = (
        select(workflow_version)
        .where(_of(tenant), workflow_version.c.workflow == name)
        .order_by(*_latest_first())
        .limit(1)
    )
    if asked.exact is not None:
        statement = statement.where(workflow_version.c.version == asked.exact)
    else:
        early = _core().like("%-%")
        statement = statement.where(
            ~early, workflow_version.c.retired_at.is_(None), _numbers() >= _array(asked.low)
        )
        if asked.high is not None:
            statement = statement.where(_numbers() < _array(asked.high))
    row = connection.execute(statement).first()
    return None if row is None else _version(row)


def highest(connection: Connection, tenant: str, name: str) -> WorkflowVersion | None:
    """The version after which the next one counts: the highest release, else a pre-release."""
    row = connection.execute(
        select(workflow_version)
        .where(_of(tenant), workflow_version.c.workflow == name)
        .order_by(*_latest_first())
        .limit(1)
    ).first()
    return None if row is None else _version(row)


def hold(connection: Connection, tenant: str, id: str) -> None:  # noqa: A002  # see get
    """Let nobody begin a run of a version before the transaction is over."""
    connection.execute(
        select(workflow_version.c.id)
        .where(workflow_version.c.tenant_id == tenant, workflow_version.c.id == id)
        .with_for_update()
    )


def retire(connection: Connection, tenant: str, id: str, *, by: str) -> bool:  # noqa: A002  # see get
    """Retire a version; False when it was already."""
    statement = (
        update(workflow_version)
        .where(
            workflow_version.c.tenant_id == tenant,
            workflow_version.c.id == id,
            workflow_version.c.retired_at.is_(None),
        )
        .values(retired_at=func.clock_timestamp(), retired_by=by)
    )
    return connection.execute(statement).rowcount == 1


# With every submission.
_RETIRED = session.Statement(
    name="workflow_retired",
    types="text, text",
    sql="""
    SELECT id FROM workflow_version
    WHERE tenant_id = $1 AND id = $2::uuid AND retired_at IS NOT NULL
    """,
)


def retired(connection: Connection, tenant: str, id: str) -> bool:  # noqa: A002  # see get
    """Whether a version is retired."""
    return bool(session.run(connection, _RETIRED, tenant, id))


def live_runs(
    connection: Connection,
    tenant: str,
    id: str,  # noqa: A002  # see get
    *,
    limit: int,
) -> tuple[RunId, ...]:
    """Runs that have not ended and are of a version, or have pinned it; the newest."""
    terminal = [status.value for status in transitions.TERMINAL]
    pinned = func.strpos(cast(run.c.pins, Text), id) > 0
    statement = (
        select(run.c.id)
        .where(
            run.c.tenant_id == tenant,
            run.c.status.not_in(terminal),
            (run.c.version_id == id) | pinned,
        )
        .order_by(run.c.id.desc())
        .limit(limit)
    )
    return tuple(RunId(tenant, found) for found in connection.execute(statement).scalars())


def naming(connection: Connection, tenant: str, name: str) -> tuple[WorkflowVersion, ...]:
    """Versions that are not retired and may name a workflow in their documents, newest first."""
    text = cast(workflow_version.c.document, Text)
    # As JSON is written into the column, without its quotes.
    written = json.dumps(name)[1:-1]
    statement = (
        select(workflow_version)
        .where(
            _of(tenant),
            workflow_version.c.retired_at.is_(None),
            (func.strpos(text, f'"{written}"') > 0) | (func.strpos(text, f'"{written}@') > 0),
        )
        .order_by(workflow_version.c.id.desc())
    )
    return tuple(map(_version, connection.execute(statement)))


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
    """The latest version of every workflow, by name, after a name.

    Where it has no release that is not retired, what is there at all.
    """
    rank = func.row_number().over(
        partition_by=workflow_version.c.workflow,
        order_by=(workflow_version.c.retired_at.is_not(None), *_latest_first()),
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
    return _core().like("%-%"), _numbers().desc(), workflow_version.c.id.desc()


def _core() -> ColumnElement[str]:
    """The number of a version, but for what it was built from."""
    return func.split_part(workflow_version.c.version, "+", 1)


def _numbers() -> ColumnElement[Any]:
    """The three numbers of a version."""
    return cast(func.string_to_array(func.split_part(_core(), "-", 1), "."), ARRAY(BIGINT))


def _array(numbers: Numbers) -> ColumnElement[Any]:
    return cast(literal(list(numbers), ARRAY(BIGINT)), ARRAY(BIGINT))


def _version(row: Row[Any]) -> WorkflowVersion:
    return WorkflowVersion(
        id=row.id,
        workflow=row.workflow,
        version=row.version,
        document=row.document,
        checksum=row.checksum,
        created_by=row.created_by,
        created_at=row.created_at,
        notes=row.notes,
        retired_at=row.retired_at,
        retired_by=row.retired_by,
    )
