"""Every legal change of status, as data.

The core folds by these tables, the store guards its UPDATEs by them, and the diagram in
the documentation is drawn from them; nothing else may decide that a status can follow
another.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar


class RunStatus(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"  #: submitted; its first turn makes it `running`
    RUNNING = "running"  #: work is under way, or waited for
    PAUSED = "paused"  #: reports are folded, and nothing new starts until somebody resumes it
    COMPLETED = "completed"  #: an end was reached
    FAILED = "failed"  #: a step failed for good, or a bound was passed
    CANCELLED = "cancelled"  #: somebody asked for it to stop


class StepStatus(StrEnum):
    """Where a step stands. Steps that are settled leave the state."""

    REQUESTED = "requested"  #: the core asks for a start; the admission answers in the same turn
    DEFERRED = "deferred"  #: the admission said later; a wake brings it back
    OPENING = "opening"  #: admitted; what it waits for is set up in the same turn
    WAITING = "waiting"  #: for a time, an event, people, another run, its items: no worker
    ANSWERED = "answered"  #: what it waited for has come
    SAVING = "saving"  #: what that leaves in the variables is worked out in the same turn
    READY = "ready"  #: admitted; a worker may lease it
    HELD = "held"  #: admitted, and the run is paused: nobody may lease it
    LEASED = "leased"  #: a worker owns it for a while; the worker or the sweeper moves it on
    REPORTED = "reported"  #: its attempt has ended; the report waits in the inbox
    RETRYING = "retrying"  #: the next attempt waits for its time
    DUE = "due"  #: that time has come, or somebody asked for the attempt now
    SUCCEEDED = "succeeded"  #: its result is folded; its edges are not yet taken
    FAILED = "failed"  #: its attempt failed; whether it is tried again is not yet decided


RUN: Mapping[RunStatus, frozenset[RunStatus]] = {
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING}),
    RunStatus.RUNNING: frozenset(
        {RunStatus.PAUSED, RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}
    ),
    RunStatus.PAUSED: frozenset({RunStatus.RUNNING, RunStatus.FAILED, RunStatus.CANCELLED}),
    RunStatus.COMPLETED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
}

#: The core never sees HELD, LEASED and REPORTED: ownership is no business of deciding, so the
#: store hands all three over as READY.
STEP: Mapping[StepStatus, frozenset[StepStatus]] = {
    StepStatus.REQUESTED: frozenset(
        {
            StepStatus.READY,
            StepStatus.OPENING,
            StepStatus.WAITING,
            StepStatus.DEFERRED,
            StepStatus.SUCCEEDED,
            StepStatus.FAILED,
        }
    ),
    StepStatus.OPENING: frozenset({StepStatus.WAITING, StepStatus.SUCCEEDED, StepStatus.FAILED}),
    StepStatus.WAITING: frozenset(
        {
            StepStatus.ANSWERED,
            StepStatus.FAILED,
            StepStatus.SUCCEEDED,
            StepStatus.REPORTED,
            StepStatus.READY,
            StepStatus.DUE,
        }
    ),
    StepStatus.ANSWERED: frozenset({StepStatus.SAVING}),
    StepStatus.SAVING: frozenset({StepStatus.SUCCEEDED, StepStatus.FAILED}),
    StepStatus.DEFERRED: frozenset({StepStatus.DUE, StepStatus.SUCCEEDED}),
    StepStatus.READY: frozenset(
        {
            StepStatus.HELD,
            StepStatus.LEASED,
            StepStatus.WAITING,
            StepStatus.DUE,
            StepStatus.SUCCEEDED,
            StepStatus.FAILED,
        }
    ),
    StepStatus.HELD: frozenset({StepStatus.READY}),
    StepStatus.LEASED: frozenset({StepStatus.READY, StepStatus.REPORTED}),
    StepStatus.REPORTED: frozenset({StepStatus.SUCCEEDED, StepStatus.FAILED}),
    StepStatus.RETRYING: frozenset({StepStatus.DUE, StepStatus.REQUESTED, StepStatus.SUCCEEDED}),
    StepStatus.DUE: frozenset({StepStatus.REQUESTED}),
    StepStatus.SUCCEEDED: frozenset(),
    StepStatus.FAILED: frozenset({StepStatus.RETRYING}),
}

TERMINAL = frozenset(status for status, following in RUN.items() if not following)

S = TypeVar("S", bound=StrEnum)


class IllegalTransition(Exception):
    """A status was asked to follow one it cannot follow: a defect, never an input error."""


def check(table: Mapping[S, frozenset[S]], old: S, new: S) -> S:
    """Return `new` when it may follow `old`; raise `IllegalTransition` otherwise."""
    if new not in table[old]:
        raise IllegalTransition(f"{old} cannot become {new}")
    return new
