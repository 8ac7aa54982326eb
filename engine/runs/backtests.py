"""Backtests: a policy, or a version of a workflow, held against runs as they were recorded.

Nothing is carried out and nothing is written: records are read in transactions that can only read,
and what follows is worked out in memory. How much is looked at is bounded, by runs, by the lines
and bytes of their histories and by time; what that cuts off is said.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection

from engine import retrace
from engine.core import messages as msg
from engine.core.graph import Graph
from engine.core.references import TooLarge, Unread
from engine.core.transitions import RunStatus
from engine.core.values import Json
from engine.errors import NotFound
from engine.guardrails import backtest
from engine.guardrails.backtest import BLOCKING, Consequence, Course
from engine.platform import Platform
from engine.retrace import Retraced
from engine.runs import catalogue, graphs, policies, records, retold
from engine.runs.records import Reader, Record, Room, TooLong
from engine.runs.retold import Happened
from engine.store import functions, reads, session, workflows
from engine.store.functions import Function
from engine.store.ids import RunId

#: Runs of one backtest, usually and at most.
USUAL = 100
MOST = 1000
#: Lines of history of all of them, and bytes.
MAX_LINES = 100_000
MAX_BYTES = 64 * 1024 * 1024
#: Seconds that one may take.
SECONDS = 20.0
#: Steps that are told of one run.
MAX_STEPS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which runs: the newest of those that all of this holds of."""

    ids: tuple[str, ...] = ()
    workflow: str | None = None
    #: Who submitted them.
    user: str | None = None
    statuses: tuple[RunStatus, ...] = ()
    #: Submitted after and before.
    since: datetime | None = None
    until: datetime | None = None
    limit: int = USUAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """What was looked at."""

    runs: int
    #: More runs would have been chosen, or not all of these were looked at to their end.
    truncated: bool
    #: `runs`, `size` or `time`.
    because: str | None = None
    #: Of runs that were looked at only in part: up to when.
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A run that was looked at."""

    run: str
    workflow: str
    version: str
    user: str
    status: str
    created_at: datetime
    cost_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged(Head):
    """What a policy would have made of a run."""

    #: How many moments were judged.
    moments: int
    #: What stood in its way first, when it was carried out, and what would have.
    was: Consequence
    would: Consequence
    #: The first moment at which the policy parts from the record, and the first at which it blocks.
    first: Json
    block: Json
    #: Questions to people: those that there were, and those that there would have been.
    asked: int
    would_ask: int
    warnings: int
    #: Charged for what began after the block, or was blocked itself.
    saved_usd: Decimal
    #: What the record does not tell.
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTotals:
    """Of all runs together."""

    moments: int
    #: Runs that would be blocked where they were not.
    blocked: int
    #: By what would become of them: `rejected`, `paused`, `aborted`.
    blocked_by: dict[str, int]
    #: Runs that something stood in the way of, and of these those that would pass.
    were_blocked: int
    freed: int
    #: Runs at some moment of which something else would become of it.
    diverged: int
    asked: int
    would_ask: int
    #: Questions more, of the runs with more; and fewer, of the runs with fewer.
    more: int
    fewer: int
    cost_usd: Decimal
    saved_usd: Decimal
    #: How often each rule and budget would have fired.
    fired: dict[str, int]
    #: Runs of which something is not known.
    unknown: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyBacktest:
    """What a policy would have made of recorded runs."""

    policy: str
    beside: bool
    extent: Extent
    totals: PolicyTotals
    #: The newest first.
    runs: tuple[Judged, ...]
    #: What is assumed.
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Led(Head):
    """What would have become of a run in another version."""

    #: `same`, `different`, or `unknown`: its record does not reach to an end there.
    outcome: str
    #: How it would have ended; None: not known, or not yet.
    would_end: str | None
    would_reason: str | None
    same_path: bool
    same_end: bool
    first: Json
    #: Steps that are asked for and were never done.
    missing: tuple[str, ...]
    #: Steps that were done and would not be, where the end is known.
    not_made: tuple[str, ...]
    saved_usd: Decimal
    unknown: tuple[str, ...]
    #: What the version decides until it parts from the record: so many commands.
    decisions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionTotals:
    """Of all runs together."""

    same: int
    different: int
    unknown: int
    #: Runs by what their first difference is.
    first: dict[str, int]
    #: Steps that would not be made, and steps that were never done and would be asked for.
    not_made: int
    missing: int
    cost_usd: Decimal
    saved_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionBacktest:
    """What would have become of recorded runs in another version of their workflow."""

    workflow: str
    version: str
    version_id: str
    extent: Extent
    totals: VersionTotals
    runs: tuple[Led, ...]
    notes: tuple[str, ...]


def of_policy(
    platform: Platform,
    tenant: str,
    text: str | bytes,
    which: Filter,
    *,
    beside: bool = False,
    seconds: float = SECONDS,
) -> PolicyBacktest:
    """Hold a policy against recorded runs, in place of those in force or beside them.

    Raises `Invalid`, and `NotFound` for a workflow or a run that is not there.
    """
    late = _clock(seconds)
    policy = policies.read(text)
    enforced = replace(policy, enforce=True)
    with reads.reading(platform.database) as connection:
        governance = policies.proposed(connection, tenant, enforced, beside=beside)
        found, extent = _chosen(connection, tenant, which, late)
    tools, reader = _tools(platform, tenant), Reader(platform, tenant)
    told: list[tuple[backtest.Moment, ...]] = []
    for record in found:
        if late():
            extent = replace(extent, truncated=True, because="time", runs=len(told))
            break
        told.append(retold.moments(record, governance, tools, reader))
    found = found[: len(told)]
    merged = heapq.merge(*told, key=lambda moment: moment.at)
    courses, until = backtest.held(governance, merged, late=late)
    if until is not None:
        extent = replace(extent, truncated=True, because="time", until=until)
    runs = [
        _judged(record, courses.get(record.run.run, Course()), retold.happened(record))
        for record in found
    ]
    notes = [
        "whoever would be asked is taken to say yes",
        "sums of users, workflows, the tenant and runs with all they start are of the chosen runs alone",
    ]
    if not policy.enforce:
        notes.append("the policy is not enforced; it is judged here as if it were")
    return PolicyBacktest(
        policy=policy.name,
        beside=beside,
        extent=extent,
        totals=_policy_totals(runs, courses.values()),
        runs=tuple(runs),
        notes=tuple(notes),
    )


def of_version(
    platform: Platform,
    tenant: str,
    name: str,
    version: str | None,
    which: Filter,
    *,
    seconds: float = SECONDS,
) -> VersionBacktest:
    """Lead recorded runs of a workflow through a version of it, the latest unless one is named.

    Raises `NotFound` for what is not there.
    """
    late = _clock(seconds)
    wanted = catalogue.find(platform, tenant, name, version)
    with reads.reading(platform.database) as connection:
        other = graphs.load(connection, tenant, wanted.id)
        found, extent = _chosen(connection, tenant, replace(which, workflow=name), late)
    reader = Reader(platform, tenant)
    led: list[Led] = []
    for record in found:
        if late():
            extent = replace(extent, truncated=True, because="time", runs=len(led))
            break
        led.append(_led(platform, record, other, reader))
    return VersionBacktest(
        workflow=name,
        version=wanted.version,
        version_id=wanted.id,
        extent=extent,
        totals=_version_totals(led),
        runs=tuple(led),
        notes=(
            "what a step reported is taken for what the step of that node and iteration would report",
            "functions and tools are taken to give what they gave, whatever their versions",
        ),
    )


# --- choosing and reading ---------------------------------------------------------------------


def _chosen(
    connection: Connection, tenant: str, which: Filter, late: Callable[[], bool]
) -> tuple[list[Record], Extent]:
    """The records of the runs that are chosen, the newest first. Raises `NotFound`."""
    if which.workflow is not None and which.workflow not in workflows.names(connection, tenant):
        raise NotFound(f"Workflow not found: {which.workflow}")
    if unknown := reads.unknown_runs(connection, tenant, which.ids):
        raise NotFound(f"Run not found: {', '.join(unknown[:_MOST_NAMED])}")
    limit = min(max(which.limit, 1), MOST)
    rows = reads.chosen_runs(
        connection,
        tenant,
        ids=which.ids,
        workflow=which.workflow,
        statuses=which.statuses,
        before=which.until,
        after=which.since,
        by=which.user,
        limit=limit + 1,
    )
    because = "runs" if len(rows) > limit else None
    found: list[Record] = []
    room = Room(lines=MAX_LINES, bytes=MAX_BYTES)
    for row in rows[:limit]:
        if late():
            because = "time"
            break
        try:
            record = records.read(connection, RunId(tenant, str(row.id)), room)
        except TooLong:
            because = "size"
            break
        if record is not None:
            found.append(record)
    return found, Extent(runs=len(found), truncated=because is not None, because=because)


#: Runs that are not there which are named.
_MOST_NAMED = 10


def _clock(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def _tools(platform: Platform, tenant: str) -> retold.Tools:
    """Versions of tools, each looked up once."""
    known: dict[tuple[str, int], Function | None] = {}

    def find(name: str, version: int) -> Function | None:
        if (name, version) not in known:
            with session.transaction(platform.database) as connection:
                known[name, version] = functions.get(connection, tenant, "tool", name, version)
        return known[name, version]

    return find


def _head(record: Record) -> dict[str, object]:
    head = record.head
    return {
        "run": record.run.run,
        "workflow": head.workflow,
        "version": head.version,
        "user": head.submitted_by,
        "status": str(head.status),
        "created_at": head.created_at,
        "cost_usd": record.cost,
    }


# --- policies ---------------------------------------------------------------------------------


def _judged(record: Record, course: Course, happened: Happened) -> Judged:
    unknown = [*course.unknown]
    if course.untold:
        unknown.append(f"and {course.untold} things more")
    return Judged(
        **_head(record),  # type: ignore[arg-type]  # the fields of a head
        moments=course.moments,
        was=happened.was,
        would=course.would,
        first=None if course.first is None else course.first.as_json(),
        block=None if course.block is None else course.block.as_json(),
        asked=happened.approvals,
        would_ask=course.approvals,
        warnings=course.warnings,
        saved_usd=course.saved,
        unknown=tuple(unknown),
    )


def _policy_totals(runs: Sequence[Judged], courses: Iterable[Course]) -> PolicyTotals:
    fired: Counter[str] = Counter()
    for course in courses:
        fired.update(course.fired)
    blocked = [run for run in runs if run.block is not None]
    were = [run for run in runs if run.was in BLOCKING]
    return PolicyTotals(
        moments=sum(run.moments for run in runs),
        blocked=len(blocked),
        blocked_by=dict(Counter[str](run.would for run in blocked)),
        were_blocked=len(were),
        freed=sum(run.would not in BLOCKING for run in were),
        diverged=sum(run.first is not None for run in runs),
        asked=sum(run.asked for run in runs),
        would_ask=sum(run.would_ask for run in runs),
        more=sum(max(run.would_ask - run.asked, 0) for run in runs),
        fewer=sum(max(run.asked - run.would_ask, 0) for run in runs),
        cost_usd=sum((run.cost_usd for run in runs), Decimal(0)),
        saved_usd=sum((run.saved_usd for run in runs), Decimal(0)),
        fired=dict(fired),
        unknown=sum(bool(run.unknown) for run in runs),
    )


# --- versions ---------------------------------------------------------------------------------


def _led(platform: Platform, record: Record, other: Graph, reader: Reader) -> Led:
    unknown = [
        f"line {line.seq} of its history is shredded" for line in record.lines if line.shredded
    ]
    if record.lines and isinstance(record.lines[0].record, msg.Forked):
        origin = record.lines[0].record
        unknown.append(f"it goes on from line {origin.seq} of run {origin.run}")
    unknown += [
        f"it went back to line {line.record.seq} at line {line.seq}"
        for line in record.lines
        if isinstance(line.record, msg.RollBack)
    ]
    retraced: Retraced | None = None
    if not unknown:
        entries = [
            msg.Entry(at=line.at, record=line.record)  # as the core keeps them
            for line in record.lines
        ]
        try:
            retraced = retrace.retrace(
                record.graph,
                other,
                record.run.run,
                entries,
                policy=platform.policy,
                read=reader,
            )
        except (Unread, TooLarge) as error:
            unknown.append(str(error))
    if retraced is None:
        return Led(
            **_head(record),  # type: ignore[arg-type]  # the fields of a head
            outcome="unknown",
            would_end=None,
            would_reason=None,
            same_path=False,
            same_end=False,
            first=None,
            missing=(),
            not_made=(),
            saved_usd=Decimal(0),
            unknown=tuple(unknown[:MAX_STEPS]),
        )
    unknown += [
        f"node {node} stands for other work in this version; its recorded result was taken"
        for node in retraced.changed
    ]
    ended = retraced.status is not None
    not_made = _not_made(record, retraced) if ended else {}
    same = retraced.same_end and retraced.same_path and retraced.first is None
    outcome = "same" if same else "unknown" if retraced.first is None else "different"
    if not ended and not same:
        unknown.append("its record does not reach to an end in this version")
    return Led(
        **_head(record),  # type: ignore[arg-type]  # the fields of a head
        outcome=outcome,
        would_end=retraced.status,
        would_reason=retraced.reason,
        same_path=retraced.same_path,
        same_end=retraced.same_end,
        first=None if retraced.first is None else retraced.first.as_json(),
        missing=retraced.missing[:MAX_STEPS],
        not_made=tuple(not_made)[:MAX_STEPS],
        saved_usd=sum(not_made.values(), Decimal(0)),
        unknown=tuple(unknown[:MAX_STEPS]),
        decisions=retraced.decisions,
    )


def _not_made(record: Record, retraced: Retraced) -> dict[str, Decimal]:
    """Steps of which an attempt was made then that would not be made, and what these have cost."""
    found: dict[str, Decimal] = {}
    asked: dict[str, int] = {}
    admitted: list[tuple[str, int]] = []
    for line in record.lines:
        match line.record:
            case msg.RequestStart(step=key, attempt=attempt):
                asked[key] = attempt
            case msg.Admitted(step=key):
                admitted.append((key, asked[key]))
            case _:
                pass
    for step, attempt in admitted:
        if (step, attempt) not in retraced.made:
            found[step] = found.get(step, Decimal(0)) + sum(
                (
                    used.get("cost_usd", Decimal(0))
                    for key, used in record.charges.items()
                    if (key.step, key.attempt) == (step, attempt)
                ),
                Decimal(0),
            )
    return found


def _version_totals(runs: Sequence[Led]) -> VersionTotals:
    outcomes = Counter(run.outcome for run in runs)
    first = Counter(str(run.first["kind"]) for run in runs if isinstance(run.first, dict))
    return VersionTotals(
        same=outcomes["same"],
        different=outcomes["different"],
        unknown=outcomes["unknown"],
        first=dict(first),
        not_made=sum(len(run.not_made) for run in runs),
        missing=sum(len(run.missing) for run in runs),
        cost_usd=sum((run.cost_usd for run in runs), Decimal(0)),
        saved_usd=sum((run.saved_usd for run in runs), Decimal(0)),
    )
