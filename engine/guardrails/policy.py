"""The records that a policy document is read into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeAlias

from engine.core.expressions import Expression
from engine.core.values import Json
from engine.guardrails.patterns import Names, Pattern
from engine.guardrails.vocabulary import (
    DEFAULT_PRIORITY,
    Action,
    Aggregate,
    Comparison,
    Moment,
    Operator,
    Place,
    Scope,
    Shortfall,
    Window,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What is added up, over what, and where the limit is: `sum(tokens_used) > 10 000`."""

    metric: str
    aggregate: Aggregate
    comparison: Comparison
    limit: Decimal
    scope: Scope = "run"
    window: Window = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The call is of one of these tools."""

    names: Names


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """What stands at a dotted path of the call's arguments."""

    path: tuple[str, ...]
    operator: Operator
    value: Json  #: the text of the pattern, for `regex`
    pattern: Pattern | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A text somewhere in these places matches."""

    pattern: Pattern
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """An expression over the facts holds."""

    expression: Expression


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatedState:
    """A node has left the same state so many times."""

    times: int
    #: What counts as the state; without it the variables that the step left.
    of: Expression | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SameCall:
    """One tool is about to be called with the same arguments for the so-manieth time."""

    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatScore:
    """Over the last laps of a node its score has moved by no more than this."""

    of: Expression
    laps: int
    by: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class CostSlope:
    """Over the last laps of a node each has used more than the one before, by more than this
    on average (the slope of the line of least squares).
    """

    metric: str
    laps: int
    above: Decimal


Progress: TypeAlias = RepeatedState | SameCall | FlatScore | CostSlope
Condition: TypeAlias = Measure | Tools | Argument | Content | When | Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of a policy: if all of this holds, then that."""

    #: As it is named, else the rule in words; unique in its policy.
    name: str
    conditions: tuple[Condition, ...]
    action: Action
    moments: frozenset[Moment]
    message: str = ""
    #: MODIFY: what becomes of inputs or arguments, by dotted path.
    set: Mapping[str, Json] = field(default_factory=dict)
    #: REQUIRE_APPROVAL: `role:NAME` and `user:NAME`; empty: whoever may answer.
    asked: tuple[str, ...] = ()
    quorum: int = 1
    #: Whoever submitted the run may not answer.
    four_eyes: bool = False
    expires: float | None = None  #: seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Applies:
    """Whose runs a policy is for; all of the tenant's, where it names none."""

    workflows: Names | None = None
    users: Names | None = None

    def to(self, workflow: str, user: str) -> bool:
        """Whether it is for runs of this workflow by this user."""
        return (self.workflows is None or workflow in self.workflows) and (
            self.users is None or user in self.users
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent, and what becomes of whoever would spend more."""

    name: str
    scope: Scope
    window: Window
    metric: str
    limit: Decimal
    on_shortfall: Shortfall = "deny"
    #: The share of the limit above which a person is asked.
    ask_above: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A plug-in, by the name of its entry point, and what it is set up with."""

    name: str
    given: Mapping[str, Json]
    moments: frozenset[Moment]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy document."""

    name: str
    title: str = ""
    enforce: bool = True
    priority: int = DEFAULT_PRIORITY
    applies_to: Applies = field(default_factory=Applies)
    rules: tuple[Rule, ...] = ()
    budgets: tuple[Budget, ...] = ()
    plugins: tuple[Use, ...] = ()
