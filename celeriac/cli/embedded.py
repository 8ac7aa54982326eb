"""`celeriac up` and `celeriac down`."""

from __future__ import annotations

import click

from celeriac.cli import environment
from celeriac.embedded import supervisor
from celeriac.embedded.folders import Home
from celeriac.embedded.supervisor import State
from engine.settings import Settings


@click.command()
@click.option(
    "--host",
    help="Where on this machine the API listens; by default CELERIAC_HOST, else 127.0.0.1.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="By default CELERIAC_PORT, else 8000; 0 takes any free one.",
)
@click.option(
    "--workers", type=click.IntRange(0, 64), default=1, show_default=True, help="Worker processes."
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1000),
    help="Steps at once in each worker; by default CELERIAC_CONCURRENCY, else 4.",
)
@click.option(
    "--anonymous/--no-anonymous",
    default=None,
    help="Let your programs on this machine use the routes /graph, /nodes and /tools without a key;"
    " by default they may, unless CELERIAC_ANONYMOUS is off.",
)
def up(
    *,
    host: str | None,
    port: int | None,
    workers: int,
    concurrency: int | None,
    anonymous: bool | None,
) -> None:
    """Run the whole platform on this machine, until Ctrl-C.

    A real Postgres and a real Valkey of your own, on private sockets, with the API, a coordinator,
    workers and beat beside them. Everything is kept in one folder (CELERIAC_HOME) and is there again
    at the next `up`, however this one ends.
    """
    settings = environment.settings(
        host=host, port=port, concurrency=concurrency, anonymous=anonymous
    )
    click.echo("Starting Celeriac ...", err=True)
    supervisor.up(
        settings,
        workers=workers,
        ready=lambda state: click.echo(_welcome(settings, state)),
        report=_note,
    )
    click.echo("Celeriac has ended; nothing is lost.", err=True)


@click.command()
def down() -> None:
    """End the platform that runs on this machine."""
    settings = environment.settings()
    ended = supervisor.down(settings, report=_note)
    click.echo("Celeriac has ended." if ended else f"Nothing runs on {settings.home}.", err=True)


def _welcome(settings: Settings, state: State) -> str:
    home = Home(folder=settings.home)
    without_a_key = (
        "/graph, /nodes and /tools, for your programs on this machine"
        if settings.anonymous
        else "nothing"
    )
    return "\n".join(
        (
            f"Celeriac is up at {state.url}",
            f"  API docs     {state.url}/docs",
            f"  API key      in {home.admin_key}; commands here find it by themselves",
            f"  without key  {without_a_key}",
            "  Flower       celeriac flower",
            f"  logs         {home.folder / 'logs'}",
            "Ctrl-C ends it.",
        )
    )


def _note(text: str) -> None:
    click.echo(text, err=True)
