"""Money and whatever else is counted: accounts, what is set aside in them, what was charged.

An account is one scope's use of one unit in one window of time (`Account`); its rows are opened
when something first asks for them. The arithmetic is done by functions of the database, so that
asking is one round trip for a whole request, whichever accounts it touches (migration 0010 says
how a limit is kept without a row that everybody waits for).

What is *set aside* before an attempt (ordinal 0) or a call starts is a reservation; *settling*
charges what was used, once, and lets go of the rest. Amounts are decimals: dollars, tokens, pieces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import Connection

from engine.core.values import canonical
from engine.store import session
from engine.store.ids import RunId, StepId

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LENGTHS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One scope's use of one unit in one window.

    `scope` is `run`, `workflow`, `user`, `tenant` or `rate`, whose subject is `TOOL USER`. `span`
    is `none`, `minute`, `hour` or `day`: windows are fixed, in UTC.
    """

    scope: str
    subject: str
    unit: str
    span: str
    period: datetime

    @property
    def key(self) -> str:
        begin = self.period.strftime("%Y%m%dT%H%M")
        return f"{self.scope} {self.unit} {self.span} {begin} {self.subject}"

    @property
    def end(self) -> datetime | None:
        """When its window is over; None: never."""
        length = _LENGTHS.get(self.span)
        return None if length is None else self.period + length


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What may be in an account: charged and set aside together."""

    account: Account
    most: Decimal
    #: People have allowed it to be passed.
    exceed: bool = False
    #: What asks is known to cost nothing where it sets nothing aside.
    free: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be set aside for an attempt (ordinal 0) or a call, and who is charged."""

    step: StepId
    attempt: int
    ordinal: int
    user: str
    workflow: str
    node: str
    tool: str = ""
    at: datetime
    amounts: Mapping[str, Decimal]
    limits: Sequence[Limit]
    #: Accounts that must be open, so that it is charged to them.
    meters: Sequence[Account] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Short:
    """Nothing was set aside: an account would hold more than it may."""

    account: str
    used: Decimal
    wanted: Decimal


class Unopened(Exception):
    """Accounts are asked for that nobody has opened; `open` them in a transaction of its own."""

    def __init__(self, tenant: str, accounts: Sequence[Account]) -> None:
        super().__init__(tenant, accounts)
        self.tenant = tenant
        self.accounts = accounts


_SHARE = session.Statement(
    name="ledger_share",
    types="text[], text[]",
    sql="""
    SELECT ledger_share(tenant, run::uuid)
    FROM (SELECT DISTINCT tenant, run FROM unnest($1, $2) AS w (tenant, run) ORDER BY 1, 2) runs
    """,
)

# A charge that comes later yet is in the ledger, from which an account is opened anew.
_FORGET = session.Statement(
    name="ledger_forget",
    types="int",
    sql="""
    DELETE FROM account WHERE (tenant_id, key) IN (
        SELECT a.tenant_id, a.key FROM account a
        WHERE a.span <> 'none' AND a.period < clock_timestamp() - interval '3 days'
            OR a.scope = 'run' AND EXISTS (SELECT FROM run r WHERE r.tenant_id = a.tenant_id
                AND r.id::text = a.subject AND r.finished_at < clock_timestamp() - interval '1 day')
        LIMIT $1)
    RETURNING key
    """,
)

_RESERVE = session.Statement(
    name="ledger_reserve",
    types=("text, text, text, int, int, text, text, text, text, timestamptz, text, text, text[]"),
    sql="""
    SELECT ledger_reserve($1, $2::uuid, $3, $4, $5, $6, $7, $8, $9, $10, $11::jsonb, $12::jsonb,
        $13)::text AS said
    """,
)

_SETTLE = session.Statement(
    name="ledger_settle",
    types="text, text, text, int, int, text, boolean, text, text",
    sql="""
    SELECT ledger_settle($1, $2::uuid, $3, $4, $5, $6::jsonb, $7, $8, $9)::text AS charged
    """,
)

_CLOSE = session.Statement(
    name="ledger_close", types="text[], text[]", sql="SELECT ledger_close($1, $2)"
)

