"""Ids that sort by the time they were made (RFC 9562, version 7).

The partitions of the append-only tables are ranges of them, and lists page by them.
"""

from __future__ import annotations

import secrets
import time
from uuid import UUID


def new() -> str:
    """A new id. Those made one after another in one process sort so, to a quarter of a microsecond."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    value = milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(UUID(int=value))
