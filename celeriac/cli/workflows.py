"""`celeriac graphs`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from celeriac.cli import api, printing
from celeriac.client import Version


@click.command()
@click.argument("workflow", required=False)
@printing.json_option
def graphs(*, workflow: str | None, as_json: bool) -> None:
    """List workflows, or the versions of one.

    Of all workflows the latest version, of a WORKFLOW every version, the newest first.
    """
    with api.connected() as client:
        found = list(client.workflows() if workflow is None else client.versions(workflow))
    if as_json:
        printing.document(found)
    else:
        printing.table(
            ("workflow", "version", "published", "by", "id"),
            map(_row, found),
            empty="There are no workflows.",
        )


def _row(version: Version) -> Sequence[object]:
    return (
        version.workflow,
        version.version,
        printing.time(version.created_at),
        version.created_by,
        version.id,
    )
