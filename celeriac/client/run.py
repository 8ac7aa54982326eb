"""A run on a platform, as it was when it was read, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from celeriac.client.records import (
    Answered,
    Call,
    Checkpoint,
    Event,
    Line,
    LiveStep,
    LogLine,
    Origin,
    Parent,
    Result,
    SentEvent,
    Step,
    Undoable,
    Wait,
    WentBack,
)

if TYPE_CHECKING:
    from celeriac.client.client import Client

#: Statuses that nothing follows.
ENDED = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of a workflow version. Read it again with `refresh`."""

    id: str
    workflow: str
    version: str
    version_id: str
    #: `queued, running, paused, completed, failed, cancelled`
    status: str
    #: The last line of its history.
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
    #: The step that started it; None where somebody submitted it.
    parent: Parent | None = None
    #: The run that it goes on from, and its line; None where it began at the start.
    forked_from: Origin | None = None
    #: Where it was recorded, who brought it in and when; None: it was carried out here.
    imported: Mapping[str, Any] | None = None
    # None in a list:
    variables: Mapping[str, Any] | None = None
    #: What it gives, where its workflow declares that and it is completed.
    outputs: Mapping[str, Any] | None = None
    #: The version of every function and tool that it uses.
    pins: Mapping[str, int] | None = None
    #: Steps that are not settled.
    live: tuple[LiveStep, ...] | None = None
    #: Since when nothing is being carried out.
    waiting_since: datetime | None = None
    client: Client = field(repr=False, compare=False)

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def refresh(self) -> Run:
        """This run as it is now."""
        return self.client.run(self.id)

    def wait(self, timeout: float | None = None) -> Run:
        """This run when it has ended. Raises `TimeoutError` after so many seconds."""
        return self.client.wait(self.id, timeout)

    def cancel(self, reason: str = "", *, compensate: bool = False) -> Run:
        """Stop it; this run afterwards. `compensate`: undo what it has done first.

        Raises `Conflict` when it has ended.
        """
        return self.client.cancel(self.id, reason, compensate=compensate)

    def pause(self, reason: str = "") -> Run:
        """Let nothing new of it start; this run afterwards. Raises `Conflict` when it has ended."""
        return self.client.pause(self.id, reason)

    def resume(self, reason: str = "") -> Run:
        """Let it go on after a pause; this run afterwards. Raises `Conflict` when it has ended."""
        return self.client.resume(self.id, reason)

    def terminate(self, reason: str = "") -> Run:
        """End it as it stands, undoing nothing; this run afterwards. Raises as `cancel` does."""
        return self.client.terminate(self.id, reason)

    def retry(self) -> Run:
        """Take its turn now, if it is stuck; this run afterwards."""
        return self.client.retry(self.id)

    def skip_step(
        self,
        step: str,
        choice: bool | str | Sequence[str] | None = None,  # noqa: FBT001  # a value
        *,
        reason: str = "",
    ) -> Run:
        """Let a live step count as done, with a choice; this run afterwards."""
        return self.client.skip_step(self.id, step, choice, reason=reason)

    def retry_step(self, step: str, *, reason: str = "") -> Run:
        """Begin a live step anew, now; this run afterwards."""
        return self.client.retry_step(self.id, step, reason=reason)

    def waits(self, kind: str | None = None) -> Iterator[Wait]:
        """Its steps that wait for people or events."""
        return self.client.waits(kind=kind, run=self.id)

    def answer(
        self, step: str, choice: str | None = None, form: Mapping[str, Any] | None = None
    ) -> Answered:
        """Answer a step that asks people. Raises as `Client.answer` does."""
        return self.client.answer(self.id, step, choice, form)

    def send(self, name: str, payload: Any = None, **how: Any) -> SentEvent:
        """Send it an event. Raises as `Client.send` does, and takes what that takes."""
        return self.client.send(name, payload, run=self.id, **how)

    def children(self) -> Iterator[Run]:
        """The runs that its steps have started, newest first."""
        return self.client.children(self.id)

    def steps(self) -> Iterator[Step]:
        """Its visits to nodes, in the order they were begun."""
        return self.client.steps(self.id)

    def result(self, step: str) -> Result:
        """What a step left, by its key (`increment#1`). Raises `NotFound` while there is none."""
        return self.client.result(self.id, step)

    def calls(self, step: str | None = None) -> tuple[Call, ...]:
        """The tool calls of a step, or of all."""
        return self.client.calls(self.id, step)

    def history(self, after: int = 0, *, payloads: bool = False) -> Iterator[Line]:
        """What happened and what was decided, in order, after a seq."""
        return self.client.history(self.id, after, payloads=payloads)

    def events(self, after: str | None = None, *, logs: bool = True) -> Iterator[Event]:
        """Its history, and what its steps print, as it happens, until it has ended."""
        return self.client.events(self.id, after, logs=logs)

    def logs(self, step: str | None = None) -> Iterator[LogLine]:
        """What its steps, or one of them, have printed so far."""
        return self.client.logs(self.id, step)

    def fork(
        self,
        seq: int,
        variables: Mapping[str, Any] | None = None,
        *,
        choices: Mapping[str, str] | None = None,
    ) -> Run:
        """A new run that goes on from a line of this one, as `Client.fork`."""
        return self.client.fork(self.id, seq, variables, choices=choices)

    def undoable(self) -> tuple[Undoable, ...]:
        """How its calls would be undone, as `Client.undoable`."""
        return self.client.undoable(self.id)

    def undo(self, calls: Sequence[str], *, reason: str = "") -> Run:
        """A run that undoes its calls, as `Client.undo`."""
        return self.client.undo(self.id, calls, reason=reason)

    def roll_back(
        self,
        place: int | str,
        variables: Mapping[str, Any] | None = None,
        *,
        choices: Mapping[str, str] | None = None,
        reason: str = "",
    ) -> WentBack | None:
        """Let it go on from an earlier line of its own, as `Client.roll_back`."""
        return self.client.roll_back(self.id, place, variables, choices=choices, reason=reason)

    def replay(self, **against: Any) -> Mapping[str, Any]:
        """Decide it once more, as `Client.replay`."""
        return self.client.replay(self.id, **against)

    def explain(self, before: int | None = None) -> Mapping[str, Any]:
        """Why it is where it is, as `Client.explain`."""
        return self.client.explain(self.id, before)

    def checkpoints(self) -> Iterator[Checkpoint]:
        """Places that it can be taken up from."""
        return self.client.checkpoints(self.id)
