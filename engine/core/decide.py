"""The coordinator's mind: given a graph and a run's state, what comes next.

Nothing here reads a clock, a database or a random number. `decide` names the one command
that follows from a state; `advance` folds events one by one and, after each, decides until
nothing follows. A turn is only a commit boundary, so for any split of the events

    advance(s, [a, b]) == advance(advance(s, [a]), [b])

and history alone determines every decision, however its events were batched.

The core never starts a step by itself. It asks (`RequestStart`), and the shell answers with
an event (`Admitted`, `Refused`, `Deferred`) that is recorded like any other.

A value that lies outside the state is read, by `read`, when a condition names it, and never
becomes part of the state for it. It is known by its sha256, so that it is the same every time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from engine.core import (
    deadlines,
    expressions,
    items,
    joins,
    listing,
    milestones,
    overlays,
    references,
    regions,
    remembered,
    rollback,
    undo,
)
from engine.core import messages as msg
from engine.core.fold import evolve
from engine.core.graph import Arrive, Edge, Graph, Map, Node, NodeId, Retry, Role, Route
from engine.core.policy import Policy
from engine.core.records import replace
from engine.core.references import Read, Readable
from engine.core.state import LOST_REASONS, Failure, State, Step, Token
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import Json, canonical, digest, plain, size

#: The rules that decide. A change that would alter a decision takes a new number, and the
#: old branch stays until no live run was started under it.
RULES = 1

#: A value that a decision saw is recorded as it is up to this many bytes, else by digest.
SEEN_BYTES = 256


C = TypeVar("C", bound=msg.AnyCommand)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a turn came to: the new state, and the lines of history that led there."""

    state: State
    entries: tuple[msg.Entry, ...]


def advance(
    graph: Graph,
    policy: Policy,
    state: State,
    events: Iterable[msg.AnyEvent],
    *,
    read: Read = references.unread,
) -> Turn:
    """Fold each event and decide to a fixed point before the next.

    The fixed point is always reached: every decision but the last of a turn settles a step,
    ends a thread, visits a node, or leads a thread another way to one. Visits are bounded by the
    graph's step budget, and no graph has other ways alone that lead round.
    """
    entries: list[msg.Entry] = []
    among: tuple[msg.StepKey, ...] | None = None
    for event in events:
        state = evolve(state, event)
        entries.append(msg.Entry(at=event.at, record=event))
        if among is not None:
            # Nothing followed from any step, and this one alone stands elsewhere now.
            among = (event.step,) if isinstance(event, msg.Admitted) else None
        while (command := decide(graph, policy, state, event.at, read, among=among)) is not None:
            # Asked for only when nothing follows from any step; nor does it from one that is new.
            starts = isinstance(command, msg.RequestStart) and command.step not in state.steps
            among = () if starts else None
            state = evolve(state, command)
            entries.append(msg.Entry(at=event.at, record=command))
        among = ()
    return Turn(state=state, entries=tuple(entries))


def decide(
    graph: Graph,
    policy: Policy,
    state: State,
    now: datetime,
    read: Read = references.unread,
    *,
    among: Iterable[msg.StepKey] | None = None,
) -> msg.AnyCommand | None:
    """The next command that follows from `state` at `now`; None when it is settled.

    `among` names the steps to look at, where nothing is known to follow from any other: a map that starts
    a thousand items would else have each of them looked at a thousand times.
    """
    steps = state.steps
    live = steps.values() if among is None else [steps[key] for key in among if key in steps]
    command = _decide(graph, policy, state, now, read, live=live)
    if isinstance(command, msg.FinishRun) and undo.is_due(graph, state, command):
        return msg.BeginUndo(
            status=command.status,
            reason=command.reason,
            message=command.message,
            step=command.step,
        )
    return command


def _decide(
    graph: Graph, policy: Policy, state: State, now: datetime, read: Read, *, live: Iterable[Step]
) -> msg.AnyCommand | None:
    if state.status not in (RunStatus.RUNNING, RunStatus.PAUSED):
        return None
    if state.stopping is not None:
        return msg.FinishRun(
            status=state.stopping.status,
            reason=state.stopping.reason,
            message=state.stopping.message,
            step=state.stopping.step,
        )
    if state.back is not None:
        return rollback.decided(state, state.back)
    for step in live:
        if step.status in _DECIDES and (
            command := _about(graph, policy, state, step, now, read=read)
        ):
            return deadlines.stamped(graph, command, now)
    if command := items.placed(state):
        return command
    if state.status is RunStatus.PAUSED:
        return None
    if state.undoing is not None:
        return undo.following(graph, state.undoing)
    if command := items.next_of(graph, state):
        return command
    if state.afresh or not state.iterations:
        return _visit(graph, state, graph.nodes[graph.start], None)
    return _goes_on(graph, state, now, read)


