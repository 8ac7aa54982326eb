"""`celeriac capabilities`: what code that somebody registered may reach."""

from __future__ import annotations

import click

from celeriac.cli import api, files, printing
from celeriac.cli.failures import Misused
from celeriac.client import Capability
from engine import capabilities as profiles
from engine import documents

_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True)
_REASON = click.option("--reason", default="", help="Why, for the record.")


@click.group()
def capabilities() -> None:
    """Grant, show and revoke what registered code may reach.

    SUBJECT is function:NAME@3, tool:NAME@3 or workflow:NAME@1.2.0. Without a version it is for all,
    those to come included, which have no grant of their own. What is not granted is denied.
    """


@capabilities.command()
@click.argument("subject")
@click.argument("file", type=_FILE)
@_REASON
@printing.json_option
def grant(*, subject: str, file: str, reason: str, as_json: bool) -> None:
    """Grant a profile, YAML or JSON, in the place of what was granted. FILE may be `-`, stdin."""
    profile = documents.read_text(files.text_of(file))
    if not isinstance(profile, dict):
        raise Misused(f"{file}: a profile is an object: files, hosts, databases, services, …")
    with api.connected() as client:
        _tell(client.grant(subject, profile, reason), as_json=as_json)


@capabilities.command()
@click.argument("subject")
@printing.json_option
def show(*, subject: str, as_json: bool) -> None:
    """Print the grant that holds for a subject: its own, else that for all versions."""
    with api.connected() as client:
        _tell(client.capability(subject), as_json=as_json)


@capabilities.command(name="list")
@printing.json_option
def listed(*, as_json: bool) -> None:
    """List all that is granted."""
    with api.connected() as client:
        found = [*client.capabilities()]
    if as_json:
        printing.document(found)
        return
    printing.table(
        ("granted to", "what", "granted", "by", "why"),
        (
            (
                each.subject,
                ", ".join(each.profile) or "nothing",
                printing.time(each.granted_at),
                each.granted_by,
                each.reason,
            )
            for each in found
        ),
        empty="Nothing is granted.",
    )


@capabilities.command()
@click.argument("subject")
@_REASON
@printing.json_option
def revoke(*, subject: str, reason: str, as_json: bool) -> None:
    """Take a grant back, from the next attempt on."""
    with api.connected() as client:
        gone = client.revoke_capability(subject, reason)
    if as_json:
        printing.document(gone)
    else:
        click.echo(f"nothing is granted to {gone.subject} any more")


def _tell(granted: Capability, *, as_json: bool) -> None:
    if as_json:
        printing.document(granted)
        return
    click.echo(granted.subject)
    for line in profiles.entries(profiles.read(dict(granted.profile))):
        click.echo(printing.legible(f"  {line}"))
