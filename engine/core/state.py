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
from engine.core import overlays, scopes, transitions
from engine.core.graph import EdgeId, NodeId
from engine.core.scopes import ROOT_SCOPE, Scope
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import Json, Value

#: The reason of a run that was cut off: it has the status of a cancelled one.
TERMINATED = "terminated"

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
    parents: tuple[msg.StepKey, ...] = ()
    thread: msg.Thread = msg.ROOT
    visits: msg.Visits = field(default_factory=dict)
    #: When a deferred or retrying step comes back.
    wake: datetime | None = None
    # Only between the fold of a report and the decision on it, hence never stored:
    result: Value | None = None
    choice: msg.Choice = None
    failure: Failure | None = None

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
    reducers: Mapping[str, str] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    steps: Mapping[msg.StepKey, Step] = field(default_factory=dict)
    #: Set by a request to stop, until the decision that follows it.
    stopping: Ending | None = None
    ending: Ending | None = None

    @property
    def terminal(self) -> bool:
        return self.status in transitions.TERMINAL

    def view(self, thread: msg.Thread) -> Mapping[str, Json]:
        """The variables as a thread sees them."""
        return scopes.view(self.scopes, self.variables, thread, self.reducers)

    @property
    def live(self) -> int:
        """Live steps, loaded or not."""
        return self.scopes[ROOT_SCOPE].alive


def evolve(state: State, record: msg.Record) -> State:
    """Fold one line of history into the state.

    A report that its step no longer waits for changes nothing: it was true when it was made,
    and the run has moved on since (a cancel was folded before it, say).
    """
    match record:
        case msg.RunSubmitted(inputs=inputs, reducers=reducers, shared=shared):
            return replace(
                state,
                status=transitions.check(transitions.RUN, state.status, RunStatus.RUNNING),
                variables={**state.variables, **inputs},
                reducers=reducers,
                shared=shared,
            )
        case msg.CancelRequested() | msg.TerminateRequested():
            return _stopped(state, record)
        case msg.PauseRequested() | msg.ResumeRequested():
            return _held(state, record)
        case msg.RequestStart():
            return _requested(state, record)
        case msg.PassNode():
            step = Step(
                key=record.step,
                node=record.node,
                iteration=record.iteration,
                status=StepStatus.SUCCEEDED,
                parents=record.parents,
                thread=record.thread,
                visits=record.visits,
            )
            return _arrived(state, step, record.via)
        case msg.TakeEdges():
            return _settled(state, state.steps[record.step], record)
        case msg.JoinThreads():
            return _joined(state, record)
        case msg.AbsorbToken(edge=edge, thread=thread):
            return replace(state, tokens=_without(state.tokens, edge, thread))
        case msg.CloseScope(scope=scope):
            left, variables = scopes.closed(state.scopes, state.variables, scope, state.reducers)
            return replace(state, scopes=left, variables=variables)
        case msg.RetryStep(step=key, attempt=attempt, not_before=wake):
            step = state.steps[key].to(StepStatus.RETRYING)
            return _with(state, replace(step, attempt=attempt, wake=wake, failure=None))
        case msg.FinishRun(status=status, reason=reason, message=message, step=ended):
            return replace(
                state,
                status=transitions.check(transitions.RUN, state.status, status),
                variables=state.view(record.thread or msg.ROOT),
                ending=Ending(status=status, reason=reason, message=message, step=ended),
                stopping=None,
                tokens=(),
                steps={},
                scopes={ROOT_SCOPE: Scope()},
            )
        case _:
            step_now = state.steps.get(record.step)
            if step_now is None or not _expected(state, step_now, record):
                return state
            return _reported(state, step_now, record)


_StepEvent: TypeAlias = (
    msg.AttemptSucceeded
    | msg.AttemptFailed
    | msg.AttemptLost
    | msg.Woke
    | msg.SkipRequested
    | msg.RetryRequested
    | msg.Admitted
    | msg.Refused
    | msg.Deferred
)


