"""When threads come together.

A token on a join edge waits. It belongs to the innermost open scope whose fork can reach
every join edge of its target; the tokens of one scope that wait at one node are a *group*.
Without a demand a group is taken up when nobody else can come: every other thread of the
scope, and of the scopes within it, waits at the same join or stands where no way leads to it
that does not pass it. With a demand it is taken up as soon as the demand is met, and what
did not make it in time is surplus; a group whose demand cannot be met any more is starved,
unless it is surplus that was kept for a next time, which ends there: it is absorbed.
A group that has waited as long as its join lets it is taken up as it is. If nobody in a scope
moves and no group may be taken up, the one that has waited longest is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from engine.core import deadlines
from engine.core import messages as msg
from engine.core.graph import Arrive, Edge, Graph, NodeId, Surplus
from engine.core.scopes import ROOT_SCOPE, around, branch_in
from engine.core.state import State, Token


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Tokens of one scope that wait at one node, oldest first."""

    node: NodeId
    scope: str
    tokens: tuple[Token, ...]


def meeting(graph: Graph, state: State, now: datetime) -> msg.JoinThreads | msg.AbsorbToken | None:
    """The threads that come together next, if any may; every other token is held by now."""
    found = groups(graph, state)
    for group in found:
        if (late := _late(graph, state, group)) is not None:
            return msg.AbsorbToken(edge=late.edge, thread=late.thread)
        if (met := _met(graph, state, group)) is not None:
            return _join(graph, state, group, met, because="demand")
        if _nobody_comes(graph, state, group):
            return _over(graph, state, group, because="last")
        until = deadlines.earliest(graph, group.tokens)
        if until is not None and until <= now:
            return _join(graph, state, group, group.tokens, because="timeout")
    held = {name for token in state.tokens if not token.waits for name in around(token.thread)}
    for group in found:
        if not state.scopes[group.scope].alive and group.scope not in held:
            return _over(graph, state, group, because="quiescence")
    return None


def ended(state: State) -> str | None:
    """A scope of which no thread is left, innermost first."""
    busy = {name for token in state.tokens for name in around(token.thread)}
    over = [
        name
        for name, scope in state.scopes.items()
        if name != ROOT_SCOPE and not scope.alive and name not in busy
    ]
    return max(over, key=lambda name: (len(state.scopes[name].parent), name), default=None)


def is_alone(state: State, thread: msg.Thread) -> bool:
    """Whether a live step is all that its innermost scope still holds."""
    if not thread:
        return False
    name, _ = thread[-1]
    return state.scopes[name].alive == 1 and not any(
        name in around(token.thread) for token in state.tokens
    )


def groups(graph: Graph, state: State) -> Sequence[Group]:
    """The tokens that wait, those of one scope and node together."""
    found: dict[tuple[NodeId, str], list[Token]] = {}
    for token in state.tokens:
        if not token.waits:
            continue
        scope = _scope_of(graph, state, token)
        found.setdefault((token.target, scope), []).append(token)
    return [
        Group(node=node, scope=scope, tokens=tuple(tokens))
        for (node, scope), tokens in found.items()
    ]


def _scope_of(graph: Graph, state: State, token: Token) -> str:
    forks = graph.ways(token.target).forks
    for name, _ in reversed(token.thread):
        if state.scopes[name].fork in forks:
            return name
    return ROOT_SCOPE


def _late(graph: Graph, state: State, group: Group) -> Token | None:
    """A token at a join that was taken up without it."""
    fired = state.scopes[group.scope].fired.get(group.node)
    if fired is None or graph.nodes[group.node].join.surplus is Surplus.KEEP:
        return None
    return next((t for t in group.tokens if branch_in(t.thread, group.scope) < fired), None)


def _met(graph: Graph, state: State, group: Group) -> tuple[Token, ...] | None:
    """The tokens that meet the demand of a join; None when it has none, or they do not yet."""
    join = graph.nodes[group.node].join
    if join.all:
        first: Mapping[str, Token] = {token.edge: token for token in reversed(group.tokens)}
        wanted = [edge.id for edge in graph.joining(group.node)]
        met = all(edge in first for edge in wanted)
        return tuple(first[edge] for edge in wanted) if met else None
    if join.count is not None:
        wanted_count = join.count
    elif join.share is not None:
        wanted_count = max(1, math.ceil(join.share * state.scopes[group.scope].branches))
    else:
        return None
    return group.tokens[:wanted_count] if len(group.tokens) >= wanted_count else None


def coming(graph: Graph, state: State, group: Group) -> Iterator[NodeId]:
    """The nodes at which others of its scope stand who may still come to a group."""
    before = graph.ways(group.node).before
    yield from (node for node in state.scopes[group.scope].live if node in before)
    for token in state.tokens:
        if (
            token.target in before
            and token not in group.tokens
            and group.scope in around(token.thread)
        ):
            yield token.target


def _nobody_comes(graph: Graph, state: State, group: Group) -> bool:
    return next(coming(graph, state, group), None) is None


def _over(
    graph: Graph, state: State, group: Group, *, because: str
) -> msg.JoinThreads | msg.AbsorbToken:
    """Take up all that there are, or say that they are too few.

    What was kept for a next time that cannot come any more ends where it is.
    """
    join = graph.nodes[group.node].join
    if not join.demands:
        return _join(graph, state, group, group.tokens, because=because)
    if join.surplus is Surplus.KEEP and group.node in state.scopes[group.scope].fired:
        kept = group.tokens[0]
        return msg.AbsorbToken(edge=kept.edge, thread=kept.thread, because="kept")
    return _join(graph, state, group, group.tokens, because="starved")


def _join(
    graph: Graph, state: State, group: Group, tokens: tuple[Token, ...], *, because: str
) -> msg.JoinThreads:
    scope = state.scopes[group.scope]
    others = bool(scope.alive) or any(
        group.scope in around(token.thread) for token in state.tokens if token not in tokens
    )
    surplus = graph.nodes[group.node].join.surplus
    enough = because in {"demand", "timeout"}
    cancels = enough and others and surplus is Surplus.CANCEL
    closes = group.scope != ROOT_SCOPE and (cancels or not others)
    if closes or group.scope == ROOT_SCOPE:
        thread = scope.parent
    else:
        thread = (*scope.parent, (group.scope, scope.branches))
    short = graph.short(group.node) if because in {"starved", "timeout"} else None
    return msg.JoinThreads(
        node=group.node,
        scope=group.scope,
        joined=tuple((token.edge, token.thread) for token in tokens),
        thread=thread,
        closes=closes,
        cancels=cancels,
        keeps=surplus is Surplus.KEEP,
        because=because,
        short=None if short is None else _by(short),
    )


def _by(short: Edge) -> msg.Taken:
    waits = short.arrive is Arrive.JOIN
    return msg.Taken(edge=short.id, target=short.target, waits=waits)
