"""Tool calls of steps in memory, recorded by ordinal as the platform records them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from celeriac.sdk.tools import ToolRegistry
from celeriac.testing import calling
from engine.core.messages import StepKey
from engine.core.values import Json, canonical
from engine.tools import CLOSED
from workers.sandbox.inside.calls import ToolError
from workers.sandbox.inside.state import Context, WorkflowState


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One tool call of a step, and how it ended."""

    step: StepKey
    ordinal: int
    attempt: int
    tool: str
    args: list[Json]
    kwargs: dict[str, Json]
    value: Json = None
    #: Why it failed; None when it did not.
    reason: str | None = None
    message: str | None = None


class Caller:
    """One attempt's way to the tools. What an earlier attempt was answered is served again."""

    def __init__(
        self,
        tools: Mapping[str, Callable[..., object]],
        made: list[Call],
        *,
        step: StepKey,
        attempt: int,
        facts: Mapping[str, Any],
        use: Callable[[dict[str, float], str], object] = lambda _amounts, _model: None,
    ) -> None:
        self._tools = tools
        self._made = made
        self._step = step
        self._attempt = attempt
        self._facts = facts
        self._use = use
        self._ordinal = 0
        #: Set by a call that left the attempt no way to succeed.
        self.doomed: calling.Died | None = None

    def invoke(self, tool: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a tool and return what it returns. Raises `ToolError`."""
        given = calling.plain(args, what=f"arguments of {tool}")
        named = calling.plain(kwargs, what=f"arguments of {tool}")
        self._ordinal += 1
        function = self._tools.get(tool)
        if function is None:
            raise ToolError(tool, "no_such_tool", f"tool {tool!r} is not registered")
        self._check(tool, given, named)
        call = self._recorded(tool, given, named)
        if call is None:
            call = self._carry_out(function, tool, given, named)
            self._made.append(call)
        if call.reason is not None:
            raise ToolError(tool, call.reason, call.message or "")
        return WorkflowState(call.value) if isinstance(call.value, dict) else call.value

    def _check(self, tool: str, args: list[Json], kwargs: dict[str, Json]) -> None:
        """Hold a call to what its tool declares, where that is known. Raises `ToolError`."""
        if not isinstance(self._tools, ToolRegistry):
            return
        if self._tools.definition(tool).standing.status in CLOSED:
            status = self._tools.definition(tool).status
            raise ToolError(tool, "tool_closed", f"tool {tool} is {status}")
        bound = self._tools.bound(tool, {"args": args, "kwargs": kwargs})
        if bound.problems:
            said = "; ".join(f"{each.path}: {each.message}" for each in bound.problems)
            raise ToolError(tool, "arguments_refused", f"arguments of {tool}: {said}")

    def _recorded(self, tool: str, args: list[Json], kwargs: dict[str, Json]) -> Call | None:
        earlier = [
            call for call in self._made if (call.step, call.ordinal) == (self._step, self._ordinal)
        ]
        for call in earlier:
            if (call.tool, canonical([call.args, call.kwargs])) != (
                tool,
                canonical([args, kwargs]),
            ):
                message = (
                    f"call {self._ordinal} was {call.tool} in attempt {call.attempt} and is "
                    f"{tool} with other arguments now; make the same calls in every attempt"
                )
                self.doomed = calling.Died("nondeterministic_call", message, terminal=True)
                raise ToolError(tool, "nondeterministic_call", message)
        return next((call for call in earlier if call.reason is None), None)

    def _carry_out(
        self,
        function: Callable[..., object],
        tool: str,
        args: list[Json],
        kwargs: dict[str, Json],
    ) -> Call:
        key = f"{self._facts['idempotency_key']}/{self._ordinal}"
        facts = {**self._facts, "idempotency_key": key}
        context = Context(facts, invoke=_no_calls, tools=None, use=self._use)
        value, death = None, None
        try:
            answer = calling.plainly(function, args, kwargs, context)
            value = calling.plain(answer, what="result")
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever it was, the caller is told
            death = calling.died(error, function)
        return Call(
            step=self._step,
            ordinal=self._ordinal,
            attempt=self._attempt,
            tool=tool,
            args=args,
            kwargs=kwargs,
            value=value,
            reason=death.reason if death else None,
            message=str(death) if death else None,
        )


def _no_calls(tool: str, /, *_args: Any, **_kwargs: Any) -> Any:
    raise ToolError(tool, "no_calls", f"a tool cannot call another tool ({tool})")
