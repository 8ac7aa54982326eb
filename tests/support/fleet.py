"""Real processes of a fleet, started again whenever they die, as a supervisor would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.platform import Platform
from engine.runs import views
from engine.settings import Settings
from engine.store import session
from engine.store.ids import RunId
from tests.support.services import ROOT

_SECONDS = 0.05


class Fleet:
    """Named processes; `kill` ends one as nothing else can."""

    def __init__(self, settings: Settings, names: Sequence[str], folder: Path) -> None:
        self._environment = {
            **os.environ,
            **settings.to_environment(),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "",
        }
        self._folder = folder
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.deaths: Counter[str] = Counter()
        #: The processes that died, oldest first.
        self.dead: list[int] = []
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in names:
            self._start(name)
        self._tender = threading.Thread(target=self._tend, daemon=True)
        self._tender.start()

    def pid(self, name: str) -> int:
        with self._lock:
            return self._processes[name].pid

    def kill(self, name: str) -> None:
        """`kill -9`."""
        os.kill(self.pid(name), signal.SIGKILL)

    def kill_whole(self, name: str) -> None:
        """`kill -9` of a worker and of all that runs user code for it, itself first.

        Else it would still tell that its children were killed.
        """
        zygotes = _children(self.pid(name))
        family = [*zygotes, *(child for zygote in zygotes for child in _children(zygote))]
        self.kill(name)
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_children(self, name: str) -> int:
        """`kill -9` of every process that runs user code for a worker; how many there were."""
        zygotes = _children(self.pid(name))
        executions = [child for zygote in zygotes for child in _children(zygote)]
        for pid in executions:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return len(executions)

    def kill_forks(self, name: str) -> int:
        """`kill -9` of the processes that a process has made; how many there were."""
        forks = self.forks(name)
        for pid in forks:
            os.kill(pid, signal.SIGKILL)
        return len(forks)

    def forks(self, name: str) -> list[int]:
        """The processes that a process has made."""
        return _children(self.pid(name))

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    def close(self) -> None:
        self._closed.set()
        self._tender.join()
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()

    def _tend(self) -> None:
        while not self._closed.wait(_SECONDS):
            with self._lock:
                dead = {n: one for n, one in self._processes.items() if one.poll() is not None}
            for name, process in dead.items():
                self.deaths[name] += 1
                self.dead.append(process.pid)
                self._start(name)

    def _start(self, name: str) -> None:
        kind = name.rstrip("0123456789")
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "celeriac", kind],
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        with self._lock:
            self._processes[name] = process


@contextmanager
def fleet(settings: Settings, names: Sequence[str], folder: Path) -> Iterator[Fleet]:
    """Processes for the length of a block."""
    started = Fleet(settings, names, folder)
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


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in thread.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
