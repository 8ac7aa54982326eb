"""A run that was recorded elsewhere, as a file, and files that somebody has altered."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import cache
from typing import Any

from celeriac.testing import run
from engine.core import chain, codec
from engine.core import messages as msg
from engine.formats import recording
from tests.support.forking import LOOP

#: Of what type a file is.
CONTENT = "application/vnd.celeriac.run"


@cache
def text(name: str = "", **inputs: str) -> str:
    """The file of a run that has gone round a loop; `name` says which run it is."""
    return "".join(recording.write(parts(name, **inputs)))


def parts(name: str = "", **inputs: str) -> Iterator[dict[str, Any]]:
    """What it is made of."""
    led = run(dict(LOOP), {"n": 0, **inputs}, functions={"noop": _counted})
    assert led.status == "completed"
    # Older than all others: lists, the newest first, begin with those that a test has made itself.
    id_ = f"00000000-0000-7{str(uuid.uuid5(uuid.NAMESPACE_OID, name))[15:]}"
    lines, before = [], b""
    for seq, entry in enumerate(led.history, start=1):
        sealed = codec.seal(entry.record, salted=lambda: b"salt")
        line: dict[str, Any] = {
            "seq": seq,
            "at": entry.at,
            "kind": sealed.kind,
            "format": codec.FORMAT,
            "body": sealed.body,
            "payload_id": None if sealed.payload is None else f"line/{seq}",
        }
        before = chain.line(before, run=id_, **line)
        kept = {"hash": before.hex(), "salt": sealed.salt.hex(), "payload": sealed.payload}
        lines.append({"part": "line", **line, **kept, "at": entry.at.isoformat()})
    first = led.history[0].record
    assert isinstance(first, msg.RunSubmitted)
    yield {
        "part": "head",
        "format": recording.FORMAT,
        "run": id_,
        "tenant": "elsewhere",
        "workflow": LOOP["workflow"],
        "version": "1.0.0",
        "version_id": id_,
        "rules": 1,
        "seq": len(lines),
        "hash": before.hex(),
        "status": str(led.status),
        "pinned": {},
        "policies": [],
        "policy": {"lost_attempts": 5},
        "payloads": "all",
        "parent": None,
        "outputs": None,
    }
    yield {"part": "graph", "document": dict(LOOP)}
    yield from lines


def _counted(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "n": state["n"] + 1}


def rewritten(text: str, number: int, before: str, after: str) -> str:
    """A file of which one line was altered, and all digests computed anew."""
    lines = text.splitlines()
    assert before in lines[number - 1], lines[number - 1][:200]
    lines[number - 1] = lines[number - 1].replace(before, after)
    return sealed(line.partition(" ")[2] for line in lines)


def sealed(lines: Iterator[str]) -> str:
    """Lines with the digests that they should have."""
    digest, found = b"", []
    for line in lines:
        digest = chain.link(digest, line)
        found.append(f"{digest.hex()} {line}\n")
    return "".join(found)
