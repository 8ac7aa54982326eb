"""The coordinator's mind: given a graph and a run's state, what comes next.

Nothing here reads a clock, a database or a random number. `decide` names the one command
that follows from a state; `advance` folds events one by one and, after each, decides until
nothing follows. A turn is only a commit boundary, so for any split of the events

    advance(s, [a, b]) == advance(advance(s, [a]), [b])

and history alone determines every decision, however its events were batched.

The core never starts a step by itself. It asks (`RequestStart`), and the shell answers with
an event (`Admitted`, `Refused`, `Deferred`) that is recorded like any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from engine.core import expressions
from engine.core import messages as msg
from engine.core.graph import Arrive, Graph, Node, NodeId, Retry, Role
from engine.core.policy import Policy
from engine.core.state import LOST_REASONS, State, Step, Token, evolve
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import Json, canonical, digest, plain, size

#: The rules that decide. A change that would alter a decision takes a new number, and the
#: old branch stays until no live run was started under it.
RULES = 1

#: A value that a decision saw is recorded as it is up to this many bytes, else by digest.
SEEN_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a turn came to: the new state, and the lines of history that led there."""

    state: State
    entries: tuple[msg.Entry, ...]


def advance(graph: Graph, policy: Policy, state: State, events: Iterable[msg.AnyEvent]) -> Turn:
    """Fold each event and decide to a fixed point before the next.

    The fixed point is always reached: every decision but the last of a turn settles a step
    or visits a node, and visits are bounded by the graph's step budget.
    """
    entries: list[msg.Entry] = []
    for event in events:
        state = evolve(state, event)
        entries.append(msg.Entry(at=event.at, record=event))
        while (command := decide(graph, policy, state, event.at)) is not None:
            state = evolve(state, command)
            entries.append(msg.Entry(at=event.at, record=command))
    return Turn(state=state, entries=tuple(entries))


def decide(graph: Graph, policy: Policy, state: State, now: datetime) -> msg.AnyCommand | None:
    """The next command that follows from `state` at `now`; None when it is settled."""
    if state.status is not RunStatus.RUNNING:
        return None
    if state.stopping is not None:
        return msg.FinishRun(
            status=state.stopping.status,
            reason=state.stopping.reason,
            message=state.stopping.message,
        )
    for step in state.steps.values():
        if command := _about(graph, policy, state, step, now):
            return command
    if not state.iterations:
        return _visit(graph, state, graph.nodes[graph.start], None)
    if state.tokens:
        return _arrival(graph, state, state.tokens[0])
    if not state.live:
        return msg.FinishRun(status=RunStatus.COMPLETED, reason="end")
    return None


def _about(
    graph: Graph, policy: Policy, state: State, step: Step, now: datetime
) -> msg.AnyCommand | None:
    """What follows for one live step."""
    match step.status:
        case StepStatus.SUCCEEDED:
            return _routes(graph, state, step)
        case StepStatus.FAILED:
            return _after_failure(graph, policy, state, step, now)
        case StepStatus.RETRYING if step.wake is not None and step.wake <= now:
            return _again(step)
        case StepStatus.DUE:
            return _again(step)
        case _:
            return None


def _arrival(graph: Graph, state: State, token: Token) -> msg.AnyCommand:
    if graph.edge(token.edge).arrive is Arrive.FINAL:
        return msg.FinishRun(
            status=RunStatus.COMPLETED, reason="final", message=f"edge {token.edge}"
        )
    return _visit(graph, state, graph.nodes[token.target], token)


def _visit(graph: Graph, state: State, node: Node, token: Token | None) -> msg.AnyCommand:
    """Stand at `node`: pass it, or ask for a start."""
    if state.visited >= graph.limits.steps:
        return msg.FinishRun(
            status=RunStatus.FAILED,
            reason="step_budget",
            message=f"the run's budget of {graph.limits.steps} steps is spent at node {node.id}",
        )
    iteration = state.iterations.get(node.id, 0) + 1
    key = msg.step_key(node.id, iteration)
    via = token.edge if token else None
    thread = token.thread if token else msg.ROOT
    visits = _visits(graph, node.id, token)
    if node.role is Role.CONTROL:
        return msg.PassNode(
            step=key, node=node.id, iteration=iteration, via=via, thread=thread, visits=visits
        )
    return msg.RequestStart(
        step=key,
        node=node.id,
        iteration=iteration,
        attempt=1,
        queue=node.queue,
        via=via,
        thread=thread,
        visits=visits,
    )


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


