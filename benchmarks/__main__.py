"""`python -m benchmarks`."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from benchmarks import (
    burden,
    configuration,
    fleet,
    governed,
    growth,
    machine,
    peer,
    picture,
    raw_celery,
    reference,
    report,
    servers,
    workloads,
)
from benchmarks.report import OURS, RAW, SANDBOXED, Measured
from benchmarks.servers import Servers
from benchmarks.workloads import Figures, Size, Unended

T = TypeVar("T")

#: Whether workers take their turns, and the form of the code, to what that is called.
NAMES: Mapping[tuple[bool, str], str] = {
    (False, "library"): OURS,
    (False, "source"): SANDBOXED,
    (True, "library"): "Celeriac, worker turns",
    (True, "source"): "Celeriac, worker turns, sandboxed",
}
#: How often raw Celery is measured, where it does not end what it was given.
_TRIES = 3
_PARTS = ("governed", "growth", "burden", "rival")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of the rivals is measured."""

    #: Whom, and why not: empty for those that are installed.
    peers: Mapping[str, str]
    rounds: int
    quick: bool

    @property
    def size(self) -> Size:
        return Size(**configuration.section("sizes.quick" if self.quick else "sizes.whole"))


@dataclass(slots=True, kw_only=True)
class Found:
    """What has been measured so far."""

    measured: list[Measured] = field(default_factory=list)
    #: Raw Celery, and what somebody else's script found of it just before.
    checked: list[tuple[Figures, Figures]] = field(default_factory=list)
    grown: dict[str, Figures] = field(default_factory=dict)
    under: dict[str, float] = field(default_factory=dict)
    burden: dict[str, dict[int, Figures]] = field(default_factory=dict)
    #: How often raw Celery did not end what it was given: it was measured again.
    unended: int = 0


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
    type=click.Choice(_PARTS),
    multiple=True,
    help="What a step costs with policies, as its run grows, beside much else, or beside rivals.",
)
@click.option(
    "--peers",
    default=",".join(peer.titles()),
    show_default=True,
    help="Whom to measure beside raw Celery and us; `none` for nobody.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Keep the JSON here.")
@click.option(
    "--picture", "svg", type=click.Path(dir_okay=False, path_type=Path), help="And a picture here."
)
def main(
    *,
    quick: bool,
    rounds: int,
    seconds: int,
    folder: Path,
    only: tuple[str, ...],
    peers: str,
    out: Path | None,
    svg: Path | None,
) -> None:
    """Measure a durable step beside its rivals: a table, then one line of JSON."""
    # Whoever ends it, the servers and their folder go with it.
    for end in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, lambda number, _frame: sys.exit(128 + number))
    compared = "rival" in (only or _PARTS)
    wanted = () if peers == "none" else tuple(peers.split(","))
    if unknown := set(wanted) - set(peer.titles()):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: no such peer", param_hint="peers")
    console = Console(stderr=True, width=200)
    found = Found()
    # Before the clock runs: the first time it takes minutes.
    installed = {name: peer.install(name, may=not quick) for name in wanted if compared}
    since = time.monotonic()
    with servers.started(folder) as both:
        about = _about(both, quick=quick)
        for name, value in {**about["machine"], **about["servers"]}.items():
            console.print(f"{name}: {value}", style="dim")
        less = about["less_durable"] or "no table, and no session"
        console.print(f"written with less than synchronous commits: {less}", style="dim")
        whole = False
        try:
            for part in only or _PARTS:
                if part != "rival":
                    _alone(part, both, found, console, quick=quick)
            if compared:
                plan = Plan(peers=installed, rounds=1 if quick else rounds, quick=quick)
                _rivals(both, plan, found, console, seconds - (time.monotonic() - since))
            whole = True
        finally:
            # Stopped early, it was not for nothing.
            verdict = _shown(found, console)
            told = report.told(
                found.measured,
                found.grown,
                found.burden,
                whole=whole,
                governed=found.under,
                reference=verdict,
                unended=found.unended,
                seconds=round(time.monotonic() - since),
                **about,
            )
            click.echo(report.line(told))
            for file, kept in ((out, report.line(told) + "\n"), (svg, picture.drawn(told))):
                if file:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(kept)
                    console.print(f"kept: {file}", style="dim")
    if verdict["void"]:
        raise click.ClickException(f"the run is void: raw Celery is {verdict['why']}")


