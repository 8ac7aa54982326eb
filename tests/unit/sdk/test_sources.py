"""Python functions on their way to a platform."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest

from celeriac import WorkflowState, tool
from celeriac.client.sources import GIVEN, name_in, source_of
from engine.core import source
from engine.errors import Invalid
from workers.sandbox.inside import namespace

LIMIT = 3


def constant(state: WorkflowState) -> None:
    state["n"] = LIMIT


def default(state: WorkflowState, limit: int = LIMIT) -> None:
    state["n"] = limit


def nested(state: WorkflowState) -> list[int]:
    def inner(n: int) -> int:
        return constant(WorkflowState({"n": n})) or n  # type: ignore[func-returns-value]

    return [inner(n) for n in state["list"]]


def imported(state: WorkflowState) -> None:
    state["cache"] = functools.lru_cache(Any)


@functools.cache
def decorated(state: WorkflowState) -> None: ...


def made(n: int) -> Callable[[WorkflowState], None]:
    def closure(state: WorkflowState) -> None:
        state["n"] = n

    return closure


class Holder:
    def method(self, state: WorkflowState) -> None: ...


async def later(state: WorkflowState) -> None: ...


@pytest.mark.parametrize(
    ("function", "complaints"),
    [
        (constant, ["LIMIT is defined outside of it"]),
        (default, ["LIMIT is defined outside of it"]),
        (nested, ["constant is defined outside of it"]),
        (decorated, ["its decorator @functools.cache stays here"]),
        (made(1), ["n is defined outside of it"]),
        (Holder().method, ["it is a method, and its object stays here"]),
        (later, ["it is asynchronous"]),
        (lambda state: state, ["it is not defined with def"]),
        (len, ["its source cannot be found"]),
        (Holder, ["it is not defined with def"]),
        (functools.partial(constant), ["its source cannot be found"]),
    ],
    ids=lambda value: "" if isinstance(value, list) else getattr(value, "__name__", "partial"),
)
def test_what_a_function_would_miss_is_said_with_what_to_do(
    function: Callable[..., Any], complaints: list[str]
) -> None:
    with pytest.raises(Invalid) as raised:
        source_of(function)
    assert [problem.message for problem in raised.value.problems] == complaints
    assert all(problem.remedy for problem in raised.value.problems)


def test_source_that_defines_nothing_has_no_name() -> None:
    for text in ("n = 1", "def f(:", "", "async def f(state): ..."):
        with pytest.raises(Invalid):
            name_in(text)
    assert name_in("def helper(): ...\ndef main(state): ...") == "main"


def test_a_function_travels_as_it_is_written() -> None:
    @tool(name="sdk_rounded", description="with a decorator that is left behind")
    def rounded(state: WorkflowState, digits: int = 2) -> WorkflowState:
        """Round it."""
        # Comments travel, too.
        value: float = state["value"]
        state.set("value", round(math.floor(value) + sum(n for n in [1, 2]), digits))
        return state if value else rounded(state, digits=digits)

    text = source_of(rounded)
    assert text.startswith("def rounded(state: WorkflowState, digits: int = 2)")
    assert "# Comments travel, too." in text
    assert source.check(text, name="rounded") == ()


def test_what_is_allowed_here_is_there() -> None:
    there = namespace.namespace(invoke=print, tools=None)
    assert there.keys() >= GIVEN
    assert there.keys() - GIVEN == {"__builtins__", "__name__"}
    assert source_of(imported).startswith("def imported")
