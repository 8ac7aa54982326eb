"""Names for new runs, and for what their steps ask people."""

from __future__ import annotations

import base64
import binascii
import os
import re
import time
import uuid

from engine.store.ids import QuestionId

_QUESTION = re.compile(r"apr_([A-Za-z0-9_-]{24,400})", re.ASCII)
_PLACE = re.compile(r"([1-9][0-9]{0,8})\.([1-9][0-9]{0,8})\.(.+)", re.ASCII | re.DOTALL)
_RUN_BYTES = 16
_SALT_BYTES = 16


def new_run() -> str:
    """A UUIDv7 (RFC 9562): milliseconds first, so that ids sort by age and find their partition.

    The 12 bits behind them tell the part of the millisecond (its section 6.2, method 3): what one process
    does one after the other is in that order wherever it is read by its ids.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    part = (rest << 12) // 1_000_000
    random = int.from_bytes(os.urandom(8), "big") & (1 << 62) - 1
    return str(uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | part << 64 | 0b10 << 62 | random))


def new_salt() -> bytes:
    """What keeps a digest from being guessed."""
    return os.urandom(_SALT_BYTES)


def question(of: QuestionId) -> str:
    """The name of a question outside: `apr_…`. It holds where the question is found."""
    place = f"{of.attempt}.{of.round}.{of.step}".encode()
    held = base64.urlsafe_b64encode(uuid.UUID(of.run).bytes + place)
    return f"apr_{held.decode().rstrip('=')}"


def question_of(tenant: str, name: str) -> QuestionId | None:
    """The question that a name stands for in a tenant; None for what is no such name."""
    matched = _QUESTION.fullmatch(name)
    if matched is None:
        return None
    text = matched[1]
    try:
        held = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        place = _PLACE.fullmatch(held[_RUN_BYTES:].decode())
    except (binascii.Error, ValueError):
        return None
    if place is None:
        return None
    run = str(uuid.UUID(bytes=held[:_RUN_BYTES]))
    found = QuestionId(tenant, run, place[3], int(place[1]), int(place[2]))
    # One question has one name.
    return found if question(found) == name else None
