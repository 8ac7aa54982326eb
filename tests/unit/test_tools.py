"""What tools ask of their callers, and what is wrong with the arguments of a call."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from engine import tools
from engine.core.values import Json
from engine.errors import Invalid
from engine.tools import Bound, Standing, Undo

SEARCH = tools.terms(
    {
        "parameters": {
            "query": {"type": "string", "minLength": 1},
            "limit": {"type": "integer", "minimum": 1, "maximum": 50, "default": 5},
            "order": {"enum": ["new", "old"], "required": False},
        }
    }
).schema


def bound(*args: Any, takes: tuple[str, ...] = (), **kwargs: Any) -> Bound:
    return tools.bound(SEARCH, takes, {"args": [*args], "kwargs": kwargs})


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        ({}, "arguments.query", "it is missing"),
        ({"query": 7}, "arguments.query", '7 is not of type "string"'),
        ({"query": ""}, "arguments.query", "shorter than 1"),
        ({"query": "a", "limit": 0}, "arguments.limit", "less than the minimum of 1"),
        ({"query": "a", "limit": 51}, "arguments.limit", "greater than the maximum of 50"),
        ({"query": "a", "limit": "5"}, "arguments.limit", 'not of type "integer"'),
        ({"query": "a", "order": "odd"}, "arguments.order", "not one of"),
        ({"query": "a", "limits": 3}, "arguments.limits", "it is not taken"),
        ({"query": float("nan")}, "arguments.query", "number is not finite"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(
    given: dict[str, Any], path: str, message: str
) -> None:
    (problem,) = bound(**given).problems
    assert problem.path == path
    assert message in problem.message


def test_every_argument_that_does_not_fit_is_named_at_once() -> None:
    found = bound(limit=0, order=1, more=2).problems
    assert {problem.path.partition(".")[2] for problem in found} == {
        "query",
        "limit",
        "order",
        "more",
    }
    assert next(p for p in bound(query="a", limits=3).problems).remedy == "did you mean limit?"


def test_arguments_by_position_go_to_the_names_that_the_code_takes() -> None:
    given = bound("gout", "old", takes=("query", "order", "context"))
    assert given.problems == ()
    assert given.arguments == {"query": "gout", "order": "old", "limit": 5}
    assert bound("gout", 3).arguments == {"query": "gout", "limit": 3}
    (many,) = bound("a", 1, "new", 4).problems
    assert (many.path, many.message) == (
        "arguments[3]",
        "4 arguments by position, 3 are taken",
    )
    (twice,) = bound("a", query="b").problems
    assert (twice.path, "twice" in twice.message) == ("arguments.query", True)


def test_a_tool_that_declares_nothing_takes_anything() -> None:
    found = tools.bound(None, ["a"], {"args": [1], "kwargs": {"b": 2}})
    assert found == Bound(arguments={"a": 1, "b": 2})


def test_a_schema_may_be_given_whole() -> None:
    whole = {
        "type": "object",
        "properties": {"who": {"$ref": "#/$defs/name"}},
        "$defs": {"name": {"type": "string"}},
    }
    schema = tools.terms({"parameters": whole}).schema
    assert schema == whole
    problems = tools.bound(schema, [], {"args": [], "kwargs": {"who": 1, "more": 2}}).problems
    assert [problem.path for problem in problems] == ["arguments.who"]
    # A parameter may be called `type`.
    named = tools.terms({"parameters": {"type": {"type": "string"}}}).schema
    assert named is not None
    assert named["required"] == ["type"]


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"parameters": ["query"]}, "parameters"),
        ({"parameters": {"query": "string"}}, "parameters.type"),
        ({"parameters": {"type": "array"}}, "parameters.type"),
        ({"parameters": {"query": {"type": "text"}}}, "parameters.properties.query.type"),
        ({"parameters": {"query": {"pattern": "("}}}, "parameters.properties.query.pattern"),
        ({"parameters": {"q": {"$ref": "http://a/b"}}}, "parameters.properties.q.$ref"),
        ({"parameters": {"q": {"description": "x" * 70_000}}}, "parameters"),
        ({"required_permissions": "read"}, "required_permissions"),
        ({"required_permissions": ["a b"]}, "required_permissions[0]"),
        ({"cost_estimate_usd": -0.01}, "cost_estimate_usd"),
        ({"cost_estimate_usd": float("inf")}, "cost_estimate_usd"),
        ({"cost_estimate_usd": True}, "cost_estimate_usd"),
        ({"tokens_estimate": 1.5}, "tokens_estimate"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": "30"}, "timeout_seconds"),
        ({"rate_per_minute": 0}, "rate_per_minute"),
        ({"rate_per_hour": -1}, "rate_per_hour"),
        ({"requires_approval": "yes"}, "requires_approval"),
        ({"category": "searching"}, "category"),
        ({"costs": 1}, "costs"),
    ],
)
def test_terms_that_are_wrong_are_refused_with_their_field(
    given: dict[str, Any], path: str
) -> None:
    with pytest.raises(Invalid) as refused:
        tools.terms(given)
    assert [problem.path for problem in refused.value.problems] == [path]


def test_terms_are_exact_to_a_billionth() -> None:
    found = tools.terms({"cost_estimate_usd": 0.1, "required_permissions": ["read:a", "read:a"]})
    assert found.cost_estimate_usd == Decimal("0.1")
    assert found.required_permissions == ("read:a",)
    assert tools.terms({}) == tools.USUAL
    assert tools.terms({"cost_estimate_usd": None, "rate_per_minute": None}) == tools.USUAL


def test_how_a_tool_stands_changes_field_by_field() -> None:
    before = Standing(status="deprecated", tags=("a",))
    assert tools.standing({"tags": ["c", "b", "c"]}, before).tags == ("b", "c")
    assert tools.standing({"status": "active"}, before) == Standing(tags=("a",))
    for wrong in ({"status": "off"}, {"tags": "a"}, {"tags": [""]}, {"cost": 1}):
        with pytest.raises(Invalid):
            tools.standing(wrong)


def test_models_are_told_what_code_takes_where_it_declares_nothing() -> None:
    schema = tools.derived(
        {
            "query": {"annotation": "str", "default": None, "required": True},
            "tags": {"annotation": "list[str]", "default": None, "required": False},
            "depth": {"annotation": "int", "default": 2, "required": False},
            "any": {"annotation": "Any", "default": None, "required": True},
            "context": {"annotation": "Any", "default": None, "required": True},
        }
    )
    assert tools.for_models("look", "Looks", schema) == {
        "type": "function",
        "function": {
            "name": "look",
            "description": "Looks",
            "parameters": {
                "type": "object",
                "properties": {
                    "query": {"type": "string"},
                    "tags": {"type": "array"},
                    "depth": {"type": "integer", "default": 2},
                    "any": {},
                },
                "required": ["query", "any"],
            },
        },
    }


# --- what undoes a call -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("undo", "path", "message"),
    [
        (7, "undo", "7 stands here"),
        ("no name", "undo", "'no name' stands here"),
        ({}, "undo.tool", "nothing (null) stands here"),
        ({"tool": "refund", "wiht": {}}, "undo.wiht", "there is no field"),
        ({"tool": "refund", "with": ["$result"]}, "undo.with", "a list stands here"),
        ({"tool": "refund", "with": {"id": "$result."}}, "undo.with.id", ""),
        ({"tool": "refund", "with": {"id": ["$run.id"]}}, "undo.with", "$run is nothing of a call"),
        ({"tool": "refund", "with": {"id": float("nan")}}, "undo.with.id", "finite"),
    ],
)
def test_what_cannot_say_how_a_call_is_undone_is_told(undo: Any, path: str, message: str) -> None:
    with pytest.raises(Invalid) as refused:
        tools.terms({"undo": undo})
    (problem,) = refused.value.problems
    assert (problem.path, message in problem.message) == (path, True), problem


def test_a_call_is_undone_with_what_is_read_of_it() -> None:
    given = {"tool": "refund@2", "with": {"id": "$result.id", "why": ["$$", "$arguments.n + 1"]}}
    undo = tools.terms({"undo": given}).undo
    assert undo is not None
    assert (undo.told(), Undo.read(undo.told())) == (given, undo)
    call: dict[str, Json] = {"arguments": {"n": 1}, "result": {"id": "c-1"}}
    assert undo.arguments(call) == {"id": "c-1", "why": ["$", 2]}
    plain = tools.terms({"undo": "refund"}).undo
    assert plain == Undo(tool="refund")
    assert plain.arguments(call) == call


def test_who_learns_later_how_a_call_is_undone_can_undo_those_there_were() -> None:
    before, after = tools.terms({}), tools.terms({"undo": "refund"})
    assert tools.guarded(before, after).undo == Undo(tool="refund")
    assert tools.guarded(after, before).undo == Undo(tool="refund")
