"""The world of one seed: tables, messages, clocks, and what happened outside."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from engine.core import forking, rollback
from engine.core import messages as msg
from engine.core.fold import evolve
from engine.core.graph import Child, Graph
from engine.core.policy import Policy
from engine.core.state import State, Step
from engine.core.transitions import RunStatus
from engine.core.values import Inline, Json
from tests.simulator.rules import Rules
from tests.simulator.tables import Lease, Row, Run, Sent

LEASE = 10.0
RESEND = 4.0
#: Seconds after which a wake that nobody has followed is repeated.
WAKE_AGAIN = 60.0
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
#: Enough that a run is not lost to bad luck alone; the core's own bound is tested elsewhere.
POLICY = Policy(lost_attempts=1000)

T = TypeVar("T")
Message = tuple[str, ...]


class Away(Exception):
    """The database was cut off: whether the transaction has committed is unknown."""


@dataclass(kw_only=True)
class World:
    """Tables and transactions. Every method is one atomic transaction, or the outside."""

    rng: random.Random
    rules: Rules
    library: Mapping[str, Graph]
    #: Nobody dies and nothing is lost: messages must carry all but what time ends.
    calm: bool = False
    #: How often a commit is cut off, and a turn fails.
    away: float = 0.0
    #: How readily people answer.
    talk: float = 0.0
    #: How readily they send events.
    sends: float = 0.0
    #: Whoever reports takes the turn that follows.
    worker_turns: bool = False
    #: Events that one transaction of turns takes.
    batch: int = 100
    #: The database's clock, which jumps, and the time that passes.
    now: float = 0.0
    elapsed: float = 0.0
    runs: dict[str, Run] = field(default_factory=dict)
    #: What the broker holds: ("execute", run, key) or ("coordinate", run, …).
    messages: list[Message] = field(default_factory=list)
    sent: list[Message] = field(default_factory=list)
    #: (run, key) to the attempt and fence whose success was accepted.
    accepted: dict[tuple[str, str], list[tuple[int, int]]] = field(default_factory=dict)
    #: (run, key, attempt) to how often it began.
    begun: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    #: (run, key, fence) of leases that ended too early for their workers to know.
    taken: set[tuple[str, str, int]] = field(default_factory=set)
    #: (run, key, attempt) to whoever ended its wait.
    ends: dict[tuple[str, str, int], list[str]] = field(default_factory=dict)
    #: (run, key, attempt) to what somebody was told that counts.
    said: dict[tuple[str, str, int], str] = field(default_factory=dict)
    #: (run, key) to the result that counts.
    results: dict[tuple[str, str], Json] = field(default_factory=dict)
    locks: dict[str, str] = field(default_factory=dict)
    events: list[Sent] = field(default_factory=list)
    effects: Counter[tuple[str, str]] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    #: What the world has lived through, by name.
    met: Counter[str] = field(default_factory=Counter)

    # --- time, messages, commits ---------------------------------------------------------

    def at(self) -> datetime:
        """The time, a little later whenever somebody asks."""
        self.now += 2e-6
        return EPOCH + timedelta(seconds=self.now)

    def passes(self, seconds: float) -> None:
        """Time goes by, for everybody."""
        self.now += seconds
        self.elapsed += seconds

    def jump(self, seconds: float) -> None:
        """Somebody sets the database's clock."""
        self.now += seconds
        self.met["clock forward" if seconds > 0 else "clock back"] += 1
        for name, run in self.runs.items():
            # Their workers believe in the time that has passed, and cannot know better.
            self.taken |= {
                (name, key, row.fence) for key, row in run.rows.items() if row.status == "leased"
            }

    def send(self, *message: str) -> None:
        self.messages.append(message)
        self.sent.append(message)

    def commits(self, transaction: Callable[[], T]) -> T:
        """What a transaction comes to. Raises `Away`, committed or not."""
        if self.away and self.rng.random() < self.away:
            if self.rng.random() < 0.5:
                self.met["commit unknown"] += 1
                transaction()
            raise Away
        return transaction()

    # --- submitting, and what people do --------------------------------------------------

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
        it = self.runs[run]
        if it.state.terminal:
            return
        it.inbox.append(msg.CancelRequested(at=self.at(), by="sim", compensate=compensate))
        it.cancelled = True

    def terminate(self, run: str) -> None:
        it = self.runs[run]
        if it.state.terminal:
            return
        it.inbox.append(msg.TerminateRequested(at=self.at(), by="sim"))
        it.cancelled = True

    def go_back(self, run: str) -> None:
        """Somebody has a run go on from an earlier place of its own."""
        it = self.runs[run]
        seq = self.rng.randint(1, len(it.history)) if it.history else 0
        place = State(run=run)
        for entry in it.history[:seq]:
            place = evolve(place, entry.record)
        if not rollback.goes(it.state) or rollback.obstacle(place):
            return
        frame, overlays = forking.told(rollback.there(place, ()))
        it.inbox.append(
            msg.RollbackRequested(
                at=self.at(),
                by="sim",
                seq=seq,
                state=frame,
                variables=place.variables,
                overlays=overlays,
            )
        )

    def skip(self, run: str, key: str) -> None:
        """Somebody lets a live step count as done."""
        it = self.runs[run]
        it.inbox.append(msg.SkipRequested(at=self.at(), step=msg.StepKey(key), by="sim"))
        it.skipped = True

    def retry(self, run: str, key: str) -> None:
        """Somebody has a step begun anew, whoever holds it."""
        it = self.runs[run]
        row = it.rows.get(key)
        if row is None or row.locked or row.status == "waiting":
            return
        begun, paused = row.begun, it.state.status is RunStatus.PAUSED
        if row.status in ("ready", "held", "leased"):
            self.taken.add((run, key, row.fence))
            row.fence += 1
        if begun:
            row.status, row.wake = "reported", math.inf
        elif row.status == "leased" and paused:
            row.status, row.wake = "held", math.inf
        elif row.status in ("leased", "ready"):
            row.status, row.wake = "ready", self.now
        row.worker, row.begun, row.lease_until = None, False, math.inf
        self.met["taken away"] += begun
        it.inbox.append(
            msg.RetryRequested(
                at=self.at(),
                step=msg.StepKey(key),
                by="sim",
                attempt=row.step.attempt if begun else None,
            )
        )

    def pause(self, run: str) -> None:
        self.runs[run].inbox.append(msg.PauseRequested(at=self.at(), by="sim"))

    def resume(self, run: str) -> None:
        self.runs[run].inbox.append(msg.ResumeRequested(at=self.at(), by="sim"))

    def answer(self, run: str, key: str, choice: str) -> bool:
        """Somebody answers a question; whether that counts."""
        row, wait = self.runs[run].rows.get(key), self.runs[run].waits.get(key)
        if row is None or wait is None or wait.kind not in ("approval", "input"):
            return False
        if wait.kind == "input":
            return self.end(run, key, row.step.attempt, "user:ada", result={"said": choice})
        said: Json = {"choice": choice, "by": ["ada"], "form": {}}
        return self.end(run, key, row.step.attempt, "user:ada", result=said, choice=choice)

    # --- waits ---------------------------------------------------------------------------

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
            and (row.status == "waiting" or (row.status == "reported" and not self.rules.once))
            and row.step.attempt == attempt
            and (late or row.wake > self.now or not self.rules.once)
        )
        if not waits and (self.rules.tell or not by.startswith("run:")):
            self.met["too late to end a wait"] += 1
            return False
        if row is not None:
            row.status, row.wake = "reported", math.inf
        self.ends.setdefault((run, key, attempt), []).append(by)
        self.met[f"ended by {by.partition(':')[0]}"] += 1
        event: msg.AnyEvent
        if by != "clock":
            self.said[run, key, attempt] = f"{by} {choice}"
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

    def tell(self, name: str) -> None:
        """Somebody sends an event."""
        self.events.append(Sent(id=f"e{len(self.events)}", name=name, at=self.now))

    def pairs(self) -> list[tuple[Sent, str, str, int]]:
        """Events that nobody has claimed, and the steps that may."""
        kept = [event for event in self.events if not event.claimed]
        return [
            (event, run, key, it.rows[key].step.attempt)
            for event in kept
            for run, it in self.runs.items()
            for key, wait in it.waits.items()
            if wait.name == event.name
            and it.rows[key].status == "waiting"
            and not (wait.transient and event.at < wait.since)
        ]

    def claim(self, event: Sent, run: str, key: str, attempt: int) -> bool:
        """An event ends a wait, if both are still to be had."""
        if event.claimed and self.rules.claim:
            self.met["claimed before"] += 1
            return False
        if not self.end(run, key, attempt, f"event:{event.id}", result={"event": event.id}):
            return False
        event.claimed.append((run, key))
        return True

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

    def keeps(self, name: str) -> set[str]:
        """The locks that steps and tokens of a run hold."""
        it = self.runs[name]
        holds = [row.step.holds for row in it.rows.values()]
        holds += [token.holds for token in it.state.tokens]
        return {lock for each in holds for lock, _ in each}

    # --- what workers do with a step -----------------------------------------------------

    def lease(self, run: str, key: str, worker: str) -> Lease | None:
        """Take a step that is to be had."""
        it = self.runs[run]
        row = it.rows.get(key)
        if row is None or row.locked or (row.status != "ready" and self.rules.guard):
            self.met["nothing to lease"] += 1
            return None
        if row.status not in ("ready", "leased"):
            return None
        if it.state.status is RunStatus.PAUSED:
            self.met["ready in a paused run"] += 1
            if self.rules.halt:
                return None
            self.violations.append(f"{run} {key} was leased, and its run is paused")
        row.status, row.worker, row.fence = "leased", worker, row.fence + 1
        row.lease_until, row.begun, row.wake = self.now + LEASE, False, math.inf
        n = int(it.state.variables.get("n") or 0)  # type: ignore[arg-type]
        return Lease(run, key, row.step.attempt, row.fence, row.step, n)

    def begin(self, lease: Lease) -> bool:
        """Start the attempt of a lease."""
        row = self._held(lease)
        if row is None or row.begun:
            return False
        row.begun = True
        attempt = (lease.run, lease.key, lease.attempt)
        self.begun[attempt] += 1
        if self.begun[attempt] > 1:
            self.violations.append(f"{lease.run} {lease.key} began attempt {lease.attempt} twice")
        return True

    def take(self, wanted: Iterable[tuple[str, str]], worker: str) -> list[Lease]:
        """Lease steps and begin their attempts, in one commit."""
        leases = [self.lease(run, key, worker) for run, key in dict.fromkeys(wanted)]
        return [lease for lease in leases if lease is not None and self.begin(lease)]

    def let_go(
        self, run: str, key: str, worker: str, known: Iterable[tuple[str, str, int]]
    ) -> None:
        """Give up a step that a worker may own without knowing it."""
        row = self.runs[run].rows.get(key)
        if row is None or row.status != "leased" or row.worker != worker:
            return
        if (run, key, row.fence) in known:
            self.met["spared"] += 1
            if self.rules.spare:
                return
        self._give_up(run, key, row)

    def give_back(self, lease: Lease) -> None:
        """Hand back a step whose attempt has not begun."""
        row = self._held(lease)
        if row is not None and not row.begun:
            self._give_up(lease.run, lease.key, row)

    def beat(self, lease: Lease) -> bool:
        """Extend a lease; whether it still holds."""
        row = self._held(lease)
        if row is None:
            return False
        if self.rules.beat:
            row.lease_until = self.now + LEASE
        return True

    def report(self, lease: Lease, event: msg.AttemptSucceeded | msg.AttemptFailed) -> bool:
        """End an attempt, if its lease holds."""
        row = self.runs[lease.run].rows.get(lease.key)
        held = self._held(lease)
        if held is None:
            self.met["refused"] += 1
        if self.rules.fence:
            row = held if held is not None and held.begun else None
        if row is None:
            return False
        row.status, row.worker, row.begun = "reported", None, False
        row.wake = row.lease_until = math.inf
        self.runs[lease.run].inbox.append(replace(event, at=self.at()))
        if isinstance(event, msg.AttemptSucceeded):
            ends = self.accepted.setdefault((lease.run, lease.key), [])
            ends.append((lease.attempt, lease.fence))
            assert isinstance(event.result, Inline)
            self.results[(lease.run, lease.key)] = event.result.value
        return True

    def _held(self, lease: Lease) -> Row | None:
        row = self.runs[lease.run].rows.get(lease.key)
        if row is None or row.status != "leased" or row.fence != lease.fence:
            return None
        return row

    def _give_up(self, name: str, key: str, row: Row) -> None:
        """Nobody owns a step any more: what has begun is lost, what has not is to be had again."""
        run = self.runs[name]
        begun, worker = row.begun and self.rules.lost, row.worker
        row.worker, row.begun, row.lease_until = None, False, math.inf
        row.fence += 1
        if begun:
            self.met["lost"] += 1
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
            if self.calm:
                self.violations.append(f"{name} {key} was lost, and nothing has gone wrong")
        elif run.state.status is RunStatus.PAUSED:
            row.status, row.wake = "held", math.inf
        else:
            self.met["given back"] += 1
            row.status, row.wake = "ready", self.now

    # --- what the sweeper does -----------------------------------------------------------

    def sweep(self) -> tuple[list[Message], list[str]]:
        """Leases, waits and messages that are overdue: messages to send, runs to look at."""
        rules, now = self.rules, self.now
        hints: list[Message] = []
        due: list[str] = []
        for name, run in self.runs.items():
            if run.wake <= now and rules.tick:
                run.wake = now + WAKE_AGAIN
                run.inbox.append(msg.Ticked(at=self.at()))
                self.met["ticked"] += 1
                due.append(name)
            for key, row in run.rows.items():
                if row.locked or (row.wake > now and row.lease_until > now):
                    continue
                match row.status:
                    case "leased" if row.lease_until < now and rules.expire:
                        self._give_up(name, key, row)
                        due.append(name)
                    case "waiting" if rules.over:
                        self._over(name, key, row)
                        due.append(name)
                    case "retrying" | "deferred" if rules.due:
                        row.wake = now + WAKE_AGAIN
                        woke = msg.Woke(at=self.at(), step=msg.StepKey(key), again=True)
                        run.inbox.append(woke)
                        due.append(name)
                    case "ready" if rules.resend and not self.calm:
                        row.wake = now + RESEND
                        hints.append(("execute", name, key))
                    case _:
                        pass
            if run.inbox and rules.collect and not self.calm and run.stuck <= now:
                due.append(name)
        return hints, list(dict.fromkeys(due))

    def _over(self, run: str, key: str, row: Row) -> None:
        """The time of a wait is over."""
        self.end(run, key, row.step.attempt, "clock", late=True)

    def due(self) -> float:
        """When something is due next, by the database's clock."""
        return min(
            (
                moment
                for run in self.runs.values()
                for moment in (
                    run.wake,
                    run.stuck if run.stuck > self.now else math.inf,
                    *(min(row.wake, row.lease_until) for row in run.rows.values()),
                )
            ),
            default=math.inf,
        )

    # --- outside -------------------------------------------------------------------------

    def effect(self, lease: Lease) -> None:
        """User code runs and touches the world."""
        # What was taken away by hand may go on until its worker hears of it: it was told to.
        excused = (lease.run, lease.key, lease.fence) in self.taken
        if (lease.run, lease.key) in self.accepted and not excused:
            self.violations.append(f"{lease.run} {lease.key} ran after its result was accepted")
        row = self.runs[lease.run].rows.get(lease.key)
        if row is not None and row.fence != lease.fence and not excused:
            self.violations.append(f"{lease.run} {lease.key} ran, and its worker owns it no more")
        self.effects[(lease.run, lease.key)] += 1
        self.met["ran again"] += self.effects[(lease.run, lease.key)] > 1


def _defaults(graph: Graph) -> dict[str, Json]:
    """The inputs that nobody has to give."""
    properties = graph.inputs.get("properties", {})
    assert isinstance(properties, dict)
    return {
        name: schema["default"]
        for name, schema in properties.items()
        if isinstance(schema, dict) and "default" in schema
    }
