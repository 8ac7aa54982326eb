"""Answers to many questions under one key: which they were, and what came of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert

from engine.core.values import Json
from engine.store.tables import batch, batch_answer


class BatchId(NamedTuple):
    """Somebody's key."""

    tenant: str
    by: str
    key: str


def claim(connection: Connection, of: BatchId, *, digest: str, questions: Sequence[str]) -> Any:
    """Give a key to an answer to many; what it stands for already, if it was sent before."""
    statement = (
        upsert(batch)
        .values(tenant_id=of.tenant, by=of.by, key=of.key, digest=digest, questions=[*questions])
        .on_conflict_do_nothing()
    )
    if connection.execute(statement).rowcount == 1:
        return None
    return find(connection, of)


def find(connection: Connection, of: BatchId) -> Any:
    """What a key stands for."""
    found: Any = connection.execute(
        select(batch.c.digest, batch.c.questions).where(
            batch.c.tenant_id == of.tenant, batch.c.by == of.by, batch.c.key == of.key
        )
    ).one_or_none()
    return found


def outcome(connection: Connection, of: BatchId, question: str) -> Mapping[str, Json] | None:
    """What came of an answer to one of them."""
    statement = select(batch_answer.c.outcome).where(
        batch_answer.c.tenant_id == of.tenant,
        batch_answer.c.by == of.by,
        batch_answer.c.key == of.key,
        batch_answer.c.question == question,
    )
    found: Mapping[str, Json] | None = connection.execute(statement).scalar_one_or_none()
    return found


def keep(connection: Connection, of: BatchId, question: str, came: Mapping[str, Json]) -> None:
    """Keep what came of it, unless somebody has just done so."""
    statement = (
        upsert(batch_answer)
        .values(tenant_id=of.tenant, by=of.by, key=of.key, question=question, outcome=dict(came))
        .on_conflict_do_nothing()
    )
    connection.execute(statement)


def forget(connection: Connection, *, older_than: float, limit: int) -> None:
    """Let keys go that nobody repeats any more; `older_than` in seconds."""
    age = func.make_interval(0, 0, 0, 0, 0, 0, older_than)
    place = (batch.c.tenant_id, batch.c.by, batch.c.key)
    old = select(*place).where(batch.c.at < func.clock_timestamp() - age).limit(limit)
    connection.execute(delete(batch).where(tuple_(*place).in_(old)))
