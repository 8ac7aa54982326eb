"""At which moments a rule can be judged: those at which all that it asks is known."""

from __future__ import annotations

from collections.abc import Mapping

from engine.guardrails import vocabulary as words
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
from engine.guardrails.vocabulary import Moment, Place

#: What content there is to look through.
PLACES: Mapping[Moment, Place] = {
    "start": "inputs",
    "report": "result",
    "call": "arguments",
    "call_report": "result",
}

_ALL = frozenset[Moment](words.MOMENTS)
_BEFORE = frozenset[Moment]({"start", "call"})
_AFTER = frozenset[Moment]({"report", "call_report"})
_CALLS = frozenset[Moment]({"call", "call_report"})
_REPORT = frozenset[Moment]({"report"})


def possible(rule: Rule) -> frozenset[Moment]:
    """The moments that a rule may name.

    What would be set is of use before something is done. A person may be asked after a step has
    reported, too: then what follows from it waits. What a call has returned waits for nobody.
    """
    found = _ALL
    for condition in rule.conditions:
        found &= _known(condition)
    if rule.action == "modify":
        return found & _BEFORE
    return found - {"call_report"} if rule.action == "require_approval" else found


def usual(rule: Rule) -> frozenset[Moment]:
    """The moments of a rule that names none.

    What is known before something is done, and does not change by doing it, is judged then.
    """
    found = possible(rule)
    if any(isinstance(each, Content) for each in rule.conditions):
        return found
    about_calls = any(isinstance(each, Tools | Argument) for each in rule.conditions)
    adds_up = any(isinstance(each, Measure) for each in rule.conditions)
    if adds_up and not about_calls and rule.action != "require_approval":
        return found
    return found & _BEFORE or found


def _known(condition: Condition) -> frozenset[Moment]:
    """When what a condition asks is known."""
    match condition:
        case Measure():
            return _ALL
        case Tools() | Argument():
            return _CALLS
        case Content(places=places):
            return frozenset(each for each in words.MOMENTS if PLACES[each] in places)
        case When(expression=expression):
            return _named(expression.names)
        case RepeatedState() | FlatScore() | CostSlope():
            return _REPORT
        case SameCall():
            return frozenset[Moment]({"call"})


def _named(names: frozenset[str]) -> frozenset[Moment]:
    found = _ALL
    if names & {"tool", "arguments", "repeats"}:
        found &= _CALLS
    if "inputs" in names:
        found &= {"start", "report"}
    return found & _AFTER if "result" in names else found
