"""What people may do to a run: each is an event in its inbox, then a turn."""

from __future__ import annotations

import time

from engine.core import codec
from engine.core import messages as msg
from engine.errors import Conflict
from engine.platform import Platform
from engine.runs import letters, turns, views
from engine.store import inbox, session
from engine.store.ids import RunId

#: How long a cancel waits for a turn that somebody else is just taking, and takes the event.
_PATIENCE = 1.0
_GLANCE = 0.02


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
    deadline = time.monotonic() + _PATIENCE
    while not (found := views.status(platform, run)).terminal and time.monotonic() < deadline:
        time.sleep(_GLANCE)
    return found.status


def retry_stuck(platform: Platform, run: RunId) -> str:
    """Take the turn of a run that was set aside, now; its status afterwards."""
    turns.take_turns(platform, [run], force=True)
    return views.status(platform, run).status
