"""What people and the outside do to runs in memory, as a test says it beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.core.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Something that is done from outside, once: as soon as it can be, or some time after that.

    Acts at the same place are done in their order.
    """

    #: The node, or the step (`pay#2`), that must be under way; None: the run itself.
    at: str | None = None
    #: Seconds from then.
    after: float = 0.0
    by: str = "tester"

    @property
    def place(self) -> str | None:
        """Where somebody must be for it."""
        return self.at


@dataclass(frozen=True, slots=True)
class _AtNode(Act):
    """Something that is done to a step of a node."""

    node: str

    @property
    def place(self) -> str | None:
        return self.at or self.node


@dataclass(frozen=True, slots=True)
class Answered(_AtNode):
    """Somebody answers a node that asks: an approval by a choice, an input by its form."""

    choice: str | None = None
    form: Mapping[str, Json] = field(default_factory=dict)
    roles: Sequence[str] = field(default=(), kw_only=True)
    reason: str = field(default="", kw_only=True)
    #: Who has handed him the say that he uses; None: it is his own. `roles` are then those by
    #: which the other is asked.
    behalf: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Sent(Act):
    """Somebody sends an event."""

    name: str
    payload: Json = None
    match: Mapping[str, Json] = field(default_factory=dict, kw_only=True)
    #: It is dropped if nobody waits for it when it is sent.
    transient: bool = field(default=False, kw_only=True)
    #: It is addressed to the run, whatever that waits for it to match.
    to_run: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Added(_AtNode):
    """Somebody sends a map more items."""

    items: Sequence[Json]


@dataclass(frozen=True, slots=True)
class Completed(_AtNode):
    """Somebody says that a map has enough."""


@dataclass(frozen=True, slots=True)
class Skipped(_AtNode):
    """Somebody lets a step count as done."""

    choice: bool | str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled(Act):
    """Somebody cancels the run; what it has done is to be undone first, or not."""

    reason: str = ""
    compensate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused(Act):
    """Somebody pauses the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Act):
    """Somebody lets a paused run go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack(Act):
    """Somebody has the run go on from just after a step of it was settled."""

    #: The step, by its key (`pack#1`).
    to: str
    #: Variables that are to be something else than they were there.
    variables: Mapping[str, Json] = field(default_factory=dict)
