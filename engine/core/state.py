"""A run's state, and the fold that builds it from history.

The state is a small *head* (status, counters, scopes, tokens, variables) and the live
steps. A turn may hold only the steps that its events name: nothing here counts or searches
`steps` to learn about the run as a whole; what must be known of all of them, `scopes`
counts. A fold therefore gives the same head whether all the rows were at hand or few.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from engine.core import messages as msg
from engine.core import scopes, transitions
from engine.core.graph import EdgeId, NodeId
from engine.core.records import replace
from engine.core.scopes import ROOT_SCOPE, Scope
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import Json, Value

#: Deaths that say nothing against the step itself; they are counted apart from errors.
LOST_REASONS = frozenset({"lost", "killed"})
#: Why a run ended that somebody cut off. Nothing it did is undone, whatever its nodes say.
TERMINATED = "terminated"
#: Why a run ended that a policy cut off.
ABORTED = "aborted"
#: The kind of a wait for people who must allow something.
PERMIT = "permit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt did not succeed."""

    reason: str
    message: str
    terminal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One live visit of the run to a node."""

    key: msg.StepKey
    node: NodeId
    iteration: int
    status: StepStatus
    #: The attempt that is asked for or under way, from 1.
    attempt: int = 1
    errors: int = 0
    lost: int = 0
    queue: str | None = None
    parents: tuple[msg.StepKey, ...] = ()
    thread: msg.Thread = msg.ROOT
    visits: msg.Visits = field(default_factory=dict)
    #: When a deferred or retrying step comes back, and a waiting one stops waiting.
    wake: datetime | None = None
    #: The kind of its wait, if it waits.
    wait: str | None = None
    #: The map that it is an item of, or the step that it undoes.
    of: msg.StepKey | None = None
    #: Its place among the items; of a map whose items are gathered, how many there are.
    index: int | None = None
    #: The locks that its thread holds, each with the node up to which it keeps it.
    holds: msg.Holds = ()
    #: The lock that it was deferred for.
    awaits: str | None = None
    #: What people are asked to allow while it waits for them, and what they have allowed.
    asked: tuple[str, ...] = ()
    permits: tuple[str, ...] = ()
    # Only within a turn, hence never stored:
    opens: bool = False
    result: Value | None = None
    choice: msg.Choice = None
    failure: Failure | None = None
    #: Why what it is about to report does not count.
    rejected: str | None = None

    def to(self, status: StepStatus) -> Step:
        return replace(self, status=transitions.check(transitions.STEP, self.status, status))


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A mark on an edge that lets its target start, at once or when others have come."""

    edge: EdgeId
    target: NodeId
    thread: msg.Thread = msg.ROOT
    visits: msg.Visits = field(default_factory=dict)
    #: The steps that left it.
    parents: tuple[msg.StepKey, ...] = ()
    waits: bool = False
    holds: msg.Holds = ()
    #: Since when it stands still; None where that does not matter.
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """How far a map has come with its items."""

    count: int
    node: NodeId
    thread: msg.Thread = msg.ROOT
    #: The first one that has not been started.
    next: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    #: Sent, and not yet given their places.
    sent: int = 0
    #: Somebody said that it has enough.
    closed: bool = False
    #: Why its last failed item failed.
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a run ended, or what it is about to end for."""

    status: RunStatus
    reason: str
    message: str = ""
    step: msg.StepKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Undoing:
    """How far a run has come with undoing what it did."""

    ending: Ending
    #: Where in history the search goes on; None: at its end.
    before: int | None = None
    #: Asked for, and not yet answered.
    asked: bool = False
    #: What is to be undone next.
    found: tuple[msg.StepKey, NodeId] | None = None
    #: A handler is at work.
    running: bool = False
    #: Nothing is left.
    over: bool = False
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Within:
    """A place of the run that a step had started: the one that it starts anew goes on from there."""

    step: msg.StepKey
    run: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that deciding needs to know of a run."""

    run: str
    status: RunStatus = RunStatus.QUEUED
    #: Visits to nodes so far, against the step budget. Never reset.
    visited: int = 0
    #: It has gone back to before its first step, which is still to be asked for.
    afresh: bool = False
    #: Iterations handed out, per node.
    iterations: Mapping[NodeId, int] = field(default_factory=dict)
    tokens: tuple[Token, ...] = ()
    scopes: Mapping[str, Scope] = field(default_factory=lambda: {ROOT_SCOPE: Scope()})
    variables: Mapping[str, Json] = field(default_factory=dict)
    reducers: Mapping[str, str] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    steps: Mapping[msg.StepKey, Step] = field(default_factory=dict)
    #: The maps whose items are under way.
    maps: Mapping[msg.StepKey, Items] = field(default_factory=dict)
    #: Set while the run undoes what it did, before it ends.
    undoing: Undoing | None = None
    #: Set by a request to stop, until the decision that follows it.
    stopping: Ending | None = None
    #: The request asks for what was done to be undone first.
    compensate: bool = False
    #: Set by a request to go on from an earlier place, until the decision that follows it.
    back: msg.RollbackRequested | None = None
    ending: Ending | None = None
    #: The number of the policies that the run was last judged by; 0: the tenant has none.
    governed: int = 0
    #: What its attempts have used, by name.
    spent: Mapping[str, float] = field(default_factory=dict)
    #: By rule, the value at which it has paused the run; let pass by whoever resumes it.
    halted: Mapping[str, Json] = field(default_factory=dict)
    #: Rules that paused it, each with the value that it saw: what people let pass at that.
    waived: Mapping[str, Json] = field(default_factory=dict)
    #: What rules about progress remember.
    memory: Mapping[str, Json] = field(default_factory=dict)
    #: How often it has come under another version of its workflow.
    moved: int = 0
    #: Until a step has started it, where the run within this one goes on from; and within that one.
    within: tuple[Within, ...] = ()

    @property
    def terminal(self) -> bool:
        return self.status in transitions.TERMINAL

    def view(self, thread: msg.Thread) -> Mapping[str, Json]:
        """The variables as a thread sees them."""
        return scopes.view(self.scopes, self.variables, thread, self.reducers)

    @property
    def live(self) -> int:
        """Live steps, loaded or not. The items of a map are counted with it, by `maps`."""
        return self.scopes[ROOT_SCOPE].alive
