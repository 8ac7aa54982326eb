"""`celeriac logs`."""

from __future__ import annotations

from collections.abc import Iterator

import click
from rich.text import Text

from celeriac.cli import api, printing
from celeriac.cli.words import Words
from celeriac.client import LogLine, Run


@click.command()
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("--step", metavar="STEP", help="Of this step alone, such as `draft#1`.")
@printing.json_option
def logs(*, run: str, follow: bool, step: str | None, as_json: bool) -> None:
    """Print what the steps of a run have printed.

    With --json, one object a line; what a model said is in the pieces in which it came then (`stream`
    is `tokens`), each to be put behind the one before.
    """
    console = printing.console()
    with api.connected() as client:
        found = client.run(run)
        lines = _followed(found, step) if follow else found.logs(step)
        for line in lines if as_json else _whole(lines):
            if as_json:
                printing.line(line)
            else:
                console.print(_shown(line), soft_wrap=True)


def _followed(run: Run, step: str | None) -> Iterator[LogLine]:
    for event in run.events():
        told = event.told
        if isinstance(told, LogLine) and step in {None, told.step}:
            yield told


def _whole(lines: Iterator[LogLine]) -> Iterator[LogLine]:
    """The lines, those of models put together."""
    words = Words()
    for line in lines:
        yield from words.take(line)
    yield from words.rest()


def _shown(line: LogLine) -> Text:
    which = line.step if line.attempt == 1 else f"{line.step} (attempt {line.attempt})"
    style = "red" if line.stream == "stderr" else ""
    return Text.assemble(
        (printing.legible(f"{which} | "), "dim"), (printing.legible(line.text), style)
    )
