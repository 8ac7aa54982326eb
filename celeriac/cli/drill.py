"""`celeriac drill`."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from celeriac.cli import printing
from celeriac.cli.failures import FAILED
from celeriac.drill import drill as drills
from celeriac.drill.drill import Order, Report
from celeriac.drill.plan import KINDS
from engine import telemetry

_SHOWN = 20


@click.command(epilog=f"Kinds: {', '.join(KINDS)}.")
@click.argument("kinds", nargs=-1, type=click.Choice(KINDS), metavar="[KIND]...")
@click.option("--seconds", type=click.FloatRange(1, 86_400), default=60, show_default=True)
@click.option(
    "--seed", type=int, default=1, show_default=True, help="The same seed, the same faults."
)
@click.option(
    "--lease",
    type=click.FloatRange(2, 600),
    default=6,
    show_default=True,
    help="Seconds that workers lease steps for.",
)
@click.option(
    "--settle",
    type=click.FloatRange(1, 3600),
    help="Seconds that runs may take to end after the last fault; 30, or 20 more than a lease.",
)
@click.option(
    "--logs",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the logs of the processes in this folder.",
)
@printing.json_option
@click.pass_context
def drill(
    ctx: click.Context,
    *,
    kinds: Sequence[str],
    seconds: float,
    seed: int,
    lease: float,
    settle: float | None,
    logs: Path | None,
    as_json: bool,
) -> None:
    """Disturb a platform of its own, and see whether anything is lost or happens twice.

    Starts web, coordinators, workers, beat, Postgres and Valkey for itself, in a temporary folder;
    touches nothing that runs. Submits runs, does faults of the given kinds, or of all, for so many
    seconds, lets everything settle, then compares what clients were answered, what a witness outside
    saw, and what the database says. Exit code 1 if anything was lost or doubled, if the doctor finds
    anything, or if a run has not ended in time.
    """
    # What the drill does to the broker is no news to whoever asked for it.
    telemetry.configure("drill", "ERROR")
    # As Ctrl-C, so that whatever was started ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    order = Order(
        kinds=kinds or KINDS,
        seconds=seconds,
        seed=seed,
        lease_seconds=lease,
        settle_seconds=settle or max(30.0, lease + 20.0),
    )
    report = drills.drill(
        order,
        say=lambda text: click.echo(text, err=True),
        logs=None if logs is None else logs.absolute(),
    )
    if as_json:
        printing.document({**asdict(report), "injected": report.injected, "held": report.held})
    else:
        _print(report)
    if not report.held:
        ctx.exit(FAILED)


def _print(report: Report) -> None:
    printing.table(
        ("fault", "injected", "slowest recovery"),
        (
            (kind, count, _seconds(report.recovery_seconds.get(kind)))
            for kind, count in report.faults.items()
        ),
        empty="",
    )
    for kind, why in report.not_here.items():
        click.echo(f"not here: {kind} {why}")
    settled = _seconds(report.settled_seconds) or "not in time"
    lines = (
        ("faults injected", report.injected),
        ("runs", f"{report.runs}, {report.submitted} of them acknowledged"),
        ("steps", report.steps),
        ("executed more than once", report.executed_again),
        ("results refused", report.refused),
        ("lost", len(report.lost)),
        ("doubled", len(report.doubled)),
        ("answered wrongly", len(report.wrong)),
        ("doctor's findings", len(report.findings)),
        ("all runs ended after", f"{settled} (leases of {report.order.lease_seconds:g} s)"),
        ("not recovered from", report.unrecovered),
        ("slowest submission", _seconds(report.slowest_submission_seconds)),
    )
    click.echo()
    for name, said in lines:
        click.echo(f"{name:<24} {said}")
    for name, found in (
        ("lost", report.lost),
        ("doubled", report.doubled),
        ("answered wrongly", report.wrong),
        (
            "does not hold",
            [f"{one.invariant}: {one.subject} {one.detail}" for one in report.findings],
        ),
    ):
        for text in found[:_SHOWN]:
            click.echo(f"{name}: {printing.legible(text)}")
        if len(found) > _SHOWN:
            click.echo(f"{name}: and {len(found) - _SHOWN} more")
    click.echo(
        "\nEverything held." if report.held else f"\nIt did not hold; --seed {report.order.seed}"
    )


def _seconds(number: float | None) -> str:
    return "" if number is None else f"{number:.1f} s"
