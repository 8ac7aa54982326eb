"""One drill: start a platform, load it, disturb it by plan, let it settle, and judge."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from celeriac.drill import plan, stage, verdict
from celeriac.drill.faults import Faults
from celeriac.drill.fleet import Command
from celeriac.drill.load import Load
from celeriac.drill.recovery import Recoveries
from celeriac.drill.stage import Stage
from celeriac.embedded import processes
from engine.core.problem import Problem
from engine.errors import Invalid, Unavailable
from engine.runs import doctor
from engine.runs.doctor import Finding
from engine.store import drills, session

#: Faults that take their time, and recoveries that are watched, at once.
_THREADS = 96
#: How late a fault may come; one that would come later is left out, and not counted.
_LATE_SECONDS = 5.0

#: A fault that takes longer, a deploy at the most, is a defect of the drill.
_LONGEST_SECONDS = 300.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a drill is to do."""

    kinds: Sequence[str] = plan.KINDS
    seconds: float = 60.0
    seed: int = 1
    #: How long workers lease steps for; half a minute in production.
    lease_seconds: float = 6.0
    #: How long the platform may take to end all runs when nothing disturbs it any more.
    settle_seconds: float = 30.0
    #: How long a step of every third run takes; the others take no time.
    step_seconds: float = 0.4
    #: Between two blows, at the least and at the most: how long one recovers from before the next.
    between_seconds: tuple[float, float] = plan.BETWEEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a drill came to."""

    order: Order
    #: Faults done, by kind; kinds that cannot be done on this machine, each with the reason.
    faults: Mapping[str, int]
    not_here: Mapping[str, str]
    submitted: int
    runs: int
    steps: int
    executed_again: int
    refused: int
    lost: Sequence[str]
    doubled: Sequence[str]
    #: What clients were answered that they should not have been.
    wrong: Sequence[str]
    findings: Sequence[Finding]
    #: Seconds from the last fault until every run had ended; None: some had not.
    settled_seconds: float | None
    #: By kind of fault, how long the slowest recovery took, in seconds; how many never ended.
    recovery_seconds: Mapping[str, float] = field(default_factory=dict)
    unrecovered: int = 0
    slowest_submission_seconds: float = 0.0

    @property
    def injected(self) -> int:
        """How many faults were done."""
        return sum(self.faults.values())

    @property
    def held(self) -> bool:
        """Whether the platform kept its promises, and there was something to keep."""
        broken = (self.lost, self.doubled, self.wrong, self.findings)
        return (
            not any(broken)
            and self.settled_seconds is not None
            and self.injected > 0
            and self.submitted > 0
        )


def possible(kinds: Sequence[str]) -> Mapping[str, str]:
    """Those of the kinds that cannot be done on this machine, each with what is missing."""
    lacking = stage.can_have_disk() if "disk-full" in kinds else ""
    return {"disk-full": lacking} if lacking else {}


def drill(
    order: Order,
    *,
    say: Say = lambda _: None,
    command: Command | None = None,
    logs: Path | None = None,
) -> Report:
    """Carry out a drill, from nothing to nothing: whatever it starts has ended when it returns.

    `command` starts processes, if not as usual. Raises `Invalid` for an order that leaves nothing
    to do here, and `Unavailable` where the platform does not start.
    """
    not_here = possible(order.kinds)
    kinds = [kind for kind in order.kinds if kind not in not_here]
    if not kinds:
        raise Invalid(
            [
                Problem(path=kind, message=f"is not possible here: it {why}", remedy="")
                for kind, why in not_here.items()
            ],
            "there is nothing to drill",
        )
    # Outermost: servers that a thread has started end with that thread.
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="drill") as threads:
        say("starting a platform for the drill")
        with stage.staged(
            lease_seconds=order.lease_seconds,
            own_disk="disk-full" in kinds,
            command=command,
            logs=logs,
        ) as running:
            return _drilled(order, running, threads, kinds=kinds, not_here=not_here, say=say)


def _drilled(
    order: Order,
    running: Stage,
    threads: ThreadPoolExecutor,
    *,
    kinds: Sequence[str],
    not_here: Mapping[str, str],
    say: Say,
) -> Report:
    recoveries = Recoveries(running.database, threads)
    load = Load(running, seed=order.seed, step_seconds=order.step_seconds)
    try:
        load.start()
        if not processes.wait_until(lambda: len(load.submitted) > 0, seconds=60):
            raise Unavailable("the drill's own platform takes no submissions")
        done = _disturb(order, kinds, Faults(running, recoveries), threads, say)
        say("no more faults; waiting for every run to end")
        began = time.monotonic()
        _mend(running)
        load.stop(seconds=order.settle_seconds)
        settled = _settled(running, began, order.settle_seconds)
        unrecovered = (
            0
            if processes.wait_until(lambda: recoveries.watched == 0, seconds=5)
            else (recoveries.watched)
        )
    finally:
        recoveries.close()
        _mend(running)
    say("judging")
    found = verdict.judge(running, load.submitted)
    return Report(
        order=order,
        faults={kind: done[kind] for kind in kinds},
        not_here=not_here,
        submitted=len(load.submitted),
        runs=found.runs,
        steps=found.steps,
        executed_again=found.again,
        refused=found.refused,
        lost=found.lost,
        doubled=found.doubled,
        wrong=tuple(load.wrong),
        findings=doctor.examine(running.database),
        settled_seconds=settled,
        recovery_seconds=dict(sorted(recoveries.slowest.items())),
        unrecovered=unrecovered,
        slowest_submission_seconds=max((one.seconds for one in load.submitted), default=0.0),
    )


def _disturb(
    order: Order,
    kinds: Sequence[str],
    faults: Faults,
    threads: ThreadPoolExecutor,
    say: Say,
) -> Counter[str]:
    """Do every fault of the plan at its time; how many were done, by kind."""
    done: Counter[str] = Counter()
    under_way: list[Future[None]] = []

    def carry_out(fault: plan.Fault) -> None:
        if faults.do(fault):
            done[fault.kind] += 1

    began = time.monotonic()
    planned = plan.plan(
        kinds, seconds=order.seconds, seed=order.seed, between=order.between_seconds
    )
    for fault in planned:
        ahead = fault.at - (time.monotonic() - began)
        if ahead < -_LATE_SECONDS:
            continue
        time.sleep(max(0.0, ahead))
        if fault.kind in plan.PRICKS:
            carry_out(fault)
        else:
            say(f"{fault.at:6.1f} s  {fault.kind}")
            under_way.append(threads.submit(carry_out, fault))
    for future in under_way:
        future.result(timeout=_LONGEST_SECONDS)
    return done


def _mend(running: Stage) -> None:
    """Let everything be as it was, but for what has to recover."""
    for network in (running.database_network, running.broker_network):
        network.mend()
    for name in running.fleet.names:
        running.clock(name).unlink(missing_ok=True)


def _settled(running: Stage, began: float, seconds: float) -> float | None:
    """How long it took until every run had ended; None where that takes too long."""

    def ended() -> bool:
        with (
            contextlib.suppress(Unavailable),
            session.transaction(running.database) as connection,
        ):
            return drills.live(connection) == 0
        return False

    left = seconds - (time.monotonic() - began)
    if not processes.wait_until(ended, seconds=max(0.0, left)):
        return None
    return time.monotonic() - began
