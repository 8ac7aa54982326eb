"""The reviewer that is somebody else's: ruff, asked about a text, never about files.

The text goes in by stdin under a name of ours, with `--isolated`: no configuration, of the repository
or of this machine, is looked for, so none can name plug-ins, other files or commands. Ruff parses and
never runs what it reads. `# noqa` hides nothing from a review. Nothing is fetched.
"""

from __future__ import annotations

import importlib
import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from celeriac.change_review.languages import LackingError
from celeriac.code_review import syntax

BY = "ruff"
#: Families of rules: mistakes, likely bugs, and code that can be said more simply.
SELECTED = ("E4", "E7", "E9", "F", "W6", "B", "C4", "PIE", "RET", "SIM", "UP")
#: What a text that ruff cannot parse is reported as.
INVALID = "invalid-syntax"

#: How wide lines commonly are.
WIDTHS = (88, 100, 120, 79)

_SECONDS = 20.0
_VERSION = "py311"
_NAME = "reviewed.py"
#: One thread, no colours, and nothing of the worker's own.
_ENVIRONMENT = {"RAYON_NUM_THREADS": "1", "NO_COLOR": "1", "LANG": "C.UTF-8"}
#: Likely bugs; everything else that ruff says is low.
_MEDIUM = ("F", "B", "E9")

Safety = Literal["safe", "unsafe"]


class LinterError(Exception):
    """Ruff did not answer; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Characters to be replaced, by their offsets."""

    start: int
    end: int
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """Edits that belong together."""

    safety: Safety
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lint:
    """One thing that ruff found."""

    rule: str
    line: int
    message: str
    fix: Fix | None

    @property
    def severity(self) -> str:
        return "medium" if self.rule.startswith(_MEDIUM) else "low"


def lint(text: str) -> list[Lint]:
    """What ruff finds in a text of Python. Raises `LackingError` and `LinterError`."""
    asked = ["check", "--ignore-noqa", "--output-format", "json", "--select", ",".join(SELECTED)]
    answer = _ask(asked, text)
    if answer.returncode not in {0, 1}:
        raise LinterError(_why(answer))
    try:
        listed = json.loads(answer.stdout)
        starts = _starts(text)
        return [_lint(each, starts, len(text)) for each in listed]
    except (ValueError, KeyError, TypeError) as error:
        raise LinterError(f"its answer cannot be read: {error}") from None


def formatted(
    text: str, ranges: Sequence[tuple[int, int]] | None = None, *, width: int = WIDTHS[0]
) -> str:
    """A text as ruff would lay it out: all of it, or these ranges of lines that do not overlap.

    Raises `LackingError` and `LinterError`.
    """
    within = ("--line-length", str(width))
    if ranges is None:
        return _laid_out(text, *within)
    # From the last to the first, so that the lines of those to come stay where they are.
    for first, last in sorted(ranges, reverse=True):
        # The end is the first line that is left alone, and must be one.
        end = f"{last + 1}" if last + 1 < len(syntax.lines(text)) else ""
        text = _laid_out(text, *within, "--range", f"{first}-{end}")
    return text


def applied(text: str, fixes: Iterable[Fix]) -> str:
    """A text with fixes made: each whole, in the order of the text; one that meets another is left."""
    taken: list[Edit] = []
    for fix in sorted(fixes, key=lambda fix: min(edit.start for edit in fix.edits)):
        wanted = [edit for edit in fix.edits if edit not in taken]
        if not any(_meet(edit, other) for edit in wanted for other in taken):
            taken += wanted
    for edit in sorted(taken, key=lambda edit: (edit.start, edit.end), reverse=True):
        text = text[: edit.start] + edit.content + text[edit.end :]
    return text


def _meet(one: Edit, other: Edit) -> bool:
    # Two that insert at one place meet, too: which comes first would be a guess.
    return one.start == other.start or (one.start < other.end and other.start < one.end)


def _laid_out(text: str, *more: str) -> str:
    answer = _ask(["format", *more], text)
    if answer.returncode != 0:
        raise LinterError(_why(answer))
    return answer.stdout.decode()


def _ask(arguments: Sequence[str], text: str) -> subprocess.CompletedProcess[bytes]:
    try:
        ruff = importlib.import_module("ruff").find_ruff_bin()
    except (ImportError, FileNotFoundError):
        raise LackingError("ruff") from None
    # Check and format share these.
    always = ("--isolated", "--no-cache", "--target-version", _VERSION, "--stdin-filename", _NAME)
    try:
        return subprocess.run(
            [ruff, *arguments, *always, "-"],
            input=text.encode(),
            capture_output=True,
            timeout=_SECONDS,
            env=_ENVIRONMENT,
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LinterError(f"it took more than {_SECONDS:g} s") from None
    except OSError as error:
        raise LinterError(f"it cannot be started: {error.strerror}") from None


def _why(answer: subprocess.CompletedProcess[bytes]) -> str:
    said = answer.stderr.decode(errors="replace").strip().splitlines()
    return said[-1][:200] if said else f"it ended with {answer.returncode}"


def _lint(said: Mapping[str, Any], starts: Sequence[int], size: int) -> Lint:
    return Lint(
        rule=str(said["code"] or INVALID),
        line=int(said["location"]["row"]),
        message=str(said["message"]),
        fix=_fix(said["fix"], starts, size),
    )


def _fix(said: Mapping[str, Any] | None, starts: Sequence[int], size: int) -> Fix | None:
    if said is None or said["applicability"] not in {"safe", "unsafe"}:
        return None
    edits = tuple(_edits(said["edits"], starts, size))
    return Fix(safety=said["applicability"], edits=edits) if edits else None


def _edits(said: Iterable[Mapping[str, Any]], starts: Sequence[int], size: int) -> Iterator[Edit]:
    def offset(place: Mapping[str, int]) -> int:
        row = place["row"] - 1
        return min(starts[row] + place["column"] - 1, size) if row < len(starts) else size

    for each in said:
        start, end = offset(each["location"]), offset(each["end_location"])
        yield Edit(start=start, end=end, content=each["content"] or "")


def _starts(text: str) -> list[int]:
    """Where each line begins, as ruff counts lines."""
    return [0, *(end.end() for end in syntax.LINE_END.finditer(text))]
