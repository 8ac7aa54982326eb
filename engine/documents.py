"""Documents as people hand them in: text becomes data (`engine.reading`), data a graph, inputs fit
its schema.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import jsonschema_rs

from engine import cases, reading
from engine.core import document, overlays, remembered, values
from engine.core.graph import Asked, Awaited, Graph
from engine.core.problem import Problem
from engine.core.section import below, named, suggestion
from engine.core.values import Json
from engine.errors import Invalid

#: Faults of one value that are listed; a long list may have one in every entry.
MAX_PROBLEMS = 100


def read_text(text: str | bytes) -> Json:
    """Read YAML, or JSON if it begins with `{`, as plain data. Raises `Invalid`."""
    return reading.read(text).data


def read_graph(text: str | bytes) -> Graph:
    """Read the text of a document as its graph. Raises `Invalid`, with line and column."""
    found = reading.read(text)
    try:
        return graph(found.data)
    except Invalid as invalid:
        raise Invalid(found.located(invalid.problems)) from None


def graph(data: Json) -> Graph:
    """Make a graph of a document, the schemas of its inputs and its tests included. Raises `Invalid`."""
    found = document.read(data)
    if not isinstance(found, Graph):
        raise Invalid(found)
    if problems := (*_schema_problems(found), *_test_problems(found)):
        raise Invalid(problems)
    return found


def with_defaults(graph: Graph, inputs: Mapping[str, Json]) -> dict[str, Json]:
    """A run's inputs, and the default of each that is not given."""
    return {
        **{name: each["default"] for name, each in _properties(graph).items() if "default" in each},
        **inputs,
    }


def input_problems(
    graph: Graph, inputs: Mapping[str, Json], *, path: str = "inputs"
) -> tuple[Problem, ...]:
    """What keeps a run from starting with these inputs, its defaults applied."""
    if found := tuple(values.problems(dict(inputs), path=path)):
        return found
    if not graph.inputs:
        return tuple(islice(_start_problems(graph, inputs, path), MAX_PROBLEMS))
    validator = _validator(values.canonical(graph.inputs))
    errors = validator.iter_errors(with_defaults(graph, inputs))
    return tuple(_input_problem(graph, error, path) for error in islice(errors, MAX_PROBLEMS))


def schema_problems(schema: Json, value: Json, *, path: str) -> tuple[Problem, ...]:
    """What keeps a value from being of a schema, field by field."""
    errors = _validator(values.canonical(schema)).iter_errors(value)
    return tuple(
        Problem(
            path=below(path, _path(error.instance_path)),
            message=_message(error),
            remedy="send what the schema asks for",
        )
        for error in islice(errors, MAX_PROBLEMS)
    )


def argument_problems(
    schema: Json, arguments: Mapping[str, Json], *, path: str
) -> tuple[Problem, ...]:
    """What keeps the arguments of a call from being of a schema: every problem at its name."""
    if found := tuple(values.problems(dict(arguments), path=path)):
        return found
    errors = _validator(values.canonical(schema)).iter_errors(dict(arguments))
    properties = schema.get("properties") if isinstance(schema, dict) else None
    known = properties if isinstance(properties, dict) else {}
    found = tuple(each for error in errors for each in _argument_problem(known, error, path))
    return found[:MAX_PROBLEMS]


def declared_problems(schema: Json, *, path: str) -> tuple[Problem, ...]:
    """What keeps a value from being a JSON Schema."""
    return tuple(_declared(schema, path, _NONE, ""))


def patch_problems(
    graph: Graph, patch: Mapping[str, Json], removed: Iterable[str] = (), *, path: str = ""
) -> tuple[Problem, ...]:
    """What keeps a step from leaving these values in the variables.

    What is contributed to a variable with a reducer is looked at alone, and a single entry of a
    list as the list of it. Such a variable cannot be deleted: there is nothing to add to then.
    """
    return tuple(islice(_patch_problems(graph, patch, removed, path), MAX_PROBLEMS))


def edit_problems(
    graph: Graph, given: Mapping[str, Json], removed: Iterable[str], *, path: str
) -> tuple[Problem, ...]:
    """What keeps a run from going on with other values of its variables, or without some.

    A variable with a reducer must hold what contributions can be added to.
    """
    problems = (*_start_problems(graph, given, path), *_patch_problems(graph, {}, removed, path))
    return problems[:MAX_PROBLEMS]


def _patch_problems(
    graph: Graph, patch: Mapping[str, Json], removed: Iterable[str], path: str
) -> Iterator[Problem]:
    yield from _hidden(patch, path)
    for name, value in patch.items():
        reducer = graph.reducers.get(name)
        if reducer is not None and (wanted := overlays.misfit(reducer, value)):
            yield Problem(
                path=below(path, name),
                message=f"{named(value)} cannot be added to it, its reducer is {reducer}",
                remedy=f"leave {wanted}",
            )
            continue
        one = reducer in {"append", "set"} and not isinstance(value, list)
        yield from _type_problems(graph, name, [value] if one else value, below(path, name))
    for name in removed:
        if name in graph.reducers:
            yield Problem(
                path=below(path, name),
                message=f"it cannot be deleted, its reducer is {graph.reducers[name]}",
                remedy="leave it as it is",
            )
        else:
            yield from _type_problems(graph, name, None, below(path, name))


