"""`celeriac delegate`, `delegations`, `revoke`: says in other hands."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import click

from celeriac.cli import api, printing
from celeriac.client import Delegation


@click.command()
@click.argument("user")
@click.option("--run", metavar="RUN", help="In what a step of this run asks.")
@click.option("--step", metavar="STEP", help="The step of the run.")
@click.option("--until", type=click.DateTime(), help="In all that you are asked until then.")
@click.option("--reason", required=True, help="Why; it is kept.")
@printing.json_option
def delegate(
    *,
    user: str,
    run: str | None,
    step: str | None,
    until: datetime | None,
    reason: str,
    as_json: bool,
) -> None:
    """Hand your say to somebody else.

    Whoever of you speaks first uses it; until then you can take it back.
    """
    with api.connected() as client:
        given = client.delegate(
            user,
            reason=reason,
            run=run,
            step=step,
            # As typed: in the time of whoever types.
            until=until and until.astimezone(),
        )
    _tell(given, as_json=as_json)


@click.command()
@printing.json_option
def delegations(*, as_json: bool) -> None:
    """List the says that are in other hands.

    Yours, and those that were handed to you. The newest stand first.
    """
    with api.connected() as client:
        found = list(client.delegations())
    if as_json:
        printing.document(found)
    else:
        printing.table(
            ("id", "from", "to", "run", "step", "until", "status", "why"),
            map(_row, found),
            empty="Everybody has a say of their own.",
        )


@click.command()
@click.argument("delegation")
@click.option("--reason", default="", help="Why; it is kept.")
@printing.json_option
def revoke(*, delegation: str, reason: str, as_json: bool) -> None:
    """Take your say back."""
    with api.connected() as client:
        found = client.revoke(delegation, reason)
    _tell(found, as_json=as_json)


def _tell(found: Delegation, *, as_json: bool) -> None:
    if as_json:
        printing.document(found)
    else:
        click.echo(f"{found.id} {found.status}")


def _row(one: Delegation) -> Sequence[object]:
    return (
        one.id,
        one.giver,
        one.taker,
        one.run_id or "all",
        one.step or "",
        printing.time(one.until),
        one.status,
        one.reason,
    )
