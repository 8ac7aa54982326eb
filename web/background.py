"""Messages that a request causes go out behind its back: no request waits for a broker.

A cancel takes its turn within the request, so that it holds while nothing but the database
can be reached. What such a turn would send afterwards is handed to one thread here. What does
not fit into its queue, because a broker is mute, is the sweeper's.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from engine.broker import Broker, Hint
from engine.platform import Platform
from engine.store.ids import RunId

_WAITING = 10_000
#: How long a process that ends waits for what is still to be sent.
_LAST_SECONDS = 2.0

_log = structlog.get_logger(__name__)


class Errands:
    """One thread that runs errands in the order they were given."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(maxsize=_WAITING)
        self._thread = threading.Thread(target=self._work, name="errands", daemon=True)
        self._thread.start()

    def give(self, errand: Callable[[], None]) -> None:
        """Have something done soon; returns at once."""
        try:
            self._waiting.put_nowait(errand)
        except queue.Full:
            _log.warning("errands.full")

    def close(self) -> None:
        """Finish what was given, within reason."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(timeout=_LAST_SECONDS)

    def _work(self) -> None:
        while (errand := self._waiting.get()) is not None:
            try:
                errand()
            except Exception:  # noqa: BLE001  # whatever it is
                # One that cannot be sent must not keep the others from it.
                _log.exception("errand.failed")


def behind(platform: Platform, errands: Errands) -> Platform:
    """The same platform, whose messages go out in the background."""
    return replace(
        platform,
        broker=_Broker(app=platform.broker.app, inner=platform.broker, errands=errands),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Broker(Broker):
    inner: Broker
    errands: Errands

    def send(self, hints: Sequence[Hint]) -> None:
        if hints:
            self.errands.give(lambda: self.inner.send(hints))

    def nudge(self, runs: Sequence[RunId]) -> None:
        if runs:
            self.errands.give(lambda: self.inner.nudge(runs))
