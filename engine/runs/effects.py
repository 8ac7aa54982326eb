"""Calls whose effects a run would repeat that goes on from a place, and what is chosen for each.

Calls that began by then are no question: what had ended is served, what had not is made again where it may
be, else people are asked (`carrying`). Of later ones, those that may be repeated are made again if the run
comes to them, unless somebody chooses otherwise. Those that may happen only once and have happened, or may
have, must be chosen: one by one (`step.ordinal`), or all of an effect class.

Of runs within it that it starts anew all calls are later ones: their names are `RUN/STEP.ORDINAL`, and they can
only be executed, for nobody knows which of the new runs stands for which.

- `reuse`: the recorded result is served if the run makes the same call: of the same node, with the same
  tool, version and arguments. Nothing is charged for it.
- `skip`: the same call is not made, and gives null.
- `execute`: it is made again, and asked about like any other.
- `compensate`: it is to be undone first, which is an act of its own (`compensations`). No fork goes on with this
  choice: who makes it is told what to ask for. A run that goes back is paused for it, since what it did can be undone
  when it has gone back over that; should it come to the same call before, that is refused. What is undone is no
  question any more: it did not happen.

A choice is for one call, and is taken when the run first makes the same one. A run that takes another way,
or calls with other arguments, makes its calls like any other run. Who goes on once more from between a call
and its choice keeps that choice (`engine.store.choices`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row

from engine import tools
from engine.core import messages as msg
from engine.core import transitions
from engine.core.problem import Problem
from engine.errors import Blocked, Conflict, Invalid, Undecided
from engine.platform import Platform
from engine.runs import definitions, origins, undoable
from engine.runs.origins import Origin
from engine.store import calls, reads, runs, undone
from engine.store.ids import RunId

CHOICES = ("reuse", "skip", "execute")
#: What is done first, and by itself.
COMPENSATE = "compensate"
#: Effect classes of which a call may be repeated.
_REPEATABLE = frozenset({"pure", "idempotent"})
#: Of what was made, in these cases, nothing is there any more.
_GONE = frozenset({"no", "undone"})

#: By `step.ordinal` or by effect class.
Choices = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A call of a run, and what becomes of it where the run is gone on from a place."""

    #: By which it is chosen for.
    name: str
    run: str
    step: str
    ordinal: int
    tool: str
    version: int
    #: `pure`, `idempotent`, `at_most_once`, `compensable`.
    effect: str
    #: Whether it was made: `yes`, `no`, `unknown`; `undone`, or `undoing` while a run is at that. Of one that
    #: began by then, as it was known then.
    happened: str
    #: As long as nothing is chosen. `served`: its result is given again; `asked`: people are asked whether
    #: it happened; `repeated`: it is made again if the run comes to it; `undecided`: somebody must choose.
    becomes: str
    #: It began after the place, so that it can be chosen what becomes of it.
    later: bool
    #: It is of a run within, which is started anew.
    anew: bool
    #: What can be chosen for it.
    choices: tuple[str, ...] = ()
    #: The run that undoes it, or was to.
    undone_by: str | None = None


def at(
    platform: Platform,
    run: RunId,
    seq: int,
    *,
    meant: RunId | None = None,
    besides: str | None = None,
    itself: bool = False,
) -> tuple[Effect, ...]:
    """What would become of the calls of a run where it is gone on from a line; nothing is carried out.

    Names are as for who means that run, or another one, `meant`. `besides`: a run within that is gone on from,
    too. `itself`: it goes back there, rather than that another one goes on from there. Raises as `origins.of` does.
    """
    with reads.reading(platform.database) as connection:
        origin = origins.of(connection, run, seq)
        return _found(connection, origin, meant or run, besides, itself=itself)


def _found(
    connection: Connection, origin: Origin, meant: RunId, besides: str | None, *, itself: bool
) -> tuple[Effect, ...]:
    """The calls that matter, as long as nothing is chosen, in the order in which they began."""
    live = sorted(origin.state.steps)
    own = calls.fates(connection, origin.run, live, origin.line.at)
    others = [] if besides is None else [besides]
    # Where the place still tells from where the run within goes on, it does so again.
    inner = calls.within(
        connection, origin.run, live, origin.line.at, besides=others, whole=not origin.within
    )
    effects = (
        *(_effect(row, meant, anew=False) for row in own),
        *(_effect(row, meant, anew=True) for row in inner),
    )
    able = _undoable(connection, origin, effects, itself=itself)
    return tuple(replace(one, choices=_ways(one, able=one.name in able)) for one in effects)


