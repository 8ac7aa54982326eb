"""Tests that stand in an agent's definition, as those of a document.

`tests` is written as a document has it (`engine.cases`), and goes with the agent's workflow.
`run_config` is the seed's own: what the agent was given last, and what its outputs are held to:

    "run_config": {"last_inputs": {"input": "hi"},
                   "tests": [{"output_variable": "output", "assertion_type": "equals",
                              "expected_value": "hi"}]}

Nobody here has to understand that, and it keeps no agent from being entered; what of it cannot be read
is said when the tests are run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.core.document import vocabulary as words
from engine.core.problem import Problem
from engine.core.section import Section, short
from engine.core.values import Json
from engine.formats.agent.definition import Agent

#: What is expected of a run, by the type of an assertion.
_ASSERTIONS: Mapping[str, Callable[[str, Json], dict[str, Json]]] = {
    "equals": lambda name, value: {"outputs": {name: value}},
    "not_equals": lambda name, value: _that(f"not ($outputs.{name} == {_literal(value)})"),
    "contains": lambda name, value: _that(f"contains($outputs.{name}, {_literal(value)})"),
    "not_contains": lambda name, value: _that(f"not contains($outputs.{name}, {_literal(value)})"),
    "starts_with": lambda name, value: _that(f"starts_with($outputs.{name}, {_literal(value)})"),
    "ends_with": lambda name, value: _that(f"ends_with($outputs.{name}, {_literal(value)})"),
    "greater_than": lambda name, value: _that(f"$outputs.{name} > {_literal(value)}"),
    "less_than": lambda name, value: _that(f"$outputs.{name} < {_literal(value)}"),
    "exists": lambda name, _: _that(f"has($outputs.{name})"),
}
_FIELDS = ("output_variable", "assertion_type", "expected_value")


def written(agent: Agent, input_of: Callable[[str], str]) -> Json:
    """The tests of its document, with the inputs as its workflow calls them."""
    given = agent.definition.get("tests", {})
    if not isinstance(given, dict):
        return given
    return {name: _renamed(test, input_of) for name, test in given.items()}


def recorded(
    agent: Agent, input_of: Callable[[str], str]
) -> tuple[dict[str, Json], tuple[Problem, ...]]:
    """The tests of its `run_config` by name, and what of them cannot be read."""
    problems: list[Problem] = []
    section = Section(dict(agent.definition), "", problems).section("run_config")
    given = section.fields.get("tests", [])
    inputs = section.section("last_inputs").fields
    if not isinstance(given, list):
        section.wrong(section.at("tests"), given, "a list of tests")
        return {}, tuple(problems)
    found: dict[str, Json] = {}
    for index, entry in enumerate(given[: words.MAX_TESTS]):
        test = Section(entry, section.at(f"tests[{index}]"), problems)
        expect = _expected(agent, test)
        if expect is not None:
            name = f"{index + 1}: {test.fields['output_variable']} {test.fields['assertion_type']}"
            found[name] = {
                "inputs": {input_of(each): value for each, value in inputs.items()},
                "expect": expect,
            }
    return found, tuple(problems)


def _expected(agent: Agent, test: Section) -> dict[str, Json] | None:
    """What an assertion expects; None where it cannot be read."""
    before = len(test.problems)
    for field in _FIELDS[:2]:
        if field not in test.fields:
            test.fail(field, "it is missing", f"write {', '.join(_FIELDS)}")
    name = test.option("output_variable", agent.outputs or ("nothing",), ())
    kind = test.option("assertion_type", _ASSERTIONS, ())
    if name is None or kind is None or len(test.problems) > before:
        return None
    try:
        return _ASSERTIONS[kind](name, test.fields.get("expected_value"))
    except _NoLiteral:
        value = test.fields.get("expected_value")
        wanted = "a number, or a text without control characters"
        test.wrong(test.at("expected_value"), value, wanted)
        return None


def _that(expression: str) -> dict[str, Json]:
    return {"that": [expression]}


class _NoLiteral(ValueError):
    """A value cannot stand in an expression."""


def _literal(value: Json) -> str:
    """A value as an expression has it."""
    match value:
        case bool() | None:
            return {True: "true", False: "false", None: "null"}[value]
        case int() | float():
            return repr(value)
        case str() if all(each.isprintable() or each in "\n\t\r" for each in value):
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            for character, letter in (("\n", "n"), ("\t", "t"), ("\r", "r")):
                escaped = escaped.replace(character, f"\\{letter}")
            return f'"{escaped}"'
        case _:
            raise _NoLiteral(short(str(value)))


def _renamed(test: Json, input_of: Callable[[str], str]) -> Json:
    given = test.get("inputs") if isinstance(test, dict) else None
    if not isinstance(test, dict) or not isinstance(given, dict):
        return test
    return {**test, "inputs": {input_of(name): value for name, value in given.items()}}
