"""`python -m benchmarks`."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console

from benchmarks import fleet, governed, growth, machine, raw_celery, report, servers, workloads
from benchmarks.report import RAW, Measured
from benchmarks.servers import Servers
from benchmarks.workloads import QUICK, WHOLE, Figures, Size

_NAMES = {False: "Celeriac", True: "Celeriac, worker turns"}


@click.command()
@click.option("--quick", is_flag=True, help="Small, one round: only to see that it works.")
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option(
    "--seconds",
    type=click.IntRange(1),
    default=1800,
    show_default=True,
    help="No round begins that would probably end later.",
)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=tempfile.gettempdir(),
    show_default=True,
    help="On the disk that the database is to lie on.",
)
@click.option(
    "--only",
    type=click.Choice(["growth", "governed", "rival"]),
    help="What a step costs as its run grows, with policies, or beside raw Celery.",
)
def main(*, quick: bool, rounds: int, seconds: int, folder: Path, only: str | None) -> None:
    """Measure a durable step beside a raw Celery chain: a table, then one line of JSON."""
    # Whoever ends it, the servers and their folder go with it.
    for end in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, lambda number, _frame: sys.exit(128 + number))
    console = Console(stderr=True, width=120)
    wanted = 1 if quick else rounds
    measured: list[Measured] = []
    grown: dict[str, Figures] = {}
    under: dict[str, float] = {}
    with servers.started(folder) as both:
        host, configured = machine.describe(both.folder), both.configuration()
        about = {
            "benchmark": "celeriac",
            "quick": quick,
            "versions": machine.versions(),
            "machine": host,
            "servers": configured,
            "raw_celery": {**raw_celery.CONFIGURATION, "worker": list(raw_celery.WORKER)},
            "fleet": dict(fleet.PROCESSES),
        }
        for name, value in {**host, **configured}.items():
            console.print(f"{name}: {value}", style="dim")
        whole = False
        try:
            if only in (None, "governed"):
                found = governed.measure(both, governed.QUICK if quick else governed.WHOLE)
                under.update(found)
                console.print(f"governed: {found['chain_ms_ratio']:.3f}", style="dim")
            if only in (None, "growth"):
                for workload in growth.QUICK if quick else growth.WHOLE:
                    grown[workload.name] = found = growth.measure(both, workload)
                    console.print(
                        f"{workload.name}: last/first {found['wal_bytes_ratio']:.3f}", style="dim"
                    )
            if only in (None, "rival"):
                for one in _rounds(both, QUICK if quick else WHOLE, wanted, seconds, console):
                    measured.append(one)  # noqa: PERF402  # so that what is there can be shown
            whole = True
        finally:
            # Stopped early, it was not for nothing.
            report.show_growth(grown, console)
            report.show_governed(under, console)
            report.show(measured, console)
            click.echo(report.line(measured, grown, whole=whole, governed=under, **about))


def _rounds(
    both: Servers, size: Size, wanted: int, seconds: int, console: Console
) -> Iterator[Measured]:
    since = time.monotonic()
    for number in range(wanted):
        yield from _round(both, size, console)
        passed = time.monotonic() - since
        if passed / (number + 1) * (number + 2) > seconds:
            break


def _round(both: Servers, size: Size, console: Console) -> Iterator[Measured]:
    """Raw Celery before each of ours: A B A C."""
    for worker_turns, name in _NAMES.items():
        with raw_celery.started(both) as rival:
            raw = workloads.measure(rival, size, both.pids())
        console.print(f"{RAW}: {raw['steps_per_second']:.0f} steps/s", style="dim")
        yield Measured(system=RAW, figures=raw, raw=raw)
        for code, figures in fleet.measure(both, size, worker_turns=worker_turns):
            console.print(f"{name}, {code}: {figures['steps_per_second']:.0f} steps/s", style="dim")
            yield Measured(system=f"{name}, {code}", figures=figures, raw=raw)


if __name__ == "__main__":
    main()
