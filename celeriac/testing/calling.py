"""Calling a Python function as a sandbox would, without the sandbox."""

from __future__ import annotations

import asyncio
import inspect
import json
import linecache
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.core.values import VALUE_BYTES
from engine.settings import SANDBOX_BYTES
from workers.sandbox.inside import procs, values
from workers.sandbox.inside.state import Context, WorkflowState

#: What a call may return, as JSON: as much as in a worker whose settings say nothing of it.
MOST_BYTES = min(VALUE_BYTES, SANDBOX_BYTES // 2)

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Died(Exception):
    """A call ended without an answer."""

    def __init__(self, reason: str, message: str, *, terminal: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.terminal = terminal


async def on_state(
    function: Callable[..., Any], state: WorkflowState, context: Context, *, seconds: float | None
) -> Any:
    """Call with the state first and, where a second parameter is there for it, the context.

    Raises `Died`. A function that is not asynchronous cannot be stopped: one that took too
    long is told so when it returns.
    """
    return await _timed(function, lambda: _called(function, state, context), seconds)


async def as_proc(
    function: Callable[..., Any],
    params: Mapping[str, Any],
    output: Sequence[str],
    context: Context,
    *,
    seconds: float | None,
) -> Any:
    """Call as a step of a list does: its params by name, and its output. Raises `Died`."""
    arguments = {"params": params, "output": output}
    return await _timed(
        function,
        lambda: function(**procs.named(_parameters(function), arguments, context)),
        seconds,
    )


async def _timed(
    function: Callable[..., Any], call: Callable[[], Any], seconds: float | None
) -> Any:
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds) as limit:
            answer = call()
            if inspect.isawaitable(answer):
                answer = await answer
    except (Exception, SystemExit) as error:
        if limit.expired():
            raise _too_late(seconds) from error
        raise died(error, function) from error
    if seconds is not None and time.monotonic() - began > seconds:
        raise _too_late(seconds)
    return answer


def plainly(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], context: Context
) -> Any:
    """Call with the arguments that a caller gave; an object has the methods of a state, too."""
    given = [_stateful(value) for value in args]
    named = {key: _stateful(value) for key, value in kwargs.items()}
    if "context" in {parameter.name for parameter in _parameters(function)[len(given) :]}:
        named.setdefault("context", context)
    answer = function(*given, **named)
    if inspect.iscoroutine(answer):
        answer.close()
        raise TypeError("a tool answers at once; make it a plain function, without async")
    return answer


def plain(value: object, *, what: str, limit: int | None = None) -> Any:
    """What is left of a value that crosses to the platform: JSON data, a copy.

    Raises `values.Refused` and `values.TooLarge`.
    """
    return json.loads(values.encode(value, what=what, limit=limit or MOST_BYTES))


def died(error: BaseException, function: Callable[..., Any]) -> Died:
    """An error in the words that a sandbox reports it in."""
    match error:
        case Died():
            return error
        case values.TooLarge():
            return Died("output_too_large", str(error))
        case values.Refused():
            return Died("error", f"{name_of(function)}: {error}")
        case MemoryError():
            return Died("memory", f"it needed more memory than there is{_place(error, function)}")
        case _:
            return Died("error", f"{type(error).__name__}: {error}{_place(error, function)}")


def name_of(function: Callable[..., Any]) -> str:
    """What a function is called in messages."""
    return getattr(function, "__name__", type(function).__name__)


def _too_late(seconds: float | None) -> Died:
    return Died("timeout", f"it ran longer than {seconds:g} s")


def _place(error: BaseException, function: Callable[..., Any]) -> str:
    """The deepest line of the function's own file, or nothing when it was not reached."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    number, traceback = None, error.__traceback__
    while code is not None and traceback is not None:
        if traceback.tb_frame.f_code.co_filename == code.co_filename:
            number = traceback.tb_lineno
        traceback = traceback.tb_next
    if code is None or number is None:
        return ""
    where = f"{Path(code.co_filename).name}, line {number}"
    line = linecache.getline(code.co_filename, number).strip()
    return f" ({where}: {line[:200]})" if line else f" ({where})"


def _called(function: Callable[..., Any], state: WorkflowState, context: Context) -> Any:
    """What a function answers that is given the state and, where it has a place for it, the context."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for parameter in _parameters(function):
        by_position = parameter.kind in _BY_POSITION
        if not args and (by_position or parameter.kind is parameter.VAR_POSITIONAL):
            args.append(state)
        elif by_position and len(args) == 1 and _wants_context(parameter):
            args.append(context)
        elif parameter.name == "context" and parameter.kind not in _COLLECTING:
            kwargs["context"] = context
    return function(*args, **kwargs)


def _wants_context(parameter: inspect.Parameter) -> bool:
    return parameter.name == "context" or parameter.default is parameter.empty


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin without a signature
        return [inspect.Parameter("state", inspect.Parameter.POSITIONAL_ONLY)]


def _stateful(value: Any) -> Any:
    return WorkflowState(value) if isinstance(value, dict) else value
