"""Nodes that call one tool, by the same durable path as code that calls it."""

from __future__ import annotations

from engine import waiting
from engine.core.values import Json
from engine.runs.attempts import Failed, Outcome, Succeeded
from workers.kinds.execution import Execution, saved

#: Reasons that the same call will meet again.
FOR_GOOD = frozenset(
    {
        *("forbidden", "rejected", "arguments_refused", "no_such_tool", "no_such_service"),
        *("not_granted", "blocked", "client_error"),
        *("invalid", "over_quota", "not_found", "conflict"),
    }
)


def run(execution: Execution) -> Outcome:
    """Call the node's tool with its inputs as named arguments; its answer is the result."""
    node, scope = execution.node, execution.scope()
    return answered(execution, waiting.tool(node, scope), waiting.arguments(node, scope))


def answered(execution: Execution, name: str, given: dict[str, Json]) -> Outcome:
    """What comes of a node that is one call."""
    answer = execution.call(name, [], given)
    if execution.ended is not None:
        return execution.ended
    if not answer.ok:
        terminal = answer.reason in FOR_GOOD
        return Failed(reason=answer.reason, message=answer.message, terminal=terminal)
    return saved(execution, Succeeded(result=answer.value))
