"""JSON with expressions in it: what `with`, `save` and `outputs` are written in.

A text that begins with `$` is an expression as a whole, and gives its value with its type:
`$score`, `$score > 5`. One that begins otherwise is put in brackets behind a dollar:
`$(len($drafts) > 3)`. `$$` at the beginning stands for one literal dollar. Everything else,
keys and dollars further on included, stands for itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from engine.core.expressions import expression
from engine.core.expressions.expression import Expression
from engine.core.expressions.frame import EvaluationError, ExpressionError
from engine.core.problem import Problem
from engine.core.values import Json

Build: TypeAlias = Callable[[Mapping[str, Json]], Json]


class TemplateError(ValueError):
    """Expressions in a template do not compile; `problems` say which and why."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(f"{p.path}: {p.message}" for p in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A compiled template; equal to every other one of the same source."""

    source: Json
    #: Its expressions by their JSON path in it.
    expressions: Mapping[str, Expression] = field(compare=False, repr=False)
    #: The variables they may read.
    names: frozenset[str] = field(compare=False)
    build: Build = field(compare=False, repr=False)

    def evaluate(self, scope: Mapping[str, Json]) -> Json:
        """Fill the template in. Raises `EvaluationError`, with the `path` in the template."""
        return self.build(scope)


def template(data: Json) -> Template:
    """Compile a template from storable JSON. Raises `TemplateError` with every problem."""
    found: dict[str, Expression] = {}
    problems: list[Problem] = []
    build = _build(data, "", found, problems)
    if problems:
        raise TemplateError(tuple(problems))
    names: frozenset[str] = frozenset()
    return Template(
        source=data,
        expressions=found,
        names=names.union(*(each.names for each in found.values())),
        build=build,
    )


_BEGINNING = re.compile(r"\$[A-Za-z_(]")


def _build(data: Json, path: str, found: dict[str, Expression], problems: list[Problem]) -> Build:
    match data:
        case str() if data.startswith("$$"):
            return _constant(data[1:])
        case str() if data.startswith("$"):
            return _whole(data, path, found, problems)
        case list():
            entries = [
                _build(entry, f"{path}[{index}]", found, problems)
                for index, entry in enumerate(data)
            ]
            return lambda scope: [entry(scope) for entry in entries]
        case dict():
            fields = {
                key: _build(entry, f"{path}.{key}" if path else key, found, problems)
                for key, entry in data.items()
            }
            return lambda scope: {key: entry(scope) for key, entry in fields.items()}
        case _:
            return _constant(data)


def _whole(text: str, path: str, found: dict[str, Expression], problems: list[Problem]) -> Build:
    if not _BEGINNING.match(text):
        problems.append(
            Problem(
                path=path,
                message=f"{text[:20]!r} begins with $ and is no expression",
                remedy="write $$ for a literal dollar, $name or $(…) for an expression",
            )
        )
        return _constant(None)
    try:
        compiled = expression.compile(text.removeprefix("$") if text[1] == "(" else text)
    except ExpressionError as error:
        problems.append(Problem(path=path, message=str(error), remedy=error.remedy))
        return _constant(None)
    found[path] = compiled

    def build(scope: Mapping[str, Json]) -> Json:
        try:
            return compiled.evaluate(scope).value
        except EvaluationError as error:
            error.path = path
            raise

    return build


def _constant(value: Json) -> Build:
    return lambda scope: value  # noqa: ARG005  # a closure over nothing but its value