def _expected(state: State, step: Step, event: _StepEvent) -> bool:
    """Whether the step still waits for what the event reports.

    A wake finds nobody in a paused run; the sweeper wakes again.
    """
    match event:
        case msg.AttemptSucceeded() | msg.AttemptFailed() | msg.AttemptLost():
            return step.status is StepStatus.READY and step.attempt == event.attempt
        case msg.Woke():
            waits = step.status in (StepStatus.DEFERRED, StepStatus.RETRYING)
            return waits and state.status is RunStatus.RUNNING
        case msg.SkipRequested():
            return True
        case msg.RetryRequested(attempt=taken):
            waits = step.status in (StepStatus.DEFERRED, StepStatus.RETRYING)
            return waits or (step.status is StepStatus.READY and step.attempt == taken)
        case _:
            answer: msg.Admitted | msg.Refused | msg.Deferred = event  # nothing else is left
            return step.status is StepStatus.REQUESTED and step.key == answer.step


def _reported(state: State, step: Step, event: _StepEvent) -> State:
    """Fold what was reported of a live step."""
    match event:
        case msg.AttemptSucceeded(result=result, choice=choice):
            done = replace(step.to(StepStatus.SUCCEEDED), result=result, choice=choice)
            return _patched(_with(state, done), step.thread, event)
        case msg.AttemptFailed(reason=reason, message=message, terminal=terminal):
            failure = Failure(reason=reason, message=message, terminal=terminal)
            return _with(state, _failed(step, failure))
        case msg.AttemptLost(worker=worker):
            failure = Failure(reason="lost", message=f"worker {worker} stopped answering")
            return _with(state, _failed(step, failure))
        case msg.Woke():
            return _with(state, replace(step.to(StepStatus.DUE), wake=None))
        case msg.SkipRequested(choice=choice):
            done = replace(step.to(StepStatus.SUCCEEDED), wake=None, choice=choice)
            return _with(state, done)
        case msg.RetryRequested():
            # An attempt that was taken away has its number for good, and counts against nothing.
            again = step.attempt + (step.status is StepStatus.READY)
            return _with(state, replace(step.to(StepStatus.DUE), wake=None, attempt=again))
        case msg.Admitted():
            return _with(state, step.to(StepStatus.READY))
        case msg.Refused(rule=rule, message=message):
            failure = Failure(reason="refused", message=f"{rule}: {message}", terminal=True)
            return _with(state, _failed(step, failure))
        case _:
            later: msg.Deferred = event  # nothing else is left
            return _with(state, replace(step.to(StepStatus.DEFERRED), wake=later.until))


def _patched(state: State, thread: msg.Thread, event: msg.AttemptSucceeded) -> State:
    """What a step leaves: in its thread's overlay, or at once where all threads share it.

    A variable that a thread deletes is null to it, and to those it is joined with; only the
    root can take it away.
    """
    variables = state.variables
    own = dict(event.patch)
    at_once = {name: own.pop(name) for name in state.shared if name in own}
    variables = overlays.written(variables, at_once, state.reducers)
    if thread == msg.ROOT:
        variables = {name: kept for name, kept in variables.items() if name not in event.removed}
    else:
        own |= dict.fromkeys(event.removed)
    changed, variables = scopes.written(state.scopes, variables, thread, own, state.reducers)
    return replace(state, scopes=changed, variables=variables)


def _failed(step: Step, failure: Failure) -> Step:
    lost = failure.reason in LOST_REASONS
    return replace(
        step.to(StepStatus.FAILED),
        failure=failure,
        errors=step.errors + (not lost),
        lost=step.lost + lost,
    )


def _stopped(state: State, event: msg.CancelRequested | msg.TerminateRequested) -> State:
    """What is asked to stop is about to end, whatever it is at; `decide` says how."""
    if state.terminal:
        return state
    cut_off = isinstance(event, msg.TerminateRequested)
    ending = Ending(
        status=RunStatus.CANCELLED,
        reason=TERMINATED if cut_off else "cancelled",
        message=event.reason or f"by {event.by}",
    )
    return replace(state, stopping=ending)


def _held(state: State, event: msg.PauseRequested | msg.ResumeRequested) -> State:
    """Pause what runs, resume what is paused; anything else is as it was asked to be."""
    pauses = isinstance(event, msg.PauseRequested)
    before, after = RunStatus.RUNNING, RunStatus.PAUSED
    if not pauses:
        before, after = after, before
    return replace(state, status=after) if state.status is before else state


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
        parents=command.parents,
        thread=command.thread,
        visits=command.visits,
    )
    return _arrived(state, step, command.via)


