"""A run's state, and the fold that builds it from history.

The state is a small *head* (status, counters, scopes, tokens, variables) and the live
steps. A turn may hold only the steps that its events name: nothing here counts or searches
`steps` to learn about the run as a whole; what must be known of all of them, `scopes`
counts. A fold therefore gives the same head whether all the rows were at hand or few.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeAlias

from engine.core import messages as msg
from engine.core import transitions
from engine.core.graph import EdgeId, NodeId
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import Json, Value

#: The scope that every run opens with.
ROOT_SCOPE = ""

#: Deaths that say nothing against the step itself; they are counted apart from errors.
LOST_REASONS = frozenset({"lost", "killed"})


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
    thread: msg.Thread = msg.ROOT
    visits: msg.Visits = field(default_factory=dict)
    #: When a deferred or retrying step comes back.
    wake: datetime | None = None
    # Only between the fold of a report and the decision on it, hence never stored:
    result: Value | None = None
    choice: bool | str | None = None
    failure: Failure | None = None

    def to(self, status: StepStatus) -> Step:
        return replace(self, status=transitions.check(transitions.STEP, self.status, status))


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A mark on an edge that lets its target start."""

    edge: EdgeId
    target: NodeId
    thread: msg.Thread = msg.ROOT
    visits: msg.Visits = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The threads that one fork opened: how many live steps stand at each node."""

    live: Mapping[NodeId, int] = field(default_factory=dict)

    def count(self, node: NodeId, change: int) -> Scope:
        live = {**self.live, node: self.live.get(node, 0) + change}
        return Scope(live={node: count for node, count in live.items() if count})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a run ended, or what it is about to end for."""

    status: RunStatus
    reason: str
    message: str = ""
    step: msg.StepKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that deciding needs to know of a run."""

    run: str
    status: RunStatus = RunStatus.QUEUED
    #: Visits to nodes so far, against the step budget. Never reset.
    visited: int = 0
    #: Iterations handed out, per node.
    iterations: Mapping[NodeId, int] = field(default_factory=dict)
    tokens: tuple[Token, ...] = ()
    scopes: Mapping[str, Scope] = field(default_factory=lambda: {ROOT_SCOPE: Scope()})
    variables: Mapping[str, Json] = field(default_factory=dict)
    steps: Mapping[msg.StepKey, Step] = field(default_factory=dict)
    #: Set by a request to stop, until the decision that follows it.
    stopping: Ending | None = None
    ending: Ending | None = None

    @property
    def terminal(self) -> bool:
        return self.status in transitions.TERMINAL

    @property
    def live(self) -> int:
        """Live steps, loaded or not."""
        return sum(sum(scope.live.values()) for scope in self.scopes.values())


def evolve(state: State, record: msg.Record) -> State:
    """Fold one line of history into the state.

    A report that its step no longer waits for changes nothing: it was true when it was made,
    and the run has moved on since (a cancel was folded before it, say).
    """
    match record:
        case msg.RunSubmitted(inputs=inputs):
            return replace(
                state,
                status=transitions.check(transitions.RUN, state.status, RunStatus.RUNNING),
                variables={**state.variables, **inputs},
            )
        case msg.CancelRequested(by=by, reason=reason):
            if state.terminal:
                return state
            ending = Ending(
                status=RunStatus.CANCELLED, reason="cancelled", message=reason or f"by {by}"
            )
            return replace(state, stopping=ending)
        case msg.RequestStart():
            return _requested(state, record)
        case msg.PassNode():
            step = Step(
                key=record.step,
                node=record.node,
                iteration=record.iteration,
                status=StepStatus.SUCCEEDED,
                thread=record.thread,
                visits=record.visits,
            )
            return _arrived(state, step, record.via)
        case msg.TakeEdges(step=key, taken=taken):
            return _settled(state, state.steps[key], taken)
        case msg.RetryStep(step=key, attempt=attempt, not_before=wake):
            step = state.steps[key].to(StepStatus.RETRYING)
            return _with(state, replace(step, attempt=attempt, wake=wake, failure=None))
        case msg.FinishRun(status=status, reason=reason, message=message, step=ended):
            return replace(
                state,
                status=transitions.check(transitions.RUN, state.status, status),
                ending=Ending(status=status, reason=reason, message=message, step=ended),
                stopping=None,
                tokens=(),
                steps={},
                scopes={ROOT_SCOPE: Scope()},
            )
        case _:
            step_now = state.steps.get(record.step)
            if step_now is None or not _expected(step_now, record):
                return state
            return _reported(state, step_now, record)


_StepEvent: TypeAlias = (
    msg.AttemptSucceeded
    | msg.AttemptFailed
    | msg.AttemptLost
    | msg.Woke
    | msg.Admitted
    | msg.Refused
    | msg.Deferred
)


def _expected(step: Step, event: _StepEvent) -> bool:
    """Whether the step still waits for what the event reports."""
    match event:
        case msg.AttemptSucceeded() | msg.AttemptFailed() | msg.AttemptLost():
            return step.status is StepStatus.READY and step.attempt == event.attempt
        case msg.Woke():
            return step.status in (StepStatus.DEFERRED, StepStatus.RETRYING)
        case _:
            answer: msg.Admitted | msg.Refused | msg.Deferred = event  # nothing else is left
            return step.status is StepStatus.REQUESTED and step.key == answer.step


def _reported(state: State, step: Step, event: _StepEvent) -> State:
    """Fold what was reported of a live step."""
    match event:
        case msg.AttemptSucceeded(result=result, choice=choice):
            done = replace(step.to(StepStatus.SUCCEEDED), result=result, choice=choice)
            return replace(_with(state, done), variables=_patched(state.variables, event))
        case msg.AttemptFailed(reason=reason, message=message, terminal=terminal):
            failure = Failure(reason=reason, message=message, terminal=terminal)
            return _with(state, _failed(step, failure))
        case msg.AttemptLost(worker=worker):
            failure = Failure(reason="lost", message=f"worker {worker} stopped answering")
            return _with(state, _failed(step, failure))
        case msg.Woke():
            return _with(state, replace(step.to(StepStatus.DUE), wake=None))
        case msg.Admitted():
            return _with(state, step.to(StepStatus.READY))
        case msg.Refused(rule=rule, message=message):
            failure = Failure(reason="refused", message=f"{rule}: {message}", terminal=True)
            return _with(state, _failed(step, failure))
        case _:
            later: msg.Deferred = event  # nothing else is left
            return _with(state, replace(step.to(StepStatus.DEFERRED), wake=later.until))


def _patched(variables: Mapping[str, Json], event: msg.AttemptSucceeded) -> Mapping[str, Json]:
    if not event.patch and not event.removed:
        return variables
    kept = {name: value for name, value in variables.items() if name not in event.removed}
    return {**kept, **event.patch}


def _failed(step: Step, failure: Failure) -> Step:
    lost = failure.reason in LOST_REASONS
    return replace(
        step.to(StepStatus.FAILED),
        failure=failure,
        errors=step.errors + (not lost),
        lost=step.lost + lost,
    )


def _requested(state: State, command: msg.RequestStart) -> State:
    known = state.steps.get(command.step)
    if known is not None:
        return _with(state, known.to(StepStatus.REQUESTED))
    step = Step(
        key=command.step,
        node=command.node,
        iteration=command.iteration,
        status=StepStatus.REQUESTED,
        attempt=command.attempt,
        queue=command.queue,
        thread=command.thread,
        visits=command.visits,
    )
    return _arrived(state, step, command.via)


def _arrived(state: State, step: Step, via: EdgeId | None) -> State:
    """A new step stands where its token led, and the token is spent."""
    spent = next(
        (token for token in state.tokens if (token.edge, token.thread) == (via, step.thread)), None
    )
    tokens = list(state.tokens)
    if spent is not None:
        tokens.remove(spent)
    return replace(
        _with(state, step),
        tokens=tuple(tokens),
        visited=state.visited + 1,
        iterations={**state.iterations, step.node: step.iteration},
        scopes={**state.scopes, ROOT_SCOPE: state.scopes[ROOT_SCOPE].count(step.node, +1)},
    )


def _settled(state: State, step: Step, taken: tuple[msg.Taken, ...]) -> State:
    """The step is gone; its thread goes on as the tokens it leaves."""
    left = tuple(
        Token(edge=edge.edge, target=edge.target, thread=step.thread, visits=step.visits)
        for edge in taken
    )
    return replace(
        state,
        steps={key: other for key, other in state.steps.items() if key != step.key},
        tokens=state.tokens + left,
        scopes={**state.scopes, ROOT_SCOPE: state.scopes[ROOT_SCOPE].count(step.node, -1)},
    )


def _with(state: State, step: Step) -> State:
    return replace(state, steps={**state.steps, step.key: step})
