"""Undoing, in the world, what calls of runs have done: by a run of its own, which is an act of its own.

Tools that are `compensable` may name what undoes a call of theirs (`undo` among their terms). Of a run that has
ended, with all that is around and within it, or has gone back over them (`rollbacks`), somebody asks for calls to be
undone: that starts a run of
`celeriac.undo`, which calls what undoes them, last ones first, one at a time. Crashes, retries, policies, budgets and
approvals mean there what they mean everywhere. What has become of each is read from that run's calls
(`engine.store.undone`): a call is undone at most once, and one of which nobody knows is left alone. What stands
where that run has ended may be asked for again.

Nobody else's state may rest on what is undone. So it is refused while a live run goes on from a place after the
call, or is served its result; and nobody goes on from such a place afterwards (`origins`). Who undoes and who goes
on exclude each other by the row of the root (`resting.alone`, `resting.rest`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, partial
from typing import Any

import orjson
from sqlalchemy import Connection, Row

from engine import documents, faults, redaction, tools
from engine.core import messages as msg
from engine.core import transitions, values
from engine.core.document import vocabulary as words
from engine.core.expressions import EvaluationError
from engine.core.problem import Problem
from engine.core.references import TooLarge
from engine.core.undo import PREFIX
from engine.core.values import Json, digest
from engine.errors import Blocked, Conflict, Invalid, NotFound
from engine.platform import Platform
from engine.runs import (
    acts,
    catalogue,
    control,
    definitions,
    graphs,
    identity,
    items,
    large,
    launch,
    origins,
    submission,
)
from engine.runs.definitions import Definition
from engine.runs.launch import Submitted
from engine.store import (
    calls,
    history,
    idempotency,
    inbox,
    reads,
    resting,
    runs,
    session,
    shreds,
    undone,
)
from engine.store.ids import RunId
from engine.waiting import Overflowing

#: The effect class of calls that may be undone.
COMPENSABLE = "compensable"
#: What has become of undoing a call whose run has ended, and of which nobody knows.
UNKNOWN = "unknown"
#: What somebody may say of it then.
SETTLED = ("undone", "stands")
DOCUMENT: Mapping[str, Json] = {
    "workflow": undone.WORKFLOW,
    "version": "1.0.0",
    "inputs": {"calls": {"type": "array"}, "of": {"type": "string"}},
    "limits": {"steps": words.MAX_STEPS},
    "nodes": {
        "undo": {
            "kind": "map",
            "over": "$calls",
            "as": "call",
            "at_once": 1,
            "do": {
                "kind": "tool",
                "tool": "$call.tool",
                "with": "$call.with",
                "retry": {"attempts": 5, "backoff": 1, "factor": 4, "max": 60},
            },
        }
    },
    "edges": ["undo -> end"],
}

#: What is left out where a class is asked for, for there is nothing to undo.
_NOTHING = frozenset({"no", "served"})
_ITEM = re.compile(r"(#[0-9]+)\.[0-9]+$")

#: Run, step and ordinal of a call.
_At = tuple[str, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Undoable:
    """A call of a run, and how it would be undone, or why it cannot be."""

    #: `STEP.ORDINAL`, of other runs around or within it `RUN/STEP.ORDINAL`.
    name: str
    run: str
    step: str
    ordinal: int
    tool: str
    version: int
    effect: str
    #: Whether it was made: `yes`, `no`, `unknown`; `served`: another one was, and its result was given again.
    happened: str
    #: What has become of undoing it, and in which run: `undone`, `undoing`, `unknown`, `stands`.
    undone: str | None
    by: str | None
    #: The tool that undoes it, and its arguments.
    undo: str | None = None
    arguments: Mapping[str, Json] | None = None
    #: Why it cannot be undone, and what to do; None: it can be.
    why: str | None = None
    remedy: str | None = None

    @property
    def at(self) -> _At:
        """Its run, step and ordinal."""
        return self.run, self.step, self.ordinal

    @property
    def problem(self) -> Problem:
        """Why it cannot be undone."""
        return Problem(path=f"calls.{self.name}", message=self.why or "", remedy=self.remedy or "")


def plan(platform: Platform, run: RunId) -> tuple[Undoable, ...]:
    """The calls of a run, and of those within it, that may not be repeated, and how each would be undone.

    In the order in which they were made; nothing is carried out. Raises `NotFound`, and `Conflict` where nothing
    of the run can be undone.
    """
    with reads.reading(platform.database) as connection:
        family = _family(connection, run)
        found = _looked_at(connection, family, calls.of_tree(connection, family.root))
        mine = [one for one in found if one.run in family.within]
        readings = _readings(connection, family, mine)
    worked = _worked_out(platform, run.tenant, readings)
    return tuple(worked.get(one.at, one) for one in mine)


def behind(
    connection: Connection, run: RunId, steps: Collection[tuple[str, int]]
) -> set[tuple[str, int]]:
    """Those calls of a run, as (step, ordinal), that could be undone if it went back over them."""
    family = _family(connection, run)
    rows = [
        row
        for row in calls.of_tree(connection, family.root)
        if row.run == run.run and (row.step, row.ordinal) in steps
    ]
    found = _looked_at(connection, family, rows, back=run.run)
    return {(one.step, one.ordinal) for one in found if one.why is None}


def undo(
    platform: Platform,
    run: RunId,
    asked: Sequence[str],
    *,
    by: str,
    scopes: Collection[str] | None = None,
    reason: str = "",
    idempotency_key: str | None = None,
) -> Submitted:
    """Start a run that undoes calls of another one, last ones first.

    `asked` names them (`STEP.ORDINAL`, `RUN/STEP.ORDINAL`), or the class of all that are left to be undone of the
    run and those within it. Raises `NotFound`, `Invalid` for names of no call, `Conflict` where nothing of the run
    can be undone, and `Blocked` with every call that cannot be: then none is.
    """
    new = RunId(run.tenant, identity.new_run())
    said = digest(["undo", run.run, *asked])
    worked: Mapping[_At, Undoable] = {}
    kept: Mapping[str, Json] = {}
    while True:
        try:
            with _alone(platform, run) as connection:
                if idempotency_key is not None:
                    known = idempotency.claim(connection, idempotency_key, said, new)
                    if known is not None:
                        return launch.replayed(run.tenant, known, said)
                chosen = _chosen(connection, run, asked, worked)
                _enter(connection, new, run, chosen, by=by, scopes=scopes, why=reason, kept=kept)
            break
        except _Unread as unread:
            worked = _worked_out(platform, run.tenant, unread.readings)
        except Overflowing as overflowing:
            kept = submission.kept(platform, run.tenant, overflowing, kept)
    platform.fault(faults.SUBMIT_COMMITTED)
    return Submitted(run=new, replayed=False)


def settle(
    platform: Platform, run: RunId, name: str, fate: str, *, by: str, reason: str = ""
) -> None:
    """Keep what somebody has found out of the undoing of a call of which nobody knew: `undone`, or that it `stands`.

    Raises `NotFound` where there is no such run or call, and `Conflict` where it is known, or a run is at it.
    """
    with _alone(platform, run) as connection:
        family = _family(connection, run)
        at = _at(family, name)
        rows = calls.of_tree(connection, family.root, [] if at is None else [at])
        row = next((each for each in rows if (each.run, each.step, each.ordinal) == at), None)
        if at is None or row is None:
            raise NotFound(f"run {run.run} has made no call {name}; calls are named STEP.ORDINAL")
        if row.undone != UNKNOWN:
            known = "nobody has asked for it" if row.undone is None else f"it is {row.undone}"
            raise Conflict(
                f"what has become of undoing call {name} of run {run.run} is known: {known}"
            )
        undone.settle(connection, (run.tenant, *at), fate)
        acts.record(
            connection,
            run.tenant,
            by=by,
            action="undo.settle",
            subject=f"run:{run.run}",
            why=reason,
            detail={"call": name, "run": row.by},
            after=fate,
        )


def names_one(definition: Definition | None) -> bool:
    """Whether a tool names what undoes a call of it."""
    return (
        definition is not None
        and definition.effect == COMPENSABLE
        and definition.terms.undo is not None
    )


def _enter(
    connection: Connection,
    new: RunId,
    run: RunId,
    chosen: Sequence[Undoable],
    *,
    by: str,
    scopes: Collection[str] | None,
    why: str,
    kept: Mapping[str, Json],
) -> None:
    graph = documents.graph(dict(DOCUMENT))
    version = catalogue.publish_graph(connection, run.tenant, graph, by=by)
    told: list[Json] = [
        {
            "tool": one.undo,
            "with": dict(one.arguments or {}),
            "undoes": {"run": one.run, "step": one.step, "call": one.ordinal, "tool": one.tool},
        }
        for one in chosen
    ]
    inputs: dict[str, Json] = {"calls": told, "of": run.run}
    submission.enter(
        connection,
        run.tenant,
        version.id,
        graph,
        inputs,
        by=by,
        scopes=scopes,
        run=new,
        kept=kept,
    )
    if not undone.begin(connection, new, [one.at for one in chosen], never=calls.NEVER_MADE):
        raise Conflict(
            "somebody else has just asked for one of these calls to be undone; look again"
        )
    acts.record(
        connection,
        run.tenant,
        by=by,
        action="run.undo",
        subject=f"run:{run.run}",
        why=why,
        detail={"run": new.run, "calls": len(chosen)},
        after=[one.name for one in chosen],
    )


# --- which ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """A run, with all that is around and within it."""

    run: RunId
    root: RunId
    #: Those that have not ended, with how they stand.
    live: Mapping[str, str]
    #: By run, the run and the step that it was started by.
    parents: Mapping[str, tuple[str, str] | None]
    #: The run and those within it.
    within: frozenset[str]

    def around(self, run: str, step: str) -> Iterable[tuple[str, str]]:
        """A step, and those around it, from within."""
        found: tuple[str, str] | None = (run, step)
        while found is not None:
            yield found
            found = self.parents[found[0]]


def _family(connection: Connection, run: RunId) -> _Family:
    """Raises `NotFound`, and `Conflict` where nothing of the run can be undone."""
    head = reads.run(connection, run)
    if head is None:
        raise _no_run(run)
    if head.workflow == undone.WORKFLOW:
        raise Conflict(f"run {run.run} undoes what others have done, and is not undone itself")
    if head.imported is not None:
        raise Conflict(
            f"run {run.run} was recorded elsewhere and is read-only: undo its calls where it was run"
        )
    root = RunId(run.tenant, runs.glance(connection, run).root)
    rows = undone.tree(connection, root)
    parents = {
        row.run: None if row.parent_run is None else (row.parent_run, row.parent_step)
        for row in rows
    }
    live = {row.run: row.status for row in rows if row.status not in transitions.TERMINAL}
    family = _Family(run=run, root=root, live=live, parents=parents, within=frozenset())
    within = {one for one in parents if run.run in {of for of, _ in family.around(one, "")}}
    return replace(family, within=frozenset(within))


def _chosen(
    connection: Connection, run: RunId, asked: Sequence[str], worked: Mapping[_At, Undoable]
) -> list[Undoable]:
    """The calls that are asked for, last ones first, each with what undoes it.

    Raises as `undo`, and `_Unread` while it is not worked out how they are undone.
    """
    family = _family(connection, run)
    named = {name: at for name in asked if (at := _at(family, name)) is not None}
    rows = calls.of_tree(connection, family.root, [*named.values()])
    there = {(row.run, row.step, row.ordinal) for row in rows}
    unknown = [
        name
        for name in asked
        if name != COMPENSABLE and (name not in named or named[name] not in there)
    ]
    if unknown or not asked:
        raise Invalid([_unknown(name) for name in unknown or ("",)], "name the calls to be undone")
    if COMPENSABLE not in asked:
        rows = [row for row in rows if (row.run, row.step, row.ordinal) in named.values()]
    found = _looked_at(connection, family, rows)
    chosen = [one for one in found if one.at in named.values()]
    if COMPENSABLE in asked:
        chosen = [one for one in found if one in chosen or _is_left(family, one)]
    if not chosen:
        raise Conflict(f"no call of run {run.run} is left to be undone")
    _refuse(chosen)
    if not worked.keys() >= {one.at for one in chosen}:
        raise _Unread(_readings(connection, family, chosen))
    chosen = [worked[one.at] for one in reversed(chosen)]
    _refuse(chosen)
    return chosen


def _refuse(chosen: Sequence[Undoable]) -> None:
    """Raise `Blocked` where not all of the calls can be undone."""
    if refused := [one.problem for one in chosen if one.why is not None]:
        others = [one.name for one in chosen if one.why is None]
        rest = f"; name the others, should they be undone without: {' '.join(others)}"
        told = "not all of these calls can be undone, so none is"
        raise Blocked(refused, told + (rest if others else ""))


@contextmanager
def _alone(platform: Platform, run: RunId) -> Iterator[Connection]:
    """A transaction until whose end nobody goes on from a run, or one around or within it. Raises `NotFound`."""
    root: RunId | None = None
    try:
        with session.transaction(platform.database) as connection:
            if reads.run(connection, run) is None:
                raise _no_run(run)
            root = RunId(run.tenant, runs.glance(connection, run).root)
            resting.alone(connection, root)
            yield connection
    finally:
        if root is not None:
            # A turn that came meanwhile has found it taken.
            control.fold(platform, root)


def _no_run(run: RunId) -> NotFound:
    return NotFound(f"Run not found: {run.run}")


def _is_left(family: _Family, one: Undoable) -> bool:
    """Whether a call is among those that are meant by their class."""
    mine = one.run in family.within and one.effect == COMPENSABLE
    left = one.happened not in _NOTHING and one.undone != "undone"
    return mine and left and _of_a_handler(family, one) is None


def _at(family: _Family, name: str) -> _At | None:
    """The place of a call that is named; None for what is no name."""
    run, slash, call = name.partition("/")
    if not slash or run not in family.parents:
        run, call = family.run.run, name
    step, _, ordinal = call.rpartition(".")
    # As long as numbers of calls are.
    if not step or not re.fullmatch(r"[1-9][0-9]{0,8}", ordinal, re.ASCII):
        return None
    return run, step, int(ordinal)


def _unknown(name: str) -> Problem:
    if name in tools.EFFECTS:
        return Problem(
            path=f"calls.{name}",
            message=f"calls that are {name} are not undone",
            remedy=f"only those that are {COMPENSABLE} are",
        )
    return Problem(
        path=f"calls.{name}" if name else "calls",
        message="the run has made no call of that name" if name else "no call is named",
        remedy=f"name calls as STEP.ORDINAL, or {COMPENSABLE} for all that are left",
    )


# --- why not ----------------------------------------------------------------------------------

_Why = tuple[str, str]


def _looked_at(
    connection: Connection, family: _Family, rows: Sequence[Row[Any]], *, back: str | None = None
) -> list[Undoable]:
    """Calls, each with what undoes it, or why it cannot be undone, as far as rows tell.

    `back`: if a run of the family went back over all of them.
    """
    tenant = family.run.tenant
    going_back = _going_back(connection, family) if rows else None
    handlers = cache(partial(_handlers, connection, tenant))
    handled = resting.handled(connection, family.root) if rows else set()
    course = _course(connection, family, back)
    # Many are calls of the same tool, in the same run.
    tool = cache(partial(definitions.tool, connection, tenant))
    newest = cache(partial(definitions.newest, connection, tenant))
    shredded = cache(lambda run: shreds.shredded(connection, RunId(tenant, run)))
    found: list[Undoable] = []
    for row in rows:
        definition = tool(row.tool, row.version)
        name = f"{row.step}.{row.ordinal}"
        one = Undoable(
            name=name if row.run == family.run.run else f"{row.run}/{name}",
            run=row.run,
            step=row.step,
            ordinal=row.ordinal,
            tool=row.tool,
            version=row.version,
            # What people have allowed once is told as such, whatever its tool says.
            effect=row.effect if definition is None else definition.effect,
            happened=row.happened,
            undone=row.undone,
            by=row.by,
        )
        why = (
            _unmade(connection, tenant, row)
            or _settled(one)
            or _untold(one, definition, newest)
            or _shredded(one, shredded)
            or _of_a_handler(family, one)
            or _handled(connection, family, row, handled)
            or _to_be_handled(family, row, handlers)
            or going_back
            or _rested_on(connection, family, row, course)
        )
        if why is not None:
            one = replace(one, why=why[0], remedy=why[1])
        elif definition is not None and definition.terms.undo is not None:
            one = replace(one, undo=definition.terms.undo.tool)
        found.append(one)
    return found


def _unmade(connection: Connection, tenant: str, row: Row[Any]) -> _Why | None:
    """Why there is nothing to undo, or nobody knows."""
    if row.happened == "served":
        if (real := calls.original(connection, tenant, row)) is None:
            return "it was not made: the result of another call was given again", "leave it out"
        return (
            f"it was not made: it was answered by call {real.step}.{real.ordinal} of run {real.run}",
            f"undo that: celeriac undo {real.run} {real.step}.{real.ordinal}",
        )
    if row.happened == "no":
        return f"it was not made: {row.reason}", "leave it out"
    if row.happened == "unknown":
        ended = "its end was never recorded" if row.reason is None else f"it failed as {row.reason}"
        return (
            f"nobody knows whether it happened: {ended}",
            "look whether it did, and undo it by hand",
        )
    return None


def _settled(one: Undoable) -> _Why | None:
    """Why it is not undone once more."""
    match one.undone:
        case "undone":
            return f"run {one.by} has undone it", "leave it out"
        case "undoing":
            return (
                f"run {one.by} is undoing it",
                "wait for the end of that run, and answer what it asks (celeriac waits)",
            )
        case "unknown":
            return (
                f"run {one.by} may have undone it, nobody knows",
                (
                    "look whether it did, and say so: "
                    f"celeriac undo {one.run} {one.step}.{one.ordinal} --settle undone|stands"
                ),
            )
        case _:
            return None


def _untold(
    one: Undoable, definition: Definition | None, newest: Callable[[str], Definition | None]
) -> _Why | None:
    """Why it is not known how it is undone."""
    if definition is None or one.effect != COMPENSABLE:
        return (
            f"calls of {one.tool} are {one.effect}, and are not undone",
            f"only those that are {COMPENSABLE} are",
        )
    if definition.terms.undo is None:
        return (
            f"the tool {one.tool} names nothing that undoes a call",
            "register a version of it whose terms say `undo`",
        )
    undo = definition.terms.undo.tool
    undoing = newest(undo)
    if undoing is None:
        return f"{undo}, which undoes calls of {one.tool}, is not registered", "register it"
    if undoing.closed:
        stands = undoing.standing.status
        return f"{undo}, which undoes calls of {one.tool}, is in {stands}", "let it be called again"
    return None


def _shredded(one: Undoable, shredded: Callable[[str], Collection[str]]) -> _Why | None:
    """Whether what it did is not kept any more."""
    if not shredded(one.run):
        return None
    return f"data of run {one.run} was shredded: what it did is not kept", "undo it by hand"


def _of_a_handler(family: _Family, one: Undoable) -> _Why | None:
    """Whether it is itself part of undoing what a step did."""
    for run, step in family.around(one.run, one.step):
        if step.startswith(PREFIX):
            done = step.removeprefix(PREFIX)
            return f"it is part of undoing what step {done} of run {run} did", "leave it out"
    return None


def _handled(
    connection: Connection,
    family: _Family,
    row: Row[Any],
    handled: Collection[tuple[str, str]],
) -> _Why | None:
    """Whether a workflow itself has gone about undoing it: where it was made, or where its result was given again."""
    if not handled:
        return None
    for run, step in resting.standing(connection, family.root, row):
        if (run, _ITEM.sub(r"\1", step)) in handled:
            return (
                f"the handler of step {step} of run {run} has undone it, or has tried to",
                "look what that came to",
            )
    return None


def _to_be_handled(
    family: _Family, row: Row[Any], handlers: Callable[[str], Collection[str]]
) -> _Why | None:
    """Whether a workflow itself would undo it, should a run that is live yet fail, or be cancelled so."""
    for run, step in family.around(row.run, row.step):
        if run in family.live and items.node_of(step) in handlers(run):
            return (
                f"a handler undoes what step {step} of run {run} did, should that run end so",
                "wait for its end, or cancel it, and look whether that was done",
            )
    return None


def _handlers(connection: Connection, tenant: str, run: str) -> Collection[str]:
    """The nodes of a run that name a handler that undoes them."""
    head = reads.run(connection, RunId(tenant, run))
    assert head is not None
    graph = graphs.load(connection, tenant, head.version_id)
    return {node.id for node in graph.nodes.values() if node.compensate}


def _going_back(connection: Connection, family: _Family) -> _Why | None:
    """A live run that is about to go back: perhaps to where it rests on what it has gone over."""
    live = [RunId(family.run.tenant, run) for run in family.live]
    if not (about := inbox.about_to(connection, live, msg.RollbackRequested.__name__)):
        return None
    return f"run {about[0].run} is about to go back", "look again when it has"


def _course(connection: Connection, family: _Family, back: str | None) -> _Course:
    tenant = family.run.tenant
    live = resting.live(connection, family.root)
    told = (
        one.run for one in live if origins.told(connection, RunId(tenant, one.run)).get("inner")
    )
    past = cache(partial(origins.past, connection))
    return _Course(live=live, inside=next(told, None), past=past, back=back)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    """What is known of the runs that go on from somewhere in a family, and of those that went back in it."""

    live: Sequence[Row[Any]]
    #: A live run that goes on from within one that it starts anew: it has yet to come to that place.
    inside: str | None
    past: Callable[[RunId], origins.Past]
    #: The run of which it is asked what if it went back over all that is asked about.
    back: str | None

    def over(self, connection: Connection, run: RunId, at: datetime) -> origins.Over | None:
        """The run that went back over what happened in one at a time."""
        if self.back is not None:
            return origins.Over(run=self.back, since=history.LAST)
        return origins.gone_over(connection, run, at, read=self.past)


def _rested_on(
    connection: Connection, family: _Family, row: Row[Any], course: _Course
) -> _Why | None:
    """A live run that knows of it."""
    if not course.live and not family.live:
        return None
    chain = [run for run, _ in family.around(row.run, row.step)]
    over = course.over(connection, RunId(family.run.tenant, row.run), row.made_at)
    aside = chain[chain.index(over.run) :] if over is not None and family.live else ()
    if ours := [run for run in chain if run in family.live and run not in aside]:
        return (
            f"run {ours[0]}, which is {family.live[ours[0]]}, rests on it",
            "wait for its end, or cancel it; or let it go back to before the call (celeriac rollback)",
        )
    since = (None, None) if over is None else (over.run, over.since)
    on = course.inside or resting.live_on(
        connection, family.root, row, chain, aside=aside, over=since
    )
    if on is None:
        return None
    return (
        f"run {on} goes on from after it, or is to be served its result",
        "wait for the end of that run, or cancel it",
    )


# --- how --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """A call, what undoes it, and what is read of it for that, as it is kept."""

    call: Undoable
    definition: Definition
    undoing: Definition
    arguments: str
    value: str


class _Unread(Exception):
    """What is read of calls is not at hand yet: values may lie elsewhere."""

    def __init__(self, readings: Sequence[_Reading]) -> None:
        super().__init__()
        self.readings = readings


def _readings(connection: Connection, family: _Family, found: Sequence[Undoable]) -> list[_Reading]:
    tenant = family.run.tenant
    wanted = {one.at: one for one in found if one.why is None}
    tool = cache(partial(definitions.tool, connection, tenant))
    newest = cache(partial(definitions.newest, connection, tenant))
    readings: list[_Reading] = []
    for row in calls.made(connection, tenant, [*wanted]) if wanted else ():
        one = wanted[row.run, row.step, row.ordinal]
        definition = tool(one.tool, one.version)
        assert one.undo is not None
        undoing = newest(one.undo)
        assert definition is not None
        assert undoing is not None
        readings.append(
            _Reading(
                call=one,
                definition=definition,
                undoing=undoing,
                arguments=row.arguments,
                value=row.value,
            )
        )
    return readings


def _worked_out(
    platform: Platform, tenant: str, readings: Sequence[_Reading]
) -> dict[_At, Undoable]:
    """Calls with the arguments of what undoes them, or why these cannot be given."""
    return {one.call.at: _given(platform, tenant, one) for one in readings}


def _given(platform: Platform, tenant: str, reading: _Reading) -> Undoable:
    one, undo = reading.call, reading.definition.terms.undo
    assert undo is not None
    given = large.shown(platform, tenant, orjson.loads(reading.arguments))
    assert isinstance(given, dict)
    scope = large.readable(
        platform,
        tenant,
        {
            "arguments": dict(reading.definition.bound(given).arguments),
            "result": orjson.loads(reading.value),
        },
    )
    remedy = f"register a version of {one.tool} whose `undo` fits"
    try:
        found = undo.arguments(scope)
    except (EvaluationError, TooLarge, LookupError) as error:
        why = f"what {undo.tool} is to be given cannot be worked out: {error}"
        return replace(one, why=why, remedy=remedy)
    if redaction.marked(found):
        why = f"{undo.tool} would be given what a secret was hidden in: what the call was given is not kept"
        return replace(one, arguments=found, why=why, remedy="undo it by hand")
    if unfit := tuple(values.problems(found, path="with")):
        why = f"{undo.tool} cannot be given what is read of the call: {unfit[0].path}: {unfit[0].message}"
        return replace(one, arguments=found, why=why, remedy=remedy)
    if misfits := reading.undoing.bound({"args": [], "kwargs": found}).problems:
        listed = "; ".join(f"{each.path}: {each.message}" for each in misfits)
        why = f"{undo.tool} does not take what is read of the call: {listed}"
        return replace(one, arguments=found, why=why, remedy=remedy)
    return replace(one, arguments=found)
