"""What is known of steps and their attempts, for whoever tells a run as executions.

The lines that began the parents of a step lie shortly before it, so they are looked for
backwards from there and found at once, however long the history is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, text

from engine.store import session
from engine.store.ids import RunId

_COLUMNS = "h.seq, h.at, h.kind, h.body::text AS body"
_OF_RUN = "h.tenant_id = $1 AND h.run_id = $2::uuid"

_ASKED = session.Statement(
    name="execution_asked",
    types="text, text, bigint, int",
    sql=f"""
    SELECT {_COLUMNS} FROM history h
    WHERE {_OF_RUN} AND h.seq >= $3 AND h.kind IN ('RequestStart', 'PassNode')
    ORDER BY h.seq LIMIT $4
    """,  # noqa: S608  # our own constants, here and below
)

_OF_STEP = session.Statement(
    name="execution_of_step",
    types="text, text, text, int",
    sql=f"""
    SELECT {_COLUMNS} FROM history h
    WHERE {_OF_RUN} AND h.kind IN ('RequestStart', 'PassNode') AND h.body->>'step' = $3
        AND coalesce((h.body->>'attempt')::int, 1) = $4
    ORDER BY h.seq DESC LIMIT 1
    """,  # noqa: S608
)

_LATER = session.Statement(
    name="execution_later",
    types="text, text, bigint, text[]",
    sql=f"""
    SELECT {_COLUMNS} FROM history h
    WHERE {_OF_RUN} AND h.seq > $3 AND h.kind IN ('RequestStart', 'TakeEdges', 'SkipRequested')
        AND h.body->>'step' = ANY($4)
    ORDER BY h.seq
    """,  # noqa: S608
)

_BEFORE = session.Statement(
    name="execution_before",
    types="text, text, text[], bigint[]",
    sql=f"""
    SELECT found.* FROM unnest($3, $4) AS w (step, upto)
    CROSS JOIN LATERAL (
        (SELECT {_COLUMNS} FROM history h
        WHERE {_OF_RUN} AND h.seq <= w.upto AND h.kind IN ('RequestStart', 'PassNode')
            AND h.body->>'step' = w.step
        ORDER BY h.seq DESC LIMIT 1)
        UNION ALL
        (SELECT {_COLUMNS} FROM history h
        WHERE {_OF_RUN} AND h.seq <= w.upto AND h.kind = 'TakeEdges' AND h.body->>'step' = w.step
        ORDER BY h.seq DESC LIMIT 1)) AS found
    ORDER BY found.seq
    """,  # noqa: S608
)

_SKIPPED = session.Statement(
    name="execution_skipped",
    types="text, text, text[], bigint[], bigint[]",
    sql=f"""
    SELECT found.* FROM unnest($3, $4, $5) AS w (step, since, upto)
    CROSS JOIN LATERAL (
        SELECT {_COLUMNS} FROM history h
        WHERE {_OF_RUN} AND h.seq > w.since AND h.seq < w.upto AND h.kind = 'SkipRequested'
            AND h.body->>'step' = w.step
        ORDER BY h.seq DESC LIMIT 1) AS found
    """,  # noqa: S608
)

_ENDS = session.Statement(
    name="execution_ends",
    types="text, text, text[]",
    sql="""
    SELECT a.step, a.attempt, a.started_at, r.ended_at, r.outcome, r.message,
        r.usage::text AS usage
    FROM attempt a LEFT JOIN result r ON r.tenant_id = a.tenant_id AND r.run_id = a.run_id
        AND r.step = a.step AND r.attempt = a.attempt
    WHERE a.tenant_id = $1 AND a.run_id = $2::uuid AND a.step = ANY($3)
    """,
)

# A value's text is as it was written, so its length is what it takes.
_SIZES = session.Statement(
    name="execution_sizes",
    types="text, text, text[]",
    sql="""
    SELECT p.id, octet_length((p.body->'result'->'inline')::text) AS bytes,
        p.body->'result'->>'sha256' AS sha256, (p.body->'result'->>'size')::bigint AS size
    FROM payload p WHERE p.tenant_id = $1 AND p.run_id = $2::uuid AND p.id = ANY($3)
    """,
)

_VALUES = session.Statement(
    name="execution_values",
    types="text, text, text[]",
    sql="""
    SELECT p.id, (p.body->'result'->'inline')::text AS value
    FROM payload p WHERE p.tenant_id = $1 AND p.run_id = $2::uuid AND p.id = ANY($3)
    """,
)


def asked(connection: Connection, run: RunId, *, since: int, limit: int) -> Sequence[Row[Any]]:
    """The lines that asked for attempts or passed nodes, from a seq on, in order."""
    return session.run(connection, _ASKED, run.tenant, run.run, since, limit)


def of_step(connection: Connection, run: RunId, step: str, attempt: int) -> Sequence[Row[Any]]:
    """The line that asked for an attempt of a step; none if nothing did."""
    return session.run(connection, _OF_STEP, run.tenant, run.run, step, attempt)


def later(
    connection: Connection, run: RunId, steps: Sequence[str], *, after: int
) -> Sequence[Row[Any]]:
    """What became of steps after a seq: further attempts, skips, settlements."""
    return session.run(connection, _LATER, run.tenant, run.run, after, list(steps))


def before(connection: Connection, run: RunId, steps: Mapping[str, int]) -> Sequence[Row[Any]]:
    """The last attempt of each step up to a seq, and what settled it, in order."""
    return session.run(connection, _BEFORE, run.tenant, run.run, list(steps), list(steps.values()))


def skipped(
    connection: Connection, run: RunId, steps: Mapping[str, tuple[int, int]]
) -> Sequence[Row[Any]]:
    """Who let steps count as done, between the two seqs of each."""
    between = list(steps.values())
    return session.run(
        connection,
        _SKIPPED,
        run.tenant,
        run.run,
        list(steps),
        [since for since, _ in between],
        [upto for _, upto in between],
    )


def ends(connection: Connection, run: RunId, steps: Sequence[str]) -> Sequence[Row[Any]]:
    """When the attempts of steps were begun, and how they ended."""
    return session.run(connection, _ENDS, run.tenant, run.run, list(steps))


def sizes(connection: Connection, run: RunId, ids: Sequence[str]) -> Sequence[Row[Any]]:
    """What results take, by the id of their payload: bytes where they are, or a blob's name."""
    return session.run(connection, _SIZES, run.tenant, run.run, list(ids))


def values(connection: Connection, run: RunId, ids: Sequence[str]) -> Sequence[Row[Any]]:
    """Results that are kept where they are, as JSON texts."""
    return session.run(connection, _VALUES, run.tenant, run.run, list(ids))


def live(connection: Connection, run: RunId) -> frozenset[str]:
    """The keys of the steps that are not settled."""
    statement = text("SELECT key FROM step WHERE tenant_id = :t AND run_id = CAST(:r AS uuid)")
    found = connection.execute(statement, {"t": run.tenant, "r": run.run}).scalars()
    return frozenset(found)
