"""Nodes that call one tool, by the same durable path as code that calls it."""

from __future__ import annotations

from engine.core import expressions
from engine.core.values import Json
from engine.runs.attempts import Failed, Outcome, Succeeded
from workers.kinds.execution import Execution, saved


def run(execution: Execution) -> Outcome:
    """Call the node's tool with its inputs as named arguments; its answer is the result."""
    node = execution.node
    assert node.uses is not None
    given: Json = {}
    if node.inputs is not None:
        try:
            given = node.inputs.evaluate(execution.scope())
        except expressions.EvaluationError as error:
            return Failed(
                reason="input_failed", message=f"node {node.id}, with: {error}", terminal=True
            )
    assert isinstance(given, dict)
    answer = execution.call(node.uses, [], given)
    if execution.doomed is not None:
        return execution.doomed
    if not answer.ok:
        return Failed(reason=answer.reason, message=answer.message)
    return saved(execution, Succeeded(result=answer.value))
