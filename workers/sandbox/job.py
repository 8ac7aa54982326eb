"""What a sandbox is asked to do, within which limits, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from engine.core.values import Json
from workers.sandbox.inside.landlock import Opened

Mode: TypeAlias = Literal["node", "tool", "template", "library-node", "library-tool"]
Reason: TypeAlias = Literal[
    "error",
    "timeout",
    "memory",
    "cpu",
    "killed",
    "output_too_large",
    "over_budget",
    "cancelled",
    "refused",
]
Stream: TypeAlias = Literal["stdout", "stderr"]


class SandboxUnavailable(Exception):
    """No process can be had for user code; the message says why, the worker's stderr the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one execution may use."""

    #: From the fork to the end, tool calls included.
    seconds: float = 10.0
    #: Processor time, in whole seconds rounded up; half of `seconds` when not given, so that a
    #: spin ends as `cpu` and not as `timeout`.
    cpu_seconds: float | None = None
    #: Address space on top of the bare interpreter's.
    memory_bytes: int = 256 * 1024 * 1024
    #: Of the result, of what is set in the state, and of a call's arguments, each as JSON.
    result_bytes: int = 1_048_576
    #: Of everything printed, both streams together; the rest is thrown away.
    log_bytes: int = 64 * 1024
    log_lines: int = 1000
    #: Of any file that it writes, where it was granted files to write.
    file_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in ("seconds", "memory_bytes", "result_bytes", "log_bytes", "log_lines"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choose:
    """A condition that judges the state which a node left."""

    name: str
    source: str | None = None
    library: str | None = None

    def __post_init__(self) -> None:
        if (self.source is None) == (self.library is None):
            raise ValueError(f"condition {self.name} needs either source or library")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One function to be executed."""

    mode: Mode
    #: The registered name: the function of that name is called, else the last one defined.
    name: str
    source: str | None = None
    #: `module:attribute` of installed, trusted code.
    library: str | None = None
    #: `{"state": {…}}`, or `{"args": […], "kwargs": {…}}` for a tool; `kwargs` may go with either.
    #: `{"params": {…}, "output": […]}` for a step of a list, `{"variables": {…}}` for a template.
    arguments: Mapping[str, Json] = field(default_factory=dict)
    #: Asked after the node; without source and library, asked alone.
    choose: Choose | None = None
    #: `run_id, version_id, node, iteration, attempt, step, idempotency_key`, for who asks for them.
    context: Mapping[str, Json] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    #: What source may open besides, within folders that the operator named: absolute paths of
    #: files that exist, or of folders, which stand for all in them.
    files: tuple[Opened, ...] = ()
    #: Modules of the standard library that source finds besides, out of `FURTHER_MODULES`.
    #: Trusted code opens and imports what it likes: neither of the two holds it.
    modules: tuple[str, ...] = ()
    #: The tenant that it is carried out for: a process that has carried out installed code for one
    #: never carries out anything for another.
    whose: str = ""

    def __post_init__(self) -> None:
        if self.mode == "template" and (
            self.source is None or self.choose is not None or "variables" not in self.arguments
        ):
            raise ValueError(f"template {self.name} takes source, variables, and nothing else")
        codes = [(self.source, self.library)]
        if self.choose is not None:
            codes.append((self.choose.source, self.choose.library))
            if "state" not in self.arguments:
                raise ValueError(f"condition {self.choose.name} needs a state to judge")
        given = [code for code in codes if code != (None, None)]
        if not given:
            raise ValueError(f"{self.name} has neither source nor library nor a condition")
        # Else strangers' code would run on the side of the wall that trusts.
        unwanted = 0 if self.trusted else 1
        if any(code[unwanted] is not None for code in given):
            kind = "library" if self.trusted else "source"
            raise ValueError(f"{self.name} runs as {self.mode}: it takes {kind} alone")

    @property
    def trusted(self) -> bool:
        return self.mode.startswith("library-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an execution ended."""

    ok: bool
    #: None when it went well, and when it was suspended.
    reason: Reason | None = None
    #: For a person: what happened, where, and what the limit was.
    message: str = ""
    #: What the function returned; what it set, when it returned its state.
    value: Json = None
    #: Keys of the state that were set or changed in place; None without a state.
    patch: dict[str, Json] | None = None
    #: Keys of the state that were deleted.
    removed: tuple[str, ...] = ()
    choice: bool | str | None = None
    #: How a step of a list says that it ended; None when it says nothing.
    status: dict[str, Json] | None = None
    #: A tool call asked for this: the execution was ended, to be begun again later.
    suspended: bool = False
    #: What it told that it had used, by name.
    used: Mapping[str, float] = field(default_factory=dict)
    #: The model that it named last.
    model: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    max_rss: int = 0  #: bytes
    log_truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAnswer:
    """What the worker says to a tool call."""

    ok: bool
    value: Json = None
    #: Why not, in one word and in a sentence; the caller gets both as a `ToolError`.
    reason: str = ""
    message: str = ""
    #: End the execution without failure instead of answering.
    suspend: bool = False
