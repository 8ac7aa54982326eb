"""What is shown of the rounds: medians, and ratios that were taken within each round."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.workloads import Figures

RAW = "raw Celery"
OURS = "Celeriac"
SANDBOXED = "Celeriac, sandboxed"
#: Figures that are shown: their headings, for a column and for a sentence.
SHOWN: Mapping[str, tuple[str, str]] = {
    "steps_per_second": ("steps/s\nno-op", "200 runs of 10 steps, no-op, steps/s"),
    "steps_per_second_cpu": ("steps/s\n5 ms CPU", "the same, 5 ms of CPU a step, steps/s"),
    "steps_per_second_sleep": ("steps/s\n20 ms sleep", "the same, 20 ms of sleep a step, steps/s"),
    "chain_ms_per_step": ("chain\nms/step", "a lone chain of 100, ms/step"),
    "fan_out_s": ("fan-out\ns", "500-way fan-out and join, s"),
    "branches_per_second": ("fan-out\nbranches/s", "fan-out, branches/s"),
    "loop_ms_per_lap": ("loop\nms/lap", "a loop of 200, ms/lap"),
    "first_step_ms_p50": ("first step\nms p50", "submit → first step, ms p50"),
    "first_step_rest_ms_p50": ("by REST\nms p50", "submit by HTTP → first step, ms p50"),
    "turn_ms_p99": ("turn\nms p99", "turn: result → next step at half load, ms p99"),
    "hop_ms_p99": ("step to step\nms p99", "step → step at half load, ms p99 of runs"),
    "cpu_us_per_step": ("CPU\nµs/step", "CPU of all processes, µs/step"),
    "memory_mib_after": ("memory\nMiB", "memory of its processes afterwards, MiB"),
}
_GROWTH: Mapping[str, str] = {
    "round_trips": "round trips",
    "wal_bytes": "bytes of WAL",
    "ms": "ms",
}
#: What the cost of a step is beside runs and history.
BURDEN: Mapping[str, str] = {
    "cpu_us_per_step": "CPU µs/step",
    "chain_ms_per_step": "chain ms/step",
    "steps_per_second": "steps/s",
}
KINDS: Mapping[str, str] = {
    "active": "beside active runs",
    "history": "after steps of history, copied by SQL",
}
#: What a figure of ours is compared with where raw Celery has none of that name.
_RIVAL = {
    "first_step_rest_ms_p50": "first_step_ms_p50",
    "first_step_rest_ms_p99": "first_step_ms_p99",
}

#: Kind, level, cost.
Burden = Mapping[str, Mapping[int, Figures]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One system in one round, with raw Celery as it was just before."""

    system: str
    figures: Figures
    raw: Figures
    versions: Mapping[str, str] = field(default_factory=dict)
    #: Why there are no figures, where there are none.
    reason: str = ""


def medians(rounds: Sequence[Measured], system: str) -> dict[str, float]:
    """The figures of a system, each the median of its rounds."""
    some = [one.figures for one in _of(rounds, system) if one.figures]
    return {name: statistics.median(one[name] for one in some) for name in (some or [{}])[0]}


def ratios(rounds: Sequence[Measured], system: str) -> dict[str, float]:
    """A system's figures over raw Celery's of the same round, each the median of its rounds."""
    found: dict[str, list[float]] = {}
    for one in _of(rounds, system):
        for name, value in one.figures.items():
            rival = one.raw.get(_RIVAL.get(name, name))
            if rival:
                found.setdefault(name, []).append(value / rival)
    return {name: statistics.median(values) for name, values in found.items()}


def sandboxed(rounds: Sequence[Measured]) -> dict[str, float]:
    """What is measured in the sandbox over the same without it, each the median of the rounds."""
    pairs = list(zip(_of(rounds, SANDBOXED), _of(rounds, OURS), strict=False))
    names = [name for name in SHOWN if pairs and name in pairs[0][0].figures]
    return {
        name: statistics.median(one.figures[name] / two.figures[name] for one, two in pairs)
        for name in names
    }


