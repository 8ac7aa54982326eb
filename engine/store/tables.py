"""The tables, as the cold statements of the store name them.

The migrations make the schema; this says the same once more, in the terms of SQLAlchemy Core,
and a test proves that the two agree. Partitions, functions and grants are the migrations' alone.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.schema import SchemaItem

metadata = MetaData()


def _text(name: str, **options: Any) -> Column[str]:
    return Column(name, Text, **{"nullable": False, **options})


def _integer(name: str, **options: Any) -> Column[int]:
    return Column(name, Integer, **{"nullable": False, **options})


def _bigint(name: str, **options: Any) -> Column[int]:
    return Column(name, BigInteger, **{"nullable": False, **options})


_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


def known_id(value: str | None) -> str | None:
    """An id as it may be asked for; None for what is none, which nothing equals."""
    return value if value is not None and _ID.fullmatch(value) else None


class Id(TypeDecorator[str]):
    """An id as text. What is no id equals no id: whoever asks for it finds nothing."""

    impl = Uuid(as_uuid=False)
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        return known_id(value)


def _uuid(name: str) -> Column[str]:
    return Column(name, Id, nullable=False)


def _json(name: str, *, default: str | None = None, nullable: bool = False) -> Column[Any]:
    given = None if default is None else text(f"'{default}'")
    return Column(name, JSON(none_as_null=True), nullable=nullable, server_default=given)


def _bytes(name: str, **options: Any) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False, **options)


def _time(name: str, *, nullable: bool = True) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _now(name: str) -> Column[Any]:
    """A time that the database fills in."""
    moment = text("clock_timestamp()")
    return Column(name, DateTime(timezone=True), nullable=False, server_default=moment)


def _amount(name: str) -> Column[Any]:
    """Money, or whatever else is counted, to nine places."""
    return Column(name, Numeric(38, 9), nullable=False, server_default=text("0"))


def _transaction() -> Column[int]:
    """The number of the transaction that wrote the row, which the database fills in."""
    number = text("pg_current_xact_id()::text::bigint")
    return Column("xid", BigInteger, nullable=False, server_default=number)


def _key(*columns: str) -> PrimaryKeyConstraint:
    return PrimaryKeyConstraint("tenant_id", *columns)


def _of_tenant() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant_id"], ["tenant.id"])


def _check(condition: str, name: str | None = None) -> CheckConstraint:
    return CheckConstraint(condition, name=name)


def _appended(name: str, *items: SchemaItem) -> Table:
    """A table that only grows, of rows that belong to a run."""
    return Table(
        name,
        metadata,
        _text("tenant_id"),
        _uuid("run_id"),
        *items,
        postgresql_partition_by="RANGE (run_id)",
    )


tenant = Table(
    "tenant",
    metadata,
    _text("id", primary_key=True),
    _text("name"),
    _now("created_at"),
    _bigint("governance", server_default=text("0")),
    _check("id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'"),
)

principal = Table(
    "principal",
    metadata,
    _text("tenant_id"),
    _text("id"),
    Column("roles", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("permissions", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    _text("created_by"),
    _now("created_at"),
    _key("id"),
    _of_tenant(),
    _check("length(id) BETWEEN 1 AND 200"),
)

api_key = Table(
    "api_key",
    metadata,
    _text("tenant_id"),
    _text("id"),
    _text("name"),
    _bytes("hash"),
    Column("roles", ARRAY(Text)),
    _now("created_at"),
    _time("expires_at"),
    _text("user_id"),
    Column("scopes", ARRAY(Text)),
    _time("last_used_at"),
    _time("revoked_at"),
    _text("created_by"),
    _key("id"),
    _of_tenant(),
    UniqueConstraint("id"),
    ForeignKeyConstraint(["tenant_id", "user_id"], ["principal.tenant_id", "principal.id"]),
)
Index("api_key_user", api_key.c.tenant_id, api_key.c.user_id)

refused_request = Table(
    "refused_request",
    metadata,
    _text("tenant_id"),
    _text("credential"),
    _text("route"),
    _text("reason"),
    _time("minute", nullable=False),
    _bigint("count"),
    _key("credential", "route", "reason", "minute"),
    _of_tenant(),
    _check("count > 0"),
)
Index("refused_request_minute", refused_request.c.tenant_id, refused_request.c.minute)

#: Of nobody's tenant: who asked is not known.
unknown_request = Table(
    "unknown_request",
    metadata,
    _text("reason"),
    _time("hour", nullable=False),
    _bigint("count"),
    PrimaryKeyConstraint("reason", "hour"),
    _check("count > 0"),
)

admin_act = Table(
    "admin_act",
    metadata,
    _text("tenant_id"),
    _uuid("id"),
    _now("at"),
    _text("by"),
    _text("action"),
    _text("subject"),
    _text("why", server_default=text("''")),
    _json("detail", default="{}"),
    _text("before", nullable=True),
    _text("after", nullable=True),
    _transaction(),
    _key("id"),
    _of_tenant(),
    _check("action ~ '^[a-z_]+[.][a-z_]+$'"),
    _check("before ~ '^[0-9a-f]{64}$'"),
    _check("after ~ '^[0-9a-f]{64}$'"),
)
Index("admin_act_subject", admin_act.c.tenant_id, admin_act.c.subject)
Index("admin_act_moved", admin_act.c.xid)
Index("admin_act_when", admin_act.c.tenant_id, admin_act.c.at, admin_act.c.id)

act_seal = Table(
    "act_seal",
    metadata,
    _text("tenant_id"),
    _bigint("position"),
    _uuid("act_id"),
    _bytes("hash"),
    _key("position"),
    _of_tenant(),
    UniqueConstraint("tenant_id", "act_id"),
    _check("position > 0"),
)

anchor = Table(
    "anchor",
    metadata,
    _text("tenant_id"),
    _bigint("number"),
    _time("at", nullable=False),
    _bigint("position"),
    _bytes("acts"),
    _bytes("root"),
    _integer("count"),
    _bytes("previous"),
    _bytes("hash"),
    Column("signature", LargeBinary),
    _text("key_id", nullable=True),
    _key("number"),
    _of_tenant(),
    _check("number > 0"),
    _check("position >= 0"),
    _check("count >= 0"),
    _check("(signature IS NULL) = (key_id IS NULL)", "anchor_signed_by_a_key"),
)

anchor_leaf = Table(
    "anchor_leaf",
    metadata,
    _text("tenant_id"),
    _bigint("number"),
    _integer("place"),
    _text("kind"),
    _uuid("subject"),
    _bigint("seq"),
    _bytes("hash"),
    _bytes("marks"),
    _key("number", "place"),
    ForeignKeyConstraint(["tenant_id", "number"], ["anchor.tenant_id", "anchor.number"]),
    _check("place > 0"),
    _check("kind IN ('act', 'run')"),
    _check("seq > 0"),
)
Index(
    "anchor_leaf_subject",
    anchor_leaf.c.tenant_id,
    anchor_leaf.c.subject,
    anchor_leaf.c.seq,
)

anchor_pending = Table(
    "anchor_pending",
    metadata,
    _text("tenant_id"),
    _bigint("number"),
    _key("number"),
    ForeignKeyConstraint(["tenant_id", "number"], ["anchor.tenant_id", "anchor.number"]),
)

sealing = Table(
    "sealing",
    metadata,
    _text("name", primary_key=True),
    _time("next_at", nullable=False),
    _bigint("horizon", server_default=text("0")),
)

idempotency = Table(
    "idempotency",
    metadata,
    _text("tenant_id"),
    _text("key"),
    _text("digest"),
    _uuid("run_id"),
    _now("created_at"),
    _key("key"),
    _of_tenant(),
    _check("length(key) BETWEEN 1 AND 255"),
)

function = Table(
    "function",
    metadata,
    _text("tenant_id"),
    _text("namespace"),
    _text("name"),
    _integer("version"),
    _text("source", nullable=True),
    _text("library", nullable=True),
    _text("description", server_default=text("''")),
    _json("parameters", default="{}"),
    _text("effect", server_default=text("'pure'")),
    _text("checksum"),
    _text("created_by"),
    _now("created_at"),
    _json("schema", nullable=True),
    Column("required_permissions", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("cost_estimate_usd", Numeric(20, 9), nullable=False, server_default=text("0")),
    _bigint("tokens_estimate", server_default=text("0")),
    Column("timeout_seconds", Double, nullable=False, server_default=text("30")),
    _integer("rate_per_minute", nullable=True),
    _integer("rate_per_hour", nullable=True),
    Column("requires_approval", Boolean, nullable=False, server_default=text("false")),
    _text("category", nullable=True),
    _json("service", nullable=True),
    _json("undo", nullable=True),
    _key("namespace", "name", "version"),
    _of_tenant(),
    _check("namespace IN ('function', 'tool')"),
    _check("cost_estimate_usd >= 0"),
    _check("tokens_estimate >= 0"),
    _check("timeout_seconds > 0"),
    _check("rate_per_minute > 0"),
    _check("rate_per_hour > 0"),
    _check("length(name) BETWEEN 1 AND 200"),
    _check("version > 0"),
    _check("effect IN ('pure', 'idempotent', 'at_most_once', 'compensable')"),
    _check("num_nonnulls(source, library, service) = 1", "function_has_one_body"),
    _check("service IS NULL OR namespace = 'tool'", "service_is_a_tool"),
)

tool = Table(
    "tool",
    metadata,
    _text("tenant_id"),
    _text("name"),
    _text("status"),
    Column("tags", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    _text("changed_by"),
    _now("changed_at"),
    _key("name"),
    _of_tenant(),
    _check("length(name) BETWEEN 1 AND 200"),
    _check("status IN ('active', 'deprecated', 'disabled', 'maintenance')"),
)

workflow = Table(
    "workflow",
    metadata,
    _text("tenant_id"),
    _text("name"),
    _now("created_at"),
    _key("name"),
    _of_tenant(),
    _check("length(name) BETWEEN 1 AND 200"),
)

workflow_version = Table(
    "workflow_version",
    metadata,
    _text("tenant_id"),
    _uuid("id"),
    _text("workflow"),
    _text("version"),
    _json("document"),
    _text("checksum"),
    _text("created_by"),
    _now("created_at"),
    Column("imported", Boolean, nullable=False, server_default=text("false")),
    _text("notes", server_default=text("''")),
    _time("retired_at"),
    _text("retired_by", nullable=True),
    _key("id"),
    UniqueConstraint("tenant_id", "workflow", "version"),
    ForeignKeyConstraint(["tenant_id", "workflow"], ["workflow.tenant_id", "workflow.name"]),
    _check(
        "version ~ '^[0-9]{1,9}[.][0-9]{1,9}[.][0-9]{1,9}(-[0-9A-Za-z.-]+)?([+][0-9A-Za-z.-]+)?$'"
    ),
    _check("length(notes) <= 4000"),
    _check("(retired_at IS NULL) = (retired_by IS NULL)", "workflow_version_retired_by_somebody"),
)
workflow_draft = Table(
    "workflow_draft",
    metadata,
    _text("tenant_id"),
    _text("workflow"),
    _integer("revision"),
    _text("text"),
    _text("created_by"),
    _now("created_at"),
    _text("saved_by"),
    _now("saved_at"),
    _key("workflow"),
    _of_tenant(),
    _check("length(workflow) BETWEEN 1 AND 200"),
    _check("revision >= 1"),
)

agent = Table(
    "agent",
    metadata,
    _text("tenant_id"),
    _text("name"),
    Column("removed", Boolean, nullable=False, server_default=text("false")),
    _text("changed_by"),
    _now("changed_at"),
    _key("name"),
    _of_tenant(),
    _check("name ~ '^[A-Za-z_][A-Za-z0-9_.-]{0,99}$'"),
)

agent_version = Table(
    "agent_version",
    metadata,
    _text("tenant_id"),
    _text("name"),
    _integer("major"),
    _integer("minor"),
    _json("definition"),
    _json("uses"),
    _integer("function_version", nullable=True),
    _uuid("version_id"),
    _text("checksum"),
    _text("created_by"),
    _now("created_at"),
    _key("name", "major", "minor"),
    ForeignKeyConstraint(["tenant_id", "name"], ["agent.tenant_id", "agent.name"]),
    ForeignKeyConstraint(
        ["tenant_id", "version_id"], ["workflow_version.tenant_id", "workflow_version.id"]
    ),
    _check("major > 0"),
    _check("minor >= 0"),
    _check("function_version > 0"),
    _check("checksum ~ '^[0-9a-f]{64}$'"),
)

#: Of versions that runs have written. The run may be gone by now.
authorship = Table(
    "authorship",
    metadata,
    _text("tenant_id"),
    _text("kind"),
    _text("name"),
    _text("version"),
    _uuid("run_id"),
    _text("step"),
    _uuid("root"),
    _text("workflow"),
    _text("parent", nullable=True),
    _text("digest"),
    _now("written_at"),
    _key("kind", "name", "version"),
    _of_tenant(),
    _check("kind IN ('agent', 'workflow')"),
)
Index("authorship_root", authorship.c.tenant_id, authorship.c.root)
Index("authorship_step", authorship.c.tenant_id, authorship.c.run_id, authorship.c.step)
Index("authorship_day", authorship.c.tenant_id, authorship.c.written_at)

bundle = Table(
    "bundle",
    metadata,
    _text("tenant_id"),
    _uuid("id"),
    _text("correlation_id"),
    _text("file"),
    _bigint("size"),
    _text("sha256"),
    _text("status"),
    _json("steps"),
    _json("problems", default="[]"),
    _json("warnings", default="[]"),
    Column("version_id", Id),
    _text("created_by"),
    _now("created_at"),
    _key("id"),
    _of_tenant(),
    ForeignKeyConstraint(
        ["tenant_id", "version_id"], ["workflow_version.tenant_id", "workflow_version.id"]
    ),
    _check("status IN ('COMPLETED', 'FAILED')"),
    _check("(status = 'COMPLETED') = (version_id IS NOT NULL)", "bundle_completed_has_version"),
)

run = Table(
    "run",
    metadata,
    _text("tenant_id"),
    _uuid("id"),
    _uuid("version_id"),
    _text("status", server_default=text("'queued'")),
    _integer("rules"),
    _json("pins", default="{}"),
    _bigint("seq", server_default=text("0")),
    _bytes("hash", server_default=text("''")),
    _json("head", default="{}"),
    _json("variables", default="{}"),
    _bigint("snapshot_seq", server_default=text("0")),
    _bigint("patched", server_default=text("0")),
    _text("submitted_by"),
    _now("created_at"),
    _time("started_at"),
    _time("finished_at"),
    _text("reason", nullable=True),
    _text("message", nullable=True),
    _text("ended_step", nullable=True),
    _integer("stuck_count", server_default=text("0")),
    _text("stuck_error", nullable=True),
    _time("stuck_until"),
    _uuid("root"),
    Column("scopes", ARRAY(Text), nullable=True),
    Column("parent_run", Id, nullable=True),
    _text("parent_step", nullable=True),
    _integer("parent_attempt", nullable=True),
    _text("orphan", nullable=True),
    _integer("depth", server_default=text("0")),
    _json("outputs", nullable=True),
    _time("wake_at"),
    Column("forked_run", Id, nullable=True),
    Column("forked_seq", BigInteger, nullable=True),
    _json("imported", nullable=True),
    _key("id"),
    ForeignKeyConstraint(
        ["tenant_id", "version_id"], ["workflow_version.tenant_id", "workflow_version.id"]
    ),
    _check("status IN ('queued', 'running', 'paused', 'completed', 'failed', 'cancelled')"),
    _check(
        "(finished_at IS NOT NULL) = (status IN ('completed', 'failed', 'cancelled'))",
        "run_finished_when_terminal",
    ),
    _check("(stuck_error IS NULL) = (stuck_until IS NULL)", "run_stuck_has_error"),
    _check("orphan IN ('cancel', 'finish')"),
    _check(
        "(parent_run IS NULL) = (parent_step IS NULL)"
        " AND (parent_run IS NULL) = (parent_attempt IS NULL)"
        " AND (parent_run IS NULL) = (orphan IS NULL)",
        "run_child_has_parent",
    ),
    _check("wake_at IS NULL OR finished_at IS NULL", "run_wakes_until_finished"),
    _check("(forked_run IS NULL) = (forked_seq IS NULL)", "run_forked_at_a_line"),
    _check("imported IS NULL OR finished_at IS NOT NULL", "run_imported_has_ended"),
    postgresql_with={"fillfactor": 70},
)
Index("run_stuck", run.c.stuck_until, postgresql_where=run.c.stuck_until.is_not(None))
Index(
    "run_children",
    run.c.tenant_id,
    run.c.parent_run,
    run.c.parent_step,
    postgresql_where=run.c.parent_run.is_not(None),
)
Index(
    "run_live_children",
    run.c.tenant_id,
    run.c.parent_run,
    postgresql_where=run.c.parent_run.is_not(None) & run.c.finished_at.is_(None),
)
Index("run_root", run.c.tenant_id, run.c.root, postgresql_where=run.c.root != run.c.id)
Index(
    "run_imports",
    run.c.tenant_id,
    run.c.id,
    postgresql_where=run.c.imported.is_not(None),
)
Index(
    "run_forks",
    run.c.tenant_id,
    run.c.forked_run,
    postgresql_where=run.c.forked_run.is_not(None),
)
Index("run_wakes", run.c.wake_at, postgresql_where=run.c.wake_at.is_not(None))

step = Table(
    "step",
    metadata,
    _text("tenant_id"),
    _uuid("run_id"),
    _text("key"),
    _text("node"),
    _integer("iteration"),
    _text("status"),
    _integer("attempt"),
    _integer("errors", server_default=text("0")),
    _integer("lost", server_default=text("0")),
    _text("queue", nullable=True),
    _json("parents", default="[]"),
    _json("thread", default="[]"),
    _json("visits", default="{}"),
    _time("wake_at"),
    _integer("sends", server_default=text("0")),
    _bigint("fence", server_default=text("0")),
    _text("worker", nullable=True),
    _time("lease_until"),
    Column("begun", Boolean, nullable=False, server_default=text("false")),
    _text("wait", nullable=True),
    _text("of", nullable=True),
    _integer("item", nullable=True),
    _json("holds", default="[]"),
    _text("awaits", nullable=True),
    _now("asked_at"),
    _json("asked", default="[]"),
    _json("permits", default="[]"),
    _json("used", nullable=True),
    _integer("lane", server_default=text("0")),
    _key("run_id", "key"),
    ForeignKeyConstraint(["tenant_id", "run_id"], ["run.tenant_id", "run.id"]),
    _check("iteration > 0"),
    _check("status IN ('deferred', 'held', 'ready', 'leased', 'reported', 'retrying', 'waiting')"),
    _check("attempt > 0"),
    _check(
        "(status = 'leased') = (lease_until IS NOT NULL)"
        " AND (status = 'leased') = (worker IS NOT NULL)",
        "step_leased_has_owner",
    ),
    _check(
        "status = 'waiting'"
        " OR (status IN ('deferred', 'ready', 'retrying')) = (wake_at IS NOT NULL)",
        "step_waiting_wakes",
    ),
    _check("status <> 'waiting' OR wait IS NOT NULL", "step_waits_for_something"),
    _check("NOT begun OR status = 'leased'", "step_begun_while_leased"),
    postgresql_with={"fillfactor": 50},
)
Index("step_wakes", step.c.wake_at, postgresql_where=step.c.wake_at.is_not(None))
Index(
    "step_lines",
    func.coalesce(step.c.queue, text("''")),
    step.c.lane,
    step.c.tenant_id,
    step.c.wake_at,
    postgresql_where=step.c.status == text("'ready'"),
)
Index("step_leases", step.c.lease_until, postgresql_where=step.c.lease_until.is_not(None))
Index(
    "step_awaits",
    step.c.tenant_id,
    step.c.awaits,
    step.c.asked_at,
    postgresql_where=step.c.awaits.is_not(None),
)

wait = Table(
    "wait",
    metadata,
    _text("tenant_id"),
    _uuid("run_id"),
    _text("step"),
    _text("kind"),
    _text("name", server_default=text("''")),
    _text("correlation", server_default=text("''")),
    Column("transient", Boolean, nullable=False, server_default=text("false")),
    _json("asks", default="{}"),
    _now("opened_at"),
    _integer("round", server_default=text("1")),
    Column("who", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    _text("tool", nullable=True),
    Column("four_eyes", Boolean, nullable=False, server_default=text("false")),
    _time("escalates_at"),
    _time("escalated_at"),
    _key("run_id", "step"),
    ForeignKeyConstraint(
        ["tenant_id", "run_id", "step"],
        ["step.tenant_id", "step.run_id", "step.key"],
        ondelete="CASCADE",
    ),
)
Index(
    "wait_events",
    wait.c.tenant_id,
    wait.c.name,
    wait.c.correlation,
    postgresql_where=wait.c.kind == text("'event'"),
)
Index(
    "wait_people",
    wait.c.tenant_id,
    wait.c.opened_at,
    postgresql_where=text("kind IN ('approval', 'input', 'permit')"),
)
Index("wait_escalates", wait.c.escalates_at, postgresql_where=wait.c.escalates_at.is_not(None))

event = Table(
    "event",
    metadata,
    _text("tenant_id"),
    _uuid("id"),
    _text("key", nullable=True),
    _text("digest"),
    _text("name"),
    Column("run_id", Id, nullable=True),
    _json("match", default="{}"),
    _text("correlation", server_default=text("''")),
    _json("payload", nullable=True),
    _text("sent_by"),
    _text("state", server_default=text("'kept'")),
    _text("detail", server_default=text("''")),
    Column("claimed_run", Id, nullable=True),
    _text("claimed_step", nullable=True),
    _now("received_at"),
    _time("expires_at", nullable=False),
    _key("id"),
    _of_tenant(),
    _check("length(name) BETWEEN 1 AND 200"),
    _check("state IN ('kept', 'claimed', 'dropped', 'refused')"),
    _check(
        "(state = 'claimed') = (claimed_run IS NOT NULL)"
        " AND (state = 'claimed') = (claimed_step IS NOT NULL)",
        "event_claimed_by_a_step",
    ),
)
Index(
    "event_once",
    event.c.tenant_id,
    event.c.key,
    unique=True,
    postgresql_where=event.c.key.is_not(None),
)
Index(
    "event_kept",
    event.c.tenant_id,
    event.c.name,
    event.c.correlation,
    postgresql_where=event.c.state == text("'kept'"),
)
Index("event_expires", event.c.expires_at)

lock = Table(
    "lock",
    metadata,
    _text("tenant_id"),
    _text("name"),
    _uuid("run_id"),
    _now("taken_at"),
    _key("name"),
    ForeignKeyConstraint(["tenant_id", "run_id"], ["run.tenant_id", "run.id"]),
)
Index("lock_run", lock.c.tenant_id, lock.c.run_id)

inbox = Table(
    "inbox",
    metadata,
    _text("tenant_id"),
    _uuid("run_id"),
    Column("id", BigInteger, Identity(always=True), nullable=False),
    _text("kind"),
    _integer("format"),
    _json("body"),
    _text("payload_id", nullable=True),
    _now("received_at"),
    _key("run_id", "id"),
)
Index("inbox_oldest", inbox.c.received_at)

migration = Table(
    "migration",
    metadata,
    _text("tenant_id"),
    _uuid("run_id"),
    _bigint("seq"),
    _uuid("version_id"),
    _uuid("was"),
    _json("was_pins"),
    _key("run_id", "seq"),
    ForeignKeyConstraint(["tenant_id", "run_id"], ["run.tenant_id", "run.id"]),
    ForeignKeyConstraint(
        ["tenant_id", "version_id"], ["workflow_version.tenant_id", "workflow_version.id"]
    ),
    ForeignKeyConstraint(
        ["tenant_id", "was"], ["workflow_version.tenant_id", "workflow_version.id"]
    ),
    _check("seq > 0"),
)
history = _appended(
    "history",
    _bigint("seq"),
    _time("at", nullable=False),
    _text("kind"),
    _integer("format"),
    _json("body"),
    _text("payload_id", nullable=True),
    _bytes("hash"),
    _transaction(),
    _key("run_id", "seq"),
    _check("seq > 0"),
)
Index("history_moved", history.c.xid)
Index(
    "history_rollbacks",
    history.c.tenant_id,
    history.c.run_id,
    history.c.seq,
    postgresql_where=history.c.kind == text("'RollBack'"),
)

payload = _appended(
    "payload",
    _text("id"),
    _bytes("salt"),
    _json("body"),
    _time("shredded_at"),
    _key("run_id", "id"),
)

attempt = _appended(
    "attempt",
    _text("step"),
    _integer("attempt"),
    _bigint("fence"),
    _text("worker"),
    _now("started_at"),
    _key("run_id", "step", "attempt"),
    _check("attempt > 0"),
)

result = _appended(
    "result",
    _text("step"),
    _integer("attempt"),
    _bigint("fence"),
    _text("outcome"),
    _text("reason", nullable=True),
    _text("message", nullable=True),
    _json("usage", default="{}"),
    _now("ended_at"),
    _key("run_id", "step", "attempt"),
    _check("outcome IN ('succeeded', 'failed', 'lost', 'suspended')"),
    _check("(outcome = 'succeeded') = (reason IS NULL)", "result_says_why"),
)
Index(
    "result_accepted_once",
    result.c.tenant_id,
    result.c.run_id,
    result.c.step,
    unique=True,
    postgresql_where=result.c.outcome == text("'succeeded'"),
)

refusal = _appended(
    "refusal",
    _uuid("id"),
    _text("step"),
    _integer("attempt"),
    _bigint("fence"),
    _text("worker"),
    _text("outcome"),
    _now("at"),
    _key("run_id", "id"),
)

call = _appended(
    "call",
    _text("step"),
    _integer("ordinal"),
    _integer("attempt"),
    _text("tool"),
    _integer("version"),
    _text("effect"),
    _text("digest"),
    _json("arguments"),
    _now("started_at"),
    _time("served"),
    _key("run_id", "step", "ordinal", "attempt"),
    _check("ordinal > 0"),
)

Index(
    "call_served",
    call.c.tenant_id,
    call.c.served,
    postgresql_where=call.c.served.is_not(None),
)

call_result = _appended(
    "call_result",
    _text("step"),
    _integer("ordinal"),
    _integer("attempt"),
    _text("reason", nullable=True),
    _text("message", nullable=True),
    _json("value", nullable=True),
    _json("usage", default="{}"),
    _now("ended_at"),
    _key("run_id", "step", "ordinal", "attempt"),
)
Index(
    "call_result_once",
    call_result.c.tenant_id,
    call_result.c.run_id,
    call_result.c.step,
    call_result.c.ordinal,
    unique=True,
    postgresql_where=call_result.c.reason.is_(None),
)

pin = _appended(
    "pin",
    _text("namespace"),
    _text("name"),
    _integer("version"),
    _key("run_id", "namespace", "name"),
)

log = _appended(
    "log",
    _text("step"),
    _integer("attempt"),
    _integer("line"),
    _text("stream"),
    _text("text"),
    _now("at"),
    _integer("call", nullable=True),
    _key("run_id", "step", "attempt", "line"),
    _check("stream IN ('stdout', 'stderr', 'tokens')"),
)

checkpoint = _appended(
    "checkpoint",
    _bigint("seq"),
    _json("state"),
    _now("at"),
    _key("run_id", "seq"),
)

chosen_call = Table(
    "chosen_call",
    metadata,
    _text("tenant_id"),
    _uuid("run_id"),
    _bigint("since"),
    _bigint("until", nullable=True),
    _text("step"),
    _integer("ordinal"),
    _text("node"),
    _text("digest"),
    _text("choice"),
    _json("value", nullable=True),
    _time("made_at", nullable=False),
    _text("taken_step", nullable=True),
    _integer("taken_ordinal", nullable=True),
    _key("run_id", "since", "step", "ordinal", "made_at"),
    ForeignKeyConstraint(["tenant_id", "run_id"], ["run.tenant_id", "run.id"]),
    _check("until > since"),
    _check("ordinal > 0"),
    _check("choice IN ('reuse', 'skip', 'execute', 'refuse', 'compensate')"),
    _check("(taken_step IS NULL) = (taken_ordinal IS NULL)", "chosen_call_taken_by_a_call"),
)
Index(
    "chosen_call_made",
    chosen_call.c.tenant_id,
    chosen_call.c.made_at,
    postgresql_where=chosen_call.c.until.is_(None),
)

undone_call = Table(
    "undone_call",
    metadata,
    _text("tenant_id"),
    _uuid("run_id"),
    _text("step"),
    _integer("ordinal"),
    _uuid("by_run"),
    _integer("place"),
    _text("settled", nullable=True),
    _key("run_id", "step", "ordinal"),
    ForeignKeyConstraint(["tenant_id", "run_id"], ["run.tenant_id", "run.id"]),
    ForeignKeyConstraint(["tenant_id", "by_run"], ["run.tenant_id", "run.id"]),
    _check("ordinal > 0"),
    _check("place >= 0"),
    _check("settled IN ('undone', 'stands')"),
)
Index(
    "undone_call_by",
    undone_call.c.tenant_id,
    undone_call.c.by_run,
    undone_call.c.place,
    unique=True,
)

undoing_call = Table(
    "undoing_call",
    metadata,
    _text("tenant_id"),
    _uuid("by_run"),
    _integer("place"),
    _uuid("run_id"),
    _text("step"),
    _integer("ordinal"),
    _key("by_run", "place"),
    ForeignKeyConstraint(
        ["tenant_id", "run_id", "step", "ordinal"],
        [
            "undone_call.tenant_id",
            "undone_call.run_id",
            "undone_call.step",
            "undone_call.ordinal",
        ],
    ),
    ForeignKeyConstraint(["tenant_id", "by_run"], ["run.tenant_id", "run.id"]),
    _check("place >= 0"),
)
Index(
    "undoing_call_call",
    undoing_call.c.tenant_id,
    undoing_call.c.run_id,
    undoing_call.c.step,
    undoing_call.c.ordinal,
)

checkpoint_name = Table(
    "checkpoint_name",
    metadata,
    _text("tenant_id"),
    _uuid("run_id"),
    _bigint("seq"),
    _text("name"),
    _text("named_by"),
    _now("named_at"),
    _key("run_id", "seq"),
    UniqueConstraint("tenant_id", "run_id", "name"),
    ForeignKeyConstraint(["tenant_id", "run_id"], ["run.tenant_id", "run.id"]),
    _check("seq > 0"),
    _check("length(name) BETWEEN 1 AND 200"),
)

answer = _appended(
    "answer",
    _text("step"),
    _integer("attempt"),
    _text("said_by"),
    _text("choice", server_default=text("''")),
    _json("form", default="{}"),
    _now("at"),
    _integer("round", server_default=text("1")),
    _text("say_of"),
    Column("delegation", Id, nullable=True),
    _text("reason", server_default=text("''")),
    _text("digest", nullable=True),
    _key("run_id", "step", "attempt", "round", "said_by"),
    UniqueConstraint(
        *("tenant_id", "run_id", "step", "attempt", "round", "say_of"),
        name="answer_say_counts_once",
    ),
)

question = _appended(
    "question",
    _text("step"),
    _integer("attempt"),
    _integer("round", server_default=text("1")),
    _text("kind"),
    _text("tool", nullable=True),
    _json("asks"),
    _now("asked_at"),
    _time("expires_at"),
    _key("run_id", "step", "attempt", "round"),
)
Index("question_asked", question.c.tenant_id, question.c.asked_at)

verdict = _appended(
    "verdict",
    _text("step"),
    _integer("attempt"),
    _integer("round", server_default=text("1")),
    _text("by"),
    _text("choice", nullable=True),
    Column("approved", Boolean, nullable=True),
    _text("tool", nullable=True),
    _text("message", server_default=text("''")),
    _time("escalated_at"),
    _now("at"),
    _key("run_id", "step", "attempt", "round"),
)
Index(
    "verdict_approved",
    verdict.c.tenant_id,
    verdict.c.tool,
    verdict.c.at,
    postgresql_where=verdict.c.approved,
)

delegation = Table(
    "delegation",
    metadata,
    _text("tenant_id"),
    _uuid("id"),
    _text("giver"),
    Column("roles", ARRAY(Text), nullable=False),
    _text("taker"),
    Column("run_id", Id, nullable=True),
    _text("step", nullable=True),
    _integer("attempt", nullable=True),
    _integer("round", nullable=True),
    _time("until"),
    _text("reason", server_default=text("''")),
    _now("at"),
    _key("id"),
    _of_tenant(),
    _check("giver <> taker", "delegation_to_another"),
    _check(
        "(run_id IS NULL) <> (until IS NULL)"
        " AND (run_id IS NULL) = (step IS NULL)"
        " AND (run_id IS NULL) = (attempt IS NULL)"
        " AND (run_id IS NULL) = (round IS NULL)",
        "delegation_has_bounds",
    ),
)
Index("delegation_taken", delegation.c.tenant_id, delegation.c.taker)
Index("delegation_given", delegation.c.tenant_id, delegation.c.giver)

revocation = Table(
    "revocation",
    metadata,
    _text("tenant_id"),
    _uuid("delegation"),
    _text("by"),
    _text("reason", server_default=text("''")),
    _now("at"),
    _key("delegation"),
    ForeignKeyConstraint(["tenant_id", "delegation"], ["delegation.tenant_id", "delegation.id"]),
)

batch = Table(
    "batch",
    metadata,
    _text("tenant_id"),
    _text("by"),
    _text("key"),
    _text("digest"),
    _json("questions"),
    _now("at"),
    _key("by", "key"),
    _of_tenant(),
    _check("length(key) BETWEEN 1 AND 255"),
)

batch_answer = Table(
    "batch_answer",
    metadata,
    _text("tenant_id"),
    _text("by"),
    _text("key"),
    _text("question"),
    _json("outcome"),
    _key("by", "key", "question"),
    ForeignKeyConstraint(
        ["tenant_id", "by", "key"],
        ["batch.tenant_id", "batch.by", "batch.key"],
        ondelete="CASCADE",
    ),
)

blob = Table(
    "blob",
    metadata,
    _text("tenant_id"),
    _text("sha256"),
    _bigint("size"),
    _text("state"),
    _now("touched_at"),
    _key("sha256"),
    _of_tenant(),
    _check("sha256 ~ '^[0-9a-f]{64}$'"),
    _check("size >= 0"),
    _check("state IN ('wanted', 'stored', 'condemned')"),
)
Index("blob_touched", blob.c.touched_at)
Index(
    "blob_condemned",
    blob.c.touched_at,
    postgresql_where=blob.c.state == text("'condemned'"),
)

blob_reference = _appended("blob_reference", _text("sha256"), _key("run_id", "sha256"))
Index("blob_referenced", blob_reference.c.tenant_id, blob_reference.c.sha256)

policy_version = Table(
    "policy_version",
    metadata,
    _text("tenant_id"),
    _text("name"),
    _integer("version"),
    _text("document"),
    _text("checksum"),
    _text("created_by"),
    _now("created_at"),
    _key("name", "version"),
    _of_tenant(),
    _check("version >= 1"),
    _check("checksum ~ '^[0-9a-f]{64}$'"),
)

policy = Table(
    "policy",
    metadata,
    _text("tenant_id"),
    _text("name"),
    _integer("active", nullable=True),
    _now("changed_at"),
    _key("name"),
    _of_tenant(),
    ForeignKeyConstraint(
        ["tenant_id", "name", "active"],
        ["policy_version.tenant_id", "policy_version.name", "policy_version.version"],
    ),
)

account = Table(
    "account",
    metadata,
    _text("tenant_id"),
    _text("key"),
    _text("scope"),
    _text("subject"),
    _text("unit"),
    _text("span"),
    _time("period", nullable=False),
    Column("limited", Boolean, nullable=False, server_default=text("false")),
    _amount("granted"),
    _amount("extra"),
    _amount("beyond"),
    _key("key"),
    _of_tenant(),
    _check("scope IN ('run', 'workflow', 'user', 'tenant', 'rate')"),
    _check("span IN ('none', 'minute', 'hour', 'day')"),
    postgresql_with={"fillfactor": 50},
)
Index("account_subject", account.c.tenant_id, account.c.scope, account.c.subject, account.c.period)

purse = Table(
    "purse",
    metadata,
    _text("tenant_id"),
    _text("account"),
    _integer("slice"),
    _amount("granted"),
    _amount("reserved"),
    _amount("spent"),
    _key("account", "slice"),
    ForeignKeyConstraint(
        ["tenant_id", "account"], ["account.tenant_id", "account.key"], ondelete="CASCADE"
    ),
    postgresql_with={"fillfactor": 50},
)

reservation = Table(
    "reservation",
    metadata,
    _text("tenant_id"),
    _uuid("run_id"),
    _text("step"),
    _integer("attempt"),
    _integer("ordinal"),
    _text("user_id"),
    _text("workflow"),
    _text("node"),
    _text("tool", server_default=text("''")),
    _json("amounts"),
    _json("accounts"),
    _json("exceeds", default="{}"),
    _time("at", nullable=False),
    _key("run_id", "step", "attempt", "ordinal"),
    _check("ordinal >= 0"),
    postgresql_with={"fillfactor": 70},
)

ledger = _appended(
    "ledger",
    _text("step"),
    _integer("attempt"),
    _integer("ordinal"),
    _integer("part"),
    _text("user_id"),
    _text("workflow"),
    _text("node"),
    _text("tool", server_default=text("''")),
    _text("model", server_default=text("''")),
    _json("usage"),
    Column("assumed", Boolean, nullable=False, server_default=text("false")),
    _time("charged_at", nullable=False),
    _now("at"),
    _key("run_id", "step", "attempt", "ordinal", "part"),
    _check("part IN (1, 2)"),
)
Index("ledger_charged", ledger.c.tenant_id, ledger.c.charged_at)

secret = Table(
    "secret",
    metadata,
    _text("tenant_id"),
    _text("name"),
    _integer("version"),
    Column("sensitive", Boolean, nullable=False),
    _text("created_by"),
    _now("created_at"),
    _text("key_id", nullable=True),
    Column("nonce", LargeBinary),
    Column("ciphertext", LargeBinary),
    _key("name", "version"),
    _of_tenant(),
    _check("name ~ '^[A-Za-z_][A-Za-z0-9_]{0,63}$'"),
    _check("version > 0"),
    _check("num_nulls(key_id, nonce, ciphertext) IN (0, 3)", "secret_is_whole_or_gone"),
)
Index(
    "secret_in_force",
    secret.c.tenant_id,
    secret.c.name,
    unique=True,
    postgresql_where=secret.c.key_id.is_not(None),
)

capability = Table(
    "capability",
    metadata,
    _text("tenant_id"),
    _text("kind"),
    _text("name"),
    _text("version"),
    _json("profile"),
    _text("granted_by"),
    _now("granted_at"),
    _text("why", server_default=text("''")),
    _key("kind", "name", "version"),
    _of_tenant(),
    _check("kind IN ('function', 'tool', 'workflow')"),
    _check("length(name) BETWEEN 1 AND 200"),
)
