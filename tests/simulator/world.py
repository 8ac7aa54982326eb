"""The world of one seed: tables, messages, clock, and what happened outside."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from engine.core import messages as msg
from engine.core import references
from engine.core.decide import Turn, advance, outputs
from engine.core.graph import Child, Graph
from engine.core.policy import Policy
from engine.core.state import State, Step
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import Inline, Json
from tests.simulator.answers import Asker, Wait, answers

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
    tell: bool = True  #: a child's end counts only for a step that still waits for it
    claim: bool = True  #: an event that was claimed cannot be claimed again
    wake: bool = True  #: who waits for a lock is woken when it is given up
    let_go: bool = True  #: a child ends with the step that waits for it


@dataclass(kw_only=True)
class Row:
    """A live step, as its table row."""

    step: Step
    status: str
    fence: int = 0
    worker: str | None = None
    lease_until: float = 0.0
    begun: bool = False
    wake: float = math.inf
    asked: float = 0.0


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
    cancelled: bool = False
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
class Turning:
    """A turn that has begun, in a transaction that may yet be lost."""

    run: str
    letters: tuple[msg.AnyEvent, ...]
    before: State


@dataclass(kw_only=True)
class Sent:
    """An event that somebody sent."""

    id: str
    name: str
    at: float
    #: The steps that it was claimed by: one, if all is well.
    claimed: list[tuple[str, str]] = field(default_factory=list)


@dataclass(kw_only=True)
class World:
    """Tables and transactions. Every method is one atomic transaction, or the outside."""

    rng: random.Random
    rules: Rules
    library: Mapping[str, Graph]
    now: float = 0.0
    #: How readily people answer.
    talk: float = 0.0
    runs: dict[str, Run] = field(default_factory=dict)
    #: What the broker holds: ("execute", run, key) or ("coordinate", run).
    messages: list[tuple[str, ...]] = field(default_factory=list)
    sent: list[tuple[str, ...]] = field(default_factory=list)
    #: (run, key) to the attempt and fence whose success was accepted.
    accepted: dict[tuple[str, str], list[tuple[int, int]]] = field(default_factory=dict)
    #: (run, key, fence) of leases that somebody took away by hand.
    taken: set[tuple[str, str, int]] = field(default_factory=set)
    #: (run, key, attempt) to whoever ended its wait.
    ends: dict[tuple[str, str, int], list[str]] = field(default_factory=dict)
    #: (run, key) to the result that counts.
    results: dict[tuple[str, str], Json] = field(default_factory=dict)
    locks: dict[str, str] = field(default_factory=dict)
    events: list[Sent] = field(default_factory=list)
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

    def submit(self, run: str, graph: Graph, inputs: Mapping[str, Json]) -> None:
        created = Run(graph=graph, state=State(run=run))
        defaults = {name: value for name, value in graph.variables.items() if name not in inputs}
        created.inbox.append(
            msg.RunSubmitted(
                at=self.at(),
                by="sim",
                inputs={**defaults, **inputs},
                reducers=graph.reducers,
            )
        )
        self.runs[run] = created

    def start(self, parent: str, step: Step, child: Child, inputs: Mapping[str, Json]) -> str:
        """A run within a run, in the transaction of its parent's turn."""
        name = f"{parent}/{step.key}/{step.attempt}"
        graph = self.library[child.workflow]
        self.submit(name, graph, {**_defaults(graph), **inputs})
        self.runs[name].parent = (parent, step.key, step.attempt)
        self.runs[name].orphan = child.orphan.value
        return name

    def cancel(self, run: str, *, compensate: bool = False) -> None:
        if self.runs[run].state.terminal:
            return
        self.runs[run].inbox.append(
            msg.CancelRequested(at=self.at(), by="sim", compensate=compensate)
        )
        self.runs[run].cancelled = True

    def retry(self, run: str, key: str) -> None:
        """Somebody has a step begun anew, whoever holds it."""
        row = self.runs[run].rows[key]
        if row.step.status is StepStatus.WAITING:
            return
        begun = row.begun
        if row.status in ("ready", "leased"):
            self.taken.add((run, key, row.fence))
            row.fence += 1
            row.status, row.wake = ("reported", math.inf) if begun else ("ready", self.now)
            row.worker, row.begun = None, False
        self.runs[run].inbox.append(
            msg.RetryRequested(
                at=self.at(),
                step=msg.StepKey(key),
                by="sim",
                attempt=row.step.attempt if begun else None,
            )
        )

    def open_turn(self, run: str) -> Turning | None:
        """What a turn begins with: the lock of its run, what waits for it, the rows it names."""
        it = self.runs[run]
        if it.held or not it.inbox:
            return None
        it.held = True
        letters = tuple(it.inbox)
        named = {e.step for e in letters if hasattr(e, "step")} | it.state.maps.keys()
        loaded = {row.step.key: _loaded(row) for key, row in it.rows.items() if key in named}
        return Turning(run=run, letters=letters, before=replace(it.state, steps=loaded))

    def close_turn(self, turning: Turning) -> list[tuple[str, ...]]:
        """The end of a turn, whatever has come meanwhile; the messages to send after it."""
        run, before = turning.run, turning.before
        it = self.runs[run]
        if self.rules.consume:
            del it.inbox[: len(turning.letters)]
        asker = Asker(world=self, name=run, run=it)
        taken = self._decided(asker, before, turning.letters)
        it.history += taken.entries
        it.state = replace(taken.state, steps={})
        hints = self._written(run, before, taken, asker)
        if _began_undoing(before, taken.state):
            it.inbox.append(msg.Ticked(at=self.at()))
        told = [*asker.started, *self._told(run), *self._let_go(run), *self._give_up(run)]
        return hints + [("coordinate", other) for other in told]

    def _decided(self, asker: Asker, before: State, letters: Sequence[msg.AnyEvent]) -> Turn:
        graph = asker.run.graph
        taken = advance(graph, POLICY, before, letters)
        entries = taken.entries
        while said := answers(asker, taken.state, entries):
            taken = advance(graph, POLICY, taken.state, said)
            entries += taken.entries
        return Turn(state=taken.state, entries=entries)

    def _written(
        self, name: str, before: State, taken: Turn, asker: Asker
    ) -> list[tuple[str, ...]]:
        """Write the rows of a turn; messages for the steps that became ready."""
        it, state = self.runs[name], taken.state
        if state.terminal or _began_undoing(before, state):
            self._remove(it, list(it.rows))
        gone = [*(before.steps.keys() - state.steps.keys())]
        gone += [
            k for k, r in it.rows.items() if r.step.of in before.maps.keys() - state.maps.keys()
        ]
        self._remove(it, gone)
        hints = []
        for key, step in state.steps.items():
            if before.steps.get(key) == step:
                continue
            row = it.rows.setdefault(key, Row(step=step, status="new", asked=self.now))
            if row.status in ("ready", "leased"):
                self.violations.append(f"{name} {key}: a turn moved it, and it was {row.status}")
            row.step = replace(step, opens=False, result=None, choice=None, failure=None)
            row.status, row.begun, row.wake = step.status, False, math.inf
            if step.status is StepStatus.READY:
                row.wake = self.now + RESEND
                hints.append(("execute", name, key))
            elif step.wake is not None:
                row.wake = (step.wake - EPOCH).total_seconds()
            if key in asker.waits and step.status is StepStatus.WAITING:
                it.waits[key] = asker.waits[key]
        return hints

    def _remove(self, run: Run, keys: Sequence[str]) -> None:
        for key in keys:
            run.rows.pop(key, None)
            run.waits.pop(key, None)

    def _told(self, name: str) -> list[str]:
        """A run that has ended tells the step that waits for it."""
        it = self.runs[name]
        if not it.state.terminal or it.parent is None:
            return []
        run, key, attempt = it.parent
        by = f"run:{name}"
        if it.state.status is RunStatus.COMPLETED:
            result = outputs(it.graph, name, it.state.variables, references.unread)
            self.end(run, key, attempt, by, result=result)
        else:
            reason = {"failed": "child_failed", "cancelled": "child_cancelled"}
            self.end(run, key, attempt, by, reason=reason[it.state.status])
        return [run]

    def _let_go(self, name: str) -> list[str]:
        """Cancel the children that no step of a run waits for any more."""
        found = [
            child
            for child, it in self.runs.items()
            if it.parent is not None
            and it.parent[0] == name
            and it.orphan == "cancel"
            and not it.state.terminal
            and not self.awaited(it)
            and not any(isinstance(e, msg.CancelRequested) for e in it.inbox)
        ]
        if not self.rules.let_go:
            return []
        for child in found:
            self.cancel(child)
        return found

    def awaited(self, child: Run) -> bool:
        """Whether the step that started a run still waits for it."""
        assert child.parent is not None
        run, key, attempt = child.parent
        row = self.runs[run].rows.get(key)
        return (
            row is not None
            and row.step.attempt == attempt
            and row.status in ("waiting", "reported")
        )

    def held(self, name: str) -> set[str]:
        """The locks that steps and tokens of a run hold."""
        it = self.runs[name]
        holds = [row.step.holds for row in it.rows.values()]
        holds += [token.holds for token in it.state.tokens]
        return {lock for each in holds for lock, _ in each}

    def _give_up(self, name: str) -> list[str]:
        """Give up what a run holds no more, and wake who comes next."""
        kept = self.held(name)
        freed = [lock for lock, by in self.locks.items() if by == name and lock not in kept]
        woken = []
        for lock in freed:
            del self.locks[lock]
            waiters = sorted(
                (row.asked, other, key)
                for other, it in self.runs.items()
                for key, row in it.rows.items()
                if row.status == "deferred" and row.step.awaits == lock
            )
            if waiters and self.rules.wake:
                _, other, key = waiters[0]
                self.runs[other].inbox.append(msg.Woke(at=self.at(), step=msg.StepKey(key)))
                woken.append(other)
            if waiters and not any(
                isinstance(e, msg.Woke) and e.step == key
                for _, other, key in waiters
                for e in self.runs[other].inbox
            ):
                self.violations.append(f"{lock} is free, {waiters} wait for it and nobody knows")
        return woken

    def end(
        self,
        run: str,
        key: str,
        attempt: int,
        by: str,
        *,
        result: Json = None,
        choice: str | None = None,
        reason: str | None = None,
        late: bool = False,
    ) -> bool:
        """End the wait of a step, if it is still to be ended."""
        row = self.runs[run].rows.get(key)
        waits = (
            row is not None
            and row.status == "waiting"
            and row.step.attempt == attempt
            and (late or row.wake > self.now)
        )
        if not waits and (self.rules.tell or not by.startswith("run:")):
            return False
        if row is not None:
            row.status, row.wake = "reported", math.inf
        self.ends.setdefault((run, key, attempt), []).append(by)
        event: msg.AnyEvent
        if by == "clock":
            event = msg.Woke(at=self.at(), step=msg.StepKey(key))
        elif reason is not None:
            event = msg.WaitFailed(
                at=self.at(),
                step=msg.StepKey(key),
                attempt=attempt,
                by=(by,),
                reason=reason,
                message=by,
            )
        else:
            event = msg.WaitEnded(
                at=self.at(),
                step=msg.StepKey(key),
                attempt=attempt,
                by=(by,),
                result=Inline(value=result),
                choice=choice,
            )
            self.results[(run, key)] = result
        self.runs[run].inbox.append(event)
        return True

    def answer(self, run: str, key: str, choice: str) -> None:
        """Somebody answers a question."""
        row, wait = self.runs[run].rows.get(key), self.runs[run].waits.get(key)
        if row is None or wait is None or wait.kind not in ("approval", "input"):
            return
        if wait.kind == "input":
            self.end(run, key, row.step.attempt, "user:ada", result={"said": choice})
        else:
            said: Json = {"choice": choice, "by": ["ada"], "form": {}}
            self.end(run, key, row.step.attempt, "user:ada", result=said, choice=choice)

    def tell(self, name: str) -> None:
        """Somebody sends an event."""
        self.events.append(Sent(id=f"e{len(self.events)}", name=name, at=self.now))

    def pairs(self) -> list[tuple[Sent, str, str, int]]:
        """Events that nobody has claimed, and the steps that may."""
        return [
            (event, run, key, it.rows[key].step.attempt)
            for event in self.events
            if not event.claimed
            for run, it in self.runs.items()
            for key, wait in it.waits.items()
            if wait.name == event.name
            and it.rows[key].status == "waiting"
            and not (wait.transient and event.at < wait.since)
        ]

    def claim(self, event: Sent, run: str, key: str, attempt: int) -> bool:
        """An event ends a wait, if both are still to be had."""
        if event.claimed and self.rules.claim:
            return False
        if not self.end(run, key, attempt, f"event:{event.id}", result={"event": event.id}):
            return False
        event.claimed.append((run, key))
        return True

    def lease(self, run: str, key: str, worker: str) -> Lease | None:
        row = self.runs[run].rows.get(key)
        if row is None or (self.rules.guard and row.status != "ready"):
            return None
        if row.status not in ("ready", "leased"):
            return None
        row.status, row.worker, row.fence = "leased", worker, row.fence + 1
        row.lease_until, row.begun = self.now + LEASE, False
        n = int(self.runs[run].state.variables.get("n") or 0)  # type: ignore[arg-type]
        return Lease(run, key, row.step.attempt, row.fence, row.step, n)

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
        row.status, row.worker, row.begun, row.wake = "reported", None, False, math.inf
        self.runs[lease.run].inbox.append(replace(event, at=self.at()))
        if isinstance(event, msg.AttemptSucceeded):
            ends = self.accepted.setdefault((lease.run, lease.key), [])
            ends.append((lease.attempt, lease.fence))
            assert isinstance(event.result, Inline)
            self.results[(lease.run, lease.key)] = event.result.value
        return True

    def sweep(self) -> list[tuple[str, ...]]:
        """Leases, waits and messages that are overdue; messages to send."""
        hints: list[tuple[str, ...]] = []
        for name, run in self.runs.items():
            for key, row in run.rows.items():
                if row.status == "waiting" and row.wake <= self.now:
                    self.end(name, key, row.step.attempt, "clock", late=True)
                elif row.status == "leased" and row.lease_until < self.now and self.rules.expire:
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


def _began_undoing(before: State, after: State) -> bool:
    return before.undoing is None and after.undoing is not None


def _loaded(row: Row) -> Step:
    """A step as a turn finds it: ownership is no business of the core."""
    status = StepStatus(row.status)
    if status in (StepStatus.LEASED, StepStatus.REPORTED):
        status = StepStatus.READY if row.step.wait is None else StepStatus.WAITING
    wakes = status in (StepStatus.DEFERRED, StepStatus.RETRYING, StepStatus.WAITING)
    return replace(row.step, status=status, wake=row.step.wake if wakes else None)


def _defaults(graph: Graph) -> dict[str, Json]:
    """The inputs that nobody has to give."""
    properties = graph.inputs.get("properties", {})
    assert isinstance(properties, dict)
    return {
        name: schema["default"]
        for name, schema in properties.items()
        if isinstance(schema, dict) and "default" in schema
    }
