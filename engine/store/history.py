"""The append-only record of every run: what was reported, what was decided, in order.

Each row's hash covers the row before it, so a row that is changed, removed or moved breaks
the chain of its run. Users' data enters it only as salted digests (`payload`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from engine.core import chain
from engine.store import session
from engine.store.ids import RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of a run's history. `body` is the exact text that is hashed."""

    run: RunId
    seq: int
    at: datetime
    kind: str
    format: int
    body: str
    payload_id: str | None
    hash: bytes


_APPEND = session.Statement(
    name="history_append",
    types="text[], text[], bigint[], timestamptz[], text[], int[], text[], text[], bytea[]",
    sql="""
    INSERT INTO history (tenant_id, run_id, seq, at, kind, format, body, payload_id, hash)
    SELECT tenant, run::uuid, seq, at, kind, format, body::json, payload_id, hash
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9)
        AS line (tenant, run, seq, at, kind, format, body, payload_id, hash)
    """,
)

_READ = session.Statement(
    name="history_read",
    types="text, text, bigint, bigint, int",
    sql="""
    SELECT h.seq, h.at, h.kind, h.format, h.body::text AS body, h.payload_id, h.hash,
        p.body::text AS payload,
        h.payload_id IS NOT NULL AND (p.id IS NULL OR p.shredded_at IS NOT NULL) AS shredded
    FROM history h
    LEFT JOIN payload p ON p.tenant_id = h.tenant_id AND p.run_id = h.run_id
        AND p.id = h.payload_id
    WHERE h.tenant_id = $1 AND h.run_id = $2::uuid AND h.seq > $3 AND h.seq <= $4
    ORDER BY h.seq LIMIT $5
    """,
)

LAST = 2**62

_ABOUT = session.Statement(
    name="history_about",
    types="text, text, text",
    sql="""
    SELECT seq, at, kind, format, body::text AS body, payload_id, hash, NULL::text AS payload
    FROM history
    WHERE tenant_id = $1 AND run_id = $2::uuid AND body->>'step' = $3 ORDER BY seq
    """,
)


def chained(
    before: bytes,
    *,
    run: RunId,
    seq: int,
    at: datetime,
    kind: str,
    format: int,  # noqa: A002  # the column's name
    body: str,
    payload_id: str | None,
) -> Line:
    """A row whose SHA-256 covers the row before it; the first follows the empty string."""
    return Line(
        run=run,
        seq=seq,
        at=at,
        kind=kind,
        format=format,
        body=body,
        payload_id=payload_id,
        hash=chain.line(
            before,
            run=run.run,
            seq=seq,
            at=at,
            kind=kind,
            format=format,
            body=body,
            payload_id=payload_id,
        ),
    )


def append(connection: Connection, lines: Sequence[Line]) -> None:
    """Write rows. Two writers of one run collide on its primary key; neither overwrites."""
    if not lines:
        return
    session.later(
        connection,
        _APPEND,
        [line.run.tenant for line in lines],
        [line.run.run for line in lines],
        [line.seq for line in lines],
        [line.at for line in lines],
        [line.kind for line in lines],
        [line.format for line in lines],
        [line.body for line in lines],
        [line.payload_id for line in lines],
        [line.hash for line in lines],
    )


def read(
    connection: Connection, run: RunId, *, after: int = 0, upto: int = LAST, limit: int = 1000
) -> Sequence[Row[Any]]:
    """Rows with `after` < seq <= `upto`, oldest first, each with its payload's text.

    What was shredded has a payload that says so, in place of users' data.
    """
    return session.run(connection, _READ, run.tenant, run.run, after, upto, limit)


def about(connection: Connection, run: RunId, step: str) -> Sequence[Row[Any]]:
    """The rows that speak of a step, oldest first, without users' data. It reads all of the run's."""
    return session.run(connection, _ABOUT, run.tenant, run.run, step)
