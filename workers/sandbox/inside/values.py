"""What may leave a child: JSON as the engine stores it, or a plain error that names the place.

The worker reads whatever arrives with `engine.core.values` all the same: a child may lie. The
rules here are the same ones; only the messages are for the person who wrote the function.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping

MAX_DEPTH = 64
MAX_INTEGER = 2**63 - 1
#: The key of a reference to a large value: nobody else may have it.
MARK = "$blob"
#: The key of bytes, written in base64.
BYTES = "$bytes"

_REMEDIES = {
    "set": "use sorted(...) or list(...)",
    "frozenset": "use sorted(...) or list(...)",
    "bytes": "use base64.b64encode(...).decode()",
    "bytearray": "use base64.b64encode(...).decode()",
    "datetime": "use .isoformat()",
    "date": "use .isoformat()",
    "time": "use .isoformat()",
    "Decimal": "use str(...) or float(...)",
    "Fraction": "use str(...) or float(...)",
    "UUID": "use str(...)",
    "generator": "use list(...)",
    "map": "use list(...)",
    "filter": "use list(...)",
    "dict_keys": "use list(...)",
    "dict_values": "use list(...)",
}


_compact = json.JSONEncoder(separators=(",", ":")).encode
_written = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Refused(ValueError):
    """A value cannot be kept; the message says which, where and what to do."""

    def __init__(self, complaint: str) -> None:
        super().__init__(complaint)
        self.complaint = complaint
        self.path: list[str] = []

    def __str__(self) -> str:
        return "".join(reversed(self.path)) + " " + self.complaint


class TooLarge(ValueError):
    """A value is longer, as JSON, than it may be."""


def encode(value: object, *, what: str, limit: int, binary: bool = False) -> bytes:
    """The JSON bytes of a value. Raises `Refused` or `TooLarge`.

    Stops at the limit while it looks, so that a huge value costs no more than a large one.
    `binary`: bytes within it are written as `{"$bytes": …}`; else they are refused.
    """
    plainer = _Plainer(limit, binary=binary)
    try:
        plain = plainer.plain(value, 1)
        text = _written(plain).encode()
    except Refused as refused:
        refused.path.append(what)
        raise
    except TooLarge:
        raise TooLarge(_too_large(what, "more than", limit, limit)) from None
    if len(text) > limit:
        raise TooLarge(_too_large(what, "", len(text), limit))
    return text


def canonical(value: object) -> object:
    """The same for the same JSON value, and for no other, to see whether it was changed; None for
    what is not JSON. What is plain need not be written for that, which takes ten times as long.
    """
    # By type: True is 1, and 1 is 1.0, but not in JSON. An enumeration is what it stands for there.
    if value is None or isinstance(value, bool):
        return type(value), value
    if isinstance(value, str):
        return str, str.__str__(value)
    if isinstance(value, int):
        return int, int.__int__(value)
    if isinstance(value, float):
        return float, float.__repr__(value)
    try:
        return _compact(value)
    except (TypeError, ValueError, RecursionError):
        return None


class _Plainer:
    """Turns what Python code returns into plain JSON data, counting bytes from below."""

    def __init__(self, limit: int, *, binary: bool) -> None:
        self._left = limit
        self._binary = binary

    def plain(self, value: object, depth: int) -> object:
        self._left -= 1
        if isinstance(value, str):
            return self._text(value)
        if self._left < 0:
            raise TooLarge
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            if abs(value) > MAX_INTEGER:
                raise Refused("is an integer beyond 64 bits; keep it as text: str(...)")
            return int(value)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise Refused("is not a finite number; keep None or text instead")
            return float(value)
        if isinstance(value, (list, tuple)):
            self._deep(depth)
            return [self._entry(index, entry, depth) for index, entry in enumerate(value)]
        if isinstance(value, Mapping):
            self._deep(depth)
            return {self._key(key): self._entry(key, value[key], depth) for key in list(value)}
        if self._binary and isinstance(value, (bytes, bytearray)):
            # What is too large must not first become larger.
            self._left -= len(value)
            return {BYTES: self._text(base64.b64encode(value).decode()) if self._left > 0 else ""}
        kind = type(value).__name__
        remedy = _REMEDIES.get(kind, "keep plain JSON data")
        raise Refused(f"is a {kind}, which is not a JSON value; {remedy}")

    def _entry(self, key: object, value: object, depth: int) -> object:
        try:
            return self.plain(value, depth + 1)
        except Refused as refused:
            refused.path.append(f"[{key!r}]" if isinstance(key, int) else f'["{key}"]')
            raise

    def _key(self, key: object) -> str:
        if not isinstance(key, str):
            raise Refused(f"has the key {key!r}, which is not text; use str(...)")
        if key == MARK:
            raise Refused(f"has the key {MARK!r}, which is ours; name it otherwise")
        return self._text(key)

    def _text(self, text: str) -> str:
        self._left -= len(text)
        if self._left < 0:
            raise TooLarge
        if "\0" in text:
            raise Refused("holds a NUL character; remove it")
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            raise Refused("holds a lone surrogate, which is not valid text; remove it")
        return str(text)

    def _deep(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise Refused(f"is nested deeper than {MAX_DEPTH} levels; flatten it")


def _too_large(what: str, about: str, size: int, limit: int) -> str:
    return (
        f"{what} is {about + ' ' if about else ''}{size} bytes as JSON and may be {limit}; "
        "return less, or a reference to where the data lies"
    )
