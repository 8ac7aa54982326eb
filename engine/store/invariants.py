"""What must always hold of the rows, as queries that return those for which it does not.

Tests, drills and `celeriac doctor` ask the same questions. Each row says whose it is, which
run, what of it, and why. In a query `$RUNS(id)` stands for whether a run is among those that
are looked at. What only a fold of history can tell is asked in `engine.runs.doctor`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Connection, CursorResult, Row, Text, bindparam, text

from engine.core import transitions
from engine.store.calls import NOT_SENT
from engine.store.ids import RunId

#: How long something may wait for a coordinator before the wait is a finding, in seconds.
OVERDUE_SECONDS = 60

#: So often a step is sent again within little more than a minute, by the settings that are usual.
UNTAKEN_SENDS = 5

#: How long an anchor may wait for its copy, and the next sealing for a coordinator, in seconds.
UNSEALED_SECONDS = 900

#: Rows that one query returns; where so much is broken, more of it tells nothing new.
MOST_ROWS = 100

#: Heads that are read at a time.
_HEADS_TOGETHER = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """One thing that must hold. `sql` answers with tenant_id, run_id, subject, detail.

    The run is null where it is the tenant as a whole that is concerned.
    """

    name: str
    says: str
    sql: str


_TERMINAL = ", ".join(f"'{status}'" for status in sorted(transitions.TERMINAL))
_NOT_SENT = ", ".join(f"'{reason}'" for reason in sorted(NOT_SENT))

#: The tables whose rows belong to a run, and that no foreign key binds to it.
UNBOUND = (
    *("inbox", "history", "payload", "attempt", "result", "refusal", "call", "call_result"),
    *("pin", "log", "checkpoint", "idempotency", "blob_reference", "question", "answer", "verdict"),
    *("reservation", "ledger"),
)

#: Accounts, each with its run if it is a run's; no run where all runs, or none, are concerned.
_ACCOUNTS = """(
            SELECT *, CASE WHEN scope = 'run' AND subject ~ '^[0-9a-f-]{36}$' THEN subject::uuid
                END AS run_id, NULL::uuid AS no_run
            FROM account)"""
#: What the purses of the account `a` hold together.
_PURSES = """(
            SELECT coalesce(sum(p.granted), 0) AS granted, coalesce(sum(p.reserved), 0) AS reserved,
                coalesce(sum(p.spent), 0) AS spent,
                coalesce(bool_or(p.reserved + p.spent > p.granted), false) AS over
            FROM purse p WHERE p.tenant_id = a.tenant_id AND p.account = a.key)"""
#: Purses keep nine digits behind the point: of so many amounts, the rest may add up to this.
_ROUNDED = "(1 + {count}) * 0.000000001"

#: What the line `h` ends is a permit: its step had asked for one last, and not opened its own wait.
#: Nothing was done then that could have a result, and it may be asked for many times.
_OF_PERMIT = """coalesce(h.kind IN ('WaitEnded', 'WaitFailed') AND (
            SELECT o.kind FROM history o WHERE o.tenant_id = h.tenant_id AND o.run_id = h.run_id
                AND o.seq < h.seq AND o.body->>'step' = h.body->>'step'
                AND o.kind IN ('OpenWait', 'Parked', 'AttemptSuspended', 'AttemptWithheld')
            ORDER BY o.seq DESC LIMIT 1) <> 'OpenWait', false)"""

#: Who holds a lock: steps by their rows, threads between steps by their tokens.
_HELD = """
        SELECT s.tenant_id, s.run_id, s.key AS holder, h.value->>0 AS name
        FROM step s, json_array_elements(s.holds) h WHERE $RUNS(s.run_id)
        UNION ALL
        SELECT r.tenant_id, r.id, 'a token at ' || (t.value->>'target'), h.value->>0
        FROM run r, json_array_elements(r.head->'tokens') t, json_array_elements(t.value->'holds') h
        WHERE $RUNS(r.id)"""

#: A live run `c` that the step `s` waits for.
_CHILD = """
        EXISTS (SELECT FROM run c WHERE c.tenant_id = s.tenant_id AND c.parent_run = s.run_id
            AND c.parent_step = s.key AND c.parent_attempt = s.attempt
            AND c.status NOT IN ($TERMINAL))"""
#: What an event or people can end of the step `s`.
_WAIT = """
        EXISTS (SELECT FROM wait w WHERE w.tenant_id = s.tenant_id AND w.run_id = s.run_id
            AND w.step = s.key AND w.kind = s.wait)"""

#: Where the step `s` waits for a worker: the platform's own queue, if its node names none.
_QUEUE = "coalesce(s.queue, 'steps')"

INVARIANTS = (
    Invariant(
        name="ended_run_is_empty",
        says="A run that has ended has no live step, hence no lease, and no token or thread.",
        sql="""
        SELECT r.tenant_id, r.id AS run_id, coalesce(s.key, 'head') AS subject,
            CASE WHEN s.key IS NULL THEN 'the head still counts what is live: ' || r.head::text
                ELSE 'step is ' || s.status || ' although the run is ' || r.status END AS detail
        FROM run r LEFT JOIN step s ON s.tenant_id = r.tenant_id AND s.run_id = r.id
        WHERE r.status IN ($TERMINAL) AND $RUNS(r.id) AND (s.key IS NOT NULL
            OR coalesce(json_array_length(r.head->'tokens'), 0) > 0
            OR EXISTS (SELECT FROM json_each(r.head->'scopes') scope
                WHERE scope.value->>'live' <> '{}'))
        """,
    ),
    Invariant(
        name="live_run_waits_for_something",
        says="A run that has not ended, nor been paused, waits for something that will be looked at.",
        sql=f"""
        SELECT r.tenant_id, r.id AS run_id, 'run' AS subject,
            'is ' || r.status || ', with no event, no wake, no step that wakes, is leased or waits '
                || 'for what can come' AS detail
        FROM run r WHERE r.status NOT IN ($TERMINAL, 'paused') AND $RUNS(r.id)
            AND r.stuck_until IS NULL AND r.wake_at IS NULL
            AND NOT EXISTS (SELECT FROM inbox i WHERE i.tenant_id = r.tenant_id AND i.run_id = r.id)
            AND NOT EXISTS (SELECT FROM step s WHERE s.tenant_id = r.tenant_id AND s.run_id = r.id
                AND (s.wake_at IS NOT NULL OR s.lease_until IS NOT NULL
                    OR (s.status = 'waiting' AND ({_WAIT} OR {_CHILD}))))
        """,  # noqa: S608  # our own constants, here and below
    ),
    Invariant(
        name="waiting_step_can_be_ended",
        says="A step that waits has what ends it: a time, a question, a live run, items.",
        sql=f"""
        SELECT s.tenant_id, s.run_id, s.key AS subject,
            'waits for ' || s.wait || ', and nothing can end that' AS detail
        FROM step s JOIN run r ON r.tenant_id = s.tenant_id AND r.id = s.run_id
        WHERE s.status = 'waiting' AND $RUNS(s.run_id) AND NOT CASE s.wait
            WHEN 'timer' THEN s.wake_at IS NOT NULL
            WHEN 'workflow' THEN {_CHILD}
            WHEN 'map' THEN r.head->'maps'->s.key IS NOT NULL
            ELSE {_WAIT} END
        """,  # noqa: S608
    ),
    Invariant(
        name="wait_has_its_step",
        says="Whatever people are asked, or an event may end, some step waits for.",
        sql="""
        SELECT w.tenant_id, w.run_id, w.step AS subject,
            'a wait for ' || w.kind || ', and the step is ' || s.status
                || coalesce(' for ' || s.wait, '') AS detail
        FROM wait w JOIN step s ON s.tenant_id = w.tenant_id AND s.run_id = w.run_id
            AND s.key = w.step
        WHERE $RUNS(w.run_id)
            AND (s.status NOT IN ('waiting', 'reported') OR s.wait IS DISTINCT FROM w.kind)
        """,
    ),
    Invariant(
        name="orphan_is_let_go",
        says="A live run that is to end with the step that started it has that step, or is told.",
        sql="""
        SELECT c.tenant_id, c.id AS run_id, 'run' AS subject,
            'is ' || c.status || ', and ' || c.parent_step || ' of run ' || c.parent_run
                || ' waits for it no more' AS detail
        FROM run c WHERE c.orphan = 'cancel' AND c.status NOT IN ($TERMINAL) AND $RUNS(c.id)
            AND NOT EXISTS (SELECT FROM step s WHERE s.tenant_id = c.tenant_id
                AND s.run_id = c.parent_run AND s.key = c.parent_step
                AND s.attempt = c.parent_attempt AND s.status IN ('waiting', 'reported'))
            AND NOT EXISTS (SELECT FROM inbox i WHERE i.tenant_id = c.tenant_id AND i.run_id = c.id
                AND i.kind = 'CancelRequested')
        """,
    ),
    Invariant(
        name="lock_is_held",
        says="A lock is held by a step or a token of a run that has not ended.",
        sql=f"""
        SELECT l.tenant_id, l.run_id, l.name AS subject,
            'the run is ' || r.status || ', and no step or token of it holds the lock' AS detail
        FROM lock l JOIN run r ON r.tenant_id = l.tenant_id AND r.id = l.run_id
        WHERE $RUNS(l.run_id) AND NOT EXISTS (SELECT FROM ({_HELD}) h
            WHERE h.tenant_id = l.tenant_id AND h.run_id = l.run_id AND h.name = l.name)
        """,  # noqa: S608
    ),
    Invariant(
        name="holder_has_its_lock",
        says="Who holds a lock has its row: no two runs hold one.",
        sql=f"""
        SELECT h.tenant_id, h.run_id, h.name AS subject, h.holder || ' holds it, '
            || coalesce('and so does run ' || l.run_id, 'and nobody gave it') AS detail
        FROM ({_HELD}) h LEFT JOIN lock l ON l.tenant_id = h.tenant_id AND l.name = h.name
        WHERE l.run_id IS DISTINCT FROM h.run_id
        """,  # noqa: S608
    ),
    Invariant(
        name="map_counts_its_items",
        says="A map counts the steps of its items, and has every item; every item has its map.",
        sql="""
        SELECT r.tenant_id, r.id AS run_id, m.key AS subject,
            'counts ' || (m.value->>'running') || ' under way of ' || (m.value->>'next')
                || ' begun and ' || (m.value->>'count') || ' in all; there are ' || rows.steps
                || ' steps and ' || rows.items || ' items' AS detail
        FROM run r, json_each(r.head->'maps') m, LATERAL (
            SELECT (SELECT count(*) FROM step s WHERE s.tenant_id = r.tenant_id AND s.run_id = r.id
                    AND s."of" = m.key) AS steps,
                (SELECT count(*) FROM generate_series(0, (m.value->>'count')::int - 1) place
                    JOIN payload p ON p.tenant_id = r.tenant_id AND p.run_id = r.id
                        AND p.id = m.key || '.' || place || '/item') AS items) rows
        WHERE $RUNS(r.id) AND (rows.steps <> (m.value->>'running')::int
            OR rows.items <> (m.value->>'count')::int
            OR (m.value->>'next')::int <> (m.value->>'running')::int
                + (m.value->>'succeeded')::int + (m.value->>'failed')::int)
        UNION ALL
        SELECT s.tenant_id, s.run_id, s.key, 'is an item of ' || s."of" || ', which is no map'
        FROM step s JOIN run r ON r.tenant_id = s.tenant_id AND r.id = s.run_id
        WHERE s."of" IS NOT NULL AND s.item IS NOT NULL AND $RUNS(s.run_id)
            AND r.head->'maps'->s."of" IS NULL
        """,
    ),
    Invariant(
        name="event_ends_its_wait",
        says="An event that a step has claimed ended the wait of that step, and no other.",
        sql="""
        SELECT e.tenant_id, e.claimed_run AS run_id, e.claimed_step AS subject,
            'has claimed event ' || e.id || ', and no line says so' AS detail
        FROM event e WHERE e.state = 'claimed' AND $RUNS(e.claimed_run)
            AND NOT EXISTS (SELECT FROM history h WHERE h.tenant_id = e.tenant_id
                AND h.run_id = e.claimed_run AND h.kind = 'WaitEnded'
                AND h.body->>'step' = e.claimed_step AND h.body->'by'->>0 = 'event:' || e.id)
            AND NOT EXISTS (SELECT FROM inbox i WHERE i.tenant_id = e.tenant_id
                AND i.run_id = e.claimed_run AND i.kind = 'WaitEnded'
                AND i.body->>'step' = e.claimed_step AND i.body->'by'->>0 = 'event:' || e.id)
        UNION ALL
        SELECT h.tenant_id, h.run_id, h.body->>'step', 'line ' || h.seq || ' says that event ' || e.id
            || ' ended its wait; it is ' || e.state || coalesce(' by ' || e.claimed_step || ' of run '
                || e.claimed_run, '')
        FROM history h JOIN event e ON e.tenant_id = h.tenant_id
            AND h.body->'by'->>0 = 'event:' || e.id
        WHERE h.kind = 'WaitEnded' AND $RUNS(h.run_id)
            AND (e.claimed_run IS DISTINCT FROM h.run_id
                OR e.claimed_step IS DISTINCT FROM h.body->>'step')
        """,
    ),
    Invariant(
        name="run_is_what_was_submitted",
        says="A run has the workflow version, the pins and the origin that its history began with.",
        sql="""
        SELECT r.tenant_id, r.id AS run_id, 'run' AS subject,
            'has another version, other pins or another origin than it was submitted with' AS detail
        FROM run r JOIN history h ON h.tenant_id = r.tenant_id AND h.run_id = r.id AND h.seq = 1
        WHERE $RUNS(r.id) AND h.kind IN ('RunSubmitted', 'Forked')
            AND (h.body->>'version' IS DISTINCT FROM
                    coalesce((SELECT m.was FROM migration m WHERE m.tenant_id = r.tenant_id
                        AND m.run_id = r.id ORDER BY m.seq LIMIT 1), r.version_id)::text
                OR coalesce(h.body->'pins', '{}'::json)::jsonb <>
                    coalesce((SELECT m.was_pins FROM migration m WHERE m.tenant_id = r.tenant_id
                        AND m.run_id = r.id ORDER BY m.seq LIMIT 1), r.pins)::jsonb
                OR h.body->>'by' IS DISTINCT FROM r.submitted_by
                OR h.body->>'run' IS DISTINCT FROM r.forked_run::text
                OR (h.body->>'seq')::bigint IS DISTINCT FROM r.forked_seq)
        """,
    ),
    Invariant(
        name="run_is_where_it_was_migrated_to",
        says="A run is under the version that its last migration says, and each is a line of history.",
        sql="""
        SELECT m.tenant_id, m.run_id, 'line ' || m.seq AS subject,
            'the run was migrated otherwise, or is under another version by now' AS detail
        FROM migration m JOIN run r ON r.tenant_id = m.tenant_id AND r.id = m.run_id
        LEFT JOIN history h ON h.tenant_id = m.tenant_id AND h.run_id = m.run_id AND h.seq = m.seq
        LEFT JOIN LATERAL (SELECT n.was FROM migration n WHERE n.tenant_id = m.tenant_id
            AND n.run_id = m.run_id AND n.seq > m.seq ORDER BY n.seq LIMIT 1) later ON true
        WHERE $RUNS(m.run_id)
            AND (h.kind IS DISTINCT FROM 'Migrated'
                OR h.body->>'version' IS DISTINCT FROM m.version_id::text
                OR h.body->>'was' IS DISTINCT FROM m.was::text
                OR m.version_id <> coalesce(later.was, r.version_id))
        """,
    ),
    Invariant(
        name="reported_step_has_its_event",
        says="A step whose attempt has ended has the report waiting in the inbox.",
        sql="""
        SELECT s.tenant_id, s.run_id, s.key AS subject,
            'attempt ' || s.attempt || ' has ended and no event says so' AS detail
        FROM step s WHERE s.status = 'reported' AND $RUNS(s.run_id)
            AND NOT EXISTS (SELECT FROM inbox i WHERE i.tenant_id = s.tenant_id
                AND i.run_id = s.run_id AND i.body->>'step' = s.key
                AND (i.body->>'attempt')::int = s.attempt)
        """,
    ),
    Invariant(
        name="ready_step_is_sent",
        says="The message of a ready step, and the wake of a waiting one, are not overdue.",
        sql="""
        SELECT s.tenant_id, s.run_id, s.key AS subject,
            'is ' || s.status || ' and should have been looked at ' || s.wake_at AS detail
        FROM step s WHERE s.wake_at < clock_timestamp() - $OVERDUE
            AND $RUNS(s.run_id)
        """,
    ),
    Invariant(
        name="ready_step_is_taken",
        says="A step that was sent again and again is not left lying by everybody of its queue.",
        sql=f"""
        SELECT s.tenant_id, s.run_id, s.key AS subject, 'was sent ' || s.sends
                || ' times more, and no worker of the queue ' || {_QUEUE} || ' takes anything' AS detail
        FROM (SELECT s.*, {_QUEUE} AS line FROM step s WHERE s.status = 'ready'
                AND s.sends >= {UNTAKEN_SENDS} AND s.asked_at < clock_timestamp() - $OVERDUE
                AND $RUNS(s.run_id)) s
        JOIN run r ON r.tenant_id = s.tenant_id AND r.id = s.run_id AND r.status <> 'paused'
        WHERE NOT EXISTS (SELECT FROM step o
                WHERE o.status = 'leased' AND coalesce(o.queue, 'steps') = s.line)
            AND NOT EXISTS (SELECT FROM attempt a
                JOIN run o ON o.tenant_id = a.tenant_id AND o.id = a.run_id
                JOIN workflow_version v ON v.tenant_id = o.tenant_id AND v.id = o.version_id
                WHERE a.started_at > clock_timestamp() - $OVERDUE AND s.line = coalesce(
                    v.document->'nodes'->split_part(a.step, '#', 1)->>'queue', 'steps'))
        """,  # noqa: S608
    ),
    Invariant(
        name="run_is_woken",
        says="The wake of a run is not overdue, unless the run is set aside as stuck.",
        sql="""
        SELECT r.tenant_id, r.id AS run_id, 'run' AS subject,
            'should have been looked at ' || r.wake_at AS detail
        FROM run r WHERE r.wake_at < clock_timestamp() - $OVERDUE
            AND coalesce(r.stuck_until, r.wake_at) < clock_timestamp() - $OVERDUE
            AND $RUNS(r.id)
        """,
    ),
    Invariant(
        name="lease_is_swept",
        says="No lease is long over: the sweeper ends it.",
        sql="""
        SELECT s.tenant_id, s.run_id, s.key AS subject,
            'leased by ' || s.worker || ' until ' || s.lease_until AS detail
        FROM step s WHERE s.lease_until < clock_timestamp() - $OVERDUE
            AND $RUNS(s.run_id)
        """,
    ),
    Invariant(
        name="event_is_taken",
        says="No event waits long for its turn, unless its run is set aside as stuck.",
        sql="""
        SELECT i.tenant_id, i.run_id, i.kind || ' ' || i.id AS subject,
            'received ' || min(i.received_at) AS detail
        FROM inbox i JOIN run r ON r.tenant_id = i.tenant_id AND r.id = i.run_id
        WHERE i.received_at < clock_timestamp() - $OVERDUE
            AND coalesce(r.stuck_until, i.received_at)
                < clock_timestamp() - $OVERDUE
            AND $RUNS(i.run_id)
        GROUP BY i.tenant_id, i.run_id, i.kind, i.id
        """,
    ),
    Invariant(
        name="begun_lease_has_its_attempt",
        says="A step whose user code may run has the row of its attempt, under the same fence.",
        sql="""
        SELECT s.tenant_id, s.run_id, s.key AS subject,
            'attempt ' || s.attempt || ' has begun under fence ' || s.fence || ', the row says '
                || coalesce('fence ' || a.fence, 'nothing') AS detail
        FROM step s LEFT JOIN attempt a ON a.tenant_id = s.tenant_id AND a.run_id = s.run_id
            AND a.step = s.key AND a.attempt = s.attempt
        WHERE s.begun AND a.fence IS DISTINCT FROM s.fence AND $RUNS(s.run_id)
        """,
    ),
    Invariant(
        name="result_has_its_attempt",
        says="Every result is of an attempt that began, under the fence of that attempt.",
        sql="""
        SELECT x.tenant_id, x.run_id, x.step || '/' || x.attempt AS subject,
            x.outcome || ' under fence ' || x.fence || ', the attempt '
                || coalesce('began under fence ' || a.fence, 'never began') AS detail
        FROM result x LEFT JOIN attempt a ON a.tenant_id = x.tenant_id AND a.run_id = x.run_id
            AND a.step = x.step AND a.attempt = x.attempt
        WHERE a.fence IS DISTINCT FROM x.fence AND $RUNS(x.run_id)
        """,
    ),
    Invariant(
        name="result_is_accepted_once",
        says="A step has one accepted result at most.",
        sql="""
        SELECT x.tenant_id, x.run_id, x.step AS subject,
            'attempts ' || string_agg(x.attempt::text, ', ' ORDER BY x.attempt)
                || ' were all accepted' AS detail
        FROM result x WHERE x.outcome = 'succeeded' AND $RUNS(x.run_id)
        GROUP BY x.tenant_id, x.run_id, x.step HAVING count(*) > 1
        """,
    ),
    Invariant(
        name="settled_step_has_its_result",
        says="What history counts as done, or as waited for in vain, has its result: that one.",
        sql=f"""
        SELECT h.tenant_id, h.run_id, h.body->>'step' AS subject,
            'line ' || h.seq || ' counts attempt ' || (h.body->>'attempt')
                || coalesce(' under fence ' || (h.body->>'fence'), '') || ', accepted is '
                || coalesce('attempt ' || x.attempt || ' under fence ' || x.fence, 'none') AS detail
        FROM history h LEFT JOIN result x ON x.tenant_id = h.tenant_id AND x.run_id = h.run_id
            AND x.step = h.body->>'step' AND x.outcome = 'succeeded'
        WHERE h.kind IN ('AttemptSucceeded', 'WaitEnded') AND $RUNS(h.run_id) AND NOT {_OF_PERMIT}
            AND (x.attempt IS DISTINCT FROM (h.body->>'attempt')::int
                OR (h.kind = 'AttemptSucceeded'
                    AND x.fence IS DISTINCT FROM (h.body->>'fence')::bigint))
        UNION ALL
        SELECT h.tenant_id, h.run_id, h.body->>'step', 'line ' || h.seq || ' says that attempt '
            || (h.body->>'attempt') || ' waited in vain, and no result says so'
        FROM history h WHERE h.kind = 'WaitFailed' AND $RUNS(h.run_id) AND NOT {_OF_PERMIT}
            AND NOT EXISTS (SELECT FROM result x WHERE x.tenant_id = h.tenant_id
                AND x.run_id = h.run_id AND x.step = h.body->>'step'
                AND x.attempt = (h.body->>'attempt')::int AND x.outcome = 'failed')
        """,  # noqa: S608
    ),
    Invariant(
        name="permit_has_its_verdict",
        says="What history says of a permit that was asked for, its verdict says, too.",
        sql=f"""
        SELECT h.tenant_id, h.run_id, h.body->>'step' AS subject, 'line ' || h.seq
            || ' ends what attempt ' || (h.body->>'attempt') || ' asked, and no verdict says so'
            AS detail
        FROM history h WHERE h.kind IN ('WaitEnded', 'WaitFailed') AND $RUNS(h.run_id)
            AND {_OF_PERMIT}
            AND NOT EXISTS (SELECT FROM verdict v WHERE v.tenant_id = h.tenant_id
                AND v.run_id = h.run_id AND v.step = h.body->>'step'
                AND v.attempt = (h.body->>'attempt')::int
                AND (v.approved IS NULL) = (h.kind = 'WaitFailed')
                AND (h.kind = 'WaitFailed' OR v.choice = h.body->>'choice'))
        """,  # noqa: S608
    ),
    Invariant(
        name="step_settles_once",
        says="History counts one success of a step, or one end of its wait, and settles it once.",
        sql=f"""
        SELECT h.tenant_id, h.run_id, h.body->>'step' AS subject,
            h.kind || ' in lines ' || string_agg(h.seq::text, ', ' ORDER BY h.seq) AS detail
        FROM history h WHERE h.kind IN ('AttemptSucceeded', 'WaitEnded', 'TakeEdges', 'SettleItem',
            'SettleUndo') AND $RUNS(h.run_id) AND NOT (h.kind = 'WaitEnded' AND {_OF_PERMIT})
        GROUP BY h.tenant_id, h.run_id, h.body->>'step', h.kind HAVING count(*) > 1
        """,  # noqa: S608
    ),
    Invariant(
        name="nothing_follows_the_end",
        says="After the line that ends a run, history decides nothing more.",
        sql="""
        SELECT h.tenant_id, h.run_id, 'line ' || h.seq AS subject,
            h.kind || ' after the run ended in line ' || f.seq AS detail
        FROM history f JOIN history h ON h.tenant_id = f.tenant_id AND h.run_id = f.run_id
            AND h.seq > f.seq
        WHERE f.kind = 'FinishRun' AND $RUNS(f.run_id)
            AND h.kind IN ('RequestStart', 'PassNode', 'TakeEdges', 'RetryStep', 'FinishRun')
        """,
    ),
    Invariant(
        name="history_is_gapless",
        says="The lines of a run are numbered from 1 to the seq of its head.",
        sql="""
        SELECT r.tenant_id, r.id AS run_id, 'history' AS subject,
            count(h.seq) || ' lines, ' || coalesce(min(h.seq), 0) || ' to '
                || coalesce(max(h.seq), 0) || ', the head says ' || r.seq AS detail
        FROM run r LEFT JOIN history h ON h.tenant_id = r.tenant_id AND h.run_id = r.id
        WHERE $RUNS(r.id)
        GROUP BY r.tenant_id, r.id, r.seq
        HAVING count(h.seq) <> r.seq OR coalesce(max(h.seq), 0) <> r.seq
            OR coalesce(min(h.seq), 1) <> 1
        """,
    ),
    Invariant(
        name="history_is_chained",
        says="Every line's hash covers the line before it.",
        sql="""
        SELECT c.tenant_id, c.run_id, 'line ' || c.seq AS subject, 'the hash does not verify' AS detail
        FROM (SELECT h.*, coalesce(lag(h.hash) OVER run, '') AS before
            FROM history h WHERE $RUNS(h.run_id)
            WINDOW run AS (PARTITION BY h.tenant_id, h.run_id ORDER BY h.seq)) c
        WHERE c.hash <> sha256(c.before || convert_to(concat_ws('|', c.run_id, c.seq,
            (extract(epoch FROM c.at) * 1000000)::bigint, c.kind, c.format, c.body::text,
            coalesce(c.payload_id, '')), 'UTF8'))
        """,
    ),
    Invariant(
        name="head_holds_the_last_hash",
        says="The head of a run holds the hash of its last line.",
        sql="""
        SELECT r.tenant_id, r.id AS run_id, 'run' AS subject,
            'the head is not of line ' || r.seq AS detail
        FROM run r LEFT JOIN history h ON h.tenant_id = r.tenant_id AND h.run_id = r.id
            AND h.seq = r.seq
        WHERE r.hash <> coalesce(h.hash, '') AND $RUNS(r.id)
        """,
    ),
    Invariant(
        name="payload_matches_its_line",
        says="The users' data that a line points to is there, and is what its digest says.",
        sql="""
        SELECT h.tenant_id, h.run_id, h.payload_id AS subject,
            CASE WHEN p.id IS NULL THEN 'line ' || h.seq || ' points to it, and it is gone'
                ELSE 'is not what line ' || h.seq || ' says' END AS detail
        FROM history h LEFT JOIN payload p ON p.tenant_id = h.tenant_id AND p.run_id = h.run_id
            AND p.id = h.payload_id
        WHERE h.payload_id IS NOT NULL AND p.shredded_at IS NULL AND $RUNS(h.run_id)
            AND h.body->>'digest'
            IS DISTINCT FROM encode(sha256(p.salt || convert_to(p.body::text, 'UTF8')), 'hex')
        """,
    ),
    Invariant(
        name="snapshot_has_its_line",
        says="A snapshot is of a line of its run, and the head knows of the last one.",
        sql="""
        SELECT r.tenant_id, r.id AS run_id, 'snapshot' AS subject,
            'the head says line ' || r.snapshot_seq || ', the last one is of line '
                || coalesce(max(c.seq), 0) AS detail
        FROM run r LEFT JOIN checkpoint c ON c.tenant_id = r.tenant_id AND c.run_id = r.id
        WHERE $RUNS(r.id)
        GROUP BY r.tenant_id, r.id, r.seq, r.snapshot_seq
        HAVING coalesce(max(c.seq), 0) <> r.snapshot_seq OR r.snapshot_seq > r.seq
        """,
    ),
    Invariant(
        name="call_has_its_attempt",
        says="Every call was made by an attempt that began, and every value is of such a call.",
        sql="""
        SELECT c.tenant_id, c.run_id, c.step || ' call ' || c.ordinal AS subject,
            'attempt ' || c.attempt || ' never began' AS detail
        FROM call c LEFT JOIN attempt a ON a.tenant_id = c.tenant_id AND a.run_id = c.run_id
            AND a.step = c.step AND a.attempt = c.attempt
        WHERE a.step IS NULL AND $RUNS(c.run_id)
        UNION ALL
        SELECT x.tenant_id, x.run_id, x.step || ' call ' || x.ordinal,
            'attempt ' || x.attempt || ' recorded how it ended, and never that it began'
        FROM call_result x LEFT JOIN call c ON c.tenant_id = x.tenant_id AND c.run_id = x.run_id
            AND c.step = x.step AND c.ordinal = x.ordinal AND c.attempt = x.attempt
        WHERE c.step IS NULL AND $RUNS(x.run_id)
        """,
    ),
    Invariant(
        name="effect_happens_once",
        says="An effect that may happen once only is never started again, unless it did not happen.",
        sql=f"""
        SELECT c.tenant_id, c.run_id, c.step || ' call ' || c.ordinal AS subject,
            c.tool || ' was started in attempt ' || c.attempt || ' and again in attempt '
                || min(later.attempt) AS detail
        FROM call c JOIN call later ON later.tenant_id = c.tenant_id AND later.run_id = c.run_id
            AND later.step = c.step AND later.ordinal = c.ordinal AND later.attempt > c.attempt
        WHERE c.effect IN ('at_most_once', 'compensable') AND $RUNS(c.run_id)
            AND NOT EXISTS (SELECT FROM call_result x WHERE x.tenant_id = c.tenant_id
                AND x.run_id = c.run_id AND x.step = c.step AND x.ordinal = c.ordinal
                AND x.attempt = c.attempt AND x.reason IN ('not_made', {_NOT_SENT}))
        GROUP BY c.tenant_id, c.run_id, c.step, c.ordinal, c.tool, c.attempt
        """,  # noqa: S608  # our own constants
    ),
    Invariant(
        name="choice_answers_its_call",
        says="A call that was answered as somebody had chosen is the one chosen for, says so, and cost nothing.",
        sql="""
        SELECT k.tenant_id, k.run_id, k.taken_step || ' call ' || k.taken_ordinal AS subject,
            'was answered as was chosen for ' || k.step || ' call ' || k.ordinal
                || ', and is another call, or passes for one that was made, or was charged' AS detail
        FROM chosen_call k JOIN call c ON c.tenant_id = k.tenant_id AND c.run_id = k.run_id
            AND c.step = k.taken_step AND c.ordinal = k.taken_ordinal
        WHERE k.choice IN ('reuse', 'skip') AND $RUNS(k.run_id) AND (c.digest <> k.digest
            OR c.served IS DISTINCT FROM k.made_at
            OR EXISTS (SELECT FROM ledger l WHERE l.tenant_id = k.tenant_id AND l.run_id = k.run_id
                AND l.step = k.taken_step AND l.ordinal = k.taken_ordinal))
        """,
    ),
    Invariant(
        name="undone_call_was_made",
        says="A call that is undone, or is to be, was really made, by a run that has ended or gone back since, and one "
        "that only undoes has it among its calls.",
        sql="""
        SELECT c.tenant_id, c.run_id, c.step || ' call ' || c.ordinal AS subject,
            'is undone by run ' || c.by_run || ', and was not made, or its run has not ended or gone back since, or '
            'that one has another thing to do' AS detail
        FROM undone_call c JOIN run b ON b.tenant_id = c.tenant_id AND b.id = c.by_run
        JOIN workflow_version v ON v.tenant_id = b.tenant_id AND v.id = b.version_id
        JOIN run r ON r.tenant_id = c.tenant_id AND r.id = c.run_id
        WHERE $RUNS(c.run_id) AND (v.workflow <> 'celeriac.undo' OR NOT EXISTS (
            SELECT FROM call m JOIN call_result x ON x.tenant_id = m.tenant_id AND x.run_id = m.run_id
                AND x.step = m.step AND x.ordinal = m.ordinal AND x.attempt = m.attempt
            WHERE m.tenant_id = c.tenant_id AND m.run_id = c.run_id AND m.step = c.step
                AND m.ordinal = c.ordinal AND m.served IS NULL AND x.reason IS NULL
                AND (r.finished_at IS NOT NULL OR EXISTS (SELECT FROM history h WHERE h.tenant_id = r.tenant_id
                    AND h.run_id = r.id AND h.kind = 'RollBack' AND h.at > m.started_at))))
        """,
    ),
    Invariant(
        name="call_is_undone_once",
        says="No call that a run has undone is given to another one to be undone.",
        sql="""
        SELECT u.tenant_id, u.run_id, u.step || ' call ' || u.ordinal AS subject,
            'is undone by run ' || u.by_run || ', and was by run ' || a.by_run AS detail
        FROM undone_call u JOIN undoing_call a ON a.tenant_id = u.tenant_id AND a.run_id = u.run_id
            AND a.step = u.step AND a.ordinal = u.ordinal AND a.by_run <> u.by_run
        WHERE $RUNS(u.run_id) AND EXISTS (SELECT FROM call_result d WHERE d.tenant_id = a.tenant_id
            AND d.run_id = a.by_run AND d.step = 'undo#1.' || a.place AND d.reason IS NULL)
        """,
    ),
    Invariant(
        name="reference_has_its_blob",
        says="Every blob that a run refers to is known, and was there when it was referred to.",
        sql="""
        SELECT f.tenant_id, f.run_id, f.sha256 AS subject, 'the run refers to it, and it has no row' AS detail
        FROM blob_reference f LEFT JOIN blob b ON b.tenant_id = f.tenant_id AND b.sha256 = f.sha256
        WHERE b.sha256 IS NULL AND $RUNS(f.run_id)
        """,
    ),
    Invariant(
        name="payload_refers_to_its_blobs",
        says="A run refers to every blob that its results, its calls and its variables name.",
        sql="""
        SELECT n.tenant_id, n.run_id, n.subject, 'names blob ' || n.sha256 || ', which the run does not refer to' AS detail
        FROM (
            SELECT p.tenant_id, p.run_id, p.id AS subject, p.body->'result'->>'sha256' AS sha256
            FROM payload p WHERE $RUNS(p.run_id) AND json_typeof(p.body->'result') = 'object'
            UNION ALL
            SELECT c.tenant_id, c.run_id, c.step || ' call ' || c.ordinal, c.value->>'$blob'
            FROM call_result c WHERE $RUNS(c.run_id) AND json_typeof(c.value) = 'object'
            UNION ALL
            SELECT r.tenant_id, r.id, 'variable ' || v.key, v.value->>'$blob'
            FROM run r CROSS JOIN json_each(r.variables) v
            WHERE $RUNS(r.id) AND json_typeof(v.value) = 'object') n
        WHERE n.sha256 IS NOT NULL AND NOT EXISTS (SELECT FROM blob_reference f
            WHERE f.tenant_id = n.tenant_id AND f.run_id = n.run_id AND f.sha256 = n.sha256)
        """,
    ),
    Invariant(
        name="purses_hold_what_they_were_given",
        says="What a limited account has handed out is in its purses, and no purse holds more than "
        "it was given.",
        sql=f"""
        SELECT a.tenant_id, a.run_id, a.key AS subject, 'has handed out ' || a.granted
                || '; its purses were given ' || h.granted || ', and hold ' || h.reserved
                || ' set aside and ' || h.spent || ' spent' AS detail
        FROM {_ACCOUNTS} a, LATERAL {_PURSES} h
        WHERE a.limited AND (h.granted <> a.granted OR h.over) AND $RUNS(a.run_id)
        """,  # noqa: S608
    ),
    Invariant(
        name="account_has_what_was_charged",
        says="What an account has spent is what the ledger charged to it.",
        sql=f"""
        SELECT a.tenant_id, a.run_id, a.key AS subject,
            'has spent ' || h.spent || ', the ledger says ' || a.amount AS detail
        FROM (
            SELECT a.tenant_id, a.key, a.run_id, count(l.part) AS entries,
                coalesce(sum((l.usage->>a.unit)::numeric), 0) AS amount
            FROM {_ACCOUNTS} a LEFT JOIN (ledger l JOIN run o
                    ON o.tenant_id = l.tenant_id AND o.id = l.run_id) ON l.tenant_id = a.tenant_id
                AND o.root = a.run_id AND a.period = ledger_period(a.span, l.charged_at)
            WHERE a.scope = 'run' AND $RUNS(a.run_id) GROUP BY a.tenant_id, a.key, a.run_id
            UNION ALL
            SELECT a.tenant_id, a.key, a.no_run, count(e.amount), coalesce(sum(e.amount), 0)
            FROM {_ACCOUNTS} a LEFT JOIN (
                SELECT a.tenant_id, a.key, (l.usage->>a.unit)::numeric AS amount
                FROM ledger l CROSS JOIN LATERAL (VALUES ('workflow', l.workflow),
                    ('user', l.user_id), ('tenant', l.tenant_id), ('rate', l.tool || ' ' || l.user_id)
                ) whose (scope, subject)
                CROSS JOIN (VALUES ('none'), ('minute'), ('hour'), ('day')) windows (span)
                JOIN account a ON a.tenant_id = l.tenant_id AND a.scope = whose.scope
                    AND a.subject = whose.subject AND a.span = windows.span
                    AND a.period = ledger_period(windows.span, l.charged_at)
            ) e ON e.tenant_id = a.tenant_id AND e.key = a.key
            WHERE a.scope <> 'run' AND $RUNS(a.no_run) GROUP BY a.tenant_id, a.key, a.no_run) a,
            LATERAL {_PURSES} h
        WHERE abs(h.spent - a.amount) > {_ROUNDED.format(count="a.entries")}
        """,  # noqa: S608
    ),
    Invariant(
        name="account_has_what_is_set_aside",
        says="What is set aside in an account is what the reservations in it come to.",
        sql=f"""
        SELECT a.tenant_id, a.run_id, a.key AS subject, h.reserved || ' is set aside in it, its '
                || coalesce(r.number, 0) || ' reservations come to ' || coalesce(r.amount, 0) AS detail
        FROM {_ACCOUNTS} a CROSS JOIN LATERAL {_PURSES} h LEFT JOIN (
            SELECT r.tenant_id, a.key, count(*) AS number,
                sum(coalesce((r.accounts->>a.key)::numeric, 0)) AS amount
            FROM reservation r CROSS JOIN LATERAL json_object_keys(r.accounts) taken (key)
            JOIN account a ON a.tenant_id = r.tenant_id AND a.key = taken.key
            GROUP BY r.tenant_id, a.key) r ON r.tenant_id = a.tenant_id AND r.key = a.key
        WHERE $RUNS(a.run_id) AND abs(h.reserved - coalesce(r.amount, 0))
            > {_ROUNDED.format(count="coalesce(r.number, 0)")}
        """,  # noqa: S608
    ),
    Invariant(
        name="nothing_is_owed",
        says="Nothing that is counted is less than nothing: no account, reservation or charge.",
        sql=f"""
        SELECT a.tenant_id, a.run_id, a.key AS subject, 'has handed out ' || a.granted || ', '
                || a.extra || ' beyond its limit, ' || a.beyond || ' unasked; ' || h.reserved
                || ' is set aside and ' || h.spent || ' spent' AS detail
        FROM {_ACCOUNTS} a, LATERAL {_PURSES} h
        WHERE least(a.granted, a.extra, a.beyond, h.reserved, h.spent) < -0.000001
            AND $RUNS(a.run_id)
        UNION ALL
        SELECT r.tenant_id, r.run_id, r.step || '/' || r.attempt || ' call ' || r.ordinal,
            u.value || ' ' || u.key || ' is set aside'
        FROM reservation r, json_each_text(r.amounts) u
        WHERE u.value::numeric < 0 AND $RUNS(r.run_id)
        UNION ALL
        SELECT l.tenant_id, l.run_id, l.step || '/' || l.attempt || ' call ' || l.ordinal,
            sum(u.value::numeric) || ' ' || u.key || ' was charged'
        FROM ledger l, json_each_text(l.usage) u WHERE $RUNS(l.run_id)
        GROUP BY l.tenant_id, l.run_id, l.step, l.attempt, l.ordinal, u.key
        HAVING sum(u.value::numeric) < 0
        """,  # noqa: S608
    ),
    Invariant(
        name="ended_run_has_nothing_set_aside",
        says="Nothing is set aside for a run that has ended.",
        sql="""
        SELECT r.tenant_id, r.run_id, r.step || '/' || r.attempt || ' call ' || r.ordinal AS subject,
            r.amounts || ' is set aside although the run is ' || o.status AS detail
        FROM reservation r JOIN run o ON o.tenant_id = r.tenant_id AND o.id = r.run_id
        WHERE o.status IN ($TERMINAL) AND $RUNS(r.run_id)
        """,
    ),
    Invariant(
        name="reservation_has_its_step",
        says="What is set aside is for an attempt that a live step is to make, makes, or has just made.",
        sql="""
        SELECT r.tenant_id, r.run_id, r.step || '/' || r.attempt || ' call ' || r.ordinal AS subject,
            r.amounts || ' is set aside, and the step ' || coalesce(
                'is ' || s.status || ' in attempt ' || s.attempt, 'is not live') AS detail
        FROM reservation r JOIN run o ON o.tenant_id = r.tenant_id AND o.id = r.run_id
        LEFT JOIN step s ON s.tenant_id = r.tenant_id AND s.run_id = r.run_id AND s.key = r.step
        WHERE o.status NOT IN ($TERMINAL) AND $RUNS(r.run_id) AND (s.key IS NULL
            OR s.attempt <> r.attempt OR s.status NOT IN ('ready', 'held', 'leased', 'reported'))
        """,
    ),
    Invariant(
        name="acts_are_chained",
        says="The acts of a tenant are numbered from 1 without a gap, and each is there.",
        sql="""
        SELECT s.tenant_id, NULL::uuid AS run_id, 'act ' || s.act_id AS subject,
            'position ' || s.position || CASE WHEN a.id IS NULL THEN ': the act is gone'
                ELSE ' follows position ' || s.before END AS detail
        FROM (SELECT *, coalesce(lag(position) OVER (PARTITION BY tenant_id ORDER BY position), 0)
            AS before FROM act_seal) s
        LEFT JOIN admin_act a ON a.tenant_id = s.tenant_id AND a.id = s.act_id
        WHERE a.id IS NULL OR s.position <> s.before + 1
        """,
    ),
    Invariant(
        name="acts_are_sealed",
        says="Every act that was committed before the last sealing is in the chain.",
        sql="""
        SELECT a.tenant_id, NULL::uuid AS run_id, 'act ' || a.id AS subject,
            a.action || ' by ' || a.by || ' was passed over' AS detail
        FROM admin_act a JOIN sealing z ON a.xid < z.horizon AND $COUNTED(z.horizon)
        WHERE NOT EXISTS (SELECT FROM act_seal s
            WHERE s.tenant_id = a.tenant_id AND s.act_id = a.id)
        """,
    ),
    Invariant(
        name="lines_are_anchored",
        says="Every line that was committed before the last sealing is covered by an anchor.",
        sql="""
        SELECT h.tenant_id, h.run_id, 'line ' || h.seq AS subject,
            'was passed over; the run is anchored up to line ' || coalesce(l.seq, 0) AS detail
        FROM (SELECT h.tenant_id, h.run_id, max(h.seq) AS seq FROM history h
            JOIN sealing z ON h.xid < z.horizon AND $COUNTED(z.horizon)
            WHERE $RUNS(h.run_id) GROUP BY h.tenant_id, h.run_id) h
        LEFT JOIN LATERAL (SELECT max(l.seq) AS seq FROM anchor_leaf l
            WHERE l.tenant_id = h.tenant_id AND l.subject = h.run_id) l ON true
        WHERE h.seq > coalesce(l.seq, 0)
        """,
    ),
    Invariant(
        name="anchors_are_chained",
        says="The anchors of a tenant are numbered from 1, each holds the hash of the one before, "
        "and has all of its leaves.",
        sql="""
        SELECT a.tenant_id, NULL::uuid AS run_id, 'anchor ' || a.number AS subject,
            CASE WHEN a.number <> a.before + 1 THEN 'follows anchor ' || a.before
                WHEN a.previous <> a.link THEN 'does not hold the hash of the one before'
                ELSE 'has ' || a.leaves || ' leaves of ' || a.count END AS detail
        FROM (SELECT a.*, coalesce(lag(number) OVER tenants, 0) AS before,
                coalesce(lag(hash) OVER tenants, '') AS link,
                (SELECT count(*) FROM anchor_leaf l
                    WHERE l.tenant_id = a.tenant_id AND l.number = a.number) AS leaves
            FROM anchor a WINDOW tenants AS (PARTITION BY tenant_id ORDER BY number)) a
        WHERE a.number <> a.before + 1 OR a.previous <> a.link OR a.leaves <> a.count
        """,
    ),
    Invariant(
        name="anchored_is_there",
        says="Whatever was anchored is there, as it was then.",
        sql="""
        SELECT l.tenant_id, l.subject AS run_id, 'line ' || l.seq AS subject,
            CASE WHEN h.seq IS NULL THEN 'is gone' ELSE 'was altered' END
                || ' since anchor ' || l.number AS detail
        FROM anchor_leaf l LEFT JOIN history h ON h.tenant_id = l.tenant_id
            AND h.run_id = l.subject AND h.seq = l.seq
        WHERE l.kind = 'run' AND h.hash IS DISTINCT FROM l.hash AND $RUNS(l.subject)
        UNION ALL
        SELECT l.tenant_id, NULL::uuid, 'act ' || l.subject, 'is not the one at position ' || l.seq
            || ' any more since anchor ' || l.number
        FROM anchor_leaf l LEFT JOIN act_seal s ON s.tenant_id = l.tenant_id AND s.position = l.seq
        WHERE l.kind = 'act' AND (s.hash IS DISTINCT FROM l.hash OR s.act_id <> l.subject)
        """,
    ),
    Invariant(
        name="anchor_has_its_copy",
        says="No anchor waits long for its copy outside of the database, once any has one.",
        sql="""
        SELECT p.tenant_id, NULL::uuid AS run_id, 'anchor ' || p.number AS subject,
            'was made ' || a.at || ' and is nowhere else; is CELERIAC_ANCHOR_URL reached?' AS detail
        FROM anchor_pending p JOIN anchor a ON a.tenant_id = p.tenant_id AND a.number = p.number
        WHERE a.at < clock_timestamp() - $UNSEALED AND EXISTS (SELECT FROM anchor c
            WHERE NOT EXISTS (SELECT FROM anchor_pending w
                WHERE w.tenant_id = c.tenant_id AND w.number = c.number))
        """,
    ),
    Invariant(
        name="sealing_is_due",
        says="The next sealing is not overdue: some coordinator sees to it.",
        sql="""
        SELECT '' AS tenant_id, NULL::uuid AS run_id, 'sealing' AS subject,
            'should have begun ' || z.next_at AS detail
        FROM sealing z WHERE z.next_at < clock_timestamp() - $UNSEALED
        """,
    ),
    Invariant(
        name="agent_has_what_it_uses",
        says="Every agent has a version, and what its newest calls has not been removed.",
        sql="""
        SELECT a.tenant_id, NULL::uuid AS run_id, 'agent ' || a.name AS subject,
            'has no version' AS detail
        FROM agent a WHERE NOT EXISTS (SELECT FROM agent_version v
            WHERE v.tenant_id = a.tenant_id AND v.name = a.name)
        UNION ALL
        SELECT n.tenant_id, NULL::uuid, 'agent ' || n.name, 'calls ' || c.called || ', which is gone'
        FROM (SELECT DISTINCT ON (v.tenant_id, v.name) v.* FROM agent_version v
                JOIN agent a ON a.tenant_id = v.tenant_id AND a.name = v.name AND NOT a.removed
                ORDER BY v.tenant_id, v.name, v.major DESC, v.minor DESC) n
            CROSS JOIN LATERAL (SELECT split_part(substr(u.value, 7), '@', 1) AS called
                FROM json_each_text(n.uses) u WHERE u.value LIKE 'agent:%') c
        WHERE NOT EXISTS (SELECT FROM agent o
            WHERE o.tenant_id = n.tenant_id AND o.name = c.called AND NOT o.removed)
        """,
    ),
    Invariant(
        name="row_has_its_run",
        says="Every row that belongs to a run belongs to one that exists, of the same tenant.",
        sql=" UNION ALL ".join(
            f"""
        (SELECT o.tenant_id, o.run_id, '{table}' AS subject, count(*) || ' rows of no run' AS detail
        FROM {table} o WHERE $RUNS(o.run_id) AND NOT EXISTS (SELECT FROM run r
            WHERE r.tenant_id = o.tenant_id AND r.id = o.run_id)
        GROUP BY o.tenant_id, o.run_id)"""  # noqa: S608  # our own constants
            for table in UNBOUND
        ),
    ),
)


def violations(
    connection: Connection, invariant: Invariant, runs: Sequence[str] | None = None
) -> Sequence[Row[Any]]:
    """The rows for which it does not hold, among the given runs or all, oldest run first."""
    sql = _looking_at(invariant.sql, runs)
    return _ask(
        connection,
        "SELECT tenant_id, coalesce(run_id::text, '') AS run_id, subject, detail"  # noqa: S608  # our own constants
        f" FROM ({sql}) broken"
        f" ORDER BY run_id, subject LIMIT {MOST_ROWS}",
        runs,
    ).all()


def sample(connection: Connection, size: int) -> tuple[str, ...]:
    """Some runs, drawn by chance."""
    statement = text("SELECT id::text FROM run ORDER BY random() LIMIT :size")
    return tuple(connection.execute(statement, {"size": size}).scalars())


def stored_blobs(
    connection: Connection, runs: Sequence[str] | None = None, *, most: int
) -> Sequence[Row[Any]]:
    """Some of the blobs that are said to be there, drawn by chance, each with a run of it."""
    sql = """
        SELECT f.tenant_id, min(f.run_id::text) AS run_id, f.sha256
        FROM blob_reference f JOIN blob b ON b.tenant_id = f.tenant_id AND b.sha256 = f.sha256
        WHERE b.state = 'stored' AND $RUNS(f.run_id)
        GROUP BY f.tenant_id, f.sha256 ORDER BY random() LIMIT
        """
    return _ask(connection, f"{_looking_at(sql, runs)} {most}", runs).all()


def heads(connection: Connection, runs: Sequence[str] | None = None) -> Iterator[Row[Any]]:
    """The heads of the given runs or of all, as turns write them, a few at a time."""
    sql = _looking_at(
        """
        SELECT r.tenant_id, r.id::text AS id, r.status, r.seq, r.head::text AS head,
            r.variables::text AS variables, r.reason, r.message, r.ended_step
        FROM run r WHERE $RUNS(r.id) AND (r.tenant_id, r.id) > (:tenant, CAST(:after AS uuid))
        ORDER BY r.tenant_id, r.id LIMIT :limit
        """,
        runs,
    )
    tenant, after = "", str(UUID(int=0))
    while rows := _ask(
        connection, sql, runs, tenant=tenant, after=after, limit=_HEADS_TOGETHER
    ).all():
        yield from rows
        tenant, after = rows[-1].tenant_id, rows[-1].id


def snapshots(connection: Connection, run: RunId) -> Sequence[Row[Any]]:
    """Every snapshot of a run, oldest first."""
    statement = text(
        "SELECT seq, state::text AS state FROM checkpoint"
        " WHERE tenant_id = :tenant AND run_id = CAST(:run AS uuid) ORDER BY seq"
    )
    return connection.execute(statement, {"tenant": run.tenant, "run": run.run}).all()


def take_time(connection: Connection) -> None:
    """Let the statements of this transaction run as long as they need."""
    connection.execute(text("SET LOCAL statement_timeout = 0"))


def _looking_at(sql: str, runs: Sequence[str] | None) -> str:
    sql = sql.replace("$TERMINAL", _TERMINAL)
    sql = sql.replace("$OVERDUE", f"interval '{OVERDUE_SECONDS} seconds'")
    sql = sql.replace("$UNSEALED", f"interval '{UNSEALED_SECONDS} seconds'")
    # A restored database's transactions are counted anew: until the next sealing nothing is known.
    sql = re.sub(
        r"\$COUNTED\(([\w.]+)\)",
        r"\1 <= pg_snapshot_xmax(pg_current_snapshot())::text::bigint",
        sql,
    )
    # What was recorded elsewhere was verified when it was brought in, and is not all here.
    condition = "({0} IN (SELECT id FROM run WHERE imported IS NOT NULL)) IS NOT TRUE"
    if runs is not None:
        condition = "({0} = ANY(CAST(:runs AS uuid[])) AND " + condition + ")"
    return re.sub(r"\$RUNS\(([\w.]+)\)", lambda match: condition.format(match[1]), sql)


def _ask(
    connection: Connection, sql: str, runs: Sequence[str] | None, **given: Any
) -> CursorResult[Any]:
    if runs is None or ":runs" not in sql:
        return connection.execute(text(sql), given)
    statement = text(sql).bindparams(bindparam("runs", type_=ARRAY(Text)))
    return connection.execute(statement, {**given, "runs": list(runs)})
