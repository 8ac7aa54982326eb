"""Calls of tools that are undone, or are to be: each by which run, at which place among its calls.

What has become of one is told by the calls of the run that undoes it (`fate`), so that a crash between
the two leaves nothing to be put right.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row

from engine.core import transitions
from engine.store import session
from engine.store.ids import RunId

#: The workflow of the runs that undo.
WORKFLOW = "celeriac.undo"

_ENDED = ", ".join(f"'{status}'" for status in sorted(transitions.TERMINAL))
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
    (SELECT {_fate(never)} FROM undone_call u
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


def _fate(never: Collection[str]) -> str:
    listed = ", ".join(f"'{reason}'" for reason in sorted(never))
    doubt = _IN_DOUBT.format(mine=_MINE, never=listed)
    return f"""
    CASE WHEN {_DONE} THEN 'undone' WHEN b.status NOT IN ({_ENDED}) THEN 'undoing'
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
            AND e.status IN ({_ENDED}))
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

# Turns of the runs go on meanwhile.
_REST = session.Statement(
    name="undone_rest",
    types="text, text[]",
    sql="""
    WITH RECURSIVE course (id) AS (
        SELECT unnest($2)::uuid
        UNION
        SELECT o.id FROM course c JOIN run r ON r.tenant_id = $1 AND r.id = c.id
        CROSS JOIN LATERAL (VALUES (r.forked_run), (r.parent_run)) AS o (id)
        WHERE o.id IS NOT NULL)
    SELECT r.id FROM run r WHERE r.tenant_id = $1 AND r.root = r.id AND r.id IN (SELECT id FROM course)
    ORDER BY r.id FOR KEY SHARE
    """,
)

_ALONE = session.Statement(
    name="undone_alone",
    types="text, text",
    sql="SELECT FROM run WHERE tenant_id = $1 AND id = $2::uuid FOR UPDATE",
)

_TREE = session.Statement(
    name="undone_tree",
    types="text, text",
    sql="""
    SELECT r.id::text AS run, r.status, r.parent_run::text AS parent_run, r.parent_step
    FROM run r WHERE r.tenant_id = $1 AND (r.id = $2::uuid OR (r.root = $2::uuid AND r.root <> r.id))
    """,
)

# A tree, and all that go on from somewhere in it, however many forks away, with what is within those.
_FAMILY = """
    family (id) AS (
        SELECT t.id FROM run t WHERE t.tenant_id = $1 AND (t.id = $2::uuid OR (t.root = $2::uuid AND t.root <> t.id))
        UNION
        SELECT r.id FROM family x JOIN run r ON r.tenant_id = $1
            AND (r.forked_run = x.id OR r.parent_run = x.id))
"""

_HANDLED = session.Statement(
    name="undone_handled",
    types="text, text",
    sql=f"""
    WITH RECURSIVE {_FAMILY}
    SELECT DISTINCT h.run_id::text AS run, substr(h.body->>'step', 6) AS step
    FROM family f JOIN history h ON h.tenant_id = $1 AND h.run_id = f.id
    WHERE h.kind = 'RequestStart' AND h.body->>'step' LIKE 'undo %'
    """,  # noqa: S608  # our own constants
)

# It may stand in several places: as it was made, as a copy with which a step began, and where its result was given
# again.
_STANDING = session.Statement(
    name="undone_standing",
    types="text, text, text, timestamptz",
    sql=f"""
    WITH RECURSIVE {_FAMILY},
    around (id, step) AS (
        SELECT c.run_id, c.step FROM family f JOIN call c ON c.tenant_id = $1 AND c.run_id = f.id
            AND c.digest = $3 AND coalesce(c.served, c.started_at) = $4
        UNION
        SELECT r.parent_run, r.parent_step FROM around a JOIN run r ON r.tenant_id = $1 AND r.id = a.id
        WHERE r.parent_run IS NOT NULL)
    SELECT id::text AS run, step FROM around ORDER BY id, step
    """,  # noqa: S608  # our own constants
)

_LIVE = session.Statement(
    name="undone_live",
    types="text, text",
    sql=f"""
    WITH RECURSIVE rests (id) AS (
        SELECT f.id FROM run t JOIN run f ON f.tenant_id = t.tenant_id AND f.forked_run = t.id
        WHERE t.tenant_id = $1 AND (t.id = $2::uuid OR (t.root = $2::uuid AND t.root <> t.id))
        UNION
        SELECT r.id FROM rests x JOIN run r ON r.tenant_id = $1
            AND (r.forked_run = x.id OR r.parent_run = x.id))
    SELECT r.id::text AS run, r.forked_run::text AS forked_run
    FROM rests x JOIN run r ON r.tenant_id = $1 AND r.id = x.id
    WHERE r.status NOT IN ({_ENDED}) ORDER BY r.id
    """,  # noqa: S608  # our own constants
)

