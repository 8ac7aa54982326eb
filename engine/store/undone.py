"""Calls of tools that are undone, or are to be: each by which run, at which place among its calls.

What has become of one is told by the calls of the run that undoes it (`fate`), so that a crash between
the two leaves nothing to be put right.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row

from engine.core import transitions
from engine.store import session
from engine.store.ids import RunId

#: The workflow of the runs that undo.
WORKFLOW = "celeriac.undo"

#: The statuses of runs that have ended, as SQL lists them.
ENDED = ", ".join(f"'{status}'" for status in sorted(transitions.TERMINAL))
# Of a row `u`: calls of the run that undoes it, for it. Each is of an item of the one map of that run.
_MINE = """
    m.tenant_id = u.tenant_id AND m.run_id = u.by_run AND m.step = 'undo#1.' || u.place
"""
_DONE = f"""
    EXISTS (SELECT FROM call_result m WHERE {_MINE} AND m.reason IS NULL)
"""
# It may have happened: it began, and nothing says that it was not made. So it is of calls that may be repeated, too:
# another run would make another one, under another idempotency key.
_IN_DOUBT = """
    EXISTS (SELECT FROM call m LEFT JOIN call_result d ON d.tenant_id = m.tenant_id
            AND d.run_id = m.run_id AND d.step = m.step AND d.ordinal = m.ordinal AND d.attempt = m.attempt
        WHERE {mine} AND (d.attempt IS NULL OR d.reason <> ALL(ARRAY[{never}])))
