"""What is allowed in a policy, and most likely not meant."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from engine.core.problem import Problem
from engine.core.section import short, suggestion
from engine.guardrails import line
from engine.guardrails import vocabulary as words
from engine.guardrails.patterns import Names, Pattern
from engine.guardrails.policy import Argument, Content, Measure, Policy, Rule, Tools


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What there is that a policy may name. None: that is not known here."""

    tools: Collection[str] | None = None
    workflows: Collection[str] | None = None


NOTHING = Known()


def warnings(policy: Policy, known: Known = NOTHING) -> Iterator[Problem]:
    """Everything of a policy that most likely does not do what it was written for."""
    yield from _unmatched(
        policy.applies_to.workflows, known.workflows, "workflow", "applies_to.workflows"
    )
    for index, rule in enumerate(policy.rules):
        yield from _of_rule(rule, f"rules[{index}]", known)
    for index, budget in enumerate(policy.budgets):
        path = f"budgets[{index}]"
        if budget.limit == 0:
            yield _warning(f"{path}.limit", "nothing at all may be spent", "raise it, if some may")
        yield from _unmeasured(budget.metric, f"{path}.metric")
    if policy.rules and not policy.enforce:
        yield _warning("enforce", "its rules only warn", "write enforce: true to have them obeyed")


def _of_rule(rule: Rule, path: str, known: Known) -> Iterator[Problem]:
    if rule.action == "allow":
        yield _warning(
            f"{path}.action",
            "it does nothing: what no rule stops is allowed anyway, and a denial wins",
            "write allow_with_audit to have it noted",
        )
    for condition in rule.conditions:
        match condition:
            case Measure():
                yield from _of_measure(condition, path)
            case Tools(names=names):
                yield from _unmatched(names, known.tools, "tool", f"{path}.tool")
            case Content(pattern=pattern):
                yield from _of_pattern(pattern, f"{path}.content.matches")
            case Argument(pattern=pattern) if pattern is not None:
                yield from _of_pattern(pattern, f"{path}.arguments.regex")
            case _:
                pass


def _of_measure(measure: Measure, path: str) -> Iterator[Problem]:
    yield from _unmeasured(measure.metric, path)
    if measure.metric not in (*words.METRICS, *words.LIVE) and measure.aggregate != "count":
        return  # what executions report may be less than nothing
    limit, sign = measure.limit, measure.comparison
    told = line.written(measure)
    if limit < 0 or (limit == 0 and sign == "<"):
        if sign in {"<", "<=", "=="}:
            yield _warning(path, f"{told} can never be: it is never less than 0", "mend the limit")
        else:
            yield _warning(path, f"{told} always is: it is never less than 0", "mend the limit")
    elif limit == 0 and sign == ">=":
        yield _warning(path, f"{told} always is: it is never less than 0", "write > 0")
    elif sign in {"<", "<="} and measure.aggregate in {"sum", "now", "count"}:
        yield _warning(path, f"{told} is so from the start, and ends as it grows", "write > or >=")


def _unmeasured(metric: str, path: str) -> Iterator[Problem]:
    measured = (*words.METRICS, *words.LIVE)
    if metric not in measured:
        remedy = suggestion(metric, measured) or "see to it that they do"
        yield _warning(path, f"{metric} is known only of executions that report it", remedy)


def _of_pattern(pattern: Pattern, path: str) -> Iterator[Problem]:
    source = pattern.source
    if re.search(r"^\(?(\?[a-z]+\))?\.[*+]|\.[*+]\$?\)?$", source):
        yield _warning(
            path,
            f"{short(source)} begins or ends with what matches anything",
            "leave it out: the pattern is looked for anywhere in a text",
        )
    if pattern.matches(""):
        yield _warning(path, f"{short(source)} matches every text, even none", "narrow it")


def _unmatched(
    names: Names | None, known: Collection[str] | None, what: str, path: str
) -> Iterator[Problem]:
    if names is None or known is None:
        return
    for name in names.given:
        like = Names([name])
        if not any(each in like for each in known):
            remedy = suggestion(name, known) or f"it will be for a {what} that is added later"
            yield _warning(path, f"there is no {what} {short(name)}", remedy)


def _warning(path: str, message: str, remedy: str) -> Problem:
    return Problem(path=path, message=message, remedy=remedy)
