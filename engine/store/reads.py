"""What is shown of runs: one statement per question, none of them on the path of a turn.

Lists page by key, so that what is inserted meanwhile shifts nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    Row,
    Select,
    Table,
    Text,
    and_,
    case,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import distinct_on

from engine.store import session
from engine.store import tables as t
from engine.store.ids import RunId

_SUMMARY = (
    t.run.c.id,
    t.run.c.version_id,
    t.workflow_version.c.workflow,
    t.workflow_version.c.version,
    t.run.c.status,
    t.run.c.seq,
    t.run.c.submitted_by,
    t.run.c.created_at,
    t.run.c.started_at,
    t.run.c.finished_at,
    t.run.c.reason,
    t.run.c.message,
    t.run.c.ended_step,
    t.run.c.stuck_error,
    t.run.c.stuck_until,
    t.run.c.parent_run,
    t.run.c.parent_step,
    t.run.c.forked_run,
    t.run.c.forked_seq,
    t.run.c.imported,
)


#: What is decided of a step that is done: it leaves its tokens, is counted by its map, is undone.
SETTLES = ("TakeEdges", "SettleItem", "SettleUndo")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction whose statements all see one moment, and that can write nothing."""
    with session.transaction(engine, reads=True) as connection:
        yield connection


def runs(
    connection: Connection,
    tenant: str,
    *,
    statuses: Sequence[str] = (),
    workflow: str | None = None,
    version_id: str | None = None,
    parent: str | None = None,
    before: str | None = None,
    limit: int = 100,
) -> Sequence[Row[Any]]:
    """Runs of a tenant, or those that steps of one run started, newest first, older than an id."""
    statement = _of_version(select(*_SUMMARY)).where(t.run.c.tenant_id == tenant)
    if statuses:
        statement = statement.where(t.run.c.status.in_(statuses))
    if workflow is not None:
        statement = statement.where(t.workflow_version.c.workflow == workflow)
    if version_id is not None:
        statement = statement.where(t.run.c.version_id == version_id)
    if parent is not None:
        statement = statement.where(t.run.c.parent_run == parent)
    if before is not None:
        statement = statement.where(t.run.c.id < before)
    return connection.execute(statement.order_by(t.run.c.id.desc()).limit(limit)).all()


def chosen_runs(
    connection: Connection,
    tenant: str,
    *,
    ids: Sequence[str] = (),
    workflow: str | None = None,
    version_id: str | None = None,
    statuses: Sequence[str] = (),
    before: datetime | None = None,
    after: datetime | None = None,
    before_id: str | None = None,
    stuck: bool = False,
    by: str | None = None,
    limit: int,
) -> Sequence[Row[Any]]:
    """The ids of the runs of a tenant that all of this holds of, newest first, older than an id.

    `before` and `after` are times of submission; `stuck` names those whose turn fails, `by` is who
    has submitted them. What was recorded elsewhere is there for who asks for it by its id.
    """
    statement = _of_version(select(t.run.c.id)).where(t.run.c.tenant_id == tenant)
    if not ids:
        statement = statement.where(t.run.c.imported.is_(None))
    if workflow is not None:
        statement = statement.where(t.workflow_version.c.workflow == workflow)
    if version_id is not None:
        statement = statement.where(t.run.c.version_id == version_id)
    if ids:
        statement = statement.where(t.run.c.id.in_(ids))
    if statuses:
        statement = statement.where(t.run.c.status.in_(statuses))
    if before is not None:
        statement = statement.where(t.run.c.created_at < before)
    if after is not None:
        statement = statement.where(t.run.c.created_at > after)
    if before_id is not None:
        statement = statement.where(t.run.c.id < before_id)
    if stuck:
        statement = statement.where(t.run.c.stuck_error.is_not(None))
    if by is not None:
        statement = statement.where(t.run.c.submitted_by == by)
    return connection.execute(statement.order_by(t.run.c.id.desc()).limit(limit)).all()


