"""What can go wrong, one class per situation; the docstring is the message when none is given.

Entry points translate these once: `web` into problem+json, the command line into an exit code.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from engine.core.problem import Problem


class CeleriacError(Exception):
    """Celeriac could not do what was asked."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or inspect.cleandoc(type(self).__doc__ or ""))

    @property
    def message(self) -> str:
        return str(self.args[0])


class Invalid(CeleriacError):
    """What was handed in is not valid; every problem is listed with its place."""

    def __init__(self, problems: Iterable[Problem], message: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__(message)

    def __str__(self) -> str:
        return listed(self.message, self.problems)


class NotFound(CeleriacError):
    """There is nothing under this name, or not for who asks."""


class Conflict(CeleriacError):
    """It has changed meanwhile, or stands in the way of what was asked; read it again, then decide."""


class Outdated(Conflict):
    """Somebody has saved it since it was read; read it again, then decide."""


class Blocked(Conflict):
    """Something stands in the way; all of it is listed, each with its place and what to do."""

    def __init__(self, problems: Iterable[Problem], message: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__(message)

    def __str__(self) -> str:
        return listed(self.message, self.problems)


class Undecided(Blocked):
    """Calls that have happened could happen again: choose what becomes of each, or of their class."""


class Settled(Conflict):
    """It is settled: somebody, or the clock, was first."""

    def __init__(
        self,
        message: str = "",
        *,
        by: str = "",
        choice: str | None = None,
        at: datetime | None = None,
    ) -> None:
        super().__init__(message)
        #: Who settled it, with which choice, and when; no time where nobody has looked yet.
        self.verdict: Mapping[str, Any] = {"by": by, "choice": choice, "at": at}


class Forbidden(CeleriacError):
    """Whoever asks may not do this."""


class Unavailable(CeleriacError):
    """Something that is needed cannot be reached at the moment; try again."""


class GaveUp(Unavailable):
    """The database gave up on a transaction: it took too long, or stood in another's way."""


class StoodInTheWay(GaveUp):
    """Two transactions waited for each other, and the database let the other one go on; try again."""


class OutOfReach(Unavailable):
    """A value that is kept sealed cannot be read or written at the moment."""


def is_away(error: BaseException) -> bool:
    """Whether it says that something cannot be reached by anybody: of no transaction's or value's own doing."""
    return isinstance(error, Unavailable) and not isinstance(error, GaveUp | OutOfReach)


class Damaged(CeleriacError):
    """What was stored is not what is found; restore it from a backup."""


def listed(message: str, problems: Iterable[Problem]) -> str:
    """A message, and below it every problem with its place."""
    return "\n".join((message, *(f"  {_line(problem)}" for problem in problems)))


def _line(problem: Problem) -> str:
    place = f"{problem.path}: " if problem.path else ""
    remedy = f" ({problem.remedy})" if problem.remedy else ""
    return f"{place}{problem.message}{remedy}"
