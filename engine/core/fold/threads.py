"""Folding what becomes of threads: where they stand, fork, come together and end."""

from __future__ import annotations

from typing import TypeAlias

from engine.core import messages as msg
from engine.core import rollback, scopes
from engine.core.fold.maps import without_items
from engine.core.graph import EdgeId, NodeId
from engine.core.records import replace
from engine.core.scopes import ROOT_SCOPE, Scope
from engine.core.state import State, Step, Token
from engine.core.transitions import StepStatus

_ThreadCommand: TypeAlias = (
    msg.JoinThreads
    | msg.AbsorbToken
    | msg.CloseScope
    | msg.MissMilestone
    | msg.CancelRegion
    | msg.RollBack
)


def passed(state: State, command: msg.PassNode) -> State:
    """The coordinator stands at a control node, and has nothing to do there."""
    token = _arriving(state, command)
    step = Step(
        key=command.step,
        node=command.node,
        iteration=command.iteration,
        status=StepStatus.SUCCEEDED,
        parents=command.parents,
        thread=command.thread,
        visits=command.visits,
        holds=token.holds if token else (),
    )
    return _arrived(state, step, command.via)


def requested(state: State, command: msg.RequestStart) -> State:
    """A step asks for a start, for the first time or again."""
    known = state.steps.get(command.step)
    if known is not None:
        again = replace(known.to(StepStatus.REQUESTED), opens=command.waits, awaits=None)
        return standing(state, again)
    token = _arriving(state, command)
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
    steps, visited = {**state.steps, step.key: step}, state.visited + 1
    if of in state.maps:
        items = state.maps[of]
        items = replace(items, next=items.next + 1, running=items.running + 1)
        return replace(state, steps=steps, visited=visited, maps={**state.maps, of: items})
    assert state.undoing is not None
    undoing = replace(state.undoing, found=None, running=True)
    return replace(state, steps=steps, visited=visited, undoing=undoing)


def _arrived(state: State, step: Step, via: EdgeId | None) -> State:
    """A new step stands where its token led, and the token is spent."""
    return replace(
        state,
        steps={**state.steps, step.key: step},
        tokens=state.tokens
        if via is None
        else _without(state.tokens, via, step.thread, waits=False),
        visited=state.visited + 1,
        afresh=False,
        iterations={**state.iterations, step.node: step.iteration},
        scopes=scopes.counted(state.scopes, step.thread, step.node, +1),
    )


def settled(state: State, step: Step, command: msg.TakeEdges) -> State:
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
            since=command.since,
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


def threaded(state: State, command: _ThreadCommand) -> State:
    """Fold what becomes of threads between steps."""
    match command:
        case msg.JoinThreads():
            return _joined(state, command)
        case msg.AbsorbToken(edge=edge, thread=thread):
            return replace(state, tokens=_without(state.tokens, edge, thread, waits=True))
        case msg.CloseScope(scope=scope):
            left, variables = scopes.closed(state.scopes, state.variables, scope, state.reducers)
            return replace(state, scopes=left, variables=variables)
        case msg.MissMilestone():
            return _missed(state, command)
        case msg.RollBack():
            return rollback.rolled(state, command)
        case _:
            region: msg.CancelRegion = command  # nothing else is left
            return _withdrawn(state, region.nodes)


def _withdrawn(state: State, nodes: tuple[NodeId, ...]) -> State:
    """Nobody is at some nodes any more, waits there or is on the way to them."""
    for key in [key for key, items in state.maps.items() if items.node in nodes]:
        state = without_items(state, key)
    return replace(
        state,
        scopes=scopes.withdrawn(state.scopes, nodes),
        tokens=tuple(token for token in state.tokens if token.target not in nodes),
        steps={key: step for key, step in state.steps.items() if step.node not in nodes},
    )


def _joined(state: State, command: msg.JoinThreads) -> State:
    """Threads end in one that goes on; what they wrote is its own from now on."""
    taken = [
        next(t for t in state.tokens if t.waits and (t.edge, t.thread) == (edge, thread))
        for edge, thread in command.joined
    ]
    tokens = state.tokens
    for edge, thread in command.joined:
        tokens = _without(tokens, edge, thread, waits=True)
    threads = [thread for _, thread in command.joined]
    found, patch = scopes.gathered(state.scopes, command.scope, threads, state.reducers)
    variables, steps, maps, thread = state.variables, state.steps, state.maps, command.thread
    if command.scope == ROOT_SCOPE and command.keeps:
        # The root has one branch, so nobody is late there; that it came to pass is all to know.
        root = found[ROOT_SCOPE]
        found[ROOT_SCOPE] = replace(root, fired={**root.fired, command.node: root.branches})
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
        since=command.since,
    )
    return replace(
        state, tokens=(*tokens, token), steps=steps, maps=maps, scopes=found, variables=variables
    )


def _missed(state: State, command: msg.MissMilestone) -> State:
    """A thread that waited in vain goes on by another edge; it has not visited the node."""
    here = (command.edge, command.thread)
    token = next(t for t in state.tokens if not t.waits and (t.edge, t.thread) == here)
    onward = replace(
        token,
        edge=command.short.edge,
        target=command.short.target,
        waits=command.short.waits,
        since=command.since,
    )
    left = _without(state.tokens, *here, waits=False)
    return replace(state, tokens=(*left, onward))


def _without(
    tokens: tuple[Token, ...], edge: EdgeId, thread: msg.Thread, *, waits: bool
) -> tuple[Token, ...]:
    """The tokens but the first on an edge of a thread that waits for others, or does not."""
    for place, token in enumerate(tokens):
        if (token.edge, token.thread, token.waits) == (edge, thread, waits):
            return tokens[:place] + tokens[place + 1 :]
    return tokens


def standing(state: State, step: Step) -> State:
    """A step as it stands now."""
    return replace(state, steps={**state.steps, step.key: step})


def _arriving(state: State, command: msg.PassNode | msg.RequestStart) -> Token | None:
    """The token that a new step consumes; None at the start of the run."""
    here = (command.via, command.thread)
    return next((t for t in state.tokens if not t.waits and (t.edge, t.thread) == here), None)
