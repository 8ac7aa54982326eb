"""`celeriac worker`, `coordinator`, `beat`: one process each, in the foreground.

They read their settings from the environment, log JSON lines to stderr, and end in order on
SIGTERM or Ctrl-C. Without `DATABASE_URL` they join the embedded platform that is up.
"""

from __future__ import annotations

import click

from celeriac.cli import environment
from engine.broker import STEPS
from workers import processes


@click.command()
@click.option("--queues", default=STEPS, show_default=True, help="Comma separated.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1000),
    help="Steps at once, and one more for who would have to wait for other tenants, unless it is 1; by default"
    " CELERIAC_CONCURRENCY, else 4.",
)
def worker(queues: str, concurrency: int | None) -> None:
    """Run a worker, which carries steps out."""
    names = [name.strip() for name in queues.split(",") if name.strip()]
    if not names:
        raise click.BadParameter("names no queue", param_hint="--queues")
    processes.worker(environment.attached(concurrency=concurrency), queues=names)


@click.command()
def coordinator() -> None:
    """Run a coordinator, which decides what follows."""
    processes.coordinator(environment.attached())


@click.command()
def beat() -> None:
    """Run beat, which only reminds coordinators."""
    processes.beat(environment.attached())