def _undoable(
    connection: Connection, origin: Origin, effects: Sequence[Effect], *, itself: bool
) -> set[str]:
    """The names of calls that can be undone first: of a run that has ended, or goes back over them itself."""
    run = origin.run
    made = [
        one
        for one in effects
        if one.later and one.happened == "yes" and one.effect not in _REPEATABLE
    ]
    if itself:
        able = undoable.behind(
            connection, run, {(one.step, one.ordinal) for one in made if not one.anew}
        )
        return {one.name for one in made if not one.anew and (one.step, one.ordinal) in able}
    if made:
        root = RunId(run.tenant, runs.glance(connection, run).root)
        if any(row.status not in transitions.TERMINAL for row in undone.tree(connection, root)):
            return set()
    undoes = {
        each: undoable.names_one(definitions.tool(connection, run.tenant, *each))
        for each in {(one.tool, one.version) for one in made}
    }
    return {one.name for one in made if undoes[one.tool, one.version]}


def _ways(one: Effect, *, able: bool) -> tuple[str, ...]:
    """What can be chosen for a call."""
    if not one.later or one.happened in ("undone", "undoing"):
        return ()
    known = one.happened == "yes"
    ways = {
        "reuse": known and not one.anew,
        "skip": not one.anew,
        "execute": True,
        COMPENSATE: known and able and one.effect not in _REPEATABLE,
    }
    return tuple(way for way, fits in ways.items() if fits)


def settled(
    connection: Connection, places: Sequence[Origin], choices: Choices, *, held: bool | None = None
) -> tuple[tuple[msg.Chosen, ...], ...]:
    """What is chosen for later calls of runs that go on together, as an event of each tells it.

    `held`: it is one that goes back there itself, and whether it is paused.

    Calls of the last of them, the innermost, have their own names; those of the others `RUN/STEP.ORDINAL`.
    Raises `Invalid` with every choice that fits no call, or not that one, `Undecided` with every call for
    which one is missing, `Blocked` with every call that is to be undone first, and `Conflict` while one is
    being undone.
    """
    meant = places[-1].run
    inside = [*(place.run.run for place in places[1:]), None]
    later = [
        {one.name: one for one in found if one.later}
        for place, besides in zip(places, inside, strict=True)
        for found in [_found(connection, place, meant, besides, itself=held is not None)]
    ]
    effects = {name: one for each in later for name, one in each.items()}
    if under_way := [one for one in effects.values() if one.happened == "undoing"]:
        raise Conflict(
            f"the call {under_way[0].name} is being undone by run {under_way[0].undone_by}: wait for the end of that, "
            "and go on then"
        )
    known = effects.keys() | {*tools.EFFECTS}
    picked = {name: _choice(name, one, choices) for name, one in effects.items()}
    problems = [
        *(
            _wrong(name, choice)
            for name, choice in choices.items()
            if choice not in (*CHOICES, COMPENSATE)
        ),
        *(_unknown(name) for name in choices if name not in known),
        *(
            _no_result(name, one)
            for name, one in effects.items()
            if picked[name] == "reuse" and one.happened not in ("yes", "undone")
        ),
        *(
            _over(name, one)
            for name, one in effects.items()
            if one.happened == "undone" and picked[name] in ("reuse", "skip")
        ),
        *(
            _anew(name, one)
            for name, one in effects.items()
            if one.anew and picked[name] in ("reuse", "skip")
        ),
    ]
    if problems:
        raise Invalid(problems, "the choices do not fit the calls")
    if missing := [
        _undecided(name, one)
        for name, one in effects.items()
        if picked[name] is None and one.becomes == "undecided"
    ]:
        raise Undecided(missing)
    if first := [
        _first(name, one, meant, held=held)
        for name, one in effects.items()
        if picked[name] == COMPENSATE and not (held and COMPENSATE in one.choices)
    ]:
        raise Blocked(first, "these calls are to be undone first; then nothing is asked about them")
    return tuple(
        tuple(
            msg.Chosen(step=msg.StepKey(one.step), ordinal=one.ordinal, choice=choice)
            for name, one in each.items()
            if (choice := picked[name]) is not None and not one.anew
        )
        for each in later
    )


