"""Every invariant, broken by hand where our own roles cannot, is found and named."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import InternalError

from celeriac.embedded.processes import wait_until
from engine import tools
from engine.blobs import Blobs
from engine.core.values import Json
from engine.platform import DatabaseRole, Platform
from engine.runs import (
    attempts,
    calls,
    catalogue,
    control,
    doctor,
    events,
    launch,
    logs,
    policies,
    sealing,
    turns,
    views,
)
from engine.runs.attempts import Failed, Leased, Succeeded
from engine.settings import Settings
from engine.store import invariants, reads, session
from engine.store.ids import RunId
from tests.integration.test_roles import ROWS, RUN
from tests.support import platforms, services
from tests.support.platforms import (
    LINE,
    TENANT,
    Sent,
    chain,
    finish,
    publish,
    register,
    submit,
    take,
)
from tests.support.services import Services

LOOP: dict[str, Json] = {
    "workflow": "loop",
    "nodes": {"a": {"uses": "noop"}},
    "edges": [{"from": "a", "to": "a", "label": "loop", "when": "$n < 6"}, "a -> end"],
}
RETRIED: dict[str, Json] = {
    "workflow": "retried",
    "nodes": {"a": {"uses": "noop", "retry": {"attempts": 2, "backoff": 3600}}},
    "edges": ["a -> end"],
}


def _of_one(name: str, /, **node: Json) -> dict[str, Json]:
    return {"workflow": name, "nodes": {"a": node}, "edges": ["a -> end"]}


#: A step that waits, for each kind of wait; `hour` is the child of `parent`.
WAITING: Mapping[str, dict[str, Json]] = {
    "hour": _of_one("hour", kind="timer", **{"for": "1h"}),
    "asked": _of_one("asked", kind="approval"),
    "awaiting": _of_one("awaiting", kind="event", name="never"),
    "paid": _of_one("paid", kind="event", name="paid"),
    "parent": _of_one("parent", kind="workflow", workflow="hour"),
    "vain": _of_one("vain", kind="workflow", workflow="hour"),
    "mapping": _of_one("mapping", kind="map", over=[1, 2, 3], do="noop", at_once=2),
    "locked": _of_one("locked", uses="noop", lock="door"),
    # Its first thread has left the step that asked for the lock, and waits for the second.
    "keeping": {
        "workflow": "keeping",
        "nodes": {
            "start": {"kind": "start"},
            "a": {"uses": "noop", "lock": {"name": "door", "until": "j", "of": "tenant"}},
            "b": {"uses": "noop"},
            "j": {"uses": "noop"},
        },
        "edges": [
            {"from": "start", "to": ["a", "b"], "type": "parallel"},
            {"from": ["a", "b"], "to": "j", "type": "join"},
            "j -> end",
        ],
    },
}


class World(NamedTuple):
    """A database with a run in every situation, by name."""

    database: str
    runs: Mapping[str, str]
    blobs: Blobs


class Plant(NamedTuple):
    """One violation: the situation it is planted in, how, and what of the run it is named by."""

    run: str
    sql: str
    subject: str = ""


_FUTURE = "clock_timestamp() + interval '1 day'"
_LONG_AGO = "clock_timestamp() - interval '61 seconds'"
_UNTAKEN = f"sends = 5, asked_at = {_LONG_AGO}"
#: No table of the world of roles, and appended to like the others.
_ANSWER = f"(tenant_id, run_id, step, attempt, said_by) VALUES ('acme', '{RUN}', 'a#1', 1, 'ada')"
_GONE = (
    "INSERT INTO agent (tenant_id, name, removed, changed_by) VALUES ('local', 'gone', true, 'a');"
)
_AN_ACT = "SELECT act_id FROM act_seal ORDER BY position LIMIT 1"
#: The accounts of the run that pays.
_OF_RUN = "'run cost\\_usd%' || :run"
#: As if the step had not waited for what its node says, but for people to let it go on.
_PARKED = "UPDATE history SET kind = 'Parked' WHERE run_id = :run AND kind = 'OpenWait'"
_CHILDLESS = "UPDATE run SET parent_attempt = 2 WHERE parent_run = :run"
_LINE = "INSERT INTO history SELECT tenant_id, run_id, seq + 1000, at, kind, format, body, payload_id, hash FROM history WHERE run_id = :run"

PLANTS: Mapping[str, list[Plant]] = {
    "ended_run_is_empty": [
        Plant(
            "done",
            f"INSERT INTO step {ROWS['step']}".replace(f"'{RUN}'", ":run").replace(
                "'acme'", "'local'"
            ),
            "a#1",
        ),
        Plant(
            "done",
            """UPDATE run SET head = '{"tokens": [{}], "scopes": {}}' WHERE id = :run""",
            "head",
        ),
        Plant(
            "cancelled",
            """UPDATE run SET head = '{"tokens": [], "scopes": {"": {"live": {"a": 1}}}}' WHERE id = :run""",
            "head",
        ),
    ],
    "live_run_waits_for_something": [
        Plant("queued", "DELETE FROM inbox WHERE run_id = :run"),
        Plant("ready", "DELETE FROM step WHERE run_id = :run"),
        Plant(
            "leased",
            "UPDATE step SET status = 'reported', begun = false, worker = NULL, lease_until = NULL WHERE run_id = :run",
        ),
        Plant("asked", "DELETE FROM wait WHERE run_id = :run"),
        Plant("awaiting", "DELETE FROM wait WHERE run_id = :run"),
        Plant("parent", _CHILDLESS),
        Plant("hour", "UPDATE step SET wake_at = NULL WHERE run_id = :run"),
    ],
    "waiting_step_can_be_ended": [
        Plant("asked", "DELETE FROM wait WHERE run_id = :run", "a#1"),
        Plant("awaiting", "DELETE FROM wait WHERE run_id = :run", "a#1"),
        Plant("hour", "UPDATE step SET wake_at = NULL WHERE run_id = :run", "a#1"),
        Plant("parent", _CHILDLESS, "a#1"),
        Plant(
            "parent",
            "UPDATE run SET status = 'completed', finished_at = clock_timestamp() WHERE parent_run = :run",
            "a#1",
        ),
        Plant(
            "mapping",
            """UPDATE run SET head = (head::jsonb || '{"maps": {}}')::json WHERE id = :run""",
            "a#1",
        ),
    ],
    "wait_has_its_step": [
        Plant("asked", "UPDATE step SET wait = 'event' WHERE run_id = :run", "a#1"),
        Plant("awaiting", "UPDATE wait SET kind = 'approval' WHERE run_id = :run", "a#1"),
        Plant(
            "asked",
            f"UPDATE step SET status = 'ready', wake_at = {_FUTURE} WHERE run_id = :run",
            "a#1",
        ),
    ],
    "orphan_is_let_go": [
        Plant("child", "UPDATE run SET parent_attempt = 2 WHERE id = :run", "run"),
        Plant(
            "child",
            "DELETE FROM step s USING run c WHERE c.id = :run AND s.run_id = c.parent_run",
            "run",
        ),
    ],
    "lock_is_held": [
        Plant("locked", "UPDATE step SET holds = '[]' WHERE run_id = :run"),
        Plant(
            "keeping",
            """UPDATE run SET head = (head::jsonb || '{"tokens": []}')::json WHERE id = :run""",
            "tenant:door",
        ),
        Plant(
            "done",
            "INSERT INTO lock (tenant_id, name, run_id) VALUES ('local', 'tenant:window', :run)",
            "tenant:window",
        ),
    ],
    "holder_has_its_lock": [
        Plant("locked", "DELETE FROM lock WHERE run_id = :run"),
        Plant("keeping", "DELETE FROM lock WHERE run_id = :run", "tenant:door"),
        Plant(
            "keeping",
            "UPDATE lock SET run_id = (SELECT id FROM run WHERE id <> :run LIMIT 1) WHERE run_id = :run",
            "tenant:door",
        ),
    ],
    "map_counts_its_items": [
        Plant("mapping", "DELETE FROM step WHERE run_id = :run AND item = 0", "a#1"),
        Plant("mapping", "DELETE FROM payload WHERE run_id = :run AND id = 'a#1.2/item'", "a#1"),
        Plant(
            "mapping",
            """UPDATE run SET head = (jsonb_set(head::jsonb, '{maps,a#1,succeeded}', '1'))::json WHERE id = :run""",
            "a#1",
        ),
        Plant(
            "mapping",
            """UPDATE run SET head = (head::jsonb || '{"maps": {}}')::json WHERE id = :run""",
            "a#1.0",
        ),
    ],
    "event_ends_its_wait": [
        Plant("paid", "DELETE FROM history WHERE run_id = :run AND kind = 'WaitEnded'", "a#1"),
        Plant("paid", "UPDATE event SET claimed_step = 'a#2' WHERE claimed_run = :run", "a#1"),
        Plant(
            "paid",
            "UPDATE event SET state = 'kept', claimed_run = NULL, claimed_step = NULL WHERE claimed_run = :run",
            "a#1",
        ),
    ],
    "run_is_what_was_submitted": [
        Plant(
            "done",
            "UPDATE run SET version_id = (SELECT id FROM workflow_version WHERE workflow = 'line') WHERE id = :run",
            "run",
        ),
        Plant("done", """UPDATE run SET pins = '{"function:noop": 7}' WHERE id = :run""", "run"),
        Plant("ready", "UPDATE run SET submitted_by = 'eve' WHERE id = :run", "run"),
        Plant("ready", "UPDATE run SET forked_run = id, forked_seq = 1 WHERE id = :run", "run"),
    ],
    "run_is_where_it_was_migrated_to": [
        Plant(
            "done",
            "INSERT INTO migration (tenant_id, run_id, seq, version_id, was, was_pins)"
            " SELECT tenant_id, id, 2, version_id, version_id, pins FROM run WHERE id = :run",
            "line 2",
        ),
    ],
    "reported_step_has_its_event": [
        Plant(
            "leased",
            "UPDATE step SET status = 'reported', begun = false, worker = NULL, lease_until = NULL WHERE run_id = :run",
            "a#1",
        ),
    ],
    "ready_step_is_sent": [
        Plant("ready", f"UPDATE step SET wake_at = {_LONG_AGO} WHERE run_id = :run", "a#1"),
        Plant("retrying", f"UPDATE step SET wake_at = {_LONG_AGO} WHERE run_id = :run", "a#1"),
    ],
    "ready_step_is_taken": [
        Plant("ready", f"UPDATE step SET {_UNTAKEN}, queue = 'gpu' WHERE run_id = :run", "a#1"),
        # Somebody is at work on every other queue.
        Plant(
            "ready",
            f"UPDATE step SET {_UNTAKEN} WHERE run_id = :run; "
            "UPDATE step SET queue = 'gpu' WHERE status = 'leased'; "
            f"UPDATE attempt SET started_at = {_LONG_AGO}",
            "a#1",
        ),
    ],
    "run_is_woken": [
        Plant("ready", f"UPDATE run SET wake_at = {_LONG_AGO} WHERE id = :run", "run"),
    ],
    "lease_is_swept": [
        Plant("leased", f"UPDATE step SET lease_until = {_LONG_AGO} WHERE run_id = :run", "a#1"),
    ],
    "event_is_taken": [
        Plant(
            "queued",
            f"UPDATE inbox SET received_at = {_LONG_AGO} WHERE run_id = :run",
            "RunSubmitted",
        ),
    ],
    "begun_lease_has_its_attempt": [
        Plant("leased", "DELETE FROM attempt WHERE run_id = :run", "a#1"),
        Plant("leased", "UPDATE attempt SET fence = fence + 1 WHERE run_id = :run", "a#1"),
    ],
    "result_has_its_attempt": [
        Plant("done", "DELETE FROM attempt WHERE run_id = :run AND step = 'a#2'", "a#2/1"),
        Plant(
            "done",
            "UPDATE attempt SET fence = fence + 1 WHERE run_id = :run AND step = 'a#2'",
            "a#2/1",
        ),
        Plant("retrying", "DELETE FROM attempt WHERE run_id = :run", "a#1/1"),
    ],
    "result_is_accepted_once": [
        Plant(
            "done",
            "DROP INDEX result_accepted_once; INSERT INTO result SELECT tenant_id, run_id, step, 2, 2, outcome FROM result WHERE run_id = :run AND step = 'a#2'",
            "a#2",
        ),
    ],
    "settled_step_has_its_result": [
        Plant("done", "DELETE FROM result WHERE run_id = :run AND step = 'a#3'", "a#3"),
        Plant("done", "UPDATE result SET fence = 7 WHERE run_id = :run AND step = 'a#3'", "a#3"),
        Plant("paid", "DELETE FROM result WHERE run_id = :run", "a#1"),
        Plant("paid", "UPDATE result SET attempt = 2 WHERE run_id = :run", "a#1"),
        Plant("vain", "DELETE FROM result WHERE run_id = :run", "a#1"),
        Plant(
            "done",
            "UPDATE result SET outcome = 'failed', reason = 'error' WHERE run_id = :run AND step = 'a#3'",
            "a#3",
        ),
    ],
    "permit_has_its_verdict": [Plant("paid", _PARKED, "a#1")],
    "step_settles_once": [
        Plant("done", f"{_LINE} AND kind = 'TakeEdges' AND body->>'step' = 'a#2'", "a#2"),
        Plant("done", f"{_LINE} AND kind = 'AttemptSucceeded' AND body->>'step' = 'a#2'", "a#2"),
        Plant("paid", f"{_LINE} AND kind = 'WaitEnded'", "a#1"),
    ],
    "nothing_follows_the_end": [
        Plant("cancelled", f"{_LINE} AND kind = 'RequestStart'", "line 10"),
        Plant("done", f"{_LINE} AND kind = 'FinishRun'", "line 10"),
    ],
    "history_is_gapless": [
        Plant("done", "DELETE FROM history WHERE run_id = :run AND seq = 1", "history"),
        Plant("done", "DELETE FROM history WHERE run_id = :run AND seq = 5", "history"),
        Plant(
            "done",
            "DELETE FROM history h USING run r WHERE h.run_id = :run AND r.id = h.run_id AND h.seq = r.seq",
            "history",
        ),
        Plant("done", "DELETE FROM history WHERE run_id = :run", "history"),
        Plant("done", f"{_LINE} AND seq = 3", "history"),
        Plant("queued", "UPDATE run SET seq = 1 WHERE id = :run", "history"),
    ],
    "history_is_chained": [
        Plant("done", "UPDATE history SET body = '{}' WHERE run_id = :run AND seq = 4", "line 4"),
        Plant(
            "done",
            "UPDATE history SET body = (body::text || ' ')::json WHERE run_id = :run AND seq = 4",
            "line 4",
        ),
        Plant(
            "done",
            "UPDATE history SET at = at + interval '1 microsecond' WHERE run_id = :run AND seq = 4",
            "line 4",
        ),
        Plant(
            "done",
            "UPDATE history SET kind = 'Refused' WHERE run_id = :run AND kind = 'Admitted'",
            "line",
        ),
        Plant("done", "UPDATE history SET format = 2 WHERE run_id = :run AND seq = 1", "line 1"),
        Plant(
            "done", "UPDATE history SET payload_id = NULL WHERE run_id = :run AND seq = 1", "line 1"
        ),
        Plant(
            "done",
            "UPDATE history SET hash = sha256(hash) WHERE run_id = :run AND seq = 2",
            "line 2",
        ),
        Plant("done", "DELETE FROM history WHERE run_id = :run AND seq = 5", "line 6"),
    ],
    "head_holds_the_last_hash": [
        Plant("done", "UPDATE run SET hash = sha256(hash) WHERE id = :run", "run"),
        Plant("queued", "UPDATE run SET hash = 'x' WHERE id = :run", "run"),
    ],
    "payload_matches_its_line": [
        Plant(
            "done",
            """UPDATE payload SET body = '{"inputs": {"n": 5}}' WHERE run_id = :run AND id = 'input'""",
            "input",
        ),
        Plant(
            "done", "UPDATE payload SET salt = 'x' WHERE run_id = :run AND id = 'a#2/1'", "a#2/1"
        ),
        Plant("done", "DELETE FROM payload WHERE run_id = :run AND id = 'a#2/1'", "a#2/1"),
    ],
    "snapshot_has_its_line": [
        Plant("done", "DELETE FROM checkpoint WHERE run_id = :run", "snapshot"),
        Plant(
            "queued",
            "INSERT INTO checkpoint (tenant_id, run_id, seq, state) VALUES ('local', :run, 1, '{}')",
            "snapshot",
        ),
    ],
    "call_has_its_attempt": [
        Plant("done", "DELETE FROM attempt WHERE run_id = :run AND step = 'a#1'", "a#1 call 1"),
        Plant("done", "DELETE FROM call WHERE run_id = :run", "a#1 call 1"),
    ],
    "effect_happens_once": [
        Plant(
            "done",
            "UPDATE call SET effect = 'at_most_once' WHERE run_id = :run; INSERT INTO call SELECT tenant_id, run_id, step, ordinal, 2, tool, version, effect, digest, arguments FROM call WHERE run_id = :run",
            "a#1 call 1",
        ),
        Plant(
            "done",
            "UPDATE call SET effect = 'at_most_once' WHERE run_id = :run; DELETE FROM call_result WHERE run_id = :run; INSERT INTO call SELECT tenant_id, run_id, step, ordinal, 2, tool, version, effect, digest, arguments FROM call WHERE run_id = :run",
            "a#1 call 1",
        ),
    ],
    "choice_answers_its_call": [
        Plant(
            "done",
            "INSERT INTO chosen_call (tenant_id, run_id, since, step, ordinal, node, digest, choice, made_at, taken_step, taken_ordinal) SELECT tenant_id, run_id, 0, 'a#9', 1, 'a', 'other', 'skip', now(), 'a#1', 1 FROM call WHERE run_id = :run",
            "a#1 call 1",
        ),
        Plant(
            "done",
            "INSERT INTO chosen_call (tenant_id, run_id, since, step, ordinal, node, digest, choice, made_at, taken_step, taken_ordinal) SELECT tenant_id, run_id, 0, 'a#9', 1, 'a', digest, 'skip', now(), 'a#1', 1 FROM call WHERE run_id = :run; DELETE FROM ledger WHERE run_id = :run AND ordinal = 1",
            "a#1 call 1",
        ),
    ],
    "undone_call_was_made": [
        Plant(
            "done",
            "INSERT INTO undone_call SELECT tenant_id, run_id, 'a#1', 1, run_id, 0 FROM call WHERE run_id = :run",
            "a#1 call 1",
        ),
    ],
    "call_is_undone_once": [
        Plant(
            "done",
            "INSERT INTO call (tenant_id, run_id, step, ordinal, attempt, tool, version, effect, digest, arguments) SELECT tenant_id, run_id, 'undo#1.0', 1, 1, tool, version, 'at_most_once', digest, arguments FROM call WHERE run_id = :run AND step = 'a#1';"
            "INSERT INTO call_result (tenant_id, run_id, step, ordinal, attempt, value) VALUES ('local', :run, 'undo#1.0', 1, 1, '1');"
            "SET LOCAL session_replication_role = replica;"
            "INSERT INTO undone_call VALUES ('local', :run, 'a#1', 1, gen_random_uuid(), 0);"
            "INSERT INTO undoing_call VALUES ('local', :run, 0, :run, 'a#1', 1)",
            "a#1 call 1",
        ),
    ],
    "row_has_its_run": [
        Plant(
            "nobody",
            f"INSERT INTO {table} {ROWS.get(table, _ANSWER)}".replace(f"'{RUN}'", ":run").replace(
                "'acme'", "'local'"
            ),
            table,
        )
        for table in invariants.UNBOUND
    ]
    + [
        Plant(
            "queued",
            "INSERT INTO tenant (id, name) VALUES ('other', 'Other'); UPDATE inbox SET tenant_id = 'other' WHERE run_id = :run",
            "inbox",
        ),
    ],
    "reference_has_its_blob": [Plant("large", "DELETE FROM blob WHERE size > 1000000")],
    "payload_refers_to_its_blobs": [
        Plant("large", "DELETE FROM blob_reference WHERE run_id = :run", subject)
        for subject in ("a#1/1", "a#1 call 1", "variable big")
    ],
    doctor.FOLD: [
        Plant("done", """UPDATE run SET variables = '{"n": 99}' WHERE id = :run""", "variables"),
        Plant("done", "UPDATE run SET status = 'failed' WHERE id = :run", "status"),
        Plant("done", "UPDATE run SET reason = 'magic' WHERE id = :run", "ending"),
        Plant(
            "ready",
            """UPDATE run SET head = (jsonb_set(head::jsonb, '{visited}', '7'))::json WHERE id = :run""",
            "visited",
        ),
        Plant("ready", "UPDATE step SET attempt = 2 WHERE run_id = :run", "a#1"),
        Plant("ready", "DELETE FROM step WHERE run_id = :run", "a#1"),
        Plant("retrying", "UPDATE step SET errors = 0 WHERE run_id = :run", "a#1"),
        Plant("retrying", "UPDATE step SET status = 'ready' WHERE run_id = :run", "a#1"),
        Plant("asked", "UPDATE step SET wait = 'event' WHERE run_id = :run", "a#1"),
        Plant("mapping", "DELETE FROM step WHERE run_id = :run AND item = 0", "a#1.0"),
        Plant("locked", "UPDATE step SET holds = '[]' WHERE run_id = :run", "a#1"),
        Plant("done", "DELETE FROM history WHERE run_id = :run AND seq > 5", "history"),
        Plant(
            "done",
            "UPDATE history SET kind = 'Nonsense' WHERE run_id = :run AND seq = 1",
            "history",
        ),
    ],
    "purses_hold_what_they_were_given": [
        Plant(
            "paying",
            f"UPDATE purse SET reserved = reserved + 5 WHERE account LIKE {_OF_RUN}",
            "run cost_usd",
        ),
        Plant("paying", f"UPDATE account SET granted = granted + 5 WHERE key LIKE {_OF_RUN}"),
        Plant("tenant", "UPDATE purse SET granted = granted - 2 WHERE account LIKE 'user cost%'"),
    ],
    "account_has_what_was_charged": [
        Plant(
            "paying",
            f"UPDATE purse SET spent = spent + 0.01, granted = granted + 1 WHERE account LIKE {_OF_RUN}",
            "run cost_usd",
        ),
        Plant(
            "tenant",
            "UPDATE purse SET spent = spent - 0.01 WHERE account LIKE 'user cost%'",
            "user",
        ),
        Plant("tenant", "DELETE FROM purse WHERE account LIKE 'rate%'", "rate"),
        Plant("tenant", "UPDATE ledger SET user_id = 'eve'", "user"),
    ],
    "account_has_what_is_set_aside": [
        Plant(
            "paying",
            f"UPDATE purse SET reserved = reserved - 0.01 WHERE account LIKE {_OF_RUN}",
            "run cost_usd",
        ),
        Plant("tenant", "UPDATE purse SET reserved = 9 WHERE account LIKE 'rate%'", "rate"),
    ],
    "nothing_is_owed": [
        Plant(
            "paying", f"UPDATE purse SET spent = -1 WHERE account LIKE {_OF_RUN}", "run cost_usd"
        ),
        Plant("tenant", "UPDATE account SET extra = -1 WHERE key LIKE 'user cost%'", "user cost"),
        Plant(
            "paying",
            """UPDATE reservation SET amounts = '{"cost_usd": -1}' WHERE run_id = :run""",
            "b#1/1 call 0",
        ),
        Plant(
            "paying",
            """UPDATE ledger SET usage = '{"cost_usd": -1}' WHERE run_id = :run AND ordinal = 1""",
            "a#1/1 call 1",
        ),
    ],
    "ended_run_has_nothing_set_aside": [
        Plant(
            "paying",
            "UPDATE run SET status = 'cancelled', finished_at = now() WHERE id = :run",
            "b#1/1 call 0",
        ),
    ],
    "reservation_has_its_step": [
        Plant("paying", "DELETE FROM step WHERE run_id = :run", "b#1/1 call 0"),
        Plant("paying", "UPDATE step SET attempt = 2 WHERE run_id = :run", "b#1/1 call 0"),
        Plant(
            "paying",
            "UPDATE reservation SET step = 'a#1' WHERE run_id = :run",
            "a#1/1 call 0",
        ),
    ],
    "acts_are_chained": [
        Plant("tenant", "DELETE FROM act_seal WHERE position = 1", "act"),
        Plant("tenant", f"DELETE FROM admin_act WHERE id = ({_AN_ACT})", "act"),
    ],
    "acts_are_sealed": [
        Plant("tenant", f"DELETE FROM act_seal WHERE act_id = ({_AN_ACT})", "act"),
        Plant(
            "tenant",
            "INSERT INTO admin_act (tenant_id, id, by, action, subject, xid)"
            " VALUES ('local', gen_random_uuid(), 'eve', 'thing.do', 'thing:1', 1)",
            "act",
        ),
    ],
    "lines_are_anchored": [
        Plant("done", "DELETE FROM anchor_leaf WHERE subject = :run", "line"),
        Plant(
            "ready",
            "INSERT INTO history SELECT tenant_id, run_id, seq + 1000, at, kind, format, body,"
            " payload_id, hash, xid FROM history WHERE run_id = :run",
            "line 100",
        ),
    ],
    "anchors_are_chained": [
        Plant("tenant", "UPDATE anchor SET previous = 'x' WHERE number = 1", "anchor 1"),
        Plant("tenant", "DELETE FROM anchor_leaf WHERE place = 1 AND number = 1", "anchor 1"),
        Plant(
            "tenant",
            "DELETE FROM anchor_leaf WHERE number = 1; DELETE FROM anchor_pending WHERE number = 1;"
            " DELETE FROM anchor WHERE number = 1",
            "anchor 2",
        ),
    ],
    "anchored_is_there": [
        Plant("done", "DELETE FROM history WHERE run_id = :run", "line"),
        Plant("cancelled", "UPDATE history SET hash = 'x' WHERE run_id = :run", "line"),
        Plant("tenant", "UPDATE act_seal SET hash = 'x' WHERE position = 1", "act"),
    ],
    "anchor_has_its_copy": [
        Plant(
            "tenant",
            "UPDATE anchor SET at = at - interval '1 hour';"
            " DELETE FROM anchor_pending WHERE number = 1",
            "anchor 2",
        ),
    ],
    "agent_has_what_it_uses": [
        Plant(
            "tenant",
            "INSERT INTO agent (tenant_id, name, changed_by) VALUES ('local', 'bare', 'ada')",
            "agent bare",
        ),
        *(
            Plant(
                "tenant",
                "INSERT INTO agent (tenant_id, name, changed_by) VALUES ('local', 'w', 'ada');"
                f"{others} INSERT INTO agent_version (tenant_id, name, major, minor, definition,"
                " uses, version_id, checksum, created_by) SELECT 'local', 'w', 1, 0, '{}',"
                f" '{{\"a\"\\: \"agent\\:gone@1.0\"}}', id, '{'ab' * 32}', 'ada'"
                " FROM workflow_version WHERE tenant_id = 'local' LIMIT 1",
                "agent w",
            )
            for others in (
                "",
                _GONE,
            )
        ),
    ],
    "sealing_is_due": [
        Plant("tenant", "UPDATE sealing SET next_at = now() - interval '1 hour'", "sealing"),
    ],
    doctor.SNAPSHOT: [
        Plant(
            "done",
            """UPDATE checkpoint SET state = (jsonb_set(state::jsonb, '{visited}', '7'))::json WHERE run_id = :run""",
            "line",
        ),
    ],
}


@pytest.fixture(scope="module")
def world(shared_services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    url = services.create_database(shared_services)
    home = tmp_path_factory.mktemp("home")
    number = services.take_valkey_database(shared_services)
    settings = Settings(
        database_url=url,
        broker_url=shared_services.valkey.broker_url(number),
        redis_url=shared_services.valkey.redis_url(number),
        blob_url=(Path(home) / "blobs").as_uri(),
        blob_keys=platforms.RING,
        home=Path(home),
    )
    with (
        platforms.platform(settings) as built,
        platforms.platform(settings, DatabaseRole.WORKER) as worker,
    ):
        main = dataclasses.replace(built, broker=Sent(app=built.broker.app))
        runs = _runs(main, worker)
    owner = session.connect(url)
    with session.transaction(owner) as connection:
        # However long the tests take, nothing becomes overdue by itself.
        for table, column in (
            ("step", "wake_at"),
            ("step", "lease_until"),
            ("inbox", "received_at"),
        ):
            connection.execute(
                text(f"UPDATE {table} SET {column} = {_FUTURE} WHERE {column} IS NOT NULL")
            )
    owner.dispose()
    yield World(url, runs, Blobs(settings.blob_url, settings.blob_keys))
    services.drop_database(shared_services, url)


def _is_sealed(main: Platform) -> bool:
    """Whether all that is there is sealed: transactions of other tests may be under way beside it."""
    sealing.seal(main)
    late = "SELECT FROM history h, sealing s WHERE h.xid >= s.horizon LIMIT 1"
    return not platforms.sql(main, late)


_FETCH = "def fetch(q):\n    return q"


def _call(
    worker: Platform,
    lease: Leased,
    value: Json,
    *,
    tool: str = "lookup",
    usage: Mapping[str, float] | None = None,
) -> None:
    given: Json = {"args": [], "kwargs": {"q": 1}}
    call = calls.authorise(worker, lease, 1, tool, given)
    assert isinstance(call, calls.Authorised)
    calls.settle(worker, lease, call, calls.Answer(value=value, usage=usage or {}))


def _runs(main: Platform, worker: Platform) -> Mapping[str, str]:
    """A run in every situation."""
    register(main, "noop")
    register(main, "lookup", namespace="tool")
    line, loop, retried = (publish(main, document) for document in (dict(LINE), LOOP, RETRIED))

    done = submit(main, loop, n=0)
    first = take(worker, done, "a#1")
    _call(worker, first, [1])
    log = logs.Log(worker, first)
    log.add("stdout", "hello")
    log.flush()
    finish(main, worker, first, n=1)
    for lap in range(2, 7):
        finish(main, worker, take(worker, done, f"a#{lap}"), n=lap, text=f"{lap}" * 6_000)

    sealing.seal(main)
    cancelled = submit(main, line)
    take(worker, cancelled, "a#1")
    control.cancel(main, cancelled, by="ada")
    failed = submit(main, line)
    finish(main, worker, take(worker, failed, "a#1"), Failed(reason="error", message="boom"))
    retrying = submit(main, retried)
    finish(main, worker, take(worker, retrying, "a#1"), Failed(reason="error", message="boom"))
    leased = submit(main, line)
    take(worker, leased, "a#1")
    ready = submit(main, line)
    large = submit(main, line, big="x" * 300_000)
    holding = take(worker, large, "a#1")
    _call(worker, holding, "y" * 1_100_000)
    outcome = attempts.moved_out(worker, holding, Succeeded(result="z" * 1_100_000))
    assert finish(main, worker, holding, outcome)
    queued = launch.submit(main, TENANT, line, {}, by="ada").run
    assert wait_until(lambda: _is_sealed(main), seconds=60)
    assert [views.status(main, run).status for run in (done, cancelled, failed, retrying)] == [
        "completed",
        "cancelled",
        "failed",
        "running",
    ]
    return {
        "done": done.run,
        "cancelled": cancelled.run,
        "failed": failed.run,
        "retrying": retrying.run,
        "leased": leased.run,
        "ready": ready.run,
        "large": large.run,
        "queued": queued.run,
        "nobody": RUN,
        "tenant": "",
        **_waiting(main, worker),
        "paying": _paying(main, worker),
    }


def _waiting(main: Platform, worker: Platform) -> Mapping[str, str]:
    """A run for each thing that a step may wait for."""
    versions = {name: publish(main, document) for name, document in WAITING.items()}
    runs = {name: submit(main, version) for name, version in versions.items()}
    finish(main, worker, take(worker, runs["keeping"], "a#1"))
    (child, ended) = (_child(main, runs[name]) for name in ("parent", "vain"))
    control.cancel(main, RunId(TENANT, ended), by="ada")
    _, claimed = events.send(main, TENANT, "paid", {"amount": 3}, by="ada")
    turns.take_turns(main, claimed)
    assert {name: views.status(main, run).status for name, run in runs.items()} == {
        **dict.fromkeys(runs, "running"),
        "paid": "completed",
        "vain": "failed",
    }
    return {"child": child, "ended": ended, **{name: run.run for name, run in runs.items()}}


def _paying(main: Platform, worker: Platform) -> str:
    """A run under budgets: one step and its call are charged, what the next may use is set aside."""
    spent: Json = {"metric": "cost_usd", "limit": 9}
    budgets: Json = [
        {"name": "run", "scope": "run", **spent},
        {"name": "user", "scope": "user", "window": "hour", **spent},
    ]
    policies.apply(main, TENANT, json.dumps({"policy": "p", "budgets": budgets}), by="ada")
    terms = tools.terms({"cost_estimate_usd": 0.1, "rate_per_minute": 9})
    catalogue.register(main, TENANT, "tool", "fetch", _FETCH, terms=terms, by="ada")
    node: Json = {"uses": "noop", "estimate": {"cost_usd": 0.2}}
    run = submit(main, publish(main, {**chain(a=node, b=node), "workflow": "paying"}))
    lease = take(worker, run, "a#1")
    _call(worker, lease, 1, tool="fetch", usage={"cost_usd": 0.1})
    own = {"cost_usd": 0.25, "seconds": 1.0}
    assert finish(main, worker, lease, Succeeded(own=own, usage=own))
    return run.run


def _child(main: Platform, parent: RunId) -> str:
    (row,) = platforms.sql(main, "SELECT id::text FROM run WHERE parent_run = :run", run=parent.run)
    turns.take_turns(main, [RunId(TENANT, row.id)])
    return str(row.id)


@pytest.fixture
def copied(shared_services: Services, world: World) -> Iterator[Callable[..., Engine]]:
    """A copy of the world for one test; engines on it by role."""
    name = f"copy_{uuid4().hex[:12]}"
    template = world.database.partition("?")[0].rpartition("/")[2]
    services._execute(shared_services.cluster, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    url = shared_services.cluster.url(name)
    made: list[Engine] = []

    def connect(role: str | None = None) -> Engine:
        made.append(session.connect(url, role=role))
        return made[-1]

    yield connect
    for engine in made:
        engine.dispose()
    services.drop_database(shared_services, url)


@pytest.mark.parametrize(
    ("invariant", "plant"),
    [
        pytest.param(name, plant, id=f"{name}-{plant.run}-{number}")
        for name, plants in PLANTS.items()
        for number, plant in enumerate(plants)
    ],
)
def test_a_violation_is_found_and_named(
    copied: Callable[..., Engine],
    world: World,
    invariant: str,
    plant: Plant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, run = copied(), world.runs[plant.run]
    # Each is asked about for itself: what the others say of the same harm is not looked at.
    asked = [one for one in invariants.INVARIANTS if one.name == invariant]
    monkeypatch.setattr(invariants, "INVARIANTS", asked)
    with session.transaction(engine) as connection:
        for statement in plant.sql.split(";"):
            values = {"run": run} if ":run" in statement else {}
            done = connection.execute(text(statement.replace(":run", "CAST(:run AS uuid)")), values)
            assert done.rowcount, statement
    found = [f for f in doctor.examine(engine) if f.invariant == invariant]
    assert {finding.run for finding in found} == {run}
    assert any(finding.subject.startswith(plant.subject) for finding in found), found
    assert all(finding.detail for finding in found)


def test_nothing_is_found_where_nothing_is_wrong(copied: Callable[..., Engine]) -> None:
    assert doctor.examine(copied()) == ()


def test_a_stored_blob_without_its_object_is_named(
    copied: Callable[..., Engine], world: World
) -> None:
    assert doctor.examine(copied(), world.blobs) == ()
    with session.transaction(copied()) as connection:
        lost = str(connection.execute(text("SELECT min(sha256) FROM blob")).scalar_one())
    data = world.blobs.get(TENANT, lost)
    world.blobs.delete(TENANT, lost)
    try:
        (found,) = doctor.examine(copied(), world.blobs)
    finally:
        world.blobs.put(TENANT, lost, data)
    assert (found.invariant, found.run, found.subject) == (
        doctor.OBJECT,
        world.runs["large"],
        lost,
    )


@pytest.mark.parametrize(
    ("run", "line", "verdict"),
    [
        ("paid", "WaitEnded", ('"approve"', "true")),
        ("paid", "WaitEnded", ('"deny"', "false")),
        ("vain", "WaitFailed", ("null", "NULL")),
    ],
)
def test_a_permit_has_a_verdict_and_no_result_and_a_step_many_permits(
    copied: Callable[..., Engine], world: World, run: str, line: str, verdict: tuple[str, str]
) -> None:
    """The lines of a step that waits are made those of one that was parked, twice."""
    engine, (choice, approved) = copied(), verdict
    said = f"""UPDATE history SET body = jsonb_set(body::jsonb, '{{choice}}', '{choice}')::json
        WHERE run_id = :run AND kind = '{line}'"""
    judged = f"""INSERT INTO verdict (tenant_id, run_id, step, attempt, by, choice, approved)
        VALUES ('local', :run, 'a#1', 1, 'user:bob', '{choice}'::json #>> '{{}}', {approved})"""
    again = f"{_LINE} AND kind = '{line}'"
    statements = [_PARKED, "DELETE FROM result WHERE run_id = :run", said, again, judged]
    with session.transaction(engine) as connection:
        for statement in statements:
            bound = text(statement.replace(":run", "CAST(:run AS uuid)"))
            assert connection.execute(bound, {"run": world.runs[run]}).rowcount, statement
    ours = {"settled_step_has_its_result", "step_settles_once", "permit_has_its_verdict"}
    assert [found for found in doctor.examine(engine) if found.invariant in ours] == []


def test_the_doctor_needs_no_more_than_the_coordinators_role(copied: Callable[..., Engine]) -> None:
    assert doctor.examine(copied("celeriac_control")) == ()


def test_every_invariant_has_its_violation_here() -> None:
    names = [invariant.name for invariant in invariants.INVARIANTS]
    assert sorted(PLANTS) == sorted([*names, doctor.FOLD, doctor.SNAPSHOT])
    assert all(PLANTS.values())


def test_a_stuck_runs_events_and_its_wake_may_wait(
    copied: Callable[..., Engine], world: World
) -> None:
    engine = copied()
    with session.transaction(engine) as connection:
        values = {"run": world.runs["queued"]}
        connection.execute(text(f"UPDATE inbox SET received_at = {_LONG_AGO}"))
        connection.execute(
            text(f"UPDATE run SET wake_at = {_LONG_AGO} WHERE id = :run"),
            values,
        )
        connection.execute(
            text(f"UPDATE run SET stuck_error = 'boom', stuck_until = {_FUTURE} WHERE id = :run"),
            values,
        )
    assert doctor.examine(engine) == ()


@pytest.mark.parametrize(
    "going",
    [
        f"UPDATE attempt SET started_at = {_LONG_AGO}",
        """UPDATE step SET queue = 'gpu' WHERE status = 'leased';
        UPDATE attempt SET started_at = clock_timestamp()""",
    ],
    ids=["a step that is carried out", "one that was begun just now"],
)
def test_a_step_may_wait_for_long_behind_others_of_its_queue(
    copied: Callable[..., Engine], world: World, going: str
) -> None:
    engine = copied()
    with session.transaction(engine) as connection:
        connection.execute(
            text(f"UPDATE step SET {_UNTAKEN} WHERE run_id = :run"), {"run": world.runs["ready"]}
        )
        connection.execute(text(going))
    assert [f for f in doctor.examine(engine) if f.invariant == "ready_step_is_taken"] == []


def test_a_run_may_wait_for_nothing_but_its_own_wake(
    copied: Callable[..., Engine], world: World
) -> None:
    engine = copied()
    with session.transaction(engine) as connection:
        values = {"run": world.runs["queued"]}
        connection.execute(text("DELETE FROM inbox WHERE run_id = :run"), values)
        connection.execute(text(f"UPDATE run SET wake_at = {_FUTURE} WHERE id = :run"), values)
    assert doctor.examine(engine) == ()


def test_a_sample_looks_at_no_more_runs_than_were_asked_for(
    copied: Callable[..., Engine], world: World
) -> None:
    engine = copied()
    with session.transaction(engine) as connection:
        connection.execute(text("UPDATE run SET hash = 'x'"))
        connection.execute(text("""UPDATE run SET variables = '{"n": 99}'"""))
    assert doctor.examine(engine, sample=0) == ()
    assert len({finding.run for finding in doctor.examine(engine, sample=2)}) == 2
    everything = {finding.run for finding in doctor.examine(engine)}
    assert everything == set(world.runs.values()) - {RUN, ""}
    assert {finding.run for finding in doctor.examine(engine, sample=1000)} == everything


def test_whoever_examines_can_write_nothing(copied: Callable[..., Engine]) -> None:
    with (
        reads.reading(copied()) as connection,
        pytest.raises(InternalError, match="read-only transaction"),
    ):
        connection.execute(text("DELETE FROM step"))
