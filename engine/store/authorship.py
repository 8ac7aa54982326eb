"""Which versions of agents and workflows runs have written: appended, never changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, text

from engine.store.ids import StepId
from engine.store.tables import authorship


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenBy:
    """The step of a run that has written a version."""

    run_id: str
    step: str
    #: The run that this one was started for in the end, if not for itself.
    root: str
    workflow: str
    #: The version before it; None: it is the first.
    parent: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAuthorship:
    """A version as a run writes it."""

    kind: str  #: `agent` or `workflow`
    name: str
    version: str
    step: StepId
    #: The run that the step's run was started for in the end.
    root: str
    #: The workflow of the step's run.
    workflow: str
    #: The version before it; None: it is the first.
    parent: str | None
    #: Of what the step asked for.
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorship(NewAuthorship):
    """Which step of which run has written a version."""

    written_at: datetime

    @property
    def told(self) -> WrittenBy:
        """The same, as it is told with the version."""
        return WrittenBy(
            run_id=self.step.run,
            step=self.step.key,
            root=self.root,
            workflow=self.workflow,
            parent=self.parent,
        )


def add(connection: Connection, new: NewAuthorship) -> None:
    """Keep who has written a version."""
    connection.execute(
        insert(authorship).values(
            tenant_id=new.step.tenant,
            kind=new.kind,
            name=new.name,
            version=new.version,
            run_id=new.step.run,
            step=new.step.key,
            root=new.root,
            workflow=new.workflow,
            parent=new.parent,
            digest=new.digest,
        )
    )


def of(
    connection: Connection, tenant: str, kind: str, name: str, version: str
) -> Authorship | None:
    """Who has written a version; None where a person entered it."""
    statement = _SELECT.where(
        authorship.c.tenant_id == tenant,
        authorship.c.kind == kind,
        authorship.c.name == name,
        authorship.c.version == version,
    )
    row = connection.execute(statement).first()
    return None if row is None else _written(row)


def person(connection: Connection, tenant: str, kind: str, name: str) -> str | None:
    """Who entered a version of that name, if a person ever did; the latest of them."""
    found = connection.execute(_PERSONS[kind], {"tenant": tenant, "name": name}).scalar()
    return None if found is None else str(found)


def by_step(connection: Connection, step: StepId, digest: str) -> Authorship | None:
    """The version that a step has written of just that already."""
    statement = _SELECT.where(
        authorship.c.tenant_id == step.tenant,
        authorship.c.run_id == step.run,
        authorship.c.step == step.key,
        authorship.c.digest == digest,
    )
    row = connection.execute(statement).first()
    return None if row is None else _written(row)


def of_root(connection: Connection, tenant: str, root: str) -> tuple[Authorship, ...]:
    """All that a run has written, and those that it started."""
    statement = _SELECT.where(authorship.c.tenant_id == tenant, authorship.c.root == root)
    return tuple(map(_written, connection.execute(statement)))


def in_a_day(connection: Connection, tenant: str) -> int:
    """How many versions the runs of a tenant have written within the last day."""
    since = func.clock_timestamp() - text("interval '1 day'")
    statement = select(func.count()).where(
        authorship.c.tenant_id == tenant, authorship.c.written_at > since
    )
    return connection.execute(statement).scalar_one()


_SELECT = select(authorship)

_AGENT = """
    SELECT v.created_by FROM agent_version v WHERE v.tenant_id = :tenant AND v.name = :name
        AND NOT EXISTS (SELECT FROM authorship a WHERE a.tenant_id = v.tenant_id AND a.kind = 'agent'
            AND a.name = v.name AND a.version = v.major || '.' || v.minor)
    ORDER BY v.major DESC, v.minor DESC LIMIT 1
"""
_WORKFLOW = """
    SELECT v.created_by FROM workflow_version v WHERE v.tenant_id = :tenant AND v.workflow = :name
        AND NOT v.imported AND NOT EXISTS (SELECT FROM authorship a WHERE a.tenant_id = v.tenant_id
            AND a.kind = 'workflow' AND a.name = v.workflow AND a.version = v.version)
    ORDER BY v.created_at DESC LIMIT 1
"""
_PERSONS = {"agent": text(_AGENT), "workflow": text(_WORKFLOW)}


def _written(row: Row[Any]) -> Authorship:
    return Authorship(
        kind=row.kind,
        name=row.name,
        version=row.version,
        step=StepId(row.tenant_id, row.run_id, row.step),
        root=row.root,
        workflow=row.workflow,
        parent=row.parent,
        digest=row.digest,
        written_at=row.written_at,
    )