def _goes_on(graph: Graph, state: State, now: datetime, read: Read) -> msg.AnyCommand | None:
    """What follows for the threads that stand at no step."""
    moving = (t for t in state.tokens if not t.waits and not milestones.holds(graph, state, t))
    if token := next(moving, None):
        return _arrival(graph, state, token, read)
    if meeting := joins.meeting(graph, state, now):
        return deadlines.stamped(graph, _meets(graph, state, meeting), now)
    if (scope := joins.ended(state)) is not None:
        return _harmless(state, msg.CloseScope(scope=scope), f"the threads of {scope}")
    if missed := milestones.missed(graph, state, now):
        return deadlines.stamped(graph, missed, now)
    if not state.live and not state.tokens:
        return _completed(graph, state, read, reason="end")
    return None


def _completed(
    graph: Graph,
    state: State,
    read: Read,
    *,
    reason: str,
    message: str = "",
    thread: msg.Thread | None = None,
) -> msg.FinishRun:
    """The run has reached an end, if what it should give can be made of its variables."""
    try:
        outputs(graph, state.run, state.view(thread or msg.ROOT), read)
    except (expressions.EvaluationError, references.TooLarge) as error:
        return msg.FinishRun(status=RunStatus.FAILED, reason="output_failed", message=str(error))
    return msg.FinishRun(status=RunStatus.COMPLETED, reason=reason, message=message, thread=thread)


def outputs(graph: Graph, run: str, variables: Mapping[str, Json], read: Read) -> dict[str, Json]:
    """What a run gives: its declared outputs, or else its variables as they are at its end.

    What is a variable as a whole is handed on unread, a reference as a reference. The tape of a
    list is its own: without outputs it gives nothing. Raises `EvaluationError` and `TooLarge`.
    """
    if not graph.outputs:
        return {} if graph.listing else remembered.visible(variables)
    names: dict[str, Json] = {**remembered.names(variables, read), "run": {"id": run}}
    scope = Readable(names, read, limit=references.CONDITION_BYTES)
    return {
        name: variables[whole]
        if (whole := _whole(template, variables))
        else template.evaluate(scope)
        for name, template in graph.outputs.items()
    }


def _whole(template: expressions.Template, variables: Mapping[str, Json]) -> str | None:
    """The variable that a template stands for, if it is nothing else."""
    source = template.source
    if not isinstance(source, str) or not source.startswith("$"):
        return None
    # What is recalled goes by the name of its variable, dollar and all.
    return next((name for name in (source, source[1:]) if name in variables), None)


def _meets(
    graph: Graph, state: State, meeting: msg.JoinThreads | msg.AbsorbToken
) -> msg.JoinThreads | msg.AbsorbToken | msg.FinishRun:
    """Threads come together, unless they contradict each other or are too few for good."""
    if isinstance(meeting, msg.AbsorbToken):
        return meeting
    join = graph.nodes[meeting.node].join
    if meeting.because == "timeout" and meeting.short is None and join.demands:
        return msg.FinishRun(
            status=RunStatus.FAILED,
            reason="join_timeout",
            message=(
                f"node {meeting.node} got {len(meeting.joined)} of the threads that it demands "
                f"in the {join.timeout:g} s that it waits for them; give it more time, or an edge "
                "`on: short`"
            ),
        )
    if meeting.because == "starved" and meeting.short is None:
        return msg.FinishRun(
            status=RunStatus.FAILED,
            reason="join_starved",
            message=(
                f"node {meeting.node} got {len(meeting.joined)} of the threads that it demands, "
                "and no more can come; demand fewer, or give it an edge `on: short`"
            ),
        )
    return _harmless(state, meeting, f"the threads that come together at {meeting.node}")


def _harmless(state: State, command: C, threads: str) -> C | msg.FinishRun:
    """A command that merges what threads wrote, unless they wrote the same."""
    try:
        evolve(state, command)
    except overlays.Contradiction as contradiction:
        return msg.FinishRun(
            status=RunStatus.FAILED,
            reason="contradiction",
            message=(
                f"{threads} wrote the variable {contradiction.name!r} more than once; "
                "declare a reducer for it, or let one of them write it"
            ),
        )
    return command


