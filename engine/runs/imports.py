"""Runs that were recorded elsewhere, brought in to be looked at: replayed, explained, held against others.

One that is brought in is read-only. It has ended, so nothing of it goes on; no run goes on from it, and
it stands in no ledger, lane or quota. Its history is verified before, line by line, and folds to what
it is shown as. The version that it ran is kept for it alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

import orjson
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, IntegrityError

from engine.core import document
from engine.core import messages as msg
from engine.core.decide import RULES
from engine.core.fold import evolve
from engine.core.problem import Problem
from engine.core.state import State
from engine.core.values import Json, digest
from engine.errors import Conflict, Invalid
from engine.formats import recording
from engine.formats.recording import Recording
from engine.platform import Platform
from engine.runs import acts, identity, large, states
from engine.sessions import graph as sessions
from engine.store import history, payloads, recordings, session, workflows
from engine.store.ids import RunId
from engine.store.payloads import Payload
from engine.store.recordings import NewMove, NewRecording

#: The rows of an attempt, and of a call: that it began, and how it ended.
_ATTEMPT = ("step", "attempt", "fence", "worker", "started_at")
_RESULT = ("step", "attempt", "fence", "outcome", "reason", "message", "usage", "ended_at")
_CALL = (
    *("step", "ordinal", "attempt", "tool", "version", "effect", "digest", "arguments"),
    "started_at",
)
_CALLED = ("step", "ordinal", "attempt", "reason", "message", "value", "usage", "ended_at")
#: In place of users' data that was left out.
_LEFT_OUT: Json = {"$left_out": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What the history of a recording comes to."""

    first: msg.RunSubmitted | msg.Forked
    #: What it had pinned in the end.
    pins: Mapping[str, int | str]
    state: State


def bring(platform: Platform, tenant: str, text: bytes, *, by: str) -> RunId:
    """Bring a file in that `exports.export` wrote; the run, which keeps its id.

    Raises `Invalid` for a file that was altered, or is none, with the line; and `Conflict` where the
    tenant has that run already, or it was decided by rules that this release does not know. Then
    nothing is changed.
    """
    found = recording.read(text)
    if isinstance(found, tuple):
        raise Invalid(found, "no recording of a run")
    head = found.head
    if head["rules"] > RULES:
        raise Conflict(
            f"run {head['run']} was decided by rules number {head['rules']}, and this release knows "
            f"{RULES}; use a newer one"
        )
    run = RunId(tenant, head["run"])
    for data in found.documents.values():
        read = document.read(data)
        if isinstance(read, tuple):
            raise Invalid(read, "the graph of the recording cannot be read")
        if read.workflow == sessions.NAME or read.workflow != head["workflow"]:
            _refuse("line 2", "is not the graph of the workflow that the head names")
    told = _folded(found)
    kept = _blobs(platform, tenant, found.blobs)
    new = _new(run, found, told, by=by)
    try:
        with session.transaction(platform.database) as connection:
            if recordings.there(connection, run):
                raise Conflict(f"run {run.run} is here already")
            _enter(connection, new, found, kept)
            acts.record(
                connection,
                tenant,
                by=by,
                action="run.import",
                subject=f"run:{run.run}",
                detail={"digest": found.digest, "tenant": head["tenant"], "lines": head["seq"]},
            )
    except (IntegrityError, DataError) as error:
        _refuse("", f"its parts contradict each other: {str(error.orig).splitlines()[0]}")
    return run


def _folded(found: Recording) -> _Told:
    """What its history comes to. Raises `Invalid` with the line that cannot follow."""
    state = State(run=found.head["run"])
    first: msg.Record | None = None
    pins: Mapping[str, int | str] = {}
    for line in found.lines:
        try:
            record = line.recorded().record
            state = evolve(state, record)
        except Exception as error:  # noqa: BLE001  # whatever a stranger's line makes of the fold
            why = f"{type(error).__name__}: {error}"[:500]
            _refuse(f"line {line.seq} of the history", f"cannot follow what is before it: {why}")
        first = first or record
        if isinstance(record, msg.RunSubmitted | msg.Forked | msg.Migrated):
            pins = record.pins
    if not isinstance(first, msg.RunSubmitted | msg.Forked) or type(first.by) is not str:
        _refuse("line 1 of the history", "does not begin a run")
    if state.ending is None or state.status != found.head["status"]:
        _refuse("line 1", f"says that the run is {found.head['status']}; it is {state.status}")
    return _Told(first=first, pins=pins, state=state)


