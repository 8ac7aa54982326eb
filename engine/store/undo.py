"""What a run has done, last things first, for those nodes that can undo it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row

from engine.store import history, session
from engine.store.ids import RunId

_LAST = session.Statement(
    name="undo_last",
    types="text, text, text[], bigint",
    sql=r"""
    SELECT h.body->>'step' AS step, h.seq FROM history h
    WHERE h.tenant_id = $1 AND h.run_id = $2::uuid AND h.seq < $4
        AND h.kind IN ('AttemptSucceeded', 'WaitEnded')
        AND regexp_replace(h.body->>'step', '#[0-9]+$', '') = ANY($3)
    ORDER BY h.seq DESC LIMIT 1
    """,
)


def last(
    connection: Connection, run: RunId, nodes: Sequence[str], before: int | None
) -> Row[Any] | None:
    """The last step of some nodes that was done, before a line of history: step, seq."""
    upto = history.LAST if before is None else before
    rows = session.run(connection, _LAST, run.tenant, run.run, list(nodes), upto)
    return rows[0] if rows else None