#: Where a step stands when something may follow for it. It is asked of each that is looked at, and of a
#: map's thousand items most are ready.
_DECIDES = frozenset(
    {
        StepStatus.OPENING,
        StepStatus.ANSWERED,
        StepStatus.SUCCEEDED,
        StepStatus.FAILED,
        StepStatus.DUE,
    }
)


def _about(
    graph: Graph, policy: Policy, state: State, step: Step, now: datetime, *, read: Read
) -> msg.AnyCommand | None:
    """What follows for one live step."""
    match step.status:
        case StepStatus.OPENING if step.wait is None:
            return msg.OpenWait(step=step.key, kind=graph.node(step.node).kind)
        case StepStatus.ANSWERED if graph.saves(step.node):
            return msg.SaveResult(step=step.key)
        case StepStatus.SUCCEEDED | StepStatus.ANSWERED:
            return (
                _settles(state, step)
                or regions.withdrawal(graph, state, step)
                or _routes(graph, state, step, read)
            )
        case StepStatus.FAILED:
            return _after_failure(graph, policy, state, step, now, read=read)
        case StepStatus.DUE:
            return _again(graph, step)
        case _:
            return None


def _arrival(graph: Graph, state: State, token: Token, read: Read) -> msg.AnyCommand:
    if graph.edge(token.edge).arrive is Arrive.FINAL:
        message = f"edge {token.edge}"
        return _completed(graph, state, read, reason="final", message=message, thread=token.thread)
    return _visit(graph, state, graph.nodes[token.target], token)


def _visit(graph: Graph, state: State, node: Node, token: Token | None) -> msg.AnyCommand:
    """Stand at `node`: pass it, or ask for a start."""
    if listing.visited(graph, state, node) >= graph.limits.steps:
        return msg.FinishRun(
            status=RunStatus.FAILED,
            reason="step_budget",
            message=f"the run's budget of {graph.limits.steps} steps is spent at node {node.id}",
        )
    iteration = state.iterations.get(node.id, 0) + 1
    key = msg.step_key(node.id, iteration)
    via = token.edge if token else None
    parents = token.parents if token else ()
    thread = token.thread if token else msg.ROOT
    visits = _visits(graph, node.id, token)
    if node.role is Role.CONTROL or node.rules:
        return msg.PassNode(
            step=key,
            node=node.id,
            iteration=iteration,
            via=via,
            parents=parents,
            thread=thread,
            visits=visits,
        )
    return msg.RequestStart(
        step=key,
        node=node.id,
        iteration=iteration,
        attempt=1,
        queue=node.queue,
        via=via,
        parents=parents,
        thread=thread,
        visits=visits,
        waits=node.wait is not None,
    )


def _settles(
    state: State, step: Step, failure: Failure | None = None
) -> msg.SettleItem | msg.SettleUndo | None:
    """The end of a step that stands on no edge; None for the others."""
    if step.of is None:
        return None
    if state.undoing is not None:
        return msg.SettleUndo(step=step.key, failed=failure.message if failure else "")
    return msg.SettleItem(step=step.key, failed=failure is not None)


def _visits(graph: Graph, node: NodeId, token: Token | None) -> Mapping[NodeId, int]:
    """How often this thread has visited each node of the loops it turns in.

    A loop that is entered from outside starts its counts again.
    """
    if token is None:
        counts: dict[NodeId, int] = {}
    else:
        source = graph.edge(token.edge).source
        counts = {
            counted: count
            for counted, count in token.visits.items()
            if node not in graph.loop_of(counted) or source in graph.loop_of(counted)
        }
    if graph.loop_of(node):
        counts[node] = counts.get(node, 0) + 1
    return counts


def _routes(graph: Graph, state: State, step: Step, read: Read) -> msg.TakeEdges | msg.FinishRun:
    """The edges that a succeeded step leaves its tokens on, and why not the others."""
    if graph.listing is not None:
        return listing.routed(graph, graph.listing, state, step)
    node = graph.nodes[step.node]
    scope = _scope(state, step, read)
    try:
        choice = _ruled(node, scope) if node.rules else step.choice
        routed = _routed(graph, step, node, choice, scope)
    except _Unroutable as error:
        return msg.FinishRun(
            status=RunStatus.FAILED, reason=error.reason, message=str(error), step=step.key
        )
    return _left(graph, state, step, routed)


