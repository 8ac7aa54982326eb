"""Money set aside before anything starts: which accounts a start or a call is charged to.

What may be spent is said by the budgets of the tenant's policies (`engine.guardrails`); what was
spent, and what is set aside, the ledger knows (`engine.store.ledger`). Here the one is put to the
other. A budget of the scope `execution` has no account: it bounds one attempt, or one call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection

from engine.core import messages as msg
from engine.core.values import Json
from engine.guardrails.facts import Total
from engine.guardrails.governance import Applying, Governance
from engine.store import ledger
from engine.store.ids import RunId, StepId
from engine.store.ledger import Account, Limit, Unopened, Wanted

#: What attempts are always counted by, beside what they say that they use.
STEPS, CALLS = "steps", "calls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """Whom what a run does is charged to."""

    run: RunId
    workflow: str
    user: str

    def account(self, scope: str, unit: str, span: str, at: datetime) -> Account:
        """The account of one of the scopes that the run lies in."""
        subject = {
            "run": self.run.run,
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
    tool: str = ""
    rates: Sequence[Rate] = ()
    #: It is known to cost just that, nothing included.
    known: bool = False
    #: Budgets, by id, that people have allowed to be passed.
    allowed: Collection[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """A budget, or a rate, has no room for what is asked."""

    #: `policy:budget`, or `rate:tool`.
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
    for applying in budgets:
        if applying.budget.scope == "execution" and (short := _too_much(applying, asking)):
            return short
    kept = [applying for applying in budgets if applying.budget.scope != "execution"]
    held = {
        _account(applying, charged, asking.at): applying
        for applying in reversed(_binding(kept, asking))
    }
    limits = [_limit(account, applying, asking) for account, applying in held.items()]
    rates = {_rated(rate, charged, asking.at): rate for rate in asking.rates}
    limits += [Limit(account=at, most=Decimal(rate.most)) for at, rate in rates.items()]
    meters = [*accounts(governance, charged, asking.at).values()]
    meters += [_account(applying, charged, asking.at) for applying in kept if not applying.enforce]
    if not limits and not meters:
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
        meters=[meter for meter in meters if meter not in held],
    )
    lacking = _reserved(connection, wanted)
    if lacking is None:
        return None
    account = next(one for one in (*held, *rates) if one.key == lacking.account)
    if account in rates:
        return _over_rate(rates[account], lacking.used)
    return _shortfall(held[account], lacking.used, lacking.wanted, asks=lacking.asks)


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
            short = _shortfall(applying, used, wanted, asks=False)
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
        _open_own(connection, unopened)
        known |= ledger.totals(connection, charged.run.tenant, unknown)
    return {total: known[account] for total, account in asked.items()}


def _reserved(connection: Connection, wanted: Wanted) -> ledger.Short | None:
    try:
        return ledger.reserve(connection, wanted)
    except Unopened as unopened:
        _open_own(connection, unopened)
        return ledger.reserve(connection, wanted)


def _open_own(connection: Connection, unopened: Unopened) -> None:
    """Open accounts of a run at once: nobody else charges them. Of others, somebody may be at it."""
    if any(account.scope != "run" for account in unopened.accounts):
        raise unopened
    ledger.open_accounts(connection, unopened.tenant, unopened.accounts)


def _binding(budgets: Sequence[Applying], asking: Asking) -> list[Applying]:
    """The budgets that bind, the tightest first; those that only note, and those passed, do not.

    If people have allowed all that an account has, the tightest of them still says by how much it
    was passed.
    """
    enforced = [applying for applying in budgets if applying.enforce]
    return sorted(
        enforced, key=lambda applying: (applying.id in asking.allowed, applying.budget.limit)
    )


def _account(applying: Applying, charged: Charged, at: datetime) -> Account:
    budget = applying.budget
    return charged.account(budget.scope, budget.metric, budget.window, at)


def _limit(account: Account, applying: Applying, asking: Asking) -> Limit:
    budget = applying.budget
    passed = applying.id in asking.allowed
    ask = None if budget.ask_above is None or passed else budget.ask_above * budget.limit
    return Limit(
        account=account,
        most=budget.limit,
        ask=ask,
        exceed=passed,
        # Nothing is used of a unit by whoever is known to use none of it.
        free=asking.known or budget.metric in (STEPS, CALLS),
    )


def _rated(rate: Rate, charged: Charged, at: datetime) -> Account:
    return ledger.account("rate", f"{rate.tool} {charged.user}", CALLS, rate.span, at)


def _too_much(applying: Applying, asking: Asking) -> Shortfall | None:
    """Whether one attempt or call asks for more than any may have."""
    budget = applying.budget
    amount = asking.amounts.get(budget.metric, Decimal(0))
    if not applying.enforce or amount <= budget.limit or applying.id in asking.allowed:
        return None
    return _shortfall(applying, Decimal(0), amount, asks=False)


def _shortfall(applying: Applying, used: Decimal, wanted: Decimal, *, asks: bool) -> Shortfall:
    budget = applying.budget
    then = "ask" if asks else budget.on_shortfall
    most = budget.limit * budget.ask_above if asks and budget.ask_above else budget.limit
    window = "" if budget.window == "none" else f" in this {budget.window}"
    asked = " before a person is asked" if asks else ""
    message = f"{budget.metric} of this {budget.scope}: "
    if wanted:
        message += (
            f"{wanted:f} more on top of {used:f}{window} would pass {most.normalize():f}{asked}"
        )
    else:
        message += f"{used:f} are used{window}, nothing is left of {most.normalize():f}"
    verdict = msg.Verdict(
        policy=applying.policy,
        version=applying.version,
        rule=budget.name,
        action=_ACTIONS[then],
        message=message,
        observed=_number(used + wanted),
        limit=_number(most),
        scope=budget.scope,
        window=budget.window,
    )
    return Shortfall(id=applying.id, verdict=verdict, then=then)


def _over_rate(rate: Rate, used: Decimal) -> Shortfall:
    verdict = msg.Verdict(
        policy=f"tool {rate.tool}",
        version=0,
        rule=f"{rate.most} calls a {rate.span}",
        action=_ACTIONS["deny"],
        message=f"{used.normalize():f} calls were made in this {rate.span}",
        observed=_number(used + 1),
        limit=rate.most,
        scope="user",
        window=rate.span,
    )
    return Shortfall(id=f"rate:{rate.tool}", verdict=verdict, then="deny")


_ACTIONS = {"deny": "reject_execution", "pause": "pause_lifetime", "ask": "require_approval"}


def _number(value: Decimal) -> Json:
    return int(value) if value == value.to_integral_value() else float(value)
