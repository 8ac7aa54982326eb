"""What a tenant has used, and what is left of its budgets: told from the ledger, as it is just now.

Whatever is committed is in it. What runs used comes to the same, to the last digit, as what their
histories say that their attempts used: dollars, tokens and calls, and whatever else code tells. Two
things the ledger alone knows: what is taken to have been used by attempts that were cut off with their
run, or with their step, and what workers say that were given up too early. Steps are counted where policies
are in force. Seconds, processor time and memory are left out: they are measured of everything, stand
beside every attempt, and are charged only where an account counts them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection

from engine.core.problem import Problem
from engine.errors import Invalid, NotFound
from engine.guardrails.governance import Applying, Governance
from engine.platform import Platform
from engine.runs import policies as in_force
from engine.runs.budgets import Charged
from engine.runs.ledgers import MEASURED
from engine.store import ledger, policies, reads, runs, session, usage
from engine.store.ids import RunId
from engine.store.ledger import Account
from engine.store.usage import Standing, Sum, Which

KEYS = tuple(usage.KEYS)
#: Keys that are times.
TIMES = frozenset(usage.WINDOWS)
#: Windows, the present one of which may be asked for.
WINDOWS = tuple(usage.WINDOWS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a tenant used, or a part of it, by unit."""

    tenant: str
    #: Of whom and what, by key; None: of none, as an attempt's tool is. Windows by their beginnings.
    by: Mapping[str, str | datetime | None]
    used: Mapping[str, Decimal]
    #: As much of it as was assumed, because nobody reported it.
    assumed: Mapping[str, Decimal]
    #: What is set aside beside it for what is under way.
    reserved: Mapping[str, Decimal]
    #: How many attempts and calls were charged.
    attempts: int
    calls: int
    #: What the next page follows.
    key: tuple[str | datetime, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A budget that is in force, and how it stands."""

    policy: str
    version: int
    name: str
    scope: str
    #: The run, workflow, user or tenant whose it is; None where it is not known, and of `execution`.
    subject: str | None
    metric: str
    window: str
    #: Of the present window; None: it has no beginning, no end.
    begins: datetime | None
    ends: datetime | None
    limit: Decimal
    #: What people have allowed beside the limit.
    extra: Decimal
    #: None where nobody counts them: of `execution`, or without a subject.
    spent: Decimal | None
    reserved: Decimal | None
    #: What may still be set aside.
    left: Decimal | None
    #: False: what passes it is only noted.
    enforced: bool
    on_shortfall: str
    #: The share of the limit above which people are asked.
    ask_above: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """The budgets that apply to somebody, at one moment."""

    tenant: str
    user: str
    workflow: str | None
    run: str | None
    at: datetime
    budgets: tuple[Budget, ...]


def page(
    platform: Platform,
    tenant: str,
    *,
    by: Sequence[str] = (),
    which: Which | None = None,
    window: str | None = None,
    after: Sequence[str | datetime] | None = None,
    limit: int = 100,
) -> tuple[Used, ...]:
    """What was used, by keys of `KEYS` in their order, after a key; in one sum where there is none.

    `window` is `hour` or `day`: what was used in the present one. Raises `Invalid`.
    """
    which = which or Which()
    if which.since is not None and which.until is not None and which.since >= which.until:
        raise _wrong("until", "is not after `since`", "give a later time")
    if window is not None and (which.since is not None or which.until is not None):
        message = "is a span of time of its own"
        raise _wrong("window", message, "leave it out, or `since` and `until`")
    by = tuple(dict.fromkeys(by))
    with reads.reading(platform.database) as connection:
        if window is not None:
            now = session.now(connection)
            present = ledger.account("tenant", tenant, "", window, now)
            which = replace(which, since=present.period, until=present.end)
        found = usage.sums(
            connection, tenant, which, by=by, without=MEASURED, after=after, limit=limit
        )
    return tuple(_used(tenant, by, each) for each in found)


def of_run(connection: Connection, run: RunId) -> Mapping[str, float]:
    """All that a run was charged so far, by unit."""
    (found,) = usage.sums(connection, run.tenant, Which(run=run.run), by=(), without=MEASURED)
    return {name: float(amount) for name, amount in found.used.items()}


def budgets(
    platform: Platform,
    tenant: str,
    *,
    user: str,
    workflow: str | None = None,
    run: str | None = None,
) -> Budgets:
    """The budgets in force that apply to runs of a user, of any workflow or of one.

    With a run, those that apply to it, whosever it is: `user` and `workflow` do not count then. Raises
    `NotFound` for a run that is not there.
    """
    root = ""
    with reads.reading(platform.database) as connection:
        if run is not None:
            row = reads.summary(connection, RunId(tenant, run))
            if row is None:
                raise NotFound(f"Run not found: {run}")
            user, workflow = row.submitted_by, row.workflow
            root = runs.glance(connection, RunId(tenant, run)).root
        now = session.now(connection)
        number = policies.number(connection, tenant)
        governance = in_force.governance(connection, tenant, number)
        charged = Charged(
            run=RunId(tenant, run or ""), root=root, workflow=workflow or "", user=user
        )
        unknown = {
            "execution",
            *(() if workflow is not None else ("workflow",)),
            *(() if run is not None else ("run",)),
        }
        applying = [
            (each, _account(each, charged, now, unknown))
            for each in _applying(governance, workflow, user)
        ]
        standings = usage.standings(
            connection, tenant, [account for _, account in applying if account is not None]
        )
    return Budgets(
        tenant=tenant,
        user=user,
        workflow=workflow,
        run=run,
        at=now,
        budgets=tuple(
            _budget(each, account, None if account is None else standings[account])
            for each, account in applying
        ),
    )


def _applying(governance: Governance, workflow: str | None, user: str) -> Iterator[Applying]:
    """The budgets that apply to a user's runs; without a workflow, to any of them."""
    if workflow is not None:
        yield from governance.budgets(workflow, user)
        return
    for active in governance.policies:
        named = active.policy.applies_to.workflows
        # Whichever workflow it is for: what it bounds may be the user's, or the tenant's.
        some = named.given[0] if named is not None and named.given else ""
        yield from replace(governance, policies=(active,)).budgets(some, user)


def _account(
    applying: Applying, charged: Charged, now: datetime, unknown: set[str]
) -> Account | None:
    budget = applying.budget
    if budget.scope in unknown:
        return None
    return charged.account(budget.scope, budget.metric, budget.window, now)


def _budget(applying: Applying, account: Account | None, standing: Standing | None) -> Budget:
    budget = applying.budget
    extra = Decimal(0) if standing is None else standing.extra
    left = None
    if standing is not None:
        left = max(budget.limit + extra - standing.spent - standing.reserved, Decimal(0))
    end = None if account is None else account.end
    return Budget(
        policy=applying.policy,
        version=applying.version,
        name=budget.name,
        scope=budget.scope,
        subject=None if account is None else account.subject,
        metric=budget.metric,
        window=budget.window,
        begins=None if account is None or end is None else account.period,
        ends=end,
        limit=budget.limit,
        extra=extra,
        spent=None if standing is None else standing.spent,
        reserved=None if standing is None else standing.reserved,
        left=left,
        enforced=applying.enforce,
        on_shortfall=budget.on_shortfall,
        ask_above=budget.ask_above,
    )


def _used(tenant: str, by: Sequence[str], found: Sum) -> Used:
    return Used(
        tenant=tenant,
        by={name: key or None for name, key in zip(by, found.key, strict=True)},
        used=found.used,
        assumed=found.assumed,
        reserved=found.reserved,
        attempts=found.attempts,
        calls=found.calls,
        key=found.key,
    )


def _wrong(path: str, message: str, remedy: str) -> Invalid:
    return Invalid([Problem(path=path, message=message, remedy=remedy)])
