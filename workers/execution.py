"""Carrying out one step: lease, begin, run, report, nudge.

Whatever happens in between, by the code of a user or by ours, becomes a report; what cannot
be reported any more is found by the sweeper when the lease runs out.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, replace

import structlog

from engine import faults
from engine.errors import Damaged, Unavailable
from engine.platform import Platform
from engine.runs import attempts, turns
from engine.runs.attempts import Failed, Leased, Outcome
from engine.runs.logs import Log
from engine.store import session
from engine.store.ids import StepId
from workers.keeper import Keeper
from workers.kinds import KINDS
from workers.kinds.execution import Execution
from workers.sandbox import Sandbox, SandboxUnavailable

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What a worker process carries steps out with."""

    name: str
    platform: Platform
    sandbox: Sandbox
    keeper: Keeper
    #: Where this process may take turns itself: the platform of a coordinator.
    coordinator: Platform | None = None


def name_of(pid: int) -> str:
    """How a worker process signs: `host:pid`."""
    return f"{socket.gethostname()}:{pid}"


def execute(worker: Worker, step: StepId) -> None:
    """Carry out a step, if it is still to be had."""
    since = time.monotonic()
    for lease in attempts.lease(worker.platform, [step], worker.name):
        with structlog.contextvars.bound_contextvars(
            run=step.run, step=step.key, attempt=lease.attempt
        ):
            _attempt(worker, lease, since)


def _attempt(worker: Worker, lease: Leased, since: float) -> None:
    platform = worker.platform
    if not _begin(worker, lease):
        return
    log = Log(platform, lease)
    execution = Execution(platform=platform, sandbox=worker.sandbox, lease=lease, log=log)
    with worker.keeper.keeping(execution, since=since):
        outcome = _run(execution)
        log.flush()
    if execution.stopped.is_set() and isinstance(outcome, Failed):
        # Not the step's fault: where the lease still holds, the worker says that it lost it.
        outcome = Failed(reason="lost", message="its worker could not keep the lease")
    outcome = replace(outcome, usage=execution.usage, own=execution.own, model=execution.model)
    platform.fault(faults.EFFECT_DONE)
    # Safe to repeat: whatever commit went through before finds its fence gone.
    accepted = session.insist(
        lambda: attempts.report(platform, worker.name, [(lease, outcome)]),
        seconds=platform.settings.lease_seconds,
    )
    if not accepted:
        _log.info("report.refused", fence=lease.fence)
    _log.info(
        "attempt.ended",
        node=lease.node,
        reason=outcome.reason if isinstance(outcome, Failed) else None,
    )
    if worker.coordinator is not None:
        turns.take_turns(worker.coordinator, [lease.step.run_id])
    else:
        platform.broker.nudge([lease.step.run_id])


def _begin(worker: Worker, lease: Leased) -> bool:
    """Start the attempt; False where somebody else owns the step, or it had to be let go."""
    try:
        return bool(attempts.begin(worker.platform, [lease]))
    except Unavailable as error:
        # It may have begun all the same, and must not run where nobody knows that.
        _log.warning("attempt.let_go", error=str(error))
        why = str(error)
        session.insist(
            lambda: _let_go(worker, lease, why), seconds=worker.platform.settings.lease_seconds
        )
        return False


def _let_go(worker: Worker, lease: Leased, why: str) -> None:
    """Give a step back if its attempt has not begun; if it has, say that it is lost."""
    attempts.give_back(worker.platform, [lease.held])
    if attempts.held(worker.platform, [lease.held]):
        lost = Failed(reason="lost", message=why)
        attempts.report(worker.platform, worker.name, [(lease, lost)])


def _run(execution: Execution) -> Outcome:
    kind = KINDS.get(execution.node.kind)
    if kind is None:
        return Failed(
            reason="unknown_kind",
            message=f"node {execution.node.id}: this worker knows no kind {execution.node.kind!r}",
            terminal=True,
        )
    platform, lease = execution.platform, execution.lease
    try:
        outcome = kind(execution)
        return session.insist(
            lambda: attempts.moved_out(platform, lease, outcome),
            seconds=platform.settings.lease_seconds,
        )
    except (Unavailable, SandboxUnavailable) as error:
        # No fault of the step. Said at once, nobody has to wait for its lease to run out.
        _log.warning("attempt.lost", node=execution.node.id, error=str(error))
        return Failed(reason="lost", message=str(error))
    except Damaged as error:
        return Failed(reason="damaged", message=error.message, terminal=True)
    except Exception as error:  # noqa: BLE001  # a defect of ours is reported, not lost
        _log.exception("attempt.defect", node=execution.node.id)
        return Failed(reason="defect", message=f"{type(error).__name__}: {error}")
