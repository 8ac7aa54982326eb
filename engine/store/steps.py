"""The live steps of every run: small, mutable, gone when settled.

The row is also the outbox: a message to a worker is a hint that a row is `ready`, and every
row that waits says in `wake_at` when somebody must look at it again. Ownership is a lease:
a guarded UPDATE raises the fence and names a worker and an end; whoever holds an older fence
can write nothing any more. All times are the database's.

A ready step is in a lane of its queue (`engine.lanes`), which is chosen where it is written. It goes where
others of its tenant are, else where the fewest are; beyond `FULL` of them no message is sent for it yet,
and its wake is now.

Several rows are always locked in the order of their key, so that no two statements wait for
each other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from engine import lanes
from engine.store import session
from engine.store.ids import RunId, StepId


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """What a turn writes of a step. `wake` None means: ready now, send a message."""

    step: StepId
    node: str
    iteration: int
    status: str
    attempt: int
    errors: int
    lost: int
    queue: str | None
    parents: str
    thread: str
    visits: str
    wake: datetime | None
    #: The kind of its wait, while it waits.
    wait: str | None = None
    #: The map or step that it belongs to, and its place there.
    of: str | None = None
    item: int | None = None
    #: The locks that its thread holds.
    holds: str = "[]"
    #: The lock that it was deferred for.
    awaits: str | None = None
    #: What people are asked to allow, and what they have allowed.
    asked: str = "[]"
    permits: str = "[]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """Ready steps that a worker takes where they are written, their attempts begun at once."""

    steps: Collection[StepId]
    worker: str
    #: How long its leases last, in seconds.
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """All that carrying a step out needs, as `take` finds it. Texts are JSON."""

    tenant_id: str
    run_id: str
    key: str
    node: str
    iteration: int
    attempt: int
    fence: int
    version_id: str
    variables: str
    thread: str
    visits: str
    pins: str
    of: str | None
    item: int | None
    submitted_by: str
    root: str
    permits: str
    #: What is set aside for the attempt.
    reserved: str | None
    #: Of its run, where its thread is not the one that this began with.
    head: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What became of steps that were written."""

    #: The lanes of those to send messages for.
    lanes: Mapping[StepId, int] = field(default_factory=dict)
    #: Those that were taken, with all that carrying them out needs.
    taken: Sequence[Row[Any] | Needed] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A lease: the step and the fence that proves it."""

    step: StepId
    fence: int


#: The fence of a step that is taken where it is new.
FIRST_FENCE = 1
#: The thread that a run begins with, as it is written.
ROOT_THREAD = "[]"

_COLUMNS = "tenant, run, key"
_SAME = "s.tenant_id = w.tenant AND s.run_id = w.run::uuid AND s.key = w.key"

#: What a turn reads of a step.
LOADED = """
    s.tenant_id, s.run_id::text AS run_id, s.key, s.node, s.iteration, s.status, s.attempt,
        s.errors, s.lost, s.queue, s.parents::text AS parents, s.thread::text AS thread, s.visits::text AS visits, s.wake_at,
        s.wait, s."of", s.item, s.holds::text AS holds, s.awaits, s.asked::text AS asked, s.permits::text AS permits
"""
_LOAD = session.Statement(
    name="step_load",
    types="text[], text[], text[]",
    sql=f"""
    SELECT {LOADED}
    FROM step s JOIN unnest($1, $2, $3) AS w ({_COLUMNS}) ON {_SAME}
    """,  # noqa: S608  # our own constants, here and below
)
_LOAD_ALL = session.Statement(
    name="step_load_all",
    types="text, text",
    sql=f"""
    SELECT {LOADED}
    FROM step s WHERE s.tenant_id = $1 AND s.run_id = $2::uuid ORDER BY s.key
    """,  # noqa: S608
)

#: All that carrying a step out needs.
_NEEDED = f"""
    s.tenant_id, s.run_id::text AS run_id, s.key, s.node, s.iteration, s.attempt,
        s.fence, r.version_id::text AS version_id, r.variables::text AS variables,
        s.thread::text AS thread, s.visits::text AS visits, r.pins::text AS pins, s."of", s.item,
        r.submitted_by, r.root::text AS root, s.permits::text AS permits,
        (SELECT v.amounts::text FROM reservation v WHERE v.tenant_id = s.tenant_id
            AND v.run_id = s.run_id AND v.step = s.key AND v.attempt = s.attempt
            AND v.ordinal = 0) AS reserved,
        CASE WHEN s.thread::text <> '{ROOT_THREAD}' THEN r.head::text END AS head
