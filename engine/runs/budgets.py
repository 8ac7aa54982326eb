"""Money set aside before anything starts: which accounts a start or a call is charged to.

What may be spent is said by the budgets of the tenant's policies (`engine.guardrails`); what was
spent, and what is set aside, the ledger knows (`engine.store.ledger`). Here the one is put to the
other. A budget of the scope `execution` has no account: it bounds one attempt, or one call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection

from engine.core import messages as msg
from engine.guardrails import bounds
from engine.guardrails.bounds import ACTIONS, COUNTED, Bound, Lack
from engine.guardrails.facts import Total
from engine.guardrails.governance import Applying, Governance
from engine.guardrails.judge import as_number
from engine.store import ledger
from engine.store.ids import RunId, StepId
from engine.store.ledger import Account, Limit, Unopened, Wanted

#: What attempts are always counted by, beside what they say that they use.
STEPS, CALLS = "steps", "calls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """Whom what a run does is charged to."""

    run: RunId
    #: The run that it was started for in the end, if not for itself: they are charged as one.
    root: str
    workflow: str
    user: str
    #: It has only just been submitted, and nobody else can be charging it.
    fresh: bool = False

    def account(self, scope: str, unit: str, span: str, at: datetime) -> Account:
        """The account of one of the scopes that the run lies in."""
        subject = {
            "run": self.root,
            "workflow": self.workflow,
            "user": self.user,
            "tenant": self.run.tenant,
        }[scope]
        return ledger.account(scope, subject, unit, span, at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many calls of a tool a user may make within a window."""

    tool: str
    span: str
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What an attempt (ordinal 0) or a call asks to have set aside."""

    step: StepId
    attempt: int
    ordinal: int
    node: str
    at: datetime
    amounts: Mapping[str, Decimal]
    #: What it has set aside already.
    before: Mapping[str, Decimal] = field(default_factory=dict)
    tool: str = ""
    rates: Sequence[Rate] = ()
    #: It is known to cost just that, nothing included.
    known: bool = False
    #: What people have allowed to be passed, by id: budgets, and the marks above which they are asked.
    allowed: Collection[str] = frozenset()
    #: Nobody can be asked any more: it is under way, or it undoes what was done.
    unasked: bool = False
    #: Whatever it costs: it undoes what was done.
    exceed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """A budget, or a rate, has no room for what is asked."""

    #: `policy:budget`, `policy:budget:mark` where people are asked above a mark, or `rate:tool`.
    id: str
    verdict: msg.Verdict
    #: `deny`, `pause` or `ask`.
    then: str


def reserve(
    connection: Connection, governance: Governance, charged: Charged, asking: Asking
) -> Shortfall | None:
    """Set aside what is asked for in every account, or say which has no room for it.

    Raises `Unopened` where accounts are to be opened first, in a transaction of their own.
    """
    budgets = governance.budgets(charged.workflow, charged.user)
    if (lack := bounds.too_much(budgets, asking)) is not None:
        return _shortfall(lack)
    kept = [applying for applying in budgets if applying.budget.scope != "execution"]
    bound = bounds.by_account(kept, asking, lambda one: _account(one, charged, asking.at))
    limits = [_limit(account, found, asking) for account, found in bound.items()]
    rates = {_rated(rate, charged, asking.at): rate for rate in asking.rates}
    limits += [Limit(account=at, most=Decimal(rate.most)) for at, rate in rates.items()]
    meters = [*accounts(governance, charged, asking.at).values()]
    meters += [_account(applying, charged, asking.at) for applying in kept if not applying.enforce]
    if not limits and not meters and len(kept) == len(budgets):
        # Nothing looks at what is used.
        return None
    wanted = Wanted(
        step=asking.step,
        attempt=asking.attempt,
        ordinal=asking.ordinal,
        user=charged.user,
        workflow=charged.workflow,
        node=asking.node,
        tool=asking.tool,
        at=asking.at,
        amounts=asking.amounts,
        limits=limits,
        meters=[meter for meter in meters if meter not in bound],
    )
    lacking = _reserved(connection, charged, wanted)
    if lacking is None:
        return None
    account = next(one for one in (*bound, *rates) if one.key == lacking.account)
    if account in rates:
        return _over_rate(rates[account], lacking.used)
    return _shortfall(bounds.lacking(bound[account], lacking.used, lacking.wanted))


def notes(
    connection: Connection, governance: Governance, charged: Charged, asking: Asking
) -> list[msg.Verdict]:
    """The budgets of policies that only look on which what is asked for would pass."""
    looking = [
        applying
        for applying in governance.budgets(charged.workflow, charged.user)
        if not applying.enforce and applying.budget.scope != "execution"
    ]
    if not looking:
        return []
    held = {applying.id: _account(applying, charged, asking.at) for applying in looking}
    spent = ledger.totals(connection, charged.run.tenant, list(set(held.values())))
    found = []
    for applying in looking:
        used = spent[held[applying.id]]
        wanted = asking.amounts.get(applying.budget.metric, Decimal(0))
        if used + wanted > applying.budget.limit:
            bound = Bound(applying=applying, most=applying.budget.limit)
            short = _shortfall(Lack(bound=bound, used=used, wanted=wanted))
            found.append(replace(short.verdict, action="warn"))
    return found


def accounts(governance: Governance, charged: Charged, at: datetime) -> Mapping[Total, Account]:
    """The accounts that the rules of any moment look at, by the total that each is."""
    totals = {total for wants in governance.wanted.values() for total in wants.totals}
    return {total: charged.account(total.scope, total.metric, total.window, at) for total in totals}


def totals(
    connection: Connection,
    wanted: Iterable[Total],
    charged: Charged,
    at: datetime,
    known: dict[Account, Decimal],
) -> dict[Total, Decimal]:
    """What was charged so far, by total; what is `known` is not asked again. Raises `Unopened`."""
    asked = {
        total: charged.account(total.scope, total.metric, total.window, at) for total in wanted
    }
    unknown = [account for account in asked.values() if account not in known]
    try:
        known |= ledger.totals(connection, charged.run.tenant, unknown)
    except Unopened as unopened:
        _open_own(connection, charged, unopened)
        known |= ledger.totals(connection, charged.run.tenant, unknown)
    return {total: known[account] for total, account in asked.items()}


def _reserved(connection: Connection, charged: Charged, wanted: Wanted) -> ledger.Short | None:
    try:
        return ledger.reserve(connection, wanted)
    except Unopened as unopened:
        _open_own(connection, charged, unopened)
        return ledger.reserve(connection, wanted)


def _open_own(connection: Connection, charged: Charged, unopened: Unopened) -> None:
    """Open accounts of a run that is new: nobody else charges them. Of others, somebody may be at it."""
    if not charged.fresh or any(account.scope != "run" for account in unopened.accounts):
        raise unopened
    ledger.open_accounts(connection, unopened.tenant, unopened.accounts)


def _account(applying: Applying, charged: Charged, at: datetime) -> Account:
    budget = applying.budget
    return charged.account(budget.scope, budget.metric, budget.window, at)


def _limit(account: Account, found: Sequence[Bound], asking: Asking) -> Limit:
    tightest = found[0]
    return Limit(
        account=account,
        most=tightest.most,
        exceed=tightest.passed,
        # Nothing is used of a unit by whoever is known to use none of it.
        free=asking.known or account.unit in COUNTED,
    )


def _rated(rate: Rate, charged: Charged, at: datetime) -> Account:
    return ledger.account("rate", f"{rate.tool} {charged.user}", CALLS, rate.span, at)


def _shortfall(lack: Lack) -> Shortfall:
    bound, budget = lack.bound, lack.bound.applying.budget
    verdict = msg.Verdict(
        policy=bound.applying.policy,
        version=bound.applying.version,
        rule=budget.name,
        action=ACTIONS[lack.then],
        message=lack.told("{:f}".format, f"{bound.most.normalize():f}"),
        observed=as_number(lack.used + lack.wanted),
        limit=as_number(bound.most),
        scope=budget.scope,
        window=budget.window,
    )
    return Shortfall(id=bound.id, verdict=verdict, then=lack.then)


def _over_rate(rate: Rate, used: Decimal) -> Shortfall:
    verdict = msg.Verdict(
        policy=f"tool {rate.tool}",
        version=0,
        rule=f"{rate.most} calls a {rate.span}",
        action=ACTIONS["deny"],
        message=f"{used.normalize():f} calls were made in this {rate.span}",
        observed=as_number(used + 1),
        limit=rate.most,
        scope="user",
        window=rate.span,
    )
    return Shortfall(id=f"rate:{rate.tool}", verdict=verdict, then="deny")
