"""`celeriac db`: the schema of the database, and what must be in it."""

from __future__ import annotations

from pathlib import Path

import click

import migrations
from celeriac.cli import printing, servers
from celeriac.embedded.install import install


@click.group()
def db() -> None:
    """Look after the database's schema."""


@db.command()
@click.option(
    "--key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the admin's API key is, or is written; by default admin.key in CELERIAC_HOME.",
)
def upgrade(key_file: Path | None) -> None:
    """Prepare the database for this release; a fleet runs this before its processes.

    Takes the migrations that are missing, makes the local tenant and a key of its admin unless the
    key file holds a valid one, and installs the libraries (the entry points `celeriac.libraries` and
    CELERIAC_LIBRARIES). Doing it again, or at once from several places, does no harm. The embedded
    platform does it by itself.
    """
    with servers.reached() as settings:
        key = key_file or settings.home / "admin.key"
        install(settings, key_file=key)
        assert settings.database_url is not None
        found = migrations.current(settings.database_url)
    click.echo(f"The database is at {found}; the admin's API key is in {key}", err=True)


@db.command()
@printing.json_option
def current(*, as_json: bool) -> None:
    """Print the revision that the database is at, and the one that this release wants."""
    with servers.reached() as settings:
        assert settings.database_url is not None
        found = migrations.current(settings.database_url)
    newest = migrations.head()
    if as_json:
        printing.document({"current": found, "head": newest})
    elif found is None:
        click.echo(f"no schema yet; celeriac db upgrade makes {newest}")
    else:
        behind = "" if found >= newest else f"; celeriac db upgrade brings it to {newest}"
        click.echo(f"{found}{behind}")
