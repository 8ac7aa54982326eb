"""Tool calls made by running steps: a row when one starts, a row when it has ended.

A call belongs to its step by ordinal, whatever attempt makes it: a later attempt is served
what an earlier one recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from engine.store import session, undone
from engine.store.ids import RunId, StepId
from engine.store.steps import Held

#: How calls of services end that never left the platform, or were turned away at the door.
NOT_SENT = frozenset(
    {
        *("unreachable", "blocked", "rate_limited"),
        *("arguments_refused", "not_granted", "no_such_secret", "no_such_service"),
    }
)

#: How calls end that were certainly not made.
NEVER_MADE = NOT_SENT | {
    *("not_made", "over_budget", "forbidden", "tool_closed", "arguments_too_large"),
}

#: A call of which something left the platform, or may have: it was not answered as somebody had chosen, and is
#: no copy of one, with which a step begins that is carried on (`carry`).
REAL = """
    c.served IS NULL AND NOT EXISTS (SELECT FROM result o WHERE o.tenant_id = c.tenant_id AND o.run_id = c.run_id
        AND o.step = c.step AND o.attempt = c.attempt AND o.fence = 0 AND o.outcome = 'lost'
        AND o.reason IN ('forked', 'rolled_back'))
"""

_KNOWN = session.Statement(
    name="call_known",
    types="text, text, text, int",
    sql="""
    SELECT c.attempt, c.tool, c.version, c.digest, c.effect, c.arguments::text AS arguments,
        x.attempt IS NOT NULL AS ended,
        x.reason, x.message, x.value::text AS value,
        (SELECT r.outcome = 'suspended' FROM result r WHERE r.tenant_id = c.tenant_id
            AND r.run_id = c.run_id AND r.step = c.step AND r.attempt = c.attempt)
            AND NOT EXISTS (SELECT FROM result f WHERE f.tenant_id = c.tenant_id
                AND f.run_id = c.run_id AND f.step = c.step AND f.attempt > c.attempt
                AND f.outcome = 'failed') AS gave_way
    FROM call c LEFT JOIN call_result x ON x.tenant_id = c.tenant_id AND x.run_id = c.run_id
        AND x.step = c.step AND x.ordinal = c.ordinal AND x.attempt = c.attempt
    WHERE c.tenant_id = $1 AND c.run_id = $2::uuid AND c.step = $3 AND c.ordinal = $4
    ORDER BY c.attempt
    """,
)

_REPEATS = session.Statement(
    name="call_repeats",
    types="text, text, text, int, text",
    sql="""
    SELECT count(DISTINCT (step, ordinal)) AS made FROM call
    WHERE tenant_id = $1 AND run_id = $2::uuid AND NOT (step = $3 AND ordinal = $4) AND digest = $5
    """,
)

# Until the transaction is over nobody ends the lease.
_HOLD = session.Statement(
    name="call_hold",
    types="text, text, text, bigint",
    sql="""
    SELECT r.id::text AS id, r.status, r.head::text AS head, '{}' AS variables, r.reason, r.message,
        r.ended_step, r.started_at, r.scopes, t.governance, clock_timestamp() AS now,
        EXISTS (SELECT FROM chosen_call k WHERE k.tenant_id = r.tenant_id AND k.run_id = r.id
            AND k.until IS NULL) AS chosen
    FROM step s JOIN run r ON r.tenant_id = s.tenant_id AND r.id = s.run_id
    JOIN tenant t ON t.id = s.tenant_id
    WHERE s.tenant_id = $1 AND s.run_id = $2::uuid AND s.key = $3 AND s.status = 'leased'
        AND s.begun AND s.fence = $4
    FOR SHARE OF s
    """,
)

# Only under a lease that holds: a worker that was cut off starts nothing any more.
_START = session.Statement(
    name="call_start",
    types="text, text, text, bigint, int, text, int, text, text, text, timestamptz",
    sql="""
    INSERT INTO call (tenant_id, run_id, step, ordinal, attempt, tool, version, effect, digest,
        arguments, served)
    SELECT s.tenant_id, s.run_id, s.key, $5, s.attempt, $6, $7, $8, $9, $10::json, $11
    FROM step s WHERE s.tenant_id = $1 AND s.run_id = $2::uuid AND s.key = $3
        AND s.status = 'leased' AND s.begun AND s.fence = $4
    RETURNING attempt
    """,
)

_END = session.Statement(
    name="call_end",
    types="text, text, text, int, int, text, text, text, text",
    sql="""
    INSERT INTO call_result (tenant_id, run_id, step, ordinal, attempt, reason, message, value,
        usage)
    VALUES ($1, $2::uuid, $3, $4, $5, $6, $7, $8::json, $9::json)
    ON CONFLICT DO NOTHING
    """,
)

_PIN = session.Statement(
    name="pin",
    types="text, text, text, text",
    sql="""
    INSERT INTO pin (tenant_id, run_id, namespace, name, version)
    SELECT $1, $2::uuid, $3, $4, max(version) FROM function
    WHERE tenant_id = $1 AND namespace = $3 AND name = $4 HAVING max(version) IS NOT NULL
    ON CONFLICT DO NOTHING
    """,
)

_PINNED = session.Statement(
    name="pinned",
    types="text, text, text, text",
    sql="""
    SELECT version FROM pin
    WHERE tenant_id = $1 AND run_id = $2::uuid AND namespace = $3 AND name = $4
    """,
)


# The newest attempt that had made a call by then is the one that counts. What may be made again, and
# had not ended, is.
_KEPT = """
    made AS MATERIALIZED (
        SELECT DISTINCT ON (c.step, c.ordinal) c.*, x.attempt IS NOT NULL AS ended, x.reason, x.message,
            x.value, x.ended_at
        FROM call c LEFT JOIN call_result x ON x.tenant_id = c.tenant_id AND x.run_id = c.run_id
            AND x.step = c.step AND x.ordinal = c.ordinal AND x.attempt = c.attempt
            AND x.ended_at <= $4
        WHERE c.tenant_id = $1 AND c.run_id = $2::uuid AND c.step = ANY($3) AND c.started_at <= $4
        ORDER BY c.step, c.ordinal, c.attempt DESC),
    kept AS (SELECT * FROM made WHERE ended OR effect NOT IN ('pure', 'idempotent'))
