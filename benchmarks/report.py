"""What is shown of the rounds: medians, and ratios that were taken within each round."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.workloads import Figures

RAW = "raw Celery chain"
_SHOWN: Mapping[str, str] = {
    "chain_ms_per_step": "chain\nms a step",
    "chain_inner_ms_per_step": "inner\nms a step",
    "steps_per_second": "throughput\nsteps/s",
    "run_s_p50": "200 runs\np50 s",
    "first_step_ms_p50": "first step\nms p50",
    "first_step_rest_ms_p50": "over REST\nms p50",
    "cpu_us_per_step": "CPU\nus a step",
}
_GROWTH: Mapping[str, str] = {
    "statements": "statements",
    "wal_bytes": "bytes of WAL",
    "ms": "ms",
}
#: What a figure of ours is compared with where raw Celery has none of that name.
_RIVAL = {
    "first_step_rest_ms_p50": "first_step_ms_p50",
    "first_step_rest_ms_p99": "first_step_ms_p99",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One system in one round, with raw Celery as it was just before."""

    system: str
    figures: Figures
    raw: Figures


def medians(rounds: Sequence[Measured], system: str) -> dict[str, float]:
    """The figures of a system, each the median of its rounds."""
    some = [one.figures for one in rounds if one.system == system]
    return {name: statistics.median(one[name] for one in some) for name in some[0]}


def ratios(rounds: Sequence[Measured], system: str) -> dict[str, float]:
    """A system's figures over raw Celery's of the same round, each the median of its rounds."""
    found: dict[str, list[float]] = {}
    for one in rounds:
        if one.system == system:
            for name, value in one.figures.items():
                rival = one.raw.get(_RIVAL.get(name, name))
                if rival:
                    found.setdefault(name, []).append(value / rival)
    return {name: statistics.median(values) for name, values in found.items()}


def show(rounds: Sequence[Measured], console: Console) -> None:
    """The table: absolute medians, and below each the ratio to raw Celery."""
    if not rounds:
        return
    table = Table(
        title=f"{len(_of(rounds, RAW))} rounds of raw Celery, medians (x: ratio within a round)"
    )
    table.add_column("")
    for heading in _SHOWN.values():
        table.add_column(heading, justify="right")
    for system in dict.fromkeys(one.system for one in rounds):
        found, compared = medians(rounds, system), ratios(rounds, system)
        cells = [
            f"{_rounded(found[name])}\n{compared[name]:.2f}x" if name in found else ""
            for name in _SHOWN
        ]
        table.add_row(system, *cells, end_section=True)
    console.print(table)


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
                _rounded(figures[f"{kind}_{part}"]) for part in ("first", "last", "mean")
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
        without, governed = (_rounded(figures[f"{name}_{arm}"]) for arm in ("without", "governed"))
        ratio = f"{figures[f'{name}_ratio']:.3f}x"
        table.add_row(name.removesuffix("_ms"), without, governed, ratio)
    console.print(table)


def line(rounds: Sequence[Measured], grown: Mapping[str, Figures], **about: object) -> str:
    """Everything, as one line of JSON."""
    systems = {
        system: {
            "median": _plain(medians(rounds, system)),
            "ratio": _plain(ratios(rounds, system)),
            "rounds": [_plain(one.figures) for one in _of(rounds, system)],
        }
        for system in dict.fromkeys(one.system for one in rounds)
    }
    growth = {name: _plain(figures) for name, figures in grown.items()}
    return json.dumps({**about, "systems": systems, "growth": growth})


def _of(rounds: Sequence[Measured], system: str) -> list[Measured]:
    return [one for one in rounds if one.system == system]


def _plain(figures: Figures) -> dict[str, float]:
    return {name: float(_rounded(value)) for name, value in figures.items()}


def _rounded(value: float) -> str:
    """Three digits that matter."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
