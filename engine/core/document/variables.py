"""Reading the variables of a document: what they hold, and how contributions add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.core import overlays
from engine.core.document import vocabulary as words
from engine.core.document.inputs import alone
from engine.core.document.names import variable_name
from engine.core.section import Section
from engine.core.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Variables:
    """What is declared of a run's variables, by name."""

    defaults: dict[str, Json] = field(default_factory=dict)
    types: dict[str, Json] = field(default_factory=dict)
    reducers: dict[str, str] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()


def variables(top: Section) -> Variables:
    """The variables by name."""
    found, shared = Variables(), set()
    section = top.section("variables")
    for name in section.fields:
        variable_name(section, name)
        variable = section.section(name)
        variable.known(words.VARIABLE, later=words.LATER_VARIABLE)
        found.defaults[name] = variable.fields.get("default")
        if (schema := _schema(variable)) is not None:
            found.types[name] = schema
        reducer = variable.option("reduce", overlays.REDUCERS, ())
        if reducer is not None:
            found.reducers[name] = reducer
            _fits(variable, reducer, schema, found.defaults[name])
        if variable.flag("shared"):
            shared.add(name)
            _commutes(variable, reducer)
    return Variables(
        defaults=found.defaults,
        types=found.types,
        reducers=found.reducers,
        shared=frozenset(shared),
    )


def wanted(reducer: str, value: Json) -> str:
    """What a variable should hold for contributions to add up to it; empty when it does."""
    if value is None or reducer == "replace":
        return ""
    if reducer in {"append", "set"}:
        return "" if isinstance(value, list) else "a list"
    return overlays.misfit(reducer, value)


def _schema(variable: Section) -> dict[str, Json] | None:
    """The JSON Schema of a variable; the name of a type stands for the schema of that alone."""
    if "type" not in variable.fields:
        return None
    given = variable.fields["type"]
    if isinstance(given, dict):
        alone(variable, "type", given)
        return given
    kind = variable.option("type", words.TYPES, ())
    return None if kind is None else {"type": kind}


def _fits(variable: Section, reducer: str, schema: Mapping[str, Json] | None, value: Json) -> None:
    """Refuse a type and a default to which nothing can be added."""
    allowed = words.REDUCED_TYPES[reducer]
    kind = (schema or {}).get("type")
    if isinstance(kind, str) and kind in words.TYPES and kind not in allowed:
        variable.fail(
            "reduce",
            f"`{reducer}` adds to a variable of type {' or '.join(allowed)}, and this is {kind}",
            "change one of the two",
        )
    elif should := wanted(reducer, value):
        variable.wrong(variable.at("default"), value, f"{should}: `{reducer}` adds to it")


def _commutes(variable: Section, reducer: str | None) -> None:
    if reducer not in words.COMMUTING and not ("reduce" in variable.fields and reducer is None):
        variable.fail(
            "shared",
            "threads write a shared variable at once, in whatever order they come",
            f"add `reduce` with one that gives the same in any order: {', '.join(words.COMMUTING)}",
        )
