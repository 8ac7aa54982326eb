"""Milestones: a token waits until some other thread of the run stands at a node.

It waits in the run's head, like one that waits at a join, and whether somebody stands at the
node is a question to the counts of the scopes. Whoever waits here can still move on, so joins
after it wait for it. A milestone is *missed* when it expires, or when nobody moves any more in
the whole run: nothing is live, no join will go on for its time. Of several that wait so, one
with another way goes first, else the one that has waited longest.
"""

from __future__ import annotations

from datetime import datetime

from engine.core import deadlines
from engine.core import messages as msg
from engine.core.graph import Arrive, Graph
from engine.core.scopes import ROOT_SCOPE
from engine.core.state import State, Token
from engine.core.transitions import RunStatus


def holds(graph: Graph, state: State, token: Token) -> bool:
    """Whether a token that no join keeps stands before a milestone that is not reached."""
    at = graph.nodes[token.target].at
    if at is None or token.waits or graph.edge(token.edge).arrive is Arrive.FINAL:
        return False
    return at not in state.scopes[ROOT_SCOPE].live


def missed(graph: Graph, state: State, now: datetime) -> msg.MissMilestone | msg.FinishRun | None:
    """What becomes of the token that has waited in vain, if one has; nothing else moves by now."""
    held = [token for token in state.tokens if not token.waits]
    for token in held:
        until = deadlines.deadline(graph, token)
        if until is not None and until <= now:
            return _missed(graph, token, because="expired")
    if not held or not _is_quiet(graph, state):
        return None
    others = (token for token in held if graph.short(token.target) is not None)
    return _missed(graph, next(others, held[0]), because="quiescence")


def _is_quiet(graph: Graph, state: State) -> bool:
    """Whether nobody will come anywhere any more."""
    joining = [token for token in state.tokens if token.waits]
    return not state.live and deadlines.earliest(graph, joining) is None


def _missed(graph: Graph, token: Token, *, because: str) -> msg.MissMilestone | msg.FinishRun:
    node = graph.nodes[token.target]
    short = graph.short(node.id)
    if short is not None:
        waits = short.arrive is Arrive.JOIN
        return msg.MissMilestone(
            node=node.id,
            edge=token.edge,
            thread=token.thread,
            because=because,
            short=msg.Taken(edge=short.id, target=short.target, waits=waits),
        )
    why = "nobody can come there any more"
    if because == "expired":
        why = f"nobody came there in {node.expires:g} s"
    return msg.FinishRun(
        status=RunStatus.FAILED,
        reason="milestone_missed",
        message=(
            f"node {node.id} waited for somebody to be at {node.at}, and {why}; "
            "give it an edge `on: short`"
        ),
    )
