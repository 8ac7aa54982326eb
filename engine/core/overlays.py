"""What threads write, apart from one another until they are joined.

A thread that runs beside others writes to an overlay of its own: it sees its own writes and
not its siblings'. Where threads come together their overlays are merged in the order of
their branches. A variable may declare a *reducer*; what a step saves in it is then a
contribution, and contributions of several threads add up. Two threads that write one
variable without a reducer contradict each other, and the run fails rather than guess.

Every reducer but `replace` is associative, and all are applied in branch order, so the
result does not depend on which thread was first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from engine.core.values import Json

Overlay: TypeAlias = Mapping[str, Json]
Reducers: TypeAlias = Mapping[str, str]


class Contradiction(Exception):
    """Two threads wrote one variable that has no reducer."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def misfit(reducer: str, value: Json) -> str:
    """What a contribution to a reducer should have been; empty when it fits."""
    wanted, fits = _WANTED[reducer]
    return "" if fits(value) else wanted


def written(before: Overlay, patch: Overlay, reducers: Reducers) -> Overlay:
    """Variables, or an overlay, after a step's writes."""
    if not patch:
        return before
    after = dict(before)
    for name, value in patch.items():
        reducer = reducers.get(name)
        after[name] = value if reducer is None else _reduced(reducer, after.get(name), value)
    return after


def merged(overlays: Iterable[Overlay], reducers: Reducers) -> Overlay:
    """The overlays of threads that come together, in branch order, as one.

    Raises `Contradiction`.
    """
    together: dict[str, Json] = {}
    for overlay in overlays:
        if clash := [name for name in overlay if name in together and name not in reducers]:
            # The same one whichever was written first.
            raise Contradiction(min(clash))
        for name, value in overlay.items():
            reducer = reducers.get(name)
            known = together.get(name)
            together[name] = value if reducer is None else _reduced(reducer, known, value)
    return together


def _reduced(reducer: str, before: Any, value: Any) -> Json:
    reduced: Json = _REDUCERS[reducer](before, value)
    return reduced


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _union(before: Any, value: Any) -> list[Any]:
    found = list(before or [])
    found += [entry for entry in _list(value) if entry not in found]
    return found


#: What is there (None: nothing), and what is contributed.
_REDUCERS: Mapping[str, Callable[[Any, Any], Any]] = {
    "replace": lambda _before, value: value,
    "append": lambda before, value: [*(before or []), *_list(value)],
    "merge": lambda before, value: {**(before or {}), **value},
    "sum": lambda before, value: (before or 0) + value,
    "min": lambda before, value: value if before is None else min(before, value),
    "max": lambda before, value: value if before is None else max(before, value),
    "set": _union,
}

REDUCERS = tuple(_REDUCERS)


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_WANTED: Mapping[str, tuple[str, Callable[[Json], bool]]] = {
    "replace": ("", lambda _: True),
    "append": ("", lambda _: True),
    "set": ("", lambda _: True),
    "merge": ("an object", lambda value: isinstance(value, dict)),
    "sum": ("a number", _is_number),
    "min": ("a number", _is_number),
    "max": ("a number", _is_number),
}
