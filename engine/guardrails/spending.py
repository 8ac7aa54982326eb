"""Budgets kept in memory, by the arithmetic of the ledger: for what might have been spent.

The ledger sets aside before anything starts, and charges what was used. The same is done here for
runs as they were recorded, so that a proposed budget can be held against them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from engine.guardrails import bounds, line
from engine.guardrails import vocabulary as words
from engine.guardrails.bounds import ACTIONS, COUNTED, Lack
from engine.guardrails.facts import Total
from engine.guardrails.governance import Applying
from engine.guardrails.judge import as_number
from engine.guardrails.verdicts import Verdict
from engine.guardrails.vocabulary import Scope, Shortfall, Window

#: What is asked of people, as the ledger words it.
ASK: Shortfall = "ask"

_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whom:
    """Whom what a run does is charged to."""

    run: str
    #: The run that it was started for in the end, if not for itself: they are charged as one.
    root: str
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
    #: What it has set aside already.
    before: Mapping[str, Decimal] = field(default_factory=dict)
    #: It is known to cost just that, nothing included.
    known: bool = False
    #: What people have allowed to be passed, by id: budgets, and the marks above which they are asked.
    allowed: Collection[str] = frozenset()
    #: Nobody can be asked any more: it is under way, or it undoes what was done.
    unasked: bool = False
    #: Whatever it costs: it undoes what was done.
    exceed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Short:
    """A budget has no room for what is asked, or people are to be asked first."""

    verdict: Verdict
    then: Shortfall


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What is set aside for an execution."""

    asking: Asking
    #: By account: how much of it is set aside there, and by how much that passes the limit.
    taken: Mapping[Account, Decimal]
    over: Mapping[Account, Decimal]


class Spending:
    """What was spent and is set aside, by account."""

    def __init__(self) -> None:
        self._spent: defaultdict[Account, Decimal] = defaultdict(Decimal)
        self._aside: defaultdict[Account, Decimal] = defaultdict(Decimal)
        #: By how much people have let accounts be passed.
        self._extra: defaultdict[Account, Decimal] = defaultdict(Decimal)
        self._held: dict[Execution, _Held] = {}

    def reserve(self, asking: Asking, budgets: Sequence[Applying]) -> Short | None:
        """Set aside what is asked for, or say which budget has no room; all or nothing.

        What is asked for again replaces what was set aside.
        """
        self.release(asking.execution)
        found = self._fitted(asking, budgets)
        if isinstance(found, Short):
            return found
        self._held[asking.execution] = found
        for account, amount in found.taken.items():
            self._aside[account] += amount
        for account, amount in found.over.items():
            self._extra[account] += amount
        return None

    def _fitted(self, asking: Asking, budgets: Sequence[Applying]) -> _Held | Short:
        if (lack := bounds.too_much(budgets, asking)) is not None:
            return _short(lack)
        taken: dict[Account, Decimal] = {}
        over: dict[Account, Decimal] = {}
        bound = bounds.by_account(budgets, asking, lambda one: _account(one, asking))
        for place, found in sorted(bound.items()):
            tightest, used = found[0], self._used(place)
            amount = asking.amounts.get(place.unit, _NOTHING)
            if amount == 0:
                # What it uses is not said: there must be something left.
                free = asking.known or place.unit in COUNTED
                if not free and not tightest.passed and used >= tightest.most:
                    return _short(bounds.lacking(found, used, amount))
                continue
            room = tightest.most + self._extra[place] - used
            if room < amount:
                if not tightest.passed:
                    return _short(bounds.lacking(found, used, amount))
                # Others may be over it already, by what they used beyond what was set aside.
                over[place] = min(amount, amount - room)
            taken[place] = amount
        return _Held(asking=asking, taken=taken, over=over)

    def more(
        self, execution: Execution, used: Mapping[str, Decimal], at: datetime
    ) -> Asking | None:
        """What an execution would have asked for on top, that has used so much; None: nothing."""
        held = self._held.get(execution)
        if held is None:
            return None
        aside = held.asking.amounts
        beyond = {name: amount - aside.get(name, _NOTHING) for name, amount in used.items()}
        amounts = {name: amount for name, amount in beyond.items() if amount > 0}
        if not amounts:
            return None
        # What is under way waits for nobody.
        return Asking(
            whom=held.asking.whom,
            execution=execution,
            at=at,
            amounts=amounts,
            before=aside,
            unasked=True,
        )

    def room(self, asking: Asking, budgets: Sequence[Applying]) -> Short | None:
        """Which budget has no room for more, nothing being set aside for it."""
        found = self._fitted(asking, budgets)
        return found if isinstance(found, Short) else None

    def move(self, execution: Execution, other: Execution) -> None:
        """What is set aside for an execution is that of another: people had no say in it here."""
        if execution in self._held:
            self._held[other] = self._held.pop(execution)

    def settle(
        self, whom: Whom, execution: Execution, used: Mapping[str, Decimal], at: datetime
    ) -> None:
        """Charge what was used, in the windows in which it was asked for, and let go of the rest."""
        held = self.release(execution)
        since = at if held is None else held.asking.at
        for unit, amount in used.items():
            for scope in words.SCOPES[1:]:
                for window in words.WINDOWS:
                    self._spent[account(whom, scope, window, unit, since)] += amount

    def release(self, execution: Execution) -> _Held | None:
        """Let go of what is set aside for an execution."""
        held = self._held.pop(execution, None)
        if held is not None:
            for place, amount in held.taken.items():
                self._aside[place] -= amount
            for place, amount in held.over.items():
                self._extra[place] -= amount
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


def account(whom: Whom, scope: Scope, window: Window, unit: str, at: datetime) -> Account:
    """The account of one of the scopes that a run lies in."""
    text = at.astimezone(UTC).strftime("%Y%m%dT%H%M")
    begun = {"none": "", "minute": text, "hour": text[:11], "day": text[:8]}[window]
    subject = {
        "run": whom.root,
        "workflow": whom.workflow,
        "user": whom.user,
        "tenant": whom.tenant,
    }[scope]
    return Account(scope, unit, window, begun, subject)


def _account(applying: Applying, asking: Asking) -> Account:
    budget = applying.budget
    return account(asking.whom, budget.scope, budget.window, budget.metric, asking.at)


def _short(lack: Lack) -> Short:
    bound, budget = lack.bound, lack.bound.applying.budget
    verdict = Verdict(
        id=bound.id,
        policy=bound.applying.policy,
        version=bound.applying.version,
        rule=budget.name,
        action=ACTIONS[lack.then],
        would=ACTIONS[lack.then],
        observed=as_number(lack.used + lack.wanted),
        limit=as_number(bound.most),
        message=lack.told(line.grouped, line.grouped(bound.most)),
        scope=budget.scope,
        window=budget.window,
    )
    return Short(verdict=verdict, then=lack.then)
