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
#: Seconds, bytes, tokens, dollars, by name.
Usage: TypeAlias = Mapping[str, float]
#: Locks that a thread holds, each with the node up to which it keeps it (None: this step's own).
Holds: TypeAlias = tuple[tuple[str, NodeId | None], ...]

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
    #: The version, by number or by id, of every function, tool and workflow that the graph names.
    pins: Mapping[str, int | str] = field(default_factory=dict)
    #: How contributions to variables add up.
    reducers: Mapping[str, str] = field(default_factory=dict)
    #: Variables that every thread writes at once.
    shared: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What somebody has chosen for a call that was made after the place that a run goes on from."""

    step: StepKey
    ordinal: int
    #: `reuse`: its result is served if the same call is made; `skip`: it is not made, and gives null;
    #: `execute`: it is made again; `compensate`: so, but only when it is undone.
    choice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forked(Event):
    """Somebody asked for a run that goes on from a place of another one."""

    by: str
    #: The workflow version and the pins that both run.
    version: str
    pins: Mapping[str, int | str] = field(default_factory=dict)
    #: The other run, its line, and the hash of that line.
    run: str
    seq: int
    hash: str
    #: Variables that are not what they are there.
    edited: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    #: What becomes of calls that the other run made since.
    chosen: tuple[Chosen, ...] = ()
    #: Where threads stand and what is live (`forking`), without users' data.
    state: Mapping[str, Json] = field(default_factory=dict)
    variables: Mapping[str, Json] = field(default_factory=dict, metadata=_PAYLOAD)
    #: What threads have written since their fork, by scope and branch.
    overlays: Mapping[str, Mapping[str, Mapping[str, Json]]] = field(
        default_factory=dict, metadata=_PAYLOAD
    )
    #: What the first run was submitted with.
    inputs: Mapping[str, Json] = field(default_factory=dict, metadata=_PAYLOAD)
    #: Of a run within this one that is to go on from a place of another one: what is not as it was there.
    inner: Mapping[str, Json] = field(default_factory=dict, metadata=_PAYLOAD)


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
    #: What it had reported by then, or else what was set aside for it.
    usage: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSuspended(Event):
    """An attempt came to a call that people must allow first, and gave its worker back.

    It has not failed. Once they have, the step is begun anew, and is served what it has got so far.
    """

    step: StepKey
    attempt: int
    fence: int
    #: What they are asked to allow: each rule that asks, and what exactly it was asked about. None
    #: where nobody is asked: the run is paused, and the step begins anew when it goes on.
    permits: tuple[str, ...] = ()
    #: What they are shown and asked.
    asks: Mapping[str, Json] = field(default_factory=dict, metadata=_PAYLOAD)
    #: When nobody can allow it any more.
    until: datetime | None = None
    usage: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptWithheld(Event):
    """A worker carried a step out, and its result waits until people let it count.

    What was done is done, and what was used is used: whatever they say, it can be undone.
    """

    step: StepKey
    attempt: int
    fence: int
    #: What they are asked to allow.
    permits: tuple[str, ...]
    until: datetime | None = None
    result: Value = field(default=Inline(value=None), metadata=_PAYLOAD)
    usage: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a rule of the tenant's policies says, and the values that it rests on."""

    policy: str
    version: int
    rule: str
    #: `abort_lifetime`, `pause_lifetime`, `reject_execution`, `require_approval`, `modify`, `warn`,
    #: `allow_with_audit` or `allow`.
    action: str
    message: str = ""
    observed: Json = None
    limit: Json = None
    scope: str = "run"
    window: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Governed(Event):
    """The policies of the tenant have changed: these hold from now on."""

    #: Their number, of the tenant's own count.
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged(Event):
    """What the tenant's policies say of a step that asks to start, of what it reports, of a call.

    A report is judged before it is folded: nothing follows from it without that.
    """

    step: StepKey
    attempt: int
    #: `start`, `report`, `call`, `call_report`; `use`: more is used than was set aside.
    moment: str
    #: How many rules were looked at.
    rules: int
    #: Those that hold.
    verdicts: tuple[Verdict, ...] = ()
    #: What rules about progress remember of the run from now on; None: what they did before.
    memory: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked(Event):
    """A step waits until people allow it to start."""

    step: StepKey
    #: What they are asked to allow: each rule that asks, and what exactly it was asked about.
    permits: tuple[str, ...]
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Woke(Event):
    """The time that a step waited for has come."""

    step: StepKey
    #: It was to ask for its start again. If it waits by now for something else, that goes on.
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked(Event):
    """The time has come that the run as a whole waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened(Event):
    """A step waits from now on: for its time, an event, people, another run, its items."""

    step: StepKey
    #: When it stops waiting, whatever has come by then.
    until: datetime | None = None
    #: The run that it started.
    child: str | None = None
    #: How many items it has to begin with.
    items: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotOpened(Event):
    """What a step should have waited for could not be set up."""

    step: StepKey
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitEnded(Event):
    """What a step waited for has come."""

    step: StepKey
    attempt: int
    #: Who or what brought it: users, the id of an event, the id of a run.
    by: tuple[str, ...] = ()
    result: Value = field(default=Inline(value=None), metadata=_PAYLOAD)
    choice: Choice = None
    #: People were asked to allow something: nothing was done yet.
    permit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitFailed(Event):
    """What a step waited for will not come."""

    step: StepKey
    attempt: int
    by: tuple[str, ...] = ()
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved(Event):
    """What the result of a wait leaves in the variables."""

    step: StepKey
    patch: Mapping[str, Json] = field(default_factory=dict, metadata=_PAYLOAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSaved(Event):
    """The variables cannot take what the result of a wait should leave."""

    step: StepKey
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsAdded(Event):
    """A map gets more items while it runs."""

    step: StepKey
    by: str
    items: tuple[Json, ...] = field(default=(), metadata=_PAYLOAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteRequested(Event):
    """Somebody says that a map has enough: what is done counts, the rest is let go."""

    step: StepKey
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested(Event):
    """Somebody asked for the run to stop."""

    by: str
    reason: str = ""
    #: What it has done is to be undone first, by the handlers of its nodes.
    compensate: bool = False


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
class RollbackRequested(Event):
    """Somebody asked for the run to go on from an earlier place of its own."""

    by: str
    reason: str = ""
    #: The line of its history that it goes back to.
    seq: int
    #: Variables that are not what they were there.
    edited: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    #: What becomes of calls that it has made since.
    chosen: tuple[Chosen, ...] = ()
    #: Where threads stood and what was live there (`forking.told`), without users' data.
    state: Mapping[str, Json] = field(default_factory=dict)
    variables: Mapping[str, Json] = field(default_factory=dict, metadata=_PAYLOAD)
    #: What threads had written since their fork, by scope and branch.
    overlays: Mapping[str, Mapping[str, Mapping[str, Json]]] = field(
        default_factory=dict, metadata=_PAYLOAD
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateRequested(Event):
    """Somebody asked for the run to go on under another version of its workflow."""

    by: str
    reason: str = ""
    #: By what its answer is known.
    request: str
    #: The id of that version, and the versions of all that its graph names.
    version: str
    pins: Mapping[str, int | str] = field(default_factory=dict)
    #: Nodes that have another name there.
    nodes: Mapping[NodeId, NodeId] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated(Event):
    """The run goes on under another version: the answer to `MigrateRequested` (`migration`)."""

    by: str
    request: str
    #: The id of that version, the id of the one it was under, and what is pinned from now on.
    version: str
    was: str
    pins: Mapping[str, int | str] = field(default_factory=dict)
    #: Nodes, and edges that tokens stand on, that have another name there.
    nodes: Mapping[NodeId, NodeId] = field(default_factory=dict)
    edges: Mapping[EdgeId, EdgeId] = field(default_factory=dict)
    #: Nodes that turn in no loop there: how often they were visited is not counted on.
    uncounted: tuple[NodeId, ...] = ()
    #: How contributions to variables add up, and which are written by every thread at once.
    reducers: Mapping[str, str] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    #: Variables that it declares and the run does not have yet, as its document has them.
    variables: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotMigrated(Event):
    """The run stays under its version: the answer to `MigrateRequested`, with all that keeps it."""

    request: str
    version: str
    #: `path`, `message` and `remedy` of each.
    problems: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipRequested(Event):
    """Somebody asked for a live step to count as done, whatever it is at."""

    step: StepKey
    by: str
    reason: str = ""
    choice: Choice = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultGiven(Event):
    """Somebody says what the result of a step is that has not begun: it is not carried out."""

    step: StepKey
    by: str
    result: Value = field(default=Inline(value=None), metadata=_PAYLOAD)
    #: What that leaves in the variables.
    patch: Mapping[str, Json] = field(default_factory=dict, metadata=_PAYLOAD)
    choice: Choice = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRequested(Event):
    """Somebody asked for a live step to be begun anew, without waiting any longer."""

    step: StepKey
    by: str
    reason: str = ""
    #: The attempt that was taken away from its worker; None: none had begun.
    attempt: int | None = None
    #: What that one is charged.
    usage: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted(Event):
    """The admission lets an attempt start."""

    step: StepKey
    #: The lock that it was given, and the node up to which its thread keeps it.
    lock: str | None = None
    kept_until: NodeId | None = None
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
    #: The lock that somebody else holds.
    lock: str | None = None
    saw: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoFound(Event):
    """The last step before `seq` that was done and has a handler to undo it."""

    step: StepKey
    node: NodeId
    #: Where history tells that it was done: the next one is looked for before that.
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NothingToUndo(Event):
    """Whatever has a handler is undone."""


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
    #: It waits rather than works: once admitted, no worker carries it out.
    waits: bool = False
    #: The map that it is an item of, or the step that it undoes.
    of: StepKey | None = None
    #: Its place among the items.
    index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWait(Command):
    """What an admitted step waits for should be set up."""

    step: StepKey
    #: The kind of its node.
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveResult(Command):
    """What a step waited for has come; what it leaves in the variables should be worked out."""

    step: StepKey


@dataclass(frozen=True, slots=True, kw_only=True)
class AddItems(Command):
    """Items that were sent to a map get their places, from `first` on."""

    step: StepKey
    first: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleItem(Command):
    """An item of a map is done, or has failed for good, and is gone."""

    step: StepKey
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherItems(Command):
    """A map waits for no more items: a worker may put their results together.

    `because`: `all` are done, `enough` succeeded, or `asked`. Items under way are let go.
    """

    step: StepKey
    count: int
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailStep(Command):
    """A step that waits has failed for good: a map of which too many items failed."""

    step: StepKey
    reason: str
    message: str


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
    #: What the coordinator itself leaves in the variables: where a step list goes on.
    writes: Mapping[str, Json] = field(default_factory=dict)
    #: Since when its tokens wait; None where none of them may be tired of it.
    since: datetime | None = None


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
    #: Threads that were not waited for wait on, for the next time.
    keeps: bool = False
    #: What decided: `demand` (it was met), `last` (nobody else can come), `quiescence` (nobody
    #: else moves), `timeout` (they waited long enough), `starved` (the demand cannot be met any
    #: more).
    because: str = "last"
    #: The way that they take instead if they are too few.
    short: Taken | None = None
    #: Since when the token waits that goes on; None where it may not be tired of it.
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsorbToken(Command):
    """A thread that a join did not wait for ends there."""

    edge: EdgeId
    thread: Thread
    #: What decided: `late` (it came when the join was taken up), `kept` (it waited for the next
    #: time, and nobody can come any more to make one).
    because: str = "late"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseScope(Command):
    """The last thread of a scope has ended: what they wrote is kept."""

    scope: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MissMilestone(Command):
    """A thread has waited in vain for somebody to be somewhere, and goes another way."""

    node: NodeId
    edge: EdgeId
    thread: Thread
    #: What decided: `expired` (it waited long enough), `quiescence` (nobody moves any more).
    because: str
    #: The way that it takes instead.
    short: Taken
    #: Since when it waits where that leads; None where it may not be tired of it.
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRegion(Command):
    """A step that succeeded ends whatever else is at some nodes, or on the way to them."""

    step: StepKey
    nodes: tuple[NodeId, ...]
    #: How many live steps are withdrawn at each.
    steps: Mapping[NodeId, int] = field(default_factory=dict)
    #: Edge and thread of every token that is withdrawn.
    tokens: tuple[tuple[EdgeId, Thread], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryStep(Command):
    """A failed step is tried again, not before a time."""

    step: StepKey
    attempt: int
    not_before: datetime
    reason: str
    #: Nothing needs to wake it: it asks for its start at once.
    at_once: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBack(Command):
    """The run goes on from an earlier place; whatever of it is live ends."""

    seq: int
    #: The steps that were live there, each with the name under which it begins anew.
    anew: Mapping[StepKey, StepKey] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginUndo(Command):
    """Before the run ends, what it has done is undone, last things first.

    Whatever of it is live ends now; how it will end is said here.
    """

    status: RunStatus
    reason: str
    message: str = ""
    step: StepKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindUndo(Command):
    """The next step to undo should be looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleUndo(Command):
    """A handler has undone a step, or failed for good."""

    step: StepKey
    failed: str = ""


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
    | Forked
    | AttemptSucceeded
    | AttemptFailed
    | AttemptLost
    | AttemptSuspended
    | AttemptWithheld
    | Governed
    | Judged
    | Parked
    | Woke
    | Ticked
    | Opened
    | NotOpened
    | WaitEnded
    | WaitFailed
    | Saved
    | NotSaved
    | ItemsAdded
    | CompleteRequested
    | UndoFound
    | NothingToUndo
    | CancelRequested
    | TerminateRequested
    | PauseRequested
    | ResumeRequested
    | RollbackRequested
    | MigrateRequested
    | Migrated
    | NotMigrated
    | SkipRequested
    | ResultGiven
    | RetryRequested
    | Admitted
    | Refused
    | Deferred
)
AnyCommand: TypeAlias = (
    RequestStart
    | OpenWait
    | SaveResult
    | AddItems
    | SettleItem
    | GatherItems
    | FailStep
    | RollBack
    | BeginUndo
    | FindUndo
    | SettleUndo
    | PassNode
    | TakeEdges
    | JoinThreads
    | AbsorbToken
    | CloseScope
    | MissMilestone
    | CancelRegion
    | RetryStep
    | FinishRun
)
Record: TypeAlias = AnyEvent | AnyCommand


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of history. A command's time is that of the event it follows from."""

    at: datetime
    record: Record