# A run that was started, within the same tree, after the call may know of what it did. Who was served its result
# rests on it even if it went back since: what it has done with that it may yet undo.
_RESTING = session.Statement(
    name="undone_resting",
    types="text, text, timestamptz, text, int, text[], text",
    sql=f"""
    WITH RECURSIVE stands (id, since) AS (
        (SELECT unnest($6)::uuid, $3
        UNION
        SELECT c.run_id, c.started_at FROM call c WHERE c.tenant_id = $1 AND c.served = $3 AND c.digest = $7)
        UNION
        SELECT r.parent_run, s.since FROM stands s JOIN run r ON r.tenant_id = $1 AND r.id = s.id
        WHERE r.parent_run IS NOT NULL),
    rests (id) AS (
        (SELECT f.id FROM stands s JOIN run f ON f.tenant_id = $1 AND f.forked_run = s.id
            WHERE coalesce((SELECT h.at FROM history h WHERE h.tenant_id = $1
                AND h.run_id = f.forked_run AND h.seq = f.forked_seq) >= s.since, true)
        UNION
        SELECT r.id FROM stands s JOIN run r ON r.tenant_id = $1 AND r.parent_run = s.id
            AND r.created_at >= s.since
        UNION
        SELECT t.id FROM run t WHERE t.tenant_id = $1 AND t.root = $2::uuid AND t.root <> t.id
            AND t.created_at >= $3)
        UNION
        SELECT r.id FROM rests x JOIN run r ON r.tenant_id = $1
            AND (r.forked_run = x.id OR r.parent_run = x.id)),
    concerned (id) AS (
        SELECT id FROM rests
        UNION
        SELECT id FROM stands
        UNION
        SELECT k.run_id FROM chosen_call k WHERE k.tenant_id = $1 AND k.step = $4 AND k.ordinal = $5
            AND k.made_at = $3 AND k.digest = $7 AND k.choice IN ('reuse', 'skip'))
    SELECT r.id::text AS run FROM concerned x JOIN run r ON r.tenant_id = $1 AND r.id = x.id
    WHERE r.status NOT IN ({_ENDED}) ORDER BY r.id LIMIT 1
    """,  # noqa: S608  # our own constants
)


@cache
def _of(never: frozenset[str]) -> session.Statement:
    return session.Statement(
        name="undone_of",
        types="text, text",
        sql=f"""
        SELECT u.step, u.ordinal, u.by_run::text AS by, {_fate(never)} AS fate FROM undone_call u
        JOIN run b ON b.tenant_id = u.tenant_id AND b.id = u.by_run
        WHERE u.tenant_id = $1 AND u.run_id = $2::uuid
        """,  # noqa: S608  # our own constants
    )


