"""What a run has done, last things first, for those nodes that can undo it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row

from engine.store import history, session
from engine.store.ids import RunId

_LAST = session.Statement(
    name="undo_last",
    types="text, text, text[], bigint, text[]",
    sql=r"""
    SELECT h.body->>'step' AS step, h.seq FROM history h
    WHERE h.tenant_id = $1 AND h.run_id = $2::uuid AND h.seq < $4
        AND h.kind IN ('AttemptSucceeded', 'AttemptWithheld', 'WaitEnded')
        AND h.body->>'permit' IS NULL AND h.body->>'step' <> ALL ($5)
        AND regexp_replace(h.body->>'step', '#[0-9]+$', '') = ANY($3)
        AND NOT EXISTS (SELECT FROM history l WHERE l.tenant_id = h.tenant_id
            AND l.run_id = h.run_id AND l.seq > h.seq AND l.body->>'step' = h.body->>'step'
            AND l.kind IN ('AttemptSucceeded', 'AttemptWithheld', 'WaitEnded')
            AND l.body->>'permit' IS NULL)
    ORDER BY h.seq DESC LIMIT 1
    """,
)


def last(
    connection: Connection,
    run: RunId,
    nodes: Sequence[str],
    before: int | None,
    beside: Collection[str] = (),
) -> Row[Any] | None:
    """The last step of some nodes that was done, before a line of history: step, seq.

    A step was done where it was done last; `beside` those of which later lines are at hand.
    """
    upto = history.LAST if before is None else before
    rows = session.run(connection, _LAST, run.tenant, run.run, list(nodes), upto, sorted(beside))
    return rows[0] if rows else None
