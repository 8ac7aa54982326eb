"""Reading the inputs of a document: a JSON Schema each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from engine.core.document import vocabulary as words
from engine.core.document.names import variable_name
from engine.core.problem import Problem
from engine.core.section import Section, below
from engine.core.values import Json


def inputs(top: Section) -> dict[str, Json]:
    """The schemas of the inputs by name."""
    found: dict[str, Json] = {}
    section = top.section("inputs")
    for name, schema in section.fields.items():
        variable_name(section, name)
        found[name] = schema
        if isinstance(schema, dict):
            alone(section, name, schema)
        else:
            section.wrong(section.at(name), schema, "a JSON Schema, such as {type: string}")
    return found


def input_schema(properties: Mapping[str, Json]) -> dict[str, Json]:
    """The JSON Schema of a run's inputs. One without a default must be given."""
    if not properties:
        return {}
    required: list[Json] = [
        name
        for name, schema in properties.items()
        if isinstance(schema, dict) and "default" not in schema
    ]
    return {
        "type": "object",
        "properties": dict(properties),
        "required": sorted(required, key=str),
        "additionalProperties": False,
    }


def alone(section: Section, field: str, schema: Json) -> None:
    """Refuse a schema that reaches for another."""
    for path in _references(schema, section.at(field)):
        section.problems.append(
            Problem(
                path=path,
                message="a schema here stands for itself",
                remedy="write out what this refers to",
            )
        )


def _references(schema: Json, path: str) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, entry in schema.items():
            if key in words.REFERRING:
                yield below(path, key)
            yield from _references(entry, below(path, key))
    elif isinstance(schema, list):
        for index, entry in enumerate(schema):
            yield from _references(entry, f"{path}[{index}]")
