from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from celeriac import (
    NodeType,
    ToolDefinition,
    ToolError,
    ToolRegistry,
    WorkflowEngine,
    WorkflowGraph,
    WorkflowState,
    get_global_registry,
    invoke,
    tool,
)
from celeriac.sdk import tools
from engine.errors import Invalid


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_registry", ToolRegistry())


def test_an_unknown_tool_is_a_key_error_that_names_what_there_is() -> None:
    get_global_registry().add(len, name="length")
    with pytest.raises(KeyError, match=r"'nothing' is not registered; registered: length"):
        get_global_registry().invoke("nothing")


def test_a_function_without_a_name_needs_one() -> None:
    with pytest.raises(ValueError, match="pass name="):
        get_global_registry().add(lambda: None)


def test_the_published_tool_can_be_invoked_and_is_listed() -> None:
    @tool(name="my_tool", description="Does something useful")
    def my_tool_function(arg1: str, arg2: int) -> dict[str, str]:
        return {"result": f"{arg1} - {arg2}"}

    registry = get_global_registry()
    assert registry.invoke("my_tool", "hello", 42) == {"result": "hello - 42"}
    assert registry.list() == (
        {
            "name": "my_tool",
            "description": "Does something useful",
            "parameters": {
                "arg1": {"annotation": "str", "default": None, "required": True},
                "arg2": {"annotation": "int", "default": None, "required": True},
            },
        },
    )


def test_a_tool_added_by_hand_is_described_by_its_docstring_and_defaults() -> None:
    def another(first: Any, *rest: int, deep: bool = False, how: object = object()) -> None:
        """Do it.

        At length.
        """

    registry = get_global_registry()
    registry.add(another, name="another_tool")
    (listed,) = registry.list()
    assert listed["description"] == "Do it."
    assert listed["parameters"] == {
        "first": {"annotation": "Any", "default": None, "required": True},
        "deep": {"annotation": "bool", "default": False, "required": False},
        "how": {"annotation": "object", "default": None, "required": False},
    }


def test_a_name_registered_again_is_the_newer_tool() -> None:
    registry = get_global_registry()
    registry.add(lambda: 1, name="which")
    registry.add(lambda: 2, name="which")
    assert registry.invoke("which") == 2
    assert len(registry) == 1


def test_a_tool_may_be_registered_on_the_terms_of_a_definition() -> None:
    registry = ToolRegistry()
    definition = ToolDefinition(
        name="search_documents",
        description="Search internal documents",
        parameters={"query": {"type": "string"}},
        required_permissions=["read:documents"],
        cost_estimate_usd=0.01,
    )
    registry.register(definition, handler=lambda query: [query])
    assert registry.invoke("search_documents", "gout") == ["gout"]
    assert registry.definition("search_documents") is definition
    assert definition.terms.cost_estimate_usd == Decimal("0.01")
    assert definition.told() == {
        "name": "search_documents",
        "description": "Search internal documents",
        "parameters": {"query": {"type": "string"}},
        "required_permissions": ["read:documents"],
        "cost_estimate_usd": 0.01,
    }
    (offered,) = registry.get_tools_for_llm()
    assert offered["function"]["parameters"]["required"] == ["query"]
    wrong = registry.bound("search_documents", {"args": [], "kwargs": {"q": 1}}).problems
    assert {problem.path for problem in wrong} == {"arguments.query", "arguments.q"}


def test_terms_that_are_wrong_register_nothing() -> None:
    registry = get_global_registry()
    with pytest.raises(Invalid) as refused:
        tool(name="f", cost_estimate_usd=-1, timeout_seconds=0)(len)
    assert [p.path for p in refused.value.problems] == ["cost_estimate_usd", "timeout_seconds"]
    with pytest.raises(Invalid):
        tool(name="f", status="off")(len)
    assert len(registry) == 0


def test_models_are_told_of_the_tools_that_may_be_called() -> None:
    @tool(category="compute", tags=["math"])
    def add(left: int, right: int = 1) -> int:
        """The sum."""
        return left + right

    tool(name="off", status="disabled")(add)
    assert get_global_registry().get_tools_for_llm() == (
        {
            "type": "function",
            "function": {
                "name": "add",
                "description": "The sum.",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "left": {"type": "integer"},
                        "right": {"type": "integer", "default": 1},
                    },
                    "required": ["left"],
                },
            },
        },
    )


def test_a_node_may_name_a_tool_as_its_function() -> None:
    @tool()
    def add_one(state: WorkflowState) -> WorkflowState:
        state.set("n", state.get("n", 0) + 1)
        return state

    graph = WorkflowGraph()
    graph.add_node("start", func="add_one", node_type=NodeType.START)
    graph.add_node("end", node_type=NodeType.END)
    graph.add_edge("start", "end")
    assert _run(graph, n=5) == {"n": 6}


def test_a_call_in_a_run_is_held_to_what_its_tool_declares() -> None:
    calls: list[int] = []

    @tool(parameters={"n": {"type": "integer", "maximum": 9}})
    def halve(n: int) -> int:
        calls.append(n)
        return n // 2

    tool(name="off", status="disabled")(lambda: None)

    def work(state: WorkflowState) -> None:
        for name, argument in (("halve", "8"), ("halve", 10), ("off", 1), ("halve", 8)):
            try:
                state["half"] = invoke(name, argument)
            except ToolError as error:
                state.set("said", [*state.get("said", []), str(error)])

    graph = WorkflowGraph()
    graph.add_node("work", func=work)
    graph.add_node("end", node_type=NodeType.END)
    graph.add_edge("work", "end")
    final = _run(graph)
    assert (final["half"], calls) == (4, [8])
    first, second, third = final["said"]
    assert "arguments.n" in first
    assert "arguments.n: 10 is greater" in second
    assert "tool off is disabled" in third


def test_a_function_calls_tools_and_hears_of_their_failures() -> None:
    @tool()
    def halve(n: int) -> int:
        if n % 2:
            raise ValueError(f"{n} is odd")
        return n // 2

    def work(state: WorkflowState) -> None:
        state["half"] = invoke("halve", state["n"])
        for name, argument in (("halve", 3), ("double", 3)):
            try:
                invoke(name, argument)
            except ToolError as error:
                state[name] = [error.reason, str(error).partition(" (")[0]]

    graph = WorkflowGraph()
    graph.add_node("work", func=work)
    graph.add_node("end", node_type=NodeType.END)
    graph.add_edge("work", "end")
    assert _run(graph, n=8) == {
        "n": 8,
        "half": 4,
        "halve": ["error", "halve: ValueError: 3 is odd"],
        "double": ["no_such_tool", "double: tool 'double' is not registered"],
    }


def test_outside_of_a_run_invoke_is_the_registry() -> None:
    get_global_registry().add(abs, name="absolute")
    assert invoke("absolute", -3) == 3
    with pytest.raises(KeyError):
        invoke("nothing")


def _run(graph: WorkflowGraph, **state: Any) -> dict[str, Any]:
    engine = WorkflowEngine()
    engine.register_graph(graph)
    result = asyncio.run(engine.run(graph_id=graph.graph_id, initial_state=state))
    assert result["status"] == "completed", result["final_state"]["error"]
    return result["final_state"]["data"]
