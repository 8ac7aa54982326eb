"""One peer, measured: its environment, its process, its answer.

What it needs is pinned in `peers/NAME.txt` and installed once into `.cache/bench/NAME`. A peer that
does not install, start or end is no error of the benchmark: its reason stands where its figures
would.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import configuration, workloads
from benchmarks.peers import VARIABLE, Task
from benchmarks.servers import ROOT, Servers
from benchmarks.workloads import Figures, Size
from celeriac.embedded import postgres

_ENVIRONMENTS = ROOT / ".cache" / "bench"
_REQUIREMENTS = Path(__file__).with_name("peers")
_INSTALL_SECONDS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of it: figures, or a reason why there are none."""

    figures: Figures = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


def titles() -> dict[str, str]:
    """The peers, by the names of their modules."""
    return {name: settings["title"] for name, settings in configuration.section("peers").items()}


def install(name: str, *, may: bool) -> str:
    """Make its environment unless it is there; why not, if it cannot be made."""
    wanted = _REQUIREMENTS / f"{name}.txt"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    folder = _ENVIRONMENTS / name
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_text() == digest:
        return ""
    if not may:
        return "is not installed; `make bench` without --quick installs it"
    python = folder / "bin" / "python"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python, "install"]
    commands: Sequence[Sequence[str | Path]] = (
        [sys.executable, "-m", "venv", "--clear", "--without-pip", folder],
        [*pip, "--quiet", "--no-deps", "--requirement", wanted],
    )
    for command in commands:
        try:
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=_INSTALL_SECONDS
            )
        except subprocess.TimeoutExpired:
            return f"not installed in {_INSTALL_SECONDS} s"
        except subprocess.CalledProcessError as error:
            return f"does not install: {_last(error.stderr)}"
    stamp.write_text(digest)
    return ""


def measure(servers: Servers, name: str, size: Size) -> Answer:
    """Its figures, on a database of its own; it is installed."""
    settings = configuration.section(f"peers.{name}")
    database = f"benchmark_{secrets.token_hex(4)}"
    servers.database(database)
    folder = servers.folder / database
    folder.mkdir()
    task = Task(
        sockets=str(servers.cluster.sockets),
        user=postgres.SUPERUSER,
        database=database,
        folder=str(folder),
        settings=settings,
        size=_scaled(size, settings.get("size", {})),
        servers=servers.pids(),
    )
    try:
        return _told(servers, name, task)
    finally:
        servers.drop(database)


def _told(servers: Servers, name: str, task: Task) -> Answer:
    log = task.log(name)
    seconds = int(task.settings["seconds"])
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [_ENVIRONMENTS / name / "bin" / "python", "-m", f"benchmarks.peers.{name}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**servers.environment, VARIABLE: json.dumps(asdict(task))},
            cwd=servers.folder,
            start_new_session=True,
        ) as process,
    ):
        try:
            told, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return Answer(reason=f"not measured in {seconds} s")
        finally:
            _end(process)
    lines = [line for line in told.splitlines() if line.startswith("{")]
    if not lines:
        return Answer(reason=f"was not measured: {_last(log.read_text(errors='replace'))}")
    found: dict[str, Any] = json.loads(lines[-1])
    return Answer(**found)


def _end(process: subprocess.Popen[str]) -> None:
    """End it with all that it started, whatever group that is in."""
    for pid in workloads.family([process.pid]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _scaled(size: Size, smaller: Mapping[str, int]) -> dict[str, int]:
    """Never more than the others are asked for."""
    return {name: min(count, smaller.get(name, count)) for name, count in asdict(size).items()}


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it says nothing"
