"""Versions of functions and tools: numbered from 1, never changed, never removed.

A function is either source that somebody registered, or the name of an object in trusted
library code (`module:attribute`). Functions and tools are two namespaces; a tool may be a service
instead (`engine.services`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, Row, func, literal, select
from sqlalchemy.dialects.postgresql import insert as upsert

from engine.core.values import Json
from engine.store import session
from engine.store.tables import function, tool
from engine.tools import USUAL, USUALLY, Standing, Terms, Undo

Namespace: TypeAlias = Literal["function", "tool"]
#: In the order in which a name is looked for.
NAMESPACES: tuple[Namespace, ...] = ("function", "tool")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFunction:
    """A function as it is handed in."""

    namespace: Namespace
    name: str
    source: str | None = None
    library: str | None = None
    #: Of a tool: `{"kind": …, "config": {…}}`.
    service: Mapping[str, Json] | None = None
    description: str = ""
    parameters: Mapping[str, Json]
    effect: str = "pure"
    checksum: str
    created_by: str
    #: Of a tool.
    terms: Terms = USUAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Function(NewFunction):
    """A version of a function."""

    version: int
    created_at: datetime
    #: Of a tool, in all of its versions.
    standing: Standing = USUALLY


_STANDING = session.Statement(
    name="tool_standing",
    types="text, text",
    sql="""
    SELECT t.status, t.tags, n.version AS newest
    FROM (SELECT max(version) AS version FROM function
        WHERE tenant_id = $1 AND namespace = 'tool' AND name = $2) n
    LEFT JOIN tool t ON t.tenant_id = $1 AND t.name = $2
    """,
)


#: Versions, each with how its tool stands.
_SELECT = select(function, tool.c.status, tool.c.tags).outerjoin(
    tool,
    (tool.c.tenant_id == function.c.tenant_id)
    & (tool.c.name == function.c.name)
    & (function.c.namespace == "tool"),
)


def register(connection: Connection, tenant: str, new: NewFunction) -> int | None:
    """Add a version, and return its number.

    None when nothing was added: the newest version has the same checksum, or somebody else
    has just added one.
    """
    same_name = (
        function.c.tenant_id == tenant,
        function.c.namespace == new.namespace,
        function.c.name == new.name,
    )
    newest = (
        select(function.c.version, function.c.checksum)
        .where(*same_name)
        .order_by(function.c.version.desc())
        .limit(1)
        .subquery()
    )
    number = select(func.coalesce(func.max(newest.c.version), 0) + 1).scalar_subquery()
    same = select(newest.c.version).where(newest.c.checksum == new.checksum).exists()
    given: dict[str, Any] = {
        "tenant_id": tenant,
        "namespace": new.namespace,
        "name": new.name,
        "source": new.source,
        "library": new.library,
        "service": None if new.service is None else dict(new.service),
        "description": new.description,
        "parameters": new.parameters,
        "effect": new.effect,
        "checksum": new.checksum,
        "created_by": new.created_by,
        **_columns(new.terms),
    }
    columns = [literal(value, function.c[name].type) for name, value in given.items()]
    statement = (
        upsert(function)
        .from_select([*given, "version"], select(*columns, number).where(~same))
        .on_conflict_do_nothing()
        .returning(function.c.version)
    )
    return connection.execute(statement).scalar_one_or_none()


# With every submission.
_NEWEST = session.Statement(
    name="function_newest",
    types="text, text[], text[]",
    sql="""
    SELECT namespace, name, max(version) AS version FROM function
    WHERE tenant_id = $1 AND namespace = ANY ($2) AND name = ANY ($3) GROUP BY namespace, name
    """,
)


def newest(
    connection: Connection, tenant: str, names: Sequence[str]
) -> Mapping[Namespace, dict[str, int]]:
    """The newest version of each of the names that exists, by what it is of that name."""
    found: dict[Namespace, dict[str, int]] = {namespace: {} for namespace in NAMESPACES}
    if names:
        for row in session.run(connection, _NEWEST, tenant, [*found], [*names]):
            found[row.namespace][row.name] = row.version
    return found


def get(
    connection: Connection, tenant: str, namespace: Namespace, name: str, version: int | None = None
) -> Function | None:
    """A version of a function; the newest unless one is named."""
    statement = (
        _SELECT.where(
            function.c.tenant_id == tenant,
            function.c.namespace == namespace,
            function.c.name == name,
        )
        .order_by(function.c.version.desc())
        .limit(1)
    )
    if version is not None:
        statement = statement.where(function.c.version == version)
    row = connection.execute(statement).first()
    return None if row is None else _function(row)


def page(
    connection: Connection, tenant: str, namespace: Namespace, *, after: str = "", limit: int = 100
) -> tuple[Function, ...]:
    """The newest version of every function, by name, after a name."""
    later = function.alias()
    newer = select(later.c.version).where(
        later.c.tenant_id == function.c.tenant_id,
        later.c.namespace == function.c.namespace,
        later.c.name == function.c.name,
        later.c.version > function.c.version,
    )
    rows = connection.execute(
        _SELECT.where(
            function.c.tenant_id == tenant,
            function.c.namespace == namespace,
            function.c.name > after,
            ~newer.exists(),
        )
        .order_by(function.c.name)
        .limit(limit)
    )
    return tuple(_function(row) for row in rows)


def names(connection: Connection, tenant: str, namespace: Namespace) -> frozenset[str]:
    """The names of every function or tool."""
    statement = select(function.c.name).where(
        function.c.tenant_id == tenant, function.c.namespace == namespace
    )
    return frozenset(connection.execute(statement.distinct()).scalars())


def versions(
    connection: Connection, tenant: str, namespace: Namespace, name: str
) -> tuple[Function, ...]:
    """Every version of a function, newest first."""
    rows = connection.execute(
        _SELECT.where(
            function.c.tenant_id == tenant,
            function.c.namespace == namespace,
            function.c.name == name,
        ).order_by(function.c.version.desc())
    )
    return tuple(_function(row) for row in rows)


def standing(connection: Connection, tenant: str, name: str) -> tuple[Standing, int]:
    """How a tool stands now, in all of its versions; and the newest of these."""
    row = session.run(connection, _STANDING, tenant, name)[0]
    found = USUALLY if row.status is None else Standing(status=row.status, tags=tuple(row.tags))
    return found, row.newest


def put_standing(connection: Connection, tenant: str, name: str, new: Standing, *, by: str) -> None:
    """Let a tool stand so from now on."""
    given = {"status": new.status, "tags": [*new.tags], "changed_by": by}
    connection.execute(
        upsert(tool)
        .values(tenant_id=tenant, name=name, **given)
        .on_conflict_do_update(
            index_elements=[tool.c.tenant_id, tool.c.name],
            set_={**given, "changed_at": func.clock_timestamp()},
        )
    )


def _columns(terms: Terms) -> dict[str, Any]:
    return {
        "schema": None if terms.schema is None else dict(terms.schema),
        "required_permissions": [*terms.required_permissions],
        "cost_estimate_usd": terms.cost_estimate_usd,
        "tokens_estimate": terms.tokens_estimate,
        "timeout_seconds": terms.timeout_seconds,
        "rate_per_minute": terms.rate_per_minute,
        "rate_per_hour": terms.rate_per_hour,
        "requires_approval": terms.requires_approval,
        "category": terms.category,
        "undo": None if terms.undo is None else terms.undo.told(),
    }


def _terms(row: Row[Any]) -> Terms:
    return Terms(
        schema=row.schema,
        required_permissions=tuple(row.required_permissions),
        cost_estimate_usd=row.cost_estimate_usd,
        tokens_estimate=row.tokens_estimate,
        timeout_seconds=row.timeout_seconds,
        rate_per_minute=row.rate_per_minute,
        rate_per_hour=row.rate_per_hour,
        requires_approval=row.requires_approval,
        category=row.category,
        undo=None if row.undo is None else Undo.read(row.undo),
    )


def _function(row: Row[Any]) -> Function:
    return Function(
        namespace=row.namespace,
        name=row.name,
        version=row.version,
        source=row.source,
        library=row.library,
        service=row.service,
        description=row.description,
        parameters=row.parameters,
        effect=row.effect,
        checksum=row.checksum,
        created_by=row.created_by,
        created_at=row.created_at,
        terms=_terms(row),
        standing=USUALLY
        if row.status is None
        else Standing(status=row.status, tags=tuple(row.tags)),
    )
