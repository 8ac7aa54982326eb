"""What was used: the entries of the ledger, and what is set aside, added up by whom and what it was for.

An entry counts in the window of the moment at which its amount was set aside, as in its accounts.
What had to be assumed counts as assumed until it is set right, and then as what it was. Sums are
decimals, to the last digit.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, text

from engine.store.ledger import Account

#: What entries are told apart by, and how it is read off them.
_KEYS: Mapping[str, str] = {
    "user": 'user_id COLLATE "C"',
    "workflow": 'workflow COLLATE "C"',
    "run": 'run_id::text COLLATE "C"',
    "node": 'node COLLATE "C"',
    "model": 'model COLLATE "C"',
    "tool": 'tool COLLATE "C"',
    "hour": "date_trunc('hour', at, 'UTC')",
    "day": "date_trunc('day', at, 'UTC')",
}
KEYS: Collection[str] = tuple(_KEYS)
#: Keys that are times: the beginnings of windows.
WINDOWS: Collection[str] = ("hour", "day")


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which entries: those that everything that is given holds of. Attempts have the tool ''."""

    user: str | None = None
    workflow: str | None = None
    run: str | None = None
    node: str | None = None
    model: str | None = None
    tool: str | None = None
    #: From this moment on.
    since: datetime | None = None
    #: Before this moment.
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """What entries of one kind come to, by unit."""

    #: One for each key that was asked for: a text, or the beginning of a window.
    key: tuple[str | datetime, ...]
    used: Mapping[str, Decimal]
    #: As much of it as nobody has reported.
    assumed: Mapping[str, Decimal]
    #: What is set aside for what is under way.
    reserved: Mapping[str, Decimal]
    #: How many attempts and calls were charged.
    attempts: int
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What an account holds."""

    spent: Decimal
    reserved: Decimal
    #: What people have allowed beyond its limit.
    extra: Decimal


def sums(
    connection: Connection,
    tenant: str,
    which: Which,
    *,
    by: Sequence[str] = (),
    without: Collection[str] = (),
    after: Sequence[str | datetime] | None = None,
    limit: int = 100,
) -> tuple[Sum, ...]:
    """Sums by keys of `KEYS`, in their order, those that follow a key; one sum where there are none.

    `without` are units that are left out.
    """
    charged, aside = _conditions(which, model="model"), _conditions(which, model="''")
    columns = "".join(f"{_KEYS[name]} AS k{place}, " for place, name in enumerate(by))
    names = [f"k{place}" for place in range(len(by))]
    following = _following(by, names) if after is not None else "true"
    shown = "".join(f"{name}, " for name in names)
    grouped = f"GROUP BY {', '.join(names)} ORDER BY {', '.join(names)}" if names else ""
    sql = f"""
        WITH entry AS (
            SELECT user_id, workflow, run_id, node, model, tool, charged_at AS at, usage, ordinal,
                part = 1 AS counts, true AS charged, assumed AND NOT EXISTS (
                    SELECT FROM ledger x WHERE x.tenant_id = l.tenant_id AND x.run_id = l.run_id
                        AND x.step = l.step AND x.attempt = l.attempt AND x.ordinal = l.ordinal
                        AND x.part = 2 AND NOT x.assumed) AS assumed
            FROM ledger l WHERE tenant_id = :tenant AND {charged.format(at="charged_at")}
            UNION ALL
            SELECT user_id, workflow, run_id, node, '', tool, at, amounts, ordinal, false, false, false
            FROM reservation r WHERE tenant_id = :tenant AND {aside.format(at="at")}),
        keyed AS (SELECT {columns} usage, ordinal, counts, charged, assumed FROM entry),
        amount AS (
            SELECT {shown} u.unit,
                sum(u.amount) FILTER (WHERE charged) AS used,
                sum(u.amount) FILTER (WHERE assumed) AS assumed,
                sum(u.amount) FILTER (WHERE NOT charged) AS reserved,
                count(*) FILTER (WHERE u.unit IS NULL AND counts AND ordinal = 0) AS attempts,
                count(*) FILTER (WHERE u.unit IS NULL AND counts AND ordinal > 0) AS calls
            FROM keyed, LATERAL (
                SELECT NULL AS unit, 0 AS amount
                UNION ALL
                SELECT key, value::numeric FROM json_each_text(usage)
                WHERE NOT key = ANY (CAST(:without AS text[]))) u
            WHERE {following} GROUP BY {shown} u.unit)
        SELECT {shown}
            json_object_agg(unit, used) FILTER (WHERE unit IS NOT NULL AND used IS NOT NULL)::text
                AS used,
            json_object_agg(unit, assumed) FILTER (WHERE unit IS NOT NULL AND assumed IS NOT NULL)::text
                AS assumed,
            json_object_agg(unit, reserved) FILTER (WHERE unit IS NOT NULL AND reserved IS NOT NULL)::text
                AS reserved,
            coalesce(sum(attempts), 0)::bigint AS attempts, coalesce(sum(calls), 0)::bigint AS calls
        FROM amount {grouped} LIMIT :limit
        """  # noqa: S608  # our own constants; what was given are parameters
    values: dict[str, Any] = {
        "tenant": tenant,
        "without": list(without),
        "limit": limit,
        **{name: value for name, value in _given(which).items() if value is not None},
        **{f"after{place}": key for place, key in enumerate(after or ())},
    }
    return tuple(_sum(row, names) for row in connection.execute(text(sql), values))


def standings(
    connection: Connection, tenant: str, accounts: Collection[Account]
) -> Mapping[Account, Standing]:
    """What accounts hold; of those that nobody has opened yet, what they will begin with."""
    known = {one.key: one for one in accounts}
    rows = connection.execute(_STANDINGS, {"tenant": tenant, "keys": list(known)})
    found = {
        known[row.key]: Standing(spent=row.spent, reserved=row.reserved, extra=row.extra)
        for row in rows
    }
    return {one: found.get(one) or _unopened(connection, tenant, one) for one in known.values()}


_STANDINGS = text(
    """
    SELECT a.key, a.extra, coalesce(sum(p.spent), 0) AS spent,
        coalesce(sum(p.reserved), 0) AS reserved
    FROM account a LEFT JOIN purse p ON p.tenant_id = a.tenant_id AND p.account = a.key
    WHERE a.tenant_id = :tenant AND a.key = ANY (CAST(:keys AS text[]))
    GROUP BY a.key, a.extra
    """
)


def _unopened(connection: Connection, tenant: str, account: Account) -> Standing:
    """What an account will begin with (`ledger_open`)."""
    whose = {} if account.scope == "tenant" else {account.scope: account.subject}
    bounded = account.end is not None
    which = Which(
        **whose,
        since=account.period if bounded else None,
        until=account.end,
    )
    (found,) = sums(connection, tenant, which)
    return Standing(
        spent=found.used.get(account.unit, Decimal(0)),
        reserved=found.reserved.get(account.unit, Decimal(0)),
        extra=Decimal(0),
    )


def _given(which: Which) -> dict[str, Any]:
    return {
        "user": which.user,
        "workflow": which.workflow,
        "run": which.run,
        "node": which.node,
        "model": which.model,
        "tool": which.tool,
        "since": which.since,
        "until": which.until,
    }


def _conditions(which: Which, *, model: str) -> str:
    """The filter as SQL; `{at}` stands for the time that counts."""
    asked = {
        "user": "user_id = :user",
        "workflow": "workflow = :workflow",
        "run": "run_id = CAST(:run AS uuid)",
        "node": "node = :node",
        "model": f"{model} = :model",
        "tool": "tool = :tool",
        "since": "{at} >= :since",
        "until": "{at} < :until",
    }
    given = _given(which)
    return " AND ".join(sql for name, sql in asked.items() if given[name] is not None) or "true"


def _following(by: Sequence[str], names: Sequence[str]) -> str:
    kinds = ["timestamptz" if name in WINDOWS else "text" for name in by]
    marks = [f"CAST(:after{place} AS {kind})" for place, kind in enumerate(kinds)]
    return f"({', '.join(names)}) > ({', '.join(marks)})"


def _sum(row: Row[Any], names: Sequence[str]) -> Sum:
    return Sum(
        key=tuple(getattr(row, name) for name in names),
        used=_amounts(row.used),
        assumed=_amounts(row.assumed),
        reserved=_amounts(row.reserved),
        attempts=row.attempts,
        calls=row.calls,
    )


def _amounts(told: str | None) -> Mapping[str, Decimal]:
    if told is None:
        return {}
    found: dict[str, Decimal] = json.loads(told, parse_float=Decimal, parse_int=Decimal)
    return found
