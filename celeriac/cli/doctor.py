"""`celeriac doctor`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict

import click

from celeriac.cli import printing, servers
from celeriac.cli.failures import FAILED
from engine import platform
from engine.platform import DatabaseRole
from engine.runs import doctor as physician


@click.command()
@click.option("--sample", type=click.IntRange(1), help="Look at so many runs, drawn by chance.")
@printing.json_option
@click.pass_context
def doctor(ctx: click.Context, *, sample: int | None, as_json: bool) -> None:
    """Check what must always hold of the stored runs.

    Reads the database at one moment and changes nothing: no run has lost a step, a line of history or
    its way on, hashes verify, history folded is the state, and blobs are there. Exit code 1 where something does not
    hold: that is a defect of Celeriac, or somebody has written to the database.
    """
    with (
        servers.reached() as settings,
        closing(platform.build(settings, DatabaseRole.CONTROL, connections=1)) as built,
    ):
        findings = physician.examine(built.database, built.blobs, sample=sample)
    if as_json:
        printing.document({"findings": [asdict(finding) for finding in findings]})
    elif findings:
        printing.table(
            ("does not hold", "run", "of", "found"),
            ((each.invariant, each.run, each.subject, each.detail) for each in findings),
            empty="",
        )
    else:
        click.echo("Everything holds.")
    if findings:
        ctx.exit(FAILED)
