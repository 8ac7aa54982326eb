"""Nodes that call a service by the fields of their kind: `http`, `sql`."""

from __future__ import annotations

from engine import waiting
from engine.runs.attempts import Failed, Outcome
from workers.kinds.execution import Execution
from workers.kinds.tool import answered


def run(execution: Execution) -> Outcome:
    """Call the node's service with what its fields come to; its answer is the result."""
    given = waiting.arguments(execution.node, execution.scope())
    return misplaced(execution) or answered(execution, named(execution), given)


def named(execution: Execution) -> str:
    """The service that the node calls."""
    assert execution.node.uses is not None
    return execution.node.uses


def misplaced(execution: Execution) -> Failed | None:
    """Why the node cannot call what it names, if that is no service of its kind."""
    node, name = execution.node, named(execution)
    definition = execution.definition("tool", name)
    kind = None if definition is None or definition.service is None else definition.service["kind"]
    if kind == node.kind:
        return None
    is_what = "not registered" if definition is None else "no service" if kind is None else kind
    message = f"node {node.id}: {name!r} is {is_what}; register a service of kind {node.kind}"
    return Failed(reason="no_such_service", message=message, terminal=True)
