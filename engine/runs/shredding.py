"""Shredding: users' data leaves an ended run, and its history still verifies.

History holds salted digests of payloads, never the data, and the salt goes with the data: what is
left can neither be read nor guessed. What of it had found its way into the variables goes, too:
they are folded anew from what is left. Blobs that nothing of the run names any more are let go of,
and collected like any other. What errors said, and who did what, is history itself and stays.
"""

from __future__ import annotations

from sqlalchemy import Connection

from engine.core.state import State
from engine.core.values import canonical
from engine.errors import Conflict
from engine.platform import Platform
from engine.runs import acts, views
from engine.store import acts as rows
from engine.store import session, shreds
from engine.store.ids import RunId

ACTION = "run.shred"


def shred(platform: Platform, run: RunId, *, step: str | None = None, by: str, why: str) -> int:
    """Remove the users' data of an ended run, or of one step of it; how many payloads.

    Doing it again finds nothing more. Raises `NotFound`, and `Conflict` for a run that has not
    ended or whose step cannot be taken out of the rest.
    """
    status = views.status(platform, run)
    if not status.terminal:
        raise Conflict(f"run {run.run} is {status.status}: only what has ended can be shredded")
    if step is not None:
        views.step(platform, run, step)
    with session.transaction(platform.database) as connection:
        count = shreds.shred(connection, run, step)
        shreds.keep(connection, run, canonical(_left(connection, run, step, status.seq)))
        shreds.release(connection, run)
        detail = {"step": step, "payloads": count}
        subject = subject_of(run)
        acts.record(
            connection, run.tenant, by=by, action=ACTION, subject=subject, why=why, detail=detail
        )
    return count


def untold(connection: Connection, run: RunId) -> int:
    """How many payloads of a run are shredded more than acts say."""
    acts_say = sum(
        int(row.detail["payloads"])
        for row in rows.of(connection, run.tenant, ACTION, subject_of(run))
    )
    return len(shreds.shredded(connection, run)) - acts_say


def subject_of(run: RunId) -> str:
    """How an act names a run."""
    return f"run:{run.run}"


def _left(connection: Connection, run: RunId, step: str | None, seq: int) -> object:
    """The variables as history tells them without what was shredded."""
    try:
        return views.fold(connection, run, State(run=run.run), after=0, upto=seq).variables
    except Exception as error:
        if step is None:
            # Decisions may rest on what is gone: where they do, nothing can be left of it.
            return {}
        raise Conflict(
            f"step {step} cannot be taken out of run {run.run} alone; shred the whole run"
        ) from error