"""  # noqa: S608  # our own constants


def _save(name: str, lined: str, said: str) -> session.Statement:
    """What writes steps, `lined` up or not, and what is `said` of them."""
    return session.Statement(
        name=name,
        types=(
            "text[], text[], text[], text[], int[], text[], int[], int[], int[], text[], text[], "
            "text[], text[], timestamptz[], text[], text[], int[], text[], text[], float8, text[], text[], "
            "boolean[], text, float8"
        ),
        sql=f"""
    WITH n AS MATERIALIZED (
        SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
            $17, $18, $19, $21, $22, $23) AS n (tenant, run, key, node, iteration, status, attempt,
            errors, lost, queue, parents, thread, visits, wake, wait, part_of, item, holds, awaits,
            asked, permits, taken)),
    {lined},
    saved AS (INSERT INTO step AS s (tenant_id, run_id, key, node, iteration, status, attempt, errors, lost,
        queue, parents, thread, visits, wake_at, wait, "of", item, holds, awaits, asked, permits, lane,
        fence, worker, lease_until, begun)
    SELECT tenant, run::uuid, key, node, iteration, CASE WHEN taken THEN 'leased' ELSE status END,
        attempt, errors, lost, queue, parents::json, thread::json, visits::json,
        CASE WHEN taken THEN NULL WHEN status = 'waiting' THEN wake
            WHEN wake IS NULL AND place > {lanes.FULL} THEN clock_timestamp()
            ELSE coalesce(wake, clock_timestamp() + make_interval(secs => $20)) END,
        wait, part_of, item, holds::json, awaits, asked::json, permits::json, lane,
        taken::int, CASE WHEN taken THEN $24 END,
        CASE WHEN taken THEN clock_timestamp() + make_interval(secs => $25) END, taken
    FROM lined
    ORDER BY tenant, run, key
    ON CONFLICT (tenant_id, run_id, key) DO UPDATE SET status = excluded.status,
        attempt = excluded.attempt, errors = excluded.errors, lost = excluded.lost,
        wake_at = excluded.wake_at, sends = 0, wait = excluded.wait, item = excluded.item,
        holds = excluded.holds, awaits = excluded.awaits, asked = excluded.asked,
        permits = excluded.permits, lane = excluded.lane, fence = s.fence + excluded.fence,
        worker = excluded.worker, lease_until = excluded.lease_until, begun = excluded.begun,
        used = CASE WHEN excluded.begun THEN NULL ELSE s.used END
    WHERE s.status IN ('deferred', 'reported', 'retrying', 'waiting')
    RETURNING s.*),
    begun AS (
        INSERT INTO attempt (tenant_id, run_id, step, attempt, fence, worker)
        SELECT tenant_id, run_id, key, attempt, fence, worker FROM saved WHERE begun)
    {said}
    """,  # noqa: S608  # our own constants
    )


_SAID = f"""
    SELECT c.written, s.begun, s.status = 'ready' AND s.wake_at > clock_timestamp() AS sent, s.lane,
        {_NEEDED}
    FROM (SELECT all_written(count(*), cardinality($1), 'steps') AS written FROM saved) c
    LEFT JOIN saved s ON true
    LEFT JOIN run r ON s.begun AND r.tenant_id = s.tenant_id AND r.id = s.run_id
    """  # noqa: S608


#: Each in its place in a lane. OFFSET 0: so that a lane is counted once.
_SAVE_LINED = _save(
    "step_save_lined",
    f"""
    placed AS MATERIALIZED (
        SELECT DISTINCT ON (p.tenant, p.line) p.tenant, p.line, l.lane, l.crowd
        FROM (SELECT DISTINCT tenant, coalesce(queue, '') AS line FROM n
            WHERE status = 'ready' AND NOT taken) p
        CROSS JOIN LATERAL (
            SELECT lane, (SELECT count(*) FROM (SELECT FROM step o WHERE o.status = 'ready'
                AND coalesce(o.queue, '') = p.line AND o.lane = l.lane LIMIT {lanes.FULL}) c) AS crowd
            FROM generate_series(0, {lanes.LANES - 1}) AS l (lane) OFFSET 0) l
        ORDER BY p.tenant, p.line, l.crowd = 0 OR NOT EXISTS (SELECT FROM step o
                WHERE o.status = 'ready' AND coalesce(o.queue, '') = p.line AND o.lane = l.lane
                AND o.tenant_id = p.tenant), l.crowd, l.lane),
    lined AS (
        SELECT n.*, coalesce(p.lane, 0) AS lane, p.crowd + row_number() OVER (
            PARTITION BY n.tenant, p.line ORDER BY n.run, n.key) AS place
        FROM n LEFT JOIN placed p
            ON p.tenant = n.tenant AND p.line = coalesce(n.queue, '') AND n.status = 'ready'
            AND NOT n.taken)
    """,  # noqa: S608
    _SAID,
)
_UNLINED = "lined AS (SELECT n.*, 0 AS lane, 0 AS place FROM n)"
#: Where none goes into a lane: a worker takes what is ready at once.
_SAVE = _save("step_save", _UNLINED, _SAID)
#: Where nothing is to be said of them, either: what is taken is new, so that its fence is known.
_SAVE_UNTOLD = _save(
    "step_save_untold",
    _UNLINED,
    f"""
    SELECT all_written(
        count(*) FILTER (WHERE NOT begun OR fence = {FIRST_FENCE}), cardinality($1), 'steps')
    FROM saved
    """,  # noqa: S608
)

#: Steps that are named, each looked for by its key: a plan is used for long, and one that was made while
#: there were few steps would go through all there are, for each that is named.
NAMED = """
    SELECT s.tenant_id, s.run_id, s.key
    FROM (SELECT * FROM {named} ORDER BY tenant, run::uuid, key) w
    CROSS JOIN LATERAL (
        SELECT s.tenant_id, s.run_id, s.key FROM step s
        WHERE s.tenant_id = w.tenant AND s.run_id = w.run::uuid AND s.key = w.key AND {which}) s
