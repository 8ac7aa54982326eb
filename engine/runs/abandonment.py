"""Ending a run whose turn cannot be taken any more.

A turn fails where a release cannot read what another has written, or where a defect of ours or
of the disk has spoilt it. The run is set aside and tried again, ever more rarely; whoever asks
twice to cancel it gets it ended here, without reading its graph or its state. What waited for it
goes into its history as it was received; no decision follows but the one that ends it, which
says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError

from engine.core import codec, transitions
from engine.core import messages as msg
from engine.core.state import TERMINATED, Ending, State
from engine.core.transitions import RunStatus
from engine.core.values import canonical
from engine.errors import Conflict
from engine.platform import Platform
from engine.runs import children, locks, states, views
from engine.store import history, inbox, ledger, runs, session, steps
from engine.store.ids import RunId

_log = structlog.get_logger(__name__)

#: Turns that must have failed in a row: one before somebody asked for the run to stop, and that
#: of the asking itself.
FAILED_TURNS = 2

#: Requests to stop, and the reason of the end that each is for.
_STOPS: Mapping[str, str] = {
    msg.CancelRequested.__name__: "cancelled",
    msg.TerminateRequested.__name__: TERMINATED,
}


def abandon(platform: Platform, run: RunId) -> bool:
    """End a run that was asked to stop and whose turn fails again and again; whether it was ended.

    Nothing is done to a run whose turn may yet succeed, or that somebody else holds.
    """
    with session.transaction(platform.database) as connection:
        rows = [
            row
            for row in runs.lock(connection, [run], force=True)
            if row.stuck_count >= FAILED_TURNS and row.status not in transitions.TERMINAL
        ]
        told = [other for row in rows for other in _end(connection, run, row)]
    if rows:
        platform.broker.nudge(told)
        _log.warning("run.abandoned", run=run.run, tenant=run.tenant, error=rows[0].stuck_error)
        platform.live.publish([run], ended=[run])
    return bool(rows)


def _end(connection: Connection, run: RunId, row: Row[Any]) -> list[RunId]:
    """End a run; those that have something to fold by it."""
    lines = list(_lines(run, row, list(_waiting(connection, run))))
    history.append(connection, [line for line, _ in lines])
    (ending,) = [finish for _, finish in lines if finish is not None]
    last = lines[-1][0]
    ledger.share(connection, [run])
    steps.clear(connection, [run])
    state = _folded(connection, run, last.seq)
    runs.save(
        connection,
        [
            runs.Head(
                run=run,
                was=row.seq,
                status=ending.status,
                seq=last.seq,
                hash=last.hash,
                head=states.head(state or State(run=run.run)),
                variables=canonical(state.variables) if state else None,
                snapshot_seq=row.snapshot_seq,
                patched=row.patched,
                reason=ending.reason,
                message=ending.message,
                ended_step=None,
                outputs=None,
                wake=None,
                began=row.now,
            )
        ],
    )
    ledger.close(connection, [run])
    end = Ending(status=ending.status, reason=ending.reason, message=ending.message)
    told = children.ended(row, end)
    return [
        *(children.tell(connection, [told]) if told else ()),
        *children.let_go(connection, [run]),
        *locks.give_up(connection, {run: ()}),
    ]


def _waiting(connection: Connection, run: RunId) -> Iterator[Row[Any]]:
    """Everything that waits for a run, oldest first."""
    while letters := inbox.take(connection, [run]):
        yield from letters


def _lines(
    run: RunId, row: Row[Any], letters: Sequence[Row[Any]]
) -> Iterator[tuple[history.Line, msg.FinishRun | None]]:
    """What waited as lines of history; behind the first request to stop, the line that ends it."""
    if not any(letter.kind in _STOPS for letter in letters):
        raise Conflict(f"nobody asks run {run.run} to stop any more")
    before, seq, finish = bytes(row.hash), row.seq, None
    for letter in letters:
        seq += 1
        line = history.chained(
            before,
            run=run,
            seq=seq,
            at=letter.received_at,
            kind=letter.kind,
            format=letter.format,
            body=letter.body,
            payload_id=letter.payload_id,
        )
        yield line, None
        before = line.hash
        if finish is None and letter.kind in _STOPS:
            seq += 1
            finish = msg.FinishRun(
                status=RunStatus.CANCELLED,
                reason=_STOPS[letter.kind],
                message=f"by force, for its turn could not be taken: {row.stuck_error}",
            )
            line = history.chained(
                before,
                run=run,
                seq=seq,
                at=letter.received_at,
                kind=type(finish).__name__,
                format=codec.FORMAT,
                body=codec.seal(finish).body,
                payload_id=None,
            )
            yield line, finish
            before = line.hash


def _folded(connection: Connection, run: RunId, seq: int) -> State | None:
    """The state that history tells of; None where that cannot be folded either."""
    try:
        return views.folded(connection, run, seq)
    except DBAPIError:
        raise
    except Exception as error:  # noqa: BLE001  # what spoilt it must not keep the run from ending
        why = f"{type(error).__name__}: {error}"
        _log.warning("run.unfoldable", run=run.run, tenant=run.tenant, error=why)
        return None