def _blobs(platform: Platform, tenant: str, texts: Mapping[str, str]) -> Mapping[str, Json]:
    """Keep large values; references to them, by sha256."""
    kept: dict[str, Json] = {}
    for sha256, text in texts.items():
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            value = None
        if digest(value) != sha256:
            _refuse("", f"the large value {sha256} is not what its name says")
        try:
            kept |= large.keep_all(platform, tenant, [value])
        except large.ValueTooLarge as error:
            _refuse("", error.message)
    return kept


def _new(run: RunId, found: Recording, told: _Told, *, by: str) -> NewRecording:
    """The head of the run, as its history tells it."""
    head, first, state = found.head, told.first, told.state
    assert state.ending is not None
    forked = first if isinstance(first, msg.Forked) else None
    return NewRecording(
        run=run,
        version_id=identity.new_run(),
        workflow=head["workflow"],
        version=_build(head["version"], run.run),
        document=found.document,
        checksum=digest(found.document),
        status=state.status,
        rules=head["rules"],
        pins=dict(told.pins),
        seq=found.lines[-1].seq,
        hash=found.lines[-1].hash,
        head=orjson.loads(states.head(state)),
        variables=dict(state.variables),
        outputs=head["outputs"],
        by=first.by,
        started_at=found.lines[0].at,
        finished_at=found.lines[-1].at,
        reason=state.ending.reason,
        message=state.ending.message,
        ended_step=state.ending.step,
        forked=None if forked is None else (forked.run, forked.seq),
        imported={
            "by": by,
            "at": datetime.now(UTC).isoformat(),
            "digest": found.digest,
            **{name: head[name] for name in _OF_HEAD},
        },
        moves=tuple(
            NewMove(
                seq=move["seq"],
                version_id=identity.new_run(),
                version=_build(move["version"], f"{run.run}.{move['seq']}"),
                document=move["document"],
                checksum=digest(move["document"]),
                pins=move["pins"],
            )
            for move in found.moves
        ),
    )


def _build(number: str, of: str) -> str:
    """A build of a version that is of a recording alone: none that is published here has that number."""
    return f"{number}{'.' if '+' in number else '+'}imported.{of}"


#: What of the head is shown of the run: how it was there.
_OF_HEAD = ("tenant", "version", "version_id", "pinned", "policies", "policy", "payloads", "parent")


def _enter(
    connection: Connection, new: NewRecording, found: Recording, kept: Mapping[str, Json]
) -> None:
    workflows.ensure(connection, new.run.tenant, new.workflow)
    recordings.enter(connection, new)
    history.append(
        connection,
        [
            history.Line(
                run=new.run,
                seq=line.seq,
                at=line.at,
                kind=line.kind,
                format=line.format,
                body=line.body,
                payload_id=line.payload_id,
                hash=line.hash,
            )
            for line in found.lines
        ],
    )
    payloads.put_all(
        connection,
        [
            Payload(run=new.run, name=line.payload_id, salt=line.salt, body=line.payload)
            for line in found.lines
            if line.payload_id is not None and line.payload is not None
        ],
    )
    ended = [one for one in found.attempts if one["outcome"] is not None]
    calls = [{**one, "arguments": _shown(one["arguments"])} for one in found.calls]
    called = [
        {**one, "value": _shown(one["value"]) if one["reason"] is None else None}
        for one in found.calls
        if one["ended_at"] is not None
    ]
    rows: Mapping[str, Iterable[Mapping[str, Any]]] = {
        "attempt": _only(found.attempts, _ATTEMPT),
        "result": _only(ended, _RESULT),
        "call": _only(calls, _CALL),
        "call_result": _only(called, _CALLED),
        "checkpoint_name": found.names,
    }
    for table, each in rows.items():
        recordings.keep(connection, new.run, table, [*each])
    large.refer(connection, new.run, kept)


def _only(rows: Iterable[Mapping[str, Any]], names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Some fields of rows; what was used is never unknown."""
    for row in rows:
        yield {name: (row[name] or {}) if name == "usage" else row[name] for name in names}


def _shown(text: str | None) -> Json:
    """A value of a call, or what is said in its place."""
    return _LEFT_OUT if text is None else orjson.loads(text)


def _refuse(path: str, message: str) -> NoReturn:
    remedy = "export the run again"
    raise Invalid([Problem(path=path, message=message, remedy=remedy)], "no recording of a run")
