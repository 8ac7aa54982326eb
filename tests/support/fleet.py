"""Real processes of a fleet, started again whenever they die, as a supervisor would."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from celeriac.drill.fleet import Fleet
from engine.platform import Platform
from engine.runs import views
from engine.settings import Settings
from engine.store import session
from engine.store.ids import RunId
from tests.support import nursery
from tests.support.services import ROOT

_SECONDS = 0.05


@contextmanager
def fleet(settings: Settings, names: Sequence[str], folder: Path) -> Iterator[Fleet]:
    """Processes for the length of a block."""
    environment = {
        **os.environ,
        **settings.to_environment(),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "",
    }
    started = Fleet(environment, names, folder, spawn=nursery.spawn)
    try:
        yield started
    finally:
        started.close()


def wait_until(holds: Callable[[], bool], *, seconds: float = 60, what: str = "") -> None:
    """Wait for something that only other processes can bring about; fail when they do not."""
    tick = threading.Event()
    for _ in range(int(seconds / _SECONDS)):
        if holds():
            return
        tick.wait(_SECONDS)
    raise AssertionError(f"waited {seconds} s in vain: {what}")


def wait_for_end(platform: Platform, runs: Sequence[RunId], *, seconds: float = 60) -> None:
    """Wait until runs have ended, however they end."""
    going = list(runs)

    def ended() -> bool:
        # Tests restart the database: then a client asks again.
        going[:] = [run for run in going if not _terminal(platform, run)]
        return not going

    wait_until(ended, seconds=seconds, what=f"{len(going)} of {len(runs)} runs to end")


def _terminal(platform: Platform, run: RunId) -> bool:
    return session.insist(lambda: views.status(platform, run).terminal, seconds=30)


def witnessed(path: Path) -> Mapping[tuple[str, str, int], list[int]]:
    """What ran: (run, node, iteration) to its attempts, in the order in which they ran."""
    seen: dict[tuple[str, str, int], list[int]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        run, node, iteration, attempt = line.split()
        seen.setdefault((run, node, int(iteration)), []).append(int(attempt))
    return seen
