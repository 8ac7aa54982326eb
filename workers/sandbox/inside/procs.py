"""Procs: functions that a step of a list calls by its params, and how they say that they failed."""

from __future__ import annotations

import inspect
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
    """
    found = dict(arguments["params"])
    for parameter in parameters:
        if parameter.name == "output" or parameter.kind is parameter.VAR_KEYWORD:
            found.setdefault("output", [*arguments["output"]])
        elif parameter.name == "context" and parameter.kind not in _COLLECTING:
            found.setdefault("context", context)
    return found


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
