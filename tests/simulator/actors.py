"""Processes: each may die, or stand still, wherever it yields."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from engine.core import messages as msg
from engine.core.graph import Map
from engine.core.values import Inline, Json
from tests.simulator import turns
from tests.simulator.tables import Committed, Lease, Run, Turning
from tests.simulator.world import EPOCH, LEASE, Away, World

T = TypeVar("T")
Asked = TypeVar("Asked")
Given = TypeVar("Given")

Script: TypeAlias = Generator[None, None, None]
#: Steps that are taken, or reported, in one commit.
TOGETHER = 3


Report: TypeAlias = tuple[Lease, "msg.AttemptSucceeded | msg.AttemptFailed"]


@dataclass(eq=False)
class _Ticket(Generic[Asked, Given]):
    asked: Asked
    given: Given | None = None
    done: bool = False
    away: bool = False


@dataclass(eq=False)
class Group(Generic[Asked, Given]):
    """What the threads of a process ask for, done for all who wait (`workers.group`)."""

    waiting: list[_Ticket[Asked, Given]] = field(default_factory=list)

    def ask(
        self, asked: Asked, do: Callable[[Sequence[Asked]], Sequence[Given]]
    ) -> Generator[None, None, Given]:
        """Have it done by whoever waits longest. Raises `Away` where that does."""
        ticket: _Ticket[Asked, Given] = _Ticket(asked)
        self.waiting.append(ticket)
        yield
        while not ticket.done:
            if self.waiting[0] is ticket:
                self._lead(do)
            yield
        if ticket.away:
            raise Away
        return ticket.given  # type: ignore[return-value]  # there is an answer where it is done

    def _lead(self, do: Callable[[Sequence[Asked]], Sequence[Given]]) -> None:
        batch, self.waiting = self.waiting[:TOGETHER], self.waiting[TOGETHER:]
        try:
            for ticket, given in zip(batch, do([one.asked for one in batch]), strict=True):
                ticket.given = given
        except Away:
            for ticket in batch:
                ticket.away = True
        for ticket in batch:
            ticket.done = True


@dataclass(eq=False)
class Process:
    """What dies as one."""

    name: str
    #: Of a worker: the leases that it knows to be its own, and what its threads ask for.
    known: set[tuple[str, str, int]] = field(default_factory=set)
    taking: Group[tuple[str, str], Lease | None] = field(default_factory=Group)
    reporting: Group[Report, bool] = field(default_factory=Group)


class Actor(NamedTuple):
    """A thread of a process."""

    process: Process
    script: Script


def insist(world: World, transaction: Callable[[], T]) -> Generator[None, None, T]:
    """Repeat what is safe to repeat until it is known to have committed."""
    while True:
        try:
            return world.commits(transaction)
        except Away:
            yield


# --- coordinators ------------------------------------------------------------------------


@dataclass(eq=False)
class Following:
    """The step that a worker takes with the turn that makes it ready."""

    process: Process
    wanted: tuple[str, str] | None = None
    lease: Lease | None = None
    since: float = 0.0
    #: Whether its turn is known to have committed.
    kept: bool = False

    def commit(self, world: World, turning: Turning) -> Committed:
        """The end of turns, and the lease of one step that became ready by them."""
        done = turns.commit(world, turning)
        hint = next((hint for hint in done.hints if hint[0] == "execute"), None)
        if hint is None:
            return done
        self.wanted, self.since = (hint[1], hint[2]), world.elapsed
        self.lease = next(iter(world.take([self.wanted], self.process.name)), None)
        if self.lease is None:
            return done
        return replace(done, hints=tuple(other for other in done.hints if other is not hint))

    def keep(self, world: World) -> None:
        """Its turn was committed."""
        self.kept = self.wanted is not None
        if self.lease is not None:
            world.met["went on"] += 1
            self.process.known.add((self.lease.run, self.lease.key, self.lease.fence))

    def let_go(self, world: World) -> Script:
        """Whether its turn was committed is unknown: nobody is to wait until the lease is over."""
        if self.wanted is None or self.kept:
            return
        (run, key), name, known = self.wanted, self.process.name, self.process.known
        self.wanted, self.lease = None, None
        yield from insist(world, lambda: world.let_go(run, key, name, known))


def coordinator(world: World, runs: Sequence[str], following: Following | None = None) -> Script:
    """Bring runs as far as they can go."""
    while True:
        try:
            yield from _turns(world, list(runs), following)
        except Away:
            if following is not None:
                yield from following.let_go(world)
            # Whatever has committed finds its inbox empty; its messages are never sent.
            yield
            continue
        return


def _turns(world: World, waiting: list[str], following: Following | None = None) -> Script:
    while waiting:
        batch, later = waiting[: turns.TOGETHER], waiting[turns.TOGETHER :]
        turning = turns.read(world, batch)
        try:
            yield
            pausing = turns.write(world, turning)
            # What becomes ready beside a pause is rare, and the moment for it short.
            for _ in range(4 if pausing else 1):
                yield
            if turning.reads and _fails(world):
                turns.roll_back(world, turning)
                done = None
            elif following is not None and following.wanted is None:
                done = world.commits(partial(following.commit, world, turning))
                following.keep(world)
            else:
                done = world.commits(partial(turns.commit, world, turning))
        finally:
            turns.release(world, turning)
        yield
        if done is None:
            yield from _apart(world, batch)
            waiting = later
            continue
        for hint in done.hints if world.rules.hint else ():
            world.send(*hint)
            yield
        told = list(done.told) if world.rules.told else []
        if world.rules.meet and any(world.runs[one.run].waits for one in turning.reads):
            told += yield from _routed(world)
        more = told
        if world.rules.again and world.rules.consume:
            # Though nothing waited: whoever has reported since then has missed the lock, and left.
            more = [*turning.held, *told]
        waiting = later + [run for run in dict.fromkeys(more) if world.runs[run].inbox]


def _fails(world: World) -> bool:
    """Whether a turn fails by itself: two stood in each other's way, say."""
    return world.away > 0 and world.rng.random() < world.away


