"""Names for new runs."""

from __future__ import annotations

import os
import time
import uuid


def new_run() -> str:
    """A UUIDv7 (RFC 9562): milliseconds first, so that ids sort by age and find their partition."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = milliseconds << 80 | 0x7 << 76 | (random >> 64 & 0xFFF) << 64
    value |= 0b10 << 62 | random & (1 << 62) - 1
    return str(uuid.UUID(int=value))
