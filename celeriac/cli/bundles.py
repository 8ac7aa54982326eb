"""`celeriac upload`."""

from __future__ import annotations

from pathlib import Path

import click

from celeriac.cli import api, printing
from celeriac.cli.failures import FAILED


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--strict", is_flag=True, help="Hold it to the seed's own rules.")
@printing.json_option
def upload(*, file: Path, strict: bool, as_json: bool) -> None:
    """Publish a bundle: an archive of a drawing and the code of its nodes.

    A .tar, .tar.gz or .zip with agent_graph.dot, plans/NODE/plan.py and tasks/NODE/task.py.
    """
    with api.connected() as client:
        found = client.upload(file, strict=strict)
    if as_json:
        printing.document(found)
    else:
        for warning in found["warnings"]:
            click.echo(f"Warning: {warning}", err=True)
        for error in found["errors"]:
            click.echo(f"Error: {_said(error)}", err=True)
        click.echo(found["message"])
    if found["status"] == "FAILED":
        click.get_current_context().exit(FAILED)


def _said(error: dict[str, str]) -> str:
    place = f"{error['path']}: " if error["path"] else ""
    remedy = f" ({error['remedy']})" if error["remedy"] else ""
    return str(printing.legible(f"{place}{error['message']}{remedy}"))
