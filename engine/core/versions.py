"""Numbers of workflows' versions, and the texts that ask for one of them.

A number is that of semver 2.0: `1.2.0`, or `1.2.0-rc.1`, which leads up to it. Whoever asks names one
number, or a range of them:

    1.2.0  2.0.0-rc.1     that one
    latest  *             the highest there is
    1  1.2  1.x  1.2.x    the highest that begins so
    ^1.2                  the highest from 1.2.0 on whose first number that is not 0 stays
    ~1.2.3                the highest from 1.2.3 on whose first two numbers stay
    >=1, <2               the highest that all of it holds of; also `>`, `<=` and `=`

A range never stands for a pre-release: who wants one names it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

Numbers: TypeAlias = tuple[int, int, int]

_NUMBER = r"(0|[1-9][0-9]{0,8})"
_PART = rf"(\^|~|>=|<=|>|<|=)?{_NUMBER}(\.{_NUMBER})?(\.({_NUMBER}|[xX*]))?"
_EXACT = rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-[0-9A-Za-z.-]{{1,40}})?"
#: Comparisons that one text may be made of.
_MOST = 8
#: What may stand where a version is asked for, without its ends.
ASKED = rf"(latest|\*|{_EXACT}|{_PART}( ?, ?{_PART}){{0,{_MOST - 1}}})"
#: As semver has it: words with dots between them, numbers without zeros before them.
_EARLY = r"(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_SEMVER = rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_EARLY}(\.{_EARLY})*)?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The versions that a text asks for: one by its number, else all releases between two numbers."""

    exact: str | None = None
    #: The first of them.
    low: Numbers = (0, 0, 0)
    #: The first beyond them; None: there is no end.
    high: Numbers | None = None


#: What is asked for where nothing is said.
LATEST = Asked()


def asked(text: str) -> Asked | None:
    """What a text asks for; None where it is of no form that is known here."""
    if re.fullmatch(ASKED, text) is None:
        return None
    if re.fullmatch(_EXACT, text) is not None:
        return Asked(exact=text)
    found = LATEST
    if text not in ("latest", "*"):
        for part in text.split(","):
            found = _both(found, _compared(part.strip()))
    return found


def is_version(text: str) -> bool:
    """Whether a text is the number of a version, as semver has it."""
    return re.fullmatch(_SEMVER, text) is not None


def _compared(part: str) -> Asked:
    """The releases that one comparison holds of."""
    sign = part[: len(part) - len(part.lstrip("^~<>="))]
    given = [int(number) for number in part[len(sign) :].split(".") if number.isdigit()]
    major, minor, patch = (*given, 0, 0)[:3]
    first = (major, minor, patch)
    last = len(given) - 1
    match sign:
        case "^":
            kept = next((place for place, number in enumerate(given) if number), last)
            return Asked(low=first, high=_after(first, kept))
        case "~":
            return Asked(low=first, high=_after(first, min(last, 1)))
        case ">":
            return Asked(low=_after(first, last))
        case ">=":
            return Asked(low=first)
        case "<":
            return Asked(high=first)
        case "<=":
            return Asked(high=_after(first, last))
        case _:
            return Asked(low=first, high=_after(first, last))


def _after(numbers: Numbers, place: int) -> Numbers:
    """The first numbers that differ at a place, or before it."""
    major, minor, patch = numbers
    return ((major + 1, 0, 0), (major, minor + 1, 0), (major, minor, patch + 1))[place]


def _both(one: Asked, other: Asked) -> Asked:
    """What both ask for."""
    ends = [each.high for each in (one, other) if each.high is not None]
    return Asked(low=max(one.low, other.low), high=min(ends, default=None))
