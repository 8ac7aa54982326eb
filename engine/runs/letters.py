"""Events on their way into a run's inbox."""

from __future__ import annotations

from engine.core import codec
from engine.core import messages as msg
from engine.store.ids import RunId
from engine.store.inbox import Letter


def letter(run: RunId, event: msg.AnyEvent) -> Letter:
    """An event without users' data, addressed to a run."""
    sealed = codec.seal(event)
    return Letter(run=run, kind=sealed.kind, format=codec.FORMAT, body=sealed.body)
