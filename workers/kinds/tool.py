"""Nodes that call one tool, by the same durable path as code that calls it."""

from __future__ import annotations

from engine import waiting
from engine.runs.attempts import Failed, Outcome, Succeeded
from workers.kinds.execution import Execution, saved


def run(execution: Execution) -> Outcome:
    """Call the node's tool with its inputs as named arguments; its answer is the result."""
    node, scope = execution.node, execution.scope()
    try:
        name, given = waiting.tool(node, scope), waiting.arguments(node, scope)
    except waiting.Unfit as unfit:
        return Failed(reason=unfit.reason, message=unfit.message, terminal=True)
    answer = execution.call(name, [], given)
    if execution.doomed is not None:
        return execution.doomed
    if not answer.ok:
        return Failed(reason=answer.reason, message=answer.message)
    return saved(execution, Succeeded(result=answer.value))
