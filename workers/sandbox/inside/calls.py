"""Calling tools from inside: the question goes to the worker, which asks whether it may."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from typing import Any

from . import records, values, wire
from .state import WorkflowState

_NAME_BYTES = 1024
_USAGE_BYTES = 4096


class ToolError(Exception):
    """A tool was refused or failed; `tool` and `reason` say which and why."""

    def __init__(self, tool: str, reason: str, message: str) -> None:
        super().__init__(f"{tool}: {message}")
        self.tool = tool
        self.reason = reason


class NotShown(LookupError):
    """What a step asks to see cannot be shown; the message says why."""


class Calls:
    """The child's end of the socket, as one call after the other."""

    def __init__(self, fd: int, *, limit: int) -> None:
        self._fd = fd
        self._limit = limit
        # Trusted code may call from several threads; answers come in order of questions.
        self._turn = threading.Lock()

    def invoke(self, tool: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a tool and return what it returns. Raises `ToolError`.

        Arguments travel by value: a state is handed over as a copy, and a tool that changes
        and returns it gives that copy back. An answer that is an object has the methods of a
        state, too.
        """
        if not isinstance(tool, str):
            raise TypeError(f"a tool is called by its name, not by a {type(tool).__name__}")
        values.encode(tool, what="the name of a tool", limit=_NAME_BYTES)
        head = json.dumps({"type": "call", "tool": tool}).encode()
        given = values.encode(args, what=f"arguments of {tool}", limit=self._limit)
        named = values.encode(kwargs, what=f"arguments of {tool}", limit=self._limit)
        found = self._ask(head, given, named)
        if not found["ok"]:
            raise ToolError(tool, found["reason"], found["message"])
        value = found["value"]
        return WorkflowState(value) if isinstance(value, dict) else value

    def previous(self) -> list[Any]:
        """The executions that led to this step. Raises `NotShown`."""
        found = self._ask(json.dumps({"type": "previous"}).encode())
        if not found["ok"]:
            raise NotShown(found["message"])
        shown: list[Any] = records.of(found["value"])
        return shown

    def use(self, amounts: dict[str, float], model: str) -> None:
        """Tell what was used since the last time, and of which model; nobody answers."""
        body = values.encode(amounts, what="what was used", limit=_USAGE_BYTES)
        with self._turn:
            wire.send(self._fd, json.dumps({"type": "used", "model": model}).encode(), body)

    def _ask(self, *parts: bytes) -> Any:
        with self._turn:
            # What was printed before the question shall be read before it.
            sys.stdout.flush()
            sys.stderr.flush()
            wire.send(self._fd, *parts)
            (answer,) = wire.receive(self._fd)
        return json.loads(bytes(answer))


class Tools:
    """Tools by name: `tools["add_one"](…)` or `tools.add_one(…)`."""

    __slots__ = ("_calls",)

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def __getitem__(self, name: str) -> Callable[..., Any]:
        invoke = self._calls.invoke
        return lambda *args, **kwargs: invoke(name, *args, **kwargs)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]