def _ruled(node: Node, scope: Mapping[str, Json]) -> tuple[str, ...]:
    """What a plan of rules chooses: the nodes of the first rule that holds, or none."""
    for place, rule in enumerate(node.rules):
        if rule.when is None:
            return rule.next
        try:
            answer = rule.when.evaluate(scope)
        except (expressions.EvaluationError, references.TooLarge) as error:
            raise _Unroutable(
                "condition_failed",
                f"node {node.id}, rule {place + 1}, when {rule.when.source!r}: {error}",
            ) from error
        if expressions.holds(answer.value):
            return rule.next
    return ()


def _routed(
    graph: Graph, step: Step, node: Node, choice: msg.Choice, scope: Mapping[str, Json]
) -> msg.TakeEdges:
    edges = graph.edges_from(node.id)
    # What people choose routes where edges are labelled with it; elsewhere it is a result.
    asks = node.wait is None or any(edge.label for edge in edges)
    chosen = graph.answering(node.id, choice) if asks else edges
    if chosen is None:
        raise _Unroutable(
            "no_such_choice",
            f"node {node.id} chose {choice!r}, which none of its edges answers to",
        )
    spent = step.visits.get(node.id, 0) >= node.max_iterations
    if spent and chosen and all(graph.leads_back(edge) for edge in chosen):
        # A choice to go round once more is void at the bound: the ways out stand instead. What
        # was chosen is looked at first, so that history says why it was not taken.
        edges = (*chosen, *(edge for edge in edges if edge not in chosen))
        chosen += tuple(e for e in edges if not graph.leads_back(e) and e.ask is None)
    elif isinstance(choice, tuple):
        edges = (*chosen, *(edge for edge in edges if edge not in chosen))
    several = node.route is Route.ALL or isinstance(choice, tuple)
    taken: list[msg.Taken] = []
    untaken: list[msg.Untaken] = []
    for edge in edges:
        when = edge.when.source if edge.when else None
        if edge not in chosen:
            untaken.append(msg.Untaken(edge=edge.id, why="choice", when=when))
            continue
        if taken and not several:
            untaken.append(msg.Untaken(edge=edge.id, why="earlier", when=when))
            continue
        holds, saw = _holds(edge, scope)
        if not holds:
            untaken.append(msg.Untaken(edge=edge.id, why="condition", when=when, saw=saw))
        elif spent and graph.leads_back(edge):
            bound: dict[str, Json] = {"max_iterations": node.max_iterations}
            untaken.append(
                msg.Untaken(edge=edge.id, why="max_iterations", when=when, saw={**saw, **bound})
            )
        else:
            taken.append(_taken(edge, when, saw))
    return msg.TakeEdges(step=step.key, choice=choice, taken=tuple(taken), untaken=tuple(untaken))


def _holds(edge: Edge, scope: Mapping[str, Json]) -> tuple[bool, Mapping[str, Json]]:
    """Whether an edge's condition holds, and the values that this rests on."""
    if edge.when is None:
        return True, {}
    try:
        answer = edge.when.evaluate(scope)
    except (expressions.EvaluationError, references.TooLarge) as error:
        raise _Unroutable(
            "condition_failed", f"edge {edge.id}, when {edge.when.source!r}: {error}"
        ) from error
    return expressions.holds(answer.value), {
        name: _seen(value) for name, value in answer.saw.items()
    }


def _taken(edge: Edge, when: str | None, saw: Mapping[str, Json]) -> msg.Taken:
    waits = edge.arrive is Arrive.JOIN
    return msg.Taken(edge=edge.id, target=edge.target, when=when, saw=saw, waits=waits)


def _left(
    graph: Graph, state: State, step: Step, routed: msg.TakeEdges
) -> msg.TakeEdges | msg.FinishRun:
    """What is left of a settled step: a scope is opened where its thread forks.

    A scope whose only thread forks again is replaced, so that depth is bounded by threads that
    live and not by laps.
    """
    forks = len(routed.taken) > 1 or (bool(routed.taken) and step.node in graph.forks)
    if not forks:
        return routed
    opened = replace(routed, opens=step.key)
    if not joins.is_alone(state, step.thread):
        return opened
    closing = replace(opened, closes=step.thread[-1][0])
    return _harmless(state, closing, f"the threads of {closing.closes}")