_OPEN = session.Statement(
    name="ledger_open", types="text, text", sql="SELECT ledger_open($1, $2::jsonb)"
)

_OPEN_OF = session.Statement(
    name="ledger_open_of",
    types="text[], text[], text[], int[]",
    sql="""
    SELECT r.tenant_id, r.run_id::text AS run_id, r.step, r.attempt, r.ordinal,
        r.amounts::text AS amounts
    FROM reservation r JOIN unnest($1, $2, $3, $4) AS w (tenant, run, key, attempt)
        ON r.tenant_id = w.tenant AND r.run_id = w.run::uuid AND r.step = w.key
            AND r.attempt = w.attempt
    ORDER BY 1, 2, 3, 4, 5
    """,
)

_CHARGED = session.Statement(
    name="ledger_charged",
    types="text[], text[], text[], int[]",
    sql="""
    SELECT tenant_id, run_id, step, json_object_agg(unit, amount)::text AS usage FROM (
        SELECT l.tenant_id, l.run_id::text AS run_id, l.step, u.key AS unit,
            sum(u.value::numeric) AS amount
        FROM ledger l JOIN unnest($1, $2, $3, $4) AS w (tenant, run, key, attempt)
            ON l.tenant_id = w.tenant AND l.run_id = w.run::uuid AND l.step = w.key
                AND l.attempt = w.attempt,
            json_each_text(l.usage) u
        GROUP BY 1, 2, 3, 4) sums
    GROUP BY 1, 2, 3
    """,
)

_TOTALS = session.Statement(
    name="ledger_totals",
    types="text, text[]",
    sql="""
    SELECT a.key, coalesce(sum(p.reserved), 0) AS reserved, coalesce(sum(p.spent), 0) AS spent
    FROM account a LEFT JOIN purse p ON p.tenant_id = a.tenant_id AND p.account = a.key
    WHERE a.tenant_id = $1 AND a.key = ANY ($2) GROUP BY a.key
    """,
)


def account(scope: str, subject: str, unit: str, span: str, at: datetime) -> Account:
    """The account of a scope's use of a unit in the window that a moment lies in."""
    at = at.astimezone(UTC)
    match span:
        case "minute":
            period = at.replace(second=0, microsecond=0)
        case "hour":
            period = at.replace(minute=0, second=0, microsecond=0)
        case "day":
            period = at.replace(hour=0, minute=0, second=0, microsecond=0)
        case _:
            period = _EPOCH
    return Account(scope=scope, subject=subject, unit=unit, span=span, period=period)


def share(connection: Connection, runs: Sequence[RunId]) -> None:
    """Have nobody open accounts of these runs' tenants until the transaction is over.

    Whoever charges them and locks steps, too, calls it before that: an opener waits for all who charge, and
    nobody may wait for him who holds what another of them waits for. Where it is found only afterwards that
    an attempt is lost, it is called then: Postgres lets those past who would wait for each other so.
    """
    if runs:
        session.later(connection, _SHARE, [run.tenant for run in runs], [run.run for run in runs])


def unshare(connection: Connection) -> None:
    """Nothing is charged after all: what `share` would hold is not held, where that has not been sent."""
    session.amend(connection, _SHARE, None)


def forget(connection: Connection, limit: int) -> int:
    """Remove accounts of windows and runs that are long over; how many."""
    return len(session.run(connection, _FORGET, limit))


def reserve(connection: Connection, wanted: Wanted) -> Short | None:
    """Set aside what something may use in every account that limits it; what is short of room.

    All or nothing. Repeated for the same attempt or call, it sets aside more. Raises `Unopened`.
    """
    said = session.run(
        connection,
        _RESERVE,
        *wanted.step,
        wanted.attempt,
        wanted.ordinal,
        wanted.user,
        wanted.workflow,
        wanted.node,
        wanted.tool,
        wanted.at,
        _amounts(wanted.amounts),
        orjson.dumps([_limit(limit) for limit in wanted.limits]).decode(),
        [meter.key for meter in wanted.meters],
    )[0].said
    answer = orjson.loads(said)
    if "missing" in answer:
        known = {
            one.key: one for one in (*(limit.account for limit in wanted.limits), *wanted.meters)
        }
        raise Unopened(wanted.step.tenant, [known[key] for key in answer["missing"]])
    if not answer:
        return None
    return Short(
        account=answer["short"],
        used=Decimal(str(answer["used"])),
        wanted=Decimal(str(answer["wanted"])),
    )


