"""Carrying out one step: lease and begin, run, report, and see to the turn that follows.

Whatever happens in between, by the code of a user or by ours, becomes a report; what cannot
be reported any more is found by the sweeper when the lease runs out.
"""

from __future__ import annotations

import socket
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection, Row

from engine import faults, waiting
from engine.broker import Hint
from engine.core.records import replace
from engine.errors import Damaged, Unavailable, is_away
from engine.platform import Platform
from engine.runs import attempts, turns
from engine.runs.attempts import Failed, Leased, Outcome
from engine.runs.known import Known
from engine.runs.logs import Log
from engine.store import session
from engine.store.ids import RunId, StepId
from engine.store.steps import Held, Needed, Taking
from workers import fetching, kinds
from workers.group import Group
from workers.keeper import Keeper
from workers.kinds.execution import Execution
from workers.sandbox import Sandbox, SandboxUnavailable
from workers.secrets import Withheld
from workers.watchdog import Pulse

_log = structlog.get_logger(__name__)

#: Steps that are leased, or reported, in one commit.
TOGETHER = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What came of an attempt, and whether its thread can go on with the step that follows."""

    lease: Leased
    outcome: Outcome
    goes_on: bool = False
    #: How the run stood when the step was taken, if it has no other.
    stood: Known | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """A step that this worker has taken."""

    lease: Leased
    #: Since when it is ours at the earliest, in seconds of `time.monotonic`.
    since: float
    #: How its run stands, if it has no other.
    stands: Known | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Whether a report was accepted, and the step that its thread goes on with."""

    accepted: bool
    following: Hint | None = None


@dataclass(kw_only=True)
class Worker:
    """What a worker process carries steps out with."""

    name: str
    platform: Platform
    sandbox: Sandbox
    keeper: Keeper
    #: Where this process may take turns itself, the platform of a coordinator: it takes those that follow
    #: from its reports together with these.
    coordinator: Platform | None = None
    #: Whether it takes from a Celery queue.
    consumes: Callable[[str], bool] = lambda _: True
    pulse: Pulse = field(default_factory=Pulse)
    #: Sees to it that somebody takes the turns of runs; by a message, unless it is given. Never raises.
    follow: Callable[[Sequence[RunId]], object] | None = None
    #: What its threads ask of the database, done for all that ask at a time.
    taking: Group[StepId, Leased | None] = field(init=False)
    reporting: Group[Ended, Heard] = field(init=False)

    lock: threading.Lock = field(default_factory=threading.Lock)
    #: Leases that were taken just now, and that the keeper does not know yet.
    fresh: set[Held] = field(default_factory=set)
    #: Steps that were taken with the turn that made them ready.
    at_hand: dict[StepId, Ours] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.taking = Group(self._take, most=TOGETHER, gathered=fetching.handed_out)
        self.reporting = Group(self._report, most=TOGETHER)

    def _take(self, wanted: Sequence[StepId]) -> Sequence[Leased | None]:
        taken = {one.step: one for one in attempts.take(self.platform, wanted, self.name)}
        with self.lock:
            self.fresh |= {one.held for one in taken.values()}
        # Two threads may have got a message each of one step: it is the first one's.
        return [taken.pop(step, None) for step in wanted]

    def _report(self, ended: Sequence[Ended]) -> Sequence[Heard]:
        following = _Following(self, [one.lease.step.run_id for one in ended if one.goes_on])
        accepted, left = self._ended(ended, following)
        self.see_to(left)
        return [
            Heard(
                accepted=one.lease.held in accepted,
                following=following.of(one.lease.step.run_id) if one.goes_on else None,
            )
            for one in ended
        ]

    def _ended(
        self, ended: Sequence[Ended], following: _Following
    ) -> tuple[frozenset[Held], Sequence[RunId]]:
        """The leases under which a report was accepted, and the runs whose turns are still to be taken."""
        outcomes = [(one.lease, one.outcome) for one in ended]
        runs = list(dict.fromkeys(lease.step.run_id for lease, _ in outcomes))
        reporting = partial(attempts.reported, worker=self.name, outcomes=outcomes)
        done = self.taken_along(runs, reporting, following, stood=_stood(ended))
        # A turn that cannot be taken so is looked at by itself; what was done counts.
        return done or (attempts.report(self.platform, self.name, outcomes), runs)

    def taken_along(
        self,
        runs: Sequence[RunId],
        reporting: turns.Reporting,
        following: _Following,
        *,
        stood: Mapping[RunId, Known] | None = None,
    ) -> tuple[frozenset[Held], Sequence[RunId]] | None:
        """Report and take the turns of runs in one commit, as `turns.take_along` does.

        None where nothing was done: it takes no turns, or something is wrong with one of them. Raises
        `Unavailable`.
        """
        if self.coordinator is None:
            return None
        try:
            done = turns.take_along(self.coordinator, runs, reporting, taker=following, stood=stood)
        except Exception as error:
            if is_away(error):
                # They may have been taken all the same.
                self.give_up(following.named, str(error))
                raise
            _log.info("report.apart", runs=len(runs), error=str(error))
            return None
        return done.accepted, [*done.left, *following.kept(done.known)]

    def see_to(self, runs: Sequence[RunId]) -> None:
        """Have somebody take the turns of runs."""
        if runs:
            (self.follow or self.platform.broker.nudge)(runs)

    def give_up(self, wanted: Sequence[StepId], why: str) -> None:
        """Let go of steps that it may own, and that none of its threads is to carry out.

        Insists as long as leases last. Raises `Unavailable` when that was not long enough.
        """
        if not wanted:
            return
        with self.lock:
            for step in wanted:
                if found := self.at_hand.pop(step, None):
                    self.fresh.discard(found.lease.held)
        _log.warning("attempt.let_go", run=wanted[0].run, steps=len(wanted), error=why)
        session.insist(
            lambda: attempts.let_go(self.platform, wanted, self.name, kept=self.known, why=why),
            seconds=self.platform.settings.lease_seconds,
        )

    def kept(self, lease: Leased) -> None:
        """The keeper knows a lease by now."""
        with self.lock:
            self.fresh.discard(lease.held)

    @property
    def known(self) -> frozenset[Held]:
        """The leases that this process knows to be its own."""
        with self.lock:
            return self.keeper.kept | self.fresh


