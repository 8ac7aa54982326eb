"""`celeriac tenant`: for the operator of an installation, who holds the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict

import click
from sqlalchemy import Engine

from celeriac.cli import printing, servers
from engine import platform
from engine.platform import DatabaseRole
from engine.runs import tenants

_HOURS = 200


@click.group()
def tenant() -> None:
    """List and make tenants, with the database at hand.

    These commands go to DATABASE_URL: no credential of one tenant reaches another.
    """


@tenant.command("list")
@printing.json_option
def list_tenants(*, as_json: bool) -> None:
    """List tenants by id."""
    with _database() as database:
        found = tenants.everyone(database)
    if as_json:
        printing.document([asdict(each) for each in found])
    else:
        printing.table(
            ("tenant", "name", "made"),
            ((each.id, each.name, printing.time(each.created_at)) for each in found),
            empty="There are no tenants.",
        )


@tenant.command()
@click.argument("tenant")
@click.option("--name", help="What it is called; by default its id.")
@click.option("--admin", default="admin", show_default=True, help="Its first user.")
@printing.json_option
def create(*, tenant: str, name: str | None, admin: str, as_json: bool) -> None:
    """Make a tenant and its first admin, and print the token of his key, this once."""
    with _database() as database:
        token = tenants.create(database, tenant, name=name or tenant, admin=admin)
    if as_json:
        printing.document({"tenant": tenant, "admin": admin, "token": token})
    else:
        click.echo(token)
        click.echo(f"{tenant} is there; the token of {admin} is not shown again", err=True)


@tenant.command()
@click.argument("tenant")
@click.argument("user")
@click.option("--why", default="", help="For the tenant's audit.")
def admit(*, tenant: str, user: str, why: str) -> None:
    """Make a user an active admin and print the token of a new key of his, this once.

    For a tenant that has locked itself out.
    """
    with _database() as database:
        token = tenants.admit(database, tenant, user, why=why)
    click.echo(token)
    click.echo(f"{user} is an admin of {tenant}; the token is not shown again", err=True)


@tenant.command()
@printing.json_option
def strangers(*, as_json: bool) -> None:
    """Count requests of nobody's tenant: without a credential, or with one that nobody knows.

    By hour and reason, the newest first. What was refused of a tenant is in its own audit.
    """
    with _database() as database:
        found = tenants.unknown_requests(database, limit=_HOURS)
    if as_json:
        printing.document([asdict(each) for each in found])
    else:
        printing.table(
            ("hour", "why", "how many"),
            ((printing.time(each.hour), each.reason, each.count) for each in found),
            empty="There were none.",
        )


@contextmanager
def _database() -> Iterator[Engine]:
    with (
        servers.reached() as settings,
        closing(platform.build(settings, DatabaseRole.CONTROL, connections=1)) as built,
    ):
        yield built.database