def _apart(world: World, batch: Sequence[str]) -> Script:
    """Each run alone; the one that still fails is set aside."""
    if len(batch) > 1:
        for run in batch:
            yield from _turns(world, [run])
    elif world.rng.random() < 0.5:
        turns.stick(world, batch[0])
    else:
        yield from _turns(world, list(batch))


def sweeper(world: World) -> Script:
    """Move on whatever is overdue."""
    hints, due = yield from insist(world, world.sweep)
    yield
    for hint in hints:
        world.send(*hint)
        yield
    if due:
        yield from coordinator(world, due)
    if not world.calm:
        claimed = yield from _routed(world)
        if claimed:
            yield from coordinator(world, claimed)


# --- people ------------------------------------------------------------------------------


def act(world: World, deed: Callable[[], object], run: str) -> Script:
    """Somebody does something to a run, and its turn follows."""
    deed()
    yield
    yield from coordinator(world, [run])


def sender(world: World, name: str) -> Script:
    """Somebody sends an event."""
    world.tell(name)
    yield
    if world.rules.seek:
        claimed = yield from _routed(world)
        for run in claimed:
            world.send("coordinate", run)
            yield


def _routed(world: World) -> Generator[None, None, list[str]]:
    """Bring events and waits together, by what was seen a while ago; the runs that got one."""
    claimed = []
    for pair in world.pairs():
        yield
        if world.claim(*pair):
            claimed.append(pair[1])
    return claimed


# --- workers -----------------------------------------------------------------------------


def worker(world: World, process: Process, run: str, key: str) -> Script:
    """Carry out a step, if it is still to be had."""
    lease, since = yield from _taken(world, process, run, key)
    while lease is not None:
        yield from _carried_out(world, process, lease, since)
        if not world.rules.nudge:
            return
        if not world.worker_turns:
            world.send("coordinate", lease.run)
            return
        following = Following(process) if world.rng.random() < 0.7 else None
        yield from coordinator(world, [lease.run], following)
        if following is None:
            return
        lease, since = following.lease, following.since


def _carried_out(world: World, process: Process, lease: Lease, since: float) -> Script:
    held = (lease.run, lease.key, lease.fence)
    process.known.add(held)
    ours = yield from _kept(world, lease, since)
    if ours:
        world.effect(lease)
        yield
        event = _outcome(world, lease)
    else:
        event = _failed(lease, "lost")
    yield from _reported(world, process, (lease, event))
    process.known.discard(held)


