"""What each of our database roles may do, and what the tables refuse to anybody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors

RUN = "01975c3e-0000-7000-8000-000000000001"

#: A row for every table, in an order that satisfies the foreign keys.
ROWS: Mapping[str, str] = {
    "tenant": "(id, name) VALUES ('acme', 'Acme')",
    "principal": "(tenant_id, id, created_by) VALUES ('acme', 'ada', 'me')",
    "api_key": "(tenant_id, id, name, hash, user_id, created_by)"
    " VALUES ('acme', 'k', 'key', 'x', 'ada', 'me')",
    "refused_request": "(tenant_id, credential, route, reason, minute, count)"
    " VALUES ('acme', 'key:k', 'GET /', 'secret', now(), 1)",
    "unknown_request": "(reason, hour, count) VALUES ('none', now(), 1)",
    "admin_act": f"(tenant_id, id, by, action, subject) VALUES ('acme', '{RUN}', 'me', 'key.create', 'key:k')",
    "idempotency": f"(tenant_id, key, digest, run_id) VALUES ('acme', 'k', 'd', '{RUN}')",
    "function": "(tenant_id, namespace, name, version, source, checksum, created_by)"
    " VALUES ('acme', 'function', 'f', 1, 'x', 'c', 'me')",
    "tool": "(tenant_id, name, status, changed_by) VALUES ('acme', 't', 'active', 'me')",
    "workflow": "(tenant_id, name) VALUES ('acme', 'w')",
    "workflow_version": "(tenant_id, id, workflow, version, document, checksum, created_by)"
    f" VALUES ('acme', '{RUN}', 'w', '1.0.0', '{{}}', 'c', 'me')",
    "workflow_draft": "(tenant_id, workflow, revision, text, created_by, saved_by)"
    " VALUES ('acme', 'w', 1, 'x', 'me', 'me')",
    "run": "(tenant_id, id, version_id, root, rules, submitted_by)"
    f" VALUES ('acme', '{RUN}', '{RUN}', '{RUN}', 1, 'me')",
    "migration": "(tenant_id, run_id, seq, version_id, was, was_pins)"
    f" VALUES ('acme', '{RUN}', 1, '{RUN}', '{RUN}', '{{}}')",
    "step": "(tenant_id, run_id, key, node, iteration, status, attempt, wake_at)"
    f" VALUES ('acme', '{RUN}', 'a#1', 'a', 1, 'ready', 1, now())",
    "inbox": f"(tenant_id, run_id, kind, format, body) VALUES ('acme', '{RUN}', 'Woke', 1, '{{}}')",
    "history": "(tenant_id, run_id, seq, at, kind, format, body, hash)"
    f" VALUES ('acme', '{RUN}', 1, now(), 'Woke', 1, '{{}}', 'x')",
    "payload": f"(tenant_id, run_id, id, salt, body) VALUES ('acme', '{RUN}', 'p', 'x', '{{}}')",
    "attempt": "(tenant_id, run_id, step, attempt, fence, worker)"
    f" VALUES ('acme', '{RUN}', 'a#1', 1, 1, 'w')",
    "result": "(tenant_id, run_id, step, attempt, fence, outcome)"
    f" VALUES ('acme', '{RUN}', 'a#1', 1, 1, 'succeeded')",
    "refusal": "(tenant_id, run_id, id, step, attempt, fence, worker, outcome)"
    f" VALUES ('acme', '{RUN}', '{RUN}', 'a#1', 1, 1, 'w', 'failed')",
    "call": "(tenant_id, run_id, step, ordinal, attempt, tool, version, effect, digest, arguments)"
    f" VALUES ('acme', '{RUN}', 'a#1', 1, 1, 't', 1, 'pure', 'd', '{{}}')",
    "call_result": f"(tenant_id, run_id, step, ordinal, attempt) VALUES ('acme', '{RUN}', 'a#1', 1, 1)",
    "pin": f"(tenant_id, run_id, namespace, name, version) VALUES ('acme', '{RUN}', 'tool', 't', 1)",
    "log": "(tenant_id, run_id, step, attempt, line, stream, text)"
    f" VALUES ('acme', '{RUN}', 'a#1', 1, 1, 'stdout', 'hello')",
    "blob": f"(tenant_id, sha256, size, state) VALUES ('acme', '{'ab' * 32}', 1, 'stored')",
    "blob_reference": f"(tenant_id, run_id, sha256) VALUES ('acme', '{RUN}', '{'ab' * 32}')",
    "bundle": "(tenant_id, id, correlation_id, file, size, sha256, status, steps, created_by)"
    f" VALUES ('acme', '{RUN}', 'c', 'b.zip', 1, 'x', 'FAILED', '[]', 'me')",
    "wait": f"(tenant_id, run_id, step, kind) VALUES ('acme', '{RUN}', 'a#1', 'input')",
    "event": "(tenant_id, id, digest, name, sent_by, expires_at)"
    f" VALUES ('acme', '{RUN}', 'x', 'paid', 'ada', now())",
    "lock": f"(tenant_id, name, run_id) VALUES ('acme', 'tenant:desk', '{RUN}')",
    "question": "(tenant_id, run_id, step, attempt, kind, asks)"
    f" VALUES ('acme', '{RUN}', 'a#1', 1, 'input', '{{}}')",
    "answer": "(tenant_id, run_id, step, attempt, said_by, say_of)"
    f" VALUES ('acme', '{RUN}', 'a#1', 1, 'ada', 'ada')",
    "verdict": "(tenant_id, run_id, step, attempt, by)"
    f" VALUES ('acme', '{RUN}', 'a#1', 1, 'user:ada')",
    "delegation": "(tenant_id, id, giver, roles, taker, until)"
    f" VALUES ('acme', '{RUN}', 'ada', '{{}}', 'bob', now())",
    "revocation": f"(tenant_id, delegation, by) VALUES ('acme', '{RUN}', 'ada')",
    "batch": "(tenant_id, by, key, digest, questions) VALUES ('acme', 'ada', 'k', 'd', '[]')",
    "batch_answer": "(tenant_id, by, key, question, outcome)"
    " VALUES ('acme', 'ada', 'k', 'q', '{}')",
    "policy_version": "(tenant_id, name, version, document, checksum, created_by)"
    f" VALUES ('acme', 'p', 1, 'policy: p', '{'ab' * 32}', 'me')",
    "policy": "(tenant_id, name, active) VALUES ('acme', 'p', 1)",
    "agent": "(tenant_id, name, changed_by) VALUES ('acme', 'a', 'me')",
    "agent_version": "(tenant_id, name, major, minor, definition, uses, version_id, checksum,"
    f" created_by) VALUES ('acme', 'a', 1, 0, '{{}}', '{{}}', '{RUN}', '{'ab' * 32}', 'me')",
    "authorship": "(tenant_id, kind, name, version, run_id, step, root, workflow, digest)"
    f" VALUES ('acme', 'agent', 'a', '1.0', '{RUN}', 'a#1', '{RUN}', 'w', 'd')",
    "account": "(tenant_id, key, scope, subject, unit, span, period)"
    " VALUES ('acme', 'k', 'user', 'ada', 'cost_usd', 'none', 'epoch')",
    "purse": "(tenant_id, account, slice) VALUES ('acme', 'k', 0)",
    "reservation": "(tenant_id, run_id, step, attempt, ordinal, user_id, workflow, node, amounts,"
    f" accounts, at) VALUES ('acme', '{RUN}', 'a#1', 1, 0, 'ada', 'w', 'a', '{{}}', '{{}}', now())",
    "ledger": "(tenant_id, run_id, step, attempt, ordinal, part, user_id, workflow, node, usage,"
    f" charged_at) VALUES ('acme', '{RUN}', 'a#1', 1, 0, 1, 'ada', 'w', 'a', '{{}}', now())",
    "act_seal": f"(tenant_id, position, act_id, hash) VALUES ('acme', 1, '{RUN}', 'x')",
    "anchor": "(tenant_id, number, at, position, acts, root, count, previous, hash)"
    " VALUES ('acme', 1, now(), 1, 'x', 'x', 1, '', 'x')",
    "anchor_leaf": "(tenant_id, number, place, kind, subject, seq, hash, marks)"
    f" VALUES ('acme', 1, 1, 'act', '{RUN}', 1, 'x', '')",
    "anchor_pending": "(tenant_id, number) VALUES ('acme', 1)",
    "sealing": "(name, next_at) VALUES ('all', now())",
    "secret": "(tenant_id, name, version, sensitive, created_by, key_id, nonce, ciphertext)"
    " VALUES ('acme', 'KEY', 1, true, 'ada', 'k', 'x', 'x')",
    "capability": "(tenant_id, kind, name, version, profile, granted_by)"
    " VALUES ('acme', 'function', 'f', '1', '{}', 'ada')",
    "checkpoint": f"(tenant_id, run_id, seq, state) VALUES ('acme', '{RUN}', 1, '{{}}')",
    "chosen_call": "(tenant_id, run_id, since, step, ordinal, node, digest, choice, made_at)"
    f" VALUES ('acme', '{RUN}', 0, 'a#1', 1, 'a', 'x', 'skip', now())",
    "undone_call": "(tenant_id, run_id, step, ordinal, by_run, place)"
    f" VALUES ('acme', '{RUN}', 'a#1', 1, '{RUN}', 0)",
    "undoing_call": "(tenant_id, by_run, place, run_id, step, ordinal)"
    f" VALUES ('acme', '{RUN}', 0, '{RUN}', 'a#1', 1)",
    "checkpoint_name": f"(tenant_id, run_id, seq, name, named_by) VALUES ('acme', '{RUN}', 1, 'x', 'ada')",
}

_READ_AND_APPEND = frozenset({"SELECT", "INSERT"})
_APPENDED = (
    "history",
    "payload",
    "attempt",
    "result",
    "refusal",
    "call",
    "call_result",
    "pin",
    "log",
    "blob_reference",
    "ledger",
)

_CONTROL: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("tenant", "principal", "api_key", "function"), _READ_AND_APPEND),
    **dict.fromkeys(("workflow", "workflow_version", "policy", "policy_version"), _READ_AND_APPEND),
    **dict.fromkeys((*_APPENDED, "checkpoint", "bundle", "answer", "admin_act"), _READ_AND_APPEND),
    **dict.fromkeys(("question", "verdict", "delegation", "revocation"), _READ_AND_APPEND),
    **dict.fromkeys(("agent", "agent_version", "authorship"), _READ_AND_APPEND),
    "batch": _READ_AND_APPEND | {"DELETE"},
    "batch_answer": _READ_AND_APPEND,
    **dict.fromkeys(("wait", "event", "lock"), _READ_AND_APPEND | {"UPDATE", "DELETE"}),
    **dict.fromkeys(("idempotency", "refused_request"), _READ_AND_APPEND | {"DELETE"}),
    **dict.fromkeys(("unknown_request", "checkpoint_name", "chosen_call"), _READ_AND_APPEND),
    **dict.fromkeys(("undone_call", "undoing_call"), _READ_AND_APPEND),
    "tool": _READ_AND_APPEND | {"UPDATE"},
    "workflow_draft": _READ_AND_APPEND | {"DELETE"},
    "migration": _READ_AND_APPEND,
    "run": _READ_AND_APPEND,
    "step": _READ_AND_APPEND | {"UPDATE", "DELETE"},
    "inbox": _READ_AND_APPEND | {"UPDATE", "DELETE"},
    "blob": _READ_AND_APPEND | {"DELETE"},
    "account": _READ_AND_APPEND | {"DELETE"},
    "purse": _READ_AND_APPEND | {"UPDATE"},
    "reservation": _READ_AND_APPEND | {"UPDATE", "DELETE"},
}
_SEALED = ("act_seal", "anchor", "anchor_leaf")

#: All that each role may do. UPDATE means of every column.
GRANTS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "celeriac_control": {
        **_CONTROL,
        **dict.fromkeys((*_SEALED, "sealing"), _READ_AND_APPEND),
        "anchor_pending": _READ_AND_APPEND | {"DELETE"},
    },
    # It verifies what coordinators have sealed.
    "celeriac_api": {
        **_CONTROL,
        **dict.fromkeys((*_SEALED, "anchor_pending"), frozenset({"SELECT"})),
        # Coordinators have no part in what workers alone are given.
        "secret": _READ_AND_APPEND,
        "capability": _READ_AND_APPEND | {"DELETE"},
    },
    "celeriac_worker": {
        **dict.fromkeys(("tool", "run", "step"), frozenset({"SELECT"})),
        # Steps publish what they have written by calls, which workers carry out.
        **dict.fromkeys(("agent", "agent_version", "authorship", "function"), _READ_AND_APPEND),
        **dict.fromkeys(("workflow", "workflow_version", "workflow_draft"), _READ_AND_APPEND),
        "admin_act": frozenset({"INSERT"}),
        **dict.fromkeys(("tenant", "principal", "policy", "policy_version"), frozenset({"SELECT"})),
        **dict.fromkeys(
            ("secret", "capability", "chosen_call", "undone_call"), frozenset({"SELECT"})
        ),
        # The code of a step may ask for the executions that led to it.
        **dict.fromkeys(("history", "migration"), frozenset({"SELECT"})),
        "payload": _READ_AND_APPEND,
        **dict.fromkeys(("inbox", "refusal", "blob_reference"), frozenset({"INSERT"})),
        **dict.fromkeys(
            ("attempt", "result", "call", "call_result", "pin", "log", "blob", "ledger", "account"),
            _READ_AND_APPEND,
        ),
        "purse": _READ_AND_APPEND | {"UPDATE"},
        "reservation": _READ_AND_APPEND | {"UPDATE", "DELETE"},
    },
}


@pytest.mark.parametrize("role", GRANTS)
def test_a_role_can_do_what_it_was_granted_and_nothing_else(database: str, role: str) -> None:
    may: dict[str, set[str]] = {}
    with _owner(database) as cursor:
        _fill(cursor)
        for table, row in ROWS.items():
            for privilege, statement in _attempts(cursor, table, row).items():
                if _allowed(cursor, role, statement):
                    may.setdefault(table, set()).add(privilege)
    assert may == {table: set(privileges) for table, privileges in GRANTS[role].items()}


@pytest.mark.parametrize("role", GRANTS)
@pytest.mark.parametrize("table", ["history", "attempt", "result", "call", "payload", "log"])
def test_no_role_reaches_a_partition_behind_its_parents_back(
    database: str, role: str, table: str
) -> None:
    with _owner(database) as cursor:
        for part in (f"{table}_default", _partitions(cursor, table)[0]):
            for statement in (f"TRUNCATE {part}", f"DELETE FROM {part}", f"SELECT FROM {part}"):
                assert not _allowed(cursor, role, statement), statement


def test_a_worker_moves_its_step_but_never_what_the_coordinator_decided_of_it(
    database: str,
) -> None:
    with _owner(database) as cursor:
        _fill(cursor)
        for column in ("status", "fence", "worker", "lease_until", "begun", "wake_at", "sends"):
            assert _allowed(cursor, "celeriac_worker", f"UPDATE step SET {column} = {column}")
        for column in ("tenant_id", "run_id", "key", "node", "attempt", "errors", "lost", "visits"):
            assert not _allowed(cursor, "celeriac_worker", f"UPDATE step SET {column} = {column}")


def test_control_moves_a_run_but_never_what_was_submitted(database: str) -> None:
    with _owner(database) as cursor:
        _fill(cursor)
        for column in (
            "status",
            "seq",
            "head",
            "variables",
            "stuck_until",
            "finished_at",
            "wake_at",
            # Under which version it goes on, when it is migrated.
            "version_id",
            "pins",
        ):
            assert _allowed(cursor, "celeriac_control", f"UPDATE run SET {column} = {column}")
        for column in ("tenant_id", "id", "root", "submitted_by", "created_at"):
            assert not _allowed(cursor, "celeriac_control", f"UPDATE run SET {column} = {column}")


@pytest.mark.parametrize("role", GRANTS)
def test_a_blob_is_touched_but_never_turned_into_another(database: str, role: str) -> None:
    with _owner(database) as cursor:
        _fill(cursor)
        for column in ("state", "touched_at"):
            assert _allowed(cursor, role, f"UPDATE blob SET {column} = {column}")
        for column in ("tenant_id", "sha256", "size"):
            assert not _allowed(cursor, role, f"UPDATE blob SET {column} = {column}")


@pytest.mark.parametrize("role", GRANTS)
@pytest.mark.parametrize(
    "table", ["history", "admin_act", "act_seal", "anchor", "anchor_leaf", "payload"]
)
def test_no_role_alters_or_removes_anything_of_the_audit(
    database: str, role: str, table: str
) -> None:
    with _owner(database) as cursor:
        _fill(cursor)
        cursor.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0",
            (table,),
        )
        for (column,) in cursor.fetchall():
            assert not _allowed(cursor, role, f"UPDATE {table} SET {column} = {column}"), column
        assert not _allowed(cursor, role, f"DELETE FROM {table}")
        assert not _allowed(cursor, role, f"TRUNCATE {table} CASCADE")
        assert not _allowed(cursor, role, f"DROP TABLE {table} CASCADE")


def test_only_control_shreds_and_only_what_has_ended(database: str) -> None:
    with _owner(database) as cursor:
        _fill(cursor)
        statement = f"SELECT shred_payloads('acme', '{RUN}', NULL)"
        release = f"SELECT release_blobs('acme', '{RUN}')"
        for role in ("celeriac_worker", "celeriac_api"):
            assert not _allowed(cursor, role, statement)
            assert not _allowed(cursor, role, release)
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="only what has ended"):
            _allowed(cursor, "celeriac_control", statement)
        cursor.execute("UPDATE run SET status = 'failed', finished_at = now()")
        assert _allowed(cursor, "celeriac_control", statement)
        assert _allowed(cursor, "celeriac_control", release)


def test_control_can_end_a_key_but_not_turn_it_into_another(database: str) -> None:
    with _owner(database) as cursor:
        _fill(cursor)
        assert _allowed(cursor, "celeriac_control", "UPDATE api_key SET expires_at = now()")
        for column in ("hash", "roles", "tenant_id", "name", "user_id", "scopes"):
            statement = f"UPDATE api_key SET {column} = {column}"
            assert not _allowed(cursor, "celeriac_control", statement)


def test_control_retires_a_version_but_never_alters_it(database: str) -> None:
    with _owner(database) as cursor:
        _fill(cursor)
        for column in ("retired_at", "retired_by"):
            statement = f"UPDATE workflow_version SET {column} = {column}"
            assert _allowed(cursor, "celeriac_control", statement)
            assert not _allowed(cursor, "celeriac_worker", statement)
        for column in ("tenant_id", "id", "workflow", "version", "document", "checksum", "notes"):
            statement = f"UPDATE workflow_version SET {column} = {column}"
            assert not _allowed(cursor, "celeriac_control", statement)
        assert not _allowed(cursor, "celeriac_control", "DELETE FROM workflow_version")


def test_control_puts_policies_in_force_but_never_alters_them(database: str) -> None:
    with _owner(database) as cursor:
        _fill(cursor)
        may = (
            "policy SET active = NULL",
            "policy SET changed_at = now()",
            "tenant SET governance = 1",
        )
        for change in may:
            assert _allowed(cursor, "celeriac_control", f"UPDATE {change}")
            assert not _allowed(cursor, "celeriac_worker", f"UPDATE {change}")
        for change in (
            "policy_version SET document = ''",
            "policy SET name = ''",
            "tenant SET name = ''",
        ):
            assert not _allowed(cursor, "celeriac_control", f"UPDATE {change}")


def test_control_removes_agents_but_never_alters_their_versions(database: str) -> None:
    with _owner(database) as cursor:
        _fill(cursor)
        for column in ("removed", "changed_by", "changed_at"):
            assert _allowed(cursor, "celeriac_control", f"UPDATE agent SET {column} = {column}")
            # A run that publishes an agent which was removed lets it be there again.
            assert _allowed(cursor, "celeriac_worker", f"UPDATE agent SET {column} = {column}")
        for change in ("agent SET name = ''", "agent_version SET definition = '{}'"):
            for role in ("celeriac_control", "celeriac_worker"):
                assert not _allowed(cursor, role, f"UPDATE {change}")


def test_workers_add_definitions_and_alter_none(database: str) -> None:
    with _owner(database) as cursor:
        _fill(cursor)
        for change in (
            *("function SET source = ''", "workflow_version SET document = '{}'"),
            *("workflow_version SET retired_by = 'me'", "authorship SET run_id = root"),
            *("admin_act SET by = 'me'", "capability SET profile = '{}'"),
        ):
            assert not _allowed(cursor, "celeriac_worker", f"UPDATE {change}")


def test_the_api_seals_anew_and_says_nothing_else_of_a_version(database: str) -> None:
    with _owner(database) as cursor:
        _fill(cursor)
        for column in ("key_id", "nonce", "ciphertext"):
            assert _allowed(cursor, "celeriac_api", f"UPDATE secret SET {column} = {column}")
        for column in ("tenant_id", "name", "version", "sensitive", "created_by", "created_at"):
            assert not _allowed(cursor, "celeriac_api", f"UPDATE secret SET {column} = {column}")
        for column in ("tenant_id", "kind", "name", "version"):
            statement = f"UPDATE capability SET {column} = {column}"
            assert not _allowed(cursor, "celeriac_api", statement)
        for role in ("celeriac_control", "celeriac_worker"):
            for change in ("secret SET ciphertext = NULL", "capability SET profile = '{}'"):
                assert not _allowed(cursor, role, f"UPDATE {change}")


def test_only_control_makes_partitions(database: str) -> None:
    with _owner(database) as cursor:
        statement = "SELECT ensure_partitions('2031-01-01', 1)"
        assert not _allowed(cursor, "celeriac_worker", statement)
        assert not _allowed(cursor, "celeriac_api", statement)
        assert _allowed(cursor, "celeriac_control", statement)


@pytest.mark.parametrize(
    ("table", "change", "constraint"),
    [
        ("run", "status = 'resting'", "run_status_check"),
        ("run", "status = 'completed'", "run_finished_when_terminal"),
        ("run", "finished_at = now()", "run_finished_when_terminal"),
        ("run", "stuck_error = 'boom'", "run_stuck_has_error"),
        ("run", "stuck_until = now()", "run_stuck_has_error"),
        (
            "run",
            "status = 'failed', finished_at = now(), wake_at = now()",
            "run_wakes_until_finished",
        ),
        ("step", "status = 'requested'", "step_status_check"),
        ("step", "status = 'succeeded', wake_at = NULL", "step_status_check"),
        ("step", "status = 'leased', wake_at = NULL", "step_leased_has_owner"),
        ("step", "status = 'leased', wake_at = NULL, worker = 'w'", "step_leased_has_owner"),
        ("step", "worker = 'w'", "step_leased_has_owner"),
        ("step", "lease_until = now()", "step_leased_has_owner"),
        ("step", "wake_at = NULL", "step_waiting_wakes"),
        ("step", "status = 'retrying', wake_at = NULL", "step_waiting_wakes"),
        ("step", "status = 'reported'", "step_waiting_wakes"),
        ("step", "begun = true", "step_begun_while_leased"),
        ("step", "iteration = 0", "step_iteration_check"),
        ("step", "attempt = 0", "step_attempt_check"),
        ("history", "seq = 0", "history_seq_check"),
        ("attempt", "attempt = 0", "attempt_attempt_check"),
        ("result", "outcome = 'unknown'", "result_outcome_check"),
        ("result", "outcome = 'failed'", "result_says_why"),
        ("result", "reason = 'error'", "result_says_why"),
        ("call", "ordinal = 0", "call_ordinal_check"),
        ("log", "stream = 'stdin'", "log_stream_check"),
        ("function", "library = 'a:b'", "function_has_one_body"),
        ("function", "source = NULL", "function_has_one_body"),
        ("function", "service = '{}'", "function_has_one_body"),
        ("function", "source = NULL, service = '{}'", "service_is_a_tool"),
        ("function", "effect = 'none'", "function_effect_check"),
        ("function", "namespace = 'agent'", "function_namespace_check"),
        ("function", "version = 0", "function_version_check"),
        ("workflow_version", "version = '1.0'", "workflow_version_version_check"),
        ("workflow_version", "version = 'v1.0.0'", "workflow_version_version_check"),
        ("tenant", "id = 'Acme GmbH'", "tenant_id_check"),
        ("idempotency", "key = ''", "idempotency_key_check"),
        ("policy_version", "checksum = 'abc'", "policy_version_checksum_check"),
        ("policy_version", "version = 0", "policy_version_version_check"),
        ("blob", "sha256 = 'abc'", "blob_sha256_check"),
        ("blob", "size = -1", "blob_size_check"),
        ("blob", "state = 'gone'", "blob_state_check"),
        ("delegation", "taker = giver", "delegation_to_another"),
        ("delegation", "until = NULL", "delegation_has_bounds"),
        ("delegation", "step = 'a#1'", "delegation_has_bounds"),
        ("agent", "name = 'a b'", "agent_name_check"),
        ("agent_version", "major = 0", "agent_version_major_check"),
        ("agent_version", "minor = -1", "agent_version_minor_check"),
        ("agent_version", "function_version = 0", "agent_version_function_version_check"),
        ("agent_version", "checksum = 'abc'", "agent_version_checksum_check"),
        ("batch", "key = ''", "batch_key_check"),
        ("secret", "name = 'A-B'", "secret_name_check"),
        ("secret", "version = 0", "secret_version_check"),
        ("secret", "key_id = NULL", "secret_is_whole_or_gone"),
        ("capability", "kind = 'agent'", "capability_kind_check"),
        ("capability", "name = ''", "capability_name_check"),
    ],
)
def test_the_table_refuses_an_illegal_row_whoever_writes_it(
    database: str, table: str, change: str, constraint: str
) -> None:
    with _owner(database) as cursor:
        _fill(cursor)
        with pytest.raises(errors.CheckViolation) as refused:
            cursor.execute(f"UPDATE {table} SET {change}")
    assert refused.value.diag.constraint_name == constraint


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("step", ROWS["step"].replace("'acme'", "'other'")),
        (
            "run",
            ROWS["run"]
            .replace("'acme'", "'other'")
            .replace(f"'{RUN}', '{RUN}'", f"gen_random_uuid(), '{RUN}'"),
        ),
        ("workflow_version", ROWS["workflow_version"].replace("'acme'", "'other'")),
        ("api_key", ROWS["api_key"].replace("'acme', 'k'", "'nobody', 'k2'")),
        ("principal", ROWS["principal"].replace("'acme'", "'nobody'")),
        (
            "api_key",
            ROWS["api_key"].replace("'acme', 'k'", "'other', 'k2'"),
        ),
        ("blob", ROWS["blob"].replace("'acme'", "'nobody'")),
        ("delegation", ROWS["delegation"].replace("'acme'", "'nobody'")),
        ("revocation", ROWS["revocation"].replace("'acme'", "'other'")),
        ("batch", ROWS["batch"].replace("'acme'", "'nobody'")),
        ("batch_answer", ROWS["batch_answer"].replace("'acme'", "'other'")),
        ("policy_version", ROWS["policy_version"].replace("'acme'", "'nobody'")),
        ("policy", ROWS["policy"].replace("'acme'", "'other'")),
        ("agent", ROWS["agent"].replace("'acme'", "'nobody'")),
        ("agent_version", ROWS["agent_version"].replace("'acme'", "'other'")),
        ("secret", ROWS["secret"].replace("'acme'", "'nobody'")),
        ("capability", ROWS["capability"].replace("'acme'", "'nobody'")),
    ],
)
def test_no_row_points_across_tenants(database: str, table: str, row: str) -> None:
    with _owner(database) as cursor:
        _fill(cursor)
        cursor.execute("INSERT INTO tenant (id, name) VALUES ('other', 'Other')")
        with pytest.raises(errors.ForeignKeyViolation):
            cursor.execute(f"INSERT INTO {table} {row}")


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("result", ROWS["result"].replace("1, 1, 'succeeded'", "2, 2, 'succeeded'")),
        ("call_result", ROWS["call_result"].replace("1, 1)", "1, 2)")),
        ("answer", ROWS["answer"].replace("'ada', 'ada'", "'bob', 'ada'")),
        ("verdict", ROWS["verdict"].replace("user:ada", "clock")),
        ("secret", ROWS["secret"].replace("'KEY', 1", "'KEY', 2")),
    ],
)
def test_a_step_has_one_result_a_call_one_value_a_question_one_end_a_secret_one_whole_version(
    database: str, table: str, row: str
) -> None:
    with _owner(database) as cursor:
        _fill(cursor)
        with pytest.raises(errors.UniqueViolation, match="duplicate key"):
            cursor.execute(f"INSERT INTO {table} {row}")


@contextmanager
def _owner(url: str) -> Iterator[Any]:
    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection:
        connection.autocommit = True
        yield connection.cursor()


def _fill(cursor: Any) -> None:
    for table, row in ROWS.items():
        cursor.execute(f"INSERT INTO {table} {row}")


def _attempts(cursor: Any, table: str, row: str) -> Mapping[str, str]:
    """A statement for every privilege there is."""
    cursor.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
        " AND attidentity = ''",
        (table,),
    )
    columns = [name for (name,) in cursor.fetchall()]
    return {
        "SELECT": f"SELECT * FROM {table}",
        "INSERT": f"INSERT INTO {table} {row}",
        "UPDATE": f"UPDATE {table} SET {', '.join(f'{name} = {name}' for name in columns)}",
        "DELETE": f"DELETE FROM {table} WHERE false",
        "TRUNCATE": f"TRUNCATE {table} CASCADE",
    }


def _allowed(cursor: Any, role: str, statement: str) -> bool:
    """Whether a role may do it; whatever it did is undone."""
    cursor.execute(f"BEGIN; SET LOCAL ROLE {role}; SET LOCAL celeriac.tenant = 'acme'")
    try:
        cursor.execute(statement)
    except errors.InsufficientPrivilege:
        return False
    except errors.UniqueViolation:
        return True  # it was let in; the row is there already
    else:
        return True
    finally:
        cursor.execute("ROLLBACK")


def _partitions(cursor: Any, table: str) -> list[str]:
    cursor.execute(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass ORDER BY 1",
        (table,),
    )
    return [name for (name,) in cursor.fetchall()]
