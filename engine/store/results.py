"""How every attempt ended: once, under the fence that its lease gave.

An attempt ends by its worker's report, by the expiry of its lease or by a person's hand,
whichever moves the step row first. The loser's report changes nothing and is kept as a refusal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from engine.store import session, steps
from engine.store.ids import RunId, StepId
from engine.store.steps import Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a worker says of an attempt. Texts are JSON; the payload is absent for failures."""

    step: StepId
    attempt: int
    fence: int
    worker: str
    outcome: str
    reason: str | None
    message: str | None
    usage: str
    kind: str
    format: int
    body: str
    payload: str | None
    salt: bytes

    @property
    def held(self) -> Held:
        """The lease that it is under: of one step there may be several reports."""
        return Held(step=self.step, fence=self.fence)

    @property
    def payload_id(self) -> str | None:
        return f"{self.step.key}/{self.attempt}" if self.payload is not None else None


_MINE = steps.NAMED.format(
    named="said",
    which="""s.status = 'leased' AND s.begun AND s.fence = w.fence AND s.attempt = w.attempt
            FOR UPDATE OF s""",
)


_MOVE = (
    "UPDATE step s SET status = 'reported', worker = NULL, lease_until = NULL, begun = false FROM"
)


def _ending(name: str, said: str, *, moved: str = _MOVE) -> session.Statement:
    """What ends attempts, what becomes of their steps, and what is `said` of those whose lease held."""
    return session.Statement(
        name=name,
        types=(
            "text[], text[], text[], int[], bigint[], text[], text[], text[], text[], text[], int[], "
            "text[], text[], text[], bytea[], boolean[]"
        ),
        sql=f"""
    WITH said AS (
        SELECT *
        FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) AS t
            (tenant, run, key, attempt, fence, outcome, reason, message, usage, kind, format,
             body, payload, payload_id, salt, heard)),
    mine AS ({_MINE}),
    won AS (
        {moved} mine m, said w
        WHERE s.tenant_id = m.tenant_id AND s.run_id = m.run_id AND s.key = m.key
            AND s.tenant_id = w.tenant AND s.run_id = w.run::uuid AND s.key = w.key
            AND s.fence = w.fence AND s.attempt = w.attempt
        RETURNING s.*, w.outcome, w.reason, w.message, w.usage, w.kind, w.format, w.body, w.payload,
            w.payload_id, w.salt, w.heard),
    ended AS (
        INSERT INTO result (tenant_id, run_id, step, attempt, fence, outcome, reason, message, usage)
        SELECT tenant_id, run_id, key, attempt, fence, outcome, reason, message, usage::json
        FROM won),
    kept AS (
        INSERT INTO payload (tenant_id, run_id, id, salt, body)
        SELECT tenant_id, run_id, payload_id, salt, payload::json FROM won
        WHERE payload_id IS NOT NULL),
    told AS (
        INSERT INTO inbox (tenant_id, run_id, kind, format, body, payload_id)
        SELECT tenant_id, run_id, kind, format, body::json, payload_id FROM won WHERE NOT heard)
    {said}
    """,  # noqa: S608  # our own constants
    )


_REPORT = _ending(
    "result_report",
    f"SELECT {steps.LOADED}, s.fence, (SELECT clock_timestamp()) AS at FROM won s",  # noqa: S608
)
_WHOLE = "SELECT all_written(count(*), cardinality($1), 'attempts') FROM won"
_EXPECT = _ending("result_expect", _WHOLE)
#: Where the steps are settled by it.
_EXPECT_SETTLED = _ending("result_expect_settled", _WHOLE, moved="DELETE FROM step s USING")

_LOSE = session.Statement(
    name="result_lose",
    types="text[], text[], text[], int[], bigint[], text[], text[]",
    sql="""
    INSERT INTO result (tenant_id, run_id, step, attempt, fence, outcome, reason, message, usage)
    SELECT tenant, run::uuid, key, attempt, fence, 'lost', 'lost',
        'worker ' || worker || ' stopped answering', usage::json
    FROM unnest($1, $2, $3, $4, $5, $6, $7) AS t
        (tenant, run, key, attempt, fence, worker, usage)
    """,
)

