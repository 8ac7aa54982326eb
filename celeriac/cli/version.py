"""`celeriac version`."""

from __future__ import annotations

import importlib.metadata
import platform

import click

from celeriac.cli import printing


@click.command()
@printing.json_option
def version(*, as_json: bool) -> None:
    """Print the version."""
    found = {
        "celeriac": importlib.metadata.version("celeriac"),
        "python": platform.python_version(),
    }
    if as_json:
        printing.document(found)
    else:
        click.echo(f"celeriac {found['celeriac']}")
