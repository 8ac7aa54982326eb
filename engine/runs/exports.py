"""Runs that have ended, as files: what was recorded of them, for another platform or a test.

History holds no secrets: they are opened for an attempt alone, and hidden in all that it reports.
Users' data goes along as it is asked for: all of it, what is small, or none. The file names what the
run was pinned to, by digest, and the policies that are in force; the code of functions stays here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, TypeAlias

import orjson
from sqlalchemy import Connection, Row

from engine.core import codec
from engine.core.transitions import TERMINAL
from engine.core.values import Json, canonical, digest
from engine.errors import Conflict, NotFound
from engine.formats import recording
from engine.platform import Platform
from engine.runs.records import READ_BYTES
from engine.sessions import graph as sessions
from engine.store import functions, migrations, policies, reads, recordings, workflows
from engine.store.functions import Namespace
from engine.store.ids import RunId

Payloads: TypeAlias = Literal["all", "small", "none"]

#: Bytes up to which users' data of a line, or of a call, is small.
SMALL = 4096
_PAGE = 500


def export(platform: Platform, run: RunId, *, payloads: Payloads = "all") -> bytes:
    """A run as a file.

    Raises `NotFound`, and `Conflict` for a run that has not ended, for a session, and where the file
    would be larger than one may be.
    """
    with reads.reading(platform.database) as connection:
        head = reads.run(connection, run)
        if head is None:
            raise NotFound(f"Run not found: {run.run}")
        if head.status not in TERMINAL:
            raise Conflict(f"run {run.run} is {head.status}: export it when it has ended")
        if head.workflow == sessions.NAME:
            raise Conflict(f"run {run.run} is a session, which is decided by its client alone")
    text = bytearray()
    for line in recording.write(_parts(platform, run, head, payloads=payloads)):
        text += line.encode()
        if len(text) > recording.MAX_BYTES:
            raise Conflict(
                f"run {run.run} takes more than {recording.MAX_BYTES} bytes as a file; export it "
                "with fewer payloads: small, or none"
            )
    return bytes(text)


def _parts(
    platform: Platform, run: RunId, head: Row[Any], *, payloads: Payloads
) -> Iterator[Mapping[str, Json]]:
    with reads.reading(platform.database) as connection:
        yield from _rows(platform, connection, run, head, payloads=payloads)
        blobs = recordings.blobs(connection, run) if payloads == "all" else ()
    for blob in blobs:
        # What is larger no replay reads.
        if blob.size <= READ_BYTES:
            text = platform.blobs.get(run.tenant, blob.sha256).decode()
            yield {"part": "blob", "sha256": blob.sha256, "text": text}


def _rows(
    platform: Platform, connection: Connection, run: RunId, head: Row[Any], *, payloads: Payloads
) -> Iterator[Mapping[str, Json]]:
    most = {"all": recording.MAX_LINE, "small": SMALL, "none": -1}[payloads]
    document = workflows.document(connection, run.tenant, str(head.version_id))
    assert document is not None
    (last,) = recordings.lines(connection, run, after=head.seq - 1, limit=1)
    _, governed = policies.in_force(connection, run.tenant)
    yield {
        "part": "head",
        "format": recording.FORMAT,
        "run": run.run,
        "tenant": run.tenant,
        "workflow": head.workflow,
        "version": head.version,
        "version_id": str(head.version_id),
        "rules": head.rules,
        "seq": head.seq,
        "hash": bytes(last.hash).hex(),
        "status": head.status,
        "pinned": _pinned(connection, run.tenant, head.pins),
        "policies": [
            {"name": one.name, "version": one.version, "digest": one.checksum} for one in governed
        ],
        "policy": codec.plain(platform.policy),
        "payloads": payloads,
        "parent": None
        if head.parent_run is None
        else {"run": head.parent_run, "step": head.parent_step},
        "outputs": head.outputs if _fits(canonical(head.outputs), most) else None,
    }
    yield {"part": "graph", "document": orjson.loads(document)}
    for moved in migrations.of(connection, run):
        before = workflows.of_run(connection, run.tenant, str(moved.was))
        assert before is not None
        yield {
            "part": "move",
            "seq": moved.seq,
            "version": before.version,
            "document": before.document,
            "pins": moved.was_pins,
        }
    yield from _lines(connection, run, most)
    for row in reads.attempts(connection, run):
        yield _told("attempt", row)
    for row in reads.calls(connection, run):
        arguments, value = canonical(row.arguments), canonical(row.value)
        yield {
            **_told("call", row),
            "arguments": arguments if _fits(arguments, most) else None,
            "value": value if row.value is not None and _fits(value, most) else None,
        }
    for row in recordings.names(connection, run):
        yield _told("name", row)


def _lines(connection: Connection, run: RunId, most: int) -> Iterator[Mapping[str, Json]]:
    after = 0
    while rows := recordings.lines(connection, run, after=after, limit=_PAGE):
        for row in rows:
            kept = row.payload is not None and _fits(row.payload, most)
            yield {
                **_told("line", row),
                "hash": bytes(row.hash).hex(),
                # Without what it is the salt of, it would let that be guessed.
                "salt": bytes(row.salt).hex() if kept else None,
                "payload": row.payload if kept else None,
            }
        after = rows[-1].seq


def _told(part: str, row: Row[Any]) -> dict[str, Any]:
    """A row as a part of the file: times as text."""
    found = {name: getattr(row, name) for name in recording.FIELDS[part]}
    return {
        "part": part,
        **{
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in found.items()
        },
    }


def _fits(text: str, most: int) -> bool:
    return len(text.encode()) <= most


def _pinned(connection: Connection, tenant: str, pins: Mapping[str, Any]) -> dict[str, Json]:
    """What a run is pinned to, each with its version and its digest."""
    found: dict[str, Json] = {}
    for name, version in pins.items():
        namespace, _, called = name.partition(":")
        if namespace == "workflow":
            child = workflows.get(connection, tenant, str(version))
            known = None if child is None else digest(child.document)
        else:
            of: Namespace = "tool" if namespace == "tool" else "function"
            function = functions.get(connection, tenant, of, called.partition("@")[0], version)
            known = None if function is None else function.checksum
        found[name] = {"version": version, "digest": known}
    return found
