"""What a worker does with a step: lease it, begin, keep the lease, report.

Every function takes many, one is the special case, and commits before it returns. None of
them touches a run's row.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from engine import faults
from engine.core import codec
from engine.core import messages as msg
from engine.core.graph import Graph
from engine.core.values import Inline, Json, canonical
from engine.platform import Platform
from engine.runs import graphs, states
from engine.store import results, session, steps
from engine.store.ids import StepId
from engine.store.steps import Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """A step that is ours for a while, with all that carrying it out needs."""

    step: StepId
    node: str
    iteration: int
    attempt: int
    fence: int
    graph: Graph
    #: The id of the workflow version that it is.
    version: str
    #: The variables as the step sees them, now and in every attempt of it.
    variables: Mapping[str, Json]
    #: How often this thread has visited the nodes of its loops.
    visits: Mapping[str, int]
    #: `function:NAME` or `tool:NAME` to the version that this run uses.
    pins: Mapping[str, int]

    @property
    def held(self) -> Held:
        return Held(step=self.step, fence=self.fence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """An attempt carried its step out."""

    result: Json = None
    patch: Mapping[str, Json] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    choice: msg.Choice = None
    usage: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """An attempt did not carry its step out. `terminal`: trying again cannot help."""

    reason: str
    message: str
    terminal: bool = False
    usage: Mapping[str, float] = field(default_factory=dict)


Outcome = Succeeded | Failed

#: Messages of failures are kept up to here; the log of the step has the rest.
MESSAGE_CHARACTERS = 2000


def lease(platform: Platform, wanted: Sequence[StepId], worker: str) -> tuple[Leased, ...]:
    """Take those of the steps that are still to be had; a stale or doubled hint finds none."""
    seconds = platform.settings.lease_seconds
    with session.transaction(platform.database) as connection:
        rows = steps.lease(connection, wanted, worker, seconds)
        leased = tuple(
            Leased(
                step=StepId(row.tenant_id, row.run_id, row.key),
                node=row.node,
                iteration=row.iteration,
                attempt=row.attempt,
                fence=row.fence,
                graph=graphs.load(connection, row.tenant_id, row.version_id),
                version=row.version_id,
                variables=states.seen(row),
                visits=orjson.loads(row.visits),
                pins=orjson.loads(row.pins),
            )
            for row in rows
        )
    if leased:
        platform.fault(faults.LEASE_COMMITTED)
    return leased


def begin(platform: Platform, leases: Sequence[Leased]) -> tuple[Leased, ...]:
    """Start attempts; those whose lease holds. Call it before any user code runs."""
    with session.transaction(platform.database) as connection:
        begun = steps.begin(connection, [lease.held for lease in leases])
    return tuple(lease for lease in leases if lease.step in begun)


def beat(platform: Platform, leases: Sequence[Held]) -> frozenset[Held]:
    """Extend leases; the steps that are still ours."""
    with session.transaction(platform.database) as connection:
        return steps.beat(connection, leases, platform.settings.lease_seconds)


def held(platform: Platform, leases: Sequence[Held]) -> frozenset[Held]:
    """The steps that are still ours, without extending anything."""
    with session.transaction(platform.database) as connection:
        return steps.held(connection, leases)


def give_back(platform: Platform, leases: Sequence[Held]) -> None:
    """Hand back steps whose attempt has not begun."""
    with session.transaction(platform.database) as connection:
        steps.give_back(connection, leases)


def report(
    platform: Platform, worker: str, outcomes: Sequence[tuple[Leased, Outcome]]
) -> frozenset[StepId]:
    """End attempts; the steps whose report was accepted.

    A report under a fence that no longer holds changes nothing and is kept as a refusal.
    """
    reports = [_report(worker, lease, outcome) for lease, outcome in outcomes]
    with session.transaction(platform.database) as connection:
        accepted = results.report(connection, reports)
        refused = [one for one in reports if one.step not in accepted]
        if refused:
            results.refuse(connection, refused)
    platform.fault(faults.REPORT_COMMITTED)
    return accepted


def _report(worker: str, lease: Leased, outcome: Outcome) -> results.Report:
    # The time is the database's: it is set when the event is received, and read from there.
    event = _event(lease, outcome)
    sealed = codec.seal(event, salt=os.urandom(16))
    failed = outcome if isinstance(outcome, Failed) else None
    return results.Report(
        step=lease.step,
        attempt=lease.attempt,
        fence=lease.fence,
        worker=worker,
        outcome="failed" if failed else "succeeded",
        reason=failed.reason if failed else None,
        message=failed.message[:MESSAGE_CHARACTERS] if failed else None,
        usage=canonical(dict(outcome.usage)),
        kind=sealed.kind,
        format=codec.FORMAT,
        body=sealed.body,
        payload=sealed.payload,
        salt=sealed.salt,
    )


def _event(lease: Leased, outcome: Outcome) -> msg.AttemptSucceeded | msg.AttemptFailed:
    match outcome:
        case Succeeded():
            return msg.AttemptSucceeded(
                at=codec.UNTIMED,
                step=msg.StepKey(lease.step.key),
                attempt=lease.attempt,
                fence=lease.fence,
                result=Inline(value=outcome.result),
                patch=outcome.patch,
                removed=outcome.removed,
                choice=outcome.choice,
                usage=outcome.usage,
            )
        case Failed():
            return msg.AttemptFailed(
                at=codec.UNTIMED,
                step=msg.StepKey(lease.step.key),
                attempt=lease.attempt,
                fence=lease.fence,
                reason=outcome.reason,
                message=outcome.message[:MESSAGE_CHARACTERS],
                terminal=outcome.terminal,
                usage=outcome.usage,
            )
