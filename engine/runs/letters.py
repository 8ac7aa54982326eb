"""Events on their way into a run's inbox."""

from __future__ import annotations

from dataclasses import dataclass

from engine.core import codec
from engine.core import messages as msg
from engine.runs.identity import new_salt
from engine.store.ids import RunId
from engine.store.inbox import Letter
from engine.store.payloads import Payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """An event with users' data, and the row that this lies in."""

    letter: Letter
    payload: Payload


def sealed(run: RunId, event: msg.AnyEvent, name: str) -> Sealed:
    """An event with users' data, addressed to a run; `name` is that of its payload there."""
    found = codec.seal(event, salted=new_salt)
    assert found.payload is not None
    return Sealed(
        letter=Letter(
            run=run, kind=found.kind, format=codec.FORMAT, body=found.body, payload_id=name
        ),
        payload=Payload(run=run, name=name, salt=found.salt, body=found.payload),
    )


def letter(run: RunId, event: msg.AnyEvent) -> Letter:
    """An event without users' data, addressed to a run."""
    sealed = codec.seal(event)
    return Letter(run=run, kind=sealed.kind, format=codec.FORMAT, body=sealed.body)


def ticked(run: RunId) -> Letter:
    """The news for a run that it is to be looked at."""
    return letter(run, msg.Ticked(at=codec.UNTIMED))
