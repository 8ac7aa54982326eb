"""One act on many runs, each for itself: what is wrong with one holds up no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Row

from engine.core import codec, transitions
from engine.core import messages as msg
from engine.core.problem import Problem
from engine.core.transitions import RunStatus
from engine.core.values import Json, digest
from engine.errors import Conflict, Invalid, NotFound
from engine.platform import Platform
from engine.runs import control, events, migrations, turns
from engine.store import reads, session
from engine.store.ids import RunId

#: Runs that one request acts on at most.
MOST = 1000
#: Runs whose events are left and whose turns are taken together.
_TOGETHER = 100


class Action(StrEnum):
    """What may be done to many runs at once."""

    CANCEL = "cancel"
    TERMINATE = "terminate"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"  #: take the turn of those that are stuck
    SIGNAL = "signal"  #: send each the same event
    MIGRATE = "migrate"  #: let each go on under another version of its workflow


class Outcome(StrEnum):
    """What came of it for one run."""

    DONE = "done"  #: it holds
    ACCEPTED = "accepted"  #: it is recorded, and holds as soon as the run's next turn is taken
    REFUSED = "refused"  #: nothing was changed
    WOULD = "would"  #: nothing stands in the way, and nothing was changed: it was only asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which runs: those that everything that is given holds of."""

    ids: tuple[str, ...] = ()
    workflow: str | None = None
    version_id: str | None = None
    statuses: tuple[RunStatus, ...] = ()
    #: Submitted before and after.
    before: datetime | None = None
    after: datetime | None = None

    @property
    def empty(self) -> bool:
        return self == Filter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """An event that each run is sent for itself; under a key, each is sent it once."""

    name: str
    payload: Json = None
    match: Mapping[str, Json] = field(default_factory=dict)
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """Under which version of its workflow each run goes on, and which nodes have another name there."""

    to: str
    nodes: Mapping[str, str] = field(default_factory=dict)
    #: Only ask what would become of each.
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of it for one run, and where it stands now; no status: there is no such run."""

    run: str
    outcome: Outcome
    status: RunStatus | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted:
    """An answer for each run, newest first, and the last id when there may be more."""

    answers: tuple[Answer, ...]
    more: str | None


def act(
    platform: Platform,
    tenant: str,
    action: Action,
    which: Filter,
    *,
    by: str,
    reason: str = "",
    signal: Signal | None = None,
    migration: Migration | None = None,
    before_id: str | None = None,
    limit: int = MOST,
) -> Acted:
    """Act on the runs of a tenant that a filter names, newest first, at most `limit` of them.

    Without statuses and ids, only runs that the action can change are looked at: those that have
    not ended, to `retry` those that are stuck. To `signal`, say what; to `migrate`, where to. Raises
    `Invalid` for an empty filter.
    """
    for path, wanted, given in (
        ("event", Action.SIGNAL, signal),
        ("migration", Action.MIGRATE, migration),
    ):
        if (action is wanted) != (given is not None):
            message = f"{path} belongs to {wanted}, and {wanted} needs it; this is {action}"
            raise Invalid([Problem(path=path, message=message, remedy="give both, or none")])
    if which.empty:
        raise Invalid(
            [
                Problem(
                    path="filter",
                    message="names nothing, which would be every run there is",
                    remedy="give ids, workflow, version_id, status, before or after",
                )
            ]
        )
    with reads.reading(platform.database) as connection:
        rows = reads.chosen_runs(
            connection,
            tenant,
            ids=which.ids,
            workflow=which.workflow,
            version_id=which.version_id,
            statuses=which.statuses or (() if which.ids else _LIVE),
            before=which.before,
            after=which.after,
            before_id=before_id,
            stuck=action is Action.RETRY and not which.ids,
            limit=limit + 1,
        )
        missing = () if before_id else reads.unknown_runs(connection, tenant, which.ids)
    found = [RunId(tenant, row.id) for row in rows[:limit]]
    answers = [
        answer
        for first in range(0, len(found), _TOGETHER)
        for answer in (
            _signalled(platform, found[first : first + _TOGETHER], signal, by)
            if signal is not None
            else _migrated(platform, found[first : first + _TOGETHER], migration, by, reason)
            if migration is not None
            else _together(platform, action, found[first : first + _TOGETHER], by, reason)
        )
    ]
    answers += [
        Answer(run=run, outcome=Outcome.REFUSED, why="there is no such run") for run in missing
    ]
    return Acted(answers=tuple(answers), more=found[-1].run if len(rows) > limit else None)


#: Runs that something can still be done to.
_LIVE = tuple(status for status in RunStatus if status not in transitions.TERMINAL)

_EVENTS: Mapping[Action, Callable[..., msg.AnyEvent]] = {
    Action.CANCEL: msg.CancelRequested,
    Action.TERMINATE: msg.TerminateRequested,
    Action.PAUSE: msg.PauseRequested,
    Action.RESUME: msg.ResumeRequested,
}
_ENDS = frozenset({Action.CANCEL, Action.TERMINATE})


def _together(
    platform: Platform, action: Action, runs: Sequence[RunId], by: str, reason: str
) -> list[Answer]:
    """Act on some runs: one transaction leaves the events, then their turns are taken."""
    before = _stands(platform, runs)
    chosen = [run for run in runs if not _obstacle(action, before[run.run])]
    waiting: frozenset[RunId] = frozenset()
    if action is Action.RETRY:
        with session.transaction(platform.database) as connection:
            for run in chosen:
                control.record_retry(connection, run, by=by, reason=reason)
        turns.take_turns(platform, chosen, force=True)
    elif chosen:
        event = _EVENTS[action](at=codec.UNTIMED, by=by, reason=reason)
        waiting = control.tell(platform, [(run, event) for run in chosen])
    after = _stands(platform, runs)
    return [
        _refused(run, before[run.run], why)
        if (why := _obstacle(action, before[run.run]))
        else _answer(action, run, after[run.run], waits=run in waiting)
        for run in runs
    ]


def _signalled(
    platform: Platform, runs: Sequence[RunId], signal: Signal, by: str
) -> Iterator[Answer]:
    """Send runs an event, each for itself; it is kept where no step waits for it yet."""
    before = _stands(platform, runs)
    for run in runs:
        try:
            event, woken = events.send(
                platform,
                run.tenant,
                signal.name,
                signal.payload,
                by=by,
                run=run.run,
                match=signal.match,
                key=None if signal.key is None else digest([signal.key, run.run]),
            )
        except (Conflict, Invalid) as error:
            yield _refused(run, before[run.run], error.message)
            continue
        for other in woken:
            control.fold(platform, other)
        status = RunStatus(_stands(platform, [run])[run.run].status)
        outcome = Outcome.DONE if event.state == "claimed" else Outcome.ACCEPTED
        why = "" if outcome is Outcome.DONE else "no step waits for it yet"
        yield Answer(run=run.run, outcome=outcome, status=status, why=why)


def _migrated(
    platform: Platform, runs: Sequence[RunId], migration: Migration, by: str, reason: str
) -> Iterator[Answer]:
    """Let runs go on under another version, each for itself, or say whether they could."""
    before = _stands(platform, runs)
    for run in runs:
        try:
            if migration.dry_run:
                found = migrations.plan(platform, run, migration.to, migration.nodes)
            else:
                found = migrations.migrate(
                    platform, run, migration.to, migration.nodes, by=by, reason=reason
                )
        except (Conflict, Invalid, NotFound) as error:
            yield _refused(run, before[run.run], str(error))
            continue
        outcome = Outcome.DONE if found.migrated else Outcome.ACCEPTED
        if migration.dry_run:
            outcome = Outcome.REFUSED if found.problems else Outcome.WOULD
        why = "" if found.migrated or migration.dry_run else "its turn is being taken elsewhere"
        told = str(Invalid(found.problems, why)) if found.problems else why
        yield Answer(run=run.run, outcome=outcome, status=found.status, why=told)


def _stands(platform: Platform, runs: Sequence[RunId]) -> Mapping[str, Row[Any]]:
    with session.transaction(platform.database) as connection:
        return {row.id: row for row in reads.stands(connection, runs)}


def _obstacle(action: Action, row: Row[Any]) -> str:
    """Why nothing can be done to a run; empty if something can."""
    if row.status in transitions.TERMINAL:
        return f"it has already ended: it is {row.status}"
    if action is Action.RETRY and row.stuck_error is None:
        return "it is not stuck"
    return ""


def _refused(run: RunId, row: Row[Any], why: str) -> Answer:
    return Answer(run=run.run, outcome=Outcome.REFUSED, status=RunStatus(row.status), why=why)


def _answer(action: Action, run: RunId, row: Row[Any], *, waits: bool) -> Answer:
    """What came of an act, by where the run stands after its turn."""
    status = RunStatus(row.status)
    if waits:
        why = row.stuck_error or "its turn is being taken elsewhere"
        return Answer(run=run.run, outcome=Outcome.ACCEPTED, status=status, why=why)
    if action is Action.RETRY and row.stuck_error is not None:
        return _refused(run, row, f"its turn fails still: {row.stuck_error}")
    wanted = RunStatus.CANCELLED if action in _ENDS else None
    if status in transitions.TERMINAL and status is not wanted and action is not Action.RETRY:
        return _refused(run, row, f"it ended first: it is {status}")
    return Answer(run=run.run, outcome=Outcome.DONE, status=status)
