"""Taking turns: the one place where runs change.

A turn locks runs that nobody else holds, takes what waits in their inboxes, folds it, asks
the core what follows, and writes state, history and next steps in one transaction. Then,
and only then, it sends messages. Who misses a run's lock leaves: its event was committed
before it tried, and the holder looks again after its own commit.

Runs share a transaction as long as all goes well. When a turn fails, each run is tried
alone, and the one that still fails is set aside as *stuck* with its error and a growing
wait, its events untouched; nothing else is slowed by it. Where several have asked for runs
together, each of them tries his own (`take_together`).

A decision may need a value that lies in a blob. It is not fetched while runs are locked: the
turn is given up, the value is read, and the turn is taken again with the value at hand.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any, Protocol, TypeAlias

import orjson
import structlog
from sqlalchemy import Connection, Row

from engine import faults, lanes
from engine.broker import Hint
from engine.core import codec, deadlines
from engine.core import messages as msg
from engine.core.decide import Turn, advance, outputs
from engine.core.fold import evolve
from engine.core.graph import Graph
from engine.core.policy import Policy
from engine.core.records import replace
from engine.core.references import Read
from engine.core.scopes import ROOT_SCOPE
from engine.core.state import PERMIT, State, Step
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import Json, Ref, canonical
from engine.errors import StoodInTheWay, is_away
from engine.platform import Platform
from engine.runs import (
    carrying,
    children,
    events,
    graphs,
    hearing,
    items,
    known,
    large,
    ledgers,
    locks,
    moves,
    policies,
    requests,
    states,
)
from engine.runs.attempts import Reported
from engine.runs.budgets import Charged
from engine.runs.children import Parent
from engine.runs.guard import Guard
from engine.runs.hearing import Letter
from engine.runs.identity import new_salt
from engine.runs.known import Clock, Known
from engine.runs.letters import ticked
from engine.runs.moves import Moved
from engine.runs.requests import Desk, Sitting
from engine.store import (
    checkpoints,
    history,
    inbox,
    ledger,
    payloads,
    results,
    runs,
    session,
    steps,
    waits,
)
from engine.store.ids import RunId, StepId
from engine.store.ledger import Unopened
from engine.store.payloads import Payload
from engine.store.results import Report
from engine.store.steps import Held, Needed, Taking
from engine.store.waits import Wait
from engine.waiting import Overflowing

_log = structlog.get_logger(__name__)

#: Events that speak of no live step.
_OF_RUNS = (
    msg.RunSubmitted
    | msg.Forked
    | msg.CancelRequested
    | msg.TerminateRequested
    | msg.PauseRequested
    | msg.ResumeRequested
    | msg.RollbackRequested
    | msg.Ticked
    | msg.MigrateRequested
    | msg.Migrated
    | msg.NotMigrated
    | msg.Governed
    | msg.UndoFound
    | msg.NothingToUndo
)

#: Runs that share a transaction: enough to share its cost, few enough to be held in memory.
TOGETHER = 20

#: How long runs that were asked for by several may wait for what others hold. Two such transactions that wait
#: for each other's locks would else stand still until Postgres sees it, and so would all in them.
LOCKED_MS = 100

#: A snapshot is taken when the patches since the last one outweigh the variables by this much.
SNAPSHOT_BYTES = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class _AtHand:
    """What was fetched from the blob store for a turn, or brought there, by sha256."""

    #: Values that lie in blobs.
    values: Mapping[str, Json] = field(default_factory=dict)
    #: References to values that were kept.
    kept: Mapping[str, Json] = field(default_factory=dict)


class _Wanted(Exception):
    """A run's decision needs a value that is not at hand."""

    def __init__(self, run: RunId, ref: Ref) -> None:
        super().__init__(ref.sha256)
        self.run = run
        self.ref = ref


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """One run's turn: what was read, and what it came to."""

    run: RunId
    row: Row[Any]
    graph: Graph
    before: State
    turn: Turn
    letters: Sequence[Letter]
    clock: Clock
    #: What its steps wait for from now on.
    waits: Sequence[Wait]
    #: Runs that it has started.
    started: Sequence[RunId]
    #: What it gives, once it is completed.
    outputs: Mapping[str, Json] | None
    #: Under which other versions it went on, one after the other; `before` is as after the last.
    moved: Sequence[Moved] = ()
    #: Whether anything may be set aside for its attempts.
    counted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Committed:
    """What a transaction of turns came to."""

    #: The leases under which a report was accepted.
    accepted: frozenset[Held] = frozenset()
    turned: Sequence[_Taken] = ()
    hints: Sequence[Hint] = ()
    #: Runs that had something waiting right afterwards: those that were ours, and those that were told.
    waiting: Sequence[RunId] = ()
    #: How runs stand, by the one step that they have, and that was taken.
    known: Mapping[StepId, Known] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """What is left to be done for turns that are written, once they are committed."""

    #: For steps that became ready, or that were held until now.
    hints: Sequence[Hint]
    #: The turns that steps were taken with, of which all is known, and the heads of their runs.
    taken: Mapping[StepId, tuple[_Taken, runs.Head]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What became of reports, and of the turns that follow from them."""

    #: The leases under which a report was accepted.
    accepted: frozenset[Held]
    #: Runs that have something waiting all the same: others held them, or were told something by these
    #: turns. Somebody must take their turns next.
    left: Sequence[RunId]
    #: How runs stand, by the one step that they have, and that was taken.
    known: Mapping[StepId, Known]


def take_turns(
    platform: Platform,
    waiting: Sequence[RunId],
    *,
    force: bool = False,
    seconds: float = math.inf,
) -> int:
    """Bring runs as far as they can go; the number of turns taken.

    Runs to which more is reported than turns are taken never end having something waiting. After so
    many seconds what they have is nudged for, so that others come first.

    Raises `Unavailable` when the database cannot be reached; the sweeper comes back to it.
    """
    distinct, until = list(dict.fromkeys(waiting)), time.monotonic() + seconds
    return sum(
        _take(platform, distinct[first : first + TOGETHER], force=force, until=until)
        for first in range(0, len(distinct), TOGETHER)
    )


def take_together(
    platform: Platform, asked: Sequence[Sequence[RunId]]
) -> Sequence[Sequence[RunId]]:
    """Take the turns that several ask for in one transaction; what each of them is to take by itself.

    That is what has something waiting again, and a run that needs a value out of a blob. Where anything else
    is in the way of one, a lock for a while say, nothing is done, and it is all of them: none waits for
    another, or is told another's error.

    Raises `Unavailable` when the database cannot be reached, and only where nothing is known to be done.
    """
    runs = list(dict.fromkeys(chain.from_iterable(asked)))
    apart: list[RunId] = []
    done = _together(platform, runs)
    if isinstance(done, _Wanted):
        # One of them is often all.
        apart = [done.run]
        done = _together(platform, [run for run in runs if run != done.run])
    if not isinstance(done, _Committed):
        return asked
    _tell_others(platform, done)
    try:
        routed = _route(platform, done.turned)
    except Exception:  # noqa: BLE001  # the sweeper routes them; the runs that were told must not be forgotten
        _log.exception("turns.unrouted", runs=len(done.turned))
        routed = []
    left = dict.fromkeys([*apart, *done.waiting, *routed])
    first, *rest = [[run for run in some if run in left] for some in asked]
    return [[*first, *(run for run in left if run not in runs)], *rest]


def _together(platform: Platform, runs: Sequence[RunId]) -> _Committed | _Wanted | None:
    """What turns in one transaction came to, if nothing was in the way of any."""
    try:
        return _commit(platform, runs, _AtHand(), force=False, patience_ms=LOCKED_MS)
    except _Wanted as wanted:
        return wanted
    except Exception as error:
        if is_away(error):
            raise
        _log.info("turns.apart", runs=len(runs), error=str(error))
        return None


def _take(
    platform: Platform, waiting: Sequence[RunId], *, force: bool, until: float, tries: int = 5
) -> int:
    taken = 0
    at_hand = _AtHand()
    while waiting:
        try:
            done = _commit(platform, waiting, at_hand, force=force)
        except Unopened as unopened:
            ledgers.open_accounts(platform, unopened)
            continue
        except (_Wanted, Overflowing) as wanted:
            if len(waiting) > 1:
                return taken + sum(
                    _take(platform, [run], force=force, until=until) for run in waiting
                )
            try:
                at_hand = _fetched(platform, waiting[0], wanted, at_hand)
            except Exception as error:  # noqa: BLE001  # the run's own trouble, as every other
                _stick(platform, waiting[0], error)
                return taken
            continue
        except Exception as error:  # whatever it is, it must hold up one run alone
            if is_away(error):
                raise
            if isinstance(error, StoodInTheWay) and tries:
                # Two runs that hand each other their locks, say: the other one is past it now.
                return taken + _take(platform, waiting, force=force, until=until, tries=tries - 1)
            if len(waiting) == 1:
                _stick(platform, waiting[0], error)
                return taken
            return taken + sum(_take(platform, [run], force=force, until=until) for run in waiting)
        _tell_others(platform, done)
        taken += len(done.turned)
        force = False  # who asked for these runs did not ask for those that they tell
        waiting = [*done.waiting, *_route(platform, done.turned)]
        if waiting and time.monotonic() >= until:
            platform.broker.nudge(waiting)
            break
    return taken


class Taker(Protocol):
    """Who takes some of the steps that turns make ready, in their transaction."""

    def wanted(self, ready: Sequence[Hint]) -> Taking | None:
        """Which of them, and for whom; their lanes are not known yet."""
        ...

    def take(self, connection: Connection, rows: Sequence[Row[Any] | Needed]) -> None:
        """Those are taken, should it be committed. No messages are sent for them."""
        ...

    def start_over(self) -> None:
        """The transaction was given up: nothing was taken, and there may be nothing to want."""
        ...


#: Ends attempts, telling runs that are not among the given ones by their inboxes; what was accepted. See
#: `attempts.reported`.
Reporting: TypeAlias = Callable[[Connection, Collection[RunId] | None], Mapping[Held, Reported]]


def take_along(
    platform: Platform,
    runs: Sequence[RunId],
    reporting: Reporting,
    *,
    taker: Taker | None = None,
    stood: Mapping[RunId, Known] | None = None,
) -> Followed:
    """Report to runs and take the turns that follow from it, in one transaction.

    Where it is known how all of the runs `stood`, and they still do so, they are not read again.

    It is tried once. Where it raises nothing was reported, but for `Unavailable`, after which that is
    unknown; the caller then reports alone, and whoever takes the turn finds what is wrong with it.
    """
    if stood and stood.keys() == set(runs):
        try:
            return _take_along(platform, runs, reporting, taker=taker, stood=stood)
        except session.MovedOn as moved:
            _log.info("turn.anew", runs=len(runs), why=str(moved))
            if taker is not None:
                taker.start_over()
    return _take_along(platform, runs, reporting, taker=taker, stood={})


def _take_along(
    platform: Platform,
    runs: Sequence[RunId],
    reporting: Reporting,
    *,
    taker: Taker | None,
    stood: Mapping[RunId, Known],
) -> Followed:
    with session.transaction(platform.database) as connection:
        # Before any step is locked, which reporting does: a run that ends lets go of what it set aside.
        ledger.share(connection, runs)
        done = _turned(
            platform,
            connection,
            runs,
            _AtHand(),
            force=False,
            watched=runs,
            reporting=reporting,
            taker=taker,
            stood=stood,
        )
    if done.accepted:
        platform.fault(faults.REPORT_COMMITTED)
    _tell_others(platform, done)
    left = [*done.waiting, *_route(platform, done.turned)]
    return Followed(accepted=done.accepted, left=left, known=done.known)


def _tell_others(platform: Platform, done: _Committed) -> None:
    platform.fault(faults.TURN_COMMITTED)
    platform.broker.send(done.hints)
    platform.live.publish(
        [one.run for one in done.turned],
        ended={one.run for one in done.turned if one.turn.state.terminal},
    )


def _route(platform: Platform, turned: Sequence[_Taken]) -> list[RunId]:
    """Events that came before somebody waited for them; the runs that claimed one."""
    names = {
        (one.run.tenant, wait.name) for one in turned for wait in one.waits if wait.kind == "event"
    }
    return [run for tenant, name in sorted(names) for run in events.route(platform, tenant, [name])]


def _fetched(
    platform: Platform, run: RunId, wanted: _Wanted | Overflowing, at_hand: _AtHand
) -> _AtHand:
    """What a turn needs of the blob store, read or written outside of its transaction."""
    if isinstance(wanted, _Wanted):
        value = large.read(platform, run.tenant, wanted.ref)
        return replace(at_hand, values={**at_hand.values, wanted.ref.sha256: value})
    kept = large.keep_all(platform, run.tenant, wanted.values)
    return replace(at_hand, kept={**at_hand.kept, **kept})


def _commit(
    platform: Platform,
    waiting: Sequence[RunId],
    at_hand: _AtHand,
    *,
    force: bool,
    patience_ms: int | None = None,
) -> _Committed:
    """Take the turns of the runs that nobody holds and that have something waiting.

    `patience_ms`: how long it waits for a lock at the most, before it raises `GaveUp`.
    """
    with session.transaction(platform.database) as connection:
        if patience_ms is not None:
            session.wait_no_longer(connection, milliseconds=patience_ms)
        return _turned(platform, connection, waiting, at_hand, force=force)


def _turned(
    platform: Platform,
    connection: Connection,
    waiting: Sequence[RunId],
    at_hand: _AtHand,
    *,
    force: bool,
    watched: Sequence[RunId] = (),
    reporting: Reporting | None = None,
    taker: Taker | None = None,
    stood: Mapping[RunId, Known] | None = None,
) -> _Committed:
    """The same within a transaction that has begun, and that it commits.

    `watched`: runs that are looked at again even where others hold them. What is reported to runs that are
    locked is heard at once, behind all that has waited for them: of an attempt that was stopped, say. Where
    not all of that is taken at once, it waits for its turn, too. `stood`: how all of these runs must be.
    """
    expected = {run: one.found() for run, one in stood.items()} if stood else {}
    runs.expect(connection, [_expected(one.row) for one in expected.values()])
    rows = () if expected else runs.lock(connection, waiting, force=force)
    heard_at = time.monotonic()
    locked = [_id(row) for row in rows]
    held = [*watched] or locked
    letters, behind = _letters(connection, rows)
    heard = frozenset(locked) - behind
    reported = {} if reporting is None else reporting(connection, None if expected else heard)
    accepted = frozenset(reported)
    _hear_now(letters, heard, expected, reported.values())
    rows = [row for row in rows if _id(row) in letters]
    if not rows and not expected:
        waiting = inbox.left(connection, held).waiting if held else ()
        return _Committed(accepted=accepted, waiting=waiting)
    found: Iterable[Known] = expected.values()
    if rows:
        at_once = {held.step: one.step for held, one in reported.items() if one.step is not None}
        named = _named_steps(connection, letters, rows, at_once)
        found = [
            Known(row=row, state=states.state(row, named[_id(row)]), clock=Clock(row.now, heard_at))
            for row in rows
        ]
    turned = [_turn(connection, platform.policy, one, letters, at_hand=at_hand) for one in found]
    written = _write(
        connection,
        turned,
        resend_after=platform.settings.resend_seconds,
        taker=taker,
        ending=[held.step for held in reported] if expected else (),
    )
    told = _tell(connection, turned)
    platform.fault(faults.TURN_INSIDE)
    left = inbox.left(connection, [*held, *told])
    return _Committed(
        accepted=accepted,
        turned=turned,
        hints=written.hints,
        waiting=left.waiting,
        known=_known(written.taken, Clock(left.now, time.monotonic())),
    )


def _known(
    taken: Mapping[StepId, tuple[_Taken, runs.Head]], clock: Clock
) -> Mapping[StepId, Known]:
    """How runs stand whose one step was taken, after the commit by which it was."""
    found = {
        step: known.left(one.row, head, one.turn.state, one.clock.better(clock))
        for step, (one, head) in taken.items()
    }
    return {step: one for step, one in found.items() if one is not None}


def _id(row: Row[Any]) -> RunId:
    return RunId(row.tenant_id, row.id)


def _expected(row: Row[Any]) -> runs.Expected:
    return runs.Expected(run=_id(row), seq=row.seq, governance=row.governance, at=row.now)


def _letters(
    connection: Connection, rows: Sequence[Row[Any]]
) -> tuple[dict[RunId, list[Letter]], frozenset[RunId]]:
    """What waits for each locked run, oldest first; the runs for which more of it may wait."""
    found: dict[RunId, list[Letter]] = {}
    # What came since they were locked is seen after the commit.
    waiting = [_id(row) for row in rows if row.waiting]
    if not waiting:
        return found, frozenset()
    taken = inbox.take(connection, waiting)
    for letter in taken:
        found.setdefault(RunId(letter.tenant_id, letter.run_id), []).append(
            _letter(letter, payload=letter.payload, at=letter.received_at)
        )
    return found, frozenset(waiting) if len(taken) == inbox.BATCH else frozenset()


def _hear_now(
    letters: dict[RunId, list[Letter]],
    locked: Collection[RunId],
    expected: Mapping[RunId, Known],
    reported: Iterable[Reported],
) -> None:
    """Put what was just reported to locked runs behind what has waited for them."""
    for one in reported:
        report, run = one.report, one.report.step.run_id
        if run in locked or run in expected:
            at = expected[run].row.now if one.step is None else one.step.at
            letter = _letter(report, payload=report.payload, at=at)
            letters.setdefault(run, []).append(letter)


def _letter(stored: Row[Any] | Report, *, payload: str | None, at: datetime) -> Letter:
    """An event by its texts."""
    event = codec.read(
        stored.kind,
        orjson.loads(stored.body),
        orjson.loads(payload) if payload else {},
        at=at,
        number=stored.format,
    )
    return Letter(
        event=event,  # type: ignore[arg-type]  # only events are ever reported, or put into an inbox
        kind=stored.kind,
        format=stored.format,
        body=stored.body,
        payload_id=stored.payload_id,
    )


def _named_steps(
    connection: Connection,
    letters: Mapping[RunId, Sequence[Letter]],
    rows: Sequence[Row[Any]],
    known: Mapping[StepId, Row[Any]],
) -> Mapping[RunId, Mapping[msg.StepKey, Step]]:
    """The live steps that the events speak of, and the maps of their runs."""
    wanted = {
        StepId(*run, letter.event.step)
        for run, received in letters.items()
        for letter in received
        if not isinstance(letter.event, _OF_RUNS)
    }
    wanted |= {StepId(row.tenant_id, row.id, key) for row in rows for key in states.maps(row)}
    found: dict[RunId, dict[msg.StepKey, Step]] = {run: {} for run in letters}
    unknown = sorted(wanted - known.keys())
    loaded = [*steps.load(connection, unknown)] if unknown else []
    for run, received in letters.items():
        if any(isinstance(letter.event, msg.MigrateRequested) for letter in received):
            # Where every step stands matters to it.
            loaded += steps.load_all(connection, run)
    for row in (*loaded, *(known[step] for step in wanted & known.keys())):
        step = states.step(row)
        found[RunId(row.tenant_id, row.run_id)][step.key] = step
    return found


def _turn(
    connection: Connection,
    policy: Policy,
    found: Known,
    letters: Mapping[RunId, Sequence[Letter]],
    *,
    at_hand: _AtHand,
) -> _Taken:
    """Fold and decide, putting to the admission what the core asks for."""
    row, before = found.row, found.state
    run = _id(row)
    graph = graphs.load(connection, run.tenant, row.version_id)
    read = _reader(run, at_hand)
    parent = Parent.of(row)
    guarding = Guard(
        connection=connection,
        governance=policies.governance(connection, run.tenant, row.governance),
        charged=Charged(
            run=run,
            root=row.root,
            workflow=graph.workflow,
            user=row.submitted_by,
            fresh=before.status is RunStatus.QUEUED and row.root == row.id,
        ),
        graph=graph,
        read=read,
        started_at=row.started_at,
    )
    # What is answered here was said last, though the lock is older than the last letter.
    now = max(row.now, letters[run][-1].event.at)
    sitting = Sitting(now=now, after=row.seq, entries=())
    turn = Turn(state=before, entries=())
    heard_letters: list[Letter] = []
    waiting: list[Wait] = []
    started: list[RunId] = []
    moved_on: list[Moved] = []
    version: str = row.version_id
    for part in moves.parts(letters[run]):
        heard = hearing.hear(guarding, turn.state, part)
        turn = advance(graph, policy, turn.state, heard.events, read=read)
        sitting = replace(sitting, entries=sitting.entries + turn.entries)
        _keep_items(connection, run, _added(turn.entries))
        heard_letters += heard.letters
        waiting += heard.waits
        if isinstance(request := part[-1].event, msg.MigrateRequested):
            moved = moves.answered(
                connection, graph, turn.state, request, parent=parent, was=version
            )
            graph, parent = moved.graph, moved.parent
            guarding = replace(guarding, graph=graph)
            seq = row.seq + len(sitting.entries) + 1
            turn = advance(graph, policy, turn.state, [moved.answer], read=read)
            sitting = replace(sitting, entries=sitting.entries + turn.entries)
            if isinstance(moved.answer, msg.Migrated):
                moved_on.append(replace(moved, seq=seq))
                before, version = evolve(before, moved.answer), moved.answer.version
        desk = Desk(
            connection=connection,
            parent=parent,
            graph=graph,
            read=read,
            kept=at_hand.kept,
            guard=guarding,
        )
        while (said := requests.answers(desk, turn.state, sitting)).events:
            turn = advance(graph, policy, turn.state, said.events, read=read)
            sitting = replace(sitting, entries=sitting.entries + turn.entries)
            waiting += said.waits
            started += said.started
            _keep_items(connection, run, ((key, 0, found) for key, found in said.items.items()))
    return _Taken(
        run=run,
        row=row,
        graph=graph,
        before=before,
        turn=replace(turn, entries=sitting.entries),
        letters=heard_letters,
        clock=found.clock,
        waits=[wait for wait in waiting if _still_waits(turn.state, wait)],
        started=started,
        outputs=_outputs(graph, turn.state, read),
        moved=moved_on,
        counted=guarding.governance.counts,
    )


def _still_waits(state: State, wait: Wait) -> bool:
    step = state.steps.get(msg.StepKey(wait.step.key))
    return step is not None and step.status is StepStatus.WAITING


def _keep_items(
    connection: Connection, run: RunId, lists: Iterable[tuple[msg.StepKey, int, Sequence[Json]]]
) -> None:
    """Write items of maps, each in a row of its own; what the rest of the turn starts reads them."""
    kept = [
        Payload(run=run, name=items.payload_name(key, index), salt=b"", body=canonical(value))
        for key, first, found in lists
        for index, value in enumerate(found, start=first)
    ]
    payloads.put_all(connection, kept)


def _added(entries: Sequence[msg.Entry]) -> Iterator[tuple[msg.StepKey, int, list[Json]]]:
    """The items that maps were sent, with the place that the first of them got."""
    sent: list[Json] = []
    for entry in entries:
        match entry.record:
            case msg.ItemsAdded(items=more):
                sent = list(more)
            case msg.AddItems(step=key, first=first):
                yield key, first, sent
            case _:
                pass


def _reader(run: RunId, at_hand: _AtHand) -> Read:
    def read(ref: Ref) -> Json:
        if ref.sha256 not in at_hand.values:
            raise _Wanted(run, ref)
        return at_hand.values[ref.sha256]

    return read


def _write(
    connection: Connection,
    turned: Sequence[_Taken],
    *,
    resend_after: float,
    taker: Taker | None = None,
    ending: Collection[StepId] = (),
) -> _Written:
    """Write every turn. `ending`: steps of runs that were not read, whose reports wait to be sent."""
    told = {one.run: _lines(one) for one in turned}
    lines = {run: written for run, (written, _) in told.items()}
    history.append(connection, [line for one in turned for line in lines[one.run]])
    payloads.put_all(connection, [kept for _, more in told.values() for kept in more])
    for one in turned:
        for entry in one.turn.entries:
            if isinstance(entry.record, msg.Saved):
                large.refer(connection, one.run, entry.record.patch)
    letting_go = [one.run for one in turned if _lets_go(one)]
    if ending and not letting_go:
        ledger.unshare(connection)
    ledger.share(connection, letting_go)
    underway = ledgers.underway(connection, letting_go) if letting_go else ()
    ended = [
        one.run
        for one in turned
        if one.turn.state.terminal or _began_undoing(one) or _went_back(one)
    ]
    going = [one for one in turned if not one.turn.state.terminal]
    cancelled = [(one.run, scope) for one in going for scope in _cancelled(one)]
    steps.clear(connection, [*ended, *(run for run, scope in cancelled if scope == ROOT_SCOPE)])
    steps.clear_scopes(connection, cancelled)
    steps.clear_items(
        connection,
        [
            StepId(*one.run, key)
            for one in going
            for key in one.before.maps.keys() - one.turn.state.maps.keys()
        ],
    )
    steps.clear_nodes(connection, [(one.run, node) for one in going for node in _withdrawn(one)])
    settled = {step for one in going for step in _settled(one)}
    if ending and settled.issuperset(ending) and results.expect_settled(connection):
        settled.difference_update(ending)
    steps.delete(connection, sorted(settled))
    for one in turned:
        carrying.back(connection, one.run, one.turn.entries, first=one.row.seq + 1)
    # Before its steps: whoever takes one of them there needs the run as it is now.
    heads = {one.run: _head(connection, one, lines[one.run][-1]) for one in turned}
    runs.save(connection, [*heads.values()])
    for one in turned:
        if one.moved:
            moves.write(connection, one.run, one.moved, one.before.steps.values())
    moved = {one.run: _moved(one) for one in going}
    ready = [hint for one in going for hint in _ready(one, moved[one.run])]
    taking = None if taker is None else taker.wanted(ready)
    new = [
        (one, row)
        for one in going
        for row in moved[one.run]
        if taking is not None and row.step in taking.steps and _is_known(one, row)
    ]
    saved = steps.save(
        connection,
        [row for rows in moved.values() for row in rows],
        resend_after=resend_after,
        taking=taking,
        known={row.step: _needed(one, heads[one.run], row) for one, row in new},
    )
    if taker is not None and saved.taken:
        taker.take(connection, saved.taken)
    waits.drop(connection, [step for one in going for step in _allowed(one)])
    waits.put(connection, [wait for one in going for wait in one.waits])
    # Every time, not only when it becomes paused: somebody may ask for a step of it anew.
    paused = [one.run for one in turned if one.turn.state.status is RunStatus.PAUSED]
    steps.hold(connection, paused)
    resumed = {
        one.run: one
        for one in turned
        if one.row.status == RunStatus.PAUSED and one.turn.state.status is RunStatus.RUNNING
    }
    released = steps.release(connection, list(resumed), resend_after=resend_after)
    ledgers.let_go(connection, letting_go, underway)
    hints = [
        *(replace(hint, lane=saved.lanes[hint.step]) for hint in ready if hint.step in saved.lanes),
        *(
            Hint(
                step=StepId(row.tenant_id, row.run_id, row.key),
                workflow=resumed[RunId(row.tenant_id, row.run_id)].graph.workflow,
                queue=row.queue,
                lane=row.lane,
            )
            # Beyond that the sweeper sends what its lane lacks.
            for row in released[: lanes.FULL]
        ),
    ]
    return _Written(hints=hints, taken={row.step: (one, heads[one.run]) for one, row in new})


def _lets_go(one: _Taken) -> bool:
    """Whether the turn may have ended attempts that nobody will report: what is set aside for them."""
    return (
        one.turn.state.terminal
        or _began_undoing(one)
        or bool(one.before.maps.keys() - one.turn.state.maps.keys())
        or any(isinstance(entry.record, _LETTING_GO) for entry in one.turn.entries)
    )


#: What takes steps away as they stand.
_LETTING_GO = (
    msg.JoinThreads | msg.CancelRegion | msg.RollBack | msg.SkipRequested | msg.RetryRequested
)


def _began_undoing(one: _Taken) -> bool:
    """Whether the turn has ended whatever was live, to undo what was done."""
    return one.before.undoing is None and one.turn.state.undoing is not None


def _went_back(one: _Taken) -> bool:
    """Whether the turn has ended whatever was live, to go on from an earlier place."""
    return any(isinstance(entry.record, msg.RollBack) for entry in one.turn.entries)


def _tell(connection: Connection, turned: Sequence[_Taken]) -> list[RunId]:
    """Let others know what follows for them; the runs that have something waiting now."""
    endings = [
        ended
        for one in turned
        if one.turn.state.ending is not None
        and (ended := children.ended(one.row, one.turn.state.ending, one.outputs)) is not None
    ]
    told = [run for one in turned for run in one.started]
    if undoing := [one.run for one in turned if _began_undoing(one)]:
        # Whatever was reported before its steps were cleared lies in the inbox by its next turn.
        inbox.put(connection, [ticked(run) for run in undoing])
    if endings:
        told += children.tell(connection, endings)
    # A run that was moved may have let go of something that its graph does not know any more.
    if parents := [one.run for one in turned if one.graph.children or one.moved]:
        told += children.let_go(connection, parents)
    if holders := [one for one in turned if one.graph.locks or one.moved]:
        told += locks.give_up(
            connection,
            {
                one.run: [name for token in one.turn.state.tokens for name, _ in token.holds]
                for one in holders
            },
        )
    return told


def _lines(one: _Taken) -> tuple[list[history.Line], list[Payload]]:
    """The turn's entries as rows, chained to the last one there is; users' data beside them."""
    received = {id(letter.event): letter for letter in one.letters}
    before = bytes(one.row.hash)
    found: list[history.Line] = []
    kept: list[Payload] = []
    for seq, entry in enumerate(one.turn.entries, start=one.row.seq + 1):
        letter = received.get(id(entry.record))
        sealed = None if letter else codec.seal(entry.record, salted=new_salt)
        payload_id = letter.payload_id if letter else None
        if sealed is not None and sealed.payload is not None:
            payload_id = f"line/{seq}"
            kept.append(
                Payload(run=one.run, name=payload_id, salt=sealed.salt, body=sealed.payload)
            )
        line = history.chained(
            before,
            run=one.run,
            seq=seq,
            at=entry.at,
            kind=letter.kind if letter else type(entry.record).__name__,
            format=letter.format if letter else codec.FORMAT,
            body=letter.body if letter else sealed.body if sealed else "",
            payload_id=payload_id,
        )
        found.append(line)
        before = line.hash
    return found, kept


def _head(connection: Connection, one: _Taken, last: history.Line) -> runs.Head:
    state = one.turn.state
    changed = state.variables is not one.before.variables
    variables = canonical(state.variables) if changed else None
    snapshot, patched = one.row.snapshot_seq, one.row.patched + _patched(one.turn)
    if not state.terminal and patched > SNAPSHOT_BYTES + len(variables or one.row.variables):
        _snapshot(connection, one, last.seq)
        snapshot, patched = last.seq, 0
    ending = state.ending
    return runs.Head(
        run=one.run,
        was=one.row.seq,
        status=state.status,
        seq=last.seq,
        hash=last.hash,
        head=states.head(state),
        variables=variables,
        snapshot_seq=snapshot,
        patched=patched,
        reason=ending.reason if ending else None,
        message=ending.message if ending else None,
        ended_step=ending.step if ending else None,
        # Where the workflow does not say it, its variables are what it gives.
        outputs=canonical(one.outputs) if one.graph.outputs and one.outputs is not None else None,
        wake=deadlines.next_wake(one.graph, state),
        began=one.row.now,
    )


def _outputs(graph: Graph, state: State, read: Read) -> Mapping[str, Json] | None:
    """What a run gives that is completed."""
    if state.status is not RunStatus.COMPLETED:
        return None
    return outputs(graph, state.run, state.variables, read)


def _patched(turn: Turn) -> int:
    """Bytes that the turn's results left in the variables."""
    return sum(
        len(canonical(entry.record.patch))
        for entry in turn.entries
        if isinstance(entry.record, msg.AttemptSucceeded | msg.Saved)
    )


def _snapshot(connection: Connection, one: _Taken, seq: int) -> None:
    """Keep the whole state, so that no fold has to begin further back."""
    state = one.turn.state
    apart = sum(items.running for items in state.maps.values())
    if state.undoing is not None:
        apart += state.undoing.running
    if len(state.steps) < state.live + apart:
        gone = one.before.steps.keys() - state.steps.keys()
        rows = [states.step(row) for row in steps.load_all(connection, one.run)]
        others = {step.key: step for step in rows if step.key not in gone}
        state = replace(state, steps={**others, **state.steps})
    checkpoints.put(connection, one.run, seq, canonical(codec.plain(state)))


def _settled(one: _Taken) -> list[StepId]:
    return [StepId(*one.run, key) for key in one.before.steps.keys() - one.turn.state.steps.keys()]


def _cancelled(one: _Taken) -> list[str]:
    """Scopes whose threads a join did not wait for, whether they were at hand or not."""
    return [
        entry.record.scope
        for entry in one.turn.entries
        if isinstance(entry.record, msg.JoinThreads) and entry.record.cancels
    ]


def _withdrawn(one: _Taken) -> list[str]:
    """Nodes whose steps were cancelled, whether they were at hand or not."""
    return sorted(
        {
            node
            for entry in one.turn.entries
            if isinstance(entry.record, msg.CancelRegion)
            for node in entry.record.steps
        }
    )


def _allowed(one: _Taken) -> list[StepId]:
    """Steps that go on since people have said whether they may."""
    return [
        StepId(*one.run, key)
        for key, step in one.before.steps.items()
        if step.wait == PERMIT
        and (now := one.turn.state.steps.get(key)) is not None
        and now.wait != PERMIT
    ]


def _moved(one: _Taken) -> list[steps.StepRow]:
    """Rows of the steps that the turn made or changed."""
    return [
        states.step_row(one.run, step)
        for key, step in one.turn.state.steps.items()
        if one.before.steps.get(key) != step
    ]


def _is_known(one: _Taken, row: steps.StepRow) -> bool:
    """Whether all that carrying a step out needs is at hand where it is written: nobody else knows of it yet."""
    return not one.counted and not one.moved and row.step.key not in one.before.steps


def _needed(one: _Taken, head: runs.Head, row: steps.StepRow) -> Needed:
    """The same as it will be found once it is written."""
    was = one.row
    return Needed(
        tenant_id=row.step.tenant,
        run_id=row.step.run,
        key=row.step.key,
        node=row.node,
        iteration=row.iteration,
        attempt=row.attempt,
        fence=steps.FIRST_FENCE,
        version_id=was.version_id,
        variables=head.variables or was.variables,
        thread=row.thread,
        visits=row.visits,
        pins=was.pins,
        of=row.of,
        item=row.item,
        submitted_by=was.submitted_by,
        root=was.root,
        permits=row.permits,
        reserved=None,
        head=None if row.thread == steps.ROOT_THREAD else head.head,
    )


def _ready(one: _Taken, moved: Sequence[steps.StepRow]) -> list[Hint]:
    """What could be said of the steps that became ready."""
    if one.turn.state.status is not RunStatus.RUNNING:
        return []
    return [
        Hint(step=row.step, workflow=one.graph.workflow, queue=row.queue)
        for row in moved
        if row.status == StepStatus.READY and row.wake is None
    ]


def _stick(platform: Platform, run: RunId, error: Exception) -> None:
    _log.exception("run.stuck", run=run.run, tenant=run.tenant, exc_info=error)
    with session.transaction(platform.database) as connection:
        runs.stick(connection, run, f"{type(error).__name__}: {error}"[:2000])
