"""`celeriac secrets`: values that workers alone open."""

from __future__ import annotations

from collections.abc import Sequence

import click

from celeriac.cli import api, files, printing
from celeriac.client import Secret

_REASON = click.option("--reason", default="", help="Why, for the record.")


@click.group()
def secrets() -> None:
    """Put, list, delete and rotate secrets.

    A secret is read as $env.NAME in the `with` of a node, by what it was granted to (see
    `celeriac capabilities`). Nothing shows its value again.
    """


@secrets.command()
@click.argument("name")
@click.argument("source", metavar="-", type=click.Choice(["-"]))
@click.option("--plain", is_flag=True, help="It is no secret: let it be seen where it turns up.")
@_REASON
@printing.json_option
def put(*, name: str, source: str, plain: bool, reason: str, as_json: bool) -> None:
    """Keep what stdin holds as the newest version of a secret.

    One line's end at its end is left out. The value is never an argument: those are seen by
    others, and remembered by shells.
    """
    value = files.text_of(source)
    value = value.removesuffix("\n").removesuffix("\r")
    with api.connected() as client:
        made = client.put_secret(name, value, sensitive=not plain, reason=reason)
    _tell(made, as_json=as_json)


@secrets.command(name="list")
@click.option("--versions", metavar="NAME", help="List the versions of this one instead.")
@printing.json_option
def listed(*, versions: str | None, as_json: bool) -> None:
    """List secrets: who has put them when, and what they are sealed with."""
    with api.connected() as client:
        found = [*(client.secrets() if versions is None else client.secret_versions(versions))]
    if as_json:
        printing.document(found)
        return
    printing.table(
        ("secret", "version", "sensitive", "sealed with", "put", "by"),
        map(_row, found),
        empty="There are no secrets.",
    )


@secrets.command()
@click.argument("name")
@_REASON
@printing.json_option
def delete(*, name: str, reason: str, as_json: bool) -> None:
    """Remove a secret's value, for good."""
    with api.connected() as client:
        gone = client.delete_secret(name, reason)
    if as_json:
        printing.document(gone)
    else:
        click.echo(f"{gone.name} is deleted")


@secrets.command()
@_REASON
@printing.json_option
def rotate(*, reason: str, as_json: bool) -> None:
    """Seal all secrets with the first key of CELERIAC_SECRET_KEYS.

    After that the others can be left out there.
    """
    with api.connected() as client:
        found = client.rotate_secrets(reason)
    if as_json:
        printing.document(found)
    else:
        click.echo(f"{found['count']} sealed anew with {found['key_id']}")


def _tell(made: Secret, *, as_json: bool) -> None:
    if as_json:
        printing.document(made)
    else:
        click.echo(f"{made.name}, version {made.version}")


def _row(secret: Secret) -> Sequence[object]:
    return (
        secret.name,
        secret.version,
        "yes" if secret.sensitive else "no",
        secret.key_id or "gone",
        printing.time(secret.created_at),
        secret.created_by,
    )
