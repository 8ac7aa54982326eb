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
    # Only within a turn, hence never stored:
    opens: bool = False
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
    holds: msg.Holds = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """How far a map has come with its items."""

    count: int
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
    #: The maps whose items are under way.
    maps: Mapping[msg.StepKey, Items] = field(default_factory=dict)
    #: Set while the run undoes what it did, before it ends.
    undoing: Undoing | None = None
    #: Set by a request to stop, until the decision that follows it.
    stopping: Ending | None = None
    #: The request asks for what was done to be undone first.
    compensate: bool = False
    ending: Ending | None = None

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
        case msg.CancelRequested(by=by, reason=reason, compensate=compensate):
            if state.terminal:
                return state
            ending = Ending(
                status=RunStatus.CANCELLED, reason="cancelled", message=reason or f"by {by}"
            )
            return replace(state, stopping=ending, compensate=compensate)
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
            return _with(state, replace(step, attempt=attempt, wake=wake, failure=None, wait=None))
        case msg.OpenWait(step=key, kind=kind):
            return _with(state, replace(state.steps[key], wait=kind))
        case msg.SaveResult(step=key):
            return _with(state, state.steps[key].to(StepStatus.SAVING))
        case msg.FailStep(step=key, reason=reason, message=message):
            failure = Failure(reason=reason, message=message, terminal=True)
            return _with(
                _without_items(state, key), replace(_failed(state.steps[key], failure), wake=None)
            )
        case msg.AddItems(step=key, count=count):
            items = state.maps[key]
            return _counting(
                state, key, replace(items, count=items.count + count, sent=items.sent - count)
            )
        case msg.SettleItem(step=key, failed=failed):
            return _item_settled(state, state.steps[key], failed=failed)
        case msg.GatherItems(step=key, count=count):
            step = state.steps[key].to(StepStatus.READY)
            return _with(_without_items(state, key), replace(step, index=count, wait=None))
        case msg.UndoFound() | msg.NothingToUndo() | msg.FindUndo() | msg.SettleUndo():
            return _undone(state, record)
        case msg.BeginUndo(status=status, reason=reason, message=message, step=ended):
            ending = Ending(status=status, reason=reason, message=message, step=ended)
            return _emptied(replace(state, undoing=Undoing(ending=ending), stopping=None))
        case msg.FinishRun(status=status, reason=reason, message=message, step=ended):
            variables = state.view(record.thread or msg.ROOT)
            ended_so = Ending(status=status, reason=reason, message=message, step=ended)
            return replace(
                _emptied(state),
                status=transitions.check(transitions.RUN, state.status, status),
                variables=variables,
                ending=ended_so,
                stopping=None,
                undoing=None,
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
    | msg.Opened
    | msg.NotOpened
    | msg.WaitEnded
    | msg.WaitFailed
    | msg.Saved
    | msg.NotSaved
    | msg.ItemsAdded
    | msg.CompleteRequested
    | msg.SkipRequested
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
            return step.status is StepStatus.WAITING or (
                waits and state.status is RunStatus.RUNNING
            )
        case msg.Opened() | msg.NotOpened():
            return step.status is StepStatus.OPENING
        case msg.WaitEnded() | msg.WaitFailed():
            return step.status is StepStatus.WAITING and step.attempt == event.attempt
        case msg.Saved() | msg.NotSaved():
            return step.status is StepStatus.SAVING
        case msg.ItemsAdded() | msg.CompleteRequested():
            return step.key in state.maps
        case msg.SkipRequested():
            return True
        case _:
            answer: msg.Admitted | msg.Refused | msg.Deferred = event  # nothing else is left
            return step.status is StepStatus.REQUESTED and step.key == answer.step


def _reported(state: State, step: Step, event: _StepEvent) -> State:
    """Fold what was reported of a live step."""
    match event:
        case msg.AttemptSucceeded(result=result, choice=choice):
            done = replace(step.to(StepStatus.SUCCEEDED), result=result, choice=choice)
            return _patched(_with(state, done), step.thread, event.patch, event.removed)
        case msg.AttemptFailed(reason=reason, message=message, terminal=terminal):
            failure = Failure(reason=reason, message=message, terminal=terminal)
            return _with(state, _failed(step, failure))
        case msg.AttemptLost(worker=worker):
            failure = Failure(reason="lost", message=f"worker {worker} stopped answering")
            return _with(state, _failed(step, failure))
        case msg.Woke() if step.status is StepStatus.WAITING:
            return _with(state, _overdue(step))
        case msg.Woke():
            return _with(state, replace(step.to(StepStatus.DUE), wake=None))
        case msg.Opened(until=until, items=count):
            waiting = _with(state, replace(step.to(StepStatus.WAITING), wake=until, opens=False))
            if count is None:
                return waiting
            return _counting(waiting, step.key, Items(count=count, thread=step.thread))
        case msg.WaitEnded(result=result, choice=choice):
            come = replace(step.to(StepStatus.ANSWERED), wake=None, result=result, choice=choice)
            return _with(state, come)
        case (
            msg.NotOpened(reason=reason, message=message)
            | msg.NotSaved(reason=reason, message=message)
        ):
            failure = Failure(reason=reason, message=message, terminal=True)
            return _with(state, replace(_failed(step, failure), opens=False))
        case msg.WaitFailed(reason=reason, message=message):
            failure = Failure(reason=reason, message=message)
            return _with(state, replace(_failed(step, failure), wake=None))
        case msg.Saved(patch=patch):
            return _patched(_with(state, step.to(StepStatus.SUCCEEDED)), step.thread, patch, ())
        case msg.ItemsAdded(items=sent):
            items = state.maps[step.key]
            return _counting(state, step.key, replace(items, sent=items.sent + len(sent)))
        case msg.CompleteRequested():
            return _counting(state, step.key, replace(state.maps[step.key], closed=True))
        case msg.SkipRequested(choice=choice):
            done = replace(step.to(StepStatus.SUCCEEDED), wake=None, choice=choice)
            return _with(_without_items(state, step.key), done)
        case msg.Admitted(lock=lock, kept_until=until):
            holds = step.holds if lock is None else (*step.holds, (lock, until))
            status = StepStatus.OPENING if step.opens else StepStatus.READY
            return _with(state, replace(step.to(status), holds=holds))
        case msg.Refused(rule=rule, message=message):
            failure = Failure(reason="refused", message=f"{rule}: {message}", terminal=True)
            return _with(state, replace(_failed(step, failure), opens=False))
        case _:
            later: msg.Deferred = event  # nothing else is left
            deferred = replace(step.to(StepStatus.DEFERRED), wake=later.until, opens=False)
            return _with(state, replace(deferred, awaits=later.lock))


def _patched(
    state: State, thread: msg.Thread, patch: Mapping[str, Json], removed: tuple[str, ...]
) -> State:
    """What a step leaves: in its thread's overlay, or at once where all threads share it.

    A variable that a thread deletes is null to it, and to those it is joined with; only the
    root can take it away.
    """
    variables = state.variables
    own = dict(patch)
    at_once = {name: own.pop(name) for name in state.shared if name in own}
    variables = overlays.written(variables, at_once, state.reducers)
    if thread == msg.ROOT:
        variables = {name: kept for name, kept in variables.items() if name not in removed}
    else:
        own |= dict.fromkeys(removed)
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
        again = replace(known.to(StepStatus.REQUESTED), opens=command.waits, awaits=None)
        return _with(state, again)
    token = next((t for t in state.tokens if _is(t, command.via, command.thread)), None)
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
        of=command.of,
        index=command.index,
        opens=command.waits,
        holds=token.holds if token else (),
    )
    if step.of is not None:
        return _begun_for(state, step, step.of)
    return _arrived(state, step, command.via)


