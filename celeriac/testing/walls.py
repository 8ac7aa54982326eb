"""Code and templates of others, behind the walls of a sandbox.

The sandbox is started with the first call, because most tests need none.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self

from celeriac.testing.calling import Died
from engine.core.values import BYTES, Json
from workers.sandbox import CallAnswer, Job, Outcome, Sandbox, SandboxUnavailable
from workers.sandbox.inside.calls import ToolError
from workers.sandbox.inside.state import Context, WorkflowState

_FACTS = ("run_id", "version_id", "node", "iteration", "attempt", "step", "idempotency_key")


class Walls:
    """A sandbox, once it is needed."""

    def __init__(self) -> None:
        self._sandbox: Sandbox | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None

    def function(self, name: str, source: str) -> Callable[..., object]:
        """What calls a function of source, on a state or by the params of a step."""

        def call(
            state: WorkflowState | None = None, /, *, context: Context, **given: Any
        ) -> object:
            if state is not None:
                job = Job(
                    mode="node",
                    name=name,
                    source=source,
                    arguments={"state": dict(state)},
                    context=_told(context),
                )
                outcome = self._run(job, context)
                for key in outcome.removed:
                    state.pop(key, None)
                state.update(outcome.patch or {})
                return outcome.value
            output = given.pop("output", [])
            job = Job(
                mode="node",
                name=name,
                source=source,
                arguments={"params": _closed(given), "output": output},
                context=_told(context),
            )
            outcome = self._run(job, context)
            if outcome.status is None:
                return outcome.value
            return outcome.value, {"status": outcome.status}

        return call

    def tool(self, name: str, source: str) -> Callable[..., object]:
        """What calls a tool of source."""

        def call(*args: Any, context: Context, **kwargs: Any) -> object:
            job = Job(
                mode="tool",
                name=name,
                source=source,
                arguments={"args": [*args], "kwargs": kwargs},
                context=_told(context),
            )
            return self._run(job, context).value

        return call

    def template(self, text: str, names: Mapping[str, Json], facts: Mapping[str, Any]) -> Json:
        """A text with its holes filled in. Raises `Died`."""
        job = Job(
            mode="template",
            name=facts["node"],
            source=text,
            arguments={"variables": dict(names)},
            context=dict(facts),
        )
        return self._run(job).value

    def _run(self, job: Job, context: Context | None = None) -> Outcome:
        """Carry a job out. Raises `Died`."""
        try:
            if self._sandbox is None:
                sandbox = Sandbox()
                sandbox.start()
                self._sandbox = sandbox
            on_call = None if context is None else partial(_answered, context)
            outcome = self._sandbox.run(job, on_call=on_call)
        except SandboxUnavailable as error:
            raise Died("error", str(error), terminal=True) from error
        if outcome.used and context is not None:
            context.use(**dict[str, Any](outcome.used))
        if not outcome.ok:
            raise Died(outcome.reason or "error", outcome.message)
        return outcome


def _answered(context: Context, tool: str, args: list[Any], kwargs: dict[str, Any]) -> CallAnswer:
    """What a tool says to code behind the walls."""
    try:
        return CallAnswer(ok=True, value=context.invoke(tool, *args, **kwargs))
    except ToolError as error:
        message = str(error).removeprefix(f"{error.tool}: ")
        return CallAnswer(ok=False, reason=error.reason, message=message)


def _told(context: Context) -> dict[str, Any]:
    return {fact: getattr(context, fact) for fact in _FACTS}


def _closed(value: Any) -> Any:
    """A value with what stands for bytes in the place of them."""
    match value:
        case bytes():
            return {BYTES: base64.b64encode(value).decode()}
        case dict():
            return {name: _closed(each) for name, each in value.items()}
        case list():
            return [_closed(each) for each in value]
        case _:
            return value
