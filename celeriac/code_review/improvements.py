"""What can be mended without a change of meaning: literals get names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

from celeriac.code_review import constants, functions, issues, score, syntax

#: A function with more distinct literals than this holds a table; names would not help it.
MOST_NAMES = 10
#: How much of a literal or of its words is shown.
SHOWN = 40


class Improvement(TypedDict):
    """One change that was made."""

    type: str
    function: str
    change: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lap:
    """What one lap makes of a module."""

    code: str
    improvements: list[Improvement]


def lap(code: str, rating: float) -> Lap | None:
    """Resolve issues in the order of the code until the score has risen; None if it cannot rise.

    `rating` is the score of `code` before it is bounded.
    """
    try:
        tree = syntax.parse(code)
    except syntax.NotPythonError:
        return None
    source = constants.Source(code)
    chosen: list[_Fix] = []
    expected = rating
    for fix in _fixes(tree, source):
        chosen.append(fix)
        expected += fix.gain
        if score.bounded(expected) > score.bounded(rating):
            return _apply(tree, source, chosen)
    return None


def of_function(code: str, line: int) -> Lap | None:
    """Resolve every issue of the function whose `def` is at a line; None where there is none."""
    try:
        tree = syntax.parse(code)
    except syntax.NotPythonError:
        return None
    source = constants.Source(code)
    chosen = [fix for fix in _fixes(tree, source) if fix.line == line]
    return _apply(tree, source, chosen) if chosen else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fix:
    """All literals behind one issue."""

    type: str
    function: str
    line: int  #: of its `def`
    sites: tuple[constants.Site, ...]

    @property
    def literals(self) -> list[constants.Literal]:
        return list(dict.fromkeys(site.literal for site in self.sites))

    @property
    def gain(self) -> float:
        """What the score gains: one improvement for each name, and an issue less."""
        return len(self.literals) * score.BONUS + score.PENALTIES["low"]


def _fixes(tree: ast.Module, source: constants.Source) -> Iterator[_Fix]:
    """The issues that can be resolved, each whole."""
    for function in functions.definitions(tree):
        own = list(syntax.places(function))
        strings = issues.hardcoded_strings(own)
        for kind, found in (
            ("magic_numbers", issues.magic_numbers(own)),
            ("hardcoded_strings", strings if len(strings) > issues.MAX_STRINGS else []),
        ):
            if not found or any(place.fixed for place in found):
                continue
            sites = tuple(sorted(_site(place, source) for place in found))
            fix = _Fix(type=kind, function=function.name, line=function.lineno, sites=sites)
            if len(fix.literals) <= MOST_NAMES:
                yield fix


def _apply(tree: ast.Module, source: constants.Source, chosen: list[_Fix]) -> Lap | None:
    named = constants.named(tree, source, [site for fix in chosen for site in fix.sites])
    if named is None:
        return None
    done: list[Improvement] = [
        {
            "type": fix.type,
            "function": fix.function,
            "change": f"{_short(literal.text)} is now {named.names[literal]}",
        }
        for fix in chosen
        for literal in fix.literals
    ]
    return Lap(code=named.code, improvements=done)


def _site(place: syntax.Place, source: constants.Source) -> constants.Site:
    assert isinstance(place.node, ast.Constant)
    start, end = source.span(place.node)
    text = source.text(place.node)
    hint = _role(place).strip("_").upper()
    if not (hint.isascii() and hint.isidentifier()):
        hint = _words(place.node.value, text)
    return constants.Site(start=start, end=end, literal=constants.Literal(text=text, hint=hint))


def _role(place: syntax.Place) -> str:
    """The name of what a literal is passed as, assigned to or a limit of; else nothing."""
    match place.parent:
        case ast.keyword(arg=str(name)):
            return name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
        case ast.Compare(
            left=left,
            ops=[ast.Lt() | ast.LtE() | ast.Gt() | ast.GtE()],
            comparators=[ast.Constant()],
        ):
            return f"{_name(left)}_limit" if _name(left) else ""
        case ast.arguments(posonlyargs=first, args=others, defaults=defaults):
            last_first = zip(reversed([*first, *others]), reversed(defaults), strict=False)
            return next(
                (f"default_{arg.arg}" for arg, value in last_first if value is place.node), ""
            )
        case _:
            return ""


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return name
        case _:
            return ""


def _words(value: object, text: str) -> str:
    """A name from what a literal says."""
    if isinstance(value, str):
        words = re.findall(r"[A-Za-z]+", value)[:4] or ["text"]
        return "_".join(words)[:SHOWN].strip("_").upper()
    digits = re.sub(r"[^0-9A-Za-z]+", "_", text)[:SHOWN].strip("_")
    return f"NUMBER_{digits.upper()}"


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
