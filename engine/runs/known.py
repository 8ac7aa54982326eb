"""A run as this process has left it, for the one that goes on with the step that it took there.

Where a run has one live step, and a worker takes that with the turn that makes it ready, nobody else
has anything to say to the run until the step is reported, as a rule. So whoever reports it need not
ask how the run stands: it goes on from what it knows, and the database is told what that was. Where it
is not so any more (somebody paused the run, say, or put other policies in force), the transaction
ends, nothing is done, and the turn is taken as every other is (`runs.expect`).

Times are the database's: one that it told, and what has gone by since on the clock of this process.
Each commit tells one, so that what is reported next is not earlier than what was committed, nor than
the start of its attempt. A time that the database finds to be in its future, or long past, is none.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row

from engine.core.records import replace
from engine.core.state import State
from engine.core.transitions import RunStatus, StepStatus
from engine.store import runs


@dataclass(frozen=True, slots=True)
class Clock:
    """A time that the database told, and when this process heard of it, in seconds of its own clock."""

    at: datetime
    heard: float

    def now(self) -> datetime:
        """The time by the database's clock, or a little before it: the answer was under way for as long."""
        return self.at + timedelta(seconds=time.monotonic() - self.heard)

    def better(self, other: Clock) -> Clock:
        """The one of two whose answer was under way for less."""
        ahead = (self.at - other.at).total_seconds() - (self.heard - other.heard)
        return self if ahead > 0 else other


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A run as it is read for a turn, or as a turn has left it."""

    #: Its row, as locking it finds it.
    row: Row[Any]
    #: With those of its live steps that are at hand.
    state: State
    clock: Clock

    def found(self) -> Known:
        """The same as it is found now."""
        return replace(self, row=_with(self.row, now=self.clock.now()))


def left(was: Row[Any], head: runs.Head, state: State, clock: Clock) -> Known | None:
    """A run as it stands after a turn that was committed; None where others may have something to say to it."""
    if len(state.steps) != 1 or state.live != 1 or state.status is not RunStatus.RUNNING:
        return None
    if state.maps or state.undoing is not None:
        return None
    (step,) = state.steps.values()
    as_read = replace(
        step, opens=False, result=None, choice=None, failure=None, rejected=None, wake=None
    )
    if step != as_read or step.status is not StepStatus.READY or step.wait is not None:
        return None
    return Known(
        row=_with(
            was,
            status=head.status,
            seq=head.seq,
            hash=head.hash,
            head=head.head,
            variables=head.variables or was.variables,
            snapshot_seq=head.snapshot_seq,
            patched=head.patched,
            started_at=was.started_at or head.began,
        ),
        state=state,
        clock=clock,
    )


def _with(row: Row[Any], **changes: Any) -> Row[Any]:
    """A row of a hot statement with other values."""
    named: Any = row
    found: Row[Any] = named._replace(**changes)
    return found
