"""Keeping the leases of a worker, and telling executions when theirs is gone.

One thread for all executions of a process. It looks every second whether each lease still
holds, so that a cancelled step is stopped within two looks, and extends them well before
they end, or as soon as something was used: what is known of that is charged should it be lost. A worker that cannot reach the database stops its executions before their leases
run out: from then on somebody else may own the steps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from engine.errors import Unavailable
from engine.platform import Platform
from engine.runs import attempts
from engine.store.steps import Held
from workers.kinds.execution import Execution

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Kept:
    execution: Execution
    #: What was said the last time that the attempt had used.
    told: Mapping[str, float]
    #: Monotonic seconds: when the lease was last known to be ours in full.
    renewed: float

    @property
    def held(self) -> Held:
        return self.execution.lease.held


class Keeper:
    """Keeps leases from `start` to `close`."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._seconds = platform.settings.lease_seconds
        self._look = min(1.0, self._seconds / 6)
        self._kept: dict[Held, _Kept] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="keeper", daemon=True)
        # Apart from the thread that asks the database, which may wait for it without end.
        self._guard = threading.Thread(target=self._watch, name="keeper guard", daemon=True)

    def start(self) -> None:
        """Begin to look after leases."""
        self._thread.start()
        self._guard.start()

    @property
    def kept(self) -> frozenset[Held]:
        """The leases of the executions under way."""
        with self._lock:
            return frozenset(self._kept)

    def close(self) -> None:
        """Stop; executions under way lose their keeper."""
        self._closed.set()
        self._guard.join()
        self._thread.join(timeout=self._seconds)

    @contextmanager
    def keeping(self, execution: Execution, *, since: float) -> Iterator[None]:
        """Keep the lease of an execution, taken at `since` (monotonic), while the block runs."""
        held = execution.lease.held
        with self._lock:
            self._kept[held] = _Kept(execution, {}, since)
        try:
            yield
        finally:
            with self._lock:
                del self._kept[held]

    def _work(self) -> None:
        while not self._closed.wait(self._look):
            with self._lock:
                kept = list(self._kept.values())
            if not kept:
                continue
            try:
                self._check(kept)
            except Unavailable as error:
                _log.warning("keeper.database", error=str(error))
            except Exception:  # noqa: BLE001  # leases that nobody keeps would all be lost
                _log.exception("keeper.defect")

    def _watch(self) -> None:
        while not self._closed.wait(self._look / 2):
            with self._lock:
                kept = list(self._kept.values())
            self._give_up(kept)

    def _check(self, kept: list[_Kept]) -> None:
        now = time.monotonic()
        told = {one.held: one.execution.known for one in kept}
        due = [
            one
            for one in kept
            if now - one.renewed >= self._seconds / 3 or told[one.held] is not one.told
        ]
        waiting = [one for one in kept if one not in due]
        ours: frozenset[Held] = frozenset()
        if due:
            ours = attempts.beat(self._platform, [one.held for one in due], told)
        for one in due:
            if one.held in ours:
                one.renewed, one.told = now, told[one.held]
        if waiting:
            ours |= attempts.held(self._platform, [one.held for one in waiting])
        for one in kept:
            if one.held not in ours:
                one.execution.stopped.set()
            one.execution.log.flush()

    def _give_up(self, kept: list[_Kept]) -> None:
        """Stop executions whose lease may end before the next look."""
        margin = 2 * self._look
        for one in kept:
            if time.monotonic() - one.renewed > self._seconds - margin:
                step = one.execution.lease.step
                _log.error("keeper.gave_up", run=step.run, step=step.key)
                one.execution.stopped.set()
