"""What a function takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from inspect import Parameter
from itertools import islice
from types import FunctionType
from typing import Any

#: By these a function, or what was made of it, says that it takes something else than is written.
_SAYS_OTHERWISE = frozenset({"__signature__", "__wrapped__"})


def of(function: Callable[..., Any]) -> list[Parameter]:
    """The parameters of a function, perhaps without their annotations.

    `inspect` takes longer to look at an ordinary function than all else that is done around a small one.
    """
    if isinstance(function, FunctionType) and _SAYS_OTHERWISE.isdisjoint(function.__dict__):
        return list(_written(function))
    return whole(function)


def whole(function: Callable[..., Any]) -> list[Parameter]:
    """The parameters of a function, with their annotations."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin without a signature
        return [Parameter("state", Parameter.POSITIONAL_ONLY)]


def _written(function: FunctionType) -> Iterator[Parameter]:
    code, named = function.__code__, function.__kwdefaults__ or {}
    names = iter(code.co_varnames)
    given = function.__defaults__ or ()
    defaults = (*[Parameter.empty] * (code.co_argcount - len(given)), *given)
    for number, (name, default) in enumerate(
        zip(islice(names, code.co_argcount), defaults, strict=True)
    ):
        alone = number < code.co_posonlyargcount
        kind = Parameter.POSITIONAL_ONLY if alone else Parameter.POSITIONAL_OR_KEYWORD
        yield Parameter(name, kind, default=default)
    by_name = [*islice(names, code.co_kwonlyargcount)]
    if code.co_flags & inspect.CO_VARARGS:
        yield Parameter(next(names), Parameter.VAR_POSITIONAL)
    for name in by_name:
        yield Parameter(name, Parameter.KEYWORD_ONLY, default=named.get(name, Parameter.empty))
    if code.co_flags & inspect.CO_VARKEYWORDS:
        yield Parameter(next(names), Parameter.VAR_KEYWORD)
