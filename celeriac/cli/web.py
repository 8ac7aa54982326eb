"""`celeriac web`."""

from __future__ import annotations

import click

from celeriac.cli import environment
from web import server


@click.command()
@click.option("--host", help="Where to listen; by default CELERIAC_HOST, else 127.0.0.1.")
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    help="By default CELERIAC_PORT, else 8000.",
)
def web(host: str | None, port: int | None) -> None:
    """Serve the API."""
    server.serve(environment.attached(host=host, port=port))
