"""What a worker does with a step: lease it, begin, keep the lease, report.

Every function takes many, one is the special case, and commits before it returns. None of
them touches a run's row.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import Connection, Row

from engine import faults
from engine.broker import STEPS
from engine.core import codec, overlays, remembered
from engine.core import messages as msg
from engine.core.graph import Graph, NodeId
from engine.core.overflow import Overflow, overflowing
from engine.core.references import Readable
from engine.core.values import VARIABLES_BYTES, Inline, Json, Ref, canonical, plain
from engine.errors import Invalid, Unavailable
from engine.platform import Platform
from engine.runs import budgets, gathered, graphs, items, large, ledgers, states
from engine.runs.budgets import Charged
from engine.runs.identity import new_salt
from engine.store import ledger, results, session, steps
from engine.store.ids import RunId, StepId
from engine.store.steps import Held, Needed


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
    #: The variables as the step sees them, now and in every attempt of it. Large ones are read
    #: when they are named.
    variables: Readable
    #: How often this thread has visited the nodes of its loops.
    visits: Mapping[str, int]
    #: `function:NAME` or `tool:NAME` to the version that this run uses.
    pins: Mapping[str, int]
    #: Of a map whose items are gathered: how many there are.
    items: int | None = None
    #: The result of the step that it undoes, if it undoes one.
    undone: Json = None
    undoes: bool = False
    #: Who submitted the run: whom it is charged to, and whose permissions it has.
    by: str = ""
    #: The run that its run was started for in the end, if not for itself.
    root: str = ""
    #: What people have allowed this step.
    permits: tuple[str, ...] = ()
    #: What is set aside for the attempt, by unit; None: nothing counts what it uses.
    reserved: Mapping[str, Decimal] | None = None

    @property
    def charged(self) -> Charged:
        return Charged(
            run=self.step.run_id, root=self.root, workflow=self.graph.workflow, user=self.by
        )

    @property
    def held(self) -> Held:
        return Held(step=self.step, fence=self.fence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """An attempt carried its step out."""

    result: Json = None
    #: Set by `moved_out`: where the result lies, if not in `result`.
    elsewhere: Ref | None = None
    #: What it leaves in the variables; `moved_out` puts references to what is large.
    patch: Mapping[str, Json] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    choice: msg.Choice = None
    #: All that the attempt used, its calls included, by name; and what it used itself.
    usage: Mapping[str, float] = field(default_factory=dict)
    own: Mapping[str, float] = field(default_factory=dict)
    #: Of which model, if it named one.
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """An attempt did not carry its step out. `terminal`: trying again cannot help."""

    reason: str
    message: str
    terminal: bool = False
    usage: Mapping[str, float] = field(default_factory=dict)
    own: Mapping[str, float] = field(default_factory=dict)
    #: Of which model, if it named one.
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended:
    """An attempt came to a call that people must allow first, or whose run is paused for it."""

    #: What they are asked to allow, and are shown (`engine.runs.guard.Question`); empty: nobody is.
    permits: tuple[str, ...] = ()
    asks: Mapping[str, Json] = field(default_factory=dict)
    until: datetime | None = None
    usage: Mapping[str, float] = field(default_factory=dict)
    own: Mapping[str, float] = field(default_factory=dict)
    #: Of which model, if it named one.
    model: str = ""


Outcome = Succeeded | Failed | Suspended

#: Messages of failures are kept up to here; the log of the step has the rest.
MESSAGE_CHARACTERS = 2000
#: As many steps that nobody takes are looked at; one is enough to tell.
UNANSWERED = 50


def lease(platform: Platform, wanted: Sequence[StepId], worker: str) -> tuple[Leased, ...]:
    """Take those of the steps that are still to be had; a stale or doubled hint finds none.

    A step whose graph or state this release cannot read is not among them: its attempt is
    ended at once as lost with its worker, and says why.
    """
    with session.transaction(platform.database) as connection:
        rows = steps.lease(connection, wanted, worker, platform.settings.lease_seconds)
        leased, unread = _all_read(platform, connection, rows)
        if unread:
            steps.begin(connection, [_held(row) for row, _ in unread])
            _lose(connection, unread, worker)
    platform.broker.nudge([RunId(row.tenant_id, row.run_id) for row, _ in unread])
    return leased


def take(platform: Platform, wanted: Sequence[StepId], worker: str) -> tuple[Leased, ...]:
    """Lease steps and start their attempts at once, in one commit. Call it before any user code runs.

    Whether it was done is unknown where it raises `Unavailable`: then call `let_go`.
    """
    with session.alone(platform.database) as connection:
        rows = steps.take(connection, wanted, worker, platform.settings.lease_seconds)
        leased, unread = _all_read(platform, connection, rows)
    if unread:
        with session.transaction(platform.database) as connection:
            _lose(connection, unread, worker)
    if leased:
        platform.fault(faults.LEASE_COMMITTED)
    platform.broker.nudge([RunId(row.tenant_id, row.run_id) for row, _ in unread])
    return leased


def taken(
    platform: Platform,
    connection: Connection,
    rows: Sequence[Row[Any] | Needed],
    worker: str,
) -> tuple[tuple[Leased, ...], Sequence[RunId]]:
    """What a worker has taken in the transaction of a turn, and the runs of what it cannot read.

    Somebody has to look at these after the commit: their steps are lost.
    """
    leased, unread = _all_read(platform, connection, rows)
    _lose(connection, unread, worker)
    return leased, [RunId(row.tenant_id, row.run_id) for row, _ in unread]


def let_go(
    platform: Platform,
    wanted: Sequence[StepId],
    worker: str,
    *,
    kept: Collection[Held],
    why: str,
) -> None:
    """Give up whatever of the steps a worker owns without knowing it; begun attempts are lost.

    `kept` are the leases that it knows. Nobody is told: the sweeper finds what is ready, and what waits.
    """
    with session.transaction(platform.database) as connection:
        rows = [row for row in steps.owned(connection, wanted, worker) if _held(row) not in kept]
        lost = Failed(reason="lost", message=why)
        _lose(connection, [(row, lost) for row in rows if row.begun], worker)
        steps.give_back(connection, [_held(row) for row in rows if not row.begun])


def _all_read(
    platform: Platform, connection: Connection, rows: Sequence[Row[Any] | Needed]
) -> tuple[tuple[Leased, ...], list[tuple[Row[Any] | Needed, Failed]]]:
    """What can be carried out, and what cannot be read."""
    found = items.read(connection, [place for row in rows if (place := _place(row)) is not None])
    read = [(row, _read(platform, connection, row, found)) for row in rows]
    leased = tuple(one for _, one in read if isinstance(one, Leased))
    return leased, [(row, one) for row, one in read if isinstance(one, Failed)]


def _place(row: Row[Any] | Needed) -> items.Place | None:
    """The item that a step of a map is about."""
    if row.of is None or row.item is None:
        return None
    return items.Place(RunId(row.tenant_id, row.run_id), row.of, row.item)


def _held(row: Row[Any] | Needed) -> Held:
    return Held(step=StepId(row.tenant_id, row.run_id, row.key), fence=row.fence)


def _read(
    platform: Platform,
    connection: Connection,
    row: Row[Any] | Needed,
    found: Mapping[items.Place, Json],
) -> Leased | Failed:
    """All that carrying a step out needs, as far as this release can read it."""
    try:
        graph = graphs.load(connection, row.tenant_id, row.version_id)
        # Of a run that is just being migrated, the one may be read from before, the other from after.
        graph.node(NodeId(row.node))
    except Unavailable:
        raise
    except Exception as error:  # noqa: BLE001  # one step's trouble must not be that of others
        return _unread(row, "graph", error)
    try:
        variables = states.seen(row)
    except Exception as error:  # noqa: BLE001  # whatever another release's state does to ours
        return _unread(row, "state", error)
    lease = Leased(
        step=StepId(row.tenant_id, row.run_id, row.key),
        node=row.node,
        iteration=row.iteration,
        attempt=row.attempt,
        fence=row.fence,
        graph=graph,
        version=row.version_id,
        variables=large.readable(platform, row.tenant_id, variables),
        visits=orjson.loads(row.visits),
        pins=orjson.loads(row.pins),
        by=row.submitted_by,
        root=row.root,
        permits=tuple(orjson.loads(row.permits)),
        reserved=None if row.reserved is None else _amounts(row.reserved),
    )
    if (place := _place(row)) is not None:
        names = items.named(graph, place, found[place])
        return replace(lease, variables=lease.variables.beside(names))
    if row.of is not None:
        undone = gathered.values(connection, lease.step.run_id, [row.of])
        return replace(lease, undone=undone.get(row.of), undoes=True)
    return lease if row.item is None else replace(lease, items=row.item)


def _amounts(text: str) -> dict[str, Decimal]:
    found: dict[str, Decimal] = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    return found


def _unread(row: Row[Any] | Needed, what: str, error: Exception) -> Failed:
    # Lost, not failed: while a fleet changes its release, another worker may well be able to.
    # How often that is tried is bounded, and each try waits longer for the next.
    why = str(error) if isinstance(error, Invalid) else f"{type(error).__name__}: {error}"
    return Failed(
        reason="lost",
        message=(
            f"node {row.node}: this worker's release cannot read the run's {what}; "
            f"update the workers, or cancel the run: {why}"
        ),
    )


def _lose(
    connection: Connection, lost: Sequence[tuple[Row[Any] | Needed, Failed]], worker: str
) -> None:
    """End attempts that have begun, and that nobody makes."""
    reports = [
        _report(
            worker,
            StepId(row.tenant_id, row.run_id, row.key),
            attempt=row.attempt,
            fence=row.fence,
            outcome=failed,
        )
        for row, failed in lost
    ]
    if not reports:
        return
    ledger.share(connection, [one.step.run_id for one in reports])
    results.report(connection, reports)
    for row, _ in lost:
        if row.reserved is not None:
            ledger.settle(connection, _held(row).step, row.attempt, 0, used={})


def begin(platform: Platform, leases: Sequence[Leased]) -> tuple[Leased, ...]:
    """Start attempts; those whose lease holds. Call it before any user code runs."""
    with session.transaction(platform.database) as connection:
        begun = steps.begin(connection, [lease.held for lease in leases])
    return tuple(lease for lease in leases if lease.step in begun)


def beat(
    platform: Platform,
    leases: Sequence[Held],
    told: Mapping[Held, Mapping[str, float]] | None = None,
) -> frozenset[Held]:
    """Extend leases; the steps that are still ours.

    `told` is what attempts have used so far: they are charged that, should they be lost.
    """
    used = {held: canonical(dict(amounts)) for held, amounts in (told or {}).items() if amounts}
    kept = {held: used.get(held) for held in leases}
    with session.transaction(platform.database) as connection:
        return steps.beat(connection, kept, platform.settings.lease_seconds)


def held(platform: Platform, leases: Sequence[Held]) -> frozenset[Held]:
    """The steps that are still ours, without extending anything."""
    with session.transaction(platform.database) as connection:
        return steps.held(connection, leases)


def unanswered(platform: Platform, queues: Sequence[str]) -> Mapping[Held, int]:
    """Steps of some queues that wait although their messages were sent again; how often each."""
    unnamed = [""] if STEPS in queues else []
    with session.transaction(platform.database) as connection:
        return steps.unanswered(connection, [*queues, *unnamed], UNANSWERED)


def give_back(platform: Platform, leases: Sequence[Held]) -> None:
    """Hand back steps whose attempt has not begun."""
    with session.transaction(platform.database) as connection:
        steps.give_back(connection, leases)


def moved_out(platform: Platform, lease: Leased, outcome: Outcome) -> Outcome:
    """An outcome that fits its rows: large values are kept as blobs, and referred to.

    Call it before `report`, while the lease is still kept: it may take its time. What cannot be
    made to fit has failed for good. Raises `Unavailable` if it may work later; safe to repeat.
    """
    if not isinstance(outcome, Succeeded):
        return outcome
    tenant, node = lease.step.tenant, f"node {lease.node}"
    try:
        recalled = remembered.left(
            remembered.reducers(lease.graph), NodeId(lease.node), Inline(value=outcome.result)
        )
        new = {**outcome.patch, **recalled}
        moved = overflowing(_left(lease, outcome, new), new, lease.graph.reducers.keys())
        refs = {name: large.keep(platform, tenant, new[name]) for name in moved}
    except Overflow as overflow:
        message = (
            f"{node} would leave {overflow.taken} bytes of variables, "
            f"{VARIABLES_BYTES} are allowed; keep large data elsewhere and pass its name"
        )
        return _oversize("variables_too_large", message, outcome)
    except large.ValueTooLarge as error:
        return _oversize("variables_too_large", f"{node}, variables: {error.message}", outcome)
    try:
        # What expressions recall of it must fit beside the variables, too.
        elsewhere = next((refs.pop(name) for name in recalled if name in refs), None)
        result = elsewhere or large.kept(platform, tenant, outcome.result)
    except large.ValueTooLarge as error:
        return _oversize("result_too_large", f"{node}, result: {error.message}", outcome)
    if refs:
        markers = {name: plain(ref) for name, ref in refs.items()}
        outcome = replace(outcome, patch={**outcome.patch, **markers})
    if isinstance(result, Ref):
        outcome = replace(outcome, result=None, elsewhere=result)
    return outcome


def _oversize(reason: str, message: str, outcome: Succeeded) -> Failed:
    return Failed(
        reason=reason, message=message, terminal=True, usage=outcome.usage, own=outcome.own
    )


def _left(lease: Leased, outcome: Succeeded, new: Mapping[str, Json]) -> Mapping[str, Json]:
    """The variables as the step leaves them, as they are kept."""
    kept = {name: v for name, v in lease.variables.kept.items() if name not in outcome.removed}
    return overlays.written(kept, new, lease.graph.reducers)


def report(
    platform: Platform, worker: str, outcomes: Sequence[tuple[Leased, Outcome]]
) -> frozenset[Held]:
    """End attempts; the leases under which a report was accepted.

    A report under a fence that no longer holds changes nothing and is kept as a refusal.
    """
    if all(stands_alone(*one) for one in outcomes):
        reports = _reports(worker, outcomes)
        with session.alone(platform.database) as connection:
            accepted = results.report(connection, reports).keys()
            _refuse(connection, reports, accepted)
    else:
        with session.transaction(platform.database) as connection:
            accepted = reported(connection, (), worker=worker, outcomes=outcomes).keys()
    platform.fault(faults.REPORT_COMMITTED)
    return frozenset(accepted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """A report that was accepted."""

    report: results.Report
    #: Its step as it is now, with the time; None where neither was asked for.
    step: Row[Any] | None


def reported(
    connection: Connection,
    heard: Collection[RunId] | None,
    *,
    worker: str,
    outcomes: Sequence[tuple[Leased, Outcome]],
) -> Mapping[Held, Reported]:
    """End attempts within a transaction of the caller's, who hears what is said to some runs (`results.report`).

    None: all of them hear it. Each report must be accepted then, and `stands_alone`; nothing is done where
    one is not, `session.MovedOn`. Returns the leases under which a report was accepted, in the order of the reports.
    """
    reports = _reports(worker, outcomes)
    if heard is None:
        results.expect(connection, reports)
        return {one.held: Reported(report=one, step=None) for one in reports}
    spending = [one for one in outcomes if _spends(*one)]
    ledger.share(connection, [lease.step.run_id for lease, _ in spending])
    accepted = results.report(connection, reports, heard=heard)
    for lease, outcome in spending:
        _settle(connection, lease, outcome)
    for lease, outcome in outcomes:
        if isinstance(outcome, Succeeded) and lease.held in accepted:
            large.refer(connection, lease.step.run_id, _kept(outcome))
    _refuse(connection, reports, accepted)
    return {
        one.held: Reported(report=one, step=accepted[one.held])
        for one in reports
        if one.held in accepted
    }


def _reports(worker: str, outcomes: Sequence[tuple[Leased, Outcome]]) -> Sequence[results.Report]:
    return [
        _report(worker, lease.step, attempt=lease.attempt, fence=lease.fence, outcome=outcome)
        for lease, outcome in outcomes
    ]


def _refuse(
    connection: Connection, reports: Sequence[results.Report], accepted: Collection[Held]
) -> None:
    """Keep a trace of reports that came under a fence that no longer holds."""
    refused = [one for one in reports if one.held not in accepted]
    if refused:
        results.refuse(connection, refused)


def stands_alone(lease: Leased, outcome: Outcome) -> bool:
    """Whether a report is all that follows: nothing is charged, nothing lies elsewhere."""
    if _spends(lease, outcome):
        return False
    return not isinstance(outcome, Succeeded) or not large.refers(_kept(outcome))


def _spends(lease: Leased, outcome: Outcome) -> bool:
    """Whether there is anything to be charged, or to be let go of."""
    lost = isinstance(outcome, Failed) and outcome.reason == "lost"
    return lease.reserved is not None or lost or ledgers.spends(outcome.own)


def _settle(connection: Connection, lease: Leased, outcome: Outcome) -> None:
    """Charge what an attempt has used, whether its report is accepted or not."""
    used = dict(outcome.own)
    if budgets.STEPS in (lease.reserved or {}) and not isinstance(outcome, Suspended):
        used[budgets.STEPS] = 1
    ledger.settle(connection, lease.step, lease.attempt, 0, used=used, model=outcome.model)
    if isinstance(outcome, Failed):
        # Calls whose end could not be recorded.
        for step, attempt, ordinal, _ in ledger.open_of(connection, [(lease.step, lease.attempt)]):
            ledger.settle(connection, step, attempt, ordinal, used=None, assumed=True)


def _kept(outcome: Succeeded) -> Mapping[str, Json]:
    """The values of an outcome that may be references."""
    if outcome.elsewhere is None:
        return outcome.patch
    return {**outcome.patch, "": plain(outcome.elsewhere)}


def _report(
    worker: str, step: StepId, *, attempt: int, fence: int, outcome: Outcome
) -> results.Report:
    # The time is the database's: it is set when the event is received, and read from there.
    event = _event(step, attempt, fence, outcome)
    sealed = codec.seal(event, salted=new_salt)
    outcomes = {Succeeded: "succeeded", Failed: "failed", Suspended: "suspended"}
    failed = outcome if isinstance(outcome, Failed) else None
    return results.Report(
        step=step,
        attempt=attempt,
        fence=fence,
        worker=worker,
        outcome=outcomes[type(outcome)],
        reason="suspended" if isinstance(outcome, Suspended) else failed.reason if failed else None,
        message=_message(outcome),
        usage=canonical(dict(outcome.usage)),
        kind=sealed.kind,
        format=codec.FORMAT,
        body=sealed.body,
        payload=sealed.payload,
        salt=sealed.salt,
    )


def _message(outcome: Outcome) -> str | None:
    match outcome:
        case Failed(message=message):
            return message[:MESSAGE_CHARACTERS]
        case Suspended(permits=permits):
            return "people are asked first" if permits else "a rule has paused the run"
        case _:
            return None


def _event(
    step: StepId, attempt: int, fence: int, outcome: Outcome
) -> msg.AttemptSucceeded | msg.AttemptFailed | msg.AttemptSuspended:
    match outcome:
        case Suspended():
            return msg.AttemptSuspended(
                at=codec.UNTIMED,
                step=msg.StepKey(step.key),
                attempt=attempt,
                fence=fence,
                permits=outcome.permits,
                asks=outcome.asks,
                until=outcome.until,
                usage=outcome.usage,
            )
        case Succeeded():
            return msg.AttemptSucceeded(
                at=codec.UNTIMED,
                step=msg.StepKey(step.key),
                attempt=attempt,
                fence=fence,
                result=outcome.elsewhere or Inline(value=outcome.result),
                patch=outcome.patch,
                removed=outcome.removed,
                choice=outcome.choice,
                usage=outcome.usage,
            )
        case Failed():
            return msg.AttemptFailed(
                at=codec.UNTIMED,
                step=msg.StepKey(step.key),
                attempt=attempt,
                fence=fence,
                reason=outcome.reason,
                message=outcome.message[:MESSAGE_CHARACTERS],
                terminal=outcome.terminal,
                usage=outcome.usage,
            )
