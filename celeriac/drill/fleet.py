"""Real processes of a fleet, started again whenever they end, as a supervisor would.

Every one is in a session of its own and ends with this process, however that ends; what runs user
code for a worker ends with the worker.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from celeriac.embedded import processes
from celeriac.embedded.processes import Running

#: From the name of a process, such as `worker2`, to what is typed to start it.
Command = Callable[[str], Sequence[str]]

_LOOK = 0.05


def kind_of(name: str) -> str:
    """What a process is, by its name: `worker` for `worker2`."""
    return name.rstrip("0123456789")


def plain(name: str) -> Sequence[str]:
    """As a person would start it; the working folder must not shadow our packages."""
    return [sys.executable, "-P", "-m", "celeriac", kind_of(name)]


class Fleet:
    """Named processes; `kill` ends one as nothing else can."""

    def __init__(
        self,
        environment: Mapping[str, str],
        names: Sequence[str],
        folder: Path,
        *,
        command: Command = plain,
        besides: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        spawn: Callable[..., Running] = processes.spawn,
    ) -> None:
        """`besides`: what is set in the environment of single processes, by their names.

        `spawn`: another way to start them, that is called as `processes.spawn` is.
        """
        self._spawn = spawn
        self._environment = environment
        self._besides = besides
        self._folder = folder
        self._command = command
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.names = tuple(names)
        self.deaths: Counter[str] = Counter()
        #: The processes that died, oldest first.
        self.dead: list[int] = []
        #: How each of them ended: its exit status, or less than nothing for a signal.
        self.ended: list[int | None] = []
        self._processes: dict[str, Running] = {}
        try:
            for name in names:
                self._start(name)
        except BaseException:
            self._end_all()
            raise
        self._tender = threading.Thread(target=self._tend, name="tender", daemon=True)
        self._tender.start()

    def pid(self, name: str) -> int:
        with self._lock:
            return self._processes[name].pid

    def send(self, name: str, number: int) -> None:
        """Send a signal; one that has just ended hears nothing."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid(name), number)

    def kill(self, name: str) -> None:
        """`kill -9`."""
        self.send(name, signal.SIGKILL)

    def kill_whole(self, name: str) -> None:
        """`kill -9` of a worker and of all that runs user code for it, itself first.

        Else it would still tell that its children were killed.
        """
        zygotes = children(self.pid(name))
        family = [*zygotes, *(child for zygote in zygotes for child in children(zygote))]
        self.kill(name)
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_children(self, name: str) -> int:
        """`kill -9` of every process that runs user code for a worker; how many there were."""
        zygotes = children(self.pid(name))
        executions = [child for zygote in zygotes for child in children(zygote)]
        for pid in executions:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(executions)

    def kill_forks(self, name: str) -> int:
        """`kill -9` of the processes that a process has made; how many there were."""
        forks = self.forks(name)
        for pid in forks:
            os.kill(pid, signal.SIGKILL)
        return len(forks)

    def forks(self, name: str) -> list[int]:
        """The processes that a process has made."""
        return children(self.pid(name))

    def replace(self, name: str, *, seconds: float) -> None:
        """Tell a process to end, and wait until another is there; kill it where it takes too long."""
        before = self.pid(name)

        def replaced() -> bool:
            return self._closed.is_set() or self.pid(name) != before

        self.send(name, signal.SIGTERM)
        if not processes.wait_until(replaced, seconds=seconds):
            with contextlib.suppress(ProcessLookupError):
                os.kill(before, signal.SIGKILL)
            processes.wait_until(replaced, seconds=seconds)

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    def close(self) -> None:
        """End all of them at once."""
        self._closed.set()
        self._tender.join()
        self._end_all()

    def _end_all(self) -> None:
        for running in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
        for running in self._processes.values():
            if running.process is not None:
                running.process.wait()

    def _tend(self) -> None:
        while not self._closed.wait(_LOOK):
            with self._lock:
                dead = {n: one for n, one in self._processes.items() if not processes.alive(one)}
            for name, running in dead.items():
                self.deaths[name] += 1
                self.dead.append(running.pid)
                self.ended.append(running.process.returncode if running.process else None)
                # Whoever is left of its group must not outlive it, as under a supervisor.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(running.pid, signal.SIGKILL)
                self._start(name)

    def _start(self, name: str) -> None:
        running = self._spawn(
            self._command(name),
            log=self._folder / f"{name}.log",
            environment={**self._environment, **self._besides.get(name, {})},
            folder=self._folder,
            leash=signal.SIGKILL,
        )
        with self._lock:
            self._processes[name] = running


def children(pid: int) -> list[int]:
    """The processes that a process has made, and that still run."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += [int(child) for child in thread.read_text().split()]
    return found
