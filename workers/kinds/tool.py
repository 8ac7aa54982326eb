"""Nodes that call one tool, by the same durable path as code that calls it."""

from __future__ import annotations

from engine import waiting
from engine.runs.attempts import Failed, Outcome, Succeeded
from workers.kinds.execution import Execution, saved

#: Reasons that the same call will meet again.
_FOR_GOOD = frozenset({"forbidden", "rejected", "arguments_refused", "no_such_tool"})


def run(execution: Execution) -> Outcome:
    """Call the node's tool with its inputs as named arguments; its answer is the result."""
    node, scope = execution.node, execution.scope()
    try:
        name, given = waiting.tool(node, scope), waiting.arguments(node, scope)
    except waiting.Unfit as unfit:
        return Failed(reason=unfit.reason, message=unfit.message, terminal=True)
    answer = execution.call(name, [], given)
    if execution.ended is not None:
        return execution.ended
    if not answer.ok:
        terminal = answer.reason in _FOR_GOOD
        return Failed(reason=answer.reason, message=answer.message, terminal=terminal)
    return saved(execution, Succeeded(result=answer.value))