def unknown_runs(connection: Connection, tenant: str, ids: Sequence[str]) -> tuple[str, ...]:
    """Those of the ids that are of no run of the tenant, in the order given."""
    statement: Select[Any] = select(t.run.c.id).where(
        t.run.c.tenant_id == tenant, t.run.c.id.in_(ids)
    )
    known = set(connection.execute(statement).scalars()) if ids else set()
    return tuple(run for run in dict.fromkeys(ids) if run not in known)


def stands(connection: Connection, runs: Sequence[RunId]) -> Sequence[Row[Any]]:
    """Where runs of one tenant stand: status, and the error of those that are stuck."""
    statement: Select[Any] = select(t.run.c.id, t.run.c.status, t.run.c.stuck_error).where(
        t.run.c.tenant_id.in_({run.tenant for run in runs}),
        t.run.c.id.in_([run.run for run in runs]),
    )
    return connection.execute(statement).all()


def summary(connection: Connection, run: RunId) -> Row[Any] | None:
    """A run as a list shows it."""
    return connection.execute(_of_version(select(*_SUMMARY)).where(_is(run))).first()


def run(connection: Connection, run: RunId) -> Row[Any] | None:
    """All that the head of a run tells."""
    columns = (*_SUMMARY, t.run.c.rules, t.run.c.pins, t.run.c.variables, t.run.c.outputs)
    statement = _of_version(select(*columns)).where(_is(run))
    return connection.execute(statement).first()


# With every submission, and whenever something of a run is new for somebody who waits for it.
_STATUS = session.Statement(
    name="run_status",
    types="text, text",
    sql="SELECT status, seq FROM run WHERE tenant_id = $1 AND id = $2::uuid",
)


def status(connection: Connection, run: RunId) -> Row[Any] | None:
    """Where a run stands: status and seq."""
    return next(iter(session.run(connection, _STATUS, run.tenant, t.known_id(run.run))), None)


def standing(engine: Engine, run: RunId) -> Row[Any] | None:
    """The same, for who asks for nothing else."""
    return next(iter(session.ask(engine, _STATUS, run.tenant, t.known_id(run.run))), None)


#: What a live step waits for, and the run that its attempt has started.
_WAIT = and_(
    t.wait.c.tenant_id == t.step.c.tenant_id,
    t.wait.c.run_id == t.step.c.run_id,
    t.wait.c.step == t.step.c.key,
)
_CHILD = (
    select(t.run.c.id)
    .where(
        t.run.c.tenant_id == t.step.c.tenant_id,
        t.run.c.parent_run == t.step.c.run_id,
        t.run.c.parent_step == t.step.c.key,
        t.run.c.parent_attempt == t.step.c.attempt,
    )
    .scalar_subquery()
)


def live_steps(connection: Connection, run: RunId) -> Sequence[Row[Any]]:
    """The steps that are not settled, with what they wait for, by node, iteration and item."""
    statement: Select[Any] = (
        select(t.step, t.wait.c.name.label("event"), t.wait.c.asks, _CHILD.label("child"))
        .select_from(t.step.outerjoin(t.wait, _WAIT))
        .where(_in(t.step, run))
        .order_by(t.step.c.node, t.step.c.iteration, t.step.c.item, t.step.c.key)
    )
    return connection.execute(statement).all()


def standing_steps(connection: Connection, run: RunId, *, limit: int) -> Sequence[Row[Any]]:
    """The first of the live steps, with what they wait for, without what people are shown."""
    beside_it = (
        t.wait.c.name.label("event"),
        t.wait.c.correlation,
        t.wait.c.who,
        t.wait.c.opened_at,
    )
    statement: Select[Any] = (
        select(t.step, *beside_it, _CHILD.label("child"))
        .select_from(t.step.outerjoin(t.wait, _WAIT))
        .where(_in(t.step, run))
        .order_by(t.step.c.node, t.step.c.iteration, t.step.c.item, t.step.c.key)
        .limit(limit)
    )
    return connection.execute(statement).all()


