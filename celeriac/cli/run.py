"""`celeriac run`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from celeriac.cli import api, files, given, printing, watching
from celeriac.cli.failures import FAILED
from celeriac.client import Client, Run, Version

_DOCUMENTS = (".yaml", ".yml", ".json")


@click.command()
@click.argument("workflow", metavar="FILE|NAME")
@click.option(
    "-i",
    "pairs",
    metavar="KEY=VALUE",
    multiple=True,
    help="An input: JSON where it is that, else text. May be given several times.",
)
@click.option("--input", "whole", metavar="JSON|@FILE", help="All inputs as one JSON object.")
@click.option(
    "--version",
    metavar="VERSION",
    help="Of a NAME: one, or a range such as ^1.2; by default the latest.",
)
@click.option(
    "--wait/--no-wait", default=True, help="Watch until it has ended, which is the default."
)
@printing.json_option
@click.pass_context
def run(
    ctx: click.Context,
    *,
    workflow: str,
    pairs: tuple[str, ...],
    whole: str | None,
    version: str | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Start a run of a workflow, by file or by name, and watch it.

    A FILE (.yaml, .yml or .json) is published first; what has not changed keeps its version. Steps are
    told on stderr, what the run came to on stdout: its outputs, else its variables. Exit code 1 when the run fails or is cancelled. With
    --no-wait the run's id is all that is printed.
    """
    inputs = _inputs(whole, pairs)
    with api.connected() as client:
        started = client.submit(_workflow(client, workflow, version), inputs, version=version)
        if not wait:
            printing.document(started) if as_json else click.echo(started.id)
            return
        ended = _watched(started)
    if as_json:
        printing.document(ended)
    else:
        printing.console().print(watching.ending(ended))
        printing.variables(ended.outputs if ended.outputs is not None else ended.variables or {})
    if ended.status != "completed":
        ctx.exit(FAILED)


def _workflow(client: Client, named: str, version: str | None) -> str | Version:
    if Path(named).suffix not in _DOCUMENTS:
        return named
    if version is not None:
        raise click.UsageError("a file has a version of its own; leave out --version")
    return client.publish(files.text_of(named))


def _watched(started: Run) -> Run:
    console = printing.console(stderr=True)
    console.print(f"run {started.id} of {started.workflow} {started.version}")
    try:
        return watching.follow(started, console)
    except KeyboardInterrupt:
        click.echo(f"The run goes on; to stop it: celeriac cancel {started.id}", err=True)
        raise


def _inputs(whole: str | None, pairs: Iterable[str]) -> dict[str, Any]:
    inputs = {} if whole is None else given.whole(whole, "--input")
    return {**inputs, **given.pairs(pairs, "-i")}
