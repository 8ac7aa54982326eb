"""What nodes wait for, worked out: instants, names, items, and what a result leaves.

The coordinator does here for steps that wait what a worker does for those that work:
evaluate what their node says, against the variables as their thread sees them, and look
whether the outcome fits. Nothing here does I/O; the runner in memory uses the same.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta
from typing import TypeAlias

from engine import documents
from engine.core import codec, expressions, overlays, references, remembered, tape, values
from engine.core import messages as msg
from engine.core.document import vocabulary as words
from engine.core.expressions import Template
from engine.core.graph import Awaited, Child, Graph, Lock, Map, Node, NodeId, Timer
from engine.core.overflow import Overflow, overflowing
from engine.core.problem import Problem
from engine.core.references import CONDITION_BYTES, Read, Readable, TooLarge
from engine.core.section import UNITS
from engine.core.state import Ending, State, Step
from engine.core.transitions import RunStatus
from engine.core.values import VARIABLES_BYTES, Inline, Json, digest

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


class Overflowing(Exception):
    """Values are too large for the row that should hold them, and must be kept elsewhere first."""

    def __init__(self, values: Sequence[Json]) -> None:
        super().__init__(f"{len(values)} values")
        self.values = values


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


def scope_of(
    state: State, step: Step, result: Json = None, *, read: Read = references.unread
) -> dict[str, Json]:
    """What the names of an expression stand for at a step that waits."""
    run: dict[str, Json] = {"id": state.run, "steps": state.visited}
    return {**remembered.names(state.view(step.thread), read), "result": result, "run": run}


def instant(node: Node, timer: Timer, scope: Scope, now: datetime) -> datetime:
    """When a timer is over. Raises `Unfit`."""
    if timer.seconds is not None:
        return now + timedelta(seconds=_seconds(node, timer.seconds, scope))
    assert timer.until is not None
    value = evaluated(node, "until", timer.until, scope)
    try:
        found = datetime.fromisoformat(str(value))
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _unfit(
            node, "until", value, "an instant, such as 2030-01-31T09:00:00+00:00"
        ) from None
    # Whoever reads it may be in another zone, and the calendar has an end there as well.
    if found.year in (MINYEAR, MAXYEAR):
        raise _unfit(node, "until", value, "an instant within the calendar")
    return found


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


def given(graph: Graph, node: Node, scope: Scope) -> dict[str, Json]:
    """What the `with` of a node comes to, or the params of a step of a list. Raises `Unfit`."""
    if node.inputs is None:
        return {}
    if graph.listing is not None:
        try:
            return tape.given(node.inputs, scope)
        except expressions.EvaluationError as error:
            message = f"step {node.id}, params.{error.path}: {error}"
            raise Unfit("input_failed", message) from error
    found = evaluated(node, "with", node.inputs, scope)
    if not isinstance(found, dict):
        raise _unfit(node, "with", found, "an object: input to value")
    return found


def tool(node: Node, scope: Scope) -> str:
    """The name of the tool that a node calls, with its version if one is fixed. Raises `Unfit`."""
    if node.called is None:
        assert node.uses is not None
        return node.uses
    found = evaluated(node, "tool", node.called, scope)
    if not isinstance(found, str) or not words.matches(words.REFERENCE, found):
        raise _unfit(node, "tool", found, "the name of a tool")
    return found


def workflow(node: Node, child: Child, scope: Scope) -> str:
    """The workflow that a node runs: its name, and its version or range if it says one.

    Raises `Unfit`.
    """
    if child.named is None:
        return child.workflow
    found = evaluated(node, "workflow", child.named, scope)
    if not isinstance(found, str) or not words.matches(words.WORKFLOW, found):
        raise _unfit(node, "workflow", found, "the name of a workflow")
    return found


def no_such_workflow(node: NodeId, name: str) -> Unfit:
    """Why a node starts no run of a workflow that there is not."""
    return Unfit("no_such_workflow", f"node {node}: workflow {name} does not exist")


def arguments(node: Node, scope: Scope) -> dict[str, Json]:
    """What a tool is given by its node. Raises `Unfit`."""
    if node.inputs is None:
        return {}
    found = evaluated(node, node.given, node.inputs, scope)
    if not isinstance(found, dict):
        raise _unfit(node, node.given, found, "an object: argument to value")
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


def moved(left: Scope, new: Scope, stays: Collection[str], kept: Scope | None) -> dict[str, Json]:
    """The new values, with references for those that are too large for the row.

    `left` is all that there would be, `kept` are references by digest; None: wherever they may
    lie, they stay here. Raises `Overflowing` with values that are not kept yet, and `Overflow`.
    """
    names = overflowing(left, left if kept is None else new, stays)
    if kept is None:
        return dict(new)
    if missing := [new[name] for name in names if digest(new[name]) not in kept]:
        raise Overflowing(missing)
    return {**new, **{name: kept[digest(new[name])] for name in names}}


def patch(graph: Graph, node: Node, scope: Scope) -> dict[str, Json]:
    """What a result, in the scope as `$result`, leaves in the variables. Raises `Unfit`."""
    found: dict[str, Json] = {}
    if graph.listing is not None:
        left = {} if node.save else scope["result"]
        found = tape.left(node.output, left, None)
    for name, template in node.save.items():
        try:
            found[name] = template.evaluate(scope)
        except (expressions.EvaluationError, TooLarge) as error:
            raise Unfit("save_failed", f"node {node.id}, save.{name}: {error}") from error
    for problem in values.problems(found, path="save"):
        raise Unfit("save_failed", f"node {node.id}, {problem.path}: {problem.message}")
    return found


def check(graph: Graph, node: Node, patch: Scope, removed: Sequence[str] = ()) -> None:
    """Look whether the variables may hold what a step leaves in them. Raises `Unfit`."""
    for problem in documents.patch_problems(graph, patch, removed):
        raise Unfit("save_failed", f"node {node.id}, {problem.path}: {problem.message}")


def fitting(
    graph: Graph,
    node: Node,
    variables: Scope,
    patch: Scope,
    removed: Sequence[str] = (),
    *,
    result: Json,
    kept: Scope | None = None,
) -> dict[str, Json]:
    """What a step leaves, as it fits beside the variables; `kept` is as `moved` takes it.

    Raises `Unfit`, and `Overflowing`.
    """
    reducers = remembered.reducers(graph)
    recalled = remembered.left(reducers, node.id, Inline(value=result))
    before = {name: value for name, value in variables.items() if name not in removed}
    left = overlays.written(before, {**patch, **recalled}, reducers)
    try:
        return moved(left, patch, graph.reducers.keys(), kept)
    except Overflow as overflow:
        raise Unfit(
            "variables_too_large",
            f"node {node.id} would leave {overflow.taken} bytes of variables, {VARIABLES_BYTES} "
            "are allowed; keep large data elsewhere and pass its name",
        ) from None


def saved(
    graph: Graph,
    state: State,
    step: Step,
    now: datetime,
    *,
    read: Read = references.unread,
    kept: Scope | None = None,
) -> msg.Saved | msg.NotSaved:
    """What the result of a step that has waited leaves in the variables, if they can take it.

    Raises `Overflowing`.
    """
    result = None if step.result is None else values.plain(step.result)
    node, names = graph.node(step.node), scope_of(state, step, result, read=read)
    try:
        found = patch(graph, node, Readable(names, read, limit=CONDITION_BYTES))
        check(graph, node, found)
        found = fitting(graph, node, state.view(step.thread), found, result=result, kept=kept)
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


def child_ended(
    run: str, ending: Ending, outputs: Scope, step: msg.StepKey, attempt: int
) -> ChildEnd:
    """What the end of a run is to the step of another that waits for it."""
    by = (f"run:{run}",)
    reason = _CHILD_REASONS.get(ending.status)
    if reason is None:
        result = Inline(value=dict(outputs))
        return msg.WaitEnded(at=codec.UNTIMED, step=step, attempt=attempt, by=by, result=result)
    message = f"run {run} {ending.status}: {ending.reason}: {ending.message}"[:2000]
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
    except (expressions.EvaluationError, TooLarge) as error:
        place = field or getattr(error, "path", "")
        raise Unfit("input_failed", f"node {node.id}, {place}: {error}") from error


def _unfit(node: Node, field: str, value: Json, wanted: str) -> Unfit:
    shown = values.canonical(value)
    shown = shown if len(shown) <= 60 else shown[:60] + "…"  # noqa: PLR2004
    return Unfit("input_failed", f"node {node.id}, {field}: {shown} is not {wanted}")