def _begun_for(state: State, step: Step, of: msg.StepKey) -> State:
    """A step that stands on no edge: an item of a map, or what undoes a step."""
    state = replace(_with(state, step), visited=state.visited + 1)
    if of in state.maps:
        items = state.maps[of]
        return _counting(state, of, replace(items, next=items.next + 1, running=items.running + 1))
    assert state.undoing is not None
    return replace(state, undoing=replace(state.undoing, found=None, running=True))


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
    left, variables = scopes.written(left, variables, base, command.writes, state.reducers)
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
            holds=tuple(held for held in step.holds if held[1] not in (None, step.node)),
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
    variables, steps, maps, thread = state.variables, state.steps, state.maps, command.thread
    if command.scope != ROOT_SCOPE and not command.cancels:
        # As a new branch first: so what threads wrote that ended before is merged beside it.
        scope = found[command.scope]
        thread = (*scope.parent, (command.scope, scope.branches))
        fired = {**scope.fired, command.node: scope.branches}
        found[command.scope] = replace(scope, branches=scope.branches + 1, fired=fired)
    if command.cancels:
        tokens = tuple(t for t in tokens if command.scope not in scopes.around(t.thread))
        steps = {k: s for k, s in steps.items() if command.scope not in scopes.around(s.thread)}
        maps = {k: m for k, m in maps.items() if command.scope not in scopes.around(m.thread)}
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
        holds=tuple(dict.fromkeys(held for one in taken for held in one.holds)),
        waits=onward.waits if onward else False,
    )
    return replace(
        state, tokens=(*tokens, token), steps=steps, maps=maps, scopes=found, variables=variables
    )


