"""Procs: functions that a step of a list calls by its params, and how they say that they failed."""

from __future__ import annotations

import base64
import inspect
import json
from collections.abc import Iterable, Mapping
from typing import Any

from . import values
from .state import Context

_COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def named(
    parameters: Iterable[inspect.Parameter], arguments: Mapping[str, Any], context: Context
) -> dict[str, Any]:
    """What a proc is called with: the params of its step and, where it has a place for them, the
    names of the step's output, and the context.

    Bytes are bytes to it. A param is turned into text or bytes where the function asks for that, and
    one that is null is left to the function's own default.
    """
    found = {name: _opened(value) for name, value in arguments["params"].items()}
    for parameter in parameters:
        if parameter.name in found:
            given = found[parameter.name]
            if given is None and parameter.default is not parameter.empty:
                del found[parameter.name]
            else:
                found[parameter.name] = _as_asked(given, parameter.annotation)
        if parameter.name == "output" or parameter.kind is parameter.VAR_KEYWORD:
            found.setdefault("output", [*arguments["output"]])
        elif parameter.name == "context" and parameter.kind not in _COLLECTING:
            found.setdefault("context", context)
    return found


def _opened(value: Any) -> Any:
    """A value with bytes in the place of what stands for them."""
    match value:
        case {values.BYTES: str(text)} if len(value) == 1:
            try:
                return base64.b64decode(text, validate=True)
            except ValueError:
                return value
        case dict():
            return {name: _opened(each) for name, each in value.items()}
        case list():
            return [_opened(each) for each in value]
        case _:
            return value


def _as_asked(value: Any, annotation: Any) -> Any:
    """A value as what a function says that it takes, if that is text or bytes."""
    # What is registered as source has its hints as text; not every hint can be hashed.
    if annotation in ("bytes", bytes) and isinstance(value, str):
        return value.encode()
    if annotation in ("str", str):
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, (bool, int, float)):
            return json.dumps(value)
    return value


def answered(answer: Any) -> tuple[Any, dict[str, Any] | None]:
    """What a proc answered, and how it says that it ended, if it does.

    It does by a tuple of two, the second of which is `{"status": {"value": …, "reason": …}}`. A
    list never is one: only here can the two be told apart. Raises `values.Refused` for a status
    that says nothing.
    """
    match answer:
        case (value, Mapping() as said) if isinstance(answer, tuple) and "status" in said:
            pass
        case _:
            return answer, None
    status = said["status"]
    if not (
        said.keys() == {"status"}
        and isinstance(status, Mapping)
        and isinstance(status.get("value"), (bool, int, float))
        and isinstance(status.get("reason", ""), str)
    ):
        refused = values.Refused('is to be (answer, {"status": {"value": 0, "reason": "…"}})')
        refused.path.append("what it returned with its status")
        raise refused
    return value, {"reason": "", **status}
