"""Snapshots: a run's whole state at a place of its history. And names of places.

Snapshots are taken by turns when the patches since the last one outweigh it, so that history
costs no more than its changes and no fold begins far back. Any line may have a name, whether
its state is kept or not.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, select
from sqlalchemy.dialects.postgresql import insert

from engine.store import session
from engine.store.ids import RunId
from engine.store.tables import checkpoint_name

_PUT = session.Statement(
    name="checkpoint_put",
    types="text, text, bigint, text",
    sql="""
    INSERT INTO checkpoint (tenant_id, run_id, seq, state)
    VALUES ($1, $2::uuid, $3, $4::json)
    """,
)

_NEAREST = session.Statement(
    name="checkpoint_nearest",
    types="text, text, bigint",
    sql="""
    SELECT seq, state::text AS state FROM checkpoint
    WHERE tenant_id = $1 AND run_id = $2::uuid AND seq <= $3
    ORDER BY seq DESC LIMIT 1
    """,
)


def put(connection: Connection, run: RunId, seq: int, state: str) -> None:
    """Keep a state, as JSON text, at a seq."""
    session.later(connection, _PUT, run.tenant, run.run, seq, state)


def nearest(connection: Connection, run: RunId, seq: int) -> Row[Any] | None:
    """The last snapshot at or before a seq."""
    return next(iter(session.run(connection, _NEAREST, run.tenant, run.run, seq)), None)


def lock(connection: Connection, run: RunId) -> None:
    """Wait until nobody else names a place of a run."""
    key = func.hashtextextended(f"checkpoint/{run.tenant}/{run.run}", 0)
    connection.execute(select(func.pg_advisory_xact_lock(key)))


def named(connection: Connection, run: RunId, seq: int) -> Row[Any] | None:
    """The name of a place, and who gave it; None: it has none."""
    here = and_(
        checkpoint_name.c.tenant_id == run.tenant,
        checkpoint_name.c.run_id == run.run,
        checkpoint_name.c.seq == seq,
    )
    statement: Select[Any] = select(checkpoint_name.c.name, checkpoint_name.c.named_by).where(here)
    return connection.execute(statement).first()


def called(connection: Connection, run: RunId, name: str) -> int | None:
    """The place of a run that has a name; None: none has it."""
    statement = select(checkpoint_name.c.seq).where(
        checkpoint_name.c.tenant_id == run.tenant,
        checkpoint_name.c.run_id == run.run,
        checkpoint_name.c.name == name,
    )
    return connection.execute(statement).scalar_one_or_none()


def call(connection: Connection, run: RunId, seq: int, name: str, *, by: str) -> None:
    """Give a place a name, instead of the one that it has. No other of its run may have it."""
    given = {"name": name, "named_by": by, "named_at": func.clock_timestamp()}
    new = insert(checkpoint_name).values(tenant_id=run.tenant, run_id=run.run, seq=seq, **given)
    key = (checkpoint_name.c.tenant_id, checkpoint_name.c.run_id, checkpoint_name.c.seq)
    connection.execute(new.on_conflict_do_update(index_elements=key, set_=given))
