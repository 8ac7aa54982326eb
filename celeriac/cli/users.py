"""`celeriac me`, `celeriac user`: who you are, and who else may use the platform for your tenant."""

from __future__ import annotations

from collections.abc import Sequence

import click

from celeriac.cli import api, printing
from celeriac.client import User

_ROLES = (
    "viewer, operator, editor, approver, admin, or a team of your own. May be given several times."
)
_PERMISSIONS = "One more permission, as noun:verb. May be given several times."


@click.command()
@printing.json_option
def me(*, as_json: bool) -> None:
    """Say who you are, and what you may do."""
    with api.connected() as client:
        found = client.me()
    if as_json:
        printing.document(found)
        return
    click.echo(printing.legible(f"{found.user} of {found.tenant}, by {found.credential}"))
    click.echo(printing.legible(f"roles        {', '.join(found.roles)}"))
    click.echo(printing.legible(f"permissions  {', '.join(found.permissions)}"))
    if found.scopes is not None:
        click.echo(printing.legible(f"of these     {', '.join(found.scopes)}"))


@click.group()
def user() -> None:
    """List, make and change the users of your tenant."""


@user.command("list")
@printing.json_option
def list_users(*, as_json: bool) -> None:
    """List users by their ids."""
    with api.connected() as client:
        found = list(client.users())
    if as_json:
        printing.document(found)
    else:
        printing.table(
            ("user", "roles", "permissions", "active", "made by", "at"),
            map(_row, found),
            empty="There are no users.",
        )


@user.command()
@click.argument("user")
@click.option("--role", "roles", multiple=True, metavar="ROLE", help=_ROLES)
@click.option("--permission", "permissions", multiple=True, metavar="NOUN:VERB", help=_PERMISSIONS)
@printing.json_option
def create(
    *, user: str, roles: tuple[str, ...], permissions: tuple[str, ...], as_json: bool
) -> None:
    """Make a user; give him a key with: celeriac key create --user USER NAME"""
    with api.connected() as client:
        made = client.create_user(user, roles=roles, permissions=permissions)
    _show(made, as_json=as_json)


@user.command()
@click.argument("user")
@click.option("--role", "roles", multiple=True, metavar="ROLE", help=f"Instead of all: {_ROLES}")
@click.option("--no-roles", is_flag=True, help="Take all roles away.")
@click.option(
    "--permission",
    "permissions",
    multiple=True,
    metavar="NOUN:VERB",
    help=f"Instead of all: {_PERMISSIONS}",
)
@click.option("--no-permissions", is_flag=True, help="Take all further permissions away.")
@click.option("--active/--inactive", default=None, help="Whether his credentials hold.")
@click.option("--why", default="", help="For the audit.")
@printing.json_option
def change(
    *,
    user: str,
    roles: tuple[str, ...],
    no_roles: bool,
    permissions: tuple[str, ...],
    no_permissions: bool,
    active: bool | None,
    why: str,
    as_json: bool,
) -> None:
    """Change what a user holds, or whether he is active. It holds from his next request."""
    if (roles and no_roles) or (permissions and no_permissions):
        raise click.UsageError("either give them or take them away")
    with api.connected() as client:
        changed = client.change_user(
            user,
            roles=roles if roles or no_roles else None,
            permissions=permissions if permissions or no_permissions else None,
            active=active,
            why=why,
        )
    _show(changed, as_json=as_json)


def _show(found: User, *, as_json: bool) -> None:
    if as_json:
        printing.document(found)
    else:
        state = "" if found.active else " (inactive)"
        held = ", ".join((*found.roles, *found.permissions)) or "nothing"
        click.echo(printing.legible(f"{found.id}{state}: {held}"))


def _row(user: User) -> Sequence[object]:
    return (
        user.id,
        ", ".join(user.roles),
        ", ".join(user.permissions),
        "yes" if user.active else "no",
        user.created_by,
        printing.time(user.created_at),
    )
