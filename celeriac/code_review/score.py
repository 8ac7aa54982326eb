"""The quality of a module as one number from 0 to 10."""

from __future__ import annotations

from collections.abc import Sequence

from celeriac.code_review.issues import Issue
from celeriac.code_review.metrics import Complexity

PENALTIES = {"high": 1.0, "medium": 0.5, "low": 0.2}
#: What each applied improvement adds.
BONUS = 0.5

_BEST = 10.0
_MOST_FOR_COMPLEXITY = 2.0


def calculate_quality_score(
    issues: list[Issue], complexity: Complexity, improvements_applied: int = 0
) -> float:
    """Calculate a score from 0 to 10 from issues and average complexity; higher is better."""
    return bounded(rating(issues, complexity, improvements_applied))


def rating(issues: Sequence[Issue], complexity: Complexity, improvements_applied: int) -> float:
    """The score before it is bounded. What is not Python cannot be rated above 0."""
    if any(issue["type"] == "syntax_error" for issue in issues):
        return 0.0
    return (
        _BEST
        - _excess(complexity["cyclomatic"] - 5, 0.3)
        - _excess(complexity["cognitive"] - 10, 0.2)
        - sum(PENALTIES[issue["severity"]] for issue in issues)
        + improvements_applied * BONUS
    )


def bounded(value: float) -> float:
    """A rating as it is shown."""
    return round(max(0.0, min(_BEST, value)), 2)


def _excess(points: float, price: float) -> float:
    return min(max(points, 0) * price, _MOST_FOR_COMPLEXITY)
