"""Recorded histories as files: what is kept of a run for ever, and how it is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from engine.core import codec
from engine.core.graph import Graph
from engine.core.policy import Policy
from engine.core.replay import Recorded
from engine.platform import Platform
from engine.runs import graphs
from engine.store import history, reads, workflows
from engine.store.ids import RunId
from tests.support.services import ROOT

FOLDER = ROOT / "tests" / "histories"
#: What it reads lies in a blob of a megabyte, which is no part of a history.
LEFT_OUT = frozenset({"large"})


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A run as it was recorded by a release."""

    shape: str
    run: str
    graph: Graph
    policy: Policy
    lines: tuple[Recorded, ...]
    #: How it ended.
    status: str
    reason: str


def files() -> tuple[Path, ...]:
    """Every history that there is."""
    return tuple(sorted(FOLDER.glob("*.json")))


def read(file: Path) -> History:
    """A history, as today's release understands it."""
    kept = orjson.loads(file.read_bytes())
    return History(
        shape=kept["shape"],
        run=kept["run"],
        graph=graphs.parse(kept["document"]),
        policy=Policy(**kept["policy"]),
        lines=tuple(_lines(kept["lines"])),
        status=kept["status"],
        reason=kept["reason"],
    )


def kept(platform: Platform, run: RunId, *, shape: str, release: str) -> bytes:
    """What is kept of a run that has ended, as the text of a file."""
    with reads.reading(platform.database) as connection:
        head = reads.run(connection, run)
        assert head is not None
        document = workflows.document(connection, run.tenant, str(head.version_id))
        lines = history.read(connection, run)
    assert document is not None
    found = {
        "shape": shape,
        "release": release,
        "rules": head.rules,
        "run": run.run,
        "status": head.status,
        "reason": head.reason,
        "policy": codec.plain(platform.policy),
        "document": orjson.loads(document),
        "lines": [
            {
                "seq": line.seq,
                "at": line.at.isoformat(),
                "kind": line.kind,
                "format": line.format,
                "body": orjson.loads(line.body),
                "payload": orjson.loads(line.payload) if line.payload else None,
            }
            for line in lines
        ],
    }
    return orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _lines(rows: Iterable[dict[str, Any]]) -> Iterator[Recorded]:
    for row in rows:
        at = datetime.fromisoformat(row["at"])
        record = codec.read(
            row["kind"], row["body"], row["payload"] or {}, at=at, number=row["format"]
        )
        yield Recorded(seq=row["seq"], at=at, record=record)
