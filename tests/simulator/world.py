"""The world of one seed: tables, messages, clock, and what happened outside."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from engine.core import messages as msg
from engine.core.graph import Graph
from engine.core.policy import Policy
from engine.core.state import State, Step
from engine.core.transitions import StepStatus
from tests.support.play import turn

#: A process: it may die, or stand still, wherever it yields.
Actor: TypeAlias = Generator[None, None, None]

LEASE = 30.0
RESEND = 5.0
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
#: Enough that a run is not lost to bad luck alone; the core's own bound is tested elsewhere.
POLICY = Policy(lost_attempts=1000)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The protocol's parts; a mutant lacks one."""

    fence: bool = True  #: a report must hold the fence
    resend: bool = True  #: the sweeper sends overdue messages again
    consume: bool = True  #: a turn takes what it folds out of the inbox
    expire: bool = True  #: the sweeper ends leases that ran out
    guard: bool = True  #: only a ready step can be leased
    give_up: bool = True  #: a worker stops before a lease that it could not renew ends


@dataclass(kw_only=True)
class Row:
    """A live step, as its table row."""

    step: Step
    status: str
    fence: int = 0
    worker: str | None = None
    lease_until: float = 0.0
    begun: bool = False
    wake: float = 0.0


@dataclass(kw_only=True)
class Run:
    """A run's head, history and inbox."""

    graph: Graph
    state: State
    history: list[msg.Entry] = field(default_factory=list)
    inbox: list[msg.AnyEvent] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)
    cancelled: bool = False


@dataclass(frozen=True)
class Lease:
    """What a worker took away from a lease."""

    run: str
    key: str
    attempt: int
    fence: int
    n: int


