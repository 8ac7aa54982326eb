"""All reviewers together, over one text: what they find in what was changed, and its score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from celeriac.change_review import findings, languages, linter, measures, scopes, texts
from celeriac.change_review.findings import MODULE, Finding, finding
from celeriac.change_review.scopes import Function, Key
from celeriac.code_review import issues, syntax

#: Who reports what keeps a file, or a part of it, from being reviewed.
READER = "reader"
#: Who has the rules of the Code Review agent.
RULES = "rules"

#: The rule by which a layout other than ruff's is reported.
UNFORMATTED = "unformatted"
#: That of a text which begins with a byte order mark.
MARKED = "byte_order_mark"
#: More functions than this are not laid out one by one.
MOST_LAID_OUT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What of a file is reviewed: some of its functions, or all there is."""

    keys: frozenset[Key] | None = None

    def holds(self, function: Function | None) -> bool:
        """Whether what stands in a function, or in none, is to be looked at."""
        if self.keys is None:
            return True
        return function is not None and function.key in self.keys

    def of(self, found: Iterable[Function]) -> list[Function]:
        """The functions that are to be looked at."""
        return [one for one in found if self.holds(one)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What was found."""

    findings: tuple[Finding, ...]
    functions: tuple[Function, ...] = ()  #: those that were reviewed
    lints: tuple[linter.Lint, ...] = ()  #: what ruff said of them
    unread: bool = False  #: there is nothing that could be rated

    @property
    def score(self) -> float:
        return 0.0 if self.unread else findings.score(self.findings)


def review(text: str, language: str, scope: Scope) -> Review:
    """Review a text that `texts.checked` let pass. It always ends in findings."""
    try:
        reading = scopes.read(text, language)
    except syntax.NotPythonError as error:
        return unread("syntax_error", _clear(error), line=error.line)
    except languages.LackingError as error:
        return unread("lacking", str(error))
    chosen = scope.of(reading.functions)
    found: list[Finding] = []
    lints: list[linter.Lint] = []
    for function in chosen:
        found += measures.findings(function, language)
    if language == languages.PYTHON:
        found += _declared(text)
        lines = syntax.lines(text)
        for function in chosen:
            found += _by_rules(lines, function)
        try:
            heard = linter.lint(text)
            owners = scopes.owners(reading.functions, (lint.line for lint in heard))
            lints = [lint for lint in heard if scope.holds(owners.get(lint.line))]
            found += [_as_finding(lint, owners.get(lint.line)) for lint in lints]
            found += _layout(text, chosen, scope)
        except (languages.LackingError, linter.LinterError) as error:
            found.append(_of_reader("linter", f"ruff was not heard: {error}", "medium"))
    elif reading.broken is not None:
        message = (
            f"Line {reading.broken} is not {language} as its grammar knows it; "
            "what stands around it was reviewed. Correct it first."
        )
        found.append(_of_reader("syntax_error", message, "medium", line=reading.broken))
    return Review(
        findings=tuple(findings.sorted_by_line(found)),
        functions=tuple(chosen),
        lints=tuple(lints),
    )


def unread(rule: str, message: str, *, line: int = 1) -> Review:
    """The review of what could not be read."""
    return Review(findings=(_of_reader(rule, message, "high", line=line),), unread=True)


def marked() -> Finding:
    """That a text begins with a byte order mark."""
    message = "The file begins with a byte order mark, which UTF-8 needs not; save it without."
    return _of_reader(MARKED, message, "low")


def laid_out(text: str, chosen: Iterable[Function], scope: Scope) -> str:
    """A text with what is reviewed laid out as ruff would. Raises what `linter.formatted` does.

    No configuration is read, so the width of its lines is the one that changes the fewest of them.
    """
    ranges = None
    if scope.keys is not None:
        ranges = [(one.first, one.last) for one in scopes.outermost(chosen)]
        if len(ranges) > MOST_LAID_OUT:
            return text
    nearest, least = text, math.inf
    for width in linter.WIDTHS:
        after = linter.formatted(text, ranges, width=width)
        changed = len(set(syntax.lines(text)) ^ set(syntax.lines(after)))
        if after == text:
            return text
        if changed < least:
            nearest, least = after, changed
    return nearest


def _of_reader(rule: str, message: str, severity: str, *, line: int = 1) -> Finding:
    return finding(rule, line, message, severity, function=MODULE, by=READER)


def _clear(error: syntax.NotPythonError) -> str:
    return f"Not Python: {error.message}. Correct line {error.line} first."


def _declared(text: str) -> Iterator[Finding]:
    if name := texts.declared(text):
        message = f"The file says that it is {name[:40]} and was read as UTF-8; drop the line."
        yield _of_reader("encoding", message, "medium")


def _by_rules(lines: Sequence[str], function: Function) -> Iterator[Finding]:
    body = "\n".join(lines[function.line - 1 : function.last])
    for issue in issues.detect_issues(body, function.name):
        line = issue.get("line", 1) + function.line - 1
        yield finding(
            issue["type"],
            line,
            issue["message"],
            issue["severity"],
            function=function.name,
            by=RULES,
        )


def _as_finding(lint: linter.Lint, function: Function | None) -> Finding:
    return finding(
        lint.rule,
        lint.line,
        lint.message,
        lint.severity,
        function=MODULE if function is None else function.name,
        by=linter.BY,
    )


def _layout(text: str, chosen: list[Function], scope: Scope) -> Iterator[Finding]:
    """That code is laid out otherwise, at the first line where it is."""
    after = laid_out(text, chosen, scope)
    if after == text:
        return
    pairs = zip(syntax.lines(text), [*syntax.lines(after), ""], strict=False)
    line = next((number for number, (is_, to_be) in enumerate(pairs, start=1) if is_ != to_be), 1)
    function = next((one for one in reversed(chosen) if one.first <= line <= one.last), None)
    name = MODULE if function is None else function.name
    message = "Laid out otherwise than `ruff format` does it."
    yield finding(UNFORMATTED, line, message, "low", function=name, by=linter.BY)
