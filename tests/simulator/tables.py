"""The rows of a simulated world."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime

from engine.core import messages as msg
from engine.core.graph import Graph
from engine.core.state import State, Step
from engine.core.values import Json


@dataclass(frozen=True, kw_only=True)
class Wait:
    """What people or an event can end."""

    kind: str
    name: str = ""
    transient: bool = False
    since: float = 0.0


@dataclass(kw_only=True)
class Row:
    """A live step, as its table row."""

    step: Step
    status: str
    fence: int = 0
    worker: str | None = None
    lease_until: float = math.inf
    begun: bool = False
    wake: float = math.inf
    asked: float = 0.0
    #: A transaction that has not committed has changed it: others pass it over.
    locked: bool = False


@dataclass(kw_only=True)
class Run:
    """A run's head, history and inbox, and what else lies beside them."""

    graph: Graph
    state: State
    history: list[msg.Entry] = field(default_factory=list)
    inbox: list[msg.AnyEvent] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)
    waits: dict[str, Wait] = field(default_factory=dict)
    items: dict[str, list[Json]] = field(default_factory=dict)
    #: The run, the step and the attempt that it was started by.
    parent: tuple[str, str, int] | None = None
    orphan: str = ""
    #: When it is to be looked at although nothing was reported.
    wake: float = math.inf
    #: Until when it is set aside, because a turn of it has failed.
    stuck: float = -math.inf
    #: What people did to it that may change how it ends.
    cancelled: bool = False
    skipped: bool = False
    #: A turn of it is being taken.
    held: bool = False


@dataclass(frozen=True)
class Lease:
    """What a worker took away from a lease."""

    run: str
    key: str
    attempt: int
    fence: int
    step: Step
    n: int


@dataclass(frozen=True, kw_only=True)
class Read:
    """What a turn has read of its run."""

    run: str
    #: The time of the lock.
    now: datetime
    letters: tuple[msg.AnyEvent, ...]
    before: State


@dataclass(frozen=True, kw_only=True)
class Turning:
    """Turns that have begun, in a transaction that may yet be lost."""

    #: Runs that are ours.
    held: tuple[str, ...]
    reads: tuple[Read, ...]
    #: Rows that it has changed, and that others pass over until it ends.
    locked: list[Row] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Committed:
    """What a transaction of turns came to."""

    hints: tuple[tuple[str, ...], ...] = ()
    #: Other runs that were told something.
    told: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Sent:
    """An event that somebody sent."""

    id: str
    name: str
    at: float
    #: The steps that it was claimed by: one, if all is well.
    claimed: list[tuple[str, str]] = field(default_factory=list)
