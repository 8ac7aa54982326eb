"""How much may be in an account: what the budgets that apply to it come to, and which has no room.

The ledger on the platform (`engine.runs.budgets`) and the one in memory (`spending`) go by the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol, TypeVar

from engine.guardrails.governance import Applying
from engine.guardrails.vocabulary import Action, Shortfall

#: What follows where there is no room.
ACTIONS: Mapping[Shortfall, Action] = {
    "deny": "reject_execution",
    "pause": "pause_lifetime",
    "ask": "require_approval",
}
#: Units that are said by what asks for them: whoever asks for none of them uses none.
COUNTED = frozenset({"steps", "calls"})

A = TypeVar("A", bound=Hashable)


class Asked(Protocol):
    """What is asked for, and what is passed for it."""

    @property
    def amounts(self) -> Mapping[str, Decimal]:
        """By unit."""

    @property
    def before(self) -> Mapping[str, Decimal]:
        """What it has set aside already, by unit."""

    @property
    def allowed(self) -> Collection[str]:
        """Budgets, and the marks above which people are asked, that people let it pass, by id."""

    @property
    def unasked(self) -> bool:
        """Nobody can be asked any more."""

    @property
    def exceed(self) -> bool:
        """It is let in whatever it costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """How much may be in an account by one budget; a mark, if people are asked above it."""

    applying: Applying
    most: Decimal
    mark: bool = False
    #: People have allowed it to be passed.
    passed: bool = False

    @property
    def id(self) -> str:
        return f"{self.applying.id}:mark" if self.mark else self.applying.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """There is no room for what is wanted on top of what is used."""

    bound: Bound
    used: Decimal
    wanted: Decimal

    @property
    def then(self) -> Shortfall:
        return "ask" if self.bound.mark else self.bound.applying.budget.on_shortfall

    def told(self, number: Callable[[Decimal], str], most: str) -> str:
        """What there is no room for, in words; `number` writes amounts, `most` is the bound's."""
        budget = self.bound.applying.budget
        window = "" if budget.window == "none" else f" in this {budget.window}"
        asked = " before a person is asked" if self.bound.mark else ""
        what = f"{budget.metric} of this {budget.scope}"
        used = number(self.used)
        if not self.wanted:
            return f"{what}: {used} are used{window}, nothing is left of {most}"
        return (
            f"{what}: {number(self.wanted)} more on top of {used}{window} would pass {most}{asked}"
        )


def by_account(
    budgets: Iterable[Applying], asked: Asked, account: Callable[[Applying], A]
) -> dict[A, list[Bound]]:
    """What bounds each account, the tightest first; what was allowed to be passed comes last.

    Budgets that only note bound nothing, and those of one request have no account.
    """
    found: dict[A, list[Bound]] = {}
    for applying in budgets:
        if applying.enforce and applying.budget.scope != "execution":
            found.setdefault(account(applying), []).extend(_by_budget(applying, asked))
    for bounds in found.values():
        bounds.sort(key=lambda bound: (bound.passed, bound.most))
    return found


def too_much(budgets: Iterable[Applying], asked: Asked) -> Lack | None:
    """Whether one attempt or call asks for more than any may have."""
    for applying in budgets:
        budget = applying.budget
        if budget.scope != "execution" or not applying.enforce:
            continue
        amount = asked.amounts.get(budget.metric, Decimal(0))
        before = asked.before.get(budget.metric, Decimal(0))
        if not _passed(applying, asked) and amount + before > budget.limit:
            return Lack(
                bound=Bound(applying=applying, most=budget.limit), used=before, wanted=amount
            )
    return None


def lacking(bounds: Sequence[Bound], used: Decimal, wanted: Decimal) -> Lack:
    """What there is no room for: by a limit rather than by a mark, for nobody is asked in vain."""
    passing = [
        bound
        for bound in bounds
        if not bound.passed and (used + wanted > bound.most or (not wanted and used >= bound.most))
    ]
    denying = [bound for bound in passing if not bound.mark]
    return Lack(bound=(denying or passing or bounds)[0], used=used, wanted=wanted)


def _by_budget(applying: Applying, asked: Asked) -> Iterator[Bound]:
    budget, passed = applying.budget, _passed(applying, asked)
    yield Bound(applying=applying, most=budget.limit, passed=passed)
    if budget.ask_above is None or passed or asked.unasked:
        return
    mark = Bound(applying=applying, most=budget.ask_above * budget.limit, mark=True)
    # Nobody is asked about what is said to use none of it.
    if mark.id not in asked.allowed and asked.amounts.get(budget.metric):
        yield mark


def _passed(applying: Applying, asked: Asked) -> bool:
    return asked.exceed or applying.id in asked.allowed