"""
_CARRIED = session.Statement(
    name="call_carried",
    types="text, text, text[], timestamptz",
    sql=f"WITH {_KEPT} SELECT DISTINCT step FROM kept ORDER BY step",  # noqa: S608  # our own
)

# Nothing was used for them here.
_CARRY = session.Statement(
    name="call_carry",
    types="text, text, text[], timestamptz, text, text[], text, text",
    sql=f"""
    WITH {_KEPT},
    named AS (SELECT * FROM unnest($3, $6) AS n (step, name)),
    began AS (
        INSERT INTO attempt (tenant_id, run_id, step, attempt, fence, worker)
        SELECT $1, $5::uuid, name, 1, 0, $8 FROM named),
    lost AS (
        INSERT INTO result (tenant_id, run_id, step, attempt, fence, outcome, reason, message)
        SELECT $1, $5::uuid, name, 1, 0, 'lost', $7, $8 FROM named),
    calls AS (
        INSERT INTO call (tenant_id, run_id, step, ordinal, attempt, tool, version, effect, digest,
            arguments, started_at, served)
        SELECT $1, $5::uuid, n.name, ordinal, 1, tool, version, effect, digest, arguments, started_at, served
        FROM kept JOIN named n USING (step)),
    results AS (
        INSERT INTO call_result (tenant_id, run_id, step, ordinal, attempt, reason, message, value,
            ended_at)
        SELECT $1, $5::uuid, n.name, ordinal, 1, reason, message, value, ended_at
        FROM kept JOIN named n USING (step) WHERE ended)
    SELECT step, ordinal, tool, effect, ended, arguments, value FROM kept ORDER BY step, ordinal
    """,  # noqa: S608  # our own constants
)


# Of a call `c` that ended as `x`: what has become of it, or of undoing it; `$5` are the reasons of what was never made.
_HAPPENED = f"""
    coalesce(nullif({undone.fate("c", NEVER_MADE)}, 'stands'), CASE WHEN x.attempt IS NULL THEN 'unknown'
        WHEN x.reason IS NULL THEN 'yes' WHEN x.reason = ANY($5) THEN 'no' ELSE 'unknown' END)
