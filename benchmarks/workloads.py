"""What is measured of a system, whichever it is.

Only the standard library is imported here: peers run it in environments of their own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

#: How long any one thing may take before the benchmark gives up.
SECONDS = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")
_KIB_PER_MIB = 1024.0


class Unended(Exception):
    """What was sent has no result, after longer than it can take."""


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
class Fan:
    """One fan-out, joined."""

    submitted: float
    seen: float
    #: What the branches came to together: item n comes to n + 1.
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured; `configuration.toml` says what each is. Nothing of what is 0."""

    chain: int
    runs: int
    steps: int
    worked: int
    branches: int
    laps: int
    firsts: int
    paced: int
    warm: int


class System(Protocol):
    """Something that carries runs of so many steps out."""

    def submit(self, steps: int, body: str = "noop") -> Any:
        """Submit a chain of steps of that body; what `ended` wants to know of it."""

    def ended(self, submitted: Any) -> Run:
        """Wait for the result of a run."""

    def fan_out(self, branches: int) -> Fan:
        """Submit a fan-out and wait until it is joined."""

    def loop(self, laps: int) -> Run:
        """Submit a run of one node that leads back to itself, and wait for its result."""

    def executed(self) -> int:
        """How many steps have been carried out so far, those that fork and join included."""

    #: How many steps a fan-out has besides its branches.
    joins: int

    def pids(self) -> Mapping[str, Sequence[int]]:
        """The processes whose CPU and memory are its own, by what they are."""


Figures = Mapping[str, float]

#: Figures of which more is better; of all others less is.
MORE_IS_BETTER = frozenset(
    {"steps_per_second", "steps_per_second_cpu", "steps_per_second_sleep", "branches_per_second"}
)


