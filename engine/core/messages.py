"""What can happen to a run: two closed unions of frozen records.

*Events* are reported from outside: by workers, people, the clock, the admission. *Commands*
are what the coordinator decides. A run's history is the ordered list of both, and its state
is nothing but that history folded by `state.evolve`.

Fields marked `payload` hold users' data. They lie in rows of their own and enter the
history as salted digests, so that they can be shredded without breaking its chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NewType, TypeAlias

from engine.core.graph import EdgeId, NodeId
from engine.core.transitions import RunStatus
from engine.core.values import Inline, Json, Value

#: `node#iteration`, unique in its run.
StepKey = NewType("StepKey", str)
#: What a step chose: a condition's answer, a label or target, or a plan's list of nodes.
Choice: TypeAlias = "bool | str | tuple[str, ...] | None"
#: One line of control: the branches it took, outermost first; `()` is the root.
Thread: TypeAlias = tuple[tuple[str, int], ...]
Visits: TypeAlias = Mapping[NodeId, int]

ROOT: Thread = ()
_PAYLOAD = {"payload": True}


def step_key(node: NodeId, iteration: int) -> StepKey:
    """The name of a visit of `node`, iterations counted from 1."""
    return StepKey(f"{node}#{iteration}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that was reported. `at` is the database's time of receipt, and the `now`
    of every decision that follows from it.
    """

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSubmitted(Event):
    """Somebody asked for a run."""

    by: str
    #: The id of the workflow version that it runs.
    version: str = ""
    inputs: Mapping[str, Json] = field(default_factory=dict, metadata=_PAYLOAD)
    #: The version of every function and tool that the graph names.
    pins: Mapping[str, int] = field(default_factory=dict)
    #: How contributions to variables add up.
    reducers: Mapping[str, str] = field(default_factory=dict)
    #: Variables that every thread writes at once.
    shared: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSucceeded(Event):
    """A worker carried a step out."""

    step: StepKey
    attempt: int
    fence: int
    result: Value = field(default=Inline(value=None), metadata=_PAYLOAD)
    #: What the step leaves in the variables.
    patch: Mapping[str, Json] = field(default_factory=dict, metadata=_PAYLOAD)
    #: Variables that the step deleted.
    removed: tuple[str, ...] = field(default=(), metadata=_PAYLOAD)
    choice: Choice = None
    #: Seconds, bytes, tokens, dollars: what was spent, by name.
    usage: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed(Event):
    """A worker tried a step and could not carry it out."""

    step: StepKey
    attempt: int
    fence: int
    reason: str
    message: str
    #: Trying again cannot help.
    terminal: bool = False
    usage: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLost(Event):
    """The lease of a started attempt ran out: its worker is gone, or cut off."""

    step: StepKey
    attempt: int
    fence: int
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Woke(Event):
    """The time that a step waited for has come."""

    step: StepKey


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested(Event):
    """Somebody asked for the run to stop."""

    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminateRequested(Event):
    """Somebody asked for the run to be cut off: it ends as it stands, and nothing of it is undone."""

    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRequested(Event):
    """Somebody asked for nothing new to start."""

    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRequested(Event):
    """Somebody asked for a paused run to go on."""

    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipRequested(Event):
    """Somebody asked for a live step to count as done, whatever it is at."""

    step: StepKey
    by: str
    reason: str = ""
    choice: Choice = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRequested(Event):
    """Somebody asked for a live step to be begun anew, without waiting any longer."""

    step: StepKey
    by: str
    reason: str = ""
    #: The attempt that was taken away from its worker; None: none had begun.
    attempt: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted(Event):
    """The admission lets an attempt start."""

    step: StepKey
    #: What the admission looked at: budgets, counters, limits.
    saw: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Event):
    """The admission does not let an attempt start, and will not."""

    step: StepKey
    rule: str
    message: str
    saw: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred(Event):
    """The admission does not let an attempt start yet."""

    step: StepKey
    rule: str
    until: datetime
    saw: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Something that the coordinator decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStart(Command):
    """An attempt of a step should start, if the admission lets it.

    The first attempt consumes the token that came over the edge `via` (None at the start of
    the run).
    """

    step: StepKey
    node: NodeId
    iteration: int
    attempt: int
    queue: str | None = None
    via: EdgeId | None = None
    #: The steps that led to it.
    parents: tuple[StepKey, ...] = ()
    thread: Thread = ROOT
    visits: Visits = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PassNode(Command):
    """The coordinator itself visits a control node."""

    step: StepKey
    node: NodeId
    iteration: int
    via: EdgeId | None = None
    parents: tuple[StepKey, ...] = ()
    thread: Thread = ROOT
    visits: Visits = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """An edge that was taken, and the values that its condition rested on."""

    edge: EdgeId
    target: NodeId
    when: str | None = None
    saw: Mapping[str, Json] = field(default_factory=dict)
    #: The token waits at its target until the threads it belongs with are there.
    waits: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Untaken:
    """An edge that was not taken, and why: `choice`, `condition`, `max_iterations` or
    `earlier` (an edge declared before it was taken).
    """

    edge: EdgeId
    why: str
    when: str | None = None
    saw: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeEdges(Command):
    """A step is settled: it leaves a token on each edge taken, and is gone."""

    step: StepKey
    choice: Choice = None
    taken: tuple[Taken, ...] = ()
    untaken: tuple[Untaken, ...] = ()
    #: The scope that the fork opens, a branch for each edge taken.
    opens: str | None = None
    #: The scope that ends with it: the step was the last of its threads.
    closes: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinThreads(Command):
    """Threads come together at a node, and go on as one."""

    node: NodeId
    #: The scope whose threads they are.
    scope: str
    #: Edge and thread of every token that is taken up.
    joined: tuple[tuple[EdgeId, Thread], ...]
    #: How they go on.
    thread: Thread
    #: Nothing else is left of the scope, or nothing else counts any more.
    closes: bool = False
    #: Threads that were not waited for are cancelled.
    cancels: bool = False
    #: What decided: `demand` (it was met), `last` (nobody else can come), `quiescence` (nobody
    #: else moves), `starved` (the demand cannot be met any more).
    because: str = "last"
    #: The way that starved threads take instead.
    short: Taken | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsorbToken(Command):
    """A thread arrives at a join that did not wait for it, and ends."""

    edge: EdgeId
    thread: Thread


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseScope(Command):
    """The last thread of a scope has ended: what they wrote is kept."""

    scope: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryStep(Command):
    """A failed step is tried again, not before a time."""

    step: StepKey
    attempt: int
    not_before: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishRun(Command):
    """The run ends; whatever of it is live ends with it."""

    status: RunStatus
    reason: str
    message: str = ""
    #: The step that it ended for.
    step: StepKey | None = None
    #: The thread that ended it by a final edge: what it wrote counts, the others' does not.
    thread: Thread | None = None


AnyEvent: TypeAlias = (
    RunSubmitted
    | AttemptSucceeded
    | AttemptFailed
    | AttemptLost
    | Woke
    | CancelRequested
    | TerminateRequested
    | PauseRequested
    | ResumeRequested
    | SkipRequested
    | RetryRequested
    | Admitted
    | Refused
    | Deferred
)
AnyCommand: TypeAlias = (
    RequestStart
    | PassNode
    | TakeEdges
    | JoinThreads
    | AbsorbToken
    | CloseScope
    | RetryStep
    | FinishRun
)
Record: TypeAlias = AnyEvent | AnyCommand


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of history. A command's time is that of the event it follows from."""

    at: datetime
    record: Record
