"""The reviewer of figures: what is too long, takes too much, branches too often or nests too deep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from celeriac.change_review import languages
from celeriac.change_review.findings import Finding, finding
from celeriac.change_review.scopes import Function
from celeriac.code_review import issues

MOST_WAYS = 10
MOST_NESTED = 4

BY = "measures"


def findings(function: Function, language: str) -> Iterator[Finding]:
    """What is too much of a function. In Python the length and the parameters are judged by `rules`."""
    for limit in _LIMITS:
        if language == languages.PYTHON and limit.of_rules:
            continue
        amount = limit.figure(function)
        if amount <= limit.most:
            continue
        severity = "high" if amount > 2 * limit.most else "medium"
        message = f"{limit.words.format(amount)}, more than {limit.most}. {limit.advice}"
        yield finding(limit.rule, function.line, message, severity, function=function.name, by=BY)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    rule: str
    figure: Callable[[Function], int]
    most: int
    words: str
    advice: str
    of_rules: bool = False  #: `rules` has the same for Python


_LIMITS = (
    _Limit(
        rule="long_function",
        figure=attrgetter("lines"),
        most=issues.MAX_LINES,
        words="{} lines",
        advice="Consider splitting it up.",
        of_rules=True,
    ),
    _Limit(
        rule="too_many_args",
        figure=attrgetter("parameters"),
        most=issues.MAX_ARGUMENTS,
        words="{} parameters",
        advice="Consider handing over one object.",
        of_rules=True,
    ),
    _Limit(
        rule="complex_function",
        figure=attrgetter("cyclomatic"),
        most=MOST_WAYS,
        words="Cyclomatic complexity {}",
        advice="Consider moving branches into functions of their own.",
    ),
    _Limit(
        rule="deep_nesting",
        figure=attrgetter("nesting"),
        most=MOST_NESTED,
        words="Blocks nested {} deep",
        advice="Consider returning early.",
    ),
)
