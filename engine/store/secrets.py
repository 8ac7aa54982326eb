"""Secrets: versions of sealed values, of which the newest of each name is whole."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from engine.store.tables import secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A version of a secret, but for its value."""

    name: str
    version: int
    #: Whether it is hidden wherever it turns up.
    sensitive: bool
    created_by: str
    created_at: datetime
    #: What it is sealed with; None: what was sealed is gone.
    key_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A version of a secret with its value, sealed."""

    name: str
    version: int
    sensitive: bool
    key_id: str
    nonce: bytes
    ciphertext: bytes


def lock(connection: Connection, tenant: str, name: str) -> int:
    """Wait until nobody else puts or deletes a secret; the number of its newest version, or 0."""
    key = func.hashtextextended(f"secret/{tenant}/{name}", 0)
    connection.execute(select(func.pg_advisory_xact_lock(key)))
    newest = select(func.coalesce(func.max(secret.c.version), 0)).where(
        secret.c.tenant_id == tenant, secret.c.name == name
    )
    return int(connection.execute(newest).scalar_one())


def add(connection: Connection, tenant: str, new: Sealed, *, by: str) -> Secret:
    """Keep a version of a secret. No other of it may be whole."""
    row = connection.execute(
        insert(secret)
        .values(
            tenant_id=tenant,
            name=new.name,
            version=new.version,
            sensitive=new.sensitive,
            created_by=by,
            key_id=new.key_id,
            nonce=new.nonce,
            ciphertext=new.ciphertext,
        )
        .returning(secret)
    ).one()
    return _secret(row)


def remove(connection: Connection, tenant: str, name: str) -> Secret | None:
    """Take out what was sealed of a secret; the version that was in force, if there was one."""
    row = connection.execute(
        update(secret)
        .where(secret.c.tenant_id == tenant, secret.c.name == name, secret.c.key_id.is_not(None))
        .values(key_id=None, nonce=None, ciphertext=None)
        .returning(secret)
    ).first()
    return None if row is None else _secret(row)


def page(connection: Connection, tenant: str, *, after: str, limit: int) -> Sequence[Secret]:
    """The secrets that are in force, by name, behind one."""
    rows = connection.execute(
        select(secret)
        .where(secret.c.tenant_id == tenant, secret.c.key_id.is_not(None), secret.c.name > after)
        .order_by(secret.c.name)
        .limit(limit)
    )
    return [_secret(row) for row in rows]


def versions(connection: Connection, tenant: str, name: str) -> Sequence[Secret]:
    """All versions of a secret, the newest first."""
    rows = connection.execute(
        select(secret)
        .where(secret.c.tenant_id == tenant, secret.c.name == name)
        .order_by(secret.c.version.desc())
    )
    return [_secret(row) for row in rows]


def sealed(connection: Connection, tenant: str, names: Collection[str]) -> Sequence[Sealed]:
    """What is in force of these names, sealed."""
    rows = connection.execute(
        select(secret).where(
            secret.c.tenant_id == tenant,
            secret.c.name.in_(names),
            secret.c.key_id.is_not(None),
        )
    )
    return [_sealed(row) for row in rows]


def others(connection: Connection, tenant: str, key_id: str, limit: int) -> Sequence[Sealed]:
    """Secrets that are sealed with another key, some of them, held until the transaction ends."""
    rows = connection.execute(
        select(secret)
        .where(
            secret.c.tenant_id == tenant,
            secret.c.key_id.is_not(None),
            secret.c.key_id != key_id,
        )
        .order_by(secret.c.name)
        .limit(limit)
        .with_for_update()
    )
    return [_sealed(row) for row in rows]


def reseal(connection: Connection, tenant: str, new: Sealed) -> None:
    """Put the same value, sealed anew, in the place of what was sealed. The row is held."""
    connection.execute(
        update(secret)
        .where(
            secret.c.tenant_id == tenant,
            secret.c.name == new.name,
            secret.c.version == new.version,
            secret.c.key_id.is_not(None),
        )
        .values(key_id=new.key_id, nonce=new.nonce, ciphertext=new.ciphertext)
    )


def _secret(row: Row[Any]) -> Secret:
    return Secret(
        name=row.name,
        version=row.version,
        sensitive=row.sensitive,
        created_by=row.created_by,
        created_at=row.created_at,
        key_id=row.key_id,
    )


def _sealed(row: Row[Any]) -> Sealed:
    return Sealed(
        name=row.name,
        version=row.version,
        sensitive=row.sensitive,
        key_id=row.key_id,
        nonce=bytes(row.nonce),
        ciphertext=bytes(row.ciphertext),
    )
