"""What a run in memory came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from celeriac.testing.acts import Act
from celeriac.testing.calls import Call
from engine.core import messages as msg
from engine.core import references, remembered, values
from engine.core.decide import outputs
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
    #: What it waits for, while it does.
    waits: str | None = None

    @property
    def result(self) -> Json:
        """What its last attempt returned."""
        return self.attempts[-1].result if self.attempts else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A step that nothing in the test brings any further."""

    step: str
    node: str
    #: What it waits for: `approval`, `input`, `event`, `workflow`, `map`, `lock`.
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A run in memory, as far as it went."""

    graph: Graph
    state: State
    #: The same lines that the platform would keep.
    history: tuple[msg.Entry, ...]
    #: Every tool call that was carried out, in order.
    calls: tuple[Call, ...] = ()
    #: The runs that its steps started, in order.
    children: tuple[Record, ...] = ()
    #: What it waits for, if it has not ended.
    waiting: tuple[Waiting, ...] = ()
    #: Acts for which there was no occasion.
    unused: tuple[Act, ...] = ()

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
        return remembered.visible(self.state.variables)

    @property
    def outputs(self) -> Mapping[str, Json]:
        """What it gives: the outputs of its workflow, else its variables."""
        return outputs(self.graph, self.state.run, self.state.variables, references.unread)

    @property
    def used(self) -> Mapping[str, float]:
        """What its steps told that they had used, by name."""
        return {name: amount for name, amount in self.state.spent.items() if amount}

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
        case msg.RequestStart(attempt=1) | msg.PassNode() if record.step not in found:
            found[record.step] = StepRecord(
                key=record.step,
                node=record.node,
                iteration=record.iteration,
                parents=record.parents,
                untaken={},
            )
        case msg.OpenWait(kind=kind):
            found[record.step] = replace(found[record.step], waits=kind)
        case msg.Woke() if (waits := found[record.step].waits) is not None:
            over = _TIME if waits == "timer" else _EXPIRED
            found[record.step] = _ended(found[record.step], over)
        case _ if (tried := _tried(record)) is not None:
            found[tried[0]] = _ended(found[tried[0]], tried[1])
        case msg.Saved(patch=patch):
            found[record.step] = _amended(found[record.step], patch=patch)
        case msg.NotSaved(reason=reason, message=message):
            failed = {"outcome": "failed", "reason": reason, "message": message}
            found[record.step] = _amended(found[record.step], **failed)
        case msg.SettleItem() | msg.SettleUndo():
            found[record.step] = replace(found[record.step], settled=True)
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


#: How a wait ends by its time.
_TIME = Tried(attempt=0, outcome="succeeded")
_EXPIRED = Tried(attempt=0, outcome="failed", reason="expired")


def _ended(step: StepRecord, outcome: Tried) -> StepRecord:
    """A step with how its attempt ended."""
    numbered = replace(outcome, attempt=len(step.attempts) + 1)
    return replace(step, attempts=(*step.attempts, numbered), waits=None)


def _amended(step: StepRecord, **changes: Any) -> StepRecord:
    """A step of whose last attempt more is known."""
    *before, last = step.attempts
    return replace(step, attempts=(*before, replace(last, **changes)))


def _tried(record: msg.Record) -> tuple[msg.StepKey, Tried] | None:
    """How an attempt ended, if this is what a line tells."""
    match record:
        case msg.AttemptSucceeded(step=key, result=result, patch=patch):
            done = values.plain(result)
            return key, Tried(attempt=0, outcome="succeeded", result=done, patch=patch)
        case msg.WaitEnded(step=key, result=result):
            return key, Tried(attempt=0, outcome="succeeded", result=values.plain(result))
        case msg.AttemptLost(step=key):
            return key, Tried(attempt=0, outcome="lost", reason="lost")
        case (
            msg.AttemptFailed(step=key, reason=reason, message=message)
            | msg.WaitFailed(step=key, reason=reason, message=message)
            | msg.NotOpened(step=key, reason=reason, message=message)
            | msg.FailStep(step=key, reason=reason, message=message)
        ):
            return key, Tried(attempt=0, outcome="failed", reason=reason, message=message)
        case _:
            return None
