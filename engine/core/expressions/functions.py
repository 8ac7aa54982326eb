"""The fixed table of functions. Nothing is ever added to it at run time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.core.expressions import operators
from engine.core.expressions.frame import TEXT_UNIT, EvaluationError, Frame, Run, holds, kind
from engine.core.expressions.operators import Operand
from engine.core.values import Json

#: Digits after the point that `round` keeps at most.
MAX_DIGITS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One entry of the table."""

    #: How it is written, for messages and the reference.
    usage: str
    least: int
    most: int
    compute: Callable[[Call, Frame, Sequence[Json]], Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The place where a function is called."""

    name: str
    position: int
    texts: tuple[str, ...]  #: of its arguments

    def fail(self, text: str, value: Json, wanted: str) -> EvaluationError:
        hint = f"; default({text}, …) gives it a value" if value is None else ""
        return EvaluationError(
            f"{text} is {kind(value)}, and {self.name} takes {wanted}{hint}", self.position
        )

    def numbers(self, frame: Frame, value: Json) -> Sequence[float]:
        entries = self.entries(frame, value)
        for index, entry in enumerate(entries):
            if not operators.is_number(entry):
                raise self.fail(f"entry {index} of {self.texts[0]}", entry, "numbers")
        return entries  # type: ignore[return-value]  # each has been looked at

    def entries(self, frame: Frame, value: Json) -> Sequence[Json]:
        if not isinstance(value, list):
            raise self.fail(self.texts[0], value, "a list")
        frame.spend(len(value), self.position)
        return value

    def text(self, frame: Frame, index: int, value: Json) -> str:
        if not isinstance(value, str):
            raise self.fail(self.texts[index], value, "text")
        frame.spend(len(value) // TEXT_UNIT, self.position)
        return value

    def number(self, value: Json) -> float:
        if not operators.is_number(value):
            raise self.fail(self.texts[0], value, "a number")
        return value  # type: ignore[return-value]  # by the line above


def call(name: str, arguments: Sequence[Operand], position: int) -> Run:
    """Compile a call of a function of the table."""
    compute = TABLE[name].compute
    runs = tuple(argument.run for argument in arguments)
    site = Call(name=name, position=position, texts=tuple(each.text for each in arguments))
    return lambda frame: compute(site, frame, [run(frame) for run in runs])


def _len(site: Call, _frame: Frame, given: Sequence[Json]) -> Json:
    (value,) = given
    if not isinstance(value, str | list | dict):
        raise site.fail(site.texts[0], value, "text, a list or an object")
    return len(value)


def _extreme(choose: Callable[[Any], Any]) -> Callable[[Call, Frame, Sequence[Json]], Json]:
    def compute(site: Call, frame: Frame, given: Sequence[Json]) -> Json:
        if len(given) == 1:
            entries = site.entries(frame, given[0])
            names = [f"entry {index} of {site.texts[0]}" for index in range(len(entries))]
        else:
            entries, names = given, list(site.texts)
        texts = bool(entries) and isinstance(entries[0], str)
        for name, entry in zip(names, entries, strict=True):
            if texts and isinstance(entry, str):
                frame.spend(len(entry) // TEXT_UNIT, site.position)
            elif texts or not operators.is_number(entry):
                raise site.fail(name, entry, "numbers alone or texts alone")
        return choose(entries) if entries else None

    return compute


def _sum(site: Call, frame: Frame, given: Sequence[Json]) -> Json:
    return operators.number(_total(site.numbers(frame, given[0])), site.position)


def _avg(site: Call, frame: Frame, given: Sequence[Json]) -> Json:
    entries = site.numbers(frame, given[0])
    if not entries:
        return None
    return operators.number(_total(entries) / len(entries), site.position)


def _total(entries: Sequence[float]) -> float:
    # Not sum(): from Python 3.12 on it adds fractions otherwise, and a replay must agree.
    total: float = 0
    for entry in entries:
        total += entry
    return total


def _count(site: Call, frame: Frame, given: Sequence[Json]) -> Json:
    entries = site.entries(frame, given[0])
    if len(given) == 1:
        return sum(entry is not None for entry in entries)
    return sum(operators.equal(entry, given[1], frame, site.position) for entry in entries)


def _any(site: Call, frame: Frame, given: Sequence[Json]) -> Json:
    return any(holds(entry) for entry in site.entries(frame, given[0]))


def _all(site: Call, frame: Frame, given: Sequence[Json]) -> Json:
    return all(holds(entry) for entry in site.entries(frame, given[0]))


def _abs(site: Call, _frame: Frame, given: Sequence[Json]) -> Json:
    return abs(site.number(given[0]))


def _round(site: Call, _frame: Frame, given: Sequence[Json]) -> Json:
    value = site.number(given[0])
    if len(given) == 1:
        return operators.number(round(value), site.position)
    digits = given[1]
    if type(digits) is not int or not 0 <= digits <= MAX_DIGITS:
        raise EvaluationError(
            f"{site.texts[1]} is not an integer from 0 to {MAX_DIGITS}, as round takes for digits",
            site.position,
        )
    return round(value, digits)


def _lower(site: Call, frame: Frame, given: Sequence[Json]) -> Json:
    return operators.sized(site.text(frame, 0, given[0]).lower(), site.position)


def _upper(site: Call, frame: Frame, given: Sequence[Json]) -> Json:
    return operators.sized(site.text(frame, 0, given[0]).upper(), site.position)


def _contains(site: Call, frame: Frame, given: Sequence[Json]) -> Json:
    container, item = given
    texts = (site.texts[1], site.texts[0])
    return operators.lies_in(item, container, frame, site.position, texts)


def _starts_with(site: Call, frame: Frame, given: Sequence[Json]) -> Json:
    return site.text(frame, 0, given[0]).startswith(site.text(frame, 1, given[1]))


def _ends_with(site: Call, frame: Frame, given: Sequence[Json]) -> Json:
    return site.text(frame, 0, given[0]).endswith(site.text(frame, 1, given[1]))


def _function(
    usage: str, least: int, most: int, compute: Callable[[Call, Frame, Sequence[Json]], Json]
) -> Function:
    return Function(usage=usage, least=least, most=most, compute=compute)


#: Beside these the parser knows `has` and `default`, which look at paths and not at values.
TABLE: Mapping[str, Function] = {
    "len": _function("len(text, list or object)", 1, 1, _len),
    "min": _function("min(list) or min(a, b, …)", 1, 20, _extreme(min)),
    "max": _function("max(list) or max(a, b, …)", 1, 20, _extreme(max)),
    "sum": _function("sum(list)", 1, 1, _sum),
    "avg": _function("avg(list)", 1, 1, _avg),
    "count": _function("count(list) or count(list, value)", 1, 2, _count),
    "any": _function("any(list)", 1, 1, _any),
    "all": _function("all(list)", 1, 1, _all),
    "abs": _function("abs(number)", 1, 1, _abs),
    "round": _function("round(number) or round(number, digits)", 1, 2, _round),
    "lower": _function("lower(text)", 1, 1, _lower),
    "upper": _function("upper(text)", 1, 1, _upper),
    "contains": _function("contains(text, list or object, item)", 2, 2, _contains),
    "starts_with": _function("starts_with(text, beginning)", 2, 2, _starts_with),
    "ends_with": _function("ends_with(text, ending)", 2, 2, _ends_with),
}