"""
_NAMED = f"unnest($1, $2, $3) AS w ({_COLUMNS})"
_DELETE = session.Statement(
    name="step_delete",
    types="text[], text[], text[]",
    sql=f"""
    WITH gone AS ({NAMED.format(named=_NAMED, which="true FOR UPDATE OF s")})
    DELETE FROM step s USING gone g
    WHERE s.tenant_id = g.tenant_id AND s.run_id = g.run_id AND s.key = g.key
    """,  # noqa: S608
)
_CLEAR = session.Statement(
    name="step_clear",
    types="text[], text[]",
    sql="""
    WITH gone AS (
        SELECT s.tenant_id, s.run_id, s.key FROM step s
        JOIN unnest($1, $2) AS w (tenant, run) ON s.tenant_id = w.tenant AND s.run_id = w.run::uuid
        ORDER BY 1, 2, 3 FOR UPDATE OF s)
    DELETE FROM step s USING gone g
    WHERE s.tenant_id = g.tenant_id AND s.run_id = g.run_id AND s.key = g.key
    """,
)

_CLEAR_SCOPES = session.Statement(
    name="step_clear_scopes",
    types="text[], text[], text[]",
    sql="""
    DELETE FROM step s USING unnest($1, $2, $3) AS w (tenant, run, scope)
    WHERE s.tenant_id = w.tenant AND s.run_id = w.run::uuid
        AND s.thread::jsonb @> jsonb_build_array(jsonb_build_array(w.scope))
    """,
)

_CLEAR_ITEMS = session.Statement(
    name="step_clear_items",
    types="text[], text[], text[]",
    sql="""
    WITH gone AS (
        SELECT s.tenant_id, s.run_id, s.key FROM step s
        JOIN unnest($1, $2, $3) AS w (tenant, run, key)
            ON s.tenant_id = w.tenant AND s.run_id = w.run::uuid AND s."of" = w.key
        ORDER BY 1, 2, 3 FOR UPDATE OF s)
    DELETE FROM step s USING gone g
    WHERE s.tenant_id = g.tenant_id AND s.run_id = g.run_id AND s.key = g.key
    """,
)

_CLEAR_NODES = session.Statement(
    name="step_clear_nodes",
    types="text[], text[], text[]",
    sql="""
    WITH gone AS (
        SELECT s.tenant_id, s.run_id, s.key FROM step s
        JOIN unnest($1, $2, $3) AS w (tenant, run, node)
            ON s.tenant_id = w.tenant AND s.run_id = w.run::uuid AND s.node = w.node
        ORDER BY 1, 2, 3 FOR UPDATE OF s)
    DELETE FROM step s USING gone g
    WHERE s.tenant_id = g.tenant_id AND s.run_id = g.run_id AND s.key = g.key
    """,
)

_HOLD = session.Statement(
    name="step_hold",
    types="text[], text[]",
    sql="""
    UPDATE step s SET status = 'held', wake_at = NULL
    FROM unnest($1, $2) AS w (tenant, run)
    WHERE s.tenant_id = w.tenant AND s.run_id = w.run::uuid AND s.status = 'ready'
    """,
)
_RELEASE = session.Statement(
    name="step_release",
    types="text[], text[], float8",
    sql="""
    UPDATE step s SET status = 'ready', sends = 0,
        wake_at = clock_timestamp() + make_interval(secs => $3)
    FROM unnest($1, $2) AS w (tenant, run)
    WHERE s.tenant_id = w.tenant AND s.run_id = w.run::uuid AND s.status = 'held'
    RETURNING s.tenant_id, s.run_id::text AS run_id, s.key, s.queue, s.lane
    """,
)

# A step may have become ready beside a pause that was being committed: it waits with its run. Not by the
# index of what is ready.
_FREE = NAMED.format(
    named=_NAMED,
    which="s.status || '' = 'ready' FOR UPDATE OF s SKIP LOCKED",
)
_OWN = """
    status = 'leased', fence = s.fence + 1, worker = $4, wake_at = NULL, used = NULL,
    lease_until = clock_timestamp() + make_interval(secs => $5)
