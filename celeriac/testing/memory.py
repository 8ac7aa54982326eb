"""What the platform keeps in its database, kept here in lists: runs, their waits, events, locks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from celeriac.testing.acts import Sent
from celeriac.testing.clock import Clock
from engine import documents, waiting
from engine.asking import Said
from engine.core import codec, remembered
from engine.core import messages as msg
from engine.core.graph import Graph, NodeId
from engine.core.overflow import Overflow
from engine.core.policy import Policy
from engine.core.problem import Problem
from engine.core.state import State, Step
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import VARIABLES_BYTES, Json
from engine.errors import Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A step that waits for people or an event."""

    kind: str
    #: Its place among all waits and events, for the clock may stand still between them.
    number: int
    opened: datetime
    asks: Mapping[str, Json] = field(default_factory=dict)
    #: Of an event.
    event: waiting.Expected | None = None
    transient: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The step that started a run."""

    run: str
    step: msg.StepKey
    attempt: int
    #: The run is cancelled when the step is gone.
    cancelled_with: bool
    depth: int


@dataclass(slots=True, kw_only=True)
class Event:
    """An event that was sent, and what became of it: `kept`, `claimed`, `dropped`, `refused`."""

    sent: Sent
    run: str | None
    number: int
    state: str = "kept"
    detail: str = ""


@dataclass(slots=True, kw_only=True)
class Run:
    """A run in memory."""

    id: str
    graph: Graph
    began: datetime
    by: str
    origin: Origin | None = None
    state: State = field(init=False)
    history: list[msg.Entry] = field(default_factory=list)
    #: Events that wait for a turn.
    inbox: list[msg.AnyEvent] = field(default_factory=list)
    waits: dict[msg.StepKey, Wait] = field(default_factory=dict)
    #: Steps whose wait somebody has ended, or whose attempt has; the turn is still to come.
    reported: set[msg.StepKey] = field(default_factory=set)
    items: dict[msg.StepKey, list[Json]] = field(default_factory=dict)
    results: dict[msg.StepKey, Json] = field(default_factory=dict)
    #: Who has said what to a step that asks, by its attempt.
    said: dict[tuple[msg.StepKey, int], list[Said]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state = State(run=self.id)

    @property
    def depth(self) -> int:
        return self.origin.depth if self.origin else 0

    def live(self, place: str) -> Step | None:
        """The first step under way at a node, or of that name, that nobody has ended yet."""
        return next(
            (
                step
                for step in self.state.steps.values()
                if place in (step.node, step.key) and step.key not in self.reported
            ),
            None,
        )

    def waiting(self, step: Step) -> bool:
        """Whether a step waits, and nobody has ended that."""
        return step.status is StepStatus.WAITING and step.key not in self.reported

    def end(self, key: msg.StepKey, attempt: int, event: msg.AnyEvent) -> bool:
        """End the wait of a step; False when it was ended before."""
        step = self.state.steps.get(key)
        if step is None or step.attempt != attempt or not self.waiting(step):
            return False
        self.reported.add(key)
        self.inbox.append(event)
        return True

    def last_done(
        self, nodes: Iterable[NodeId], before: int | None
    ) -> tuple[msg.StepKey, int] | None:
        """The last step of some nodes that was done, before a line of history, and its line."""
        wanted = {*nodes}
        for seq in range((before or len(self.history) + 1) - 1, 0, -1):
            record = self.history[seq - 1].record
            match record:
                case msg.AttemptSucceeded(step=key) | msg.WaitEnded(step=key):
                    if node_of(key) in wanted:
                        return key, seq
                case _:
                    pass
        return None


@dataclass(slots=True, kw_only=True)
class Memory:
    """All the runs of one test, and what they have in common."""

    clock: Clock
    policy: Policy
    workflows: Mapping[str, Graph]
    runs: dict[str, Run] = field(default_factory=dict)
    #: The run that holds each lock.
    locks: dict[str, str] = field(default_factory=dict)
    #: Steps that wait for a lock, those that came first first.
    waiters: dict[tuple[str, msg.StepKey], None] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    #: Waits and events so far.
    counted: int = 0

    def number(self) -> int:
        """The next place among waits and events."""
        self.counted += 1
        return self.counted

    def submit(
        self,
        run: str,
        graph: Graph,
        inputs: Mapping[str, Json],
        *,
        by: str,
        origin: Origin | None = None,
    ) -> Run:
        """A run whose first turn is still to come. Raises `Invalid` when the inputs do not fit."""
        given = documents.with_defaults(graph, inputs)
        if problems := documents.input_problems(graph, given):
            raise Invalid(problems, "the inputs do not fit the workflow")
        variables = {**graph.variables, **given}
        try:
            waiting.moved(variables, variables, graph.reducers.keys(), None)
        except Overflow as overflow:
            message = (
                f"inputs and variables take {overflow.taken} bytes, {VARIABLES_BYTES} are allowed"
            )
            raise Invalid([Problem(path="inputs", message=message)]) from overflow
        entered = Run(id=run, graph=graph, began=self.clock.now(), by=by, origin=origin)
        entered.inbox.append(
            msg.RunSubmitted(
                at=codec.UNTIMED,
                by=by,
                inputs=variables,
                reducers=remembered.reducers(graph),
                shared=tuple(sorted(graph.shared)),
            )
        )
        self.runs[run] = entered
        return entered

    def running(self) -> list[Run]:
        """The runs that go on, those that were submitted first first."""
        return [run for run in self.runs.values() if run.state.status is RunStatus.RUNNING]


def node_of(key: str) -> NodeId:
    """The node that a step's key names."""
    return NodeId(key.rpartition("#")[0])
