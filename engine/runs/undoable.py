"""Which calls of runs can be undone, and why others cannot.

Nobody else's state may rest on what is undone: neither where a live run stands, nor what it is yet to be served.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, partial
from typing import Any

from sqlalchemy import Connection, Row

from engine.core import messages as msg
from engine.core import transitions
from engine.core.problem import Problem
from engine.core.undo import PREFIX
from engine.core.values import Json
from engine.errors import Conflict, NotFound
from engine.runs import definitions, graphs, items, origins
from engine.runs.definitions import Definition
from engine.store import calls, history, inbox, reads, resting, runs, shreds, undone
from engine.store.ids import RunId

#: The effect class of calls that may be undone.
COMPENSABLE = "compensable"

#: Run, step and ordinal of a call.
At = tuple[str, str, int]


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
    def at(self) -> At:
        """Its run, step and ordinal."""
        return self.run, self.step, self.ordinal

    @property
    def problem(self) -> Problem:
        """Why it cannot be undone."""
        return Problem(path=f"calls.{self.name}", message=self.why or "", remedy=self.remedy or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
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


def family_of(connection: Connection, run: RunId) -> Family:
    """Raises `NotFound`, and `Conflict` where nothing of the run can be undone."""
    head = reads.run(connection, run)
    if head is None:
        raise no_run(run)
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
    family = Family(run=run, root=root, live=live, parents=parents, within=frozenset())
    within = {one for one in parents if run.run in {of for of, _ in family.around(one, "")}}
    return replace(family, within=frozenset(within))


def no_run(run: RunId) -> NotFound:
    """That there is no such run."""
    return NotFound(f"Run not found: {run.run}")


def behind(
    connection: Connection, run: RunId, steps: Collection[tuple[str, int]]
) -> set[tuple[str, int]]:
    """Those calls of a run, as (step, ordinal), that could be undone if it went back over them."""
    family = family_of(connection, run)
    rows = [
        row
        for row in calls.of_tree(connection, family.root)
        if row.run == run.run and (row.step, row.ordinal) in steps
    ]
    found = looked_at(connection, family, rows, back=run.run)
    return {(one.step, one.ordinal) for one in found if one.why is None}


def names_one(definition: Definition | None) -> bool:
    """Whether a tool names what undoes a call of it."""
    return (
        definition is not None
        and definition.effect == COMPENSABLE
        and definition.terms.undo is not None
    )


# --- why not ----------------------------------------------------------------------------------

_Why = tuple[str, str]


def looked_at(
    connection: Connection, family: Family, rows: Sequence[Row[Any]], *, back: str | None = None
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
            or of_a_handler(family, one)
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


def of_a_handler(family: Family, one: Undoable) -> _Why | None:
    """Whether it is itself part of undoing what a step did."""
    for run, step in family.around(one.run, one.step):
        if step.startswith(PREFIX):
            done = step.removeprefix(PREFIX)
            return f"it is part of undoing what step {done} of run {run} did", "leave it out"
    return None


def _handled(
    connection: Connection,
    family: Family,
    row: Row[Any],
    handled: Collection[tuple[str, str]],
) -> _Why | None:
    """Whether a workflow itself has gone about undoing it: where it was made, or where its result was given again."""
    if not handled:
        return None
    for run, step in resting.standing(connection, family.root, row):
        if (run, items.of(step)) in handled:
            return (
                f"the handler of step {step} of run {run} has undone it, or has tried to",
                "look what that came to",
            )
    return None


def _to_be_handled(
    family: Family, row: Row[Any], handlers: Callable[[str], Collection[str]]
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


def _going_back(connection: Connection, family: Family) -> _Why | None:
    """A live run that is about to go back: perhaps to where it rests on what it has gone over."""
    live = [RunId(family.run.tenant, run) for run in family.live]
    if not (about := inbox.about_to(connection, live, msg.RollbackRequested.__name__)):
        return None
    return f"run {about[0].run} is about to go back", "look again when it has"


def _course(connection: Connection, family: Family, back: str | None) -> _Course:
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

    def over(self, connection: Connection, run: RunId, at: datetime) -> Sequence[origins.Over]:
        """The runs that went back over what happened in one at a time, from within."""
        over = origins.gone_over(connection, run, at, read=self.past)
        if not over and self.back is not None:
            return (origins.Over(run=self.back, since=history.LAST),)
        return over


def _rested_on(
    connection: Connection, family: Family, row: Row[Any], course: _Course
) -> _Why | None:
    """A live run that knows of it."""
    if not course.live and not family.live:
        return None
    chain = [run for run, _ in family.around(row.run, row.step)]
    over = course.over(connection, RunId(family.run.tenant, row.run), row.made_at)
    aside = chain[chain.index(over[0].run) :] if over and family.live else ()
    if ours := [run for run in chain if run in family.live and run not in aside]:
        return (
            f"run {ours[0]}, which is {family.live[ours[0]]}, rests on it",
            "wait for its end, or cancel it; or let it go back to before the call (celeriac rollback)",
        )
    since = {one.run: one.since for one in over}
    on = course.inside or resting.live_on(
        connection, family.root, row, chain, aside=aside, over=since, back=course.back
    )
    if on is None:
        return None
    return (
        f"run {on} goes on from after it, or is to be served its result",
        "wait for the end of that run, or cancel it",
    )