"""
# The run by what is free, in words that are not the step's: the planner would look for the step by the
# run's key otherwise, and go through all the steps of that.
_FREE_ONES = """
    s.tenant_id = f.tenant_id AND s.run_id = f.run_id AND s.key = f.key
        AND r.tenant_id = f.tenant_id || '' AND r.id = f.run_id::text::uuid AND r.status <> 'paused'
"""
_LEASE = session.Statement(
    name="step_lease",
    types="text[], text[], text[], text, float8",
    sql=f"""
    WITH free AS ({_FREE})
    UPDATE step s SET {_OWN} FROM free f, run r WHERE {_FREE_ONES} RETURNING {_NEEDED}
    """,  # noqa: S608
)
# The same, and the attempt begun, in one round trip.
_TAKE = session.Statement(
    name="step_take",
    types="text[], text[], text[], text, float8",
    sql=f"""
    WITH free AS ({_FREE}),
    taken AS (
        UPDATE step s SET {_OWN}, begun = true FROM free f, run r WHERE {_FREE_ONES}
        RETURNING {_NEEDED}),
    begun AS (
        INSERT INTO attempt (tenant_id, run_id, step, attempt, fence, worker)
        SELECT tenant_id, run_id::uuid, key, attempt, fence, $4 FROM taken)
    SELECT * FROM taken
    """,  # noqa: S608
)

_UNBEGUN = NAMED.format(
    named=f"unnest($1, $2, $3, $4) AS w ({_COLUMNS}, fence)",
    which="s.status = 'leased' AND s.fence = w.fence AND NOT s.begun FOR UPDATE OF s",
)
_BEGIN = session.Statement(
    name="step_begin",
    types="text[], text[], text[], bigint[]",
    sql=f"""
    WITH mine AS ({_UNBEGUN}),
    begun AS (
        UPDATE step s SET begun = true FROM mine m
        WHERE s.tenant_id = m.tenant_id AND s.run_id = m.run_id AND s.key = m.key
        RETURNING s.tenant_id, s.run_id, s.key, s.attempt, s.fence, s.worker)
    INSERT INTO attempt (tenant_id, run_id, step, attempt, fence, worker)
    SELECT tenant_id, run_id, key, attempt, fence, worker FROM begun
    RETURNING tenant_id, run_id::text, step
    """,  # noqa: S608
)

_OWNED = session.Statement(
    name="step_owned",
    types="text[], text[], text[], text",
    sql=f"""
    SELECT s.tenant_id, s.run_id::text AS run_id, s.key, s.attempt, s.fence, s.begun,
        (SELECT true FROM reservation v WHERE v.tenant_id = s.tenant_id AND v.run_id = s.run_id
            AND v.step = s.key AND v.attempt = s.attempt AND v.ordinal = 0) AS reserved
    FROM step s JOIN unnest($1, $2, $3) AS w ({_COLUMNS}) ON {_SAME}
    WHERE s.status = 'leased' AND s.worker = $4
    """,  # noqa: S608
)

_BEAT = session.Statement(
    name="step_beat",
    types="text[], text[], text[], bigint[], float8, text[]",
    sql=f"""
    WITH mine AS (
        SELECT s.tenant_id, s.run_id, s.key, w.used FROM step s
        JOIN unnest($1, $2, $3, $4, $6) AS w ({_COLUMNS}, fence, used) ON {_SAME}
        WHERE s.status = 'leased' AND s.fence = w.fence ORDER BY 1, 2, 3 FOR UPDATE OF s)
    UPDATE step s SET lease_until = clock_timestamp() + make_interval(secs => $5),
        used = m.used::json
    FROM mine m WHERE s.tenant_id = m.tenant_id AND s.run_id = m.run_id AND s.key = m.key
    RETURNING s.tenant_id, s.run_id::text, s.key, s.fence
    """,  # noqa: S608
)

_HELD = session.Statement(
    name="step_held",
    types="text[], text[], text[], bigint[]",
    sql=f"""
    SELECT s.tenant_id, s.run_id::text, s.key, s.fence FROM step s
    JOIN unnest($1, $2, $3, $4) AS w ({_COLUMNS}, fence) ON {_SAME}
    WHERE s.status = 'leased' AND s.fence = w.fence
    """,  # noqa: S608
)

_GIVE_BACK = session.Statement(
    name="step_give_back",
    types="text[], text[], text[], bigint[]",
    sql=f"""
    UPDATE step s SET fence = s.fence + 1, worker = NULL, lease_until = NULL,
        status = CASE WHEN r.status = 'paused' THEN 'held' ELSE 'ready' END,
        wake_at = CASE WHEN r.status = 'paused' THEN NULL ELSE clock_timestamp() END
    FROM unnest($1, $2, $3, $4) AS w ({_COLUMNS}, fence), run r
    WHERE {_SAME} AND s.status = 'leased' AND s.fence = w.fence AND NOT s.begun
        AND r.tenant_id = s.tenant_id AND r.id = s.run_id
    RETURNING s.key
    """,  # noqa: S608
)

_UNDERWAY = session.Statement(
    name="step_underway",
    types="text[], text[]",
    sql="""
    SELECT s.tenant_id, s.run_id::text AS run_id, s.key, s.attempt, s.used::text AS used
    FROM step s JOIN unnest($1, $2) AS w (tenant, run)
        ON s.tenant_id = w.tenant AND s.run_id = w.run::uuid
    WHERE s.status = 'leased' AND s.begun
    """,
)

_EXPIRING = session.Statement(
    name="step_expiring",
    types="int",
    sql="""
    SELECT DISTINCT tenant_id, run_id::text FROM (
        SELECT tenant_id, run_id FROM step WHERE lease_until < clock_timestamp()
        ORDER BY lease_until LIMIT $1) late
    """,
)

# A leased step whose attempt never began is simply ready again; a begun one is lost.
_EXPIRE = session.Statement(
    name="step_expire",
    types="int",
    sql="""
    WITH gone AS (
        SELECT tenant_id, run_id, key, worker, begun FROM step
        WHERE lease_until < clock_timestamp()
        ORDER BY lease_until LIMIT $1 FOR UPDATE SKIP LOCKED)
    UPDATE step s SET fence = s.fence + 1, worker = NULL, lease_until = NULL, begun = false,
        status = CASE WHEN g.begun THEN 'reported' WHEN r.status = 'paused' THEN 'held'
            ELSE 'ready' END,
        wake_at = CASE WHEN g.begun OR r.status = 'paused' THEN NULL
            ELSE clock_timestamp() END
    FROM gone g, run r WHERE r.tenant_id = g.tenant_id AND r.id = g.run_id AND s.tenant_id = g.tenant_id AND s.run_id = g.run_id AND s.key = g.key
    RETURNING s.tenant_id, s.run_id::text AS run_id, s.key, s.attempt, s.fence - 1 AS fence,
        g.worker, g.begun, s.used::text AS used
    """,
)

# By hand: whoever holds it loses it. A begun attempt ends with it; what is ready is sent again.
_TAKE_AWAY = session.Statement(
    name="step_take_away",
    types="text, text, text",
    sql="""
    WITH found AS (
        SELECT s.tenant_id, s.run_id, s.key, s.status, s.worker, s.begun, r.status AS run_status
        FROM step s JOIN run r ON r.tenant_id = s.tenant_id AND r.id = s.run_id
        WHERE s.tenant_id = $1 AND s.run_id = $2::uuid AND s.key = $3 FOR UPDATE OF s)
    UPDATE step s SET
        fence = s.fence + (f.status IN ('ready', 'held', 'leased'))::int,
        worker = NULL, lease_until = NULL, begun = false, sends = 0,
        status = CASE WHEN f.begun THEN 'reported'
            WHEN f.status = 'leased' AND f.run_status = 'paused' THEN 'held'
            WHEN f.status = 'leased' THEN 'ready' ELSE f.status END,
        wake_at = CASE WHEN f.begun THEN NULL
            WHEN f.status = 'leased' AND f.run_status = 'paused' THEN NULL
            WHEN f.status IN ('leased', 'ready') THEN clock_timestamp() ELSE s.wake_at END
    FROM found f
    WHERE s.tenant_id = f.tenant_id AND s.run_id = f.run_id AND s.key = f.key
    RETURNING f.status AS was, f.begun, f.worker, s.status, s.attempt, s.fence - 1 AS fence,
        s.used::text AS used
    """,
)

# Waking pushes wake_at on, so that a slow coordinator is not sent the same wake every second.
_WAKE = session.Statement(
    name="step_wake",
    types="int",
    sql="""
    WITH due AS (
        SELECT tenant_id, run_id, key FROM step
        WHERE wake_at <= clock_timestamp() AND status IN ('deferred', 'retrying')
        ORDER BY wake_at LIMIT $1 FOR UPDATE SKIP LOCKED)
    UPDATE step s SET wake_at = clock_timestamp() + interval '1 minute'
    FROM due d WHERE s.tenant_id = d.tenant_id AND s.run_id = d.run_id AND s.key = d.key
    RETURNING s.tenant_id, s.run_id::text AS run_id, s.key
    """,
)

_LINES = session.Statement(
    name="step_lines",
    types="",
    sql=f"""
    WITH RECURSIVE line AS (
        (SELECT coalesce(queue, '') AS queue, lane FROM step WHERE status = 'ready'
        ORDER BY coalesce(queue, ''), lane LIMIT 1)
        UNION ALL
        SELECT n.queue, n.lane FROM line l CROSS JOIN LATERAL (
            SELECT coalesce(s.queue, '') AS queue, s.lane FROM step s
            WHERE s.status = 'ready' AND (coalesce(s.queue, ''), s.lane) > (l.queue, l.lane)
            ORDER BY coalesce(s.queue, ''), s.lane LIMIT 1) n)
    SELECT l.queue, l.lane, (SELECT count(*) FROM (SELECT FROM step s WHERE s.status = 'ready'
        AND coalesce(s.queue, '') = l.queue AND s.lane = l.lane LIMIT {lanes.FULL}) c) AS ready
    FROM line l
    """,  # noqa: S608
)

# The longer a row has waited unanswered, the rarer its message is repeated, but for those that are
# known to be lost. Tenants take turns, each with what has waited for longest.
_SENT_LONG_AGO = """
    s.status = 'ready' AND s.wake_at - CASE WHEN w.lost THEN make_interval(
        secs => greatest(least($5 * 2 ^ least(greatest(s.sends, 1) - 1, 10), 60) - $5, 0))
        ELSE interval '0' END <= clock_timestamp()