def _about(both: Servers, *, quick: bool) -> dict[str, Any]:
    return {
        "benchmark": "celeriac",
        "quick": quick,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": machine.versions(),
        "machine": machine.describe(both.folder),
        "servers": both.configuration(),
        "less_durable": configuration.section("celeriac.less"),
        "configuration": configuration.whole(),
    }


def _shown(found: Found, console: Console) -> dict[str, Any]:
    report.show_growth(found.grown, console)
    report.show_governed(found.under, console)
    report.show_burden(found.burden, console)
    report.show(found.measured, console)
    verdict = reference.verdict(found.checked)
    console.print(f"raw Celery over the reference: {verdict.get('ratios', verdict['why'])}")
    return verdict


def _alone(part: str, both: Servers, found: Found, console: Console, *, quick: bool) -> None:
    """What is measured of us alone."""
    if part == "governed":
        found.under.update(governed.measure(both, governed.QUICK if quick else governed.WHOLE))
        console.print(f"governed: {found.under['chain_ms_ratio']:.3f}", style="dim")
    if part == "growth":
        for workload in growth.QUICK if quick else growth.WHOLE:
            found.grown[workload.name] = one = growth.measure(both, workload)
            console.print(f"{workload.name}: last/first {one['wal_bytes_ratio']:.3f}", style="dim")
    if part == "burden":
        for kind in report.KINDS:
            levels = found.burden.setdefault(kind, {})
            for level, cost in burden.measure(both, kind, "quick" if quick else "whole"):
                levels[level] = cost
                told = f"{kind} {level}: {cost['cpu_us_per_step']:.0f} us/step"
                console.print(told, style="dim")


def _rivals(both: Servers, plan: Plan, found: Found, console: Console, seconds: float) -> None:
    """Rounds of everybody, as many as there is time for."""
    since = time.monotonic()
    for number in range(plan.rounds):
        checks = reference.here() and not plan.quick
        expected = _again(partial(reference.measure, both), found, console) if checks else {}
        for measured in _round(both, plan, found, console):
            found.measured.append(measured)
            if expected and len(found.checked) == number:
                found.checked.append((measured.figures, expected))
            rate = measured.figures.get("steps_per_second")
            told = measured.reason if rate is None else f"{rate:.0f} steps/s"
            console.print(f"{measured.system}: {told}", style="dim")
        passed = time.monotonic() - since
        if passed / (number + 1) * (number + 2) > seconds:
            break


def _again(measure: Callable[[], T], found: Found, console: Console) -> T:
    """Measure raw Celery; again where it does not end what it was given.

    It loses a result now and then, and whoever waits for that waits for ever.
    """
    for _ in range(_TRIES - 1):
        try:
            return measure()
        except Unended as error:
            found.unended += 1
            console.print(f"{RAW}: {error}; it is measured again", style="dim")
    return measure()


def _round(both: Servers, plan: Plan, found: Found, console: Console) -> Iterator[Measured]:
    """Raw Celery before each of ours, and before the others: A B A C A D E F G."""
    for worker_turns in (False, True):
        raw = _again(partial(_raw, both, plan.size), found, console)
        yield raw
        for code, figures in fleet.measure(both, plan.size, worker_turns=worker_turns):
            yield Measured(system=NAMES[worker_turns, code], figures=figures, raw=raw.figures)
    if plan.peers:
        raw = _again(partial(_raw, both, plan.size), found, console)
        yield raw
    for name, reason in plan.peers.items():
        answer = peer.Answer(reason=reason) if reason else peer.measure(both, name, plan.size)
        yield Measured(
            system=peer.titles()[name],
            figures=answer.figures,
            raw=raw.figures,
            versions=answer.versions,
            reason=answer.reason,
        )


def _raw(both: Servers, size: Size) -> Measured:
    with raw_celery.started(both) as rival:
        figures = workloads.measure(rival, size, both.pids())
    return Measured(system=RAW, figures=figures, raw=figures)


if __name__ == "__main__":
    main()
