"""JSON on its way out: records, times and references as plain data, in one place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from http import HTTPStatus
from typing import Any

import orjson
from flask import Response

JSON = "application/json"


def text(value: Any) -> str:
    """A value as one line of JSON."""
    return _dump(value).decode()


def json(
    value: Any,
    *,
    status: HTTPStatus = HTTPStatus.OK,
    media_type: str = JSON,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A response that holds a value."""
    return Response(
        _dump(value) + b"\n", status=status, content_type=media_type, headers=headers or {}
    )


def record(value: Any, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """A frozen record as a mapping of its fields."""
    return {name: entry for name, entry in _fields(value) if name not in without}


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    assert is_dataclass(value)
    for item in fields(value):
        yield item.name, getattr(value, item.name)


def _dump(value: Any) -> bytes:
    return orjson.dumps(
        value,
        default=_plain,
        option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS,
    )


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return dict(_fields(value))
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (tuple, set, frozenset)):
        return list(value)
    raise TypeError(f"{type(value).__name__} cannot be shown as JSON")
