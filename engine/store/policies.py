"""Policies: versions that never change, which of them is in force, and the tenant's number of changes.

Who changes what is in force holds the tenant's row, so that changes come one after the other and
each moves the number on by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from engine.store.tables import policy, policy_version, tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPolicy:
    """A version of a policy as it is kept."""

    name: str
    version: int
    #: The text as somebody wrote it.
    document: str
    #: SHA-256 of what it says, however it is written.
    checksum: str
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion(NewPolicy):
    """A version of a policy, and whether it is the one in force."""

    created_at: datetime
    active: bool


def hold(connection: Connection, tenant_id: str) -> int:
    """Keep others from changing what is in force, until the end of the transaction; the number."""
    statement = (
        select(tenant.c.governance).where(tenant.c.id == tenant_id).with_for_update(key_share=True)
    )
    return int(connection.execute(statement).scalar_one())


def number(connection: Connection, tenant_id: str) -> int:
    """The tenant's number of changes."""
    statement = select(tenant.c.governance).where(tenant.c.id == tenant_id)
    return int(connection.execute(statement).scalar_one())


def move_on(connection: Connection, tenant_id: str) -> int:
    """Count a change; the number from now on."""
    statement = (
        update(tenant)
        .where(tenant.c.id == tenant_id)
        .values(governance=tenant.c.governance + 1)
        .returning(tenant.c.governance)
    )
    return int(connection.execute(statement).scalar_one())


def add(connection: Connection, tenant_id: str, new: NewPolicy) -> None:
    """Keep a version."""
    connection.execute(
        insert(policy_version).values(
            tenant_id=tenant_id,
            name=new.name,
            version=new.version,
            document=new.document,
            checksum=new.checksum,
            created_by=new.created_by,
        )
    )


def enforce(connection: Connection, tenant_id: str, name: str, version: int | None) -> None:
    """Put a version in force; None: the policy is withdrawn."""
    statement = upsert(policy).values(tenant_id=tenant_id, name=name, active=version)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "name"],
            set_={"active": version, "changed_at": func.clock_timestamp()},
        )
    )


def newest(connection: Connection, tenant_id: str, name: str) -> PolicyVersion | None:
    """The newest version of a policy, in force or not."""
    statement = (
        _versions()
        .where(policy_version.c.tenant_id == tenant_id, policy_version.c.name == name)
        .order_by(policy_version.c.version.desc())
        .limit(1)
    )
    row = connection.execute(statement).first()
    return None if row is None else _version(row)


def active(connection: Connection, tenant_id: str, name: str) -> PolicyVersion | None:
    """The version of a policy that is in force."""
    row = connection.execute(
        _versions().where(
            policy_version.c.tenant_id == tenant_id,
            policy_version.c.name == name,
            policy.c.active == policy_version.c.version,
        )
    ).first()
    return None if row is None else _version(row)


def get(connection: Connection, tenant_id: str, name: str, version: int) -> PolicyVersion | None:
    """A version of a policy."""
    row = connection.execute(
        _versions().where(
            policy_version.c.tenant_id == tenant_id,
            policy_version.c.name == name,
            policy_version.c.version == version,
        )
    ).first()
    return None if row is None else _version(row)


def versions(
    connection: Connection,
    tenant_id: str,
    name: str,
    *,
    before: int | None = None,
    limit: int = 100,
) -> tuple[PolicyVersion, ...]:
    """Versions of a policy, newest first, older than a number."""
    statement = (
        _versions()
        .where(policy_version.c.tenant_id == tenant_id, policy_version.c.name == name)
        .order_by(policy_version.c.version.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(policy_version.c.version < before)
    return tuple(map(_version, connection.execute(statement)))


def page(
    connection: Connection, tenant_id: str, *, after: str = "", limit: int = 100
) -> tuple[PolicyVersion, ...]:
    """Policies by name, after a name: of each the version in force, else the newest."""
    rank = func.row_number().over(
        partition_by=policy_version.c.name,
        order_by=[_is_active().desc(), policy_version.c.version.desc()],
    )
    ranked = (
        _versions(rank.label("rank"))
        .where(policy_version.c.tenant_id == tenant_id, policy_version.c.name > after)
        .subquery()
    )
    rows = connection.execute(
        select(ranked).where(ranked.c.rank == 1).order_by(ranked.c.name).limit(limit)
    )
    return tuple(map(_version, rows))


def count_active(connection: Connection, tenant_id: str) -> int:
    """How many policies are in force."""
    return connection.execute(
        select(func.count()).where(policy.c.tenant_id == tenant_id, policy.c.active.is_not(None))
    ).scalar_one()


def in_force(connection: Connection, tenant_id: str) -> tuple[int, Sequence[PolicyVersion]]:
    """The number of changes, and what is in force at that number: read as one."""
    statement = (
        _versions(tenant.c.governance, source=_in_force())
        .where(tenant.c.id == tenant_id)
        .order_by(policy_version.c.name)
    )
    rows = connection.execute(statement).all()
    if not rows:
        return 0, ()
    return rows[0].governance, tuple(_version(row) for row in rows if row.version is not None)


def _in_force() -> Any:
    enforced = and_(policy.c.tenant_id == tenant.c.id, policy.c.active.is_not(None))
    return tenant.outerjoin(policy, enforced).outerjoin(
        policy_version,
        and_(
            policy_version.c.tenant_id == policy.c.tenant_id,
            policy_version.c.name == policy.c.name,
            policy_version.c.version == policy.c.active,
        ),
    )


def _versions(*more: Any, source: Any = None) -> Any:
    whole = policy_version.outerjoin(
        policy,
        and_(
            policy.c.tenant_id == policy_version.c.tenant_id, policy.c.name == policy_version.c.name
        ),
    )
    return select(policy_version, _is_active().label("active"), *more).select_from(
        whole if source is None else source
    )


def _is_active() -> Any:
    return func.coalesce(policy.c.active == policy_version.c.version, False)  # SQL's


def _version(row: Row[Any]) -> PolicyVersion:
    return PolicyVersion(
        name=row.name,
        version=row.version,
        document=row.document,
        checksum=row.checksum,
        created_by=row.created_by,
        created_at=row.created_at,
        active=row.active,
    )
