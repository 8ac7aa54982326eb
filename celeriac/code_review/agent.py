"""The agent: its node functions, its condition and its graph."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from celeriac.code_review import (
    functions,
    improvements,
    issues,
    metrics,
    score,
    suggestions,
    syntax,
)

#: Defaults of what a state may say.
QUALITY_THRESHOLD = 7.0
MAX_ITERATIONS = 5
#: More laps than this the graph does not turn: each of its nodes may be visited 100 times.
MOST_LAPS = 98


class State(Protocol):
    """The state of a run, as the platform hands it to a node function."""

    def get(self, key: str, default: Any = None) -> Any: ...

    def update(self, values: dict[str, Any]) -> object: ...


def extract_functions(state: State) -> State:
    """Find the functions of `code`, or of what earlier laps have made of it."""
    code = _code(state)
    _quality_threshold(state)
    _max_iterations(state)
    found: list[functions.Function] = []
    error: dict[str, Any] | None = None
    try:
        found = functions.extract_functions(code)
    except syntax.NotPythonError as refused:
        error = {"message": refused.message, "line": refused.line}
    state.update({"functions": found, "function_count": len(found), "syntax_error": error})
    return state


def check_complexity(state: State) -> State:
    """Measure each function."""
    results = [
        {"function": function["name"], **metrics.calculate_complexity(function["body"])}
        for function in state.get("functions", [])
    ]
    total = sum(result["cyclomatic"] for result in results)
    state.update(
        {
            "complexity_results": results,
            "total_complexity": total,
            "avg_complexity": round(total / max(len(results), 1), 2),
        }
    )
    return state


def detect_issues(state: State) -> State:
    """Name what is wrong with each function, at its line of the module."""
    found: list[issues.Issue] = []
    if error := state.get("syntax_error"):
        found.append(issues.syntax_error(error["message"], function="<module>", line=error["line"]))
    for function in state.get("functions", []):
        for issue in issues.detect_issues(function["body"], function["name"]):
            issue["line"] += function["lineno"] - 1
            found.append(issue)
    severities = [issue["severity"] for issue in found]
    state.update(
        {
            "issues": found,
            "issue_count": len(found),
            "severity_counts": {level: severities.count(level) for level in score.PENALTIES},
        }
    )
    return state


def suggest_improvements(state: State) -> State:
    """Say what to do, the most urgent first."""
    found = suggestions.suggest_improvements(state.get("issues", []), _average(state))
    state.update({"suggestions": found, "suggestion_count": len(found)})
    return state


def calculate_score(state: State) -> State:
    """Rate the module, and say whether and why this was the last lap."""
    rating = _rating(state)
    quality = score.bounded(rating)
    scores = [*state.get("previous_scores", []), quality]
    laps = len(scores) - 1
    reason: str | None = None
    if quality >= _quality_threshold(state):
        reason = "threshold"
    elif laps >= _max_iterations(state):
        reason = "max_iterations"
    elif improvements.lap(_code(state), rating) is None:
        reason = "nothing_left"
    state.update(
        {
            "quality_score": quality,
            "previous_scores": scores,
            "improvements_applied": state.get("improvements_applied", 0),
            "stop_reason": reason,
        }
    )
    return state


def needs_improvement(state: State) -> bool:
    """Whether another lap follows: below the threshold, laps remain, something can be mended."""
    return state.get("stop_reason") is None


def apply_improvements(state: State) -> State:
    """Mend as much as raises the score."""
    before = _code(state)
    lap = improvements.lap(before, _rating(state))
    if lap is None:
        return state
    applied = [*state.get("improvements", []), *lap.improvements]
    state.update(
        {
            "code_after": lap.code,
            "diff": _diff(state.get("code", before), lap.code),
            "improvements": applied,
            "improvements_applied": state.get("improvements_applied", 0) + len(lap.improvements),
        }
    )
    return state


def _code(state: State) -> str:
    code = state.get("code_after", state.get("code"))
    if not isinstance(code, str):
        seen = "nothing" if code is None else type(code).__name__
        raise TypeError(
            f"code: expected the text of a Python module, got {seen}; "
            "give it as a string in the initial state"
        )
    return code


def _quality_threshold(state: State) -> float:
    value = state.get("quality_threshold", QUALITY_THRESHOLD)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(
            f"quality_threshold: expected a number, got {value!r}; scores go from 0 to 10"
        )
    return value


def _max_iterations(state: State) -> int:
    value = state.get("max_iterations", MAX_ITERATIONS)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError(
            f"max_iterations: expected a whole number from 0, got {value!r}; "
            "it bounds the laps of improvement"
        )
    return min(value, MOST_LAPS)


def _average(state: State) -> metrics.Complexity:
    return metrics.average(state.get("complexity_results", []))


def _rating(state: State) -> float:
    applied = state.get("improvements_applied", 0)
    return score.rating(state.get("issues", []), _average(state), applied)


def _diff(before: str, after: str) -> str:
    rows = difflib.unified_diff(
        syntax.lines(before), syntax.lines(after), "code", "code_after", lineterm=""
    )
    return "\n".join(rows)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "extract_functions": extract_functions,
    "check_complexity": check_complexity,
    "detect_issues": detect_issues,
    "suggest_improvements": suggest_improvements,
    "calculate_score": calculate_score,
    "needs_improvement": needs_improvement,
    "apply_improvements": apply_improvements,
}

TOOLS: Mapping[str, Callable[..., Any]] = {
    "extract_functions": functions.extract_functions,
    "calculate_complexity": metrics.calculate_complexity,
    "detect_issues": issues.detect_issues,
    "suggest_improvements": suggestions.suggest_improvements,
    "calculate_quality_score": score.calculate_quality_score,
}

GRAPH: dict[str, Any] = {
    "name": "code_review_agent",
    "start_node": "start",
    "nodes": [
        {"name": "start", "type": "start"},
        {"name": "extract_functions", "type": "standard", "function": "extract_functions"},
        {"name": "check_complexity", "type": "standard", "function": "check_complexity"},
        {"name": "detect_issues", "type": "standard", "function": "detect_issues"},
        {"name": "suggest_improvements", "type": "standard", "function": "suggest_improvements"},
        {
            "name": "calculate_score",
            "type": "loop",
            "function": "calculate_score",
            "condition": "needs_improvement",
            "max_iterations": 100,
        },
        {"name": "apply_improvements", "type": "standard", "function": "apply_improvements"},
        {"name": "end", "type": "end"},
    ],
    "edges": [
        {"source": "start", "target": "extract_functions"},
        {"source": "extract_functions", "target": "check_complexity"},
        {"source": "check_complexity", "target": "detect_issues"},
        {"source": "detect_issues", "target": "suggest_improvements"},
        {"source": "suggest_improvements", "target": "calculate_score"},
        {"source": "calculate_score", "target": "apply_improvements", "label": "loop"},
        {"source": "calculate_score", "target": "end"},
        # The code has changed: it is read anew.
        {"source": "apply_improvements", "target": "extract_functions"},
    ],
}

GRAPHS: tuple[dict[str, Any], ...] = (GRAPH,)
