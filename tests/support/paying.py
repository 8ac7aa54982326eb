"""A run that has ended, and has paid once; what it paid can be refunded."""

from __future__ import annotations

from collections.abc import Sequence

from engine.core.values import Json
from engine.platform import Platform
from engine.runs import calls, compensations, turns
from engine.runs.attempts import Failed, Leased
from engine.store.ids import RunId
from tests.support.platforms import LINE, finish, publish, register, submit, take

REFUND: Json = {"tool": "refund", "with": {"charge": "$result"}}


def paid(control: Platform, worker: Platform) -> RunId:
    """It, with its call `b#1.1` of pay."""
    run, lease = underway(control, worker)
    finish(control, worker, lease)
    return run


def underway(control: Platform, worker: Platform) -> tuple[RunId, Leased]:
    """The same, while that step is not over, and the step."""
    run = submitted(control, worker)
    lease = take(worker, run, "b#1")
    pay(worker, lease, 1)
    return run, lease


def submitted(control: Platform, worker: Platform) -> RunId:
    """The same, before that step."""
    register(control, "noop")
    register(control, "refund", namespace="tool", effect="at_most_once")
    register(control, "pay", namespace="tool", effect="compensable", undo=REFUND)
    run = submit(control, publish(control, dict(LINE)))
    finish(control, worker, take(worker, run, "a#1"))
    return run


def pay(worker: Platform, lease: Leased, ordinal: int) -> None:
    """A call of pay, whose result is `c-ORDINAL`."""
    asked = calls.authorise(worker, lease, ordinal, "pay", {"args": [], "kwargs": {}})
    assert isinstance(asked, calls.Authorised)
    calls.settle(worker, lease, asked, calls.Answer(value=f"c-{ordinal}", usage={}))


def in_doubt(control: Platform, worker: Platform) -> RunId:
    """A run that has ended, of whose call `b#1.1` nobody knows whether it was undone."""
    run = paid(control, worker)
    refuse(control, worker, compensations.undo(control, run, ["b#1.1"], by="ada").run)
    return run


def refuse(control: Platform, worker: Platform, undoing: RunId) -> None:
    """Let a run that undoes what one has paid fail, so that nobody knows whether it did."""
    turns.take_turns(control, [undoing])
    lease = take(worker, undoing, "undo#1.0")
    given = {"args": [], "kwargs": {"charge": "c-1"}}
    asked = calls.authorise(worker, lease, 1, "refund", given)
    assert isinstance(asked, calls.Authorised)
    calls.settle(worker, lease, asked, calls.Answer(reason="error", message="no", usage={}))
    finish(control, worker, lease, Failed(reason="error", message="no", terminal=True))


def refund(
    control: Platform, worker: Platform, undoing: RunId, *, charges: Sequence[str] = ("c-1",)
) -> None:
    """Carry out, to its end, a run that undoes what one has paid."""
    turns.take_turns(control, [undoing])
    for place, charge in enumerate(charges):
        lease = take(worker, undoing, f"undo#1.{place}")
        given = {"args": [], "kwargs": {"charge": charge}}
        asked = calls.authorise(worker, lease, 1, "refund", given)
        assert isinstance(asked, calls.Authorised)
        calls.settle(worker, lease, asked, calls.Answer(value="ok", usage={}))
        finish(control, worker, lease)
    finish(control, worker, take(worker, undoing, "undo#1"))
