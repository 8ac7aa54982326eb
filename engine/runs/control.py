"""What people may do to a run: each is an event in its inbox, then a turn."""

from __future__ import annotations

from engine.core import codec
from engine.core import messages as msg
from engine.errors import Conflict
from engine.platform import Platform
from engine.runs import letters, turns, views
from engine.store import inbox, session
from engine.store.ids import RunId


def cancel(platform: Platform, run: RunId, *, by: str, reason: str = "") -> str:
    """Stop a run; its status afterwards.

    The turn is taken here, so that a cancel holds even while no coordinator and no broker
    can be reached. Once it has, no later result of the run is recorded; effects that are
    under way may still complete. Raises `NotFound`, and `Conflict` when the run has ended.
    """
    status = views.status(platform, run)
    if status.terminal:
        raise Conflict(f"run {run.run} has already ended: it is {status.status}")
    event = msg.CancelRequested(at=codec.UNTIMED, by=by, reason=reason)
    with session.transaction(platform.database) as connection:
        inbox.put(connection, [letters.letter(run, event)])
    # By force: a run that was set aside must be stoppable, too.
    turns.take_turns(platform, [run], force=True)
    return views.status(platform, run).status


def retry_stuck(platform: Platform, run: RunId) -> str:
    """Take the turn of a run that was set aside, now; its status afterwards."""
    turns.take_turns(platform, [run], force=True)
    return views.status(platform, run).status
