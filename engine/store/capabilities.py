"""What is granted to functions, tools and workflows: a profile for a version, or for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row, delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert

from engine.capabilities import Subject
from engine.core.values import Json
from engine.store import session
from engine.store.session import Statement
from engine.store.tables import capability

#: The version of a row that is for all of them.
_ALL = ""
#: Asked for by every attempt of source that strangers wrote.
_HOLDING = Statement(
    name="capability_holding",
    types="text, text, text, text",
    sql="""
        SELECT kind, name, version, profile::text AS profile, granted_by, granted_at, why
        FROM capability
        WHERE tenant_id = $1 AND kind = $2 AND name = $3 AND version IN ('', $4)
        ORDER BY version DESC LIMIT 1
    """,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """A profile, as JSON, and who granted it to whom."""

    subject: Subject
    profile: Mapping[str, Json]
    granted_by: str
    granted_at: datetime
    why: str


def lock(connection: Connection, tenant: str, subject: Subject) -> Granted | None:
    """What is granted to a subject, and nobody else changes it until the end of the transaction."""
    key = func.hashtextextended(f"capability/{tenant}/{subject.text}", 0)
    connection.execute(select(func.pg_advisory_xact_lock(key)))
    row = connection.execute(select(capability).where(*_is(tenant, subject))).first()
    return None if row is None else _granted(row)


def put(
    connection: Connection,
    tenant: str,
    subject: Subject,
    profile: Mapping[str, Json],
    *,
    by: str,
    why: str,
) -> Granted:
    """Grant a profile, in the place of what was granted."""
    new = {"profile": dict(profile), "granted_by": by, "why": why}
    row = connection.execute(
        upsert(capability)
        .values(
            tenant_id=tenant,
            kind=subject.kind,
            name=subject.name,
            version=subject.version or _ALL,
            **new,
        )
        .on_conflict_do_update(
            index_elements=["tenant_id", "kind", "name", "version"],
            set_={**new, "granted_at": func.clock_timestamp()},
        )
        .returning(capability)
    ).one()
    return _granted(row)


def remove(connection: Connection, tenant: str, subject: Subject) -> None:
    """Take back what is granted to a subject."""
    connection.execute(delete(capability).where(*_is(tenant, subject)))


def of(connection: Connection, tenant: str, kind: str, name: str) -> Sequence[Granted]:
    """All that is granted to a name, that for all versions first."""
    rows = connection.execute(
        select(capability)
        .where(
            capability.c.tenant_id == tenant, capability.c.kind == kind, capability.c.name == name
        )
        .order_by(capability.c.version)
    )
    return [_granted(row) for row in rows]


def holding(connection: Connection, tenant: str, subject: Subject) -> Granted | None:
    """What holds for a subject: what is granted to its version, else what is to all."""
    version = subject.version or _ALL
    for row in session.run(connection, _HOLDING, tenant, subject.kind, subject.name, version):
        return _granted(row._replace(profile=orjson.loads(row.profile)))
    return None


def page(
    connection: Connection, tenant: str, *, after: tuple[str, str, str] | None, limit: int
) -> Sequence[Granted]:
    """All grants by kind, name and version, behind one."""
    by = (capability.c.kind, capability.c.name, capability.c.version)
    statement = select(capability).where(capability.c.tenant_id == tenant)
    if after is not None:
        statement = statement.where(tuple_(*by) > tuple_(*after))
    return [_granted(row) for row in connection.execute(statement.order_by(*by).limit(limit))]


def _is(tenant: str, subject: Subject) -> tuple[Any, ...]:
    return (
        capability.c.tenant_id == tenant,
        capability.c.kind == subject.kind,
        capability.c.name == subject.name,
        capability.c.version == (subject.version or _ALL),
    )


def _granted(row: Row[Any]) -> Granted:
    subject = Subject(kind=row.kind, name=row.name, version=row.version or None)
    return Granted(
        subject=subject,
        profile=row.profile,
        granted_by=row.granted_by,
        granted_at=row.granted_at,
        why=row.why,
    )
