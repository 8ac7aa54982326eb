"""What rests on calls that are undone, or are to be: the runs that go on from what they did.

A run rests on a call that it made, or a copy of which its steps began with, or whose result it was given; so do the
runs around it, and those that go on from any of these from after the call.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row

from engine.store import choices, session, undone
from engine.store.ids import RunId

# Turns of the runs go on meanwhile.
_REST = session.Statement(
    name="resting_rest",
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
    name="resting_alone",
    types="text, text",
    sql="SELECT FROM run WHERE tenant_id = $1 AND id = $2::uuid FOR UPDATE",
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
    name="resting_handled",
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
    name="resting_standing",
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
    name="resting_live",
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
    WHERE r.status NOT IN ({undone.ENDED}) ORDER BY r.id
    """,  # noqa: S608  # our own constants
)

# Of a run: a step of the one around it waits for it.
_AWAITED = """
    EXISTS (SELECT FROM step w WHERE w.tenant_id = {run}.tenant_id AND w.run_id = {run}.parent_run
        AND w.key = {run}.parent_step)
"""
# A run that was started, within the same tree, after the call may know of what it did. Who was served its result
# rests on it even if it went back since: what it has done with that it may yet undo. `$8` are those that went back
# over the call, and those around them: they do not know of it any more, and of what they have started, only that
# does which no step of theirs waits for now (a step that was live when its run went back has another name since).
# Nor do forks know of it of those, `$9`, that went back, from their lines `$10` on; and what `$11` is yet to be served
# is chosen anew.
_LIVE_ON = session.Statement(
    name="resting_live_on",
    types="text, text, timestamptz, text, int, text[], text, text[], text[], bigint[], text",
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
                AND NOT EXISTS (SELECT FROM unnest($9, $10) AS o (run, since)
                    WHERE o.run = s.id::text AND f.forked_seq >= o.since)
        UNION
        SELECT r.id FROM stands s JOIN run r ON r.tenant_id = $1 AND r.parent_run = s.id
            AND r.created_at >= s.since AND NOT (s.id::text = ANY($8) AND {_AWAITED.format(run="r")})
        UNION
        SELECT t.id FROM run t WHERE t.tenant_id = $1 AND t.root = $2::uuid AND t.root <> t.id
            AND t.created_at >= $3 AND NOT {_AWAITED.format(run="t")})
        UNION
        SELECT r.id FROM rests x JOIN run r ON r.tenant_id = $1
            AND (r.forked_run = x.id OR r.parent_run = x.id)),
    concerned (id) AS (
        SELECT id FROM rests
        UNION
        SELECT id FROM stands WHERE id::text <> ALL($8)
        UNION
        SELECT c.run_id FROM call c WHERE c.tenant_id = $1 AND c.served = $3 AND c.digest = $7
        UNION
        SELECT k.run_id FROM chosen_call k WHERE k.tenant_id = $1 AND k.step = $4 AND k.ordinal = $5
            AND k.made_at = $3 AND k.digest = $7 AND k.choice IN ('reuse', 'skip')
            AND k.until IS NULL AND NOT coalesce(k.run_id = $11::uuid AND k.taken_step IS NULL, false))
    SELECT r.id::text AS run FROM concerned x JOIN run r ON r.tenant_id = $1 AND r.id = x.id
    WHERE r.status NOT IN ({undone.ENDED}) ORDER BY r.id LIMIT 1
    """,  # noqa: S608  # our own constants
)


@cache
def _before(never: frozenset[str]) -> session.Statement:
    return session.Statement(
        name="resting_before",
        types="text, text, bigint, timestamptz, text[]",
        sql=f"""
        WITH RECURSIVE course (id, at) AS (
            SELECT $2::uuid, $4::timestamptz WHERE EXISTS (SELECT FROM undone_call WHERE tenant_id = $1)
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
            WHERE r.finished_at <= f.at AND NOT (f.id = $2::uuid AND r.parent_step = ANY($5))),
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
            SELECT u.*, k.run_id, k.made_at, $4, true
            FROM chosen_call k JOIN touched u ON u.step = k.step AND u.ordinal = k.ordinal
                AND u.made_at = k.made_at AND u.digest = k.digest
            WHERE k.tenant_id = $1 AND k.run_id = $2::uuid AND k.choice IN ('reuse', 'skip')
                AND {choices.standing("$3", "$4")}),
        told AS (
            SELECT u.*, {undone.told(never)} AS fate FROM standing u
            JOIN run b ON b.tenant_id = u.tenant_id AND b.id = u.by_run)
        SELECT run_id::text AS run, step, ordinal, tool, there::text AS there, started_at, at, served, fate,
            by_run::text AS by
        FROM told WHERE fate <> 'stands' ORDER BY started_at DESC
        """,  # noqa: S608  # our own constants
    )


def rest(connection: Connection, runs: Sequence[RunId]) -> None:
    """Let nothing be undone, until the transaction is over, that going on from runs may rest on."""
    if runs:
        session.run(connection, _REST, runs[0].tenant, [run.run for run in runs])


def alone(connection: Connection, root: RunId) -> None:
    """Let nobody go on, until the transaction is over, from a run or one within it: `rest` waits."""
    session.run(connection, _ALONE, root.tenant, root.run)


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


def live_on(
    connection: Connection,
    root: RunId,
    call: Row[Any],
    chain: Collection[str],
    *,
    aside: Collection[str],
    over: Mapping[str, int],
    back: str | None,
) -> str | None:
    """A live run that rests on a call, or is to be served it. `chain`: its run and those around it.

    `aside`: those of them that went back over it, or are around one that did; `over`: since which lines each did;
    `back`: the one that is to go back.
    """
    place = (call.made_at, call.step, call.ordinal)
    known = (sorted(chain), call.digest, sorted(aside), [*over], [*over.values()], back)
    rows = session.run(connection, _LIVE_ON, root.tenant, root.run, *place, *known)
    return rows[0].run if rows else None


def before(
    connection: Connection,
    place: tuple[RunId, int, datetime],
    live: Sequence[str],
    *,
    never: frozenset[str],
) -> Sequence[Row[Any]]:
    """Calls that a run may rest on at a place (its line and time), when steps were live, and that are undone since, or may be.

    Those of runs that it goes on from, or within them, count as well. Each is told wherever it stands: as it was made,
    as a copy, or as the result that another one was given. `there`: the run where it stands since `started_at`; `at`:
    until when that counts; `served`: it is yet to be served, or skipped.
    """
    run, seq, at = place
    return session.run(connection, _before(never), run.tenant, run.run, seq, at, list(live))
