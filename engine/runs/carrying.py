"""What is known of the calls of a step that begins anew where a run is gone on from.

A call that had ended by then is served again, and one that had begun, and may happen only once, is
unknown: people are asked what became of it (`calls`). They lie beside a first attempt of the step,
which nobody has made.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from engine.core import messages as msg
from engine.runs import items, views
from engine.runs.origins import Origin
from engine.store import calls, choices, history, migrations, reads
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
    nodes = _nodes(connection, *place)
    return choices.choose(connection, place, new, given, since=0, nodes=nodes)


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
                nodes = _nodes(connection, *place)
                choices.choose(connection, place, run, asked.chosen, since=since, nodes=nodes)
            case _:
                pass


def _carried(asked: msg.RollbackRequested, step: msg.StepKey) -> bool:
    steps = asked.state["steps"]
    assert isinstance(steps, dict)
    told = steps[step]
    assert isinstance(told, dict)
    return told["attempt"] != 1


def _nodes(connection: Connection, run: RunId, seq: int, at: datetime) -> Mapping[str, str]:
    """Of which node steps with calls after a place are there, where the run has come under other versions.

    A step is called by the node that it was of when it was asked for.
    """
    moved = migrations.of(connection, run)
    if not moved:
        return {}
    renamed: dict[int, Mapping[str, str]] = {}
    for one in moved:
        (line,) = history.read(connection, run, after=one.seq - 1, upto=one.seq)
        renamed[one.seq] = views.record(line).nodes
    anew = {
        name: one.seq
        for one in reads.rollbacks(connection, run)
        for name in views.went_back(one).anew.values()
    }
    found: dict[str, str] = {}
    for step in calls.steps_since(connection, run, at):
        key = msg.StepKey(items.of(step))
        asked = anew.get(key) or history.about(connection, run, key)[0].seq
        node: str = items.node_of(step)
        for when, names in sorted(renamed.items()):
            if asked < when <= seq:
                node = names.get(node, node)
        for when, names in sorted(renamed.items(), reverse=True):
            if seq < when <= asked:
                node = {after: before for before, after in names.items()}.get(node, node)
        found[step] = node
    return found
