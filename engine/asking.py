"""What people are asked by nodes that wait for them, and whether an answer fits.

Nothing here does I/O; the runner in memory asks the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine import documents, waiting
from engine.core.graph import Asked, Node
from engine.core.problem import Problem
from engine.core.values import Json
from engine.core.values import problems as json_problems
from engine.errors import Forbidden, Invalid


def asks(node: Node, asked: Asked, scope: waiting.Scope) -> dict[str, Json]:
    """What people are shown and asked. Raises `Unfit`."""
    shown = None if asked.show is None else waiting.evaluated(node, "show", asked.show, scope)
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


def check_asked(asks: Mapping[str, Any], by: str, roles: Sequence[str]) -> None:
    """Raises `Forbidden` for whoever is not asked."""
    asked = asks["from"]
    mine = {f"user:{by}", *(f"role:{role}" for role in roles)}
    if asked and not mine.intersection(asked):
        raise Forbidden(f"{by} is not asked: {', '.join(asked)} may answer")


def checked(
    asks: Mapping[str, Any], choice: str | None, form: Mapping[str, Json]
) -> dict[str, Json]:
    """What was filled in, with its defaults. Raises `Invalid` for what does not fit."""
    problems: list[Problem] = []
    choices = asks["choices"]
    if choices and choice not in choices:
        said = "no choice is made" if choice is None else f"there is no choice {choice!r}"
        remedy = f"choose one of {', '.join(choices)}"
        problems.append(Problem(path="choice", message=said, remedy=remedy))
    elif choice is not None and not choices:
        problems.append(
            Problem(path="choice", message="there is nothing to choose", remedy="leave it out")
        )
    filled = _filled(asks["form"], form)
    problems += json_problems(filled, path="form")
    if not problems:
        problems += documents.schema_problems(asks["form"], filled, path="form")
    if problems:
        raise Invalid(problems, "the answer does not fit")
    return filled


def result(
    asks: Mapping[str, Any], choice: str | None, by: Sequence[str], filled: Mapping[str, Json]
) -> Json:
    """The result of a step that was answered: what was filled in, beside the choice if it has one."""
    if not asks["choices"]:
        return dict(filled)
    return {"choice": choice, "by": list[Json](by), "form": dict(filled)}


def _filled(form: Mapping[str, Json], given: Mapping[str, Json]) -> dict[str, Json]:
    """What somebody filled in, with the defaults of what they left out."""
    fields = form.get("properties")
    assert isinstance(fields, dict)
    usual = {
        name: schema["default"]
        for name, schema in fields.items()
        if isinstance(schema, dict) and "default" in schema
    }
    return {**usual, **given}
