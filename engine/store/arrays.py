"""Arrays of Postgres as texts.

The driver would write `ARRAY['a', 'b']`: each element a constant for the server to parse and to convert by
itself, which takes both of them twice as long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any


def text(values: Sequence[Any]) -> str:
    """An array of one dimension: of texts, whole numbers, truth values, bytes or times, or of nothing in their place.

    Raises `TypeError` for anything else.
    """
    if {*map(type, values)} == {str}:
        return _texts(values)
    return "{" + ",".join([_element(value) for value in values]) + "}"


def _texts(values: Sequence[str]) -> str:
    """The same of texts alone, which most are, and few of which have anything to escape."""
    joined = '","'.join(values)
    if "\\" in joined or joined.count('"') > 2 * (len(values) - 1):
        joined = '","'.join([_escaped(value) for value in values])
    return '{"' + joined + '"}'


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


_WRITTEN: Mapping[type, Callable[[Any], str]] = {
    str: lambda value: f'"{_escaped(value)}"',
    int: str,
    bool: str,
    bytes: lambda value: f'"\\\\x{value.hex()}"',
    datetime: lambda value: f'"{value.isoformat()}"',
    type(None): lambda _: "NULL",
}


def _element(value: Any) -> str:
    kind: Any = type(value)
    return _writer(kind)(value)


@cache
def _writer(kind: Any) -> Callable[[Any], str]:
    """How elements of a class are written: it may be one of our own that is a text, say."""
    for base in kind.__mro__:
        if base in _WRITTEN:
            return _WRITTEN[base]
    raise TypeError(f"{kind.__name__} is no element of an array")
