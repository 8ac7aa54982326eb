"""Where the figures come from: the machine, and the versions of what ran on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path

_PACKAGES = (
    "celeriac",
    "celery",
    "kombu",
    "billiard",
    "redis",
    "sqlalchemy",
    "psycopg2-binary",
    "orjson",
)
_BLOCK = bytes(8192)


def versions() -> dict[str, str]:
    """Python's and those of the packages that carry a step."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found}


def describe(folder: Path) -> dict[str, object]:
    """The machine, with how fast it is just now."""
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "load_1m": round(os.getloadavg()[0], 2),
        "python_loops_per_us": round(loops(), 1),
        "fdatasync_us_p50": round(_sync_us(folder)),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor()


def loops(count: int = 2_000_000) -> float:
    """How many rounds of a loop Python makes in a microsecond: how fast the machine is just now."""
    since = time.perf_counter()
    total = 0
    for number in range(count):
        total += number & 3
    return count / (time.perf_counter() - since) / 1e6


def _sync_us(folder: Path, count: int = 50) -> float:
    """What it costs to bring 8 KiB to the disk that the database lies on."""
    place = folder / "sync"
    file = os.open(place, os.O_WRONLY | os.O_CREAT, 0o600)
    taken = []
    for _ in range(count):
        since = time.perf_counter()
        os.pwrite(file, _BLOCK, 0)
        os.fdatasync(file)
        taken.append(time.perf_counter() - since)
    os.close(file)
    place.unlink()
    return 1e6 * sorted(taken)[count // 2]
