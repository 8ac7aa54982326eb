"""The others, each in an environment of its own and in a process of its own.

What is asked of it comes in one variable of the environment; one line of JSON answers. Only the
standard library is imported here and in what it measures with.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import workloads
from benchmarks.workloads import Size, System

VARIABLE = "BENCHMARK_PEER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is asked of a peer."""

    #: Where the database listens, who asks, and its name.
    sockets: str
    user: str
    database: str
    #: For whatever it keeps.
    folder: str
    #: Its part of `configuration.toml`.
    settings: Mapping[str, Any]
    size: Mapping[str, int]
    #: The servers' processes.
    servers: Mapping[str, Sequence[int]]

    def url(self, driver: str = "") -> str:
        """The database's, for SQLAlchemy's driver of that name, or for libpq."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://{self.user}@/{self.database}?host={self.sockets}"

    def log(self, name: str) -> Path:
        return Path(self.folder) / f"{name}.log"


def asked() -> Task:
    """What this process was started for."""
    return Task(**json.loads(os.environ[VARIABLE]))


def answer(task: Task, system: System) -> None:
    """Measure, and tell."""
    figures = workloads.measure(system, Size(**task.size), task.servers)
    versions = {name: importlib.metadata.version(name) for name in task.settings["packages"]}
    told = {"figures": figures, "versions": {"python": platform.python_version(), **versions}}
    print(json.dumps(told), flush=True)


@contextmanager
def running(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the length of a block."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
        )
    try:
        yield process
    finally:
        found = workloads.family([process.pid])
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def wait_until(holds: Callable[[], bool], *, seconds: float = 120.0, tick: float = 0.02) -> None:
    """Look until it holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still not so after {seconds:.0f} s")
        time.sleep(tick)


def answers(url: str) -> bool:
    """Whether a server is there."""
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def program(name: str) -> str:
    """The path of a program of this environment."""
    return str(Path(sys.executable).parent / name)


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