def measure(system: System, size: Size, servers: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """All figures of a system that is up and idle."""
    return dict(_measured(system, size, servers))


def _measured(
    system: System, size: Size, servers: Mapping[str, Sequence[int]]
) -> Iterator[tuple[str, float]]:
    for _ in range(size.warm):
        _check([_run(system, size.steps)], size.steps)
    _check(_many(system, size.warm, size.steps), size.steps)
    # As large as those that are measured: raw Celery takes 3.3 ms for each step of its first chain, and 2.3
    # from then on; and who plans statements once does so at the first fan-out.
    _check([_run(system, size.chain)], size.chain)
    if size.branches:
        _fan_out(system, size)
    yield "memory_mib_idle", _memory(system)
    yield from _counted(system, size.chain, lambda: chain(system, size)).items()
    saturated = _counted(system, size.runs * size.steps, lambda: throughput(system, size, servers))
    yield from saturated.items()
    for body in ("cpu", "sleep"):
        working = partial(_worked, system, size, body)
        yield from _counted(system, size.worked * size.steps, working).items()
    if size.branches:
        steps = size.branches + system.joins
        yield from _counted(system, steps, lambda: _fan_out(system, size)).items()
    if size.laps:
        yield from _counted(system, size.laps, lambda: _loop(system, size)).items()
    if size.firsts:
        first = _counted(
            system, size.firsts, lambda: first_step(lambda: _run(system, 1), size.firsts)
        )
        yield from first.items()
    if size.paced:
        rate = saturated["steps_per_second"] / size.steps / 2
        yield from _counted(
            system, size.paced * size.steps, lambda: _half_load(system, size, rate)
        ).items()
    yield "memory_mib_after", _memory(system)


def first_step(run: Callable[[], Run], count: int, name: str = "first_step") -> dict[str, float]:
    """How long a submission takes to become a running step."""
    runs = [run() for _ in range(count)]
    _check(runs, 1)
    waits = [1e3 * (one.first - one.submitted) for one in runs]
    return {f"{name}_ms_p50": quantile(waits, 0.5), f"{name}_ms_p99": quantile(waits, 0.99)}


def paced(system: System, runs: int, steps: int, rate: float) -> list[Run]:
    """Runs submitted at so many a second, whatever becomes of those before."""
    since = time.monotonic()
    sent = []
    for number in range(runs):
        time.sleep(max(0.0, since + number / rate - time.monotonic()))
        sent.append(system.submit(steps))
    found = [system.ended(one) for one in sent]
    _check(found, steps)
    return found


def quantile(values: Iterable[float], share: float) -> float:
    """The value below which a share of the values lies."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def family(pids: Sequence[int]) -> Mapping[int, Sequence[str]]:
    """Processes and all they have started, each with what the system tells of it."""
    told: dict[int, list[str]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            told[int(place.parent.name)] = place.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
    parents = {pid: int(fields[1]) for pid, fields in told.items()}
    return {pid: fields for pid, fields in told.items() if _within(pid, pids, parents)}


def cpu_seconds(pids: Sequence[int]) -> float:
    """Seconds of CPU of processes and all they have started, those that have ended included."""
    # Each one's own time and that of the children it has collected, in user and system mode.
    return sum(int(field) for told in family(pids).values() for field in told[11:15]) / _TICKS


def memory_mib(pids: Sequence[int]) -> float:
    """Proportional memory of processes and all they have started: shared pages count once."""
    return sum(map(_proportional, family(pids))) / _KIB_PER_MIB


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it ended, or it may not be read
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def _run(system: System, steps: int) -> Run:
    return system.ended(system.submit(steps))


def _many(system: System, runs: int, steps: int, body: str = "noop") -> list[Run]:
    """Runs submitted as fast as one client can."""
    return [system.ended(one) for one in [system.submit(steps, body) for _ in range(runs)]]


def chain(system: System, size: Size) -> Figures:
    """What a step of a lone run takes."""
    one = _run(system, size.chain)
    _check([one], size.chain)
    return {
        "chain_ms_per_step": 1e3 * (one.seen - one.submitted) / size.chain,
        "chain_inner_ms_per_step": 1e3 * (one.last - one.first) / (size.chain - 1),
    }


def throughput(system: System, size: Size, servers: Mapping[str, Sequence[int]]) -> Figures:
    """How many steps are carried out in a second, and what CPU each takes."""
    watched = {**system.pids(), **servers}
    before = {name: cpu_seconds(pids) for name, pids in watched.items()}
    client = time.process_time()
    runs = _many(system, size.runs, size.steps)
    client = time.process_time() - client
    spent = {name: cpu_seconds(pids) - before[name] for name, pids in watched.items()}
    steps = size.runs * size.steps
    whole = [run.last - run.submitted for run in runs]
    return {
        "steps_per_second": _rate(runs, size.steps),
        "run_s_p50": quantile(whole, 0.5),
        "run_s_p99": quantile(whole, 0.99),
        "submitting_s": max(run.submitted for run in runs) - min(run.submitted for run in runs),
        "cpu_us_per_step": 1e6 * sum(spent.values()) / steps,
        **{f"cpu_us_per_step_{name}": 1e6 * spent[name] / steps for name in spent},
        "cpu_us_per_step_client": 1e6 * client / steps,
    }


def _worked(system: System, size: Size, body: str) -> Figures:
    runs = _many(system, size.worked, size.steps, body)
    return {f"steps_per_second_{body}": _rate(runs, size.steps)}


def _rate(runs: Sequence[Run], steps: int) -> float:
    """Steps a second until the last step has run."""
    _check(runs, steps)
    since = min(run.submitted for run in runs)
    return len(runs) * steps / (max(run.last for run in runs) - since)


def _fan_out(system: System, size: Size) -> Figures:
    one = system.fan_out(size.branches)
    wanted = size.branches * (size.branches + 1) // 2
    if one.total != wanted:
        raise AssertionError(f"{size.branches} branches came to {one.total}, not {wanted}")
    taken = one.seen - one.submitted
    return {
        "fan_out_s": taken,
        "branches_per_second": size.branches / taken,
    }


def _loop(system: System, size: Size) -> Figures:
    one = system.loop(size.laps)
    _check([one], size.laps)
    return {"loop_ms_per_lap": 1e3 * (one.seen - one.submitted) / size.laps}


def _half_load(system: System, size: Size, rate: float) -> Figures:
    hops = [
        1e3 * (run.last - run.first) / (size.steps - 1)
        for run in paced(system, size.paced, size.steps, rate)
    ]
    return {"hop_ms_p50": quantile(hops, 0.5), "hop_ms_p99": quantile(hops, 0.99)}


def _memory(system: System) -> float:
    return memory_mib([pid for pids in system.pids().values() for pid in pids])


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


def _within(pid: int, roots: Sequence[int], parents: Mapping[int, int]) -> bool:
    while pid not in roots:
        if pid not in parents:
            return False
        pid = parents[pid]
    return True
