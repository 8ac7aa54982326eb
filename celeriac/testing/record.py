"""What a run in memory came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from celeriac.testing.calls import Call
from engine.core import messages as msg
from engine.core import values
from engine.core.graph import Graph
from engine.core.state import State
from engine.core.transitions import RunStatus
from engine.core.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """How one attempt of a step ended."""

    attempt: int
    outcome: str  #: `succeeded`, `failed` or `lost`
    reason: str | None = None
    message: str | None = None
    result: Json = None
    #: What it left in the variables.
    patch: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One visit of the run to a node."""

    key: str
    node: str
    iteration: int
    attempts: tuple[Tried, ...] = ()
    settled: bool = False
    choice: msg.Choice = None
    #: The steps that led to it.
    parents: tuple[str, ...] = ()
    #: The nodes that its edges led to.
    taken: tuple[str, ...] = ()
    #: Edges not taken, and why: `choice`, `condition`, `max_iterations`, `earlier`.
    untaken: Mapping[str, str]

    @property
    def result(self) -> Json:
        """What its last attempt returned."""
        return self.attempts[-1].result if self.attempts else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A run in memory, as far as it went."""

    graph: Graph
    state: State
    #: The same lines that the platform would keep.
    history: tuple[msg.Entry, ...]
    #: Every tool call that was carried out, in order.
    calls: tuple[Call, ...] = ()

    @property
    def status(self) -> RunStatus:
        return self.state.status

    @property
    def reason(self) -> str | None:
        """How it ended: `end`, or why it failed."""
        return self.state.ending.reason if self.state.ending else None

    @property
    def message(self) -> str | None:
        return self.state.ending.message if self.state.ending else None

    @property
    def variables(self) -> Mapping[str, Json]:
        return self.state.variables

    @property
    def steps(self) -> tuple[StepRecord, ...]:
        """Every visit, in order of request."""
        found: dict[str, StepRecord] = {}
        for entry in self.history:
            _note(found, entry.record)
        return tuple(found.values())

    @property
    def path(self) -> tuple[str, ...]:
        """The nodes visited, in order."""
        return tuple(step.node for step in self.steps)

    def visits(self, node: str) -> tuple[StepRecord, ...]:
        """The visits of one node."""
        return tuple(step for step in self.steps if step.node == node)

    def records(self, kind: type[Any]) -> Sequence[Any]:
        """Lines of history of one kind, such as `RetryStep`."""
        return [entry.record for entry in self.history if isinstance(entry.record, kind)]


def _note(found: dict[str, StepRecord], record: msg.Record) -> None:
    match record:
        case msg.RequestStart(attempt=1) | msg.PassNode():
            found[record.step] = StepRecord(
                key=record.step,
                node=record.node,
                iteration=record.iteration,
                parents=record.parents,
                untaken={},
            )
        case msg.AttemptSucceeded() | msg.AttemptFailed() | msg.AttemptLost():
            step = found[record.step]
            found[record.step] = replace(step, attempts=(*step.attempts, _tried(record)))
        case msg.TakeEdges():
            found[record.step] = replace(
                found[record.step],
                settled=True,
                choice=record.choice,
                taken=tuple(taken.target for taken in record.taken),
                untaken={untaken.edge: untaken.why for untaken in record.untaken},
            )
        case _:
            pass


def _tried(record: msg.AttemptSucceeded | msg.AttemptFailed | msg.AttemptLost) -> Tried:
    match record:
        case msg.AttemptSucceeded():
            return Tried(
                attempt=record.attempt,
                outcome="succeeded",
                result=values.plain(record.result),
                patch=record.patch,
            )
        case msg.AttemptFailed():
            return Tried(
                attempt=record.attempt,
                outcome="failed",
                reason=record.reason,
                message=record.message,
            )
        case msg.AttemptLost():
            return Tried(attempt=record.attempt, outcome="lost", reason="lost")
