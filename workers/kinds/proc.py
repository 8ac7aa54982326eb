"""Steps of a list: a function gets its params by name and leaves its answer on the tape."""

from __future__ import annotations

from dataclasses import replace

from engine.core import expressions, tape
from engine.core.expressions import holds
from engine.runs.attempts import Failed, Outcome, Succeeded
from workers.kinds.execution import Execution, finished, saved
from workers.sandbox import Job, Mode


def run(execution: Execution) -> Outcome:
    """Call the step's agent; what it answers, and how it says that it ended, is its patch."""
    node = execution.node
    assert node.uses is not None
    assert node.inputs is not None
    definition = execution.definition("function", node.uses)
    if definition is None:
        return Failed(
            reason="no_such_function",
            message=f"step {node.id}: agent {node.uses!r} is not registered",
            terminal=True,
        )
    try:
        given = tape.given(node.inputs, execution.scope())
    except expressions.EvaluationError as error:
        return Failed(
            reason="input_failed",
            message=f"step {node.id}, params.{error.path}: {error}",
            terminal=True,
        )
    execution.dry = holds(given.get(tape.DRY_RUN)) or holds(execution.scope().get(tape.DRY_RUN))
    mode: Mode = "node" if definition.source is not None else "library-node"
    job = Job(
        mode=mode,
        name=definition.name,
        source=definition.source,
        library=definition.library,
        arguments={"params": given, "output": [*node.output]},
        limits=execution.limits,
    )
    ended = execution.run(execution.bound(definition, job), execution.profile(definition))
    outcome = finished(execution, ended)
    if not isinstance(outcome, Succeeded):
        return outcome
    patch = tape.left(node.output, ended.value, ended.status)
    return saved(execution, replace(outcome, patch=patch))