def _taken(
    world: World, process: Process, run: str, key: str
) -> Generator[None, None, tuple[Lease | None, float]]:
    """The step, its attempt begun, and since when it is ours at the earliest."""

    def take(wanted: Sequence[tuple[str, str]]) -> Sequence[Lease | None]:
        leases = {}
        for lease in world.commits(lambda: world.take(wanted, process.name)):
            process.known.add((lease.run, lease.key, lease.fence))
            leases[lease.run, lease.key] = lease
        world.met["taken together"] += len(leases) > 1
        # Two threads may have got a message each of one step: it is the first one's.
        return [leases.pop(step, None) for step in wanted]

    if world.rng.random() < 0.2:
        return (yield from _leased(world, run, key))
    for _ in range(3):
        since = world.elapsed
        try:
            return (yield from process.taking.ask((run, key), take)), since
        except Away:
            # It may have been taken all the same, and must not run where nobody knows that.
            yield from insist(world, lambda: world.let_go(run, key, process.name, process.known))
    return None, 0.0


def _leased(world: World, run: str, key: str) -> Generator[None, None, tuple[Lease | None, float]]:
    """As a worker does that leases ahead: it may hand back what it has not begun."""
    since = world.elapsed
    lease = world.lease(run, key, "ahead")
    yield
    if lease is None:
        return None, since
    if not world.calm and world.rng.random() < 0.5:
        for _ in range(8):
            yield
        world.give_back(lease)
        return None, since
    begun = world.begin(lease)
    yield
    return lease if begun else None, since


def _kept(world: World, lease: Lease, renewed: float) -> Generator[None, None, bool]:
    """Keep a lease while its step is carried out; whether it is ours at the end."""
    rng, rules = world.rng, world.rules
    until = world.elapsed + (rng.choice((0.5, LEASE * 1.5)) if rng.random() < 0.15 else 0.0)
    yield
    while True:
        if world.elapsed - renewed > LEASE * 0.9 and rules.give_up:
            world.met["gave up"] += 1
            return False
        if world.elapsed >= until:
            return True
        if world.elapsed - renewed > LEASE / 3:
            asked = world.elapsed
            try:
                if not world.commits(lambda: world.beat(lease)):
                    world.met["heard that it is gone"] += 1
                    return False
                renewed = asked
            except Away:
                pass
        yield


def _reported(world: World, process: Process, said: Report) -> Script:
    """Report what came of it. Safe to repeat: what has committed finds its fence gone."""

    def report(reports: Sequence[Report]) -> Sequence[bool]:
        world.met["reported together"] += len(reports) > 1
        return world.commits(lambda: [world.report(*one) for one in reports])

    while True:
        try:
            yield from process.reporting.ask(said, report)
        except Away:
            yield
            continue
        return


def _outcome(world: World, lease: Lease) -> msg.AttemptSucceeded | msg.AttemptFailed:
    run = world.runs[lease.run]
    node = run.graph.node(lease.step.node)
    if node.id == "boom" or (node.retry.attempts > 1 and world.rng.random() < 0.1):
        return _failed(lease, "error", terminal=node.id == "boom")
    result, patch = _done(world, run, lease)
    return msg.AttemptSucceeded(
        at=EPOCH,
        step=msg.StepKey(lease.key),
        attempt=lease.attempt,
        fence=lease.fence,
        result=Inline(value=result),
        patch=patch,
    )


def _failed(lease: Lease, reason: str, *, terminal: bool = False) -> msg.AttemptFailed:
    return msg.AttemptFailed(
        at=EPOCH,
        step=msg.StepKey(lease.key),
        attempt=lease.attempt,
        fence=lease.fence,
        reason=reason,
        message="boom",
        terminal=terminal,
    )


def _done(world: World, run: Run, lease: Lease) -> tuple[Json, dict[str, Json]]:
    """The result of a step that was carried out, and what it leaves."""
    if not run.graph.reducers:
        return {"n": lease.n + 1}, {"n": lease.n + 1}
    step = lease.step
    if step.of is not None:
        # An item, or what undoes a step.
        return None if step.index is None else run.items[step.of][step.index], {}
    if isinstance(run.graph.node(step.node).wait, Map):
        keys = [(lease.run, f"{lease.key}.{place}") for place in range(step.index or 0)]
        got = [world.results.get(key) for key in keys]
        return got, {"got": got, "n": 1}
    return None, {"n": 1}