def _effect(row: Row[Any], meant: RunId, *, anew: bool) -> Effect:
    repeatable = row.effect in _REPEATABLE
    if not row.later:
        becomes = "served" if row.ended else "repeated" if repeatable else "asked"
    else:
        becomes = "repeated" if repeatable or row.happened in _GONE else "undecided"
    name = f"{row.step}.{row.ordinal}"
    return Effect(
        name=name if row.run == meant.run else f"{row.run}/{name}",
        run=row.run,
        step=row.step,
        ordinal=row.ordinal,
        tool=row.tool,
        version=row.version,
        effect=row.effect,
        happened=row.happened,
        becomes=becomes,
        later=row.later,
        anew=anew,
        undone_by=row.undone_by,
    )


def _choice(name: str, one: Effect, choices: Choices) -> str | None:
    """What is chosen for a call: by its name, else for its class if it was made, as far as is known."""
    if name in choices:
        chosen: str | None = choices[name]
    else:
        chosen = choices.get(one.effect) if one.happened not in _GONE else None
    # What is undone, or was never made, is as it was asked for.
    return None if chosen == COMPENSATE and one.happened in _GONE else chosen


def _wrong(name: str, choice: str) -> Problem:
    return Problem(
        path=f"choices.{name}",
        message=f"{choice!r} is no choice",
        remedy=f"one of {', '.join((*CHOICES, COMPENSATE))}",
    )


def _unknown(name: str) -> Problem:
    return Problem(
        path=f"choices.{name}",
        message="no call of that name was made after the place, and it is no effect class",
        remedy=f"name a call as STEP.ORDINAL, or one of {', '.join(tools.EFFECTS)}",
    )


def _anew(name: str, one: Effect) -> Problem:
    return Problem(
        path=f"choices.{name}",
        message=f"the call of {one.tool} is of a run within, which is started anew and makes its own",
        remedy="execute it, or restart a step of that run",
    )


def _over(name: str, one: Effect) -> Problem:
    return Problem(
        path=f"choices.{name}",
        message=f"run {one.undone_by} has undone the call of {one.tool}: it is as if it had not been made",
        remedy="leave the choice out: it is made again if the run comes to it",
    )


def _no_result(name: str, one: Effect) -> Problem:
    return Problem(
        path=f"choices.{name}",
        message=f"the call of {one.tool} has no recorded result to reuse",
        remedy="skip or execute it",
    )


def _first(name: str, one: Effect, meant: RunId, *, held: bool | None) -> Problem:
    """How a call is undone before anybody goes on, or why it cannot be."""
    place = f"choices.{name}"
    others = ", ".join(one.choices)
    if COMPENSATE in one.choices and held is not None:
        return Problem(
            path=place,
            message=f"the call of {one.tool} can be undone when the run has gone back, and it would go on meanwhile",
            remedy=f"pause the run (celeriac pause {meant.run}), let it go back, undo the call, and resume the run; "
            f"celeriac rollback --effect {name}={COMPENSATE} does all of that",
        )
    if COMPENSATE in one.choices:
        return Problem(
            path=place,
            message=f"the call of {one.tool} is not undone yet",
            remedy=f"celeriac undo {meant.run} {name}, and wait for the end of that run",
        )
    if one.undone_by is not None and one.happened == "unknown":
        return Problem(
            path=place,
            message=f"run {one.undone_by} may have undone the call of {one.tool}, nobody knows",
            remedy="look whether it did, and say so: "
            f"celeriac undo {meant.run} {name} --settle undone|stands",
        )
    return Problem(
        path=place,
        message=f"the call of {one.tool} cannot be undone first: it is not known to have happened, its tool names no "
        "`undo` that can be called, a handler undoes it, it is of a run within, a run rests on it, or one around it has "
        "not ended",
        remedy=f"choose {others}; or end the run, undo the call (celeriac undo {meant.run} {name}), and fork it",
    )


def _undecided(name: str, one: Effect) -> Problem:
    happened = "has happened" if one.happened == "yes" else "may have happened"
    return Problem(
        path=f"choices.{name}",
        message=f"the call of {one.tool} ({one.effect}) {happened}",
        remedy=f"choose {', '.join(one.choices)}, for it or for {one.effect}",
    )
