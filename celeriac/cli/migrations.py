"""`celeriac migrate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from celeriac.cli import acts, api, printing
from celeriac.cli.failures import FAILED
from celeriac.client import Migration


@click.command()
@acts.chosen
@click.option("--to", required=True, metavar="VERSION", help="One, or a range such as ^1.2.")
@click.option(
    "--map",
    "mapped",
    metavar="OLD=NEW",
    multiple=True,
    help="A node that has another name there. May be given several times.",
)
@click.option("--dry-run", is_flag=True, help="Say what would become of it; change nothing.")
@click.pass_context
def migrate(
    ctx: click.Context,
    /,
    *,
    runs: Sequence[str],
    to: str,
    mapped: Sequence[str],
    dry_run: bool,
    reason: str,
    as_json: bool,
    **which: Any,
) -> None:
    """Let a live run, or every run of a filter, go on under another version of its workflow.

    It goes on only if every live step, and every thread that waits, stands at a node that the other
    version has, too, or that --map names there. Otherwise it stays as it is, and all that keeps it is
    told. What is being carried out ends as it began. Exit code 1 where a run stays.
    """
    nodes = _nodes(mapped)
    with api.connected() as client:
        if acts.is_one("migrate", runs, which):
            found = client.migrate(runs[0], to, nodes, dry_run=dry_run, reason=reason)
        else:
            asked = {"to": to, "nodes": nodes, "dry_run": dry_run}
            every = client.bulk(
                "migrate", reason=reason, migration=asked, **acts.meant(runs, which)
            )
            acts.tell_all(every, as_json=as_json)
            return
    if as_json:
        printing.document(found)
    else:
        _tell(found)
    if found.problems:
        ctx.exit(FAILED)


def _tell(found: Migration) -> None:
    would = "goes on" if found.migrated else "would go on"
    if found.problems:
        printing.problems(f"run {found.run_id} stays under {found.version}", found.problems)
        return
    click.echo(f"{found.workflow} {found.version} {would} as {found.to}")
    printing.table(
        ("step", "status", "node", "becomes"),
        (
            (each.step, printing.status(each.status), each.node, each.becomes)
            for each in found.steps
        ),
        empty="No step is live.",
    )


def _nodes(mapped: Sequence[str]) -> dict[str, str]:
    found = {}
    for pair in mapped:
        old, equals, new = pair.partition("=")
        if not old or not equals or not new:
            raise click.BadParameter(f"{pair!r} is not OLD=NEW", param_hint="--map")
        found[old] = new
    return found