"""
_OVERDUE = session.Statement(
    name="step_overdue",
    types="text[], int[], int[], boolean[], float8",
    sql=f"""
    WITH RECURSIVE whose AS (
        SELECT l.queue, l.lane, l.most, l.lost, (SELECT s.tenant_id FROM step s
            WHERE s.status = 'ready' AND coalesce(s.queue, '') = l.queue AND s.lane = l.lane
            ORDER BY s.tenant_id LIMIT 1) AS tenant
        FROM unnest($1, $2, $3, $4) AS l (queue, lane, most, lost)
        UNION ALL
        SELECT w.queue, w.lane, w.most, w.lost, (SELECT s.tenant_id FROM step s
            WHERE s.status = 'ready' AND coalesce(s.queue, '') = w.queue AND s.lane = w.lane
                AND s.tenant_id > w.tenant ORDER BY s.tenant_id LIMIT 1)
        FROM whose w WHERE w.tenant IS NOT NULL),
    late AS (
        SELECT w.lost, d.tenant_id, d.run_id, d.key, w.most, row_number() OVER (
            PARTITION BY w.queue, w.lane ORDER BY d.place, d.wake_at) AS place
        FROM whose w CROSS JOIN LATERAL (
            SELECT s.tenant_id, s.run_id, s.key, s.wake_at,
                row_number() OVER (ORDER BY s.wake_at) AS place
            FROM step s WHERE coalesce(s.queue, '') = w.queue AND s.lane = w.lane
                AND s.tenant_id = w.tenant AND {_SENT_LONG_AGO}
            ORDER BY s.wake_at LIMIT w.most) d
        WHERE w.tenant IS NOT NULL),
    due AS (
        SELECT s.tenant_id, s.run_id, s.key FROM late w CROSS JOIN LATERAL (
            SELECT * FROM step s WHERE s.tenant_id = w.tenant_id AND s.run_id = w.run_id
                AND s.key = w.key AND {_SENT_LONG_AGO} FOR UPDATE SKIP LOCKED) s
        WHERE w.place <= w.most)
    UPDATE step s SET sends = s.sends + 1,
        wake_at = clock_timestamp() + make_interval(secs => least($5 * 2 ^ least(s.sends, 10), 60))
    FROM due d, run r, workflow_version v
    WHERE s.tenant_id = d.tenant_id AND s.run_id = d.run_id AND s.key = d.key
        AND r.tenant_id = s.tenant_id AND r.id = s.run_id
        AND v.tenant_id = r.tenant_id AND v.id = r.version_id
    RETURNING s.tenant_id, s.run_id::text AS run_id, s.key, s.queue, s.lane, v.workflow
    """,  # noqa: S608
)

# The longest sent first: that is what should have been taken long ago.
_UNANSWERED = session.Statement(
    name="step_unanswered",
    types="text[], int",
    sql="""
    SELECT s.tenant_id, s.run_id::text AS run_id, s.key, s.fence, s.sends
    FROM step s JOIN run r ON r.tenant_id = s.tenant_id AND r.id = s.run_id
    WHERE s.status = 'ready' AND s.sends > 0 AND r.status <> 'paused' AND coalesce(s.queue, '') = ANY ($1)
    ORDER BY s.sends DESC, s.asked_at LIMIT $2
    """,
)


def load(connection: Connection, steps: Sequence[StepId]) -> Sequence[Row[Any]]:
    """The rows of the named steps that are still live."""
    return session.run(connection, _LOAD, *_keys(steps))


def load_all(connection: Connection, run: RunId) -> Sequence[Row[Any]]:
    """Every live step of a run."""
    return session.run(connection, _LOAD_ALL, run.tenant, run.run)


def save(
    connection: Connection,
    rows: Sequence[StepRow],
    *,
    resend_after: float,
    taking: Taking | None = None,
    known: Mapping[StepId, Needed] | None = None,
) -> Saved:
    """Write new steps, and known ones that the turn moved on, and take some of those that are ready.

    A ready row without a wake of its own is looked at again `resend_after` seconds from now.
    What taking one needs of its run is what was written before; of steps that are new it may be
    `known`, which saves asking for it. `session.MovedOn` where one was owned by a worker meanwhile,
    or is not as it is known.
    """
    if not rows:
        return Saved()
    known = known or {}
    ready = {row.step for row in rows if row.status == "ready"}
    # Nobody waits for rows of which there is nothing to be told.
    if not ready - known.keys():
        session.later(connection, _SAVE_UNTOLD, *_saved(rows, resend_after, taking))
        return Saved(taken=[*known.values()])
    lined = taking is None or ready - set(taking.steps)
    statement = _SAVE_LINED if lined else _SAVE
    saved = session.run(connection, statement, *_saved(rows, resend_after, taking))
    return Saved(
        lanes={StepId(row.tenant_id, row.run_id, row.key): row.lane for row in saved if row.sent},
        taken=[row for row in saved if row.begun],
    )


def _saved(rows: Sequence[StepRow], resend_after: float, taking: Taking | None) -> tuple[Any, ...]:
    taken = frozenset(() if taking is None else taking.steps)
    return (
        *_keys([row.step for row in rows]),
        [row.node for row in rows],
        [row.iteration for row in rows],
        [row.status for row in rows],
        [row.attempt for row in rows],
        [row.errors for row in rows],
        [row.lost for row in rows],
        [row.queue for row in rows],
        [row.parents for row in rows],
        [row.thread for row in rows],
        [row.visits for row in rows],
        [row.wake for row in rows],
        [row.wait for row in rows],
        [row.of for row in rows],
        [row.item for row in rows],
        [row.holds for row in rows],
        [row.awaits for row in rows],
        resend_after,
        [row.asked for row in rows],
        [row.permits for row in rows],
        [row.step in taken for row in rows],
        None if taking is None else taking.worker,
        0.0 if taking is None else taking.seconds,
    )


def delete(connection: Connection, steps: Sequence[StepId]) -> None:
    """Remove settled steps."""
    if steps:
        session.later(connection, _DELETE, *_keys(steps))


def clear(connection: Connection, runs: Sequence[RunId]) -> None:
    """Remove every step of runs that ended; whoever holds one finds out by its fence."""
    if runs:
        session.later(connection, _CLEAR, [run.tenant for run in runs], [run.run for run in runs])


def clear_scopes(connection: Connection, scopes: Sequence[tuple[RunId, str]]) -> None:
    """Remove every step whose thread runs in a scope that was cancelled."""
    if scopes:
        session.later(
            connection,
            _CLEAR_SCOPES,
            [run.tenant for run, _ in scopes],
            [run.run for run, _ in scopes],
            [scope for _, scope in scopes],
        )


def clear_items(connection: Connection, maps: Sequence[StepId]) -> None:
    """Remove what is left of the items of maps."""
    if maps:
        session.later(connection, _CLEAR_ITEMS, *_keys(maps))


def clear_nodes(connection: Connection, nodes: Sequence[tuple[RunId, str]]) -> None:
    """Remove every step at a node that a region cancelled; its worker finds out by the fence."""
    if nodes:
        session.later(
            connection,
            _CLEAR_NODES,
            [run.tenant for run, _ in nodes],
            [run.run for run, _ in nodes],
            [node for _, node in nodes],
        )


def hold(connection: Connection, runs: Sequence[RunId]) -> None:
    """Keep the ready steps of runs that were paused from being leased."""
    if runs:
        session.later(connection, _HOLD, [run.tenant for run in runs], [run.run for run in runs])


def release(
    connection: Connection, runs: Sequence[RunId], *, resend_after: float
) -> Sequence[Row[Any]]:
    """Make the held steps of runs that go on ready again."""
    if not runs:
        return ()
    named = [run.tenant for run in runs], [run.run for run in runs]
    return session.run(connection, _RELEASE, *named, resend_after)


def lease(
    connection: Connection, steps: Sequence[StepId], worker: str, seconds: float
) -> Sequence[Row[Any]]:
    """Take ownership of those of the steps that are ready, with all that carrying them out needs.

    A step that somebody is just taking is passed over, not waited for.
    """
    return session.run(connection, _LEASE, *_keys(steps), worker, seconds)


def take(
    connection: Connection, steps: Sequence[StepId], worker: str, seconds: float
) -> Sequence[Row[Any]]:
    """Take ownership as `lease` does, and record the start of an attempt at each."""
    return session.run(connection, _TAKE, *_keys(steps), worker, seconds)


def owned(connection: Connection, wanted: Sequence[StepId], worker: str) -> Sequence[Row[Any]]:
    """Those of the steps that are leased to a worker, under whatever fence."""
    return session.run(connection, _OWNED, *_keys(wanted), worker)


def begin(connection: Connection, leases: Sequence[Held]) -> frozenset[StepId]:
    """Record the start of an attempt under each lease; the steps for which it holds.

    Always before user code runs: only started attempts count.
    """
    return _steps(session.run(connection, _BEGIN, *_held(leases)))


def beat(
    connection: Connection, leases: Mapping[Held, str | None], seconds: float
) -> frozenset[Held]:
    """Extend leases; those that still hold. With each comes what its attempt has used so far, as JSON."""
    return _leases(session.run(connection, _BEAT, *_held([*leases]), seconds, [*leases.values()]))


def held(connection: Connection, leases: Sequence[Held]) -> frozenset[Held]:
    """The leases that still hold."""
    return _leases(session.run(connection, _HELD, *_held(leases)))


def give_back(connection: Connection, leases: Sequence[Held]) -> None:
    """Make leased steps ready again whose attempt never began."""
    session.run(connection, _GIVE_BACK, *_held(leases))


def underway(connection: Connection, runs: Sequence[RunId]) -> Sequence[Row[Any]]:
    """The attempts of runs that have begun, with what they have told that they used."""
    return session.run(
        connection, _UNDERWAY, [run.tenant for run in runs], [run.run for run in runs]
    )


def expiring(connection: Connection, limit: int) -> Sequence[RunId]:
    """The runs of leases whose time is over."""
    return [RunId._make(row) for row in session.run(connection, _EXPIRING, limit)]


def expire(connection: Connection, limit: int) -> Sequence[Row[Any]]:
    """End leases whose time is over; the rows, with the fence that was theirs."""
    return session.run(connection, _EXPIRE, limit)


def take_away(connection: Connection, step: StepId) -> Row[Any] | None:
    """Take a live step from whoever holds it; where it was and where it is, None if it is not live.

    A begun attempt ends here: its result and its event are the caller's to write, in the same
    transaction.
    """
    return next(iter(session.run(connection, _TAKE_AWAY, *step)), None)


def wake(connection: Connection, limit: int) -> Sequence[Row[Any]]:
    """Steps whose wait is over."""
    return session.run(connection, _WAKE, limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A lane of a queue in which steps are ready, and what is to be done about it."""

    #: "" for the queue of steps whose node names none.
    queue: str
    lane: int
    #: Rows that are looked for at the most.
    most: int
    #: Whether messages are missing from it: then none waits longer than the first time.
    lost: bool


