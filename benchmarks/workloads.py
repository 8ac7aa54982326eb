"""What is measured of a system, whichever it is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

#: How long any one thing may take before the benchmark gives up.
SECONDS = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run, by the clock of this machine."""

    submitted: float
    #: Inside of its first and of its last step.
    first: float
    last: float
    #: When the client had its result.
    seen: float
    #: The final value, which counts the steps.
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured."""

    chain: int
    runs: int
    steps: int
    firsts: int
    warm: int


WHOLE = Size(chain=100, runs=200, steps=10, firsts=100, warm=20)
QUICK = Size(chain=5, runs=4, steps=3, firsts=3, warm=1)


class System(Protocol):
    """Something that carries runs of so many steps out."""

    def run(self, steps: int) -> Run:
        """Submit one run and wait for its result."""

    def many(self, runs: int, steps: int) -> Sequence[Run]:
        """Submit runs as fast as one client can, then wait for all."""

    def executed(self) -> int:
        """How many steps have been carried out so far."""

    def pids(self) -> Mapping[str, Sequence[int]]:
        """The processes whose CPU is its own, by what they are."""


Figures = Mapping[str, float]

#: Figures of which more is better; of all others less is.
MORE_IS_BETTER = frozenset({"steps_per_second"})


def measure(system: System, size: Size, servers: Mapping[str, Sequence[int]]) -> Figures:
    """All figures of a system that is up and idle."""
    for _ in range(size.warm):
        _check([system.run(size.steps)], size.steps)
    _check(system.many(size.warm, size.steps), size.steps)
    return {
        **_counted(system, size.chain, lambda: _chain(system, size)),
        **_counted(system, size.runs * size.steps, lambda: _throughput(system, size, servers)),
        **_counted(system, size.firsts, lambda: first_step(system.run, size)),
    }


def first_step(run: Callable[[int], Run], size: Size, name: str = "first_step") -> Figures:
    """How long a submission takes to become a running step."""
    runs = [run(1) for _ in range(size.firsts)]
    _check(runs, 1)
    waits = [1e3 * (one.first - one.submitted) for one in runs]
    return {f"{name}_ms_p50": quantile(waits, 0.5), f"{name}_ms_p99": quantile(waits, 0.99)}


def quantile(values: Iterable[float], share: float) -> float:
    """The value below which a share of the values lies."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _chain(system: System, size: Size) -> Figures:
    one = system.run(size.chain)
    _check([one], size.chain)
    return {
        "chain_ms_per_step": 1e3 * (one.seen - one.submitted) / size.chain,
        "chain_inner_ms_per_step": 1e3 * (one.last - one.first) / (size.chain - 1),
    }


def _throughput(system: System, size: Size, servers: Mapping[str, Sequence[int]]) -> Figures:
    watched = {**system.pids(), **servers}
    before = {name: _cpu(pids) for name, pids in watched.items()}
    client = time.process_time()
    runs = system.many(size.runs, size.steps)
    client = time.process_time() - client
    spent = {name: _cpu(pids) - before[name] for name, pids in watched.items()}
    _check(runs, size.steps)
    steps = size.runs * size.steps
    began = min(run.submitted for run in runs)
    whole = [run.last - run.submitted for run in runs]
    return {
        "steps_per_second": steps / (max(run.last for run in runs) - began),
        "run_s_p50": quantile(whole, 0.5),
        "run_s_p99": quantile(whole, 0.99),
        "submitting_s": max(run.submitted for run in runs) - began,
        "cpu_us_per_step": 1e6 * sum(spent.values()) / steps,
        **{f"cpu_us_per_step_{name}": 1e6 * spent[name] / steps for name in spent},
        "cpu_us_per_step_client": 1e6 * client / steps,
    }


def _counted(system: System, steps: int, workload: Callable[[], Figures]) -> Figures:
    """The figures of a workload that carried out exactly its steps, none of them twice."""
    before = system.executed()
    figures = workload()
    executed = system.executed() - before
    if executed != steps:
        raise AssertionError(f"{steps} steps were asked for, {executed} were carried out")
    return figures


def _check(runs: Iterable[Run], steps: int) -> None:
    for run in runs:
        if run.steps != steps:
            raise AssertionError(f"a run of {steps} steps ended with {run.steps}")


def _cpu(pids: Sequence[int]) -> float:
    """Seconds of CPU of processes and all they have started, those that have ended included."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found = int(place.parent.name)
        parents[found] = int(fields[1])
        # Its own time and that of the children it has collected, in user and system mode.
        ticks[found] = sum(int(field) for field in fields[11:15])
    return sum(count for found, count in ticks.items() if _within(found, pids, parents)) / _TICKS


def _within(pid: int, roots: Sequence[int], parents: Mapping[int, int]) -> bool:
    while pid not in roots:
        if pid not in parents:
            return False
        pid = parents[pid]
    return True
