"""Pages of lists: by key, so that what is inserted meanwhile shifts nothing.

A cursor says where a page ends, and means nothing to those who hand it back.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from engine.core import values
from engine.core.problem import Problem
from engine.core.values import InvalidJson, Json
from engine.errors import Invalid
from engine.store.trail import Place
from web import body, moments

T = TypeVar("T")
K = TypeVar("K", int, str)

#: Numbers of attempts and lines are smaller.
_INT = 2**31
#: So is every seq.
_BIGINT = 2**63


def page(items: Sequence[T], *, limit: int, key: Callable[[T], Json]) -> dict[str, Any]:
    """A page of at most `limit` of the items, of which the caller read one more than that."""
    shown = items[:limit]
    more = len(items) > limit
    return {"items": shown, "next": cursor(key(shown[-1])) if more else None}


def cursor(key: Json) -> str:
    """The cursor of what follows a key."""
    return base64.urlsafe_b64encode(values.canonical(key).encode()).decode().rstrip("=")


def key_of(text: str | None, kind: type[K]) -> K | None:
    """The key that a cursor stands for; None where there is no cursor."""
    if text is None:
        return None
    found = _opened(text)
    if type(found) is kind:
        return found
    raise _unknown()


def texts_of(text: str | None) -> tuple[str, str, str] | None:
    """The key of three texts that a cursor stands for."""
    if text is None:
        return None
    match _opened(text):
        case [str(first), str(second), str(third)]:
            return first, second, third
        case _:
            raise _unknown()


def id_of(text: str | None) -> str | None:
    """The id that a cursor stands for."""
    found = key_of(text, str)
    if found is not None and body.uuid(found) is None:
        raise _unknown()
    return found


def seq_of(text: str | None) -> int:
    """The seq that a cursor stands for; 0 where there is no cursor."""
    found = key_of(text, int) or 0
    if not 0 <= found < _BIGINT:
        raise _unknown()
    return found


def number_of(text: str | None) -> int | None:
    """The version number that a cursor stands for."""
    found = key_of(text, int)
    if found is not None and not 0 <= found < _INT:
        raise _unknown()
    return found


def wait_of(text: str | None) -> tuple[datetime, str, str] | None:
    """The open wait that a cursor stands for: since when, its run, its step."""
    if text is None:
        return None
    match _opened(text):
        case [str(at), str(run), str(step)] if body.uuid(run) is not None:
            try:
                return _moment(at), run, step
            except ValueError:
                raise _unknown() from None
        case _:
            raise _unknown()


def approval_of(text: str | None) -> tuple[datetime, str, str, int, int] | None:
    """The request for an approval that a cursor stands for: when, its run, step, attempt, round."""
    if text is None:
        return None
    match _opened(text):
        case [str(at), str(run), str(step), int(attempt), int(round_)] if (
            body.uuid(run) is not None and 0 < attempt < _INT and 0 < round_ < _INT
        ):
            try:
                return _moment(at), run, step, attempt, round_
            except ValueError:
                raise _unknown() from None
        case _:
            raise _unknown()


def moment_of(text: str | None) -> tuple[datetime, str] | None:
    """The time, and what of that time, that a cursor stands for."""
    if text is None:
        return None
    match _opened(text):
        case [str(at), str(name)]:
            try:
                return _moment(at), name
            except ValueError:
                raise _unknown() from None
        case _:
            raise _unknown()


def entry_of(text: str | None) -> Place | None:
    """The entry of the audit that a cursor stands for."""
    if text is None:
        return None
    match _opened(text):
        case [str(id), int(seq)] if body.uuid(id) is not None and 0 <= seq < _BIGINT:
            return Place(id, seq)
        case _:
            raise _unknown()


def group_of(
    text: str | None, by: Sequence[str], *, times: Collection[str]
) -> tuple[str | datetime, ...] | None:
    """The key of a group that a cursor stands for: of each name a text, or a time."""
    if text is None:
        return None
    match _opened(text):
        case [*keys] if len(keys) == len(by) and all(isinstance(key, str) for key in keys):
            try:
                return tuple(
                    _moment(key) if name in times else key
                    for name, key in zip(by, keys, strict=True)
                )
            except ValueError:
                raise _unknown() from None
        case _:
            raise _unknown()


def _moment(text: str) -> datetime:
    return moments.in_utc(datetime.fromisoformat(text))


def pair_of(text: str) -> tuple[int, int]:
    """The two numbers that a cursor stands for: a seq, and a place within it."""
    match _opened(text):
        case [int(seq), int(within)] if 0 <= seq < _BIGINT and 0 <= within < _INT:
            return seq, within
        case _:
            raise _unknown()


def log_lines(text: str) -> Iterator[tuple[tuple[str, int], int]]:
    """The lines of logs that a cursor stands for: the last one read of each attempt."""
    held = _opened(text)
    for entry in held if isinstance(held, list) else [held]:
        match entry:
            case [str(step), int(attempt), int(line)] if 0 <= attempt < _INT and 0 <= line < _INT:
                yield (step, attempt), line
            case _:
                raise _unknown()


def _opened(text: str) -> Any:
    """What a cursor holds. Raises `Invalid` for one that was never handed out."""
    try:
        padded = text + "=" * (-len(text) % 4)
        return values.parse(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, InvalidJson) as error:
        raise _unknown() from error


def _unknown() -> Invalid:
    return Invalid(
        [
            Problem(
                path="cursor",
                message="is none that was handed out",
                remedy="use `next` of the page before as it is, or leave it out",
            )
        ]
    )
