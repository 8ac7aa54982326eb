"""What one evaluation carries, and how it can go wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from engine.core.values import Json

#: Units of work that one evaluation may spend.
BUDGET = 10_000
#: Characters of text that count as one unit.
TEXT_UNIT = 100


class ExpressionError(ValueError):
    """The text is not an expression."""

    def __init__(self, message: str, position: int, remedy: str = "") -> None:
        super().__init__(f"{message} (at character {position + 1})")
        self.message = message
        self.position = position  #: from 0
        self.remedy = remedy


class EvaluationError(ValueError):
    """The expression has no value in this scope."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} (at character {position + 1})")
        self.message = message
        self.position = position  #: from 0
        #: What had been read until then.
        self.saw: Mapping[str, Json] = {}
        #: Where the expression stands in its template.
        self.path = ""


class Frame:
    """The scope of one evaluation, what has been read in it, and what work is left."""

    __slots__ = ("left", "saw", "scope")

    def __init__(self, scope: Mapping[str, Json]) -> None:
        self.scope = scope
        self.saw: dict[str, Json] = {}
        self.left = BUDGET

    def spend(self, units: int, position: int) -> None:
        """Pay for work before it is done."""
        self.left -= units
        if self.left < 0:
            raise EvaluationError(
                f"the expression looks at more than {BUDGET} entries of its data", position
            )


Run: TypeAlias = Callable[[Frame], Json]


def holds(value: Json) -> bool:
    """Whether a value counts as true in `when`, `and`, `or` and `not`."""
    return bool(value)


def kind(value: Json) -> str:
    """The name of a value's kind, for messages: they name what is wrong, never its content."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"