@cache
def _before(never: frozenset[str]) -> session.Statement:
    return session.Statement(
        name="undone_before",
        types="text, text, timestamptz, text[]",
        sql=f"""
        WITH RECURSIVE course (id, at) AS (
            SELECT $2::uuid, $3::timestamptz WHERE EXISTS (SELECT FROM undone_call WHERE tenant_id = $1)
            UNION
            SELECT o.id, o.at FROM course c JOIN run r ON r.tenant_id = $1 AND r.id = c.id
            CROSS JOIN LATERAL (
                SELECT r.forked_run AS id, coalesce((SELECT h.at FROM history h WHERE h.tenant_id = $1
                    AND h.run_id = r.forked_run AND h.seq = r.forked_seq), r.created_at) AS at
                UNION ALL SELECT r.parent_run, r.created_at) o
            WHERE o.id IS NOT NULL),
        family (id, at) AS (
            SELECT id, at FROM course
            UNION
            SELECT r.id, f.at FROM family f JOIN run r ON r.tenant_id = $1 AND r.parent_run = f.id
            WHERE r.finished_at <= f.at AND NOT (f.id = $2::uuid AND r.parent_step = ANY($4))),
        touched AS (
            SELECT u.*, c.tool, c.digest, c.started_at AS made_at
            FROM undone_call u JOIN call c ON c.tenant_id = u.tenant_id AND c.run_id = u.run_id
                AND c.step = u.step AND c.ordinal = u.ordinal
            WHERE u.tenant_id = $1 AND NOT EXISTS (SELECT FROM call l WHERE l.tenant_id = c.tenant_id
                AND l.run_id = c.run_id AND l.step = c.step AND l.ordinal = c.ordinal AND l.attempt > c.attempt)),
        standing AS (
            SELECT u.*, c.run_id AS there, c.started_at, f.at, false AS served
            FROM family f JOIN call c ON c.tenant_id = $1 AND c.run_id = f.id AND c.started_at <= f.at
            JOIN touched u ON u.digest = c.digest AND u.made_at = coalesce(c.served, c.started_at)
            UNION ALL
            SELECT u.*, k.run_id, k.made_at, $3, true
            FROM chosen_call k JOIN touched u ON u.step = k.step AND u.ordinal = k.ordinal
                AND u.made_at = k.made_at AND u.digest = k.digest
            WHERE k.tenant_id = $1 AND k.run_id = $2::uuid AND k.choice IN ('reuse', 'skip') AND k.made_at <= $3
                AND NOT EXISTS (SELECT FROM call t WHERE t.tenant_id = k.tenant_id AND t.run_id = k.run_id
                    AND t.step = k.taken_step AND t.ordinal = k.taken_ordinal AND t.started_at <= $3)),
        told AS (
            SELECT u.*, {_fate(never)} AS fate FROM standing u
            JOIN run b ON b.tenant_id = u.tenant_id AND b.id = u.by_run)
        SELECT run_id::text AS run, step, ordinal, tool, there::text AS there, started_at, at, served, fate,
            by_run::text AS by
        FROM told WHERE fate <> 'stands' ORDER BY started_at DESC
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


def rest(connection: Connection, runs: Sequence[RunId]) -> None:
    """Let nothing be undone, until the transaction is over, that going on from runs may rest on."""
    if runs:
        session.run(connection, _REST, runs[0].tenant, [run.run for run in runs])


def alone(connection: Connection, root: RunId) -> None:
    """Let nobody go on, until the transaction is over, from a run or one within it: `rest` waits."""
    session.run(connection, _ALONE, root.tenant, root.run)


def tree(connection: Connection, root: RunId) -> Sequence[Row[Any]]:
    """A run and all within it: status, and which step of which other one each was started by."""
    return session.run(connection, _TREE, root.tenant, root.run)


def handled(connection: Connection, root: RunId) -> set[tuple[str, str]]:
    """The steps, as (run, step), whose own handlers have begun to undo them: of a tree, and of all that go on from it."""
    rows = session.run(connection, _HANDLED, root.tenant, root.run)
    return {(row.run, row.step) for row in rows}


def standing(connection: Connection, root: RunId, call: Row[Any]) -> Sequence[tuple[str, str]]:
    """The steps, as (run, step), that have a call or its result, and those around them from within.

    `call`: digest, made_at.
    """
    rows = session.run(connection, _STANDING, root.tenant, root.run, call.digest, call.made_at)
    return [(row.run, row.step) for row in rows]


def live(connection: Connection, root: RunId) -> Sequence[Row[Any]]:
    """Live runs that go on from somewhere in a tree, however many forks away: run, forked_run."""
    return session.run(connection, _LIVE, root.tenant, root.run)


def resting(
    connection: Connection, root: RunId, call: Row[Any], chain: Collection[str]
) -> str | None:
    """A live run that rests on a call, or is to be served it. `chain`: its run and those around it."""
    place = (call.made_at, call.step, call.ordinal)
    rows = session.run(
        connection, _RESTING, root.tenant, root.run, *place, sorted(chain), call.digest
    )
    return rows[0].run if rows else None


def of(connection: Connection, run: RunId, *, never: frozenset[str]) -> Sequence[Row[Any]]:
    """The calls of a run that are undone, or were to be: step, ordinal, by, fate."""
    return session.run(connection, _of(never), run.tenant, run.run)


def before(
    connection: Connection, run: RunId, at: datetime, live: Sequence[str], *, never: frozenset[str]
) -> Sequence[Row[Any]]:
    """Calls that a run may rest on at a time, when steps were live, and that are undone since, or may be.

    Those of runs that it goes on from, or within them, count as well. Each is told wherever it stands: as it was made,
    as a copy, or as the result that another one was given. `there`: the run where it stands since `started_at`; `at`:
    until when that counts; `served`: it is yet to be served, or skipped.
    """
    return session.run(connection, _before(never), run.tenant, run.run, at, list(live))
