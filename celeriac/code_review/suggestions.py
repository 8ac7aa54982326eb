"""What to do about issues and complexity, the most urgent first."""

from __future__ import annotations

from operator import itemgetter
from typing import TypedDict

from celeriac.code_review.issues import Issue
from celeriac.code_review.metrics import Complexity, Figure


class Suggestion(TypedDict):
    """Advice to a person; priority 1 is the most urgent."""

    category: str
    suggestion: str
    priority: int


def suggest_improvements(issues: list[Issue], complexity: Complexity) -> list[Suggestion]:
    """Suggest what to improve, from issues and average complexity, sorted by priority."""
    kinds = {issue["type"] for issue in issues}
    found = [advice for figure, limit, advice in _FOR_COMPLEXITY if complexity[figure] > limit]
    found += [advice for kind, advice in _FOR_ISSUES.items() if kind in kinds]
    return sorted(found, key=itemgetter("priority"))


def _advice(category: str, priority: int, suggestion: str) -> Suggestion:
    return {"category": category, "suggestion": suggestion, "priority": priority}


_FOR_COMPLEXITY: tuple[tuple[Figure, int, Suggestion], ...] = (
    ("cyclomatic", 10, _advice("complexity", 1, "Move branches into functions of their own.")),
    ("cognitive", 15, _advice("readability", 2, "Flatten nested blocks; return early.")),
    ("lines", 50, _advice("structure", 1, "Give each function one thing to do.")),
)

_FOR_ISSUES = {
    "syntax_error": _advice("correctness", 1, "Make the code parse; nothing else can be reviewed."),
    "long_function": _advice("refactoring", 2, "Split long functions along their sections."),
    "magic_numbers": _advice("maintainability", 3, "Give numbers names, such as MAX_RETRIES = 30."),
    "too_many_args": _advice("design", 2, "Hand parameters that go together over as one object."),
    "nested_loops": _advice("performance", 2, "Move inner loops out, or use itertools.product."),
    "broad_exception": _advice("error_handling", 2, "Catch the exceptions you expect, no others."),
    "unresolved_todos": _advice("maintainability", 4, "Do what the comments ask, or drop them."),
    "print_statements": _advice("logging", 3, "Use the logging module in place of print."),
    "hardcoded_strings": _advice("maintainability", 3, "Give long strings names, or a config."),
}
