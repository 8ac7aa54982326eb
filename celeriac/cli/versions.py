"""`celeriac versions`, `publish`, `retire`: versions of workflows."""

from __future__ import annotations

import click

from celeriac.cli import api, files, printing
from celeriac.client import Version

#: What people say of a version, for whoever lists it.
notes_option = click.option("--notes", default="", help="What is new in it.")


@click.command()
@click.argument("workflow")
@printing.json_option
def versions(*, workflow: str, as_json: bool) -> None:
    """List the versions of a workflow, who published each, and what he said.

    The newest first. No run of a version that is retired is started.
    """
    with api.connected() as client:
        found = list(client.versions(workflow))
    if as_json:
        printing.document(found)
        return
    printing.table(
        ("version", "published", "by", "retired", "notes", "id"),
        (
            (
                each.version,
                printing.time(each.created_at),
                each.created_by,
                printing.time(each.retired_at),
                each.notes,
                each.id,
            )
            for each in found
        ),
        empty="There are no versions.",
    )


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@notes_option
@printing.json_option
def publish(*, file: str, notes: str, as_json: bool) -> None:
    """Publish a version of a workflow from its document.

    FILE is YAML or JSON, `-` for stdin. Without a version of its own it gets the next patch; what has
    not changed keeps its version, and its notes. Prints NAME@VERSION.
    """
    text = files.text_of(file)
    with api.connected() as client:
        told(client.publish(text, notes), as_json=as_json)


@click.command()
@click.argument("version", metavar="NAME@VERSION")
@click.option("--reason", default="", help="Why, for the record.")
@printing.json_option
def retire(*, version: str, reason: str, as_json: bool) -> None:
    """Retire a version: nothing new begins with it.

    The runs that it has had stay as they are. What uses it still is listed, and nothing is changed:
    runs that have not ended, and versions of workflows that would name nothing.
    """
    name, at, number = version.partition("@")
    if not name or not at or not number:
        raise click.BadParameter(
            f"{version!r} is not NAME@VERSION, such as summarize@1.2.0", param_hint="NAME@VERSION"
        )
    with api.connected() as client:
        found = client.retire(name, number, reason)
    if as_json:
        printing.document(found)
    else:
        click.echo(f"{found.workflow}@{found.version} is retired")


def told(found: Version, *, as_json: bool) -> None:
    """Print a version that was published."""
    if as_json:
        printing.document(found)
    else:
        click.echo(f"{found.workflow}@{found.version}")
