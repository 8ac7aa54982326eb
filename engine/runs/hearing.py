"""What a turn hears: what waited in a run's inbox, with what the policies say of it.

A report is judged before it is folded, so nothing can follow from it unjudged. One that people must
accept first is withheld: it lies beside the step that waits for them, and is heard again behind their
answer. What it used was counted the first time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import orjson

from engine.core import codec
from engine.core import messages as msg
from engine.core.state import PERMIT, State
from engine.core.values import Json, canonical
from engine.runs import guard
from engine.runs.guard import Guard
from engine.store import payloads, waits
from engine.store.ids import StepId
from engine.store.waits import Wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """An event as it was received: what is folded, and the texts that history keeps of it."""

    event: msg.AnyEvent
    kind: str
    format: int
    body: str
    payload_id: str | None

    def stored(self) -> dict[str, Json]:
        """What is kept of it while people make up their minds."""
        return {
            "kind": self.kind,
            "format": self.format,
            "body": self.body,
            "payload_id": self.payload_id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a turn folds: what was received, with what was said of it, in its order."""

    events: tuple[msg.AnyEvent, ...]
    letters: tuple[Letter, ...]
    waits: tuple[Wait, ...] = ()


def hear(guarding: Guard, before: State, letters: Sequence[Letter]) -> Heard:
    """Have the policies judge what was reported, before anything follows from it."""
    number = guarding.governance.number
    received = [one for letter in letters for one in _with_withheld(guarding, before, letter)]
    fresh = {id(letter.event) for letter in letters}
    events: list[msg.AnyEvent] = []
    waiting: list[Wait] = []
    memory = before.memory
    for letter in received:
        event = letter.event
        if (
            number != before.governed
            and not events
            and not isinstance(event, msg.RunSubmitted | msg.Forked)
        ):
            events.append(msg.Governed(at=event.at, number=number))
        if isinstance(event, msg.AttemptSuspended) and event.permits:
            step = StepId(*guarding.charged.run, event.step)
            waiting.append(Wait(step=step, kind=PERMIT, asks=canonical(dict(event.asks))))
        said = guard.hear(guarding, before, event, memory) if number else None
        if isinstance(event, msg.AttemptSucceeded) and id(event) not in fresh:
            # What it used was counted when it was withheld.
            event = replace(event, usage={})
        if said is None:
            events.append(event)
        else:
            if said.judged.verdicts or said.judged.memory is not None:
                events.append(said.judged)
            memory = memory if said.judged.memory is None else said.judged.memory
            if said.question is None:
                events.append(event)
            else:
                assert isinstance(event, msg.AttemptSucceeded)
                withheld, wait = guard.withhold(guarding, said, event, letter.stored())
                events.append(withheld)
                waiting.append(wait)
        if number != before.governed and isinstance(event, msg.RunSubmitted | msg.Forked):
            events.append(msg.Governed(at=event.at, number=number))
    return Heard(events=tuple(events), letters=tuple(letters), waits=tuple(waiting))


def _with_withheld(guarding: Guard, before: State, letter: Letter) -> Iterator[Letter]:
    """A letter, and the report after it that people have let count with it."""
    yield letter
    event = letter.event
    if not isinstance(event, msg.WaitEnded) or event.choice != "approve":
        return
    step = before.steps.get(event.step)
    if step is None or not guard.is_withheld(step):
        return
    stored = waits.asks(guarding.connection, StepId(*guarding.charged.run, event.step))["letter"]
    named = [(guarding.charged.run, stored["payload_id"])]
    payload = payloads.get(guarding.connection, named)[0].body
    yield Letter(
        event=codec.read(  # type: ignore[arg-type]  # it came as an event
            stored["kind"],
            orjson.loads(stored["body"]),
            orjson.loads(payload),
            at=event.at,
            number=stored["format"],
        ),
        kind=stored["kind"],
        format=stored["format"],
        body=stored["body"],
        payload_id=stored["payload_id"],
    )
