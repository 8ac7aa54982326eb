"""Lines of history on their way out: as the core's records, or as JSON."""

from __future__ import annotations

from typing import Any

from engine.core import codec
from engine.runs.views import Line
from web.seed000.shape import Entry


def entry(line: Line) -> Entry:
    """A line as the core knows it, lifted from whatever format it was written in."""
    record = codec.read(line.kind, line.body, line.payload or {}, at=line.at, number=line.format)
    return Entry(seq=line.seq, at=line.at, record=record)


def shown(line: Line) -> dict[str, Any]:
    """A line as the API shows it."""
    found: dict[str, Any] = {
        "seq": line.seq,
        "at": line.at,
        "kind": line.kind,
        "format": line.format,
        "body": line.body,
        "hash": line.hash,
    }
    if line.payload is not None:
        found["payload"] = line.payload
    return found
