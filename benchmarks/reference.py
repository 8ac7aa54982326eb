"""Whether raw Celery was at its best: the same, measured by somebody else's script.

The script is its author's, run as it lies there, with a Valkey of its own on a free port of the
loopback. Where there is none on this machine, nobody has checked, and the benchmark says so.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import redis

from benchmarks import configuration
from benchmarks.servers import ROOT, Servers
from benchmarks.workloads import Figures, Unended
from celeriac.embedded import processes

#: What the script calls our figures: its workload, and the name of a figure in it.
_NAMES: Mapping[str, tuple[str, str]] = {
    "steps_per_second": ("W2", "steps_per_s"),
    "chain_ms_per_step": ("W1", "ms_per_step"),
    "fan_out_s": ("W3", "wall_s"),
    "first_step_ms_p50": ("W4", "p50_ms"),
    "loop_ms_per_lap": ("W5", "ms_per_iter"),
}
#: The figures that decide.
DECIDES = ("steps_per_second", "chain_ms_per_step")
#: Its modules name the port in their text.
_PORT = "6390"
_SECONDS = 180


def here() -> bool:
    """Whether there is such a script on this machine."""
    return (_folder() / str(_settings()["script"])).exists()


def measure(servers: Servers) -> Figures:
    """What the script finds, under our names. Raises `Unended` where it finds nothing."""
    with tempfile.TemporaryDirectory(dir=servers.folder) as place, _valkey(servers) as port:
        folder = Path(place)
        for module in _folder().glob("*.py"):
            text = module.read_text().replace(_PORT, str(port))
            (folder / module.name).write_text(text)
        ended = subprocess.run(
            [sys.executable, _settings()["script"], *_settings()["arguments"]],
            cwd=folder,
            env={**servers.environment, **_settings()["environment"], "BENCH_HOME": place},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    if ended.returncode:
        # Most likely a result that it waited for in vain; its last line says so.
        why = ended.stderr.strip().rpartition("\n")[2]
        raise Unended(f"{_settings()['script']} ended with {ended.returncode}: {why}")
    return read(ended.stdout.splitlines()[-1])


def read(line: str) -> Figures:
    """What the script told at last. Raises `Unended` where a figure that decides is not among it."""
    told: Any = json.loads(line)
    found = {
        name: float(told[workload][figure])
        for name, (workload, figure) in _NAMES.items()
        if figure in told.get(workload, {})
    }
    if lacking := [name for name in DECIDES if name not in found]:
        # It goes on where one of its workloads has not ended, and says so in its place.
        raise Unended(f"{_settings()['script']} told no {', '.join(lacking)}: {line[-300:]}")
    return found


def verdict(pairs: Sequence[tuple[Figures, Figures]]) -> dict[str, Any]:
    """Raw Celery over what the script found just before, and whether the run is void for it."""
    if not pairs:
        return {"void": None, "why": f"not checked with {_settings()['folder']}"}
    ratios = {
        name: round(statistics.median(raw[name] / found[name] for raw, found in pairs), 3)
        for name in _NAMES
        if all(name in raw and name in found for raw, found in pairs)
    }
    within = float(_settings()["within"])
    off = [name for name in DECIDES if abs(ratios[name] - 1) > within]
    return {
        "void": bool(off),
        "why": f"more than {within:.0%} off: {', '.join(off)}" if off else "",
        "ratios": ratios,
        "pairs": [{"raw": dict(raw), "reference": dict(found)} for raw, found in pairs],
    }


@contextmanager
def _valkey(servers: Servers) -> Iterator[int]:
    """A server without any log, as the script's author starts it."""
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        port = int(listening.getsockname()[1])
    options = {"port": str(port), "bind": "127.0.0.1", "save": "", "appendonly": "no"}
    command: list[str | Path] = [servers.valkey.binary]
    for name, text in options.items():
        command += [f"--{name}", text]
    running = processes.spawn(
        command,
        log=servers.folder / "reference-valkey.log",
        environment=servers.environment,
        folder=servers.folder,
        leash=signal.SIGKILL,
    )
    try:
        with redis.Redis(port=port) as client:

            def answers() -> bool:
                with contextlib.suppress(redis.ConnectionError):
                    return bool(client.ping())
                return False

            if not processes.wait_until(answers, seconds=10):
                raise RuntimeError("the reference's Valkey does not answer")
        yield port
    finally:
        processes.end(running, signal.SIGKILL, seconds=5)


def _settings() -> Mapping[str, Any]:
    return configuration.section("reference")


def _folder() -> Path:
    return ROOT / str(_settings()["folder"])
