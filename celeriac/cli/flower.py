"""`celeriac flower`: Flower on our broker.

It shows and commands Celery (workers, queues, each message as workflow, node and run), and knows
nothing of runs. It asks nobody who they are unless it is told to, hence loopback by default.
"""

from __future__ import annotations

import ipaddress

import click

from celeriac.cli import environment
from engine.broker import celery_app
from engine.errors import Unavailable


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", type=click.IntRange(1, 65_535), default=5555, show_default=True)
@click.option(
    "--basic-auth",
    metavar="USER:PASSWORD",
    envvar="FLOWER_BASIC_AUTH",
    help="Whom to let in; also FLOWER_BASIC_AUTH, which no list of processes shows.",
)
def flower(host: str, port: int, basic_auth: str | None) -> None:
    """Run Flower, which shows Celery's side, on this machine."""
    if basic_auth is None and not _is_loopback(host):
        raise click.UsageError(
            f"on {host} others reach Flower, and whoever does can stop workers; "
            "set FLOWER_BASIC_AUTH=user:password"
        )
    settings = environment.attached()
    if settings.broker_url is None:
        raise Unavailable("BROKER_URL is not set; set it, or start the platform with: celeriac up")
    options = [f"--address={host}", f"--port={port}"]
    if basic_auth is not None:
        options.append(f"--basic_auth={basic_auth}")
    click.echo(f"Flower listens on http://{host}:{port}; Ctrl-C ends it.", err=True)
    celery_app(settings).start(["flower", *options])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
