"""What waiting steps wait for, and the one statement that ends a wait.

A row of `wait` lies beside its step and is gone with it. Whoever ends a wait, a person, an
event, another run, the clock, moves the step row from `waiting` to `reported`, and only one
can: the others find it moved. The attempt and its result are appended in the same statement,
but for permits: what people allow is done by an attempt that is yet to begin, or was suspended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Text,
    and_,
    cast,
    delete,
    exists,
    false,
    func,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

from engine.store import session
from engine.store.ids import StepId
from engine.store.tables import answer, run, step, wait, workflow_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What a step waits for. `asks` is what people are shown and asked, or an event must fit."""

    step: StepId
    kind: str
    name: str = ""
    correlation: str = ""
    transient: bool = False
    asks: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a wait ends, if nobody has ended it yet."""

    step: StepId
    attempt: int
    #: Who or what ends it.
    by: str
    #: None: what was waited for has come.
    reason: str | None = None
    message: str | None = None
    #: It counts although the time of the wait is over.
    late: bool = False
    #: Of a question: what was chosen, and whether that lets happen what was asked for.
    choice: str | None = None
    approved: bool | None = None


#: The kinds of wait that ask people.
PEOPLE = ("approval", "input", "permit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrusted:
    """A say that somebody may use: whose it is, and for which question; None: for any."""

    id: str
    of: str
    #: By which roles its owner is asked.
    roles: tuple[str, ...]
    #: Whose hands it went through, the owner's last.
    hands: tuple[str, ...]
    run: str | None = None
    step: str | None = None
    attempt: int | None = None
    round: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (f"user:{self.of}", *(f"role:{role}" for role in self.roles))


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who looks into the inbox."""

    user: str
    roles: tuple[str, ...] = ()
    entrusted: tuple[Entrusted, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (f"user:{self.user}", *(f"role:{role}" for role in self.roles))


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which open waits: those that everything that is given holds of."""

    kinds: Sequence[str]
    #: `mine`, `team`, `overdue`; None: all.
    view: str | None = None
    person: Person = Person(user="")
    run: str | None = None
    workflow: str | None = None
    tool: str | None = None


_PUT = session.Statement(
    name="wait_put",
    types="text[], text[], text[], text[], text[], text[], boolean[], text[]",
    sql="""
    WITH given AS (
        SELECT tenant, run::uuid AS run, n.key, kind, name, correlation, transient,
            asks::json AS asks, s.attempt, s.wake_at, clock_timestamp() AS at,
            kind IN ('approval', 'input', 'permit') AS people
        FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
            AS n (tenant, run, key, kind, name, correlation, transient, asks)
        JOIN step s ON s.tenant_id = n.tenant AND s.run_id = n.run::uuid AND s.key = n.key),
    -- An attempt may ask several times: each is a question of its own.
    counted AS (
        SELECT g.*, CASE WHEN people THEN 1 + (SELECT count(*) FROM question q
            WHERE q.tenant_id = g.tenant AND q.run_id = g.run AND q.step = g.key
                AND q.attempt = g.attempt) ELSE 1 END AS round
        FROM given g),
    asked AS (
        INSERT INTO question (tenant_id, run_id, step, attempt, round, kind, tool, asks, asked_at,
            expires_at)
        SELECT tenant, run, key, attempt, round, kind, asks->>'tool', asks, at, wake_at
        FROM counted WHERE people)
    INSERT INTO wait (tenant_id, run_id, step, kind, name, correlation, transient, asks, opened_at,
        round, who, tool, four_eyes, escalates_at)
    SELECT tenant, run, key, kind, name, correlation, transient, asks, at, round,
        CASE WHEN people AND asks->'from' IS NOT NULL
            THEN ARRAY(SELECT json_array_elements_text(asks->'from')) ELSE '{}' END,
        CASE WHEN people THEN asks->>'tool' END,
        people AND coalesce((asks->>'four_eyes')::boolean, kind = 'permit'),
        CASE WHEN people THEN at + make_interval(secs => (asks#>>'{escalate,after}')::float8) END
    FROM counted
    ON CONFLICT (tenant_id, run_id, step) DO UPDATE SET kind = excluded.kind,
        name = excluded.name, correlation = excluded.correlation, transient = excluded.transient,
        asks = excluded.asks, opened_at = excluded.opened_at, round = excluded.round,
        who = excluded.who, tool = excluded.tool, four_eyes = excluded.four_eyes,
        escalates_at = excluded.escalates_at, escalated_at = NULL
    """,
)

_END = session.Statement(
    name="wait_end",
    types="text[], text[], text[], int[], text[], text[], text[], boolean[], text[], boolean[]",
    sql="""
    WITH said AS (
        SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
            AS t (tenant, run, key, attempt, by, reason, message, late, choice, approved)),
    mine AS (
        SELECT s.tenant_id, s.run_id, s.key FROM step s
        JOIN said w ON s.tenant_id = w.tenant AND s.run_id = w.run::uuid AND s.key = w.key
        WHERE s.status = 'waiting' AND s.attempt = w.attempt
            AND (w.late OR s.wake_at IS NULL OR s.wake_at > clock_timestamp())
        ORDER BY 1, 2, 3 FOR UPDATE OF s),
    won AS (
        UPDATE step s SET status = 'reported', wake_at = NULL FROM mine m, said w
        WHERE s.tenant_id = m.tenant_id AND s.run_id = m.run_id AND s.key = m.key
            AND s.tenant_id = w.tenant AND s.run_id = w.run::uuid AND s.key = w.key
        RETURNING s.tenant_id, s.run_id, s.key, s.attempt, s.fence, s.asked_at, s.wait, w.by,
            w.reason, w.message, w.choice, w.approved),
    of_people AS (
        SELECT won.*, w.kind, w.round, w.tool, w.escalated_at FROM won JOIN wait w
            ON w.tenant_id = won.tenant_id AND w.run_id = won.run_id AND w.step = won.key
        WHERE w.kind IN ('approval', 'input', 'permit')),
    judged AS (
        INSERT INTO verdict (tenant_id, run_id, step, attempt, round, by, choice, approved, tool,
            message, escalated_at)
        SELECT tenant_id, run_id, key, attempt, round, by, choice, approved, tool,
            coalesce(message, ''), escalated_at FROM of_people),
    -- With a permit nothing has ended: what it is for is still to begin.
    began AS (
        INSERT INTO attempt (tenant_id, run_id, step, attempt, fence, worker, started_at)
        SELECT tenant_id, run_id, key, attempt, fence, by, asked_at FROM won
        WHERE wait <> 'permit'),
    ended AS (
        INSERT INTO result (tenant_id, run_id, step, attempt, fence, outcome, reason, message)
        SELECT tenant_id, run_id, key, attempt, fence,
            CASE WHEN reason IS NULL THEN 'succeeded' ELSE 'failed' END, reason, message FROM won
        WHERE wait <> 'permit')
    SELECT tenant_id, run_id::text, key FROM won
    """,
)

_DUE = session.Statement(
    name="wait_due",
    types="int",
    sql="""
    SELECT tenant_id, run_id::text AS run_id, key, node, attempt, wait FROM step
    WHERE wake_at <= clock_timestamp() AND status = 'waiting'
    ORDER BY wake_at LIMIT $1 FOR UPDATE SKIP LOCKED
    """,
)


# Whoever settles a question holds its step: what is just being settled is passed over.
_ESCALATE = session.Statement(
    name="wait_escalate",
    types="int",
    sql="""
    WITH late AS (
        SELECT w.tenant_id, w.run_id, w.step, s.attempt
        FROM wait w JOIN step s
            ON s.tenant_id = w.tenant_id AND s.run_id = w.run_id AND s.key = w.step
        WHERE w.escalates_at <= clock_timestamp() AND s.status = 'waiting'
            AND (s.wake_at IS NULL OR s.wake_at > clock_timestamp())
        ORDER BY w.escalates_at LIMIT $1 FOR UPDATE OF s, w SKIP LOCKED)
    UPDATE wait w SET escalates_at = NULL, escalated_at = clock_timestamp(),
        -- Where anybody may answer, nobody is shut out by being named.
        who = CASE WHEN w.who = '{}' THEN w.who ELSE w.who || ARRAY(
            SELECT one FROM json_array_elements_text(w.asks#>'{escalate,to}') one
            WHERE one <> ALL (w.who)) END
    FROM late l
    WHERE w.tenant_id = l.tenant_id AND w.run_id = l.run_id AND w.step = l.step
        AND w.escalates_at <= clock_timestamp()
    RETURNING w.tenant_id, w.run_id::text AS run_id, w.step, l.attempt, w.round, w.who, w.asks
    """,
)


def put(connection: Connection, waits: Sequence[Wait]) -> None:
    """Keep what steps wait for; their rows are there."""
    if waits:
        session.later(
            connection,
            _PUT,
            [one.step.tenant for one in waits],
            [one.step.run for one in waits],
            [one.step.key for one in waits],
            [one.kind for one in waits],
            [one.name for one in waits],
            [one.correlation for one in waits],
            [one.transient for one in waits],
            [one.asks for one in waits],
        )


def end(connection: Connection, ends: Sequence[End]) -> frozenset[StepId]:
    """End waits; the steps whose wait was still to be ended."""
    if not ends:
        return frozenset()
    rows = session.run(
        connection,
        _END,
        [one.step.tenant for one in ends],
        [one.step.run for one in ends],
        [one.step.key for one in ends],
        [one.attempt for one in ends],
        [one.by for one in ends],
        [one.reason for one in ends],
        [one.message for one in ends],
        [one.late for one in ends],
        [one.choice for one in ends],
        [one.approved for one in ends],
    )
    return frozenset(StepId._make(row) for row in rows)


def due(connection: Connection, limit: int) -> Sequence[Row[Any]]:
    """Steps that have waited for as long as they may; locked."""
    return session.run(connection, _DUE, limit)


def lock(connection: Connection, of: StepId) -> Any:
    """A step that waits, with what it asks; its row is locked. None when it does not wait."""
    statement = (
        select(
            step.c.attempt,
            step.c.wait,
            step.c.wake_at,
            step.c.node,
            wait.c.kind,
            wait.c.asks,
            wait.c.opened_at,
            wait.c.round,
            wait.c.who,
            wait.c.four_eyes,
            run.c.submitted_by,
        )
        .select_from(
            step.join(
                run, (run.c.tenant_id == step.c.tenant_id) & (run.c.id == step.c.run_id)
            ).outerjoin(wait, _beside())
        )
        .where(
            step.c.tenant_id == of.tenant,
            step.c.run_id == of.run,
            step.c.key == of.key,
            step.c.status == "waiting",
        )
        .with_for_update(of=step)
    )
    return connection.execute(statement).one_or_none()


def asks(connection: Connection, of: StepId) -> Any:
    """What a step asks, or asked until it was answered."""
    statement = select(wait.c.asks).where(
        wait.c.tenant_id == of.tenant, wait.c.run_id == of.run, wait.c.step == of.key
    )
    return connection.execute(statement).scalar_one()


def drop(connection: Connection, steps: Sequence[StepId]) -> None:
    """Forget what steps waited for that go on."""
    for one in steps:
        connection.execute(
            delete(wait).where(
                wait.c.tenant_id == one.tenant,
                wait.c.run_id == one.run,
                wait.c.step == one.key,
            )
        )


def escalate(connection: Connection, limit: int) -> Sequence[Row[Any]]:
    """Put questions that nobody has settled in time to those who are asked then, too."""
    return session.run(connection, _ESCALATE, limit)


def page(
    connection: Connection,
    tenant: str,
    *,
    which: Which,
    after: tuple[Any, str, str] | None = None,
    limit: int = 100,
) -> Sequence[Any]:
    """Open waits, oldest first, after (opened_at, run, step)."""
    statement = (
        select(
            wait.c.run_id,
            wait.c.step,
            wait.c.kind,
            wait.c.name,
            wait.c.asks,
            wait.c.opened_at,
            wait.c.round,
            wait.c.who,
            wait.c.tool,
            wait.c.four_eyes,
            wait.c.escalates_at,
            wait.c.escalated_at,
            step.c.node,
            step.c.attempt,
            step.c.wake_at.label("expires_at"),
            run.c.submitted_by,
            workflow_version.c.workflow,
            _overdue().label("overdue"),
        )
        .select_from(_WHOLE)
        .where(*_open(tenant, which))
        .order_by(wait.c.opened_at, wait.c.run_id, wait.c.step)
        .limit(limit)
    )
    if which.view is not None:
        statement = statement.where(_views(which.person)[which.view])
    if after is not None:
        opened, before_run, before_step = after
        statement = statement.where(
            (wait.c.opened_at > opened)
            | (
                (wait.c.opened_at == opened)
                & (
                    (wait.c.run_id > before_run)
                    | ((wait.c.run_id == before_run) & (wait.c.step > before_step))
                )
            )
        )
    return connection.execute(statement).all()


def counts(connection: Connection, tenant: str, which: Which) -> Mapping[str, int]:
    """How many open waits each view has, and how many there are in all."""
    columns = [func.count().label("all")]
    columns += [
        func.count().filter(condition).label(view)
        for view, condition in _views(which.person).items()
    ]
    statement = select(*columns).select_from(_WHOLE).where(*_open(tenant, which))
    return dict(connection.execute(statement).mappings().one())


def _open(tenant: str, which: Which) -> Iterator[ColumnElement[bool]]:
    yield wait.c.tenant_id == tenant
    yield step.c.status == "waiting"
    yield wait.c.kind.in_(which.kinds)
    if which.run is not None:
        yield wait.c.run_id == which.run
    if which.workflow is not None:
        yield workflow_version.c.workflow == which.workflow
    if which.tool is not None:
        yield wait.c.tool == which.tool


def _views(person: Person) -> Mapping[str, ColumnElement[bool]]:
    """What each view of the inbox shows."""
    return {"mine": _mine(person), "team": _team(person), "overdue": _overdue()}


def _mine(person: Person) -> ColumnElement[bool]:
    """Asked of somebody, or of those he stands in for, and he may still answer."""
    own = (_asked(person.names) | (wait.c.who == cast([], ARRAY(Text)))) & ~_used(person.user)
    says = [own]
    for say in person.entrusted:
        here: ColumnElement[bool] = true()
        if say.run is not None:
            here = (
                (wait.c.run_id == say.run)
                & (wait.c.step == say.step)
                & (step.c.attempt == say.attempt)
                & (wait.c.round == say.round)
            )
        barred = wait.c.four_eyes & (run.c.submitted_by == say.of)
        says.append(here & _asked(say.names) & ~_used(say.of) & ~barred)
    return and_(
        wait.c.kind.in_(PEOPLE),
        or_(*says),
        ~_answered(answer.c.said_by == person.user),
        ~(wait.c.four_eyes & (run.c.submitted_by == person.user)),
    )


def _team(person: Person) -> ColumnElement[bool]:
    return _asked([f"role:{role}" for role in person.roles])


def _overdue() -> ColumnElement[bool]:
    now = func.clock_timestamp()
    return or_(
        wait.c.escalated_at.is_not(None),
        func.coalesce(wait.c.escalates_at <= now, false()),
        func.coalesce(step.c.wake_at <= now, false()),
    )


def _asked(names: Sequence[str]) -> ColumnElement[bool]:
    return wait.c.who.bool_op("&&")(cast([*names], ARRAY(Text)))


def _used(user: str) -> ColumnElement[bool]:
    return _answered(answer.c.say_of == user)


def _answered(said: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether an answer to the question that is open says so."""
    return exists(
        select(answer.c.said_by).where(
            answer.c.tenant_id == wait.c.tenant_id,
            answer.c.run_id == wait.c.run_id,
            answer.c.step == wait.c.step,
            answer.c.attempt == step.c.attempt,
            answer.c.round == wait.c.round,
            said,
        )
    )


def _beside() -> ColumnElement[bool]:
    return (
        (wait.c.tenant_id == step.c.tenant_id)
        & (wait.c.run_id == step.c.run_id)
        & (wait.c.step == step.c.key)
    )


_WHOLE = (
    wait.join(step, _beside())
    .join(run, (run.c.tenant_id == wait.c.tenant_id) & (run.c.id == wait.c.run_id))
    .join(
        workflow_version,
        (workflow_version.c.tenant_id == run.c.tenant_id)
        & (workflow_version.c.id == run.c.version_id),
    )
)
