"""What the Code Review agent found, as a page in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from celeriac.cli import printing

_MOST_ISSUES = 12
_MOST_LINES = 16
_SEVERITIES: Mapping[str, str] = {"high": "bold red", "medium": "yellow", "low": "dim"}
_STOPPED: Mapping[str, str] = {
    "threshold": "good enough",
    "max_iterations": "no laps are left",
    "nothing_left": "nothing is left that can be mended by itself",
}
#: First character of a line of a diff.
_DIFF: Mapping[str, str] = {"+": "green", "-": "red", "@": "cyan"}


def report(variables: Mapping[str, Any]) -> Iterator[Text | Table]:
    """The page, part by part, from the variables of the run.

    The agent's functions can be replaced like any others, so nothing is taken for granted.
    """
    yield _score(variables)
    yield from _issues(variables.get("issues", []))
    yield from _suggestions(variables.get("suggestions", []))
    yield from _diff(variables.get("diff", ""))


def _score(variables: Mapping[str, Any]) -> Text:
    laps = [f"{score:g}" for score in variables.get("previous_scores", [])]
    way = f"  ({' → '.join(laps)})" if len(laps) > 1 else ""
    stopped = _STOPPED.get(variables.get("stop_reason") or "", "")
    mended = variables.get("improvements_applied", 0)
    return Text.assemble(
        ("Score ", "bold"),
        (f"{variables.get('quality_score', 0):g}", "bold green"),
        (" of 10", "bold"),
        way,
        f"\n{variables.get('function_count', 0)} function(s),"
        f" cyclomatic complexity {variables.get('avg_complexity', 0):g} on average,"
        f" {mended} improvements made" + (f"; {stopped}" if stopped else ""),
    )


def _issues(issues: list[Mapping[str, Any]]) -> Iterator[Text | Table]:
    if not issues:
        yield Text("\nNo issues", "bold")
        return
    yield Text.assemble(("\nIssues", "bold"), f"  {len(issues)} left")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    worst_first = sorted(issues, key=lambda each: _rank(each.get("severity")))
    for issue in worst_first[:_MOST_ISSUES]:
        severity = printing.legible(issue.get("severity"))
        place = f"{issue.get('function')}:{issue.get('line')}"
        table.add_row(
            Text(f"  {severity}", _SEVERITIES.get(severity, "")),
            Text(printing.legible(place), no_wrap=True),
            Text(printing.legible(issue.get("message"))),
        )
    yield table
    if len(issues) > _MOST_ISSUES:
        yield Text(f"  and {len(issues) - _MOST_ISSUES} more", "dim")


def _rank(severity: object) -> int:
    known = list(_SEVERITIES)
    return known.index(severity) if severity in known else 0


def _suggestions(suggestions: list[Mapping[str, Any]]) -> Iterator[Text]:
    if suggestions:
        yield Text("\nSuggestions", "bold")
    for number, each in enumerate(suggestions, start=1):
        yield Text(printing.legible(f"  {number}. {each.get('suggestion')}"))


def _diff(diff: str) -> Iterator[Text]:
    lines = diff.splitlines()
    if lines:
        yield Text("\nWhat it has mended", "bold")
    # The first two lines name the two sides.
    for line in lines[2 : 2 + _MOST_LINES]:
        yield Text(printing.legible(f"  {line}"), _DIFF.get(line[:1], ""))
    if (more := len(lines) - 2 - _MOST_LINES) > 0:
        yield Text(f"  and {more} more lines", "dim")
