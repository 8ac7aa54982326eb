"""Giving up named locks, and waking who comes next.

A thread holds a lock from the start of the step that asked for it until that step is gone,
or until it leaves the last node of the section. Whatever ends the thread ends that too: a
lock is held by the rows of steps and by tokens, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from engine.core import codec
from engine.core import messages as msg
from engine.runs import letters
from engine.store import inbox
from engine.store import locks as rows
from engine.store.ids import RunId


def give_up(connection: Connection, kept: Mapping[RunId, Sequence[str]]) -> list[RunId]:
    """Give up what runs hold no more, but for what their tokens keep; the runs that are woken."""
    woken = rows.give_up(connection, list(kept), kept)
    wakes = [
        letters.letter(
            RunId(row.tenant_id, row.run_id),
            msg.Woke(at=codec.UNTIMED, step=row.key, again=True),
        )
        for row in woken
    ]
    if wakes:
        inbox.put(connection, wakes)
    return [RunId(row.tenant_id, row.run_id) for row in woken]