@dataclass(kw_only=True)
class World:
    """Tables and transactions. Every method is one atomic transaction, or the outside."""

    rng: random.Random
    rules: Rules
    now: float = 0.0
    runs: dict[str, Run] = field(default_factory=dict)
    #: What the broker holds: ("execute", run, key) or ("coordinate", run).
    messages: list[tuple[str, ...]] = field(default_factory=list)
    sent: list[tuple[str, ...]] = field(default_factory=list)
    #: (run, key) to the attempt and fence whose success was accepted.
    accepted: dict[tuple[str, str], list[tuple[int, int]]] = field(default_factory=dict)
    #: (run, key, fence) of leases that somebody took away by hand.
    taken: set[tuple[str, str, int]] = field(default_factory=set)
    effects: Counter[tuple[str, str]] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    #: Actors that stand still, and until when.
    stalled: list[tuple[float, Actor]] = field(default_factory=list)

    def at(self, event_time: float | None = None) -> datetime:
        return EPOCH + timedelta(seconds=self.now if event_time is None else event_time)

    def send(self, *message: str) -> None:
        self.messages.append(message)
        self.sent.append(message)

    # --- transactions --------------------------------------------------------------------

    def submit(self, run: str, graph: Graph, inputs: Mapping[str, int]) -> None:
        created = Run(graph=graph, state=State(run=run))
        created.inbox.append(msg.RunSubmitted(at=self.at(), by="sim", inputs=dict(inputs)))
        self.runs[run] = created

    def cancel(self, run: str) -> None:
        self.runs[run].inbox.append(msg.CancelRequested(at=self.at(), by="sim"))
        self.runs[run].cancelled = True

    def retry(self, run: str, key: str) -> None:
        """Somebody has a step begun anew, whoever holds it."""
        row = self.runs[run].rows[key]
        begun = row.begun
        if row.status in ("ready", "leased"):
            self.taken.add((run, key, row.fence))
            row.fence += 1
            row.status, row.wake = ("reported", 0.0) if begun else ("ready", self.now)
            row.worker, row.begun = None, False
        self.runs[run].inbox.append(
            msg.RetryRequested(
                at=self.at(),
                step=msg.StepKey(key),
                by="sim",
                attempt=row.step.attempt if begun else None,
            )
        )

    def take_turn(self, run: str) -> list[tuple[str, ...]]:
        """One turn; the messages to send after it."""
        it = self.runs[run]
        letters = list(it.inbox)
        if self.rules.consume:
            it.inbox.clear()
        if not letters:
            return []
        named = {e.step for e in letters if hasattr(e, "step")}
        loaded = {
            row.step.key: replace(row.step, status=_seen(row))
            for key, row in it.rows.items()
            if key in named
        }
        before = replace(it.state, steps=loaded)
        taken = turn(it.graph, before, *letters, policy=POLICY)
        it.history += taken.entries
        it.state = replace(taken.state, steps={})
        if taken.state.terminal:
            it.rows.clear()
            return []
        for key in before.steps.keys() - taken.state.steps.keys():
            del it.rows[key]
        hints = []
        for key, step in taken.state.steps.items():
            if before.steps.get(key) == step:
                continue
            row = it.rows.setdefault(key, Row(step=step, status=step.status))
            row.step, row.status, row.begun = step, step.status, False
            if step.status is StepStatus.READY:
                row.wake = self.now + RESEND
                hints.append(("execute", run, key))
            elif step.wake is not None:
                row.wake = (step.wake - EPOCH).total_seconds()
        return hints

    def lease(self, run: str, key: str, worker: str) -> Lease | None:
        row = self.runs[run].rows.get(key)
        if row is None or (self.rules.guard and row.status != "ready"):
            return None
        if row.status not in ("ready", "leased"):
            return None
        row.status, row.worker, row.fence = "leased", worker, row.fence + 1
        row.lease_until, row.begun = self.now + LEASE, False
        n = int(self.runs[run].state.variables.get("n", 0))  # type: ignore[arg-type]
        return Lease(run, key, row.step.attempt, row.fence, n)

    def begin(self, lease: Lease) -> bool:
        row = self._held(lease)
        if row is None or row.begun:
            return False
        row.begun = True
        return True

    def beat(self, lease: Lease) -> bool:
        row = self._held(lease)
        if row is None:
            return False
        row.lease_until = self.now + LEASE
        return True

    def report(self, lease: Lease, event: msg.AttemptSucceeded | msg.AttemptFailed) -> bool:
        row = self.runs[lease.run].rows.get(lease.key)
        if self.rules.fence:
            row = self._held(lease)
            if row is not None and not row.begun:
                row = None
        if row is None:
            return False
        row.status, row.worker, row.begun = "reported", None, False
        self.runs[lease.run].inbox.append(replace(event, at=self.at()))
        if isinstance(event, msg.AttemptSucceeded):
            ends = self.accepted.setdefault((lease.run, lease.key), [])
            ends.append((lease.attempt, lease.fence))
        return True

    def sweep(self) -> list[tuple[str, ...]]:
        """Leases, waits and messages that are overdue; messages to send."""
        hints: list[tuple[str, ...]] = []
        for name, run in self.runs.items():
            for key, row in run.rows.items():
                if row.status == "leased" and row.lease_until < self.now and self.rules.expire:
                    worker, begun = row.worker, row.begun
                    row.worker, row.begun = None, False
                    row.fence += 1
                    if begun:
                        row.status = "reported"
                        run.inbox.append(
                            msg.AttemptLost(
                                at=self.at(),
                                step=msg.StepKey(key),
                                attempt=row.step.attempt,
                                fence=row.fence - 1,
                                worker=str(worker),
                            )
                        )
                    else:
                        row.status, row.wake = "ready", self.now
                elif row.status in ("retrying", "deferred") and row.wake <= self.now:
                    row.wake = self.now + 60
                    run.inbox.append(msg.Woke(at=self.at(), step=msg.StepKey(key)))
                if row.status == "ready" and row.wake <= self.now and self.rules.resend:
                    row.wake = self.now + RESEND
                    hints.append(("execute", name, key))
            if run.inbox:
                hints.append(("coordinate", name))
        return hints

    # --- outside -------------------------------------------------------------------------

    def effect(self, lease: Lease) -> None:
        """User code runs and touches the world."""
        # What was taken away by hand may go on until its worker hears of it: it was told to.
        by_hand = (lease.run, lease.key, lease.fence) in self.taken
        if (lease.run, lease.key) in self.accepted and not by_hand:
            self.violations.append(f"{lease.run} {lease.key} ran after its result was accepted")
        self.effects[(lease.run, lease.key)] += 1

    def _held(self, lease: Lease) -> Row | None:
        row = self.runs[lease.run].rows.get(lease.key)
        if row is None or row.status != "leased" or row.fence != lease.fence:
            return None
        return row


def _seen(row: Row) -> StepStatus:
    return StepStatus.READY if row.status in ("leased", "reported") else StepStatus(row.status)
