"""The one port through which every start must pass.

The core asks for a start; a turn puts each of its requests to `admit`, in the transaction that
decides, and records the answer with the values it saw. It asks, in this order:

- a named lock, given to one thread at a time; who has to wait for it is woken when it is given up
  (`locks`). One that is given to a step which then may not start is given up with the turn;
- the rules of the tenant's policies (`guard`). What they say is an event of its own;
- the budgets (`budgets`): what the step may use is set aside, or it does not start.

Where a rule or a budget wants people asked, the step is parked: it waits without a worker, and
asks again for its start when they have allowed it. The run's own step budget the core counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from engine import waiting
from engine.core import messages as msg
from engine.core.permits import permit
from engine.core.records import replace
from engine.core.state import State, Step
from engine.core.values import Json, digest
from engine.guardrails.verdicts import Verdict
from engine.runs import budgets, guard
from engine.runs.budgets import Asking, Shortfall
from engine.runs.guard import Guard
from engine.store import ledger, locks
from engine.store.ids import RunId, StepId
from engine.store.waits import Wait

Answer = msg.Judged | msg.Admitted | msg.Refused | msg.Deferred | msg.Parked

#: Seconds after which whoever waits for a lock asks again, should nobody have woken it.
AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The answers to one request, and what the step waits for if it was parked."""

    events: tuple[Answer, ...]
    wait: Wait | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """A step that asks for its start, and what it has got so far."""

    guard: Guard
    run: RunId
    state: State
    step: Step
    now: datetime
    admitted: msg.Admitted
    #: What the rules said, if they were asked.
    judged: tuple[msg.Judged, ...] = ()
    #: Rules that want people asked.
    asking: tuple[Verdict, ...] = ()
    #: Budgets, by id, that people have allowed to be passed, for just this.
    allowed: frozenset[str] = field(default_factory=frozenset)


def admit(guarding: Guard, run: RunId, state: State, step: Step, *, now: datetime) -> Admission:
    """Answer the request of a step to start. Raises `Unopened` (`budgets.reserve`)."""
    locked = _lock(guarding, run, state, step, now)
    if not isinstance(locked, msg.Admitted) or guarding.governance.number == 0:
        return Admission(events=(locked,))
    request = _Request(guard=guarding, run=run, state=state, step=step, now=now, admitted=locked)
    judgement = guard.start(guarding, state, step, now)
    found = judgement.verdicts
    if found:
        found = guard.standing(found, step, "start", guard.of_start(guarding, state, step))
    if found:
        judgement = replace(judgement, verdicts=found)
        judged = guard.judged(
            step,
            "start",
            judgement,
            state.memory,
            at=now,
            rules=len(guarding.governance.bound["start"]),
        )
        request = replace(request, judged=(judged,))
    strongest = guard.decisive(found)
    match strongest.action if strongest else "":
        case guard.ABORT:
            return Admission(events=request.judged)
        case guard.REJECT | guard.MODIFY:
            assert strongest is not None
            return _refused(request, strongest.id, strongest.message)
        case guard.ASK:
            asking = tuple(one for one in found if one.action == guard.ASK)
            return _charged(replace(request, asking=asking))
        case _:
            return _charged(request)


def _lock(
    guarding: Guard, run: RunId, state: State, step: Step, now: datetime
) -> msg.Admitted | msg.Refused | msg.Deferred:
    """Give the step its lock, if it names one and nobody else has it."""
    node = guarding.graph.node(step.node)
    if node.lock is None:
        return msg.Admitted(at=now, step=step.key)
    try:
        name = waiting.lock_name(run.run, node, node.lock, waiting.scope_of(state, step))
    except waiting.Unfit as unfit:
        return msg.Refused(at=now, step=step.key, rule="lock", message=unfit.message)
    if any(held == name for held, _ in step.holds):
        return msg.Admitted(at=now, step=step.key)
    if locks.take(guarding.connection, run, name):
        return msg.Admitted(at=now, step=step.key, lock=name, kept_until=node.lock.until)
    return msg.Deferred(
        at=now,
        step=step.key,
        rule=f"lock {name.partition(':')[2]} is held",
        until=now + timedelta(seconds=AGAIN_SECONDS),
        lock=name,
    )


