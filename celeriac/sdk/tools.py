"""Tools: functions that running steps call by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypedDict, TypeVar

from engine.core import values
from workers.sandbox.inside.calls import ToolError

__all__ = [
    "Parameter",
    "ToolError",
    "ToolInfo",
    "ToolRegistry",
    "calling",
    "get_global_registry",
    "invoke",
    "parameters",
    "tool",
]

F = TypeVar("F", bound=Callable[..., Any])


class Parameter(TypedDict):
    """One parameter of a tool, as `/tools/list` shows it."""

    annotation: str
    default: Any
    required: bool


class ToolInfo(TypedDict):
    """One tool, as `/tools/list` shows it."""

    name: str
    description: str
    parameters: dict[str, Parameter]


class ToolRegistry(Mapping[str, Callable[..., Any]]):
    """Tools by name. Adding a name again replaces its tool."""

    def __init__(self) -> None:
        self._tools: dict[str, tuple[Callable[..., Any], str]] = {}

    def add(
        self,
        function: Callable[..., Any],
        name: str | None = None,
        description: str | None = None,
    ) -> None:
        """Register a function under its own name or another.

        The first line of its docstring describes it unless `description` does.
        """
        known_as = name or getattr(function, "__name__", "")
        if not known_as or known_as == "<lambda>":
            raise ValueError(f"{function!r} has no name to be called by; pass name=")
        self._tools[known_as] = (function, description or _summary(function))

    def invoke(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a tool. Raises `KeyError` when there is none of that name."""
        return self[name](*args, **kwargs)

    def list(self) -> tuple[ToolInfo, ...]:
        """Every tool with its parameters, by name."""
        return tuple(
            ToolInfo(name=name, description=description, parameters=parameters(function))
            for name, (function, description) in sorted(self._tools.items())
        )

    def description(self, name: str) -> str:
        """What a tool says of itself. Raises `KeyError`."""
        return self._found(name)[1]

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return self._found(name)[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    def _found(self, name: str) -> tuple[Callable[..., Any], str]:
        try:
            return self._tools[name]
        except KeyError:
            known = ", ".join(sorted(self._tools)) or "none"
            raise KeyError(f"tool {name!r} is not registered; registered: {known}") from None


def tool(*, name: str | None = None, description: str | None = None) -> Callable[[F], F]:
    """Register the decorated function as a tool; the function itself stays what it is."""

    def register(function: F) -> F:
        get_global_registry().add(function, name=name, description=description)
        return function

    return register


def get_global_registry() -> ToolRegistry:
    """The registry of this process."""
    return _registry


def invoke(name: str, /, *args: Any, **kwargs: Any) -> Any:
    """Call a tool from a function of a workflow.

    In a run the call is the run's: recorded, and served from the record when the step is
    tried again. It raises `ToolError` when it is refused or fails. Outside of a run this is
    `get_global_registry().invoke`.
    """
    return (_caller.get() or _registry.invoke)(name, *args, **kwargs)


@contextmanager
def calling(caller: Callable[..., Any]) -> Iterator[None]:
    """While this lasts, `invoke` goes to `caller`."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


def parameters(function: Callable[..., Any]) -> dict[str, Parameter]:
    """What a function takes."""
    return {
        name: Parameter(
            annotation=_annotation(parameter.annotation),
            default=_default(parameter.default),
            required=parameter.default is parameter.empty,
        )
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }


def _summary(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").strip().partition("\n")[0].strip()


def _annotation(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return "Any"
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _default(default: Any) -> Any:
    """A default as JSON shows it; null for one that JSON does not know."""
    if default is inspect.Parameter.empty or any(values.problems(default)):
        return None
    return default


_registry = ToolRegistry()
_caller: ContextVar[Callable[..., Any] | None] = ContextVar("caller", default=None)
