"""Judging: facts go in, verdicts come out, and what the run is to remember.

Every rule of the moment is asked, and everything that it asks must hold. Comparisons are exact.
What cannot be told holds: an expression that has no value, a content too large to be looked
through, an argument that cannot be compared. A rule that fails must not let pass what it was
written to stop.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from engine.core import expressions, values
from engine.core.section import named
from engine.core.values import Json
from engine.guardrails import line
from engine.guardrails.facts import Facts, Total
from engine.guardrails.governance import Bound, Governance, remembered
from engine.guardrails.memory import Book, slope
from engine.guardrails.moments import PLACES
from engine.guardrails.patterns import Pattern
from engine.guardrails.policy import (
    Argument,
    Condition,
    Content,
    CostSlope,
    FlatScore,
    Measure,
    RepeatedState,
    Rule,
    SameCall,
    Tools,
    When,
)
from engine.guardrails.verdicts import Judgement, Memory, Verdict
from engine.guardrails.vocabulary import Action, Comparison, Place, Scope, Window

#: Characters of content that are looked through at one moment, and texts.
MAX_CONTENT = 1_100_000
MAX_TEXTS = 200_000
#: Work on patterns at one moment: characters times instructions. Usual patterns cost a hundredth
#: of that; the worst that can be written take five seconds for all of it.
MAX_WORK = 1_000_000_000


class Seen(NamedTuple):
    """What a condition that holds was seen to hold on."""

    observed: Json
    limit: Json
    told: str
    scope: Scope | None = None
    window: Window | None = None
    comparison: Comparison | None = None


def judge(governance: Governance, facts: Facts, memory: Memory) -> Judgement:
    """Ask every rule of the moment. Pure: it reads nothing but what it is handed."""
    asked = governance.bound.get(facts.moment, ())
    reported = facts.moment == "report"
    if not asked and not (reported and governance.measured):
        return Judgement(memory=memory)
    book = Book(memory, governance.remembering)
    if reported:
        book.measure(facts.usage, governance.measured)
    look = _Look(facts, book)
    verdicts = []
    for each in asked:
        if each.active.policy.applies_to.to(facts.workflow, facts.user):
            verdict = (
                _by_plugin(each, facts) if each.rule is None else _by_rule(each, each.rule, look)
            )
            verdicts += [] if verdict is None else [verdict]
    return Judgement(verdicts=tuple(verdicts), memory=book.written())


def _by_rule(bound: Bound, rule: Rule, look: _Look) -> Verdict | None:
    # Who remembers takes down every lap, whether the rest of the rule holds or not.
    progress = [each for each in rule.conditions if isinstance(each, _REMEMBERING)]
    seen: list[Seen] = []
    for condition in (*progress, *(each for each in rule.conditions if each not in progress)):
        found = look.at(condition, bound.id)
        if found is None:
            return None
        seen.append(found)
    if not seen or rule.action == "allow":
        return None
    telling = next((each for each in seen if each.comparison is not None), seen[0])
    if bound.id in look.facts.waived and not _grown(telling, look.facts.waived[bound.id]):
        return None
    return _verdict(
        bound,
        name=rule.name,
        action=rule.action,
        observed=telling.observed,
        limit=telling.limit,
        told=rule.message or "; ".join(each.told for each in seen),
        scope=telling.scope,
        window=telling.window,
        set=rule.set,
        asked=rule.asked,
        quorum=rule.quorum,
        four_eyes=rule.four_eyes,
        expires=rule.expires,
    )


_REMEMBERING = (RepeatedState, FlatScore, CostSlope)


def _by_plugin(bound: Bound, facts: Facts) -> Verdict | None:
    plugin = bound.plugin
    answer = None if plugin is None else plugin.ask(facts)
    if plugin is None or answer is None:
        return None
    # A person let this very thing pass. What was denied cannot have been let pass.
    if answer.action == "require_approval" and bound.id in facts.waived:
        return None
    return _verdict(
        bound,
        name=plugin.name,
        action=answer.action,
        observed=None,
        limit=None,
        told=answer.reason or f"the plug-in {plugin.name} says so",
        set=answer.set,
    )


def _verdict(bound: Bound, *, name: str, action: Action, told: str, **rest: Any) -> Verdict:
    policy = bound.active.policy
    return Verdict(
        id=bound.id,
        policy=policy.name,
        version=bound.active.version,
        rule=name,
        action=action if policy.enforce else "warn",
        would=action,
        message=f"policy {policy.name}: {told}"[:_MAX_MESSAGE],
        **rest,
    )


_MAX_MESSAGE = 1000


def _grown(seen: Seen, waived: Json) -> bool:
    """Whether what is seen goes beyond the value at which a person let it pass."""
    if seen.comparison is None or type(waived) not in {int, float} or seen.observed is None:
        return seen.observed != waived
    # As data the observed value has been rounded to a float like the one that was waived.
    if seen.comparison in {"<", "<="}:
        return bool(seen.observed < waived)  # type: ignore[operator]  # numbers, by their making
    if seen.comparison in {">", ">="}:
        return bool(seen.observed > waived)  # type: ignore[operator]  # see above
    return seen.observed != waived


# --- what conditions see ----------------------------------------------------------------------


class _Look:
    """The facts of one moment, and what has been worked out from them once."""

    def __init__(self, facts: Facts, book: Book) -> None:
        self.facts = facts
        self._book = book
        self._scope: dict[str, Json] | None = None
        self._texts: dict[Place, tuple[str, ...] | None] = {}
        self._left = MAX_WORK

    def finds(self, pattern: Pattern, texts: tuple[str, ...] | None) -> bool | None:
        """Whether any text matches; None: that is too much to find out."""
        if texts is None:
            return None
        self._left -= pattern.size * sum(map(len, texts))
        return None if self._left < 0 else any(map(pattern.matches, texts))

    def at(self, condition: Condition, rule: str) -> Seen | None:
        """What a condition holds on; None: it does not hold."""
        match condition:
            case Measure():
                return self._measure(condition)
            case Tools(names=names):
                tool = self.facts.tool
                if tool is None or tool not in names:
                    return None
                return Seen(observed=tool, limit=[*names.given], told=f"the tool is {tool}")
            case Argument():
                return _argument(condition, self)
            case Content():
                return self._content(condition)
            case When(expression=expression):
                return self._when(expression)
            case SameCall(times=times):
                made = self.facts.repeats + 1
                if made < times:
                    return None
                told = f"{self.facts.tool} is called with the same arguments for the {made}. time"
                return Seen(made, times, told, comparison=">=")
            case RepeatedState():
                return self._repeated(condition, rule)
            case FlatScore():
                return self._flat(condition, rule)
            case CostSlope():
                return self._slope(condition, rule)

    def _measure(self, measure: Measure) -> Seen | None:
        observed = self._observed(measure)
        if observed is None or not _COMPARE[measure.comparison](observed, measure.limit):
            return None
        return Seen(
            observed=as_number(observed),
            limit=as_number(measure.limit),
            told=f"{line.written(measure)}, and it is {line.grouped(observed)}",
            scope=measure.scope,
            window=measure.window,
            comparison=measure.comparison,
        )

    def _observed(self, measure: Measure) -> Decimal | None:
        facts, metric = self.facts, measure.metric
        if measure.scope == "execution":
            value = facts.usage.get(metric)
            return Decimal(1) if measure.aggregate == "count" and value is not None else value
        if metric == "iterations":
            return Decimal(facts.iteration)
        if measure.aggregate == "now" or metric == "parallelism":
            return facts.live.get(metric)
        if remembered(measure):
            return self._book.aggregate(metric, measure.aggregate)
        total = facts.totals.get(Total(measure.scope, measure.window, metric))
        if total is None and metric in facts.live and measure.scope == "run":
            return facts.live[metric] if measure.window == "none" else None
        return total

    def _content(self, content: Content) -> Seen | None:
        place = PLACES[self.facts.moment]
        if place not in content.places:
            return None
        found = self.finds(content.pattern, self._texts_of(place))
        if found is False:
            return None
        told = f"{place} holds what matches {content.pattern.source}"
        if found is None:
            told = f"{place} cannot be looked through, it is too large"
        return Seen(observed=place, limit=content.pattern.source, told=told)

    def _texts_of(self, place: Place) -> tuple[str, ...] | None:
        """The texts, numbers and keys of what stands at a place; None: there are too many."""
        if place not in self._texts:
            facts = self.facts
            value = facts.arguments if place == "arguments" else facts.content.get(place)
            self._texts[place] = texts(value)
        return self._texts[place]

    def _when(self, expression: expressions.Expression) -> Seen | None:
        told = f"{expression.source} holds"
        try:
            if not expressions.holds(expression.evaluate(self._names()).value):
                return None
        except expressions.EvaluationError as error:
            told = f"{expression.source} has no value: {error}"
        return Seen(observed=True, limit=expression.source, told=told)

    def _repeated(self, condition: RepeatedState, rule: str) -> Seen | None:
        facts = self.facts
        if condition.of is not None:
            value = self._value(condition.of)
            state = "" if value is None else values.canonical(value)
        elif facts.state is not None:
            state = facts.state
        else:
            state = values.canonical(facts.content.get("result"))
        times = self._book.state(rule, facts.node, state)
        if times < condition.times:
            return None
        told = f"{facts.node} has left the same state {times} times"
        return Seen(times, condition.times, told, comparison=">=")

    def _flat(self, condition: FlatScore, rule: str) -> Seen | None:
        value = self._value(condition.of)
        if type(value) not in {int, float}:
            return None
        laps = self._book.lap(rule, self.facts.node, Decimal(str(value)), condition.laps)
        if len(laps) < condition.laps:
            return None
        moved = max(laps) - min(laps)
        if moved > condition.by:
            return None
        told = (
            f"{condition.of.source} has moved by {line.grouped(moved)} in the last "
            f"{condition.laps} laps of {self.facts.node}"
        )
        return Seen(as_number(moved), as_number(condition.by), told, comparison="<=")

    def _slope(self, condition: CostSlope, rule: str) -> Seen | None:
        used = self.facts.usage.get(condition.metric)
        if used is None:
            return None
        laps = self._book.lap(rule, self.facts.node, used, condition.laps)
        if len(laps) < condition.laps:
            return None
        grown = slope(laps)
        if grown <= condition.above:
            return None
        shown = grown.quantize(Decimal("1e-9")).normalize() + 0
        told = (
            f"{condition.metric} grows by {line.grouped(shown)} a lap over the last "
            f"{condition.laps} laps of {self.facts.node}"
        )
        return Seen(as_number(shown), as_number(condition.above), told, comparison=">")

    def _value(self, expression: expressions.Expression) -> Json:
        try:
            return expression.evaluate(self._names()).value
        except expressions.EvaluationError:
            return None

    def _names(self) -> Mapping[str, Json]:
        if self._scope is None:
            facts = self.facts
            self._scope = {
                "moment": facts.moment,
                "tenant": facts.tenant,
                "user": facts.user,
                "workflow": facts.workflow,
                "run": facts.run,
                "node": facts.node,
                "kind": facts.kind,
                "step": facts.step,
                "attempt": facts.attempt,
                "iteration": facts.iteration,
                "tool": facts.tool,
                "arguments": facts.arguments,
                "inputs": facts.content.get("inputs"),
                "result": facts.content.get("result"),
                "usage": {name: as_number(value) for name, value in facts.usage.items()},
                "live": {name: as_number(value) for name, value in facts.live.items()},
                "repeats": facts.repeats,
            }
        return self._scope


def texts(value: Json) -> tuple[str, ...] | None:
    """Every text, number and key of a value, as text; None: more than may be looked through."""
    found: list[str] = []
    waiting: list[Json] = [value]
    left = MAX_CONTENT
    while waiting:
        match waiting.pop():
            case str(text):
                found.append(text)
            case bool() | None:
                continue
            case int() | float() as number:
                found.append(str(number))
            case list(entries):
                waiting.extend(reversed(entries))
                continue
            case dict(fields) if values.MARK in fields:
                return None
            case dict(fields):
                for key, entry in reversed(fields.items()):
                    waiting += [entry, key]
                continue
        left -= len(found[-1])
        if left < 0 or len(found) > MAX_TEXTS:
            return None
    return tuple(found)


def as_number(value: Decimal) -> int | float:
    """A number as JSON has it."""
    return int(value) if value == value.to_integral_value() else float(value)


_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_ORDER = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


# --- arguments --------------------------------------------------------------------------------


def _argument(condition: Argument, look: _Look) -> Seen | None:
    path = ".".join(condition.path)
    for value in _found(look.facts.arguments, condition.path):
        if told := _holds(condition, value, look):
            told = f"the argument {path} {told}"
            return Seen(observed=path, limit=condition.value, told=told)
    return None


class _Absent:
    """Nothing stands there."""


_ABSENT = _Absent()


def _found(value: Any, path: tuple[str, ...]) -> list[Any]:
    """What stands at a path: one value, with `*` in it any number, `_ABSENT` if there is none."""
    found = [value]
    for step in path:
        found = [inner for outer in found for inner in _step(outer, step)]
    return found


def _step(outer: Any, step: str) -> list[Any]:
    match outer:
        case dict() if step in outer:
            return [outer[step]]
        case list() if step == "*":
            return outer
        case dict() if step == "*":
            return [*outer.values()]
        case list() if step.isascii() and step.isdigit() and int(step) < len(outer):
            return [outer[int(step)]]
        case _:
            return [_ABSENT]


def _holds(condition: Argument, value: Any, look: _Look) -> str:
    """Why a condition holds of a value, without the value; empty: it does not hold."""
    wanted = condition.value
    absent = value is _ABSENT
    match condition.operator:
        case "eq":
            return "is what it must not be" if not absent and _equal(value, wanted) else ""
        case "ne":
            return "is not what it must be" if absent or not _equal(value, wanted) else ""
        case "in":
            listed = any(_equal(value, each) for each in _entries(wanted))
            return "is among those that are named" if not absent and listed else ""
        case "not_in":
            listed = any(_equal(value, each) for each in _entries(wanted))
            return "is not among those that are named" if absent or not listed else ""
        case "contains":
            return "contains what is named" if not absent and _contains(value, wanted) else ""
        case "regex":
            return _matches(condition, value, look)
        case "gt" | "gte" | "lt" | "lte" as order:
            if absent:
                return ""
            if type(value) not in {int, float}:
                return f"is {named(value)} and cannot be compared with a number"
            sign = _ORDER[order]
            return f"is {sign} {wanted}" if _COMPARE[sign](value, wanted) else ""


def _matches(condition: Argument, value: Any, look: _Look) -> str:
    pattern = condition.pattern
    if pattern is None or value is _ABSENT:
        return ""
    found = look.finds(pattern, texts(value))
    if found is None:
        return "is too large to be looked through"
    return f"matches {pattern.source}" if found else ""


def _entries(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _equal(one: Any, other: Json) -> bool:
    """Whether two values are the same as JSON: 1 is 1.0, and no number is true."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict | list) or isinstance(other, dict | list):
        return type(one) is type(other) and values.canonical(one) == values.canonical(other)
    return bool(one == other)


def _contains(value: Any, wanted: Json) -> bool:
    match value:
        case str():
            return isinstance(wanted, str) and wanted in value
        case list():
            return any(_equal(each, wanted) for each in value)
        case dict():
            return isinstance(wanted, str) and wanted in value
        case _:
            return False
