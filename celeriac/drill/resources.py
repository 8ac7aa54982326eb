"""What processes take up: memory that is their own, descriptors, threads."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from celeriac.drill.fleet import Fleet, children, kind_of

_MIB = 1024.0
_ANONYMOUS = re.compile(r"^Anonymous:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one process takes up."""

    #: Memory that it, or whoever it was forked from, has asked for, in mebibytes. Not what is its own
    #: alone: that grows in one that does nothing, as its child comes to write what both began with.
    memory: float
    descriptors: int
    threads: int


def of(pid: int) -> Taken | None:
    """What a process takes up; None where it is not there any more."""
    place = Path(f"/proc/{pid}")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        asked = sum(map(int, _ANONYMOUS.findall((place / "smaps_rollup").read_text())))
        return Taken(
            memory=asked / _MIB,
            descriptors=sum(1 for _ in (place / "fd").iterdir()),
            threads=sum(1 for _ in (place / "task").iterdir()),
        )
    return None


def of_fleet(fleet: Fleet) -> dict[str, Taken]:
    """What each process of a fleet takes up, by its name; of the web also the one that answers."""
    pids = {name: fleet.pid(name) for name in fleet.names}
    for name in fleet.names:
        if kind_of(name) == "web":
            pids |= {f"{name}, answering": pid for pid in children(pids[name])[:1]}
    found = {name: of(pid) for name, pid in pids.items()}
    return {name: taken for name, taken in found.items() if taken is not None}
