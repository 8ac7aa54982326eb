"""What is not waited for for ever: when a token that waits has waited long enough.

A token that comes to a join with a timeout, or to a milestone that expires, carries the moment
at which it began to wait; when its time is over follows from that and the graph. Nothing here starts a clock: a turn leaves the
earliest of these moments in the run's row, and the sweeper reports that it has come (`Ticked`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from engine.core import messages as msg
from engine.core.graph import Graph, NodeId
from engine.core.records import replace
from engine.core.state import State, Token
from engine.core.transitions import RunStatus


def deadline(graph: Graph, token: Token) -> datetime | None:
    """When a token that stands still need not be waited for any longer; None: never."""
    limit = _limit(graph, token.target, waits=token.waits)
    if limit is None or token.since is None:
        return None
    return token.since + timedelta(seconds=limit)


def earliest(graph: Graph, tokens: Iterable[Token]) -> datetime | None:
    """When the first of some tokens need not be waited for any longer; None: never."""
    found = (deadline(graph, token) for token in tokens)
    return min((moment for moment in found if moment is not None), default=None)


def next_wake(graph: Graph, state: State) -> datetime | None:
    """When somebody must look at the run although nothing was reported; None: not for that.

    A paused run is not looked at. Its time runs on, and what is over then is seen when it is
    resumed.
    """
    return earliest(graph, state.tokens) if state.status is RunStatus.RUNNING else None


def stamped(graph: Graph, command: msg.AnyCommand, now: datetime) -> msg.AnyCommand:
    """A command that says since when the tokens wait that it leaves, where this will matter."""
    match command:
        case msg.TakeEdges(taken=taken) if any(
            _limit(graph, one.target, waits=one.waits) is not None for one in taken
        ):
            return replace(command, since=now)
        case msg.JoinThreads(node=node, short=None) if _limit(graph, node, waits=False) is not None:
            return replace(command, since=now)
        case (
            msg.JoinThreads(short=msg.Taken(target=target, waits=waits))
            | msg.MissMilestone(short=msg.Taken(target=target, waits=waits))
        ) if _limit(graph, target, waits=waits) is not None:
            return replace(command, since=now)
        case _:
            return command


def _limit(graph: Graph, node: NodeId, *, waits: bool) -> float | None:
    """Seconds that a token may wait at a node; None: as long as it takes."""
    found = graph.nodes[node]
    if waits:
        return found.join.timeout
    return None if found.at is None else found.expires
