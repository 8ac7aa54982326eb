"""What can be mended by itself: changes of a text, each raising its score, each of one sort."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial

from celeriac.change_review import linter, reviewing, scopes
from celeriac.change_review.languages import PYTHON, LackingError
from celeriac.change_review.linter import LinterError, Safety
from celeriac.change_review.reviewing import Review, Scope
from celeriac.change_review.scopes import Function
from celeriac.code_review import improvements, syntax

#: Characters; a larger text is reviewed and not changed: each change is weighed by a whole review.
MOST_MENDED = 100_000
#: Functions whose literals are looked at in one lap.
MOST_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change that raises the score."""

    name: str
    code: str
    review: Review


def following(
    code: str, scope: Scope, ruled_out: Collection[str], *, tested: bool
) -> Change | None:
    """The next change of Python that raises the score; None where nothing is left.

    Its code parses and has the same functions. `ruled_out` are the names of changes that are not to be
    proposed again; fixes that ruff calls unsafe are proposed where tests can judge them alone.
    """
    if len(code) > MOST_MENDED:
        return None
    review = reviewing.review(code, PYTHON, scope)
    known = [one.key for one in scopes.read(code, PYTHON).functions]
    for name, made in _sorts(code, review, scope, tested=tested):
        if name in ruled_out:
            continue
        try:
            after = made()
            if after is None or after == code:
                continue
            if [one.key for one in scopes.read(after, PYTHON).functions] != known:
                continue
            found = reviewing.review(after, PYTHON, scope)
        except (syntax.NotPythonError, LinterError, LackingError):
            continue
        if found.score > review.score:
            return Change(name=name, code=after, review=found)
    return None


def _with_literals(review: Review) -> list[Function]:
    """The functions whose literals want names."""
    wanted = {each["function"] for each in review.findings if each["rule"] in _LITERALS}
    return [one for one in review.functions if one.name in wanted]


_LITERALS = frozenset({"magic_numbers", "hardcoded_strings"})

_Made = Callable[[], str | None]


def _sorts(code: str, review: Review, scope: Scope, *, tested: bool) -> Iterator[tuple[str, _Made]]:
    """The changes by name, the surest first."""
    yield from _fixes(code, review, "safe")
    for function in _with_literals(review)[:MOST_NAMED]:
        number = f" ({function.nth + 1})" if function.nth else ""
        name = f"name the literals of {function.name}{number}"
        yield name, partial(_named, code, function.line)
    if tested:
        yield from _fixes(code, review, "unsafe")
    yield "lay out", partial(reviewing.laid_out, code, review.functions, scope)


def _fixes(code: str, review: Review, safety: Safety) -> Iterator[tuple[str, _Made]]:
    """The fixes of each rule, together."""
    rules = dict.fromkeys(lint.rule for lint in review.lints)
    for rule in rules:
        fixes = [
            lint.fix
            for lint in review.lints
            if lint.rule == rule and lint.fix is not None and lint.fix.safety == safety
        ]
        if fixes:
            unsafe = " (unsafe)" if safety == "unsafe" else ""
            yield f"fix {rule}{unsafe}", partial(_fixed, code, fixes)


def _fixed(code: str, fixes: list[linter.Fix]) -> str:
    """All of them, or the first alone where they cannot stand beside each other."""
    together = linter.applied(code, fixes)
    try:
        syntax.parse(together)
    except syntax.NotPythonError:
        return linter.applied(code, fixes[:1])
    return together


def _named(code: str, line: int) -> str | None:
    made = improvements.of_function(code, line)
    return None if made is None else made.code