def live_counts(connection: Connection, run: RunId) -> dict[str, int]:
    """How many steps of a run are live, by status."""
    statement: Select[Any] = (
        select(t.step.c.status, func.count().label("steps"))
        .where(_in(t.step, run))
        .group_by(t.step.c.status)
    )
    return {row.status: row.steps for row in connection.execute(statement)}


def last_lines(
    connection: Connection, run: RunId, *, before: int | None = None, limit: int
) -> Sequence[Row[Any]]:
    """The last lines of history, or the last before a seq, newest first, without users' data."""
    statement: Select[Any] = (
        select(t.history.c.seq, t.history.c.at, t.history.c.kind, t.history.c.body)
        .where(_in(t.history, run))
        .order_by(t.history.c.seq.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(t.history.c.seq < before)
    return connection.execute(statement).all()


def rollbacks(connection: Connection, run: RunId) -> Sequence[Row[Any]]:
    """The lines of history by which a run went back to an earlier place, in order."""
    statement: Select[Any] = (
        select(t.history.c.seq, t.history.c.at, t.history.c.body)
        # As it is written, so that the index of these lines alone is used.
        .where(_in(t.history, run), t.history.c.kind == literal_column("'RollBack'"))
        .order_by(t.history.c.seq)
    )
    return connection.execute(statement).all()


def line_after(connection: Connection, run: RunId, at: datetime) -> int | None:
    """The first line of history that is younger than a time."""
    statement = select(func.min(t.history.c.seq)).where(_in(t.history, run), t.history.c.at > at)
    found: int | None = connection.execute(statement).scalar_one()
    return found


_LAST_CHANGE = session.Statement(
    name="history_last_change",
    types="text, uuid",
    sql="""
        SELECT at FROM history WHERE tenant_id = $1 AND run_id = $2 ORDER BY seq DESC LIMIT 1
    """,
)


def last_change(connection: Connection, run: RunId) -> Any:
    """The time of the last line of history; None where there is none."""
    found = session.run(connection, _LAST_CHANGE, run.tenant, run.run)
    return found[0].at if found else None


def unread_since(connection: Connection, run: RunId) -> Any:
    """When the oldest event that no turn has taken yet was received."""
    statement: Select[Any] = select(func.min(t.inbox.c.received_at)).where(_in(t.inbox, run))
    return connection.execute(statement).scalar_one()


def begun_steps(
    connection: Connection, run: RunId, *, after: int = 0, limit: int = 100
) -> Sequence[Row[Any]]:
    """The lines of history that began steps, after a seq, in order."""
    attempt, step = t.history.c.body["attempt"].as_integer(), t.history.c.body["step"].as_string()
    # Of a step that begins anew after a fork or a rollback, the first one was that of another.
    theirs = (
        select(literal(1))
        .where(
            _in(t.result, run),
            t.result.c.step == step,
            t.result.c.attempt == attempt - 1,
            t.result.c.reason.in_(("forked", "rolled_back")),
        )
        .exists()
    )
    first_attempt = or_(attempt == 1, theirs)
    statement: Select[Any] = (
        select(t.history.c.seq, t.history.c.at, t.history.c.kind, t.history.c.body)
        .where(
            _in(t.history, run),
            t.history.c.seq > after,
            or_(
                t.history.c.kind == "PassNode",
                and_(t.history.c.kind == "RequestStart", first_attempt),
            ),
        )
        .order_by(t.history.c.seq)
        .limit(limit)
    )
    return connection.execute(statement).all()


def begun_step(connection: Connection, run: RunId, key: str) -> Row[Any] | None:
    """The line of history that began a step."""
    statement: Select[Any] = (
        select(t.history.c.seq, t.history.c.at, t.history.c.kind, t.history.c.body)
        .where(
            _in(t.history, run),
            t.history.c.kind.in_(("PassNode", "RequestStart")),
            t.history.c.body["step"].as_string() == key,
        )
        .order_by(t.history.c.seq)
        .limit(1)
    )
    return connection.execute(statement).first()


def settled_steps(
    connection: Connection, run: RunId, steps: Sequence[str], *, after: int = 0
) -> Sequence[Row[Any]]:
    """The lines of history, after a seq, that settled any of the steps."""
    statement: Select[Any] = select(t.history.c.seq, t.history.c.at, t.history.c.body).where(
        _in(t.history, run),
        t.history.c.seq > after,
        t.history.c.kind.in_(SETTLES),
        t.history.c.body["step"].as_string() == func.any(literal(list(steps), ARRAY(Text))),
    )
    return connection.execute(statement).all()


def attempts(
    connection: Connection, run: RunId, steps: Sequence[str] | None = None
) -> Sequence[Row[Any]]:
    """Attempts, of some steps or of all, in order of their start, each with how it ended."""
    ends = and_(
        t.result.c.tenant_id == t.attempt.c.tenant_id,
        t.result.c.run_id == t.attempt.c.run_id,
        t.result.c.step == t.attempt.c.step,
        t.result.c.attempt == t.attempt.c.attempt,
    )
    statement: Select[Any] = (
        select(
            t.attempt.c.step,
            t.attempt.c.attempt,
            t.attempt.c.fence,
            t.attempt.c.worker,
            t.attempt.c.started_at,
            t.result.c.ended_at,
            t.result.c.outcome,
            t.result.c.reason,
            t.result.c.message,
            t.result.c.usage,
        )
        .select_from(t.attempt.outerjoin(t.result, ends))
        .where(_in(t.attempt, run))
        .order_by(t.attempt.c.started_at, t.attempt.c.step, t.attempt.c.attempt)
    )
    if steps is not None:
        statement = statement.where(t.attempt.c.step == func.any(literal(list(steps), ARRAY(Text))))
    return connection.execute(statement).all()


def payload(connection: Connection, run: RunId, id: str) -> Any:  # noqa: A002  # the column's name
    """The users' data that a line of history points to; None when there is none."""
    statement: Select[Any] = select(t.payload.c.body).where(
        _in(t.payload, run), t.payload.c.id == id
    )
    return connection.execute(statement).scalar_one_or_none()


def calls(connection: Connection, run: RunId, step: str | None = None) -> Sequence[Row[Any]]:
    """Tool calls, of a step or of all, in order of their start, each with how it ended."""
    ends = and_(
        t.call_result.c.tenant_id == t.call.c.tenant_id,
        t.call_result.c.run_id == t.call.c.run_id,
        t.call_result.c.step == t.call.c.step,
        t.call_result.c.ordinal == t.call.c.ordinal,
        t.call_result.c.attempt == t.call.c.attempt,
    )
    statement: Select[Any] = (
        select(
            t.call,
            t.call_result.c.ended_at,
            t.call_result.c.reason,
            t.call_result.c.message,
            t.call_result.c.value,
            t.call_result.c.usage,
        )
        .select_from(t.call.outerjoin(t.call_result, ends))
        .where(_in(t.call, run))
        .order_by(t.call.c.started_at, t.call.c.step, t.call.c.ordinal)
    )
    if step is not None:
        statement = statement.where(t.call.c.step == step)
    return connection.execute(statement).all()


def charges(connection: Connection, run: RunId) -> Sequence[Row[Any]]:
    """What the attempts (ordinal 0) and calls of a run were charged, by unit, every digit of it."""
    used = func.json_each_text(t.ledger.c.usage).table_valued("key", "value").render_derived("used")
    statement: Select[Any] = (
        select(
            t.ledger.c.step,
            t.ledger.c.attempt,
            t.ledger.c.ordinal,
            used.c.key.label("unit"),
            used.c.value.label("amount"),
        )
        .select_from(t.ledger.join(used, true()))
        .where(_in(t.ledger, run))
    )
    return connection.execute(statement).all()


def logs(
    connection: Connection,
    run: RunId,
    *,
    step: str | None = None,
    after: Mapping[tuple[str, int], int],
    limit: int = 1000,
) -> Sequence[Row[Any]]:
    """Lines that steps printed, after the last line read of each attempt, oldest first.

    An attempt's lines are numbered by its one writer, so none can appear before one that was
    read; their times give no such promise.
    """
    seen = (
        func.unnest(
            literal([step for step, _ in after], ARRAY(Text)),
            literal([attempt for _, attempt in after], ARRAY(Integer)),
            literal(list(after.values()), ARRAY(Integer)),
        )
        .table_valued("step", "attempt", "line")
        .render_derived("seen")
    )
    matching = and_(seen.c.step == t.log.c.step, seen.c.attempt == t.log.c.attempt)
    statement: Select[Any] = (
        select(t.log)
        .select_from(t.log.outerjoin(seen, matching))
        .where(_in(t.log, run), t.log.c.line > func.coalesce(seen.c.line, -1))
        .order_by(t.log.c.at, t.log.c.step, t.log.c.attempt, t.log.c.line)
        .limit(limit)
    )
    if step is not None:
        statement = statement.where(t.log.c.step == step)
    return connection.execute(statement).all()


def last_settled(connection: Connection, run: RunId, nodes: Sequence[str]) -> Mapping[str, str]:
    """The step of each of some nodes that was settled last, by node."""
    step = t.history.c.body["step"].as_string()
    node = func.split_part(step, "#", 1)
    statement: Select[Any] = (
        select(node.label("node"), step.label("step"))
        .where(
            _in(t.history, run),
            t.history.c.kind == "TakeEdges",
            node.in_(nodes),
        )
        .order_by(node, t.history.c.seq.desc())
        .ext(distinct_on(node))
    )
    return {row.node: row.step for row in connection.execute(statement)}


def settled_at(connection: Connection, run: RunId, seq: int) -> str | None:
    """The step that a line settles; None: it settles none."""
    statement: Select[Any] = select(t.history.c.body["step"].as_string()).where(
        _in(t.history, run), t.history.c.seq == seq, t.history.c.kind == "TakeEdges"
    )
    return connection.execute(statement).scalar_one_or_none()


def checkpoints(
    connection: Connection, run: RunId, *, after: int = 0, limit: int = 100
) -> Sequence[Row[Any]]:
    """Places that a run can be taken up from, after a seq: where a step was settled, or that have a name."""
    snapshot = (
        select(literal(1))
        .where(_in(t.checkpoint, run), t.checkpoint.c.seq == t.history.c.seq)
        .exists()
    )
    named = and_(_in(t.checkpoint_name, run), t.checkpoint_name.c.seq == t.history.c.seq)
    statement: Select[Any] = (
        select(
            t.history.c.seq,
            t.history.c.at,
            case((t.history.c.kind == "TakeEdges", t.history.c.body["step"].as_string())).label(
                "step"
            ),
            snapshot.label("snapshot"),
            t.checkpoint_name.c.name,
            t.checkpoint_name.c.named_by,
        )
        .select_from(t.history.outerjoin(t.checkpoint_name, named))
        .where(
            _in(t.history, run),
            t.history.c.seq > after,
            or_(t.history.c.kind == "TakeEdges", snapshot, t.checkpoint_name.c.name.is_not(None)),
        )
        .order_by(t.history.c.seq)
        .limit(limit)
    )
    return connection.execute(statement).all()


def _is(run: RunId) -> ColumnElement[bool]:
    return and_(t.run.c.tenant_id == run.tenant, t.run.c.id == run.run)


def _in(table: Table, run: RunId) -> ColumnElement[bool]:
    return and_(table.c.tenant_id == run.tenant, table.c.run_id == run.run)


def _of_version(statement: Select[Any]) -> Select[Any]:
    version = and_(
        t.workflow_version.c.tenant_id == t.run.c.tenant_id,
        t.workflow_version.c.id == t.run.c.version_id,
    )
    return statement.select_from(t.run.join(t.workflow_version, version))
