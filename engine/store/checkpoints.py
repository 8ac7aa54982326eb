"""Snapshots: a run's whole state at a place of its history.

Taken by turns when the patches since the last one outweigh it, so that history costs no
more than its changes and no fold begins far back.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row

from engine.store import session
from engine.store.ids import RunId

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
    session.run(connection, _PUT, run.tenant, run.run, seq, state)


def nearest(connection: Connection, run: RunId, seq: int) -> Row[Any] | None:
    """The last snapshot at or before a seq."""
    return next(iter(session.run(connection, _NEAREST, run.tenant, run.run, seq)), None)