class _Following:
    """The steps that a worker takes with the turn that makes them ready: one for each thread that goes on."""

    def __init__(self, worker: Worker, runs: Sequence[RunId]) -> None:
        self._worker = worker
        self._free = Counter(runs)
        self._since = time.monotonic()
        self._hints: dict[StepId, Hint] = {}
        self._leased: Sequence[Leased] = ()
        #: Those of them that no thread has been given, once their turn is known to be committed.
        self._to_give: list[Leased] = []
        self._unread: Sequence[RunId] = ()

    @property
    def named(self) -> Sequence[StepId]:
        """What may be the worker's, whatever has become of the transaction."""
        return [*self._hints]

    def wanted(self, ready: Sequence[Hint]) -> Taking | None:
        """One for each thread, of the queues that the worker takes from."""
        free = self._free.copy()
        for hint in ready:
            if free[hint.step.run_id] > 0 and self._worker.consumes(hint.address):
                free[hint.step.run_id] -= 1
                self._hints[hint.step] = hint
        return Taking(
            steps=self._hints.keys(),
            worker=self._worker.name,
            seconds=self._worker.platform.settings.lease_seconds,
        )

    def take(self, connection: Connection, rows: Sequence[Row[Any] | Needed]) -> None:
        """Read what was taken."""
        self._leased, self._unread = attempts.taken(
            self._worker.platform, connection, rows, self._worker.name
        )

    def start_over(self) -> None:
        """Nothing was taken."""
        self._hints, self._leased, self._unread = {}, (), ()

    def kept(self, known: Mapping[StepId, Known]) -> Sequence[RunId]:
        """Their turn was committed: they are this worker's. The runs of those that it cannot read."""
        ours = {
            one.step: Ours(lease=one, since=self._since, stands=known.get(one.step))
            for one in self._leased
        }
        with self._worker.lock:
            self._worker.fresh |= {one.held for one in self._leased}
            self._worker.at_hand |= ours
        self._to_give = [*self._leased]
        if self._leased:
            self._worker.platform.fault(faults.LEASE_COMMITTED)
        return self._unread

    def of(self, run: RunId) -> Hint | None:
        """The next one of a run, for one of its threads."""
        found = next((one for one in self._to_give if one.step.run_id == run), None)
        if found is None:
            return None
        self._to_give.remove(found)
        return self._hints[found.step]


def _stood(ended: Sequence[Ended]) -> Mapping[RunId, Known]:
    """How runs stood, those of which that is known, where a report is all that came of it."""
    # There may be a late one of a lease that was lost beside it.
    count = Counter(one.lease.step.run_id for one in ended)
    return {
        one.lease.step.run_id: one.stood
        for one in ended
        if one.stood is not None
        and count[one.lease.step.run_id] == 1
        and attempts.stands_alone(one.lease, one.outcome)
    }


def name_of(pid: int) -> str:
    """How a worker process signs: `host:pid`."""
    return f"{socket.gethostname()}:{pid}"


def execute(
    worker: Worker, step: StepId, *, goes_on: Callable[[], bool] = lambda: False
) -> Hint | None:
    """Carry out a step, if it is still to be had; the one that the thread goes on with.

    That one is the worker's already, and is to be carried out, or given up (`Worker.give_up`).
    `goes_on` is asked once the step is done: whether the thread may go on.
    """
    with worker.pulse.beating():
        ours = worker.at_hand.pop(step, None) or _taken(worker, step)
        if ours is None:
            return None
        with structlog.contextvars.bound_contextvars(
            run=step.run, step=step.key, attempt=ours.lease.attempt
        ):
            return _attempt(worker, ours, goes_on)


