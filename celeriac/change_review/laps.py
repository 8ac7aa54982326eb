"""The laps of one file: look at it, try a change, keep it or take it back, and so on.

`begin_review` looks at the file and leaves a program to be tried: the code with its tests, before
anything is changed. `weigh_change` hears what came of the trial, keeps the change that was tried or rolls
it back, and proposes the next one, until `stop_reason` says why there is none. Both read and write
`review`, which is the report, and `desk`, what the next lap goes on from.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from celeriac.change_review import changes, languages, programs, reviewing, scopes, texts
from celeriac.change_review.findings import Finding
from celeriac.change_review.reviewing import Scope
from celeriac.change_review.scopes import Range
from celeriac.change_review.texts import UnreadableError
from celeriac.code_review import syntax

THRESHOLD = 9.0
MAX_LAPS = 10
MOST_LAPS = 50
#: Characters of a diff in a report; the code itself is there whole.
MOST_OF_DIFF = 20_000
#: Of one file, in a report; all of them count for its score.
MOST_FINDINGS = 1000
#: Tests that a message names.
_SHOWN = 5


class State(Protocol):
    """The state of a run, as the platform hands it to a node function."""

    def get(self, key: str, default: Any = None) -> Any: ...


def begin_review(state: State) -> dict[str, Any]:
    """Review a file, and make ready what is tried before anything is changed."""
    path, code, given = _text(state, "path"), _text(state, "code"), _text(state, "tests")
    language = _language(state)
    changed, unreadable = _changed(state), _unreadable(state)
    _threshold(state)
    _max_laps(state)
    scope, text = Scope(), ""
    marks: list[Finding] = []
    try:
        if unreadable is not None:
            raise unreadable
        read = texts.checked(code)
        text = read.text
        scope = _scope(text, language, changed)
        found = reviewing.review(text, language, scope)
        marks = [reviewing.marked()] if read.marked else []
    except UnreadableError as error:
        found = reviewing.unread(error.rule, error.message, line=error.line)
    tests: dict[str, Any] = {
        "given": bool(given.strip()),
        "passed": [],
        "failed": [],
        "skipped": [],
    }
    report: dict[str, Any] = {
        "path": path,
        "language": language,
        "functions": [one.name for one in found.functions],
        # As the file came, by its lines; what is left speaks of the lines of `code_after`.
        "findings": [*marks, *found.findings][:MOST_FINDINGS],
        "left": [*marks, *found.findings][:MOST_FINDINGS],
        "omitted": max(0, len(marks) + len(found.findings) - MOST_FINDINGS),
        "score": found.score,
        "scores": [found.score],
        "laps": [],
        "rolled_back": [],
        "tests": tests,
        "code_after": None,
    }
    desk: dict[str, Any] = {
        "code": text,
        "keys": None if scope.keys is None else sorted(scope.keys),
        "ruled_out": [],
        "candidate": None,
        "must_pass": [],
    }
    if found.unread or language != languages.PYTHON:
        reason = "unread" if found.unread else "not_mended"
        return _left(report, desk, stop_reason=reason)
    if not given.strip():
        return _left(report, desk)
    try:
        found_tests = programs.tests(given, path)
    except syntax.NotPythonError as error:
        tests["failed"] = [{"test": programs.LOADING, "message": f"tests: {error}"}]
        return _left(report, desk, stop_reason="tests_unreadable")
    tests["skipped"] = list(found_tests.skipped)
    return _left(report, desk, program=programs.program(text, found_tests))


def weigh_change(state: State) -> dict[str, Any]:
    """Hear what came of the trial, and propose what is tried next."""
    report, desk = dict(state.get("review")), dict(state.get("desk"))
    trial = state.get("trial") or {"passed": [], "failed": []}
    given = bool(report["tests"]["given"])
    if desk["candidate"] is not None:
        _weighed(report, desk, trial)
    elif given:
        report["tests"] = {**report["tests"], "passed": trial["passed"], "failed": trial["failed"]}
        desk["must_pass"] = trial["passed"]
        if not _proves(trial):
            return _left(report, desk, stop_reason="tests_fail")
    if report["score"] >= _threshold(state):
        return _left(report, desk, stop_reason="threshold")
    if len(report["laps"]) >= _max_laps(state):
        return _left(report, desk, stop_reason="max_laps")
    change = changes.following(desk["code"], _scope_of(desk), desk["ruled_out"], tested=given)
    if change is None:
        return _left(report, desk, stop_reason="nothing_left")
    desk["candidate"] = {"name": change.name, "code": change.code}
    program = None
    if given:
        program = programs.program(
            change.code, programs.tests(_text(state, "tests"), report["path"])
        )
    return _left(report, desk, program=program)


def gather_reviews(state: State) -> dict[str, Any]:
    """One report of all files: what was found, by file and line, and what could not be reviewed."""
    files, reviews = state.get("files") or [], state.get("reviews") or []
    found: list[dict[str, Any]] = []
    missing = list(state.get("left_out") or [])
    for file, review in zip(files, reviews, strict=False):
        report = review.get("review") if isinstance(review, Mapping) else None
        if report is None:
            message = "its review failed; the child run says why"
            missing.append({"path": file["path"], "rule": "failed", "message": message})
        else:
            found.append(report)
    return {
        "report": {
            "files": found,
            "left_out": missing,
            "findings": [
                {"path": each["path"], **one} for each in found for one in each["findings"]
            ],
            "score": min((each["score"] for each in found), default=10.0),
        }
    }


def _left(
    report: Mapping[str, Any],
    desk: Mapping[str, Any],
    *,
    program: str | None = None,
    stop_reason: str | None = None,
) -> dict[str, Any]:
    return {
        "review": {**report, "stop_reason": stop_reason},
        "desk": dict(desk),
        "program": program,
        "stop_reason": stop_reason,
    }


def _weighed(report: dict[str, Any], desk: dict[str, Any], trial: Mapping[str, Any]) -> None:
    """Keep the change that was tried, or roll it back."""
    change, before = desk["candidate"], desk["code"]
    told = {"change": change["name"], "diff": _diff(before, change["code"], report["path"])}
    desk["candidate"] = None
    if why := _broken(desk["must_pass"], trial):
        report["rolled_back"] = [*report["rolled_back"], {**told, "why": why}]
        desk["ruled_out"] = [*desk["ruled_out"], change["name"]]
        return
    found = reviewing.review(change["code"], languages.PYTHON, _scope_of(desk))
    lap = {**told, "before": report["score"], "score": found.score, "passed": desk["must_pass"]}
    marks = [each for each in report["left"] if each["rule"] == reviewing.MARKED]
    report |= {
        "laps": [*report["laps"], lap],
        "scores": [*report["scores"], found.score],
        "score": found.score,
        "left": [*marks, *found.findings][:MOST_FINDINGS],
        "code_after": change["code"],
    }
    desk["code"] = change["code"]


def _broken(must_pass: list[str], trial: Mapping[str, Any]) -> str:
    """Which tests do not pass any more, and why the first of them; empty where all do."""
    passed = set(trial["passed"])
    lost = [name for name in must_pass if name not in passed]
    if not lost:
        return ""
    said = {each["test"]: each["message"] for each in trial["failed"]}
    why = said.get(lost[0]) or said.get(programs.LOADING) or "it did not end"
    more = ", …" if len(lost) > _SHOWN else ""
    return f"{', '.join(lost[:_SHOWN])}{more} failed: {why}"


def _proves(trial: Mapping[str, Any]) -> bool:
    """Whether tests pass that a change could break: a test, or all that stands beside tests."""
    tests = [name for name in trial["passed"] if name != programs.LOADING]
    return bool(tests) or (bool(trial["passed"]) and not trial["failed"])


def _scope(text: str, language: str, changed: Sequence[Range] | None) -> Scope:
    """What was changed, as functions of the text as it came; of what cannot be read, everything."""
    if changed is None:
        return Scope()
    try:
        found = scopes.read(text, language).functions
    except (syntax.NotPythonError, languages.LackingError):
        return Scope()
    lines = text.count("\n") + 1
    within = [(first, min(last, lines)) for first, last in changed if first <= lines]
    return Scope(keys=scopes.touched(found, within))


def _scope_of(desk: Mapping[str, Any]) -> Scope:
    keys = desk["keys"]
    return Scope(keys=None if keys is None else frozenset((name, nth) for name, nth in keys))


def _diff(before: str, after: str, path: str) -> str:
    path = path if path.isprintable() else json.dumps(path)
    rows = difflib.unified_diff(
        syntax.lines(before), syntax.lines(after), f"a/{path}", f"b/{path}", lineterm=""
    )
    text = "\n".join(rows)
    return text if len(text) <= MOST_OF_DIFF else f"{text[:MOST_OF_DIFF]}\n…"


def _text(state: State, name: str) -> str:
    value = state.get(name, "")
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected text, got {type(value).__name__}; give it as a string")
    return value


def _language(state: State) -> str:
    value = state.get("language", languages.PYTHON)
    if value not in languages.known():
        raise ValueError(
            f"language: {value!r} is not read; the languages are {', '.join(languages.known())}"
        )
    return str(value)


def _changed(state: State) -> list[Range] | None:
    value = state.get("changed")
    if value is not None and not (isinstance(value, list) and all(map(_is_range, value))):
        raise TypeError(
            "changed: expected null or a list of ranges of lines, such as [[3, 7]], "
            f"got {str(value)[:80]}"
        )
    return value


def _is_range(value: object) -> bool:
    match value:
        case [int() | float() as first, int() | float() as last]:
            return 0 <= first <= last < math.inf
        case _:
            return False


def _unreadable(state: State) -> UnreadableError | None:
    """What was found when the file was read from Git."""
    match state.get("unreadable"):
        case None:
            return None
        case {"rule": str(rule), "message": str(message), "line": int(line)}:
            return UnreadableError(rule, message, line=line)
        case value:
            raise TypeError(
                f"unreadable: expected null or {{rule, message, line}}, got {str(value)[:80]}"
            )


def _threshold(state: State) -> float:
    value = state.get("threshold", THRESHOLD)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"threshold: expected a number, got {value!r}; scores go from 0 to 10")
    return value


def _max_laps(state: State) -> int:
    value = state.get("max_laps", MAX_LAPS)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError(
            f"max_laps: expected a whole number from 0, got {value!r}; it bounds the changes"
        )
    return min(value, MOST_LAPS)
