"""What nodes wait for, worked out: instants, names, items, and what a result leaves.

The coordinator does here for steps that wait what a worker does for those that work:
evaluate what their node says, against the variables as their thread sees them, and look
whether the outcome fits. Nothing here does I/O; the runner in memory uses the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from engine import documents
from engine.core import codec, expressions, overlays, remembered, values
from engine.core import messages as msg
from engine.core.decide import outputs
from engine.core.expressions import Template
from engine.core.graph import Awaited, Graph, Lock, Map, Node, NodeId, Timer
from engine.core.problem import Problem
from engine.core.section import UNITS
from engine.core.state import State, Step
from engine.core.transitions import RunStatus
from engine.core.values import VARIABLES_BYTES, Inline, Json, digest, size

#: Items that a map may have to begin with.
MAX_ITEMS = 100_000
#: Characters of the name of an event or a lock.
MAX_NAME = 200

#: Runs within runs.
MAX_DEPTH = 20

ChildEnd: TypeAlias = msg.WaitEnded | msg.WaitFailed

_CHILD_REASONS = {RunStatus.FAILED: "child_failed", RunStatus.CANCELLED: "child_cancelled"}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_MOST_SECONDS = 3650 * 86_400.0

Scope = Mapping[str, Json]


class Unfit(Exception):
    """What a node says comes to nothing it could wait for, or leave."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The event that a step waits for."""

    name: str
    match: Json
    schema: Json

    @property
    def correlation(self) -> str:
        return correlation(self.match)


def correlation(match: Json) -> str:
    """By what an event and a wait find each other; empty where nothing is said."""
    return digest(match) if match else ""


def scope_of(state: State, step: Step, result: Json = None) -> dict[str, Json]:
    """What the names of an expression stand for at a step that waits."""
    run: dict[str, Json] = {"id": state.run, "steps": state.visited}
    return {**remembered.names(state.view(step.thread)), "result": result, "run": run}


