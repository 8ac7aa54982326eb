"""The review of changes: what a range of Git changed, reviewed by several, and mended by laps.

Trusted library code and two kinds of nodes; `examples/change-review` are the workflows made of them. What
it reads code with is the extra `review`: ruff, and grammars of tree-sitter for JavaScript, TypeScript,
Java, Go and C. Nothing is fetched while it runs.

*Reviewers* (`reviewing`). The rules of the Code Review agent (`celeriac.code_review`), figures
(`measures`, in every language) and ruff (`linter`) find what is wrong, each by a rule and a line; what
keeps a file from being read is a finding, too, of the `reader`. Of a range, only functions that it changed
are looked at (`ranges` says which lines, `scopes` whose they are). The score falls with each finding.

*Laps* (`laps`). A lap is one change of one sort (`changes`): ruff's safe fixes of one rule, names for the
literals of one function, the layout, and, where there are tests to judge it, fixes that ruff itself does
not call safe. It must parse, keep the functions, and raise the score. Then the code's own tests run with
it (`programs`): those that passed before must pass again, or it is rolled back, and the report says so.
Code without tests gets safe changes only.

*What is a stranger's.* Sources, tests and repositories are. Code is parsed by whoever reviews it and run
by nobody but the sandbox, behind its walls (`kinds.trial`); texts are bounded before they are read
(`texts`); git reads objects alone (`ranges`), in folders that an operator named and an admin granted to
the workflow (`kinds.files`). That somebody's tests pass is told by a process that somebody's code runs
in: code that means to can claim it of itself. Who may write into a repository's own folder while it is
read may show what is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celeriac.change_review.laps import begin_review, gather_reviews, weigh_change

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "begin_review": begin_review,
    "weigh_change": weigh_change,
    "gather_reviews": gather_reviews,
}

__all__ = ["FUNCTIONS"]
