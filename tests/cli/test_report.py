from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from celeriac.cli import printing, report

ISSUE = {"severity": "low", "function": "f", "line": 3, "message": "Magic numbers found: 42."}
REVIEW: Mapping[str, Any] = {
    "quality_score": 9.8,
    "previous_scores": [9.6, 9.8],
    "function_count": 1,
    "avg_complexity": 2.0,
    "issues": [ISSUE],
    "suggestions": [{"suggestion": "Give numbers names.", "priority": 3}],
    "improvements_applied": 1,
    "stop_reason": "threshold",
    "diff": "--- code\n+++ code_after\n@@ -1 +1 @@\n-a = 42\n+a = ANSWER",
}


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Any:
    def show(**changes: Any) -> str:
        for part in report.report({**REVIEW, **changes}):
            printing.console().print(part)
        return capsys.readouterr().out

    return show


def test_a_review_by_functions_of_ones_own_is_shown_as_far_as_it_goes(shown: Any) -> None:
    page = shown(issues=[{"severity": "dire", "message": "\x1b[2J"}], suggestions=[{}])

    assert "dire" in page
    assert "\x1b" not in page


def test_the_worst_issues_come_first_and_the_many_are_counted(shown: Any) -> None:
    page = shown(issues=[*[ISSUE] * 20, {**ISSUE, "severity": "high", "function": "worst"}])

    rows = page[page.index("Issues") :].splitlines()
    assert rows[0] == "Issues  21 left"
    assert rows[1].split()[:2] == ["high", "worst:3"]
    assert "  and 9 more" in rows


def test_no_issues_are_said(shown: Any) -> None:
    assert "No issues" in shown(issues=[])


def test_a_review_has_a_score_its_issues_and_what_was_mended(shown: Any) -> None:
    page = shown()

    assert page.startswith("Score 9.8 of 10  (9.6 → 9.8)\n1 function(s)")
    assert "good enough" in page
    assert "f:3" in page
    assert "1. Give numbers names." in page
    assert "  -a = 42\n  +a = ANSWER\n" in page
