"""The limits that a session keeps to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from engine.core.document import vocabulary as words
from engine.core.problem import Problem
from engine.core.section import suggestion
from engine.core.values import Json
from engine.errors import Invalid

SENSITIVE = ("database_write", "file_delete", "send_email", "api_call_external")
MAX_STEPS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a session may do, and when somebody is asked.

    Its limits are the client's own; those of policies, permissions and budgets hold beside them.
    """

    max_steps: int = 50
    #: USD that calls may be taken to cost in all.
    max_cost_usd: float = 10.0
    #: From the first moment; None: as long as it takes.
    max_duration_seconds: float | None = 300
    #: A checkpoint after every so many steps.
    checkpoint_interval_steps: int = 5
    enable_checkpoints: bool = True
    #: A person is asked before a sensitive tool is called.
    require_approval_for_sensitive: bool = True
    sensitive_tools: tuple[str, ...] = SENSITIVE
    #: A person is asked before a call that brings the cost over this share of the most.
    approval_cost_share: float = 0.8
    #: Calls of one parallel step that are made side by side.
    max_parallel_steps: int = 5
    #: How often a step that is to be retried is tried again, and how long is waited before: that
    #: many seconds, then twice as many, and so on.
    max_retries: int = 3
    retry_backoff_seconds: float = 1.0
    #: How long people have to answer.
    approval_expiry_hours: float = 24

    def told(self) -> dict[str, Json]:
        """As JSON."""
        found: dict[str, Json] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            found[each.name] = list(value) if isinstance(value, tuple) else value
        return found


_HOURS = words.MAX_WAIT_SECONDS / 3600
#: The least and the most of every number; integers where both are.
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "max_steps": (1, MAX_STEPS),
    "max_cost_usd": (0.0, 1e9),
    "max_duration_seconds": (0.01, words.MAX_WAIT_SECONDS),
    "checkpoint_interval_steps": (1, MAX_STEPS),
    "approval_cost_share": (0.0, 1.0),
    "max_parallel_steps": (1, words.MAX_AT_ONCE),
    "max_retries": (0, words.MAX_ATTEMPTS - 1),
    "retry_backoff_seconds": (0.0, words.MAX_SECONDS),
    "approval_expiry_hours": (0.0001, _HOURS),
}
_FLAGS = ("enable_checkpoints", "require_approval_for_sensitive")


def read(given: Mapping[str, Any]) -> Config:
    """A configuration from the fields that are given. Raises `Invalid` with every problem."""
    names = [each.name for each in fields(Config)]
    problems = [problem for name, value in given.items() for problem in _wrong(name, value, names)]
    if problems:
        raise Invalid(problems, "the configuration is not valid")
    found = dict(given)
    if "sensitive_tools" in found:
        found["sensitive_tools"] = tuple(found["sensitive_tools"])
    return Config(**found)


def _wrong(name: str, value: Any, names: Sequence[str]) -> Sequence[Problem]:
    path = f"config.{name}"
    if name not in names:
        remedy = suggestion(name, names) or f"it may have {', '.join(names)}"
        return [Problem(path=path, message="there is no such field", remedy=remedy)]
    if name in _FLAGS and not isinstance(value, bool):
        return [Problem(path=path, message=f"{value!r}", remedy="write true or false")]
    if name == "sensitive_tools":
        fits = isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
        return [] if fits else [Problem(path=path, message="no list of names", remedy="write one")]
    if name not in _BOUNDS or (name == "max_duration_seconds" and value is None):
        return []
    least, most = _BOUNDS[name]
    whole = isinstance(least, int)
    kind = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
        what = "a whole number" if whole else "a number"
        remedy = f"write {what} from {least} to {most:g}"
        return [Problem(path=path, message=f"{value!r} stands here", remedy=remedy)]
    return []
