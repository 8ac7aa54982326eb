"""Everything that must happen although nobody said so.

A sweep finds what is overdue by the database's clock and moves it on: leases that ran out,
waits that are over, messages that were never answered, events nobody took up. It may run in
any number of processes at any time (`SKIP LOCKED`), so no process is a single point of
failure, and beat is only one more that pokes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from engine import faults, lanes
from engine.broker import STEPS, Hint, in_turn
from engine.core import codec
from engine.core import messages as msg
from engine.core.values import canonical
from engine.platform import Platform
from engine.runs import escalations, events, ledgers, letters, turns
from engine.runs.ledgers import Lost
from engine.store import inbox, ledger, results, runs, session, steps, waits
from engine.store.ids import RunId, StepId
from engine.store.steps import Line
from engine.store.waits import End

#: Rows of one kind that one sweep moves; the next one takes the rest.
BATCH = 500
#: How old an event may grow before the sweeper takes the turn itself.
INBOX_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep found overdue."""

    lost: int
    woken: int
    resent: int
    turns: int

    @property
    def full(self) -> bool:
        """Whether there may be more than one sweep takes."""
        return max(self.lost, self.woken, self.resent, self.turns) >= BATCH


def sweep(platform: Platform) -> Swept:
    """Move on whatever is overdue."""
    with session.transaction(platform.database) as connection:
        ledger.share(connection, steps.expiring(connection, BATCH))
        expired = steps.expire(connection, BATCH)
        over = _over(connection)
        woken = steps.wake(connection, BATCH)
        _lose(connection, [row for row in expired if row.begun])
        if woken:
            inbox.put(connection, [letters.letter(*_woke(row, again=True)) for row in woken])
        ticked = runs.wake(connection, BATCH)
        if ticked:
            runs_due = [RunId(row.tenant_id, row.run_id) for row in ticked]
            inbox.put(connection, [letters.ticked(run) for run in runs_due])
        platform.fault(faults.SWEEP_INSIDE)
    resent = _resend(platform)
    due = {RunId(row.tenant_id, row.run_id) for row in (*woken, *ticked, *expired, *over)}
    with session.transaction(platform.database) as connection:
        due.update(inbox.overdue(connection, INBOX_SECONDS, BATCH))
    taken = turns.take_turns(platform, in_turn(due)) if due else 0
    escalations.sweep(platform, BATCH)
    # Last: whatever becomes of it, it has withheld no turn that was due.
    claimed = events.sweep(platform, BATCH)
    taken += turns.take_turns(platform, in_turn(claimed)) if claimed else 0
    awake = len(woken) + len(over) + len(ticked)
    return Swept(lost=len(expired), woken=awake, resent=resent, turns=taken)


def _resend(platform: Platform) -> int:
    """Send what lanes lack of the messages that they should hold; the steps that were overdue.

    Where it cannot be told what a lane holds nothing can be sent either: what is overdue stays so.
    """
    with session.alone(platform.database) as connection:
        ready = steps.lines(connection)
    if not ready:
        return 0
    queues = {line: lanes.name(line[0] or STEPS, line[1]) for line in ready}
    lengths = platform.broker.lengths([*queues.values()])
    if lengths is None:
        return 0
    lacking = {line: lanes.missing(ready[line], lengths[queues[line]]) for line in ready}
    found = [
        Line(queue=queue, lane=lane, most=min(lacks, BATCH) or lanes.MARKED, lost=lacks > 0)
        for (queue, lane), lacks in lacking.items()
    ]
    with session.transaction(platform.database) as connection:
        rows = steps.overdue(connection, found, platform.settings.resend_seconds)
    platform.broker.send(
        [
            Hint(
                step=StepId(row.tenant_id, row.run_id, row.key),
                workflow=row.workflow,
                queue=row.queue,
                lane=row.lane,
            )
            for row in rows
            if lacking[row.queue or "", row.lane]
        ]
    )
    return len(rows)


def _lose(connection: Connection, rows: list[Row[Any]]) -> None:
    """The attempts of expired leases have ended: their workers are gone, or cut off."""
    if not rows:
        return
    steps_of = {(row.tenant_id, row.run_id, row.key): row for row in rows}
    charged = ledgers.lose(
        connection,
        [
            Lost(step=StepId(*key), attempt=row.attempt, told=row.used)
            for key, row in steps_of.items()
        ],
    )
    results.lose(
        connection,
        [StepId(*key) for key in steps_of],
        [
            (row.attempt, row.fence, row.worker, canonical(dict(charged.get(StepId(*key), {}))))
            for key, row in steps_of.items()
        ],
    )
    inbox.put(
        connection,
        [
            letters.letter(*_lost(row, charged.get(StepId(*key), {})))
            for key, row in steps_of.items()
        ],
    )


def _over(connection: Connection) -> Sequence[Row[Any]]:
    """Waits whose time is over, a timer's or that of what never came; nobody has ended them."""
    rows = waits.due(connection, BATCH)
    ends = [
        End(
            step=StepId(row.tenant_id, row.run_id, row.key),
            attempt=row.attempt,
            by="clock",
            reason=None if row.wait == "timer" else "expired",
            message=None if row.wait == "timer" else f"nothing came for node {row.node} in time",
            late=True,
        )
        for row in rows
    ]
    won = waits.end(connection, ends)
    found = [row for row in rows if StepId(row.tenant_id, row.run_id, row.key) in won]
    if found:
        inbox.put(connection, [letters.letter(*_woke(row)) for row in found])
    return found


def _lost(row: Row[Any], usage: Mapping[str, float]) -> tuple[RunId, msg.AttemptLost]:
    event = msg.AttemptLost(
        at=codec.UNTIMED,
        step=msg.StepKey(row.key),
        attempt=row.attempt,
        fence=row.fence,
        worker=row.worker,
        usage=usage,
    )
    return RunId(row.tenant_id, row.run_id), event


def _woke(row: Row[Any], *, again: bool = False) -> tuple[RunId, msg.Woke]:
    event = msg.Woke(at=codec.UNTIMED, step=msg.StepKey(row.key), again=again)
    return RunId(row.tenant_id, row.run_id), event
