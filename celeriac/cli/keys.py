"""`celeriac key`: by which programs are known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import click

from celeriac.cli import api, printing
from celeriac.client import Key


@click.group()
def key() -> None:
    """List, make, rotate and revoke API keys."""


@key.command("list")
@click.option("--user", metavar="USER", help="Only of this user.")
@printing.json_option
def list_keys(*, user: str | None, as_json: bool) -> None:
    """List keys, newest first, with those that are over."""
    with api.connected() as client:
        found = list(client.keys(user=user))
    if as_json:
        printing.document(found)
    else:
        printing.table(
            ("key", "name", "user", "for", "made", "used", "ends", "revoked"),
            map(_row, found),
            empty="There are no keys.",
        )


@key.command()
@click.argument("name")
@click.option("--user", metavar="USER", help="Whose it is; your own unless named.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="NOUN:VERB",
    help="It is for this alone. May be given several times; without, for all that its user may do.",
)
@click.option("--days", type=click.FloatRange(0, min_open=True), help="It ends after so many.")
@printing.json_option
def create(
    *, name: str, user: str | None, scopes: tuple[str, ...], days: float | None, as_json: bool
) -> None:
    """Make a key and print its token, this once. NAME says what it is for."""
    ends = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with api.connected() as client:
        made = client.create_key(name, user=user, scopes=scopes or None, expires_at=ends)
    _show(made, as_json=as_json)


@key.command()
@click.argument("key")
@click.option(
    "--grace", type=click.FloatRange(0), default=0.0, help="Seconds that the old one has."
)
@printing.json_option
def rotate(*, key: str, grace: float, as_json: bool) -> None:
    """Make a key in another's place, for the same user and use; the old one ends."""
    with api.connected() as client:
        made = client.rotate_key(key, grace_seconds=grace)
    _show(made, as_json=as_json)


@key.command()
@click.argument("key")
@click.option("--why", default="", help="For the audit.")
@printing.json_option
def revoke(*, key: str, why: str, as_json: bool) -> None:
    """End a key, from the next request on, for good."""
    with api.connected() as client:
        ended = client.revoke_key(key, why)
    if as_json:
        printing.document(ended)
    else:
        click.echo(printing.legible(f"{ended.id} ({ended.name} of {ended.user}) is revoked"))


def _show(made: Key, *, as_json: bool) -> None:
    if as_json:
        printing.document(made)
        return
    click.echo(made.token)
    click.echo(
        printing.legible(f"{made.id} is a key of {made.user}; its token is not shown again"),
        err=True,
    )


def _row(key: Key) -> Sequence[object]:
    return (
        key.id,
        key.name,
        key.user,
        "all" if key.scopes is None else ", ".join(key.scopes),
        printing.time(key.created_at),
        printing.time(key.last_used_at),
        printing.time(key.expires_at),
        printing.time(key.revoked_at),
    )
