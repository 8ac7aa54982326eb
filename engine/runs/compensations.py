"""Undoing, in the world, what calls of runs have done: by a run of its own, which is an act of its own.

Tools that are `compensable` may name what undoes a call of theirs (`undo` among their terms). Of a run that has
ended, with all that is around and within it, or has gone back over them (`rollbacks`), somebody asks for calls to be
undone: that starts a run of `celeriac.undo`, which calls what undoes them, last ones first, one at a time. Crashes,
retries, policies, budgets and approvals mean there what they mean everywhere. What has become of each is read from
that run's calls (`engine.store.undone`): a call is undone at most once, and one of which nobody knows is left alone.
What stands where that run has ended may be asked for again.

Nobody else's state may rest on what is undone. So it is refused while a live run goes on from a place after the
call, or is served its result; and nobody goes on from such a place afterwards (`origins`). Who undoes and who goes
on exclude each other by the row of the root (`resting.alone`, `resting.rest`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, partial

import orjson
from sqlalchemy import Connection

from engine import documents, faults, redaction, tools
from engine.core import values
from engine.core.document import vocabulary as words
from engine.core.expressions import EvaluationError
from engine.core.problem import Problem
from engine.core.references import TooLarge
from engine.core.values import Json, digest
from engine.errors import Blocked, Conflict, Invalid, NotFound, Unavailable
from engine.platform import Platform
from engine.runs import (
    acts,
    catalogue,
    control,
    definitions,
    identity,
    large,
    launch,
    submission,
    undoable,
)
from engine.runs.definitions import Definition
from engine.runs.launch import Submitted
from engine.runs.undoable import At, Family, Undoable
from engine.store import (
    calls,
    idempotency,
    reads,
    resting,
    runs,
    session,
    undone,
)
from engine.store.ids import RunId
from engine.waiting import Overflowing

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


def plan(platform: Platform, run: RunId) -> tuple[Undoable, ...]:
    """The calls of a run, and of those within it, that may not be repeated, and how each would be undone.

    In the order in which they were made; nothing is carried out. Raises `NotFound`, and `Conflict` where nothing
    of the run can be undone.
    """
    with reads.reading(platform.database) as connection:
        family = undoable.family_of(connection, run)
        found = undoable.looked_at(connection, family, calls.of_tree(connection, family.root))
        mine = [one for one in found if one.run in family.within]
        readings = _readings(connection, family, mine)
    worked = _worked_out(platform, run.tenant, readings)
    return tuple(worked.get(one.at, one) for one in mine)


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
    worked: Mapping[At, Undoable] = {}
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
        family = undoable.family_of(connection, run)
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


def _chosen(
    connection: Connection, run: RunId, asked: Sequence[str], worked: Mapping[At, Undoable]
) -> list[Undoable]:
    """The calls that are asked for, last ones first, each with what undoes it.

    Raises as `undo`, and `_Unread` while it is not worked out how they are undone.
    """
    family = undoable.family_of(connection, run)
    named = {name: at for name in asked if (at := _at(family, name)) is not None}
    rows = calls.of_tree(connection, family.root, [*named.values()])
    there = {(row.run, row.step, row.ordinal) for row in rows}
    unknown = [
        name
        for name in asked
        if name != undoable.COMPENSABLE and (name not in named or named[name] not in there)
    ]
    if unknown or not asked:
        raise Invalid([_unknown(name) for name in unknown or ("",)], "name the calls to be undone")
    if undoable.COMPENSABLE not in asked:
        rows = [row for row in rows if (row.run, row.step, row.ordinal) in named.values()]
    found = undoable.looked_at(connection, family, rows)
    chosen = [one for one in found if one.at in named.values()]
    if undoable.COMPENSABLE in asked:
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
                raise undoable.no_run(run)
            root = RunId(run.tenant, runs.glance(connection, run).root)
            resting.alone(connection, root)
            yield connection
    finally:
        if root is not None:
            # A turn that came meanwhile has found it taken; if not now, it is taken with the next sweep.
            with suppress(Unavailable):
                control.fold(platform, root)


def _is_left(family: Family, one: Undoable) -> bool:
    """Whether a call is among those that are meant by their class."""
    mine = one.run in family.within and one.effect == undoable.COMPENSABLE
    left = one.happened not in _NOTHING and one.undone != "undone"
    return mine and left and undoable.of_a_handler(family, one) is None


def _at(family: Family, name: str) -> At | None:
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
            remedy=f"only those that are {undoable.COMPENSABLE} are",
        )
    return Problem(
        path=f"calls.{name}" if name else "calls",
        message="the run has made no call of that name" if name else "no call is named",
        remedy=f"name calls as STEP.ORDINAL, or {undoable.COMPENSABLE} for all that are left",
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


def _readings(connection: Connection, family: Family, found: Sequence[Undoable]) -> list[_Reading]:
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
) -> dict[At, Undoable]:
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
