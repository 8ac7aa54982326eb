"""What people and programs are shown of runs.

Nothing here decides, and nothing here is asked by a turn. Values are shown as they are,
wherever they lie; history alone is shown as it is written, with references to blobs. A step that is settled is gone from
the state; what is shown of it is read back from the history and from the rows of its attempts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row

from engine.core import codec, remembered, rollback, transitions
from engine.core.fold import evolve
from engine.core.rollback import Course, Rollback
from engine.core.state import State
from engine.core.transitions import RunStatus
from engine.core.values import Inline, Json, Ref, Value, marked, plain
from engine.errors import Damaged, NotFound, OutOfReach
from engine.platform import Platform
from engine.runs import graphs, large, naming
from engine.store import calls as made
from engine.store import checkpoints as snapshots
from engine.store import history as lines
from engine.store import reads, session, undone
from engine.store.ids import RunId

#: Bytes of large values that one answer shows of a run's variables.
SHOWN_BYTES = 64 * 1024 * 1024
#: Lines of history that are folded at a time.
_BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Where a run stands."""

    status: RunStatus
    #: The last line of its history.
    seq: int

    @property
    def terminal(self) -> bool:
        return self.status in transitions.TERMINAL


#: Where a run stands that was submitted just now.
NEW = Status(status=RunStatus.QUEUED, seq=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A run in a list."""

    id: str
    version_id: str
    workflow: str
    version: str
    status: RunStatus
    seq: int
    submitted_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    #: How it ended: `end`, `cancelled`, `terminated`, or why it failed.
    reason: str | None
    message: str | None
    #: The step that it ended for.
    ended_step: str | None
    #: Set while its turn fails, and when it is tried again.
    stuck_error: str | None
    stuck_until: datetime | None
    #: The run and the step that started it; None where somebody submitted it.
    parent_run: str | None
    parent_step: str | None
    #: The run that it goes on from, and its line; None where it began at the start.
    forked_run: str | None
    forked_seq: int | None
    #: Where it comes from, who brought it in and when; None: it was carried out here.
    imported: Mapping[str, Json] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStep:
    """A step that is not settled, and whom it waits for."""

    key: str
    node: str
    iteration: int
    status: str
    attempt: int
    errors: int
    lost: int
    queue: str | None
    #: Who owns it, and until when unless the lease is extended.
    worker: str | None
    lease_until: datetime | None
    #: Whether its attempt has begun: user code may be running.
    begun: bool
    #: When somebody looks at it again; of one that waits, when it stops waiting.
    wake_at: datetime | None
    #: What it waits for, of one that does: `timer`, `event`, `approval`, `input`, `workflow`, `map`.
    wait: str | None
    #: The name of the event that it waits for.
    event: str | None
    #: What people are shown and asked, or what the event must match and fit.
    asks: Mapping[str, Json] | None
    #: The run that it waits for.
    child: str | None
    #: The lock that somebody else holds.
    awaits: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail(Summary):
    """A run, whole."""

    variables: Mapping[str, Json]
    #: What it gives, where its workflow declares that and it is completed.
    outputs: Mapping[str, Json] | None
    pins: Mapping[str, int]
    steps: tuple[LiveStep, ...]
    changed_at: datetime
    #: Since when nothing is being carried out: it waits for a worker, for a time or for its turn.
    waiting_since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a step."""

    step: str
    attempt: int
    fence: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    #: `succeeded`, `failed`, `lost`; None while it is under way, and for one whose run ended first.
    outcome: str | None
    reason: str | None
    message: str | None
    usage: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One visit of a run to a node."""

    key: str
    node: str
    iteration: int
    #: That of a live step; else `succeeded`, `failed`, `cancelled`, or `rolled_back`: whatever it came
    #: to, the run has gone back to before it did.
    status: str
    #: The line of history that began it: the key of the next page.
    seq: int
    requested_at: datetime
    settled_at: datetime | None
    #: The edge that led to it.
    via: str | None
    #: What it chose, and which edges were taken and were not, each with the reason.
    choice: Json
    taken: tuple[Mapping[str, Json], ...]
    untaken: tuple[Mapping[str, Json], ...]
    attempts: tuple[Attempt, ...]
    live: LiveStep | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the accepted attempt of a step left."""

    result: Json
    patch: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a run's history."""

    seq: int
    at: datetime
    kind: str
    format: int
    body: Mapping[str, Json]
    payload_id: str | None
    #: The users' data that the line points to, where it was asked for.
    payload: Mapping[str, Json] | None
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One tool call of a running step."""

    step: str
    ordinal: int
    attempt: int
    tool: str
    version: int
    effect: str
    arguments: Json
    started_at: datetime
    ended_at: datetime | None
    #: `succeeded`, `failed`, or `open`: under way, or begun and never recorded.
    outcome: str
    reason: str | None
    message: str | None
    value: Json
    #: What has become of undoing it, and in which run: `undone`, `undoing`, `unknown`, or `stands`.
    undone: str | None = None
    undone_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line that a step printed; or some words of a model (`tokens`), as they came."""

    step: str
    attempt: int
    line: int
    #: `stdout`, `stderr`; `tokens`: text that goes on where the one before ended, no line of its own.
    stream: str
    text: str
    at: datetime
    #: Of tokens: the call of the step that they are said in.
    call: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A place in history that a run can be taken up from."""

    seq: int
    at: datetime
    #: The step that was settled there.
    step: str | None
    #: Whether the whole state is kept there, so that no fold is needed.
    snapshot: bool
    #: What it is called, and who gave it the name: a user, or a node (`node:NAME`).
    name: str | None = None
    named_by: str | None = None
    #: The run has gone back to before it; it can be gone on from all the same.
    rolled_back: bool = False


def status(platform: Platform, run: RunId) -> Status:
    """Where a run stands. Raises `NotFound`."""
    row = reads.standing(platform.database, run)
    if row is None:
        raise _unknown(run)
    return Status(status=RunStatus(row.status), seq=row.seq)


def runs(
    platform: Platform,
    tenant: str,
    *,
    statuses: Sequence[RunStatus] = (),
    workflow: str | None = None,
    version_id: str | None = None,
    parent: RunId | None = None,
    before: str | None = None,
    limit: int = 100,
) -> tuple[Summary, ...]:
    """Runs of a tenant, newest first; the next page is what lies `before` the last id.

    Those that steps of one run started, where it is named. Raises `NotFound` for that one.
    """
    if parent is not None:
        status(platform, parent)
    with session.transaction(platform.database) as connection:
        rows = reads.runs(
            connection,
            tenant,
            statuses=statuses,
            workflow=workflow,
            version_id=version_id,
            parent=None if parent is None else parent.run,
            before=before,
            limit=limit,
        )
    return tuple(Summary(**_summary(row)) for row in rows)


def summary(platform: Platform, run: RunId) -> Summary:
    """A run as a list shows it. Raises `NotFound`."""
    with _reading(platform) as connection:
        row = reads.summary(connection, run)
    if row is None:
        raise _unknown(run)
    return Summary(**_summary(row))


def run(platform: Platform, run: RunId) -> Detail:
    """A run, whole. Raises `NotFound`."""
    with _reading(platform) as connection:
        row = reads.run(connection, run)
        if row is None:
            raise _unknown(run)
        ended = row.finished_at is not None
        # What has ended has no live step, and waits for nothing.
        steps = () if ended else tuple(map(_live, reads.live_steps(connection, run)))
        unread = None if ended else reads.unread_since(connection, run)
        changed_at = reads.last_change(connection, run) or row.created_at
    carried_out = any(step.status == "leased" for step in steps)
    waits = not ended and not carried_out
    return Detail(
        **_summary(row),
        variables=whole(platform, run, remembered.visible(row.variables)),
        outputs=None if row.outputs is None else whole(platform, run, row.outputs),
        pins=row.pins,
        steps=steps,
        changed_at=changed_at,
        waiting_since=max(filter(None, (changed_at, unread))) if waits else None,
    )


def steps(platform: Platform, run: RunId, *, after: int = 0, limit: int = 100) -> tuple[Step, ...]:
    """The steps of a run in the order they were begun, live or settled, after a seq."""
    with _reading(platform) as connection:
        head = _known(connection, run)
        begun = reads.begun_steps(connection, run, after=after, limit=limit)
        return _steps(connection, run, head, begun)


def step(platform: Platform, run: RunId, key: str) -> Step:
    """One step of a run. Raises `NotFound`."""
    with _reading(platform) as connection:
        head = _known(connection, run)
        begun = reads.begun_step(connection, run, key)
        if begun is None:
            raise NotFound(f"Step not found: {key} of run {run.run}")
        return _steps(connection, run, head, [begun])[0]


def result(platform: Platform, run: RunId, key: str) -> Result | None:
    """What a step's accepted attempt left; None when there is none. Raises `NotFound`."""
    found = _accepted(platform, run, key)
    if found is None:
        return None
    value = _value(found.get("result"))
    return Result(
        result=value.value
        if isinstance(value, Inline)
        else large.read(platform, run.tenant, value),
        patch=whole(platform, run, found.get("patch", {})),
    )


def output(platform: Platform, run: RunId, key: str) -> Value | None:
    """A step's accepted result where it lies; None when there is none. Raises `NotFound`."""
    found = _accepted(platform, run, key)
    return None if found is None else _value(found.get("result"))


def inputs(platform: Platform, run: RunId) -> Mapping[str, Json]:
    """What a run was submitted with, the defaults of its workflow included. Raises `NotFound`."""
    with _reading(platform) as connection:
        _known(connection, run)
        found = reads.payload(connection, run, "input") or {}
    return whole(platform, run, found.get("inputs", {}))


def attempts(platform: Platform, run: RunId, key: str | None = None) -> tuple[Attempt, ...]:
    """Attempts of a step, or of all, in order of their start."""
    with _reading(platform) as connection:
        _known(connection, run)
        rows = reads.attempts(connection, run, None if key is None else [key])
    return tuple(_attempt(row) for row in rows)


def history(
    platform: Platform, run: RunId, *, after: int = 0, limit: int = 100, payloads: bool = False
) -> tuple[Line, ...]:
    """Lines of a run's history after a seq, in order."""
    with _reading(platform) as connection:
        _known(connection, run)
        rows = lines.read(connection, run, after=after, limit=limit)
    return tuple(
        Line(
            seq=row.seq,
            at=row.at,
            kind=row.kind,
            format=row.format,
            body=orjson.loads(row.body),
            payload_id=row.payload_id,
            payload=orjson.loads(row.payload) if payloads and row.payload else None,
            hash=bytes(row.hash).hex(),
        )
        for row in rows
    )


def calls(platform: Platform, run: RunId, key: str | None = None) -> tuple[Call, ...]:
    """Tool calls of a step, or of all, in order of their start."""
    with _reading(platform) as connection:
        _known(connection, run)
        rows = reads.calls(connection, run, key)
        told = {
            (row.step, row.ordinal): row
            for row in undone.of(connection, run, never=made.NEVER_MADE)
        }
    # Of several attempts the newest is the one that counts.
    newest = {(row.step, row.ordinal): row.attempt for row in rows}
    fates = {(*call, newest[call]): row for call, row in told.items() if call in newest}
    return tuple(
        Call(
            step=row.step,
            ordinal=row.ordinal,
            attempt=row.attempt,
            tool=row.tool,
            version=row.version,
            effect=row.effect,
            arguments=large.shown(platform, run.tenant, row.arguments),
            started_at=row.started_at,
            ended_at=row.ended_at,
            outcome="open" if row.ended_at is None else "failed" if row.reason else "succeeded",
            reason=row.reason,
            message=row.message,
            value=large.shown(platform, run.tenant, row.value),
            undone=None
            if (fate := fates.get((row.step, row.ordinal, row.attempt))) is None
            else fate.fate,
            undone_by=None if fate is None else fate.by,
        )
        for row in rows
    )


def logs(
    platform: Platform,
    run: RunId,
    *,
    key: str | None = None,
    after: Mapping[tuple[str, int], int] | None = None,
    limit: int = 1000,
) -> tuple[LogLine, ...]:
    """What steps printed, oldest first.

    `after` names the last line read of each `(step, attempt)`; whoever follows a run keeps it,
    and so misses no line, although several workers write at once.
    """
    with _reading(platform) as connection:
        _known(connection, run)
        rows = reads.logs(connection, run, step=key, after=after or {}, limit=limit)
    return tuple(
        LogLine(
            step=row.step,
            attempt=row.attempt,
            line=row.line,
            stream=row.stream,
            text=row.text,
            at=row.at,
            call=row.call,
        )
        for row in rows
    )


def checkpoints(
    platform: Platform, run: RunId, *, after: int = 0, limit: int = 100
) -> tuple[Checkpoint, ...]:
    """Places that the run can be taken up from, after a seq, in order."""
    with _reading(platform) as connection:
        head = _known(connection, run)
        rows = reads.checkpoints(connection, run, after=after, limit=limit)
        graph = graphs.load(connection, run.tenant, str(head.version_id))
        steps = [row.step for row in rows if row.step is not None and row.name is None]
        names = naming.names(connection, run, graph, steps)
        since = course(connection, run)
    return tuple(
        Checkpoint(
            seq=row.seq,
            at=row.at,
            step=row.step,
            snapshot=row.snapshot,
            name=names[row.step].name if row.step in names else row.name,
            named_by=names[row.step].named_by if row.step in names else row.named_by,
            rolled_back=not since.leads(row.seq),
        )
        for row in rows
    )


def state_at(platform: Platform, run: RunId, seq: int) -> State:
    """The state of a run just after a line of its history. Raises `NotFound`."""
    with _reading(platform) as connection:
        last = _known(connection, run).seq
        if not 0 <= seq <= last:
            raise NotFound(f"run {run.run} has lines 1 to {last}, no line {seq}")
        return folded(connection, run, seq)


def folded(connection: Connection, run: RunId, seq: int, *, snapshot: bool = True) -> State:
    """History folded up to a line, from the nearest snapshot unless that is not to be trusted."""
    row = snapshots.nearest(connection, run, seq) if snapshot else None
    if row is None:
        return fold(connection, run, State(run=run.run), after=0, upto=seq)
    state = codec.revive(State, orjson.loads(row.state))
    return fold(connection, run, state, after=row.seq, upto=seq)


def fold(connection: Connection, run: RunId, state: State, *, after: int, upto: int) -> State:
    """The state after a line, from the state after an earlier one."""
    while after < upto:
        rows = lines.read(connection, run, after=after, upto=upto, limit=_BATCH)
        if not rows:
            raise NotFound(f"run {run.run} has no line {after + 1} in its history")
        for row in rows:
            state = evolve(state, record(row))
        after = rows[-1].seq
    return state


def whole(platform: Platform, run: RunId, values: Mapping[str, Json]) -> Mapping[str, Json]:
    """Values by name, wherever they lie.

    What cannot be read, or is too much to show, stays a reference that says why: nobody shall be
    kept from looking at a run by one of its values.
    """
    found, left = dict(values), SHOWN_BYTES
    for name, value in values.items():
        ref = marked(value)
        if ref is None:
            continue
        left -= ref.size
        found[name] = _told(platform, run, ref) if left >= 0 else _beside(ref, _TOO_MUCH)
    return found


def course(connection: Connection, run: RunId) -> Course:
    """The lines of its history that led to where a run stands."""
    return rollback.course([went_back(row) for row in reads.rollbacks(connection, run)])


def went_back(row: Row[Any]) -> Rollback:
    """A line by which a run went back, as the core knows it."""
    return Rollback(seq=row.seq, to=row.body["seq"], anew=row.body.get("anew", {}))


def record(row: Row[Any]) -> Any:
    """A row of history, with its payload, as the core knows it."""
    return codec.read(
        row.kind,
        orjson.loads(row.body),
        orjson.loads(row.payload) if row.payload else {},
        at=row.at,
        number=row.format,
    )


def _reading(platform: Platform) -> AbstractContextManager[Connection]:
    return reads.reading(platform.database)


def _known(connection: Connection, run: RunId) -> Row[Any]:
    row = reads.summary(connection, run)
    if row is None:
        raise _unknown(run)
    return row


def _unknown(run: RunId) -> NotFound:
    return NotFound(f"Run not found: {run.run}")


def _summary(row: Row[Any]) -> dict[str, Any]:
    return {
        **{item.name: getattr(row, item.name) for item in fields(Summary)},
        "status": RunStatus(row.status),
    }


def _live(row: Row[Any]) -> LiveStep:
    found = {item.name: getattr(row, item.name) for item in fields(LiveStep)}
    if row.status != "waiting":
        # What it has waited for lies beside it until it is gone.
        found |= dict.fromkeys(("wait", "event", "asks", "child"))
    return LiveStep(**{**found, "event": found["event"] or None})


def _attempt(row: Row[Any]) -> Attempt:
    found = {item.name: getattr(row, item.name) for item in fields(Attempt)}
    return Attempt(**{**found, "usage": row.usage or {}})


def _steps(
    connection: Connection, run: RunId, head: Row[Any], begun: Sequence[Row[Any]]
) -> tuple[Step, ...]:
    """Steps put together from the line that began each and whatever is known of it since."""
    if not begun:
        return ()
    keys = [row.body["step"] for row in begun]
    live = {row.key: _live(row) for row in reads.live_steps(connection, run)}
    settled = {
        row.body["step"]: row
        for row in reads.settled_steps(connection, run, keys, after=begun[0].seq)
    }
    tries: dict[str, list[Attempt]] = {key: [] for key in keys}
    for row in reads.attempts(connection, run, keys):
        tries[row.step].append(_attempt(row))
    since = course(connection, run)
    return tuple(
        _step(row, head, live.get(key), settled.get(key), tuple(tries[key]), course=since)
        for key, row in zip(keys, begun, strict=True)
    )


def _step(
    begun: Row[Any],
    head: Row[Any],
    live: LiveStep | None,
    settled: Row[Any] | None,
    tries: tuple[Attempt, ...],
    *,
    course: Course,
) -> Step:
    key = begun.body["step"]
    if live is not None:
        status, at = live.status, None
    elif settled is not None:
        status, at = "failed" if settled.body.get("failed") else "succeeded", settled.at
    else:
        # The run ended while the step was live: for its sake, or over its head.
        failed = head.ended_step == key and head.status == RunStatus.FAILED
        status, at = "failed" if failed else "cancelled", head.finished_at
    if live is None and not course.keeps(key, begun.seq):
        status, at = "rolled_back", None if settled is None else settled.at
    edges = settled.body if settled is not None else {}
    return Step(
        key=key,
        node=begun.body["node"],
        iteration=begun.body["iteration"],
        status=status,
        seq=begun.seq,
        requested_at=begun.at,
        settled_at=at,
        via=begun.body.get("via"),
        choice=edges.get("choice"),
        taken=tuple(edges.get("taken", ())),
        untaken=tuple(edges.get("untaken", ())),
        attempts=tries,
        live=live,
    )


def _accepted(platform: Platform, run: RunId, key: str) -> Mapping[str, Any] | None:
    """The payload of a step's accepted report."""
    with _reading(platform) as connection:
        _known(connection, run)
        for attempt in reads.attempts(connection, run, [key]):
            if attempt.outcome == "succeeded":
                found: Mapping[str, Any] | None = reads.payload(
                    connection, run, f"{key}/{attempt.attempt}"
                )
                return found or {}
    return None


def _value(stored: Any) -> Value:
    """A value of a payload, as the core knows it."""
    if stored is None:
        return Inline(value=None)
    return Inline(value=stored["inline"]) if "inline" in stored else Ref(**stored)


_TOO_MUCH = f"large values are shown up to {SHOWN_BYTES} bytes; ask for this one by its sha256"


def _told(platform: Platform, run: RunId, ref: Ref) -> Json:
    try:
        return large.read(platform, run.tenant, ref)
    except (OutOfReach, Damaged) as error:
        return _beside(ref, error.message)


def _beside(ref: Ref, why: str) -> Json:
    marker = plain(ref)
    assert isinstance(marker, dict)
    return {**marker, "why": why}