def _charged(request: _Request) -> Admission:
    """Set aside what the step may use, unless people have to be asked first."""
    step, wanted = request.step, _asking(request)
    found = None if request.asking else _reserve(request, wanted)
    if not request.asking and found is None:
        return _admitted(request, _notes(request, wanted))
    bound = guard.of_start(request.guard, request.state, step)
    what = digest(bound)
    short: list[Shortfall] = []
    while found is not None and found.then == "ask":
        if permit("start", found.id, what) not in step.permits:
            short.append(found)
        request = replace(request, allowed=request.allowed | {found.id})
        if short:
            break
        wanted = replace(wanted, allowed=request.allowed)
        found = _reserve(request, wanted)
    if found is not None and found.then != "ask":
        return _short(request, found)
    if not request.asking and not short:
        return _admitted(request, _notes(request, wanted))
    asked = guard.question(
        "start",
        [
            *((one.id, one) for one in request.asking),
            *((one.id, one.verdict) for one in short),
        ],
        bound,
        title=f"Start {request.guard.graph.node(step.node).title or step.node}?",
        now=request.now,
    )
    parked = msg.Parked(at=request.now, step=step.key, permits=asked.permits, until=asked.until)
    told = _told(request, [one.verdict for one in short])
    return Admission(events=(*told, parked), wait=guard.wait(StepId(*request.run, step.key), asked))


def _short(request: _Request, short: Shortfall) -> Admission:
    """A budget has no room: the step is refused, or the run is paused and the step asks again."""
    if short.then == "deny":
        request = replace(request, judged=_told(request, [short.verdict]))
        return _refused(request, short.id, short.verdict.message)
    deferred = msg.Deferred(
        at=request.now,
        step=request.step.key,
        rule=f"budget {short.id}",
        until=request.now + timedelta(seconds=AGAIN_SECONDS),
    )
    return Admission(events=(*_told(request, [short.verdict]), deferred))


def _admitted(request: _Request, notes: Sequence[msg.Verdict]) -> Admission:
    governance = request.guard.governance
    saw: dict[str, Json] = {
        "policies": governance.number,
        "rules": len(governance.bound.get("start", ())),
    }
    if request.allowed:
        saw["allowed"] = list[Json](sorted(request.allowed))
    told = _told(request, notes) if notes else request.judged
    node = request.guard.graph.node(request.step.node)
    if node.wait is not None and governance.number:
        # No attempt of it will be reported: that it is begun is all that it uses.
        ledger.settle(
            request.guard.connection,
            StepId(*request.run, request.step.key),
            request.step.attempt,
            0,
            used={name: 1 for name in (budgets.STEPS,) if not request.step.errors},
        )
    return Admission(events=(*told, replace(request.admitted, saw=saw)))


def _refused(request: _Request, rule: str, message: str) -> Admission:
    refused = msg.Refused(at=request.now, step=request.step.key, rule=rule, message=message)
    return Admission(events=(*request.judged, refused))


def _told(request: _Request, more: Sequence[msg.Verdict]) -> tuple[msg.Judged, ...]:
    """What was said of the step, budgets included, as one event."""
    if not more:
        return request.judged
    known = request.judged[0] if request.judged else None
    judged = known or msg.Judged(
        at=request.now,
        step=request.step.key,
        attempt=request.step.attempt,
        moment="start",
        rules=len(request.guard.governance.bound.get("start", ())),
    )
    return (replace(judged, verdicts=(*judged.verdicts, *more)),)


def _reserve(request: _Request, wanted: Asking) -> Shortfall | None:
    guarding = request.guard
    return budgets.reserve(guarding.connection, guarding.governance, guarding.charged, wanted)


def _notes(request: _Request, wanted: Asking) -> Sequence[msg.Verdict]:
    guarding = request.guard
    return budgets.notes(guarding.connection, guarding.governance, guarding.charged, wanted)


def _asking(request: _Request) -> Asking:
    step = request.step
    node = request.guard.graph.node(step.node)
    undoes = step.of is not None and step.index is None
    # It has had attempts that neither failed nor were lost.
    gave_way = step.attempt - 1 > step.errors + step.lost
    amounts = {name: Decimal(str(amount)) for name, amount in node.estimate.items()}
    if not step.errors + step.lost:
        # It is one step however often it is begun; one that gave way to people was not yet.
        amounts[budgets.STEPS] = Decimal(1)
    return Asking(
        step=StepId(*request.run, step.key),
        attempt=step.attempt,
        ordinal=0,
        node=step.node,
        at=request.now,
        amounts=amounts,
        # Nothing of what waits runs, and what a tool costs is set aside at its call. Nor is a step
        # that goes on kept from hearing what it was told before.
        known=node.wait is not None or node.calls or gave_way,
        allowed=request.allowed,
        unasked=undoes,
        exceed=undoes,
    )