def settle(
    connection: Connection,
    step: StepId,
    attempt: int,
    ordinal: int,
    *,
    used: Mapping[str, float] | None,
    assumed: bool = False,
    tool: str = "",
    model: str = "",
) -> Mapping[str, float] | None:
    """Charge what an attempt (ordinal 0) or call has used; what was charged now, None for nothing.

    Once: it may be repeated. What was assumed may be set right once. `used` None stands for all that
    was set aside.
    """
    row = session.run(
        connection,
        _SETTLE,
        *step,
        attempt,
        ordinal,
        None if used is None else canonical(dict(used)),
        assumed,
        tool,
        model,
    )[0]
    return None if row.charged is None else orjson.loads(row.charged)


def close(connection: Connection, runs: Sequence[RunId]) -> None:
    """Let go of what is set aside for attempts that these runs will not make.

    What began and will not be reported any more is charged as it was set aside, as *assumed*.
    """
    if runs:
        session.later(connection, _CLOSE, [run.tenant for run in runs], [run.run for run in runs])


def open_accounts(connection: Connection, tenant: str, accounts: Sequence[Account]) -> None:
    """Open accounts, each with what was charged to it and is set aside for it by now.

    It waits for whoever is charging an account of the tenant, and they for it.
    """
    wanted = [
        {
            "key": one.key,
            "scope": one.scope,
            "subject": one.subject,
            "unit": one.unit,
            "span": one.span,
            "period": one.period.isoformat(),
        }
        for one in accounts
    ]
    session.run(connection, _OPEN, tenant, orjson.dumps(wanted).decode())


def open_of(
    connection: Connection, attempts: Sequence[tuple[StepId, int]]
) -> Sequence[tuple[StepId, int, int, Mapping[str, float]]]:
    """What is set aside for attempts and their calls: step, attempt, ordinal and amounts of each."""
    rows = session.run(
        connection,
        _OPEN_OF,
        [step.tenant for step, _ in attempts],
        [step.run for step, _ in attempts],
        [step.key for step, _ in attempts],
        [attempt for _, attempt in attempts],
    )
    return [
        (
            StepId(row.tenant_id, row.run_id, row.step),
            row.attempt,
            row.ordinal,
            orjson.loads(row.amounts),
        )
        for row in rows
    ]


def charged(
    connection: Connection, attempts: Sequence[tuple[StepId, int]]
) -> Mapping[StepId, Mapping[str, float]]:
    """What attempts and their calls were charged so far, by step."""
    rows = session.run(
        connection,
        _CHARGED,
        [step.tenant for step, _ in attempts],
        [step.run for step, _ in attempts],
        [step.key for step, _ in attempts],
        [attempt for _, attempt in attempts],
    )
    return {
        StepId(row.tenant_id, row.run_id, row.step): {
            name: float(amount) for name, amount in orjson.loads(row.usage).items()
        }
        for row in rows
    }


def totals(
    connection: Connection, tenant: str, accounts: Sequence[Account]
) -> Mapping[Account, Decimal]:
    """What was charged to accounts. Raises `Unopened`."""
    if not accounts:
        return {}
    known = {one.key: one for one in accounts}
    rows = session.run(connection, _TOTALS, tenant, list(known))
    found = {known[row.key]: row.spent for row in rows}
    if len(found) < len(known):
        raise Unopened(tenant, [one for one in known.values() if one not in found])
    return found


def _amounts(amounts: Mapping[str, Decimal]) -> str:
    """As JSON, every digit of it: a float would not keep them."""
    told = (f"{orjson.dumps(name).decode()}:{amount:f}" for name, amount in amounts.items())
    return f"{{{','.join(told)}}}"


def _limit(limit: Limit) -> dict[str, Any]:
    return {
        "account": limit.account.key,
        "unit": limit.account.unit,
        "most": str(limit.most),
        "exceed": limit.exceed,
        "free": limit.free,
    }
