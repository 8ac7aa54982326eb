"""Budgets kept in memory, by the arithmetic of the ledger: for what might have been spent.

The ledger sets aside before anything starts, and charges what was used. The same is done here for
runs as they were recorded, so that a proposed budget can be held against them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
        for applying in budgets:
            if short := _too_much(applying, asking):
                return short
        taken: dict[Account, Decimal] = {}
        over: dict[Account, Decimal] = {}
        for account, bounds in sorted(_bounds(budgets, asking).items()):
            tightest, used = bounds[0], self._used(account)
            amount = asking.amounts.get(account.unit, _NOTHING)
            if amount == 0:
                # What it uses is not said: there must be something left.
                free = asking.known or account.unit in ("steps", "calls")
                if not free and not tightest.passed and used >= tightest.most:
                    return _lacking(bounds, used, amount)
                continue
            room = tightest.most + self._extra[account] - used
            if room < amount:
                if not tightest.passed:
                    return _lacking(bounds, used, amount)
                over[account] = amount - room
            taken[account] = amount
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    """How much may be in an account by one budget; a mark, if people are asked above it."""

    applying: Applying
    most: Decimal
    mark: bool = False
    #: People have allowed it to be passed.
    passed: bool = False

    @property
    def id(self) -> str:
        return f"{self.applying.id}:mark" if self.mark else self.applying.id


def _bounds(budgets: Sequence[Applying], asking: Asking) -> dict[Account, list[_Bound]]:
    """What bounds each account, the tightest first; what was allowed to be passed comes last."""
    found: dict[Account, list[_Bound]] = {}
    for one in budgets:
        budget = one.budget
        if one.enforce and budget.scope != "execution":
            at = account(asking.whom, budget.scope, budget.window, budget.metric, asking.at)
            found.setdefault(at, []).extend(_by_budget(one, asking))
    for bounds in found.values():
        bounds.sort(key=lambda bound: (bound.passed, bound.most))
    return found


def _by_budget(applying: Applying, asking: Asking) -> Iterator[_Bound]:
    budget = applying.budget
    passed = asking.exceed or applying.id in asking.allowed
    yield _Bound(applying=applying, most=budget.limit, passed=passed)
    if budget.ask_above is None or passed or asking.unasked:
        return
    mark = _Bound(applying=applying, most=budget.ask_above * budget.limit, mark=True)
    # Nobody is asked about what is said to use none of it.
    if mark.id not in asking.allowed and asking.amounts.get(budget.metric):
        yield mark


def _too_much(applying: Applying, asking: Asking) -> Short | None:
    """Whether one attempt or call asks for more than any may have."""
    budget = applying.budget
    if budget.scope != "execution" or not applying.enforce:
        return None
    amount = asking.amounts.get(budget.metric, _NOTHING)
    before = asking.before.get(budget.metric, _NOTHING)
    passed = asking.exceed or applying.id in asking.allowed
    if passed or amount + before <= budget.limit:
        return None
    return _short(_Bound(applying=applying, most=budget.limit), before, amount)


def _lacking(bounds: Sequence[_Bound], used: Decimal, wanted: Decimal) -> Short:
    """What there is no room for: by a limit rather than by a mark, for nobody is asked in vain."""
    passing = [
        bound
        for bound in bounds
        if not bound.passed and (used + wanted > bound.most or (not wanted and used >= bound.most))
    ]
    denying = [bound for bound in passing if not bound.mark]
    return _short((denying or passing or bounds)[0], used, wanted)


def _short(bound: _Bound, used: Decimal, wanted: Decimal) -> Short:
    budget = bound.applying.budget
    then: Shortfall = ASK if bound.mark else budget.on_shortfall
    window = "" if budget.window == "none" else f" in this {budget.window}"
    before = " before a person is asked" if bound.mark else ""
    most = line.grouped(bound.most)
    told = f"{line.grouped(wanted)} more on top of {line.grouped(used)}{window} would pass {most}{before}"
    if not wanted:
        told = f"{line.grouped(used)} are used{window}, nothing is left of {most}"
    verdict = Verdict(
        id=bound.id,
        policy=bound.applying.policy,
        version=bound.applying.version,
        rule=budget.name,
        action=_ACTIONS[then],
        would=_ACTIONS[then],
        observed=as_number(used + wanted),
        limit=as_number(bound.most),
        message=f"{budget.metric} of this {budget.scope}: {told}",
        scope=budget.scope,
        window=budget.window,
    )
    return Short(verdict=verdict, then=then)