"""

# What `carry` would do, and all that comes after it: of that nothing may be lost, whoever made it.
_FATES = session.Statement(
    name="call_fates",
    types="text, text, text[], timestamptz, text[]",
    sql=f"""
    SELECT DISTINCT ON (c.started_at, c.step, c.ordinal) c.run_id::text AS run, c.step, c.ordinal, c.tool, c.version, c.effect,
        c.started_at > $4 AS later, x.attempt IS NOT NULL AS ended,
        {_HAPPENED} AS happened,
        {undone.by("c")} AS undone_by
    FROM call c LEFT JOIN call_result x ON x.tenant_id = c.tenant_id AND x.run_id = c.run_id
        AND x.step = c.step AND x.ordinal = c.ordinal AND x.attempt = c.attempt
        AND (x.ended_at <= $4 OR c.started_at > $4)
    WHERE c.tenant_id = $1 AND c.run_id = $2::uuid AND (c.step = ANY($3) OR c.started_at > $4)
        AND (c.started_at <= $4 OR {REAL})
        AND NOT EXISTS (SELECT FROM call l WHERE l.tenant_id = c.tenant_id AND l.run_id = c.run_id
            AND l.step = c.step AND l.ordinal = c.ordinal AND l.attempt > c.attempt)
    ORDER BY c.started_at, c.step, c.ordinal
    """,  # noqa: S608  # our own constants
)


_WITHIN = session.Statement(
    name="call_within",
    types="text, text, text[], timestamptz, text[], text[], boolean",
    sql=f"""
    WITH RECURSIVE anew AS (
        SELECT r.id FROM run r WHERE r.tenant_id = $1 AND r.parent_run = $2::uuid
            AND (r.created_at > $4 OR r.parent_step = ANY($3)) AND r.id::text <> ALL($6)
        UNION
        SELECT o.id FROM anew a CROSS JOIN LATERAL (
            SELECT r.id FROM run r WHERE r.tenant_id = $1 AND r.parent_run = a.id
            UNION ALL
            SELECT f.forked_run FROM run f WHERE $7 AND f.tenant_id = $1 AND f.id = a.id
                AND f.forked_run IS NOT NULL) o)
    SELECT DISTINCT ON (c.started_at, c.run_id, c.step, c.ordinal) c.run_id::text AS run, c.step, c.ordinal,
        c.tool, c.version, c.effect, true AS later, x.attempt IS NOT NULL AS ended,
        {_HAPPENED} AS happened,
        {undone.by("c")} AS undone_by
    FROM anew a JOIN call c ON c.tenant_id = $1 AND c.run_id = a.id
    LEFT JOIN call_result x ON x.tenant_id = c.tenant_id AND x.run_id = c.run_id
        AND x.step = c.step AND x.ordinal = c.ordinal AND x.attempt = c.attempt
    WHERE {REAL} AND NOT EXISTS (SELECT FROM call l WHERE l.tenant_id = c.tenant_id AND l.run_id = c.run_id
        AND l.step = c.step AND l.ordinal = c.ordinal AND l.attempt > c.attempt)
    ORDER BY c.started_at, c.run_id, c.step, c.ordinal
    """,  # noqa: S608  # our own constants
)

_OF_TREE = session.Statement(
    name="call_of_tree",
    types="text, text, text[], text[], text[], int[]",
    sql=f"""
    SELECT c.run_id::text AS run, c.step, c.ordinal, c.tool, c.version, c.effect, c.digest,
        coalesce(c.served, c.started_at) AS made_at,
        CASE WHEN NOT ({REAL}) THEN 'served' WHEN x.attempt IS NULL THEN 'unknown' WHEN x.reason IS NULL THEN 'yes'
            WHEN x.reason = ANY($3) THEN 'no' ELSE 'unknown' END AS happened,
        x.reason, {undone.fate("c", NEVER_MADE)} AS undone,
        {undone.by("c")} AS by
    FROM run t JOIN call c ON c.tenant_id = t.tenant_id AND c.run_id = t.id
    LEFT JOIN call_result x ON x.tenant_id = c.tenant_id AND x.run_id = c.run_id
        AND x.step = c.step AND x.ordinal = c.ordinal AND x.attempt = c.attempt
    WHERE t.tenant_id = $1 AND (t.id = $2::uuid OR (t.root = $2::uuid AND t.root <> t.id))
        AND NOT EXISTS (SELECT FROM call l WHERE l.tenant_id = c.tenant_id AND l.run_id = c.run_id
            AND l.step = c.step AND l.ordinal = c.ordinal AND l.attempt > c.attempt)
        AND (c.effect NOT IN ('pure', 'idempotent') OR EXISTS (SELECT FROM unnest($4, $5, $6) AS n (run, step, ordinal)
            WHERE n.run = c.run_id::text AND n.step = c.step AND n.ordinal = c.ordinal))
    ORDER BY c.started_at, c.run_id, c.step, c.ordinal
    """,  # noqa: S608  # our own constants
)

_MADE = session.Statement(
    name="call_made",
    types="text, text[], text[], int[]",
    sql="""
    SELECT c.run_id::text AS run, c.step, c.ordinal, c.arguments::text AS arguments, x.value::text AS value
    FROM unnest($2, $3, $4) AS n (run, step, ordinal)
    JOIN call c ON c.tenant_id = $1 AND c.run_id = n.run::uuid AND c.step = n.step AND c.ordinal = n.ordinal
    JOIN call_result x ON x.tenant_id = c.tenant_id AND x.run_id = c.run_id AND x.step = c.step
        AND x.ordinal = c.ordinal AND x.attempt = c.attempt AND x.reason IS NULL
    """,
)

_STEPS_SINCE = session.Statement(
    name="call_steps_since",
    types="text, text, timestamptz",
    sql="""
    SELECT DISTINCT step FROM call WHERE tenant_id = $1 AND run_id = $2::uuid AND started_at > $3 ORDER BY step
    """,
)

_ORIGINAL = session.Statement(
    name="call_original",
    types="text, text, text, timestamptz",
    sql=f"""
    WITH RECURSIVE line (id) AS (
        SELECT $2::uuid
        UNION
        SELECT r.forked_run FROM line l JOIN run r ON r.tenant_id = $1 AND r.id = l.id
        WHERE r.forked_run IS NOT NULL)
    SELECT c.run_id::text AS run, c.step, c.ordinal FROM line l
    JOIN call c ON c.tenant_id = $1 AND c.run_id = l.id AND c.digest = $3 AND c.started_at = $4
    WHERE {REAL} LIMIT 1
    """,  # noqa: S608  # our own constants
)


def steps_since(connection: Connection, run: RunId, at: datetime) -> Sequence[str]:
    """The steps of a run that have begun calls after a time."""
    return [row.step for row in session.run(connection, _STEPS_SINCE, run.tenant, run.run, at)]


def known(connection: Connection, step: StepId, ordinal: int) -> Sequence[Row[Any]]:
    """What earlier attempts did at an ordinal, oldest first."""
    return session.run(connection, _KNOWN, *step, ordinal)


def hold(connection: Connection, held: Held) -> Row[Any] | None:
    """Keep a lease from ending; its run at this moment, as `runs.glance`. None when it has ended."""
    return next(iter(session.run(connection, _HOLD, *held.step, held.fence)), None)


def repeats(connection: Connection, step: StepId, ordinal: int, digest: str) -> int:
    """How often the run has made this very call elsewhere."""
    row = session.run(connection, _REPEATS, *step, ordinal, digest)[0]
    made: int = row.made
    return made


def start(
    connection: Connection,
    held: Held,
    ordinal: int,
    *,
    tool: str,
    version: int,
    effect: str,
    digest: str,
    arguments: str,
    served: datetime | None = None,
) -> bool:
    """Record that a call begins; False when the lease no longer holds.

    `served`: it is not made, and another one, which began then, stands for it.
    """
    rows = session.run(
        connection,
        _START,
        *held.step,
        held.fence,
        ordinal,
        tool,
        version,
        effect,
        digest,
        arguments,
        served,
    )
    return bool(rows)


def end(
    connection: Connection,
    step: StepId,
    ordinal: int,
    attempt: int,
    *,
    reason: str | None,
    message: str | None,
    value: str | None,
    usage: str,
) -> None:
    """Record how a call ended; `reason` None means that it succeeded. Safe to repeat."""
    session.run(connection, _END, *step, ordinal, attempt, reason, message, value, usage)


def carried(
    connection: Connection, run: RunId, steps: Sequence[str], until: datetime
) -> Sequence[str]:
    """Those of the steps of a run that had made calls by a time of which something is known."""
    rows = session.run(connection, _CARRIED, run.tenant, run.run, list(steps), until)
    return [row.step for row in rows]


def carry(
    connection: Connection,
    run: RunId,
    to: RunId,
    names: Mapping[str, str],
    until: datetime,
    *,
    reason: str,
    message: str,
) -> Sequence[Row[Any]]:
    """Let steps know of the calls that others had made by a time, by the names of those.

    They are those of a first attempt of each, which nobody has made: it is lost for that reason.
    """
    return session.run(
        connection,
        _CARRY,
        *(run.tenant, run.run, list(names), until),
        *(to.run, list(names.values()), reason, message),
    )


def fates(
    connection: Connection, run: RunId, steps: Sequence[str], until: datetime
) -> Sequence[Row[Any]]:
    """The calls of a run that matter to whoever goes on from a time, when steps were live.

    Of those that began by then what was known by then, of later ones what is known now.
    """
    never = sorted(NEVER_MADE)
    return session.run(connection, _FATES, run.tenant, run.run, list(steps), until, never)


def within(
    connection: Connection,
    run: RunId,
    steps: Sequence[str],
    after: datetime,
    *,
    besides: Sequence[str],
    whole: bool,
) -> Sequence[Row[Any]]:
    """The calls of the runs within one that are started anew where it is gone on from a time.

    Those are the runs that its steps, or those of such runs, started since, or had started that were live then,
    `besides` some that are gone on from themselves. `whole`: such a run begins at its beginning, also where it had
    gone on from another one: what that one did it does again.
    """
    never = sorted(NEVER_MADE)
    return session.run(
        connection, _WITHIN, run.tenant, run.run, list(steps), after, never, list(besides), whole
    )


def of_tree(
    connection: Connection, root: RunId, named: Sequence[tuple[str, str, int]] = ()
) -> Sequence[Row[Any]]:
    """The calls of a run, and of all within it, that may not be repeated, and others that are named.

    Each as it was made last: `happened` is `served` where another call was, and it was given its result. `made_at`:
    when that one began, or itself.
    """
    return session.run(
        connection,
        _OF_TREE,
        *(root.tenant, root.run, sorted(NEVER_MADE)),
        [run for run, _, _ in named],
        [step for _, step, _ in named],
        [ordinal for _, _, ordinal in named],
    )


def made(
    connection: Connection, tenant: str, named: Sequence[tuple[str, str, int]]
) -> Sequence[Row[Any]]:
    """Calls that have given a result, by run, step and ordinal: arguments and result as they are kept."""
    return session.run(
        connection,
        _MADE,
        tenant,
        [run for run, _, _ in named],
        [step for _, step, _ in named],
        [ordinal for _, _, ordinal in named],
    )


def original(connection: Connection, tenant: str, call: Row[Any]) -> Row[Any] | None:
    """The call that was really made where another one was served its result: run, step, ordinal."""
    rows = session.run(connection, _ORIGINAL, tenant, call.run, call.digest, call.made_at)
    return next(iter(rows), None)


def pin(connection: Connection, step: StepId, namespace: str, name: str) -> int | None:
    """The version that a run uses of a name: the newest at the first use, the same ever after."""
    name_of_run = (step.tenant, step.run, namespace, name)
    if not (rows := session.run(connection, _PINNED, *name_of_run)):
        session.run(connection, _PIN, *name_of_run)
        rows = session.run(connection, _PINNED, *name_of_run)
    return rows[0].version if rows else None
