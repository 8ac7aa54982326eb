"""Doing to runs in memory what a test says that people and the outside do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from celeriac.testing import turns
from celeriac.testing.acts import (
    Act,
    Added,
    Answered,
    Cancelled,
    Completed,
    Paused,
    Resumed,
    RolledBack,
    Sent,
    Skipped,
)
from celeriac.testing.memory import Event, Memory, Run
from engine import asking, documents
from engine.asking import Said
from engine.core import codec, forking, rollback
from engine.core import messages as msg
from engine.core.fold import evolve
from engine.core.problem import Problem
from engine.core.state import State, Step
from engine.core.values import Inline, problems
from engine.errors import Conflict, Forbidden, Invalid


@dataclass(slots=True, kw_only=True)
class Planned:
    """An act that is still to be done."""

    act: Act
    #: When somebody was first found where it is to be done.
    since: datetime | None = None

    def due(self, memory: Memory) -> datetime | None:
        """When it is to be done; None: nobody is there yet."""
        if self.since is None or _there(memory, self.act) is None:
            self.since = None if _there(memory, self.act) is None else memory.clock.now()
        return None if self.since is None else self.since + timedelta(seconds=self.act.after)


def next_acts(memory: Memory, planned: Sequence[Planned]) -> Iterator[tuple[datetime, Planned]]:
    """The acts that may be done next, and when: of those at one place, the first."""
    places: set[str] = set()
    for one in planned:
        place = one.act.place
        if place is None or place not in places:
            due = one.due(memory)
            if due is not None:
                yield due, one
        if place is not None:
            places.add(place)


def do(memory: Memory, act: Act) -> None:
    """Do an act. Raises `Invalid`, `Forbidden` or `Conflict` where the platform would refuse it."""
    found = _there(memory, act)
    assert found is not None, "it was looked for"
    run, step = found
    match act:
        case Answered():
            assert step is not None
            _answer(memory, run, step, act)
        case Sent():
            _send(memory, run, act)
        case Added(items=items):
            assert step is not None
            if wrong := tuple(problems(list(items), path="items")):
                raise Invalid(wrong)
            added = msg.ItemsAdded(at=codec.UNTIMED, step=step.key, by=act.by, items=tuple(items))
            run.inbox.append(added)
        case Completed():
            assert step is not None
            run.inbox.append(msg.CompleteRequested(at=codec.UNTIMED, step=step.key, by=act.by))
        case Skipped(choice=choice):
            assert step is not None
            run.reported.add(step.key)
            skipped = msg.SkipRequested(at=codec.UNTIMED, step=step.key, by=act.by, choice=choice)
            run.inbox.append(skipped)
        case Cancelled(reason=reason, compensate=compensate):
            run.inbox.append(
                msg.CancelRequested(
                    at=codec.UNTIMED, by=act.by, reason=reason, compensate=compensate
                )
            )
        case Paused():
            run.inbox.append(msg.PauseRequested(at=codec.UNTIMED, by=act.by))
        case Resumed():
            run.inbox.append(msg.ResumeRequested(at=codec.UNTIMED, by=act.by))
        case RolledBack():
            run.inbox.append(_back(run, act))
        case _:
            raise TypeError(f"{act!r} is no act")


def _back(run: Run, act: RolledBack) -> msg.RollbackRequested:
    """What asks a run to go on from just after a step was settled."""
    if wrong := documents.edit_problems(run.graph, act.variables, (), path="variables"):
        raise Invalid(wrong, "the edited variables do not fit the workflow")
    place = State(run=run.id)
    for seq, entry in enumerate(run.history, start=1):
        place = evolve(place, entry.record)
        if not isinstance(entry.record, msg.TakeEdges) or entry.record.step != act.to:
            continue
        if why := forking.obstacle(place):
            raise Conflict(f"run {run.id} cannot go back to {act.to}: {why}")
        frame, overlays = forking.told(rollback.there(place, ()))
        return msg.RollbackRequested(
            at=codec.UNTIMED,
            by=act.by,
            seq=seq,
            edited=tuple(sorted(act.variables)),
            state=frame,
            variables={**place.variables, **act.variables},
            overlays=overlays,
        )
    raise Conflict(f"run {run.id} cannot go back to {act.to}: it was never settled")


def _there(memory: Memory, act: Act) -> tuple[Run, Step | None] | None:
    """The run that an act is done to, and the step; None where there is none now."""
    if act.at is None and act.place is None:
        run = next(iter(memory.runs.values()))
        anyway = isinstance(act, Sent) and not act.to_run
        return (run, None) if anyway or not run.state.terminal else None
    for run in memory.runs.values():
        if act.at is not None and run.live(act.at) is None:
            continue
        match act:
            case Answered(node=node):
                steps = [s for s in _steps(run, node) if s.key in run.waits and run.waiting(s)]
            case Added(node=node) | Completed(node=node):
                steps = [s for s in _steps(run, node) if s.key in run.state.maps]
            case Skipped(node=node):
                steps = [s for s in _steps(run, node) if s.key not in run.reported]
            case _:
                return run, run.live(act.at or "")
        if steps:
            return run, steps[0]
    return None


def _steps(run: Run, place: str) -> list[Step]:
    return [step for step in run.state.steps.values() if place in (step.node, step.key)]


def _answer(memory: Memory, run: Run, step: Step, answer: Answered) -> None:
    """Keep an answer, and settle the question if it makes the choice."""
    wait = run.waits[step.key]
    asks, every = wait.asks, run.said.setdefault((step.key, step.attempt), [])
    who = asking.asked_by_now(asks, (memory.clock.now() - wait.opened).total_seconds())
    barred = run.by if asking.four_eyes(wait.kind, asks) else None
    of = answer.by if answer.behalf is None else answer.behalf
    if barred in (answer.by, of):
        raise Forbidden(f"{barred} submitted run {run.id}: somebody else must answer")
    if not asking.is_asked(who, of, answer.roles):
        raise asking.not_asked(who, of)
    filled = asking.checked(asks, answer.choice, answer.form, answer.reason)
    if any(one.by == answer.by for one in every):
        raise Conflict(f"{answer.by} has answered {step.key} before; an answer stands")
    if used := next((one for one in every if one.of == of), None):
        raise Conflict(f"{used.by} has answered {step.key} for {of} before; an answer stands")
    every.append(Said(by=answer.by, of=of, choice=answer.choice or "", reason=answer.reason))
    verdict = asking.verdict(asks, who, every, barred=barred)
    if verdict is None:
        return
    by = tuple(f"user:{one.by}" for one in verdict.said)
    event: msg.WaitEnded | msg.WaitFailed
    if verdict.in_vain:
        event = msg.WaitFailed(
            at=codec.UNTIMED,
            step=step.key,
            attempt=step.attempt,
            by=by,
            reason="expired",
            message=asking.in_vain(step.node, verdict),
        )
    else:
        event = msg.WaitEnded(
            at=codec.UNTIMED,
            step=step.key,
            attempt=step.attempt,
            by=by,
            result=Inline(value=asking.result(asks, verdict, filled)),
            choice=verdict.choice,
        )
    run.end(step.key, step.attempt, event)


def _send(memory: Memory, run: Run, sent: Sent) -> None:
    """Keep an event, and bring it to whoever waits for it."""
    if wrong := tuple(problems(sent.payload, path="payload")):
        raise Invalid(wrong)
    if sent.to_run and run.state.terminal:
        raise Conflict(f"run {run.id} has ended and waits for nothing")
    event = Event(sent=sent, run=run.id if sent.to_run else None, number=memory.number())
    memory.events.append(event)
    turns.route(memory)
    if event.state == "refused":
        problem = Problem(path="payload", message=event.detail, remedy="send what the step expects")
        raise Invalid([problem], "the event does not fit")
    if sent.transient and event.state == "kept":
        event.state, event.detail = "dropped", "nobody waited for it"
