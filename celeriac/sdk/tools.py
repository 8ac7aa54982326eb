"""Tools: functions that running steps call by name, and the terms on which they may."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, TypedDict, TypeVar

from engine import tools as definitions
from engine.core import values
from engine.tools import Bound, Standing, Terms
from workers.sandbox.inside.calls import ToolError

__all__ = [
    "Parameter",
    "ToolDefinition",
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


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """What a tool is called, what it takes, and on which terms it may be called."""

    name: str
    description: str = ""
    #: A JSON Schema of an object, or schemas by name: `{"query": {"type": "string"}}`. None: whatever
    #: its function takes, unlooked at.
    parameters: Mapping[str, Any] | None = None
    required_permissions: Sequence[str] = ()
    #: USD that a call is taken to cost.
    cost_estimate_usd: Decimal | float = 0.0
    timeout_seconds: float = 30
    #: A person is asked before each call.
    requires_approval: bool = False
    tokens_estimate: int = field(default=0, kw_only=True)
    #: Calls of one user.
    rate_per_minute: int | None = field(default=None, kw_only=True)
    rate_per_hour: int | None = field(default=None, kw_only=True)
    #: What a call leaves in the world: `pure, idempotent, at_most_once, compensable`.
    effect: str = field(default="pure", kw_only=True)
    category: str | None = field(default=None, kw_only=True)
    #: What undoes a call, should somebody choose that: a tool's name, or `{"tool": name, "with": {…}}`, where
    #: `$arguments` and `$result` are those of the call. Without `with` it is given these two.
    undo: str | Mapping[str, Any] | None = field(default=None, kw_only=True)
    status: str = field(default="active", kw_only=True)
    tags: Sequence[str] = field(default=(), kw_only=True)

    @property
    def terms(self) -> Terms:
        """The terms of a call. Raises `Invalid` with every problem."""
        return definitions.terms({name: getattr(self, name) for name in _TERMS})

    @property
    def standing(self) -> Standing:
        """Its status and tags. Raises `Invalid`."""
        return definitions.standing({"status": self.status, "tags": list(self.tags)})

    def told(self) -> dict[str, Any]:
        """What of it differs from the usual, as it is handed to a platform."""
        found: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if value != each.default:
                found[each.name] = list(value) if isinstance(value, tuple) else value
        cost = found.get("cost_estimate_usd")
        return {**found, **({} if cost is None else {"cost_estimate_usd": float(cost)})}


#: The fields that are part of a tool's version.
_TERMS = ("parameters", *(each.name for each in fields(Terms) if each.name != "schema"))


@dataclass(frozen=True, slots=True)
class _Tool:
    """A tool that is registered here."""

    function: Callable[..., Any]
    definition: ToolDefinition
    terms: Terms
    standing: Standing


class ToolRegistry(Mapping[str, Callable[..., Any]]):
    """Tools by name. Adding a name again replaces its tool."""

    def __init__(self) -> None:
        self._tools: dict[str, _Tool] = {}

    def add(
        self,
        function: Callable[..., Any],
        name: str | None = None,
        description: str | None = None,
        **terms: Any,
    ) -> None:
        """Register a function under its own name or another.

        The first line of its docstring describes it unless `description` does. `terms` are further
        fields of `ToolDefinition`.
        """
        known_as = name or getattr(function, "__name__", "")
        if not known_as or known_as == "<lambda>":
            raise ValueError(f"{function!r} has no name to be called by; pass name=")
        self.register(
            ToolDefinition(known_as, description or _summary(function), **terms), handler=function
        )

    def register(self, definition: ToolDefinition, handler: Callable[..., Any]) -> None:
        """Register a function on the terms of a definition. Raises `Invalid` with every problem."""
        self._tools[definition.name] = _Tool(
            handler, definition, definition.terms, definition.standing
        )

    def invoke(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a tool. Raises `KeyError` when there is none of that name."""
        return self[name](*args, **kwargs)

    def list(self) -> tuple[ToolInfo, ...]:
        """Every tool with its parameters, by name."""
        return tuple(
            ToolInfo(
                name=name,
                description=known.definition.description,
                parameters=parameters(known.function),
            )
            for name, known in sorted(self._tools.items())
        )

    def get_tools_for_llm(self) -> tuple[dict[str, Any], ...]:
        """Every tool that may be called, by name, in the function-calling format of models."""
        return tuple(
            definitions.for_models(name, known.definition.description, _schema(known))
            for name, known in sorted(self._tools.items())
            if known.standing.status not in definitions.CLOSED
        )

    def description(self, name: str) -> str:
        """What a tool says of itself. Raises `KeyError`."""
        return self.definition(name).description

    def definition(self, name: str) -> ToolDefinition:
        """The definition of a tool. Raises `KeyError`."""
        return self._found(name).definition

    def bound(self, name: str, arguments: Mapping[str, Any]) -> Bound:
        """Arguments of a call by name, and what is wrong with them. Raises `KeyError`."""
        known = self._found(name)
        takes = [] if known.terms.schema is None else [*_takes(known.function)]
        return definitions.bound(known.terms.schema, takes, arguments)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return self._found(name).function

    def __iter__(self) -> Iterator[str]:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    def _found(self, name: str) -> _Tool:
        try:
            return self._tools[name]
        except KeyError:
            known = ", ".join(sorted(self._tools)) or "none"
            raise KeyError(f"tool {name!r} is not registered; registered: {known}") from None


def tool(
    *, name: str | None = None, description: str | None = None, **terms: Any
) -> Callable[[F], F]:
    """Register the decorated function as a tool; the function itself stays what it is.

    `terms` are further fields of `ToolDefinition`: `parameters, required_permissions,
    cost_estimate_usd, tokens_estimate, timeout_seconds, rate_per_minute, rate_per_hour, effect,
    requires_approval, category, undo, status, tags`.
    """

    def register(function: F) -> F:
        get_global_registry().add(function, name=name, description=description, **terms)
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


def _takes(function: Callable[..., Any]) -> Iterator[str]:
    """The names of what a function takes; none where they cannot be told."""
    try:
        yield from parameters(function)
    except (TypeError, ValueError):
        return


def _schema(known: _Tool) -> Mapping[str, Any]:
    """The JSON Schema of a tool's arguments, declared or derived."""
    if known.terms.schema is not None:
        return known.terms.schema
    signature: Any = parameters(known.function)
    return definitions.derived(signature)


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