def show(rounds: Sequence[Measured], console: Console) -> None:
    """The table: absolute medians, and below each the ratio to raw Celery."""
    if not rounds:
        return
    table = Table(
        title=f"medians of {len({id(one.raw) for one in rounds})} measurements of {RAW}"
        " and of the others beside it (x: ratio within a round)"
    )
    table.add_column("")
    for heading, _ in SHOWN.values():
        table.add_column(heading, justify="right")
    for system in _names(rounds):
        found, compared = medians(rounds, system), ratios(rounds, system)
        cells = [_cell(name, found, compared) for name in SHOWN]
        table.add_row(system, *cells, end_section=True)
    console.print(table)
    if found := sandboxed(rounds):
        told = ", ".join(f"{SHOWN[name][1]} {ratio:.2f}x" for name, ratio in found.items())
        console.print(f"in the sandbox over without: {told}")
    for system in _names(rounds):
        for reason in dict.fromkeys(one.reason for one in _of(rounds, system) if one.reason):
            console.print(f"{system}: {reason}")


def show_growth(grown: Mapping[str, Figures], console: Console) -> None:
    """What the last steps of each run cost, beside its first."""
    for name, figures in grown.items():
        table = Table(
            title=f"{name} of {figures['steps']:.0f} steps: a step, median of {figures['compared']:.0f}"
        )
        for heading in ("", "first", "last", "last / first", "mean of all"):
            table.add_column(heading, justify="right")
        for kind, heading in _GROWTH.items():
            ratio = f"{figures[f'{kind}_ratio']:.3f}x"
            first, last, mean = (
                rounded(figures[f"{kind}_{part}"]) for part in ("first", "last", "mean")
            )
            table.add_row(heading, first, last, ratio, mean)
        console.print(table)


def show_governed(figures: Figures, console: Console) -> None:
    """What a step costs under a policy, beside none."""
    if not figures:
        return
    table = Table(title=f"ten rules and a budget, {figures['pairs']:.0f} pairs: ms a step, medians")
    for heading in ("", "without", "governed", "governed / without"):
        table.add_column(heading, justify="right")
    for name in ("chain_ms", "throughput_ms"):
        without, governed = (rounded(figures[f"{name}_{arm}"]) for arm in ("without", "governed"))
        ratio = f"{figures[f'{name}_ratio']:.3f}x"
        table.add_row(name.removesuffix("_ms"), without, governed, ratio)
    console.print(table)


def show_burden(burden: Burden, console: Console) -> None:
    """What a step costs at each level, and over the first, which was measured in turn with it."""
    for kind, levels in burden.items():
        if not levels:
            continue
        table = Table(title=f"a step {KINDS[kind]} (x: over the first)")
        for heading in ("", *BURDEN.values()):
            table.add_column(heading, justify="right")
        for level, figures in levels.items():
            cells = [
                f"{rounded(figures[name])}\n{figures[f'{name}_ratio']:.2f}x" for name in BURDEN
            ]
            table.add_row(f"{level:,}".replace(",", " "), *cells)
        console.print(table)


def told(
    rounds: Sequence[Measured], grown: Mapping[str, Figures], burden: Burden, **about: object
) -> dict[str, Any]:
    """Everything that was measured, and about what."""
    systems = {
        system: {
            "median": _plain(medians(rounds, system)),
            "ratio": _plain(ratios(rounds, system)),
            "rounds": [_plain(one.figures) for one in _of(rounds, system)],
            "versions": dict(_of(rounds, system)[-1].versions),
            "reason": _of(rounds, system)[-1].reason,
        }
        for system in _names(rounds)
    }
    levels = {
        kind: {str(level): _plain(figures) for level, figures in found.items()}
        for kind, found in burden.items()
    }
    growth = {name: _plain(figures) for name, figures in grown.items()}
    about["sandboxed"] = _plain(sandboxed(rounds))
    return {**about, "systems": systems, "growth": growth, "burden": levels}


def line(found: Mapping[str, Any]) -> str:
    """Everything, as one line of JSON."""
    return json.dumps(found)


def rounded(value: float) -> str:
    """Three digits that matter."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _cell(name: str, found: Figures, compared: Figures) -> str:
    if name not in found:
        return ""
    ratio = f"{compared[name]:.2f}x" if name in compared else ""
    return f"{rounded(found[name])}\n{ratio}"


def _names(rounds: Sequence[Measured]) -> Sequence[str]:
    return list(dict.fromkeys(one.system for one in rounds))


def _of(rounds: Sequence[Measured], system: str) -> list[Measured]:
    return [one for one in rounds if one.system == system]


def _plain(figures: Figures) -> dict[str, float]:
    return {name: float(rounded(value)) for name, value in figures.items()}