"""


def fate(call: str, never: Collection[str]) -> str:
    """SQL for what has become of undoing a call, a row of this name; null: nobody has asked for it.

    `undone`; `undoing`: its run is at it, or asks people; `unknown`: that run has ended, and nobody knows; `stands`:
    it has ended without it, or somebody says so. `never` are the reasons of calls that were certainly not made.
    """
    return f"""
    (SELECT {told(never)} FROM undone_call u
        JOIN run b ON b.tenant_id = u.tenant_id AND b.id = u.by_run
        WHERE u.tenant_id = {call}.tenant_id AND u.run_id = {call}.run_id
            AND u.step = {call}.step AND u.ordinal = {call}.ordinal)
    """  # noqa: S608  # our own constants


def by(call: str) -> str:
    """SQL for the run that undoes a call, a row of this name, or was to."""
    return f"""
    (SELECT u.by_run::text FROM undone_call u WHERE u.tenant_id = {call}.tenant_id
        AND u.run_id = {call}.run_id AND u.step = {call}.step AND u.ordinal = {call}.ordinal)
    """  # noqa: S608  # our own constants


def told(never: Collection[str]) -> str:
    """SQL for what `fate` tells, of a row `u`, by the run that is row `b`."""
    listed = ", ".join(f"'{reason}'" for reason in sorted(never))
    doubt = _IN_DOUBT.format(mine=_MINE, never=listed)
    return f"""
    CASE WHEN {_DONE} THEN 'undone' WHEN b.status NOT IN ({ENDED}) THEN 'undoing'
        WHEN u.settled IS NOT NULL THEN u.settled WHEN {doubt} THEN 'unknown' ELSE 'stands' END
    """


# Of several at once the first wins: the others find its row, whose run they may not see yet.
_BEGIN = session.Statement(
    name="undone_begin",
    types="text, text, text[], text[], int[], text[]",
    sql=f"""
    WITH begun AS (INSERT INTO undone_call AS o (tenant_id, run_id, step, ordinal, by_run, place)
    SELECT $1, n.run::uuid, n.step, n.ordinal, $2::uuid, n.place::int - 1
    FROM unnest($3, $4, $5) WITH ORDINALITY AS n (run, step, ordinal, place)
    ON CONFLICT (tenant_id, run_id, step, ordinal)
    DO UPDATE SET by_run = excluded.by_run, place = excluded.place, settled = NULL
    WHERE EXISTS (SELECT FROM run e WHERE e.tenant_id = o.tenant_id AND e.id = o.by_run
            AND e.status IN ({ENDED}))
        AND o.settled IS DISTINCT FROM 'undone'
        AND NOT EXISTS (SELECT FROM call m LEFT JOIN call_result d ON d.tenant_id = m.tenant_id
                AND d.run_id = m.run_id AND d.step = m.step AND d.ordinal = m.ordinal AND d.attempt = m.attempt
            WHERE m.tenant_id = o.tenant_id AND m.run_id = o.by_run AND m.step = 'undo#1.' || o.place
                AND (d.attempt IS NOT NULL AND d.reason IS NULL
                    OR o.settled IS NULL AND (d.attempt IS NULL OR d.reason <> ALL($6))))
        RETURNING run_id, step, ordinal, by_run, place)
    INSERT INTO undoing_call (tenant_id, by_run, place, run_id, step, ordinal)
    SELECT $1, by_run, place, run_id, step, ordinal FROM begun RETURNING run_id
    """,  # noqa: S608  # our own constants
)


@cache
def _behind(never: frozenset[str]) -> session.Statement:
    return session.Statement(
        name="undone_behind",
        types="text, text",
        sql=f"""
        WITH RECURSIVE touched AS (
            SELECT u.run_id, u.step, {told(never)} AS fate FROM undone_call u
            JOIN run r ON r.tenant_id = u.tenant_id AND r.id = u.run_id
            JOIN run b ON b.tenant_id = u.tenant_id AND b.id = u.by_run
            WHERE u.tenant_id = $1 AND r.root = (SELECT root FROM run WHERE tenant_id = $1 AND id = $2::uuid)),
        around (run_id, step) AS (
            SELECT run_id, step FROM touched WHERE fate <> 'stands'
            UNION
            SELECT r.parent_run, r.parent_step FROM around a JOIN run r ON r.tenant_id = $1 AND r.id = a.run_id
            WHERE r.parent_run IS NOT NULL)
        SELECT step FROM around WHERE run_id = $2::uuid ORDER BY step
        """,  # noqa: S608  # our own constants
    )


_TREE = session.Statement(
    name="undone_tree",
    types="text, text",
    sql="""
    SELECT r.id::text AS run, r.status, r.parent_run::text AS parent_run, r.parent_step
    FROM run r WHERE r.tenant_id = $1 AND (r.id = $2::uuid OR (r.root = $2::uuid AND r.root <> r.id))
    """,
)


@cache
def _of(never: frozenset[str]) -> session.Statement:
    return session.Statement(
        name="undone_of",
        types="text, text",
        sql=f"""
        SELECT u.step, u.ordinal, u.by_run::text AS by, {told(never)} AS fate FROM undone_call u
        JOIN run b ON b.tenant_id = u.tenant_id AND b.id = u.by_run
        WHERE u.tenant_id = $1 AND u.run_id = $2::uuid
        """,  # noqa: S608  # our own constants
    )


def begin(
    connection: Connection,
    by: RunId,
    undone: Sequence[tuple[str, str, int]],
    *,
    never: Collection[str],
) -> bool:
    """Keep that a run undoes calls (run, step, ordinal), in this order.

    False where one of them is undone, or may be: then nothing of it may be committed.
    """
    rows = session.run(
        connection,
        _BEGIN,
        *(by.tenant, by.run),
        [run for run, _, _ in undone],
        [step for _, step, _ in undone],
        [ordinal for _, _, ordinal in undone],
        sorted(never),
    )
    return len(rows) == len(undone)


_SETTLE = session.Statement(
    name="undone_settle",
    types="text, text, text, int, text",
    sql="""
    UPDATE undone_call SET settled = $5
    WHERE tenant_id = $1 AND run_id = $2::uuid AND step = $3 AND ordinal = $4 RETURNING by_run
    """,
)


def settle(connection: Connection, call: tuple[str, str, str, int], fate: str) -> None:
    """Keep what somebody says of undoing a call (tenant, run, step, ordinal): `undone` or `stands`."""
    session.run(connection, _SETTLE, *call, fate)


def behind(connection: Connection, run: RunId, *, never: frozenset[str]) -> Sequence[str]:
    """The steps of a run whose calls are undone, or may be: their own, or of runs that they started."""
    rows = session.run(connection, _behind(never), run.tenant, run.run)
    return [row.step for row in rows]


def tree(connection: Connection, root: RunId) -> Sequence[Row[Any]]:
    """A run and all within it: status, and which step of which other one each was started by."""
    return session.run(connection, _TREE, root.tenant, root.run)


def of(connection: Connection, run: RunId, *, never: frozenset[str]) -> Sequence[Row[Any]]:
    """The calls of a run that are undone, or were to be: step, ordinal, by, fate."""
    return session.run(connection, _of(never), run.tenant, run.run)
