"""What nodes print, and what models say to them: lines of an attempt, apart from its result."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from engine.store import session
from engine.store.ids import StepId

_APPEND = session.Statement(
    name="log_append",
    types="text, text, text, int, int, text[], text[], int[]",
    sql="""
    INSERT INTO log (tenant_id, run_id, step, attempt, line, stream, text, call)
    SELECT $1, $2::uuid, $3, $4, $5 + n, stream, said, call
    FROM unnest($6, $7, $8) WITH ORDINALITY AS l (stream, said, call, n)
    ON CONFLICT DO NOTHING
    """,
)


def append(
    connection: Connection,
    step: StepId,
    attempt: int,
    after: int,
    lines: Sequence[tuple[str, str, int | None]],
) -> None:
    """Keep lines (stream, text, call), numbered from `after` + 1. Safe to repeat."""
    session.run(
        connection,
        _APPEND,
        *step,
        attempt,
        after,
        [stream for stream, _, _ in lines],
        [text for _, text, _ in lines],
        [call for _, _, call in lines],
    )
