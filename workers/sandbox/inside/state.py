"""The shared state as a function sees it, and the context of its step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from . import values

_MISSING = object()


class WorkflowState(dict[str, Any]):
    """The run's variables: a dict that knows which keys were set.

    It is a copy: what is set here reaches the run when the function returns, as a patch.
    """

    __slots__ = ("_written",)

    def __init__(self, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data or {})
        self._written: set[str] = set()

    def set(self, key: str, value: Any) -> None:
        """Set a key."""
        self[key] = value

    def snapshot(self) -> dict[str, Any]:
        """A deep copy that later changes do not reach."""
        return copy.deepcopy(dict(self))

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"a key of the state is text, not {type(key).__name__}: {key!r}")
        super().__setitem__(key, value)
        self._written.add(key)

    def update(self, *others: Any, **named: Any) -> None:
        """Set many keys.

        A mapping that has every key of the state is taken for the state itself: only what
        differs in it counts as set.
        """
        for other in (*others, named):
            data = dict(other)
            for key in differing(data, self) if is_whole(data, self) else data:
                self[key] = data[key]

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def __ior__(self, other: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._written.discard(key)

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        if key in self:
            value = self[key]
            del self[key]
            return value
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[str, Any]:
        key, value = super().popitem()
        self._written.discard(key)
        return key, value

    def clear(self) -> None:
        super().clear()
        self._written.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> WorkflowState:
        return WorkflowState(copy.deepcopy(dict(self), memo))


class Changes:
    """What a function did to its state, in place or by what it returned."""

    def __init__(self, state: WorkflowState) -> None:
        self._state = state
        self._before = {key: values.canonical(value) for key, value in state.items()}

    def absorb(self, returned: Mapping[str, Any]) -> None:
        """Take a returned dict into the state, as `update` does."""
        self._state.update(returned)

    def patch(self) -> dict[str, Any]:
        """Keys that were set, and keys whose value was changed in place."""
        written = self._state._written  # noqa: SLF001  # two halves of one thing
        return {
            key: value
            for key, value in self._state.items()
            if key in written
            or key not in self._before
            or values.canonical(value) is None
            or values.canonical(value) != self._before[key]
        }

    def removed(self) -> list[str]:
        """Keys that were deleted."""
        return [key for key in self._before if key not in self._state]


MODEL_CHARACTERS = 200
#: The most that one attempt can tell of a unit.
MOST_USED = 1e9


class Context:
    """Which step this is, its way to the tools, and what led to it."""

    __slots__ = (
        "_ask",
        "_previous",
        "_use",
        "attempt",
        "idempotency_key",
        "invoke",
        "iteration",
        "node",
        "run_id",
        "step",
        "tools",
        "version_id",
    )

    def __init__(
        self,
        facts: Mapping[str, Any],
        *,
        invoke: Any,
        tools: Any,
        previous: Callable[[], list[Any]] = list,
        use: Callable[[dict[str, float], str], object] = lambda _amounts, _model: None,
    ) -> None:
        self.run_id = facts.get("run_id")
        #: The workflow version that the run runs.
        self.version_id = facts.get("version_id")
        self.node = facts.get("node")
        self.iteration = facts.get("iteration")
        self.attempt = facts.get("attempt")
        self.step = facts.get("step")
        #: The same for every attempt of this step: give it to what may be asked twice.
        self.idempotency_key = facts.get("idempotency_key")
        self.invoke = invoke
        self.tools = tools
        self._ask = previous
        self._previous: list[Any] | None = None
        self._use = use

    def use(self, *, model: str = "", **amounts: float) -> None:
        """Tell what this attempt has used, as soon as it has: `context.use(tokens_used=812)`.

        Amounts of one name add up. What is told counts even if the attempt is lost later. It is
        charged under the `model` that was named last.
        """
        if len(model) > MODEL_CHARACTERS:
            raise ValueError(f"a model is named by up to {MODEL_CHARACTERS} characters")
        for name, amount in amounts.items():
            if isinstance(amount, bool) or not isinstance(amount, (int, float)):
                raise TypeError(f"{name} is a {type(amount).__name__}; give a number")
            if not 0 <= amount <= MOST_USED:
                raise ValueError(f"{name} is {amount!r}; give a number from 0 to {MOST_USED:g}")
        self._use(amounts, model)

    @property
    def previous(self) -> list[Any]:
        """The executions that led to this step, looked up when they are first asked for.

        To a task that is the plan before it, to a plan the tasks before it; each has `header`,
        `policy_telemetry` and `result`, as keys and as attributes. What a plan passed on is in
        its `result.next_task_names` and `result.upstream_tasks_results`.
        """
        if self._previous is None:
            self._previous = self._ask()
        return self._previous


def is_whole(data: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    """Whether a mapping has every key of the state, as `{**state, …}` and a tool's answer do."""
    return bool(state) and data.keys() >= state.keys()


def differing(data: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    """Keys of a whole mapping that are new or have another value."""
    return [
        key
        for key, value in data.items()
        if key not in state
        or values.canonical(value) is None
        or values.canonical(value) != values.canonical(state[key])
    ]
