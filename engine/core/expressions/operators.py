"""What the operators compute. Each factory takes compiled operands and gives a closure."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.core.expressions.frame import TEXT_UNIT, EvaluationError, Frame, Run, holds, kind
from engine.core.values import MAX_INTEGER, Json

#: Characters of a computed text.
MAX_TEXT = 65_536

#: Exact types: True is an int to Python, and must not be a number here.
_NUMBERS = frozenset({int, float})


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """A compiled part, with its text for messages."""

    run: Run
    text: str


def negated(of: Operand) -> Run:
    """`not x`."""
    run = of.run
    return lambda frame: not holds(run(frame))


def minus(of: Operand, position: int) -> Run:
    """`-x`."""

    def run(frame: Frame) -> Json:
        value: Any = of.run(frame)
        if type(value) not in _NUMBERS:
            raise _mismatch("-", (of.text, value), position, "a number")
        return -value  # type: ignore[no-any-return]  # a number, by the line above

    return run


def conjunction(operands: Sequence[Operand]) -> Run:
    """`a and b and …`."""
    runs = tuple(each.run for each in operands)

    def run(frame: Frame) -> Json:
        for each in runs:  # noqa: SIM110  # a generator costs more than most operands
            if not holds(each(frame)):
                return False
        return True

    return run


def disjunction(operands: Sequence[Operand]) -> Run:
    """`a or b or …`."""
    runs = tuple(each.run for each in operands)

    def run(frame: Frame) -> Json:
        for each in runs:  # noqa: SIM110  # a generator costs more than most operands
            if holds(each(frame)):
                return True
        return False

    return run


def comparison(symbol: str, left: Operand, right: Operand, position: int) -> Run:
    """`a > b`, `a == b`, `a in b`, …"""
    if symbol in _ORDERINGS:
        return _ordering(symbol, left, right, position)
    first, second = left.run, right.run
    if symbol in {"==", "!="}:
        wanted = symbol == "=="
        return lambda frame: equal(first(frame), second(frame), frame, position) is wanted
    wanted = symbol == "in"
    return lambda frame: (
        lies_in(first(frame), second(frame), frame, position, (left.text, right.text)) is wanted
    )


def arithmetic(first: Operand, rest: Sequence[tuple[str, Operand, int]]) -> Run:
    """`a + b - c`, `a * b / c`: from left to right, and flat, however long."""
    steps = tuple(
        (symbol, operand.run, operand.text, position, _ARITHMETIC[symbol])
        for symbol, operand, position in rest
    )

    def run(frame: Frame) -> Json:
        value: Any = first.run(frame)
        text = first.text
        for symbol, operand, operand_text, position, compute in steps:
            other: Any = operand(frame)
            if type(value) in _NUMBERS and type(other) in _NUMBERS:
                if other == 0 and symbol in "/%":
                    raise EvaluationError(
                        f"{operand_text} is 0: nothing is divided by it", position
                    )
                value = number(compute(value, other), position)
            elif symbol == "+" and type(value) is type(other) is str:
                value = sized(value + other, position)
            elif symbol == "+" and type(value) is type(other) is list:
                frame.spend(len(value) + len(other), position)
                value = value + other
            else:
                wanted = "numbers, texts or lists" if symbol == "+" else "numbers"
                wrong = (text, value) if _outside(symbol, value) else (operand_text, other)
                raise _mismatch(symbol, wrong, position, wanted)
            text = "the left side"
        return value  # type: ignore[no-any-return]  # JSON, by each of the branches

    return run


def equal(one: Json, other: Json, frame: Frame, position: int) -> bool:
    """Whether two values are the same JSON, 1 and 1.0 being one number and true none."""
    if type(one) in _NUMBERS and type(other) in _NUMBERS:
        return one == other
    if isinstance(one, list) and isinstance(other, list):
        frame.spend(len(one), position)
        return len(one) == len(other) and all(
            equal(a, b, frame, position) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, dict) and isinstance(other, dict):
        frame.spend(len(one), position)
        return one.keys() == other.keys() and all(
            equal(entry, other[key], frame, position) for key, entry in one.items()
        )
    if isinstance(one, str) and isinstance(other, str):
        frame.spend(len(one) // TEXT_UNIT, position)
    return type(one) is type(other) and one == other


def lies_in(
    item: Json, container: Json, frame: Frame, position: int, texts: tuple[str, str]
) -> bool:
    """Whether a list holds an entry, a text a part or an object a key."""
    match container:
        case list():
            frame.spend(len(container), position)
            return any(equal(item, entry, frame, position) for entry in container)
        case str() if isinstance(item, str):
            frame.spend(len(container) // TEXT_UNIT, position)
            return item in container
        case dict() if isinstance(item, str):
            return item in container
        case str() | dict():
            raise _mismatch("in", (texts[0], item), position, "text on its left")
        case _:
            raise _mismatch("in", (texts[1], container), position, "a list, text or object")


def number(value: float, position: int) -> float:
    """A computed number, if it can be held."""
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise EvaluationError("the result is an integer beyond 64 bits", position)
    elif not math.isfinite(value):
        raise EvaluationError("the result is too large a number", position)
    return value


def sized(text: str, position: int) -> str:
    """A computed text, if it can be held."""
    if len(text) > MAX_TEXT:
        raise EvaluationError(f"the result is a text over {MAX_TEXT} characters", position)
    return text


def is_number(value: Json) -> bool:
    """Whether a value is a number; true and false are not."""
    return type(value) in _NUMBERS


_ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
}


def _ordering(symbol: str, left: Operand, right: Operand, position: int) -> Run:
    test = _ORDERINGS[symbol]
    first, second = left.run, right.run

    def run(frame: Frame) -> Json:
        one, other = first(frame), second(frame)
        if type(one) in _NUMBERS and type(other) in _NUMBERS:
            return test(one, other)
        if isinstance(one, str) and isinstance(other, str):
            frame.spend(len(one) // TEXT_UNIT, position)
            return test(one, other)
        orderable = isinstance(one, str) or type(one) in _NUMBERS
        wrong = (right.text, other) if orderable else (left.text, one)
        raise _mismatch(symbol, wrong, position, "two numbers or two texts")

    return run


def _outside(symbol: str, value: Json) -> bool:
    fits = type(value) in _NUMBERS or (symbol == "+" and isinstance(value, str | list))
    return not fits


def _mismatch(symbol: str, wrong: tuple[str, Json], position: int, wanted: str) -> EvaluationError:
    text, value = wrong
    hint = f"; default({text}, …) gives it a value" if value is None else ""
    return EvaluationError(f"{text} is {kind(value)}, and {symbol} takes {wanted}{hint}", position)
