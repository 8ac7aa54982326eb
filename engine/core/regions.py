"""Regions: nodes at which a step that succeeds ends whatever else is there.

Which threads these are is a question to the counts of the scopes and to the tokens, never to
the steps themselves: those that a turn has not at hand are found by their node.
"""

from __future__ import annotations

from engine.core import messages as msg
from engine.core.graph import Graph
from engine.core.scopes import ROOT_SCOPE
from engine.core.state import State, Step


def withdrawal(graph: Graph, state: State, step: Step) -> msg.CancelRegion | None:
    """What a step that succeeded withdraws; None when nobody is where it cancels."""
    nodes = graph.nodes[step.node].cancels
    if not nodes:
        return None
    live = state.scopes[ROOT_SCOPE].live
    steps = {node: live[node] for node in nodes if node in live}
    tokens = tuple((token.edge, token.thread) for token in state.tokens if token.target in nodes)
    if not steps and not tokens:
        return None
    return msg.CancelRegion(step=step.key, nodes=nodes, steps=steps, tokens=tokens)
