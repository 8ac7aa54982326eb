"""What functions take is found without `inspect`, and as it finds it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from workers.sandbox.inside import signature


def nothing() -> None: ...
def one(state: Any) -> None: ...
def more(state: Any, context: Any = None, *rest: Any, last: Any, other: Any = 1) -> None: ...
def alone(state: Any, /, context: Any = (), **named: Any) -> None: ...
def all_alone(state: Any = 0, context: Any = 0, /) -> None: ...
def by_name(*, context: Any, other: Any = 2, **named: Any) -> None: ...
def anything(*args: Any, **kwargs: Any) -> None: ...


def with_variables(state: Any, context: Any = 3) -> Any:
    first, second = state, context
    return [first for _ in (second,)]


def keeping(outer: Any) -> Callable[..., Any]:
    def inner(state: Any, *, context: Any = outer) -> Any:
        return outer, state, context

    return inner


@functools.wraps(more)
def wrapping(*args: Any, **kwargs: Any) -> None: ...


def saying(*args: Any) -> None: ...


saying.__signature__ = inspect.signature(one)  # type: ignore[attr-defined]  # anybody may


class Called:
    def __call__(self, state: Any, context: Any = None) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        nothing,
        one,
        more,
        alone,
        all_alone,
        by_name,
        anything,
        with_variables,
        keeping(4),
        lambda state, *, context=5: (state, context),
        wrapping,
        saying,
        Called(),
        Called,
        functools.partial(more, last=6),
        Called().__call__,
    ],
)
def test_it_is_what_inspect_finds(function: Callable[..., Any]) -> None:
    told = inspect.signature(function).parameters.values()
    assert [one.replace(annotation=one.empty) for one in signature.of(function)] == [
        one.replace(annotation=one.empty) for one in told
    ]
    assert signature.whole(function) == [*told]


def test_what_has_no_signature_is_given_the_state() -> None:
    (parameter,) = signature.of(dict)
    assert (parameter.name, parameter.kind) == ("state", parameter.POSITIONAL_ONLY)
