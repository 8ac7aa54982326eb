"""`celeriac export` and `import`: runs as files."""

from __future__ import annotations

import click

from celeriac.cli import api, files, printing


@click.command()
@click.argument("run")
@click.option(
    "-o",
    "--output",
    "file",
    type=click.Path(dir_okay=False, writable=True, allow_dash=True),
    default="-",
    show_default=True,
    help="The file; - for stdout.",
)
@click.option(
    "--payloads",
    type=click.Choice(("all", "small", "none")),
    default="all",
    show_default=True,
    help="How much of users' data goes along; small: up to 4096 bytes of each line and call.",
)
def export(*, run: str, file: str, payloads: str) -> None:
    """Write a run that has ended into a file.

    It holds the history, the graph and what the run was pinned to, and no secrets. `celeriac import`
    brings it in elsewhere; `celeriac.testing.replay` decides it anew in a test.
    """
    with api.connected() as client:
        text = client.export(run, payloads)
    with click.open_file(file, "w", encoding="utf-8") as opened:
        opened.write(text)


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@printing.json_option
def bring(*, file: str, as_json: bool) -> None:
    """Bring in a run that was recorded elsewhere, to be looked at.

    It can be shown, replayed and explained, and is read-only. A file that was altered is refused with
    the line.
    """
    with api.connected() as client:
        found = client.bring(files.text_of(file))
    if as_json:
        printing.document(printing.record(found))
    else:
        click.echo(found.id)