def _without(tokens: tuple[Token, ...], edge: EdgeId, thread: msg.Thread) -> tuple[Token, ...]:
    """The tokens but the first on an edge of a thread."""
    for place, token in enumerate(tokens):
        if (token.edge, token.thread) == (edge, thread):
            return tokens[:place] + tokens[place + 1 :]
    return tokens


def _with(state: State, step: Step) -> State:
    return replace(state, steps={**state.steps, step.key: step})


def _is(token: Token, edge: EdgeId | None, thread: msg.Thread) -> bool:
    return (token.edge, token.thread) == (edge, thread)


def _overdue(step: Step) -> Step:
    """A timer has run down, and that is all it waited for; whatever else was waited for is late."""
    if step.wait == "timer":
        return replace(step.to(StepStatus.ANSWERED), wake=None)
    failure = Failure(
        reason="expired", message=f"nothing came for node {step.node} in time", terminal=True
    )
    return replace(_failed(step, failure), wake=None)


def _counting(state: State, key: msg.StepKey, items: Items) -> State:
    return replace(state, maps={**state.maps, key: items})


def _without_items(state: State, key: msg.StepKey) -> State:
    """Nothing is left of the items of a map, whether they were at hand or not."""
    if key not in state.maps:
        return state
    return replace(
        state,
        steps={name: step for name, step in state.steps.items() if step.of != key},
        maps={name: items for name, items in state.maps.items() if name != key},
    )


def _item_settled(state: State, step: Step, *, failed: bool) -> State:
    assert step.of is not None
    items = state.maps[step.of]
    items = replace(
        items,
        running=items.running - 1,
        succeeded=items.succeeded + (not failed),
        failed=items.failed + failed,
        message=step.failure.message if step.failure else items.message,
    )
    left = {key: other for key, other in state.steps.items() if key != step.key}
    return _counting(replace(state, steps=left), step.of, items)


def _emptied(state: State) -> State:
    """Nothing of the run is live any more."""
    return replace(state, tokens=(), steps={}, maps={}, scopes={ROOT_SCOPE: Scope()})


def _undone(
    state: State, record: msg.UndoFound | msg.NothingToUndo | msg.FindUndo | msg.SettleUndo
) -> State:
    """Fold how undoing goes on."""
    undoing = state.undoing
    if undoing is None:
        return state
    match record:
        case msg.FindUndo():
            return replace(state, undoing=replace(undoing, asked=True))
        case msg.UndoFound(step=key, node=node, seq=seq):
            found = replace(undoing, asked=False, found=(key, node), before=seq)
            return replace(state, undoing=found)
        case msg.NothingToUndo():
            return replace(state, undoing=replace(undoing, asked=False, over=True))
        case msg.SettleUndo(step=key, failed=failed):
            left = {name: step for name, step in state.steps.items() if name != key}
            counted = replace(undoing, failed=undoing.failed + bool(failed), running=False)
            return replace(state, steps=left, undoing=counted)
