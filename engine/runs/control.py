"""What people may do to a run: each is an event in its inbox, then a turn."""

from __future__ import annotations

import time

from engine.core import codec, transitions
from engine.core import messages as msg
from engine.errors import Conflict, NotFound
from engine.platform import Platform
from engine.runs import abandonment, letters, turns, views
from engine.store import inbox, session
from engine.store.ids import RunId

#: How long an act waits for a turn that somebody else is just taking, and that takes its event.
_PATIENCE = 1.0
_GLANCE = 0.02


def cancel(platform: Platform, run: RunId, *, by: str, reason: str = "") -> str:
    """Stop a run; its status afterwards.

    The turn is taken here, so that a cancel holds even while no coordinator and no broker
    can be reached. Once it has, no later result of the run is recorded; effects that are
    under way may still complete. A run that was set aside, and whose turn fails for the cancel,
    too, is ended by force. Raises `NotFound`, and `Conflict` when the run has ended.
    """
    event = msg.CancelRequested(at=codec.UNTIMED, by=by, reason=reason)
    status = _tell(platform, run, event)
    if status not in transitions.TERMINAL and abandonment.abandon(platform, run):
        return views.status(platform, run).status
    return status


def pause(platform: Platform, run: RunId, *, by: str, reason: str = "") -> str:
    """Let nothing new of a run start; what is under way may finish, and is counted.

    Pausing a paused run changes nothing. Raises as `cancel` does.
    """
    return _tell(platform, run, msg.PauseRequested(at=codec.UNTIMED, by=by, reason=reason))


def resume(platform: Platform, run: RunId, *, by: str, reason: str = "") -> str:
    """Let a paused run go on exactly where it was. Raises as `cancel` does."""
    return _tell(platform, run, msg.ResumeRequested(at=codec.UNTIMED, by=by, reason=reason))


def skip(
    platform: Platform,
    run: RunId,
    step: str,
    *,
    by: str,
    reason: str = "",
    choice: str | None = None,
) -> str:
    """Let a live step count as done, with the choice that is given; whoever runs it loses it.

    Raises as `cancel` does, and `NotFound` when no such step is live.
    """
    live = {one.key for one in views.run(platform, run).steps}
    if step not in live and not views.status(platform, run).terminal:
        raise NotFound(f"run {run.run} has no live step {step}")
    event = msg.SkipRequested(
        at=codec.UNTIMED, step=msg.StepKey(step), by=by, reason=reason, choice=choice
    )
    return _tell(platform, run, event)


def retry_stuck(platform: Platform, run: RunId) -> str:
    """Take the turn of a run that was set aside, now; its status afterwards."""
    turns.take_turns(platform, [run], force=True)
    return views.status(platform, run).status


def _tell(platform: Platform, run: RunId, event: msg.AnyEvent) -> str:
    """Leave an event for a run and take its turn; its status once the event is folded."""
    status = views.status(platform, run)
    if status.terminal:
        raise Conflict(f"run {run.run} has already ended: it is {status.status}")
    with session.transaction(platform.database) as connection:
        inbox.put(connection, [letters.letter(run, event)])
    fold(platform, run)
    return views.status(platform, run).status


def fold(platform: Platform, run: RunId) -> None:
    """Take the turn of a run, so that what waits for it is folded.

    By force: a run that was set aside must be controllable, too. Where somebody else holds the
    run, its holder folds the event after its own turn: that is waited for, not for long.
    """
    turns.take_turns(platform, [run], force=True)
    deadline = time.monotonic() + _PATIENCE
    while _waits(platform, run) and time.monotonic() < deadline:
        time.sleep(_GLANCE)


def _waits(platform: Platform, run: RunId) -> bool:
    with session.transaction(platform.database) as connection:
        return bool(inbox.waiting(connection, [run]))