class _Unroutable(Exception):
    """A step's edges cannot be decided."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _scope(state: State, step: Step, read: Read) -> Readable:
    """What the names of an expression stand for at a step that has its result."""
    run: dict[str, Json] = {"id": state.run, "steps": state.visited}
    result: Json = plain(step.result) if step.result is not None else None
    names = remembered.names(state.view(step.thread), read)
    known: dict[str, Json] = {**names, "result": result, "run": run}
    return Readable(known, read, limit=references.CONDITION_BYTES)


def _seen(value: Json) -> Json:
    if size(value) <= SEEN_BYTES:
        return value
    return {"sha256": digest(value), "bytes": len(canonical(value).encode())}


def _after_failure(
    graph: Graph, policy: Policy, state: State, step: Step, now: datetime, *, read: Read
) -> msg.AnyCommand:
    """Try again, or take the way for failures, or let the run fail with the step's reason."""
    failure = step.failure
    assert failure is not None
    retry = graph.node(step.node).retry
    if failure.reason in LOST_REASONS:
        again, delay = step.lost <= policy.lost_attempts, _recovery(step.lost)
    else:
        again = (
            not failure.terminal
            and step.errors < retry.attempts
            and (not retry.on or failure.reason in retry.on)
        )
        delay = backoff(retry, step.errors, f"{state.run}/{step.key}")
    if again:
        return msg.RetryStep(
            step=step.key,
            attempt=step.attempt + 1,
            not_before=now + timedelta(seconds=delay),
            reason=failure.reason,
            # Else only its wake brings it back: which steps are at hand must not decide.
            at_once=delay == 0 and state.status is RunStatus.RUNNING,
        )
    if settled := _settles(state, step, failure):
        return settled
    return _on_error(graph, state, step, failure, read) or msg.FinishRun(
        status=RunStatus.FAILED, reason=failure.reason, message=failure.message, step=step.key
    )


def _on_error(
    graph: Graph, state: State, step: Step, failure: Failure, read: Read
) -> msg.TakeEdges | msg.FinishRun | None:
    """The way that a step takes which failed for good, if the graph knows one for its reason."""
    if graph.listing is not None:
        return listing.passed_over(graph, graph.listing, state, step, failure)
    told: Json = {"reason": failure.reason, "message": failure.message}
    scope = _scope(state, step, read).beside({"result": told})
    spent = step.visits.get(step.node, 0) >= graph.nodes[step.node].max_iterations
    for edge in graph.edges_from(step.node, on="error"):
        if edge.reasons and failure.reason not in edge.reasons:
            continue
        if spent and graph.leads_back(edge):
            continue
        try:
            holds, saw = _holds(edge, scope)
        except _Unroutable as error:
            return msg.FinishRun(
                status=RunStatus.FAILED, reason=error.reason, message=str(error), step=step.key
            )
        if holds:
            when = edge.when.source if edge.when else None
            routed = msg.TakeEdges(step=step.key, taken=(_taken(edge, when, saw),))
            return _left(graph, state, step, routed)
    return None


def _recovery(lost: int) -> float:
    """Seconds until a lost attempt is made up for: at once, then ever later.

    What takes workers away, a host without memory or a database that comes and goes, takes a
    while to end.
    """
    return 0.0 if lost <= 1 else 2.0 * 4.0 ** min(lost - 2, 4)


def backoff(retry: Retry, errors: int, seed: str) -> float:
    """Seconds to wait after the given number of errors.

    The jitter is drawn from the step's name, so that a replay waits as long.
    """
    delay = min(retry.backoff * retry.factor ** min(errors - 1, 64), retry.max)
    drawn = hashlib.sha256(f"{seed}/{errors}".encode()).digest()
    share = int.from_bytes(drawn[:4], "big") / 2**32
    return delay * (1 + retry.jitter * (2 * share - 1))


def _again(graph: Graph, step: Step) -> msg.RequestStart:
    return msg.RequestStart(
        step=step.key,
        node=step.node,
        iteration=step.iteration,
        attempt=step.attempt,
        queue=step.queue,
        parents=step.parents,
        thread=step.thread,
        visits=step.visits,
        waits=_waits(graph.node(step.node), step),
        of=step.of,
        index=step.index,
    )


def _waits(node: Node, step: Step) -> bool:
    """Whether an attempt waits. A map whose items are gathered has only them to put together."""
    return node.wait is not None and (step.index is None or not isinstance(node.wait, Map))