def _routes(graph: Graph, state: State, step: Step) -> msg.TakeEdges | msg.FinishRun:
    """The edges that a succeeded step leaves its token on, and why not the others."""
    node = graph.nodes[step.node]
    edges = graph.edges_from(node.id)
    chosen = graph.answering(node.id, step.choice)
    if chosen is None:
        return msg.FinishRun(
            status=RunStatus.FAILED,
            reason="no_such_choice",
            message=f"node {node.id} chose {step.choice!r}, which none of its edges answers to",
            step=step.key,
        )
    spent = step.visits.get(node.id, 0) >= node.max_iterations
    if spent and all(graph.leads_back(edge) for edge in chosen):
        # A choice to go round once more is void at the bound: the ways out stand instead. What
        # was chosen is looked at first, so that history says why it was not taken.
        edges = (*chosen, *(edge for edge in edges if edge not in chosen))
        chosen += tuple(e for e in edges if not graph.leads_back(e) and e.ask is None)
    scope = _scope(state, step)
    taken: list[msg.Taken] = []
    untaken: list[msg.Untaken] = []
    for edge in edges:
        when = edge.when.source if edge.when else None
        if taken:
            untaken.append(msg.Untaken(edge=edge.id, why="earlier", when=when))
            continue
        if edge not in chosen:
            untaken.append(msg.Untaken(edge=edge.id, why="choice", when=when))
            continue
        saw: Mapping[str, Json] = {}
        if edge.when is not None:
            try:
                answer = edge.when.evaluate(scope)
            except expressions.EvaluationError as error:
                return msg.FinishRun(
                    status=RunStatus.FAILED,
                    reason="condition_failed",
                    message=f"edge {edge.id}, when {edge.when.source!r}: {error}",
                    step=step.key,
                )
            saw = {name: _seen(value) for name, value in answer.saw.items()}
            if not expressions.holds(answer.value):
                untaken.append(msg.Untaken(edge=edge.id, why="condition", when=when, saw=saw))
                continue
        if spent and graph.leads_back(edge):
            bound: dict[str, Json] = {"max_iterations": node.max_iterations}
            untaken.append(
                msg.Untaken(edge=edge.id, why="max_iterations", when=when, saw={**saw, **bound})
            )
            continue
        taken.append(msg.Taken(edge=edge.id, target=edge.target, when=when, saw=saw))
    return msg.TakeEdges(
        step=step.key, choice=step.choice, taken=tuple(taken), untaken=tuple(untaken)
    )


def _scope(state: State, step: Step) -> Mapping[str, Json]:
    """What the names of an expression stand for at a step that has its result."""
    run: dict[str, Json] = {"id": state.run, "steps": state.visited}
    result: Json = plain(step.result) if step.result is not None else None
    return {**state.variables, "result": result, "run": run}


def _seen(value: Json) -> Json:
    if size(value) <= SEEN_BYTES:
        return value
    return {"sha256": digest(value), "bytes": len(canonical(value).encode())}


def _after_failure(
    graph: Graph, policy: Policy, state: State, step: Step, now: datetime
) -> msg.RetryStep | msg.FinishRun:
    """Try again, or let the run fail with the step's reason."""
    failure = step.failure
    assert failure is not None
    retry = graph.nodes[step.node].retry
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
        )
    return msg.FinishRun(
        status=RunStatus.FAILED, reason=failure.reason, message=failure.message, step=step.key
    )


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


def _again(step: Step) -> msg.RequestStart:
    return msg.RequestStart(
        step=step.key,
        node=step.node,
        iteration=step.iteration,
        attempt=step.attempt,
        queue=step.queue,
        thread=step.thread,
        visits=step.visits,
    )
