"""What is known of the calls of a step that begins anew where a run is gone on from.

A call that had ended by then is served again, and one that had begun, and may happen only once, is
unknown: people are asked what became of it (`calls`). They lie beside a first attempt of the step,
which nobody has made.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row

from engine.core import messages as msg
from engine.runs.origins import Origin
from engine.store import calls, choices, history
from engine.store.ids import RunId


def known(connection: Connection, origin: Origin) -> frozenset[msg.StepKey]:
    """The steps, live at a place, of whose calls something is known there."""
    live = sorted(origin.state.steps)
    found = calls.carried(connection, origin.run, live, origin.line.at)
    return frozenset(map(msg.StepKey, found))


def over(
    connection: Connection, origin: Origin, new: RunId, carried: Collection[msg.StepKey]
) -> Sequence[Row[Any]]:
    """Let the steps of a fork know of the calls of those that they were; the calls."""
    if not carried:
        return ()
    names: dict[str, str] = {step: step for step in sorted(carried)}
    message = f"of run {origin.run.run}"
    at = origin.line.at
    return calls.carry(connection, origin.run, new, names, at, reason="forked", message=message)


def chosen(
    connection: Connection, origin: Origin, new: RunId, given: Sequence[msg.Chosen]
) -> Sequence[Row[Any]]:
    """Let a fork have what was chosen for calls before its place, and is for those after it; what may be served."""
    place = (origin.run, origin.line.seq, origin.line.at)
    return choices.choose(connection, place, new, given, since=0)


def back(connection: Connection, run: RunId, entries: Sequence[msg.Entry], *, first: int) -> None:
    """Let the steps that a rollback begins anew know of the calls of those that they were.

    And keep what was chosen for later calls. `first`: the line of the first entry.
    """
    asked: msg.RollbackRequested | None = None
    for since, entry in enumerate(entries, start=first):
        match entry.record:
            case msg.RollbackRequested() as asked:
                pass
            case msg.RollBack(seq=seq, anew=anew):
                assert asked is not None
                (line,) = history.read(connection, run, after=seq - 1, upto=seq)
                names: dict[str, str] = {
                    old: new for old, new in sorted(anew.items()) if _carried(asked, old)
                }
                if names:
                    message = f"since line {seq}"
                    calls.carry(
                        connection, run, run, names, line.at, reason="rolled_back", message=message
                    )
                place = (run, seq, line.at)
                choices.choose(connection, place, run, asked.chosen, since=since)
            case _:
                pass


def _carried(asked: msg.RollbackRequested, step: msg.StepKey) -> bool:
    steps = asked.state["steps"]
    assert isinstance(steps, dict)
    told = steps[step]
    assert isinstance(told, dict)
    return told["attempt"] != 1
