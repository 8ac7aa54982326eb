"""Budgets kept in memory, by the arithmetic of the ledger: for what might have been spent.

The ledger sets aside before anything starts, and charges what was used. The same is done here for
runs as they were recorded, so that a proposed budget can be held against them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from engine.guardrails import line
from engine.guardrails import vocabulary as words
from engine.guardrails.facts import Total
from engine.guardrails.governance import Applying
from engine.guardrails.judge import as_number
from engine.guardrails.verdicts import Verdict
from engine.guardrails.vocabulary import Action, Scope, Shortfall, Window

#: What is asked of people, as the ledger words it.
ASK: Shortfall = "ask"

_ACTIONS: Mapping[Shortfall, Action] = {
    "deny": "reject_execution",
    "pause": "pause_lifetime",
    "ask": "require_approval",
}
_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whom:
    """Whom what a run does is charged to."""

    run: str
    workflow: str
    user: str
    tenant: str


class Account(NamedTuple):
    """One scope's use of one unit in one window of time, in the ledger's order."""

    scope: str
    unit: str
    window: str
    #: When the window began, as text.
    begun: str
    subject: str


class Execution(NamedTuple):
    """An attempt (ordinal 0) or a call of a run."""

    run: str
    step: str
    attempt: int
    ordinal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What an attempt or a call asks to have set aside."""

    whom: Whom
    execution: Execution
    at: datetime
    amounts: Mapping[str, Decimal]
    #: It is known to cost just that, nothing included.
    known: bool = False
    #: Budgets, by id, that people have allowed to be passed.
    allowed: Collection[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Short:
    """A budget has no room for what is asked, or people are to be asked first."""

    verdict: Verdict
    then: Shortfall


class Spending:
    """What was spent and is set aside, by account."""

    def __init__(self) -> None:
        self._spent: defaultdict[Account, Decimal] = defaultdict(Decimal)
        self._aside: defaultdict[Account, Decimal] = defaultdict(Decimal)
        #: By how much people have let accounts be passed.
        self._extra: defaultdict[Account, Decimal] = defaultdict(Decimal)
        self._held: dict[Execution, Asking] = {}

    def reserve(self, asking: Asking, budgets: Sequence[Applying]) -> Short | None:
        """Set aside what is asked for, or say which budget has no room; all or nothing.

        What is asked for again replaces what was set aside.
        """
        self.release(asking.execution)
        for applying in budgets:
            amount = asking.amounts.get(applying.budget.metric, _NOTHING)
            if (
                applying.budget.scope == "execution"
                and _binds(applying, asking)
                and amount > applying.budget.limit
            ):
                return _short(applying, _NOTHING, amount, asks=False)
        held = _tightest(budgets, asking)
        for account, applying in sorted(held.items()):
            if short := self._looked(account, applying, asking):
                return short
        for account, applying in sorted(held.items()):
            amount = asking.amounts.get(account.unit, _NOTHING)
            free = applying.budget.limit + self._extra[account] - self._used(account)
            if amount == 0 or free >= amount:
                continue
            if applying.id not in asking.allowed:
                return _short(applying, self._used(account), amount, asks=False)
            self._extra[account] += amount - free
        self._held[asking.execution] = asking
        self._book(self._aside, asking.whom, asking.amounts, asking.at)
        return None

    def _looked(self, account: Account, applying: Applying, asking: Asking) -> Short | None:
        """Whether nothing is left, or people are to be asked."""
        budget = applying.budget
        if applying.id in asking.allowed:
            return None
        amount, used = asking.amounts.get(account.unit, _NOTHING), self._used(account)
        free = asking.known or budget.metric in ("steps", "calls")
        if amount == 0 and not free and used >= budget.limit:
            return _short(applying, used, amount, asks=False)
        if budget.ask_above is None or amount == 0:
            return None
        if budget.ask_above * budget.limit < used + amount <= budget.limit:
            return _short(applying, used, amount, asks=True)
        return None

    def beyond(self, execution: Execution, used: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """What an execution has used beyond what is set aside for it."""
        held = self._held.get(execution)
        aside = {} if held is None else held.amounts
        more = {name: amount - aside.get(name, _NOTHING) for name, amount in used.items()}
        return {name: amount for name, amount in more.items() if amount > 0}

    def room(self, asking: Asking, budgets: Sequence[Applying]) -> Short | None:
        """Which budget has no room for more, nothing being set aside for it."""
        for account, applying in sorted(_tightest(budgets, asking).items()):
            amount = asking.amounts.get(account.unit, _NOTHING)
            free = applying.budget.limit + self._extra[account] - self._used(account)
            if amount > 0 and free < amount:
                return _short(applying, self._used(account), amount, asks=False)
        return None

    def settle(
        self, whom: Whom, execution: Execution, used: Mapping[str, Decimal], at: datetime
    ) -> None:
        """Charge what was used, in the windows in which it was asked for, and let go of the rest."""
        held = self.release(execution)
        self._book(self._spent, whom, used, at if held is None else held.at)

    def release(self, execution: Execution) -> Asking | None:
        """Let go of what is set aside for an execution."""
        held = self._held.pop(execution, None)
        if held is not None:
            back = {name: -amount for name, amount in held.amounts.items()}
            self._book(self._aside, held.whom, back, held.at)
        return held

    def release_all(self, run: str) -> None:
        """Let go of whatever is set aside for a run."""
        for execution in [one for one in self._held if one.run == run]:
            self.release(execution)

    def totals(self, wanted: Iterable[Total], whom: Whom, at: datetime) -> dict[Total, Decimal]:
        """What was charged so far."""
        return {
            total: self._spent[account(whom, total.scope, total.window, total.metric, at)]
            for total in wanted
        }

    def _used(self, account: Account) -> Decimal:
        return self._spent[account] + self._aside[account]

    def _book(
        self,
        into: defaultdict[Account, Decimal],
        whom: Whom,
        amounts: Mapping[str, Decimal],
        at: datetime,
    ) -> None:
        for unit, amount in amounts.items():
            for scope in words.SCOPES[1:]:
                for window in words.WINDOWS:
                    into[account(whom, scope, window, unit, at)] += amount


def account(whom: Whom, scope: Scope, window: Window, unit: str, at: datetime) -> Account:
    """The account of one of the scopes that a run lies in."""
    text = at.astimezone(UTC).strftime("%Y%m%dT%H%M")
    begun = {"none": "", "minute": text, "hour": text[:11], "day": text[:8]}[window]
    subject = {
        "run": whom.run,
        "workflow": whom.workflow,
        "user": whom.user,
        "tenant": whom.tenant,
    }[scope]
    return Account(scope, unit, window, begun, subject)


def _binds(applying: Applying, asking: Asking) -> bool:
    return applying.enforce and applying.id not in asking.allowed


def _tightest(budgets: Sequence[Applying], asking: Asking) -> dict[Account, Applying]:
    """The tightest budget of each account; those that people have let pass come last."""
    kept = [one for one in budgets if one.enforce and one.budget.scope != "execution"]
    kept.sort(key=lambda one: (one.id in asking.allowed, one.budget.limit))
    return {
        account(asking.whom, one.budget.scope, one.budget.window, one.budget.metric, asking.at): one
        for one in reversed(kept)
    }


def _short(applying: Applying, used: Decimal, wanted: Decimal, *, asks: bool) -> Short:
    budget = applying.budget
    then: Shortfall = ASK if asks else budget.on_shortfall
    most = budget.limit * budget.ask_above if asks and budget.ask_above else budget.limit
    window = "" if budget.window == "none" else f" in this {budget.window}"
    before = " before a person is asked" if asks else ""
    verdict = Verdict(
        id=applying.id,
        policy=applying.policy,
        version=applying.version,
        rule=budget.name,
        action=_ACTIONS[then],
        would=_ACTIONS[then],
        observed=as_number(used + wanted),
        limit=as_number(most),
        message=(
            f"{budget.metric} of this {budget.scope}: {line.grouped(wanted)} more on top of "
            f"{line.grouped(used)}{window} would pass {line.grouped(most)}{before}"
        ),
        scope=budget.scope,
        window=budget.window,
    )
    return Short(verdict=verdict, then=then)
