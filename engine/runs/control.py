"""What people may do to a run: each is an event in its inbox, then a turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Connection

from engine.core import codec, transitions
from engine.core import messages as msg
from engine.core.graph import Graph, NodeId, Role
from engine.core.problem import Problem
from engine.core.values import canonical
from engine.errors import Conflict, Invalid, NotFound
from engine.platform import Platform
from engine.runs import abandonment, acts, graphs, ledgers, letters, turns, views
from engine.store import inbox, ledger, results, session, steps
from engine.store.ids import RunId, StepId

#: How long an act waits for a turn that somebody else is just taking, and that takes its event.
_PATIENCE = 1.0
_GLANCE = 0.02

#: Where a step is when an attempt of it can be begun anew.
_RETRIED = frozenset({"ready", "held", "leased", "reported", "deferred", "retrying"})


def cancel(
    platform: Platform, run: RunId, *, by: str, reason: str = "", compensate: bool = False
) -> str:
    """Stop a run; its status afterwards.

    `compensate`: what it has done is undone first, last things first, by the handlers of its
    nodes; until they have ended it is still running.

    The turn is taken here, so that a cancel holds even while no coordinator and no broker
    can be reached. Once it has, no later result of the run is recorded; effects that are
    under way may still complete. A run that was set aside, and whose turn fails for the cancel,
    too, is ended by force. Raises `NotFound`, and `Conflict` when the run has ended.
    """
    event = msg.CancelRequested(at=codec.UNTIMED, by=by, reason=reason, compensate=compensate)
    return _stop(platform, run, event)


def terminate(platform: Platform, run: RunId, *, by: str, reason: str = "") -> str:
    """End a run as it stands, with the reason `terminated`; its status afterwards.

    As at once as `cancel`, and never followed by anything that undoes what the run has done.
    Raises as `cancel` does.
    """
    return _stop(platform, run, msg.TerminateRequested(at=codec.UNTIMED, by=by, reason=reason))


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
    choice: msg.Choice = None,
) -> str:
    """Let a live step count as done, with the choice that is given; whoever runs it loses it.

    Raises as `cancel` does, `NotFound` when no such step is live, and `Invalid` when none of the
    edges of its node answers to the choice.
    """
    _check_live(platform, run)
    found = views.run(platform, run)
    node = next((one.node for one in found.steps if one.key == step), None)
    if node is None:
        raise _not_live(run, step)
    with session.transaction(platform.database) as connection:
        graph = graphs.load(connection, run.tenant, found.version_id)
    event = msg.SkipRequested(
        at=codec.UNTIMED,
        step=msg.StepKey(step),
        by=by,
        reason=reason,
        choice=chosen(graph, NodeId(node), choice),
    )
    return _tell(platform, run, event)


def retry(platform: Platform, run: RunId, step: str, *, by: str, reason: str = "") -> str:
    """Begin a live step anew, now; the status of its run afterwards.

    What waits for its next attempt starts at once. An attempt that is under way is taken away
    from its worker and recorded as lost by hand; it does not count against the step's retries.
    Its worker learns of it with its next heartbeat: until then it may go on beside the new one,
    and what it does outside may happen although nothing of it is counted.
    While the run is paused the new attempt is held. Raises as `cancel` does, and `NotFound` when
    no such step is live.
    """
    _check_live(platform, run)

    def take_away(connection: Connection) -> None:
        place = StepId(*run, step)
        ledger.share(connection, [run])
        found = steps.take_away(connection, place)
        if found is None:
            raise _not_live(run, step)
        if found.was not in _RETRIED:
            raise Conflict(
                f"step {step} of run {run.run} is {found.was}: it has no attempt to retry"
            )
        charged: Mapping[str, float] = {}
        if found.begun:
            why = f"{by} had it begun anew" + (f": {reason}" if reason else "")
            lost = ledgers.Lost(step=place, attempt=found.attempt, told=found.used, anew=True)
            charged = ledgers.lose(connection, [lost]).get(place, {})
            usage = canonical(dict(charged))
            results.take_away(
                connection, place, found.attempt, found.fence, message=why, usage=usage
            )
        event = msg.RetryRequested(
            at=codec.UNTIMED,
            step=msg.StepKey(step),
            by=by,
            reason=reason,
            attempt=found.attempt if found.begun else None,
            usage=charged,
        )
        inbox.put(connection, [letters.letter(run, event)])

    return _follow(platform, run, take_away)


def retry_stuck(platform: Platform, run: RunId, *, by: str) -> str:
    """Take the turn of a run that was set aside, now; its status afterwards."""
    with session.transaction(platform.database) as connection:
        record_retry(connection, run, by=by)
    turns.take_turns(platform, [run], force=True)
    return views.status(platform, run).status


def record_retry(connection: Connection, run: RunId, *, by: str, reason: str = "") -> None:
    """Keep who had a stuck run tried again: it is no event of the run."""
    subject = f"run:{run.run}"
    acts.record(connection, run.tenant, by=by, action="run.retry", subject=subject, why=reason)


def tell(platform: Platform, runs: Sequence[tuple[RunId, msg.AnyEvent]]) -> frozenset[RunId]:
    """Leave events for runs and take their turns; the runs whose event is still not folded.

    By force: a run that was set aside must be controllable, too. Where somebody else holds a
    run, its holder folds the event after its own turn: that is waited for, not for long.
    """
    with session.transaction(platform.database) as connection:
        inbox.put(connection, [letters.letter(run, event) for run, event in runs])
    return _turned(platform, [run for run, _ in runs])


def fold(platform: Platform, run: RunId) -> None:
    """Take the turn of a run, so that what waits for it is folded; see `tell`."""
    _turned(platform, [run])


def _stop(
    platform: Platform, run: RunId, event: msg.CancelRequested | msg.TerminateRequested
) -> str:
    """Tell a run to stop; one whose turns fail again and again is ended without a turn."""
    status = _tell(platform, run, event)
    if status not in transitions.TERMINAL and abandonment.abandon(platform, run):
        return views.status(platform, run).status
    return status


def _tell(platform: Platform, run: RunId, event: msg.AnyEvent) -> str:
    """Leave an event for a run; its status once the event is folded."""
    _check_live(platform, run)
    return _follow(platform, run, lambda c: inbox.put(c, [letters.letter(run, event)]))


def _follow(platform: Platform, run: RunId, act: Callable[[Connection], None]) -> str:
    """Act on a run in a transaction, and take the turn that follows; its status after that."""
    with session.transaction(platform.database) as connection:
        act(connection)
    _turned(platform, [run])
    return views.status(platform, run).status


def _turned(platform: Platform, runs: Sequence[RunId]) -> frozenset[RunId]:
    turns.take_turns(platform, runs, force=True)
    deadline = time.monotonic() + _PATIENCE
    while (waiting := _waiting(platform, runs)) and time.monotonic() < deadline:
        time.sleep(_GLANCE)
    return frozenset(waiting)


def _waiting(platform: Platform, runs: Sequence[RunId]) -> tuple[RunId, ...]:
    with session.transaction(platform.database) as connection:
        return inbox.waiting(connection, runs)


def _check_live(platform: Platform, run: RunId) -> None:
    status = views.status(platform, run)
    if status.terminal:
        raise Conflict(f"run {run.run} has already ended: it is {status.status}")


def _not_live(run: RunId, step: str) -> NotFound:
    return NotFound(f"run {run.run} has no live step {step}")


def chosen(graph: Graph, node: NodeId, choice: msg.Choice) -> msg.Choice:
    """A choice that the node can make: of a plan, always a list of names. Raises `Invalid`."""
    if choice is None:
        return None
    # An item of a map, and what undoes a step, stand at no node that has edges.
    known = node in graph.nodes
    if known and isinstance(choice, str) and graph.nodes[node].role is Role.PLAN:
        choice = (choice,)
    if not known or graph.answering(node, choice) is None:
        raise Invalid(
            [
                Problem(
                    path="choice",
                    message=f"none of the edges of node {node} answers to {choice!r}",
                    remedy="name the label or the target of one, or leave it out",
                )
            ]
        )
    return choice
