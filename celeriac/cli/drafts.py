"""`celeriac draft`: workflows as they are being written."""

from __future__ import annotations

import click

from celeriac.cli import api, files, printing, versions
from celeriac.cli.failures import FAILED
from celeriac.client import Draft

_REVISION = click.option(
    "--revision", type=click.IntRange(min=1), help="The revision that you have read."
)


@click.group()
def draft() -> None:
    """Save, show, list, publish and discard drafts of workflows.

    A draft may be wrong; it is told with all that is. It is not run: to try it, publish it as a
    pre-release (version: 1.3.0-rc.1), which nobody gets who does not name it.
    """


@draft.command()
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@_REVISION
@printing.json_option
def save(*, name: str, file: str, revision: int | None, as_json: bool) -> None:
    """Save a draft as it is; prints its revision.

    Without --revision it is a new draft. What somebody else has saved since is not written over.
    """
    text = files.text_of(file)
    with api.connected() as client:
        found = client.save_draft(name, text, revision=revision)
    if as_json:
        printing.document(found)
        return
    click.echo(f"{found.workflow}, revision {found.revision}")
    _problems(found)


@draft.command()
@click.argument("name")
@printing.json_option
@click.pass_context
def show(ctx: click.Context, *, name: str, as_json: bool) -> None:
    """Print a draft as it was written. Exit code 1 if it cannot be published."""
    with api.connected() as client:
        found = client.draft(name)
    if as_json:
        printing.document(found)
    else:
        told = f"{found.workflow}, revision {found.revision}, saved by {found.saved_by}"
        click.echo(printing.legible(told), err=True)
        click.echo(printing.legible(found.text or "").rstrip("\n"))
        _problems(found)
    if found.problems:
        ctx.exit(FAILED)


@draft.command(name="list")
@printing.json_option
def listed(*, as_json: bool) -> None:
    """List drafts by name."""
    with api.connected() as client:
        found = list(client.drafts())
    if as_json:
        printing.document(found)
        return
    printing.table(
        ("workflow", "revision", "saved", "by", "begun by"),
        (
            (
                each.workflow,
                each.revision,
                printing.time(each.saved_at),
                each.saved_by,
                each.created_by,
            )
            for each in found
        ),
        empty="There are no drafts.",
    )


@draft.command()
@click.argument("name")
@versions.notes_option
@_REVISION
@printing.json_option
def publish(*, name: str, notes: str, revision: int | None, as_json: bool) -> None:
    """Make a version of a draft, which is gone then; prints NAME@VERSION."""
    with api.connected() as client:
        versions.told(client.publish_draft(name, notes, revision=revision), as_json=as_json)


@draft.command()
@click.argument("name")
@click.option("--reason", default="", help="Why, for the record.")
@_REVISION
@printing.json_option
def discard(*, name: str, reason: str, revision: int | None, as_json: bool) -> None:
    """Give a draft up."""
    with api.connected() as client:
        found = client.discard_draft(name, reason, revision=revision)
    if as_json:
        printing.document(found)
    else:
        click.echo(f"the draft of {found.workflow} is discarded")


def _problems(found: Draft) -> None:
    if found.problems:
        printing.problems(f"draft of {found.workflow}", found.problems)
