"""Deciding in a step list: which step comes next, and what a failed one means.

Each step leads to one node, which is passed at once and leads to the step that the tape's
index names. After every step, whatever it did to the index, one is added to it. So the cost
of going on does not depend on how long the list is, nor on how often its steps were run, and
all there is to jumps and repetitions is what steps write on the tape.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.core import messages as msg
from engine.core import tape
from engine.core.graph import EdgeId, Graph, Listing, Node
from engine.core.state import Failure, State, Step
from engine.core.transitions import RunStatus
from engine.core.values import Json

SKIPPED = tape.ended(0, "skipped")


def routed(
    graph: Graph, listing: Listing, state: State, step: Step
) -> msg.TakeEdges | msg.FinishRun:
    """What follows a step that was carried out, or the node between two of them."""
    if step.node == listing.index:
        return _picked(graph, listing, state, step)
    if step.result is None:
        return _onward(graph, listing, state, step, {tape.STATUS: SKIPPED})
    status = state.view(step.thread).get(tape.STATUS)
    if listing.return_on_fail and tape.failed(status):
        assert isinstance(status, dict)
        return msg.FinishRun(
            status=RunStatus.FAILED,
            reason="status",
            message=str(status.get("reason") or f"the status of {step.key} is {status['value']}"),
            step=step.key,
        )
    return _onward(graph, listing, state, step, {})


def passed_over(
    graph: Graph, listing: Listing, state: State, step: Step, failure: Failure
) -> msg.TakeEdges | msg.FinishRun | None:
    """How a run goes on after a step that failed for good, if it does."""
    if listing.return_on_fail:
        return None
    status = tape.ended(1, failure.message or failure.reason)
    return _onward(graph, listing, state, step, {tape.STATUS: status})


def visited(graph: Graph, state: State, node: Node) -> int:
    """Visits so far that count against the budget; what lies between the steps of a list is free."""
    if graph.listing is None:
        return state.visited
    if node.id == graph.listing.index:
        return 0
    return state.visited - state.iterations.get(graph.listing.index, 0)


def _picked(
    graph: Graph, listing: Listing, state: State, step: Step
) -> msg.TakeEdges | msg.FinishRun:
    index = tape.index(state.view(step.thread))
    if index is None:
        return _lost(step)
    if not 0 <= index < len(listing.steps):
        return msg.TakeEdges(step=step.key)
    edge = graph.edge(EdgeId(f"{step.node}->{listing.steps[index]}"))
    taken = msg.Taken(edge=edge.id, target=edge.target, saw={tape.INDEX: index})
    return msg.TakeEdges(step=step.key, taken=(taken,))


def _onward(
    graph: Graph, listing: Listing, state: State, step: Step, writes: Mapping[str, Json]
) -> msg.TakeEdges | msg.FinishRun:
    index = tape.index(state.view(step.thread))
    if index is None:
        return _lost(step)
    edge = graph.edge(EdgeId(f"{step.node}->{listing.index}"))
    return msg.TakeEdges(
        step=step.key,
        choice=step.choice,
        taken=(msg.Taken(edge=edge.id, target=edge.target),),
        writes={**writes, tape.INDEX: tape.after(index)},
    )


def _lost(step: Step) -> msg.FinishRun:
    return msg.FinishRun(
        status=RunStatus.FAILED,
        reason="no_step_index",
        message=f"after {step.key} the tape's {tape.INDEX} is no integer, so no step comes next",
        step=step.key,
    )