def _arrived(state: State, step: Step, via: EdgeId | None) -> State:
    """A new step stands where its token led, and the token is spent."""
    return replace(
        _with(state, step),
        tokens=state.tokens if via is None else _without(state.tokens, via, step.thread),
        visited=state.visited + 1,
        iterations={**state.iterations, step.node: step.iteration},
        scopes=scopes.counted(state.scopes, step.thread, step.node, +1),
    )


def _settled(state: State, step: Step, command: msg.TakeEdges) -> State:
    """The step is gone; its thread goes on as the tokens it leaves, a branch each if it forks."""
    left = scopes.counted(state.scopes, step.thread, step.node, -1)
    variables, base = state.variables, step.thread
    if command.closes is not None:
        left, variables = scopes.closed(left, variables, command.closes, state.reducers)
        base = base[:-1]
    threads = [base] * len(command.taken)
    if command.opens is not None:
        count = len(command.taken)
        left = {**left, command.opens: Scope(parent=base, fork=step.node, branches=count)}
        threads = [(*base, (command.opens, branch)) for branch in range(count)]
    tokens = tuple(
        Token(
            edge=edge.edge,
            target=edge.target,
            thread=thread,
            visits=step.visits,
            parents=(step.key,),
            waits=edge.waits,
        )
        for edge, thread in zip(command.taken, threads, strict=True)
    )
    return replace(
        state,
        steps={key: other for key, other in state.steps.items() if key != step.key},
        tokens=state.tokens + tokens,
        scopes=left,
        variables=variables,
    )


def _joined(state: State, command: msg.JoinThreads) -> State:
    """Threads end in one that goes on; what they wrote is its own from now on."""
    taken = [
        next(token for token in state.tokens if (token.edge, token.thread) == (edge, thread))
        for edge, thread in command.joined
    ]
    tokens = state.tokens
    for edge, thread in command.joined:
        tokens = _without(tokens, edge, thread)
    threads = [thread for _, thread in command.joined]
    found, patch = scopes.gathered(state.scopes, command.scope, threads, state.reducers)
    variables, steps, thread = state.variables, state.steps, command.thread
    if command.scope != ROOT_SCOPE and not command.cancels:
        # As a new branch first: so what threads wrote that ended before is merged beside it.
        scope = found[command.scope]
        thread = (*scope.parent, (command.scope, scope.branches))
        fired = {**scope.fired, command.node: scope.branches}
        found[command.scope] = replace(scope, branches=scope.branches + 1, fired=fired)
    if command.cancels:
        tokens = tuple(t for t in tokens if command.scope not in scopes.around(t.thread))
        steps = {k: s for k, s in steps.items() if command.scope not in scopes.around(s.thread)}
        found = scopes.cancelled(found, command.scope)
    found, variables = scopes.written(found, variables, thread, patch, state.reducers)
    if command.closes and not command.cancels:
        found, variables = scopes.closed(found, variables, command.scope, state.reducers)
    visits: dict[NodeId, int] = {}
    for token in taken:
        visits |= {n: max(count, visits.get(n, 0)) for n, count in token.visits.items()}
    onward = command.short
    token = Token(
        edge=onward.edge if onward else taken[0].edge,
        target=onward.target if onward else command.node,
        thread=command.thread,
        visits=visits,
        parents=tuple(dict.fromkeys(parent for one in taken for parent in one.parents)),
        waits=onward.waits if onward else False,
    )
    return replace(state, tokens=(*tokens, token), steps=steps, scopes=found, variables=variables)


def _without(tokens: tuple[Token, ...], edge: EdgeId, thread: msg.Thread) -> tuple[Token, ...]:
    """The tokens but the first on an edge of a thread."""
    for place, token in enumerate(tokens):
        if (token.edge, token.thread) == (edge, thread):
            return tokens[:place] + tokens[place + 1 :]
    return tokens


def _with(state: State, step: Step) -> State:
    return replace(state, steps={**state.steps, step.key: step})