_TAKE_AWAY = session.Statement(
    name="result_take_away",
    types="text, text, text, int, bigint, text, text",
    sql="""
    INSERT INTO result (tenant_id, run_id, step, attempt, fence, outcome, reason, message, usage)
    VALUES ($1, $2::uuid, $3, $4, $5, 'lost', 'retried', $6, $7::json)
    """,
)

_REFUSE = session.Statement(
    name="result_refuse",
    types="text[], text[], text[], int[], bigint[], text[], text[]",
    sql="""
    INSERT INTO refusal (tenant_id, run_id, id, step, attempt, fence, worker, outcome)
    SELECT tenant, run::uuid, gen_random_uuid(), key, attempt, fence, worker, outcome
    FROM unnest($1, $2, $3, $4, $5, $6, $7) AS t
        (tenant, run, key, attempt, fence, worker, outcome)
    """,
)


def report(
    connection: Connection, reports: Sequence[Report], *, heard: Collection[RunId] = ()
) -> Mapping[Held, Row[Any]]:
    """End attempts whose leases hold: result, payload and event in one statement.

    `heard` are runs that the caller has locked, and whose turn it takes in this transaction: it hears the
    events itself, and they lie in no inbox.

    Returns the leases under which a report was accepted, each with its step as it is now, and the time.
    """
    rows = session.run(connection, _REPORT, *_said(reports, heard))
    return {
        Held(step=StepId(row.tenant_id, row.run_id, row.key), fence=row.fence): row for row in rows
    }


def expect(connection: Connection, reports: Sequence[Report]) -> None:
    """End attempts whose leases must hold, and whose events the caller hears itself.

    `session.MovedOn` where one does not.
    """
    if reports:
        heard = {one.step.run_id for one in reports}
        session.later(connection, _EXPECT, *_said(reports, heard))


def expect_settled(connection: Connection) -> bool:
    """Have all that is `expect`ed remove its steps as well; False where that has been sent already."""
    return session.amend(connection, _EXPECT, _EXPECT_SETTLED)


def _said(reports: Sequence[Report], heard: Collection[RunId]) -> tuple[Any, ...]:
    return (
        [r.step.tenant for r in reports],
        [r.step.run for r in reports],
        [r.step.key for r in reports],
        [r.attempt for r in reports],
        [r.fence for r in reports],
        [r.outcome for r in reports],
        [r.reason for r in reports],
        [r.message for r in reports],
        [r.usage for r in reports],
        [r.kind for r in reports],
        [r.format for r in reports],
        [r.body for r in reports],
        [r.payload for r in reports],
        [r.payload_id for r in reports],
        [r.salt for r in reports],
        [r.step.run_id in heard for r in reports],
    )


def refuse(connection: Connection, reports: Sequence[Report]) -> None:
    """Keep a trace of reports that came under a fence that no longer holds."""
    session.later(
        connection,
        _REFUSE,
        [r.step.tenant for r in reports],
        [r.step.run for r in reports],
        [r.step.key for r in reports],
        [r.attempt for r in reports],
        [r.fence for r in reports],
        [r.worker for r in reports],
        [r.outcome for r in reports],
    )


def lose(
    connection: Connection, lost: Sequence[StepId], attempts: Sequence[tuple[int, int, str, str]]
) -> None:
    """End attempts whose lease ran out; of each its number, fence, worker and, as JSON, its usage."""
    session.later(
        connection,
        _LOSE,
        [s.tenant for s in lost],
        [s.run for s in lost],
        [s.key for s in lost],
        [number for number, _, _, _ in attempts],
        [fence for _, fence, _, _ in attempts],
        [worker for _, _, worker, _ in attempts],
        [usage for _, _, _, usage in attempts],
    )


def take_away(
    connection: Connection, step: StepId, attempt: int, fence: int, *, message: str, usage: str
) -> None:
    """End an attempt that somebody took from its worker."""
    session.run(connection, _TAKE_AWAY, *step, attempt, fence, message, usage)