def turn(
    worker: Worker, runs: Sequence[RunId], *, goes_on: Callable[[], bool] = lambda: False
) -> Hint | None:
    """Take the turns of runs that have something waiting; the step that the thread goes on with.

    See `execute`. Where this worker takes no turns, it asks who does.
    """
    with worker.pulse.beating():

        def take() -> Hint | None:
            following = _Following(worker, runs[:1] if goes_on() else ())
            done = worker.taken_along(runs, lambda *_: {}, following)
            worker.see_to(runs if done is None else done[1])
            return following.of(runs[0])

        return session.insist(take, seconds=worker.platform.settings.resend_seconds)


def _taken(worker: Worker, step: StepId) -> Ours | None:
    """The step, its attempt begun; None where somebody else owns it, or it had to be let go."""
    settings = worker.platform.settings
    began = time.monotonic()
    while True:
        since = time.monotonic()
        try:
            lease = worker.taking.ask(step)
            return None if lease is None else Ours(lease=lease, since=since)
        except Unavailable as error:
            # It may have been taken all the same, and must not run where nobody knows that.
            worker.give_up([step], str(error))
        # A connection that was cut meanwhile must not cost the message: the next one comes late.
        if time.monotonic() - began > settings.resend_seconds:
            return None


def _attempt(worker: Worker, ours: Ours, goes_on: Callable[[], bool]) -> Hint | None:
    platform, lease = worker.platform, ours.lease
    log = Log(platform, lease)
    execution = Execution(platform=platform, sandbox=worker.sandbox, lease=lease, log=log)
    # Until it is reported: who looks for what nobody knows of must not find it.
    with worker.keeper.keeping(execution, since=ours.since):
        worker.kept(lease)
        return _carry_out(worker, execution, ours.stands, goes_on)


def _carry_out(
    worker: Worker, execution: Execution, stood: Known | None, goes_on: Callable[[], bool]
) -> Hint | None:
    """Run what the node is, and report what came of it; what the thread goes on with."""
    platform, lease = worker.platform, execution.lease
    outcome = _run(execution)
    execution.log.flush()
    if execution.stopped.is_set() and isinstance(outcome, Failed):
        # Not the step's fault: where the lease still holds, the worker says that it lost it.
        outcome = Failed(reason="lost", message="its worker could not keep the lease")
    outcome = replace(outcome, usage=execution.usage, own=execution.own, model=execution.model)
    if execution.made or execution.log.wrote:
        # These have times of the database's, which what is reported must not be before.
        stood = None
    platform.fault(faults.EFFECT_DONE)
    # Safe to repeat: whatever commit went through before finds its fence gone.
    heard = session.insist(
        lambda: worker.reporting.ask(
            Ended(lease=lease, outcome=outcome, goes_on=goes_on(), stood=stood)
        ),
        seconds=platform.settings.lease_seconds,
    )
    if not heard.accepted:
        _log.info("report.refused", fence=lease.fence)
    # History has it: to write a line for each costs as much as to carry a small one out.
    _log.debug(
        "attempt.ended",
        node=lease.node,
        reason=outcome.reason if isinstance(outcome, Failed) else None,
    )
    return heard.following


def _run(execution: Execution) -> Outcome:
    kind = kinds.find(execution.node.kind)
    if kind is None:
        return Failed(
            reason="unknown_kind",
            message=f"node {execution.node.id}: this worker knows no kind {execution.node.kind!r}",
            terminal=True,
        )
    platform, lease = execution.platform, execution.lease
    try:
        outcome = execution.secrets.outcome(kind(execution))
        return session.insist(
            lambda: attempts.moved_out(platform, lease, outcome),
            seconds=platform.settings.lease_seconds,
        )
    except waiting.Unfit as unfit:
        ended = Failed(reason=unfit.reason, message=unfit.message, terminal=True)
        return execution.secrets.outcome(ended)
    except (Unavailable, SandboxUnavailable) as error:
        # No fault of the step. Said at once, nobody has to wait for its lease to run out.
        _log.warning("attempt.lost", node=execution.node.id, error=str(error))
        return Failed(reason="lost", message=str(error))
    except Withheld as withheld:
        return Failed(reason=withheld.reason, message=withheld.message, terminal=True)
    except Damaged as error:
        return Failed(reason="damaged", message=error.message, terminal=True)
    except Exception as error:  # noqa: BLE001  # a defect of ours is reported, not lost
        hidden = execution.secrets.redaction.hide_text
        trace = "".join(traceback.format_exception(error))
        _log.error("attempt.defect", node=execution.node.id, exception=hidden(trace))
        return Failed(reason="defect", message=hidden(f"{type(error).__name__}: {error}"))
