"""`celeriac undo`: what calls of a run have done, undone by what their tools name for that."""

from __future__ import annotations

from collections.abc import Sequence

import click

from celeriac.cli import api, printing
from celeriac.client import Undoable

_COMPENSABLE = "compensable"


@click.command()
@click.argument("run")
@click.argument("calls", metavar="[CALL]...", nargs=-1)
@click.option("--all", "whole", is_flag=True, help="All that are left, of runs within it as well.")
@click.option(
    "--class",
    "effect",
    type=click.Choice([_COMPENSABLE]),
    help="With --all: of which effect class. Calls of no other are undone.",
)
@click.option("--plan", is_flag=True, help="Only say how each call would be undone, or why not.")
@click.option("--reason", default="", help="Why; the audit keeps it.")
@printing.json_option
def undo(
    *,
    run: str,
    calls: tuple[str, ...],
    whole: bool,
    effect: str | None,
    plan: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Start a run that undoes what calls of a run have done which has ended.

    A CALL is STEP.ORDINAL (pay#1.1), of a run around or within it RUN/STEP.ORDINAL. Tools name what undoes
    their calls; the last ones are undone first, one at a time, each at most once. Nothing is undone if one of
    them cannot be, or while a live run rests on it.
    """
    if effect is not None and not whole:
        raise click.UsageError("--class belongs to --all")
    if not plan and bool(calls) == whole:
        raise click.UsageError("name the calls, or say --all")
    with api.connected() as client:
        if plan:
            found = client.undoable(run)
            _plan([one for one in found if not calls or one.name in calls], as_json=as_json)
            return
        made = client.undo(run, calls or [_COMPENSABLE], reason=reason)
    if as_json:
        printing.document(printing.record(made))
    else:
        click.echo(made.id)


def _plan(found: Sequence[Undoable], *, as_json: bool) -> None:
    if as_json:
        printing.document(found)
        return
    printing.table(
        ("call", "tool", "effect", "happened", "undone by", "with", "why not", "what to do"),
        (
            (
                *(one.name, one.tool, one.effect, one.undone or one.happened, one.undo),
                *(one.arguments, one.why, one.remedy),
            )
            for one in found
        ),
        empty="No call may only happen once: there is nothing to undo.",
    )
