"""What reviewers find, and what that comes to as one figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypedDict

#: Where no function is meant.
MODULE = "<module>"

#: What a finding of each severity weighs.
WEIGHTS: Mapping[str, float] = {"high": 2.0, "medium": 1.0, "low": 0.4}
#: So much weight halves the score.
_HALF = 10.0
_BEST = 10.0


class Finding(TypedDict):
    """One thing that is wrong, at a line of the file."""

    rule: str
    line: int
    message: str
    severity: str
    function: str  #: with what it stands in: `Order.total`
    by: str  #: the reviewer: `rules`, `measures`, `ruff` or `reader`


def finding(
    rule: str, line: int, message: str, severity: str, *, function: str, by: str
) -> Finding:
    """A finding, by its parts."""
    return {
        "rule": rule,
        "line": line,
        "message": message,
        "severity": severity,
        "function": function,
        "by": by,
    }


def sorted_by_line(found: Iterable[Finding]) -> list[Finding]:
    """In the order of the code, each once."""
    once = {(each["line"], each["rule"], each["function"], each["message"]): each for each in found}
    return [once[key] for key in sorted(once)]


def score(found: Iterable[Finding]) -> float:
    """From 10 down to 0, less with each finding."""
    weight = sum(WEIGHTS[each["severity"]] for each in found)
    return round(_BEST / (1 + weight / _HALF), 3)
