"""Messages between a worker and one child: a length, then parts, each with its own length.

The first part is a small JSON object that says what the message is; the others are JSON texts
handed on as they are, so that each can be measured and parsed on its own.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

_LENGTH = struct.Struct("!I")
#: Bytes up to which copying costs less than a write more.
_SHORT = 65_536


class Garbled(ValueError):
    """The bytes are not a message."""


class TooLong(ValueError):
    """A message announces more bytes than its reader takes."""


def pack(*parts: bytes) -> bytes:
    """The bytes of one message."""
    body = b"".join(_LENGTH.pack(len(part)) + part for part in parts)
    return _LENGTH.pack(len(body)) + body


class Reader:
    """Cuts a stream into messages, never holding more than `limit` bytes of one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()

    def feed(self, data: bytes) -> None:
        self._held += data

    def messages(self) -> Iterator[tuple[memoryview, ...]]:
        """Yield what has arrived whole. Raises `TooLong` as soon as a length says so."""
        while len(self._held) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._held)
            if length > self._limit:
                raise TooLong(f"{length} bytes")
            end = _LENGTH.size + length
            if len(self._held) < end:
                return
            # What is held is handed on and not copied: a message may be most of what we can hold.
            held, self._held = self._held, self._held[end:]
            yield _parts(memoryview(held)[_LENGTH.size : end])


def send(fd: int, *parts: bytes) -> None:
    """Write one message, however long that takes. A long one is not copied for it."""
    if sum(map(len, parts)) < _SHORT:
        _write(fd, pack(*parts))
        return
    _write(fd, _LENGTH.pack(sum(_LENGTH.size + len(part) for part in parts)))
    for part in parts:
        _write(fd, _LENGTH.pack(len(part)))
        _write(fd, part)


def receive(fd: int) -> tuple[memoryview, ...]:
    """Read one message, however long that takes. Raises `EOFError` when the other side is gone."""
    (length,) = _LENGTH.unpack(_exactly(fd, _LENGTH.size))
    return _parts(memoryview(_exactly(fd, length)))


def _write(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def _parts(body: memoryview) -> tuple[memoryview, ...]:
    parts = []
    at = 0
    while at < len(body):
        if at + _LENGTH.size > len(body):
            raise Garbled("a part without a length")
        (length,) = _LENGTH.unpack_from(body, at)
        at += _LENGTH.size
        if at + length > len(body):
            raise Garbled("a part longer than its message")
        parts.append(body[at : at + length])
        at += length
    return tuple(parts)


def _exactly(fd: int, count: int) -> bytearray:
    found = bytearray()
    while len(found) < count:
        chunk = os.read(fd, min(count - len(found), 1 << 20))
        if not chunk:
            raise EOFError
        found += chunk
    return found
