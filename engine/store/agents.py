"""Agents and their versions, `MAJOR.MINOR`: appended, never changed.

What steps of a version call is kept with it, as it was worked out when it was entered: by the text
that names it, what it was then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Text, cast, func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from engine.core.values import Json
from engine.store.authorship import WrittenBy
from engine.store.tables import agent, agent_version, authorship, workflow_version


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAgentVersion:
    """A version of an agent as it is entered."""

    name: str
    major: int
    minor: int
    #: As somebody wrote it.
    definition: Mapping[str, Json]
    #: What its steps call, by the text that names it.
    uses: Mapping[str, str]
    #: Of its function, where steps call it as one.
    function_version: int | None
    #: The version of the workflow that it runs as.
    version_id: str
    checksum: str
    created_by: str

    @property
    def version(self) -> str:
        return f"{self.major}.{self.minor}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentVersion(NewAgentVersion):
    """A version of an agent."""

    created_at: datetime
    #: None: a person has entered it.
    written_by: WrittenBy | None = None
    #: Whether the agent, in all of its versions, was taken out of the list.
    removed: bool


_NUMBER = cast(agent_version.c.major, Text) + "." + cast(agent_version.c.minor, Text)
_WRITTEN = {name: authorship.c[name].label(f"written_{name}") for name in WrittenBy.__slots__}
_SELECT = (
    select(agent_version, agent.c.removed, *_WRITTEN.values())
    .join(
        agent,
        (agent.c.tenant_id == agent_version.c.tenant_id) & (agent.c.name == agent_version.c.name),
    )
    .outerjoin(
        authorship,
        (authorship.c.tenant_id == agent_version.c.tenant_id)
        & (authorship.c.kind == "agent")
        & (authorship.c.name == agent_version.c.name)
        & (authorship.c.version == _NUMBER),
    )
)
_NEWEST_FIRST = (agent_version.c.major.desc(), agent_version.c.minor.desc())


def hold(connection: Connection, tenant: str) -> None:
    """Let nobody else change a tenant's agents until the end of the transaction.

    What an agent uses must not be removed while it is entered.
    """
    key = func.hashtextextended(f"agents/{tenant}", 0)
    connection.execute(select(func.pg_advisory_xact_lock(key)))


def stand(connection: Connection, tenant: str, name: str, *, removed: bool, by: str) -> None:
    """Let an agent be there, or not, from now on."""
    given = {"removed": removed, "changed_by": by}
    connection.execute(
        upsert(agent)
        .values(tenant_id=tenant, name=name, **given)
        .on_conflict_do_update(
            index_elements=[agent.c.tenant_id, agent.c.name],
            set_={**given, "changed_at": func.clock_timestamp()},
        )
    )


def add(connection: Connection, tenant: str, new: NewAgentVersion) -> None:
    """Add a version of an agent that is there."""
    connection.execute(
        insert(agent_version).values(
            tenant_id=tenant,
            name=new.name,
            major=new.major,
            minor=new.minor,
            definition=dict(new.definition),
            uses=dict(new.uses),
            function_version=new.function_version,
            version_id=new.version_id,
            checksum=new.checksum,
            created_by=new.created_by,
        )
    )


def find(
    connection: Connection,
    tenant: str,
    name: str,
    major: int | None = None,
    minor: int | None = None,
) -> AgentVersion | None:
    """The newest version of an agent, or of one of its majors; or the very one. Removed or not."""
    statement = (
        _SELECT.where(agent_version.c.tenant_id == tenant, agent_version.c.name == name)
        .order_by(*_NEWEST_FIRST)
        .limit(1)
    )
    if major is not None:
        statement = statement.where(agent_version.c.major == major)
    if minor is not None:
        statement = statement.where(agent_version.c.minor == minor)
    row = connection.execute(statement).first()
    return None if row is None else _version(row)


def versions(connection: Connection, tenant: str, name: str) -> tuple[AgentVersion, ...]:
    """Every version of an agent, newest first."""
    statement = _SELECT.where(agent_version.c.tenant_id == tenant, agent_version.c.name == name)
    return tuple(map(_version, connection.execute(statement.order_by(*_NEWEST_FIRST))))


def page(
    connection: Connection, tenant: str, *, after: str = "", limit: int | None = 100
) -> tuple[AgentVersion, ...]:
    """The newest version of every agent that is there, by name, after a name."""
    rank = func.row_number().over(partition_by=agent_version.c.name, order_by=_NEWEST_FIRST)
    ranked = (
        _SELECT.add_columns(rank.label("rank"))
        .where(
            agent_version.c.tenant_id == tenant,
            agent_version.c.name > after,
            ~agent.c.removed,
        )
        .subquery()
    )
    statement = select(ranked).where(ranked.c.rank == 1).order_by(ranked.c.name).limit(limit)
    return tuple(map(_version, connection.execute(statement)))


def documents_that_say(connection: Connection, tenant: str, word: str) -> Sequence[Json]:
    """The documents of all workflows, each in its last version, in which a word stands somewhere."""
    rank = func.row_number().over(
        partition_by=workflow_version.c.workflow, order_by=workflow_version.c.id.desc()
    )
    ranked = (
        select(workflow_version.c.document, rank.label("rank"))
        .where(workflow_version.c.tenant_id == tenant)
        .subquery()
    )
    statement = select(ranked.c.document).where(
        ranked.c.rank == 1, func.strpos(cast(ranked.c.document, Text), word) > 0
    )
    return connection.execute(statement).scalars().all()


def _version(row: Row[Any]) -> AgentVersion:
    return AgentVersion(
        name=row.name,
        major=row.major,
        minor=row.minor,
        definition=row.definition,
        uses=row.uses,
        function_version=row.function_version,
        version_id=row.version_id,
        checksum=row.checksum,
        created_by=row.created_by,
        created_at=row.created_at,
        written_by=_written_by(row),
        removed=row.removed,
    )


def _written_by(row: Row[Any]) -> WrittenBy | None:
    if row.written_run_id is None:
        return None
    return WrittenBy(**{name: getattr(row, f"written_{name}") for name in _WRITTEN})
