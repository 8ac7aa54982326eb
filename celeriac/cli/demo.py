"""`celeriac demo`: the whole way once, from nothing to a report; what `make run` calls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

import celeriac
from celeriac.cli import environment, files, printing, report, watching
from celeriac.cli.failures import FAILED
from celeriac.client import Client, Run
from celeriac.embedded import postgres, supervisor
from celeriac.embedded.folders import Home
from engine.settings import Settings

AGENT = "code_review_agent"
#: Any free one: what is there for a moment must be in nobody's way.
_ANY_PORT = 0


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False))
@click.pass_context
def demo(ctx: click.Context, *, file: str | None) -> None:
    """Review a Python file with the Code Review agent, live.

    Boots the platform of this machine, or uses it where it is up; submits the file over REST, shows
    the steps as they happen, prints the report, and stops what it has started. FILE is by default the
    sample of the checkout, else a file of Celeriac's own.
    """
    settings = environment.settings()
    path = file or _sample()
    code = files.text_of(path)
    console = printing.console()
    was_up = supervisor.status(settings) is not None
    if not was_up:
        console.print(f"Starting Celeriac in {settings.home} ...", style="dim")
    with supervisor.running(
        replace(settings, port=_ANY_PORT), report=lambda text: click.echo(text, err=True)
    ) as state:
        ended = _reviewed(state.url, settings, path, code, console)
        _report(ended, console)
    if was_up:
        console.print(f"\nNext: {state.url}/docs is what programs can ask of it")
    else:
        console.print("\nNext: celeriac up   serves the API and its docs until Ctrl-C")
    if ended.status != "completed":
        ctx.exit(FAILED)


def _reviewed(url: str, settings: Settings, path: str, code: str, console: Console) -> Run:
    with Client(url, _key(settings)) as client:
        run = client.submit(AGENT, {"code": code})
        console.print(f"{AGENT} reviews {path}")
        console.print(f"run {run.id} at {url}\n", style="dim")
        return watching.follow(run, console)


def _report(ended: Run, console: Console) -> None:
    console.print(watching.ending(ended))
    if ended.status == "completed":
        console.print()
        for part in report.report(ended.variables or {}):
            console.print(part)


def _key(settings: Settings) -> str | None:
    """The key of the data folder; where there is none the client looks for itself."""
    file = Home(folder=settings.home).admin_key
    return file.read_text().strip() if settings.database_url is None and file.exists() else None


def _sample() -> str:
    sample = Path(celeriac.__file__).parents[1] / "examples" / "sample.py"
    found = sample if sample.exists() else Path(postgres.__file__)
    here = Path.cwd()
    return str(found.relative_to(here) if found.is_relative_to(here) else found)