def instant(node: Node, timer: Timer, scope: Scope, now: datetime) -> datetime:
    """When a timer is over. Raises `Unfit`."""
    if timer.seconds is not None:
        return now + timedelta(seconds=_seconds(node, timer.seconds, scope))
    assert timer.until is not None
    value = evaluated(node, "until", timer.until, scope)
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        raise _unfit(
            node, "until", value, "an instant, such as 2030-01-31T09:00:00+00:00"
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def expiry(expires: float | None, now: datetime) -> datetime | None:
    """When a wait ends by itself."""
    return None if expires is None else now + timedelta(seconds=expires)


def expected(node: Node, awaited: Awaited, scope: Scope) -> Expected:
    """The event that a node waits for. Raises `Unfit`."""
    name = evaluated(node, "name", awaited.name, scope)
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise _unfit(node, "name", name, "the name of an event, up to 200 characters")
    match = {} if awaited.match is None else evaluated(node, "match", awaited.match, scope)
    return Expected(name=name, match=match, schema=awaited.schema)


def misfit(schema: Json, payload: Json) -> str:
    """What keeps the payload of an event from being of a schema; empty when it is."""
    found = () if schema is None else documents.schema_problems(schema, payload, path="payload")
    return "; ".join(f"{problem.path}: {problem.message}" for problem in found)


def items(node: Node, declared: Map, scope: Scope) -> list[Json]:
    """The items of a map to begin with. Raises `Unfit`."""
    found = evaluated(node, "over", declared.over, scope)
    if not isinstance(found, list):
        raise _unfit(node, "over", found, "a list of items")
    if len(found) > MAX_ITEMS:
        raise Unfit(
            "input_failed", f"node {node.id}, over: {len(found)} items, {MAX_ITEMS} are allowed"
        )
    return found


def given(node: Node, scope: Scope) -> dict[str, Json]:
    """What the `with` of a node comes to. Raises `Unfit`."""
    if node.inputs is None:
        return {}
    found = evaluated(node, "with", node.inputs, scope)
    assert isinstance(found, dict)
    return found


def item_names(declared: Map, index: int, value: Json) -> dict[str, Json]:
    """The names by which the node within a map knows an item of it."""
    return {declared.name: value, "index": index}


def lock_name(run: str, node: Node, lock: Lock, scope: Scope) -> str:
    """The name of the lock that a node of a run asks for. Raises `Unfit`."""
    value = evaluated(node, "lock", lock.name, scope)
    if (
        isinstance(value, bool)
        or not isinstance(value, str | int)
        or not 0 < len(str(value)) <= MAX_NAME
    ):
        raise _unfit(node, "lock", value, "a name of up to 200 characters")
    return f"tenant:{value}" if lock.tenant else f"{run}:{value}"


def patch(node: Node, scope: Scope) -> dict[str, Json]:
    """What the `save` of a node makes of a result, in the scope as `$result`. Raises `Unfit`."""
    found: dict[str, Json] = {}
    for name, template in node.save.items():
        try:
            found[name] = template.evaluate(scope)
        except expressions.EvaluationError as error:
            raise Unfit("save_failed", f"node {node.id}, save.{name}: {error}") from error
    for problem in values.problems(found, path="save"):
        raise Unfit("save_failed", f"node {node.id}, {problem.path}: {problem.message}")
    return found


def fit(
    graph: Graph,
    node: Node,
    variables: Scope,
    patch: Scope,
    removed: Sequence[str] = (),
    *,
    result: Json,
) -> None:
    """Look whether the variables can take what a step leaves in them. Raises `Unfit`."""
    for problem in documents.patch_problems(graph, patch, removed):
        raise Unfit("save_failed", f"node {node.id}, {problem.path}: {problem.message}")
    reducers = remembered.reducers(graph)
    recalled = remembered.left(reducers, node.id, Inline(value=result))
    kept = {name: value for name, value in variables.items() if name not in removed}
    taken = size(dict(overlays.written(kept, {**patch, **recalled}, reducers)))
    if taken > VARIABLES_BYTES:
        raise Unfit(
            "variables_too_large",
            f"node {node.id} would leave {taken} bytes of variables, {VARIABLES_BYTES} are "
            "allowed; keep large data elsewhere and pass its name",
        )


def saved(graph: Graph, state: State, step: Step, now: datetime) -> msg.Saved | msg.NotSaved:
    """What the result of a step that has waited leaves in the variables, if they can take it."""
    result = None if step.result is None else values.plain(step.result)
    node = graph.node(step.node)
    try:
        found = patch(node, scope_of(state, step, result))
        fit(graph, node, state.view(step.thread), found, result=result)
    except Unfit as unfit:
        return msg.NotSaved(at=now, step=step.key, reason=unfit.reason, message=unfit.message)
    return msg.Saved(at=now, step=step.key, patch=found)


def too_deep(node: NodeId) -> Unfit:
    """Why a node starts no run."""
    return Unfit(
        "too_deep",
        f"node {node} would start a run {MAX_DEPTH + 1} runs deep; let the workflows that run "
        "one another come to an end",
    )


def unfit_inputs(node: NodeId, problem: Problem) -> Unfit:
    """Why a node starts no run of a workflow that cannot take what it is given."""
    return Unfit("input_failed", f"node {node}, with: {problem.path}: {problem.message}")


def child_ended(graph: Graph, state: State, step: msg.StepKey, attempt: int) -> ChildEnd:
    """What the end of a run is to the step of another that waits for it. It has ended."""
    by = (f"run:{state.run}",)
    reason = _CHILD_REASONS.get(state.status)
    if reason is None:
        result = Inline(value=outputs(graph, state.run, state.variables))
        return msg.WaitEnded(at=codec.UNTIMED, step=step, attempt=attempt, by=by, result=result)
    ending = state.ending
    said = f"{ending.reason}: {ending.message}" if ending else state.status.value
    message = f"run {state.run} of {graph.workflow} {state.status}: {said}"[:2000]
    return msg.WaitFailed(
        at=codec.UNTIMED, step=step, attempt=attempt, by=by, reason=reason, message=message
    )


def _seconds(node: Node, template: Template, scope: Scope) -> float:
    value = evaluated(node, "for", template, scope)
    seconds: float | None = None
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        seconds = float(match[1]) * UNITS[match[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    if seconds is None or not 0 <= seconds <= _MOST_SECONDS:
        raise _unfit(node, "for", value, "seconds, or a time such as 90s, 10m or 2h")
    return seconds


def evaluated(node: Node, field: str, template: Template, scope: Scope) -> Json:
    """What a field of a node comes to. Raises `Unfit`."""
    try:
        return template.evaluate(scope)
    except expressions.EvaluationError as error:
        raise Unfit("input_failed", f"node {node.id}, {field}: {error}") from error


def _unfit(node: Node, field: str, value: Json, wanted: str) -> Unfit:
    shown = values.canonical(value)
    shown = shown if len(shown) <= 60 else shown[:60] + "…"  # noqa: PLR2004
    return Unfit("input_failed", f"node {node.id}, {field}: {shown} is not {wanted}")
