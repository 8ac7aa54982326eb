"""The policies of a tenant that hold at one moment of its history, ready to be asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.guardrails import vocabulary as words
from engine.guardrails.facts import Total
from engine.guardrails.moments import PLACES
from engine.guardrails.plugins import Plugin
from engine.guardrails.policy import (
    Argument,
    Budget,
    Condition,
    Content,
    CostSlope,
    FlatScore,
    Measure,
    Policy,
    RepeatedState,
    Rule,
    SameCall,
    When,
)
from engine.guardrails.vocabulary import Moment, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """A version of a policy that is in force."""

    policy: Policy
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A rule or a plug-in of a policy in force, and the id of it."""

    active: Active
    id: str
    rule: Rule | None = None
    plugin: Plugin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Applying:
    """A budget of a policy in force."""

    budget: Budget
    policy: str
    version: int
    #: False: a shortfall is only noted.
    enforce: bool

    @property
    def id(self) -> str:
        """`policy:budget`."""
        return f"{self.policy}:{self.budget.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """Which facts the rules of a moment look at, so that no others need be collected."""

    #: Whether there is anything to judge at all.
    anything: bool = False
    totals: frozenset[Total] = frozenset()
    places: frozenset[Place] = frozenset()
    #: Whether `Facts.repeats` is looked at.
    repeats: bool = False
    #: Whether the memory of the run is looked at or added to.
    memory: bool = False


NOTHING = Wants()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Governance:
    """The active policies of a tenant, compiled once."""

    #: The tenant's number of changes; another number means other policies.
    number: int
    policies: tuple[Active, ...] = ()
    bound: Mapping[Moment, tuple[Bound, ...]] = field(default_factory=dict)
    wanted: Mapping[Moment, Wants] = field(default_factory=dict)
    #: Rules that remember laps, by id.
    remembering: frozenset[str] = frozenset()
    #: Metrics whose extremes a run remembers.
    measured: frozenset[str] = frozenset()
    plugins: tuple[Plugin, ...] = ()

    @property
    def counts(self) -> bool:
        """Whether anything looks at what steps use, so that something may be set aside for them."""
        return any(one.policy.budgets for one in self.policies) or any(
            wants.totals for wants in self.wanted.values()
        )

    def budgets(self, workflow: str, user: str) -> tuple[Applying, ...]:
        """The budgets that apply to a run of a workflow by a user, in order."""
        return tuple(
            Applying(
                budget=budget,
                policy=active.policy.name,
                version=active.version,
                enforce=active.policy.enforce,
            )
            for active in self.policies
            if active.policy.budgets and active.policy.applies_to.to(workflow, user)
            for budget in active.policy.budgets
        )


#: Of a tenant without policies.
NONE = Governance(number=0)


def govern(
    number: int,
    policies: Iterable[Active],
    plugins: Mapping[str, Callable[..., Any]] | None = None,
) -> Governance:
    """Make policies ready. Those of a lower priority number are asked first, then by name.

    `plugins` are the installed ones by the name of their entry point; one that is missing
    denies.
    """
    ordered = tuple(
        sorted(policies, key=lambda active: (active.policy.priority, active.policy.name))
    )
    bound = tuple(each for active in ordered for each in _bound(active, plugins or {}))
    by_moment: dict[Moment, tuple[Bound, ...]] = {
        moment: tuple(each for each in bound if moment in _moments(each))
        for moment in words.MOMENTS
    }
    measured = frozenset(
        condition.metric
        for each in bound
        if each.rule is not None
        for condition in each.rule.conditions
        if isinstance(condition, Measure) and remembered(condition)
    )
    return Governance(
        number=number,
        policies=ordered,
        bound=by_moment,
        wanted={
            moment: _wants(moment, asked, taken_down=moment == "report" and bool(measured))
            for moment, asked in by_moment.items()
        },
        remembering=frozenset(
            each.id
            for each in bound
            if each.rule is not None
            and any(isinstance(condition, _LAPS) for condition in each.rule.conditions)
        ),
        measured=measured,
        plugins=tuple(each.plugin for each in bound if each.plugin is not None),
    )


def wants(governance: Governance, moment: Moment) -> Wants:
    """Which facts must be collected for a moment. Looks up what was worked out before."""
    return governance.wanted.get(moment, NOTHING)


def remembered(measure: Measure) -> bool:
    """Whether a measure is worked out from the memory of a run."""
    return (
        measure.scope == "run"
        and measure.aggregate not in {"sum", "now"}
        and (measure.metric not in {"iterations", "parallelism"})
    )


_LAPS = (RepeatedState, FlatScore, CostSlope)


def _bound(active: Active, plugins: Mapping[str, Callable[..., Any]]) -> Iterable[Bound]:
    policy = active.policy
    for rule in policy.rules:
        yield Bound(active=active, id=f"{policy.name}:{rule.name}", rule=rule)
    for index, use in enumerate(policy.plugins):
        plugin = Plugin(use, plugins.get(use.name))
        name = f"{policy.name}:plugins[{index}] {use.name}"
        yield Bound(active=active, id=name, plugin=plugin)


def _moments(bound: Bound) -> frozenset[Moment]:
    if bound.plugin is not None:
        return bound.plugin.moments
    if bound.rule is None:
        return frozenset()
    return bound.rule.moments


def _wants(moment: Moment, asked: tuple[Bound, ...], *, taken_down: bool) -> Wants:
    conditions = [
        condition for each in asked if each.rule is not None for condition in each.rule.conditions
    ]
    plugged = any(each.plugin is not None for each in asked)
    names = frozenset[str]().union(*map(_names, conditions))
    looked: set[Place] = {place for place in words.PLACES if place in names}
    here = PLACES[moment]
    if plugged or any(isinstance(each, Content) and here in each.places for each in conditions):
        looked.add(here)
    if any(isinstance(each, Argument) for each in conditions):
        looked.add("arguments")
    if any(isinstance(each, RepeatedState) and each.of is None for each in conditions):
        looked.add("result")
    return Wants(
        anything=bool(asked) or taken_down,
        totals=frozenset(
            Total(each.scope, each.window, each.metric)
            for each in conditions
            if isinstance(each, Measure) and _totalled(each)
        ),
        places=frozenset(looked),
        repeats=plugged
        or "repeats" in names
        or any(isinstance(each, SameCall) for each in conditions),
        memory=taken_down
        or any(
            isinstance(each, _LAPS) or (isinstance(each, Measure) and remembered(each))
            for each in conditions
        ),
    )


def _totalled(measure: Measure) -> bool:
    """Whether a measure is of a sum that the platform keeps."""
    return measure.scope != "execution" and measure.aggregate == "sum"


def _names(condition: Condition) -> frozenset[str]:
    match condition:
        case When(expression=expression):
            return expression.names
        case FlatScore(of=of):
            return of.names
        case RepeatedState(of=of):
            return frozenset() if of is None else of.names
        case _:
            return frozenset()
