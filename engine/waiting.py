"""What nodes wait for, worked out: instants, names, forms, items, and what a result leaves.

The coordinator does here for steps that wait what a worker does for those that work:
evaluate what their node says, against the variables as their thread sees them, and look
whether the outcome fits. Nothing here does I/O; the runner in memory uses the same.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from engine import documents
from engine.core import expressions, overlays, tape, values
from engine.core.expressions import Template
from engine.core.graph import Asked, Awaited, Graph, Map, Node, Timer
from engine.core.overflow import Overflow, overflowing
from engine.core.problem import Problem
from engine.core.references import TooLarge
from engine.core.section import UNITS
from engine.core.values import VARIABLES_BYTES, Json, digest

#: Items that a map may have to begin with.
MAX_ITEMS = 100_000
#: Characters of the name of an event or a lock.
MAX_NAME = 200

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


def instant(node: Node, timer: Timer, scope: Scope, now: datetime) -> datetime:
    """When a timer is over. Raises `Unfit`."""
    if timer.seconds is not None:
        return now + timedelta(seconds=_seconds(node, timer.seconds, scope))
    assert timer.until is not None
    value = _evaluated(node, "until", timer.until, scope)
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
    name = _evaluated(node, "name", awaited.name, scope)
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise _unfit(node, "name", name, "the name of an event, up to 200 characters")
    match = {} if awaited.match is None else _evaluated(node, "match", awaited.match, scope)
    return Expected(name=name, match=match, schema=awaited.schema)


def asks(node: Node, asked: Asked, scope: Scope) -> dict[str, Json]:
    """What people are shown and asked. Raises `Unfit`."""
    shown = None if asked.show is None else _evaluated(node, "show", asked.show, scope)
    return {
        "title": node.title,
        "show": shown,
        "choices": [*asked.choices],
        "form": form_schema(asked),
        "from": [*asked.who],
        "quorum": asked.quorum,
    }


def form_schema(asked: Asked) -> dict[str, Json]:
    """The JSON Schema of what people fill in; a field without a default must be."""
    required: list[Json] = [
        name
        for name, schema in asked.form.items()
        if not (isinstance(schema, dict) and "default" in schema)
    ]
    return {
        "type": "object",
        "properties": dict(asked.form),
        "required": required,
        "additionalProperties": False,
    }


def filled(form: Mapping[str, Json], given: Mapping[str, Json]) -> dict[str, Json]:
    """What somebody filled in, with the defaults of what they left out."""
    fields = form.get("properties")
    assert isinstance(fields, dict)
    usual = {
        name: schema["default"]
        for name, schema in fields.items()
        if isinstance(schema, dict) and "default" in schema
    }
    return {**usual, **given}


def items(node: Node, declared: Map, scope: Scope) -> list[Json]:
    """The items of a map to begin with. Raises `Unfit`."""
    found = _evaluated(node, "over", declared.over, scope)
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
    found = _evaluated(node, "with", node.inputs, scope)
    assert isinstance(found, dict)
    return found


def lock_name(node: Node, name: Template, scope: Scope) -> str:
    """The name of the lock that a node asks for. Raises `Unfit`."""
    value = _evaluated(node, "lock", name, scope)
    if (
        isinstance(value, bool)
        or not isinstance(value, str | int)
        or not 0 < len(str(value)) <= MAX_NAME
    ):
        raise _unfit(node, "lock", value, "a name of up to 200 characters")
    return str(value)


def moved(left: Scope, new: Scope, stays: Collection[str], kept: Scope | None) -> dict[str, Json]:
    """The new values, with references for those that are too large for the row.

    `left` is all that there would be, `kept` are references by digest; None: wherever they may
    lie, they stay here. Raises `Overflowing` with values that are not kept yet, and `Overflow`.
    """
    names = overflowing(left, new, stays)
    if kept is None:
        return dict(new)
    if missing := [new[name] for name in names if digest(new[name]) not in kept]:
        raise Overflowing(missing)
    return {**new, **{name: kept[digest(new[name])] for name in names}}


def patch(
    graph: Graph, node: Node, scope: Scope, variables: Scope, kept: Scope | None = None
) -> dict[str, Json]:
    """What a result, in the scope as `$result`, leaves in the variables.

    `variables` and `kept` are as `moved` takes them. Raises `Unfit`, and `Overflowing`.
    """
    found: dict[str, Json] = {}
    if graph.listing is not None:
        found = tape.left(node.output, scope["result"], None)
    for name, template in node.save.items():
        try:
            found[name] = template.evaluate(scope)
        except (expressions.EvaluationError, TooLarge) as error:
            raise Unfit("save_failed", f"node {node.id}, save.{name}: {error}") from error
    problems: list[Problem] = [
        *values.problems(found, path="save"),
        *documents.patch_problems(graph, found),
    ]
    if problems:
        raise Unfit("save_failed", f"node {node.id}, {problems[0].path}: {problems[0].message}")
    left = overlays.written(variables, found, graph.reducers)
    try:
        return moved(left, found, graph.reducers.keys(), kept)
    except Overflow as overflow:
        raise Unfit(
            "variables_too_large",
            f"node {node.id} would leave {overflow.taken} bytes of variables, {VARIABLES_BYTES} "
            "are allowed; keep large data elsewhere and pass its name",
        ) from None


def _seconds(node: Node, template: Template, scope: Scope) -> float:
    value = _evaluated(node, "for", template, scope)
    seconds: float | None = None
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        seconds = float(match[1]) * UNITS[match[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    if seconds is None or not 0 <= seconds <= _MOST_SECONDS:
        raise _unfit(node, "for", value, "seconds, or a time such as 90s, 10m or 2h")
    return seconds


def _evaluated(node: Node, field: str, template: Template, scope: Scope) -> Json:
    try:
        return template.evaluate(scope)
    except (expressions.EvaluationError, TooLarge) as error:
        raise Unfit("input_failed", f"node {node.id}, {field}: {error}") from error


def _unfit(node: Node, field: str, value: Json, wanted: str) -> Unfit:
    shown = values.canonical(value)
    shown = shown if len(shown) <= 60 else shown[:60] + "…"  # noqa: PLR2004
    return Unfit("input_failed", f"node {node.id}, {field}: {shown} is not {wanted}")
