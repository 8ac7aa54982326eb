"""`celeriac services`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from celeriac.cli import api, printing
from celeriac.client import Synced
from celeriac.client.tool_servers import SECONDS

#: Characters of what is different that a line shows; `--json` has all.
_LEGIBLE = 300


@click.group()
def services() -> None:
    """Bring the tools of a server into the registry."""


@services.command()
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Only show what would be registered.")
@click.option(
    "--trust-hints",
    is_flag=True,
    help="Believe the server which calls change nothing, and which may be made twice; otherwise a "
    "call is made at most once.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=SECONDS,
    help="Seconds to wait for the server.",
)
@printing.json_option
def sync(*, name: str, dry_run: bool, trust_hints: bool, timeout: float, as_json: bool) -> None:
    """Register the tools of the MCP server NAME, and tell what is new, changed and gone.

    NAME is a service of kind mcp. Each tool becomes the service NAME.TOOL, as its server describes
    it now; what the server says of it later changes nothing until the next sync.
    """
    with api.connected() as client:
        try:
            found = client.sync_services(
                name, dry_run=dry_run, trust_hints=trust_hints, timeout=timeout
            )
        except TimeoutError as error:
            raise click.ClickException(str(error)) from error
    if as_json:
        printing.document(found)
        return
    printing.table(("tool", "is", "what"), _rows(found), empty="The server has no tools.")
    if dry_run:
        click.echo("Nothing was registered.", err=True)


def _rows(found: Synced) -> Iterator[tuple[str, str, str]]:
    yield from ((name, "new", "") for name in found.new)
    for name, differences in found.changed.items():
        for each in differences:
            before, after = (printing.legible(value) for value in (each.before, each.after))
            told = f"{each.field}: {before[:_LEGIBLE]} → {after[:_LEGIBLE]}"
            yield name, "changed", told.replace("\n", "⏎")
    yield from ((name, "same", "") for name in found.same)
    yield from ((name, "gone", "it is registered still") for name in found.gone)
    yield from ((name, "refused", why) for name, why in found.refused.items())