def lines(connection: Connection) -> Mapping[tuple[str, int], int]:
    """The queues and lanes in which steps are ready, and how many, up to a full lane."""
    return {(row.queue, row.lane): row.ready for row in session.run(connection, _LINES)}


def overdue(
    connection: Connection, found: Sequence[Line], resend_after: float
) -> Sequence[Row[Any]]:
    """Ready steps that nobody took in time: tenants in turn, and of each what has waited for longest."""
    return session.run(
        connection,
        _OVERDUE,
        [line.queue for line in found],
        [line.lane for line in found],
        [line.most for line in found],
        [line.lost for line in found],
        resend_after,
    )


def unanswered(connection: Connection, queues: Sequence[str], limit: int) -> Mapping[Held, int]:
    """Ready steps of some queues whose message was sent again; how often, the oftenest first.

    The queue of steps whose node names none is "".
    """
    rows = session.run(connection, _UNANSWERED, [*queues], limit)
    return {
        Held(step=StepId(row.tenant_id, row.run_id, row.key), fence=row.fence): row.sends
        for row in rows
    }


def _keys(steps: Sequence[StepId]) -> tuple[list[str], list[str], list[str]]:
    return [s.tenant for s in steps], [s.run for s in steps], [s.key for s in steps]


def _held(leases: Sequence[Held]) -> tuple[list[str], list[str], list[str], list[int]]:
    return *_keys([held.step for held in leases]), [held.fence for held in leases]


def _steps(rows: Sequence[Row[Any]]) -> frozenset[StepId]:
    return frozenset(StepId._make(row) for row in rows)


def _leases(rows: Sequence[Row[Any]]) -> frozenset[Held]:
    return frozenset(Held(step=StepId._make(tuple(row)[:3]), fence=tuple(row)[3]) for row in rows)
