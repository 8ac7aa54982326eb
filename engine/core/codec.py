"""Records as JSON, for the inbox and the history, and back.

Rows carry a format number. A change of a record's shape takes a new number and an upcaster
that lifts older bodies; readers only ever see the newest shape.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any

from engine.core import messages as msg
from engine.core.values import Inline, Ref, Value, canonical, digest_of

#: The shape that is written today.
FORMAT = 1

#: Stands for the time of an event on its way: the database stamps it when it is received.
UNTIMED = datetime(1970, 1, 1, tzinfo=UTC)

#: The field of a stored body that binds it to its payload.
DIGEST = "digest"

#: From a format to the next: kind and body in, kind and body out.
UPCASTERS: Mapping[int, Callable[[str, dict[str, Any]], tuple[str, dict[str, Any]]]] = {}

_RECORDS: Mapping[str, type[msg.Record]] = {
    record.__name__: record
    for record in (*typing.get_args(msg.AnyEvent), *typing.get_args(msg.AnyCommand))
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A record taken apart: what the history keeps, and the users' data it only points to."""

    kind: str
    body: dict[str, Any]
    payload: dict[str, Any]


def write(record: msg.Record) -> Written:
    """Take a record apart into plain JSON data.

    An event's time is not part of it: the database stamps it when it is received.
    """
    kind: Any = type(record)
    body: dict[str, Any] = {}
    payload: dict[str, Any] = {}
    for name, usual, apart in _written(kind):
        value = getattr(record, name)
        if apart:
            payload[name] = _plain(value)
        elif value != usual:
            body[name] = _plain(value)
    return Written(kind=kind.__name__, body=body, payload=payload)


@cache
def _written(kind: type[Any]) -> tuple[tuple[str, Any, bool], ...]:
    """The fields of a kind of record that are written: name, default, whether it is users' data."""
    return tuple(
        (item.name, _default(item), bool(item.metadata.get("payload")))
        for item in fields(kind)
        if item.name != "at"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A record ready for its rows. The texts are what is stored and hashed."""

    kind: str
    body: str
    payload: str | None
    salt: bytes


def seal(record: msg.Record, *, salted: Callable[[], bytes] = bytes) -> Sealed:
    """A record as stored texts, its payload bound to its body by a salted digest.

    `salted` gives a salt, and is asked only where there is a payload.
    """
    written = write(record)
    if not written.payload:
        return Sealed(kind=written.kind, body=canonical(written.body), payload=None, salt=b"")
    salt, payload = salted(), canonical(written.payload)
    body = {**written.body, DIGEST: digest_of(payload, salt=salt)}
    return Sealed(kind=written.kind, body=canonical(body), payload=payload, salt=salt)


def read(
    kind: str,
    body: Mapping[str, Any],
    payload: Mapping[str, Any],
    *,
    at: datetime,
    number: int = FORMAT,
) -> msg.Record:
    """Put a record together again, lifting it from the format it was written in."""
    lifted = {name: value for name, value in body.items() if name != DIGEST}
    for step in range(number, FORMAT):
        kind, lifted = UPCASTERS[step](kind, lifted)
    record = _RECORDS[kind]
    times = {"at": at} if issubclass(record, msg.Event) else {}
    found: msg.Record = _reader(record)({**lifted, **payload, **times})
    return found


def plain(record: Any) -> dict[str, Any]:
    """Any of the core's frozen records as plain JSON data."""
    return {item.name: _plain(getattr(record, item.name)) for item in fields(record)}


def unusual(record: Any, only: Collection[str]) -> dict[str, Any]:
    """Some of a record's fields as plain JSON data, but for those that are as they usually are."""
    kind: Any = type(record)
    return {
        name: _plain(value)
        for name, usual, _ in _written(kind)
        if name in only and (value := getattr(record, name)) != usual
    }


def revive(kind: type[Any], data: Mapping[str, Any]) -> Any:
    """The inverse of `plain`, and of `unusual`, for a record of the given class."""
    return _reader(kind)(data)


def value(data: Mapping[str, Any]) -> Value:
    """A value, inline or elsewhere, from plain data."""
    found: Value = _reader(Value)(data)
    return found


def _default(item: Any) -> Any:
    if callable(item.default_factory):
        return item.default_factory()
    return item.default


#: What is plain as it is. An enum is of a class of its own.
_PLAIN = frozenset({str, int, float, bool, type(None)})


def _plain(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    match value:
        case Inline(value=inner):
            return {"inline": inner}
        case Ref(sha256=sha256, size=size):
            return {"sha256": sha256, "size": size}
        case datetime():
            return value.isoformat()
        case Enum():
            return value.value
        case tuple() | list():
            return [_plain(entry) for entry in value]
        case dict() if _PLAIN.issuperset(map(type, value.values())):
            return value
        case dict() | Mapping():
            return {key: _plain(entry) for key, entry in value.items()}
        case _:
            return plain(value)


def _reader(kind: Any) -> Callable[[Any], Any]:
    """A function that revives plain data as the annotated type, built once per type."""
    if kind not in _readers:
        _readers[kind] = _new_reader(kind)
    return _readers[kind]


def _new_reader(kind: Any) -> Callable[[Any], Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is datetime:
        return lambda data: data if isinstance(data, datetime) else datetime.fromisoformat(data)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if kind == Value:
        return lambda data: Inline(value=data["inline"]) if "inline" in data else Ref(**data)
    if is_dataclass(kind):
        return _record_reader(kind)
    if origin in (typing.Union, types.UnionType):
        return _optional_reader(arguments)
    if origin is tuple:
        return _tuple_reader(arguments)
    if origin is not None and issubclass(origin, Mapping):
        entry = _reader(arguments[1])
        if entry is _as_it_is:
            return _as_it_is
        return lambda data: {key: entry(value) for key, value in data.items()}
    return _as_it_is


def _as_it_is(data: Any) -> Any:
    return data


def _record_reader(kind: Any) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    readers = {item.name: _reader(hints[item.name]) for item in fields(kind)}
    others = tuple((name, read) for name, read in readers.items() if read is not _as_it_is)

    def revived(data: Mapping[str, Any]) -> Any:
        if not readers.keys() >= data.keys():
            raise KeyError(next(name for name in data if name not in readers))
        return kind(**{**data, **{name: read(data[name]) for name, read in others if name in data}})

    return revived


def _optional_reader(arguments: tuple[Any, ...]) -> Callable[[Any], Any]:
    """Unions in records are `X | None`, a value or None, or JSON that needs no reviving."""
    others = tuple(argument for argument in arguments if argument is not type(None))
    if others == typing.get_args(Value):
        reader = _reader(Value)
    elif len(others) == 1:
        reader = _reader(others[0])
    elif any(typing.get_origin(other) is tuple for other in others):
        # A choice: scalars, or a plan's list of names.
        return lambda data: tuple(data) if isinstance(data, list) else data
    else:
        return _as_it_is
    if reader is _as_it_is:
        return _as_it_is
    return lambda data: None if data is None else reader(data)


def _tuple_reader(arguments: tuple[Any, ...]) -> Callable[[Any], Any]:
    if arguments[-1] is Ellipsis:
        entry = _reader(arguments[0])
        return lambda data: tuple(entry(value) for value in data)
    entries = [_reader(argument) for argument in arguments]
    return lambda data: tuple(read(value) for read, value in zip(entries, data, strict=True))


_readers: dict[Any, Callable[[Any], Any]] = {}
