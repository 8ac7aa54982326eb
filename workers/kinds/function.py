"""Nodes that run a function on the state of the run, and ask others what to choose."""

from __future__ import annotations

from dataclasses import replace

from engine.core import expressions, remembered
from engine.core.graph import NodeId, Role
from engine.runs.attempts import Failed, Outcome, Succeeded
from workers.kinds.execution import Execution, choose_job, finished, left, saved
from workers.sandbox import Job, Mode


def run(execution: Execution) -> Outcome:
    """Call the node's function, if it has one, then whatever its choice depends on."""
    called = _call(execution)
    if NodeId(execution.lease.node) not in execution.lease.graph.nodes:
        return _within(execution, called)
    outcome = saved(execution, called)
    if not isinstance(outcome, Succeeded):
        return outcome
    if execution.node.role is Role.PLAN:
        return _plan(execution, outcome)
    return _choice(execution, outcome)


def _within(execution: Execution, called: Outcome) -> Outcome:
    """What comes of a node within another. The result of an item is the map's to save.

    Else it would hang on which item is last what the variables are.
    """
    if not isinstance(called, Succeeded) or not execution.lease.node.endswith("/item"):
        return called
    return replace(called, patch={}, removed=())


def _plan(execution: Execution, outcome: Succeeded) -> Outcome:
    """A plan's answer is the list of the nodes that come next, alone or as `next_task_names`."""
    answer = outcome.result
    names = answer.get("next_task_names") if isinstance(answer, dict) else answer
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return Failed(
            reason="no_plan",
            message=(
                f"plan {execution.node.id} answered with no list of nodes; return a list of "
                'names, or {"next_task_names": [...]}'
            ),
            terminal=True,
        )
    return replace(outcome, choice=tuple(str(name) for name in names))


def _call(execution: Execution) -> Outcome:
    node = execution.node
    if node.uses is None:
        return Succeeded()
    definition = execution.definition("function", node.uses)
    if definition is None:
        return Failed(
            reason="no_such_function",
            message=f"node {node.id}: function {node.uses!r} is not registered",
            terminal=True,
        )
    variables = execution.lease.variables
    state = dict(variables.over(remembered.visible(variables.kept)))
    if execution.lease.undone is not None:
        state["result"] = execution.scope()["result"]
    if node.inputs is not None:
        try:
            given = node.inputs.evaluate(execution.scope())
        except expressions.EvaluationError as error:
            return Failed(
                reason="input_failed", message=f"node {node.id}, with: {error}", terminal=True
            )
        assert isinstance(given, dict)
        state |= given
    mode: Mode = "node" if definition.source is not None else "library-node"
    job = Job(
        mode=mode,
        name=definition.name,
        source=definition.source,
        library=definition.library,
        arguments={"state": state},
        limits=execution.limits,
    )
    ended = execution.run(execution.bound(definition, job), execution.profile(definition))
    return finished(execution, ended)


def _choice(execution: Execution, outcome: Succeeded) -> Outcome:
    """Ask in order, until an answer makes the choice."""
    graph, node = execution.lease.graph, execution.node
    spent = execution.lease.visits.get(node.id, 0) >= node.max_iterations
    answer: bool | str | None = None
    for question in graph.questions(node.id, spent=spent):
        definition = execution.definition("function", question.function)
        if definition is None:
            return Failed(
                reason="no_such_function",
                message=f"node {node.id}: condition {question.function!r} is not registered",
                terminal=True,
            )
        asked = execution.run(
            choose_job(execution, definition, left(execution, outcome)),
            execution.profile(definition),
        )
        if not asked.ok:
            return finished(execution, asked)
        if question.take is not None and asked.choice:
            return replace(outcome, choice=question.take)
        if question.take is None:
            answer = asked.choice
            if answer is not False:
                break
    return replace(outcome, choice=answer)
