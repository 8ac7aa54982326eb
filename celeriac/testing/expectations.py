"""What a test expects of its run, held against what that came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from typing import Any

from celeriac.testing.acts import Act
from celeriac.testing.record import Record
from engine.cases import Case
from engine.core import expressions, values
from engine.core.document import vocabulary as words
from engine.core.expressions import holds
from engine.core.section import below
from engine.core.transitions import RunStatus
from engine.core.values import Json

#: What is written of a value that is not there.
ABSENT = "nothing"
_LEGIBLE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A field that is not as it was expected."""

    field: str
    expected: str
    actual: str


def differences(case: Case, record: Record) -> Iterator[Difference]:
    """Every field that is not as it was expected."""
    expected, told = case.expected, _told(case, record)
    if expected.status != told["status"]:
        yield Difference(field="status", expected=expected.status, actual=ended(record))
    for name, text in (("error", expected.error), ("message", expected.message)):
        said = told[name]
        fits = said == text if name == "error" else text is None or text in str(said)
        if text is not None and not fits:
            yield Difference(field=name, expected=text, actual=_shown(said))
    for name, wanted in (("outputs", expected.outputs), ("variables", expected.variables)):
        yield from _within(name, dict(wanted), told[name], whole=False)
    if expected.path is not None and [*expected.path] != told["path"]:
        shown = " → ".join(expected.path), " → ".join(visited(record))
        yield Difference(field="path", expected=shown[0], actual=shown[1] or ABSENT)
    for name, counts in (("visits", expected.visits), ("calls", expected.calls)):
        found = told[name]
        assert isinstance(found, dict)
        for each, count in counts.items():
            if found.get(each, 0) != count:
                yield _unequal(below(name, each), count, found.get(each, 0))
    for name, amount in expected.used.items():
        if not isclose(record.used.get(name, 0.0), amount, rel_tol=1e-9, abs_tol=1e-9):
            yield _unequal(below("used", name), amount, record.used.get(name, 0.0))
    for index, expression in enumerate(expected.that):
        try:
            answer = expression.evaluate(told)
        except expressions.EvaluationError as error:
            yield Difference(
                field=f"that[{index}]",
                expected=expression.source,
                actual=f"without a value: {error}",
            )
            continue
        if not holds(answer.value):
            saw = ", ".join(f"{path} is {_shown(value)}" for path, value in answer.saw.items())
            yield Difference(
                field=f"that[{index}]", expected=expression.source, actual=saw or "it does not hold"
            )


def _told(case: Case, record: Record) -> dict[str, Any]:
    """What expectations can be about, by the names that expressions have for it."""
    path = visited(record)
    failed = record.status is RunStatus.FAILED
    told = {
        "status": record.status.value,
        "error": record.reason if failed else None,
        "message": record.message,
        "outputs": dict(_outputs(record)),
        "variables": dict(record.variables),
        "path": [*path],
        "visits": dict(Counter(path)),
        "calls": dict(_calls(record)),
        "used": dict(record.used),
        "inputs": dict(case.inputs),
    }
    assert told.keys() == {*words.TOLD}
    return told


def _outputs(record: Record) -> Mapping[str, Json]:
    """What a run gives that has completed; nothing, else."""
    return record.outputs if record.status is RunStatus.COMPLETED else {}


def visited(record: Record) -> tuple[str, ...]:
    """The nodes that a run visited; of a list of steps the steps alone."""
    listing = record.graph.listing
    return tuple(node for node in record.path if listing is None or node != listing.index)


def _calls(record: Record) -> Counter[str]:
    """How often tools were called, those of the runs included that it started."""
    found = Counter(call.tool for call in record.calls)
    for child in record.children:
        found += _calls(child)
    return found


def ended(record: Record) -> str:
    """How a run stands in the end, in words."""
    if record.waiting and not record.state.terminal:
        waits = ", ".join(f"{each.node} for {each.kind}" for each in record.waiting)
        return f"running (it waits: {waits})"
    if record.status is RunStatus.FAILED:
        return f"failed ({record.reason}: {record.message})"[:_LEGIBLE]
    return str(record.status.value)


def not_done(acts: Sequence[Act], record: Record) -> Iterator[Difference]:
    """The acts for which there was no occasion."""
    for index, act in enumerate(acts):
        if any(act is unused for unused in record.unused):
            yield Difference(
                field=f"acts[{index}]", expected="it is done", actual="there was no occasion for it"
            )


def _within(path: str, expected: Json, actual: Json, *, whole: bool = True) -> Iterator[Difference]:
    """Where two values differ, as deep down as it can be told."""
    match expected, actual:
        case dict(), dict():
            extra = [key for key in actual if key not in expected] if whole else []
            for key in [*expected, *extra]:
                if key not in actual or key not in expected:
                    yield Difference(
                        field=below(path, key),
                        expected=_shown(expected[key]) if key in expected else ABSENT,
                        actual=_shown(actual[key]) if key in actual else ABSENT,
                    )
                else:
                    yield from _within(below(path, key), expected[key], actual[key])
        case list(), list() if len(expected) == len(actual):
            for index, (one, other) in enumerate(zip(expected, actual, strict=True)):
                yield from _within(f"{path}[{index}]", one, other)
        case _:
            if not _same(expected, actual):
                yield _unequal(path, expected, actual)


def _same(one: Json, other: Json) -> bool:
    """Whether two values that are no objects are the same JSON: 1 is 1.0, and not true."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return one == other


def _unequal(path: str, expected: Json, actual: Json) -> Difference:
    return Difference(field=path, expected=_shown(expected), actual=_shown(actual))


def _shown(value: Json) -> str:
    text = values.canonical(value)
    return text if len(text) <= _LEGIBLE else f"{text[:_LEGIBLE]}… ({len(text)} characters)"