def _start_problems(graph: Graph, inputs: Mapping[str, Json], path: str) -> Iterator[Problem]:
    """What keeps declared variables from beginning with what a run is given for them."""
    yield from _hidden(inputs, path)
    for name, value in inputs.items():
        reducer = graph.reducers.get(name)
        if reducer is not None and (wanted := document.wanted(reducer, value)):
            yield Problem(
                path=below(path, name),
                message=f"{named(value)} cannot be added to, and its reducer is {reducer}",
                remedy=f"give {wanted}",
            )
        elif value is not None:
            yield from _type_problems(graph, name, value, below(path, name))


def _hidden(given: Mapping[str, Json], path: str) -> Iterator[Problem]:
    """Names under which the platform keeps what `$steps` stands for."""
    for name in given.keys() - remembered.visible(given).keys():
        yield Problem(
            path=below(path, name),
            message=f"${name} means something else",
            remedy="choose another name",
        )


def _type_problems(graph: Graph, name: str, value: Json, path: str) -> Iterator[Problem]:
    if name not in graph.types:
        return
    validator = _validator(values.canonical(graph.types[name]))
    for error in validator.iter_errors(value):
        yield Problem(
            path=below(path, _path(error.instance_path)),
            message=_message(error),
            remedy=f"the variable {name} is declared so",
        )


def _properties(graph: Graph) -> Mapping[str, Any]:
    properties: Any = graph.inputs.get("properties", {})
    return properties  # type: ignore[no-any-return]  # object schemas by name, says `Graph`


def _schema_problems(graph: Graph) -> Iterator[Problem]:
    for name, schema in _properties(graph).items():
        default = schema.get("default", _NONE)
        yield from _declared(schema, f"inputs.{name}", default, f"inputs.{name}.default")
    for name, schema in graph.types.items():
        value = graph.variables[name]
        at, default = f"variables.{name}.type", f"variables.{name}.default"
        yield from _declared(schema, at, _NONE if value is None else value, default)
    for node in graph.nodes.values():
        place = graph.place(node.id)
        if isinstance(node.wait, Awaited) and node.wait.schema is not None:
            yield from _declared(node.wait.schema, f"{place}.schema", _NONE, "")
        if isinstance(node.wait, Asked):
            for name, each in node.wait.form.items():
                usual = each.get("default", _NONE) if isinstance(each, dict) else _NONE
                at = f"{place}.form.{name}"
                yield from _declared(each, at, usual, f"{at}.default")


def _test_problems(graph: Graph) -> Iterator[Problem]:
    """What is wrong with the tests of a graph."""
    found, problems = cases.read(graph)
    yield from problems
    for case in found:
        yield from input_problems(graph, case.inputs, path=f"tests.{case.name}.inputs")


#: Where no default is.
_NONE: Any = object()


def _declared(schema: Json, path: str, default: Json, default_path: str) -> Iterator[Problem]:
    """What is wrong with a schema, or with the default of what it is for."""
    try:
        validator = _validator(values.canonical(schema))
    except jsonschema_rs.ValidationError as wrong:
        yield Problem(
            path=below(path, _path(wrong.instance_path)),
            message=f"not a JSON Schema: {_message(wrong)}",
            remedy="see https://json-schema.org; patterns know no look-around",
        )
        return
    if default is not _NONE:
        for error in islice(validator.iter_errors(default), MAX_PROBLEMS):
            yield Problem(
                path=below(default_path, _path(error.instance_path)),
                message=_message(error),
                remedy="change the default, or the schema",
            )


@lru_cache(maxsize=256)
def _validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    # Patterns by an engine that is linear in the text: they are strangers' patterns.
    return jsonschema_rs.Draft202012Validator(
        schema,
        pattern_options=jsonschema_rs.RegexOptions(),
        validate_formats=True,
        offline=True,
    )


def _input_problem(graph: Graph, error: jsonschema_rs.ValidationError, path: str) -> Problem:
    kind, where = error.kind, below(path, _path(error.instance_path))
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        message = f"{kind.property} is missing"
        return Problem(path=below(where, str(kind.property)), message=message, remedy="give it")
    if not error.instance_path and isinstance(
        kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties
    ):
        names = sorted(kind.unexpected)
        near = suggestion(names[0], _properties(graph))
        return Problem(
            path=below(path, names[0]) if len(names) == 1 else path,
            message=f"the workflow has no input {', '.join(names)}",
            remedy=near or f"its inputs are {', '.join(_properties(graph))}",
        )
    return Problem(path=where, message=_message(error), remedy="")


def _argument_problem(
    known: Mapping[str, Json], error: jsonschema_rs.ValidationError, path: str
) -> Iterator[Problem]:
    kind, where = error.kind, below(path, _path(error.instance_path))
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        place = below(where, str(kind.property))
        yield Problem(path=place, message="it is missing", remedy="give it")
    elif isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
        for name in sorted(kind.unexpected):
            remedy = suggestion(name, known) or f"it takes {', '.join(known) or 'nothing'}"
            yield Problem(path=below(where, name), message="it is not taken", remedy=remedy)
    else:
        yield Problem(path=where, message=_message(error), remedy="give what the schema asks for")


def _message(error: jsonschema_rs.ValidationError) -> str:
    limit = 300
    return error.message if len(error.message) <= limit else error.message[:limit] + "…"


def _path(keys: Sequence[str | int]) -> str:
    path = ""
    for key in keys:
        path = below(path, f"[{key}]" if isinstance(key, int) else key)
    return path
