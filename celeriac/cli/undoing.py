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
@click.option("--plan", is_flag=True, help="Only say how each call would be undone, or why not.")
@click.option(
    "--settle",
    type=click.Choice(["undone", "stands"]),
    help="Undo nothing: say what has become of undoing CALL, of which nobody knew when its run had ended.",
)
@click.option("--reason", default="", help="Why; the audit keeps it.")
@printing.json_option
def undo(
    *,
    run: str,
    calls: tuple[str, ...],
    whole: bool,
    plan: bool,
    settle: str | None,
    reason: str,
    as_json: bool,
) -> None:
    """Start a run that undoes what calls of a run have done which has ended, or gone back over them.

    A CALL is STEP.ORDINAL (pay#1.1), of a run around or within it RUN/STEP.ORDINAL. Tools name what undoes
    their calls; the last ones are undone first, one at a time, each at most once. Nothing is undone if one of
    them cannot be, or while a live run rests on it.
    """
    if settle is not None and (len(calls) != 1 or whole or plan):
        raise click.UsageError("--settle is said of one call")
    if not plan and bool(calls) == whole:
        raise click.UsageError("name the calls, or say --all")
    with api.connected() as client:
        if plan:
            _plan(_meant(run, client.undoable(run), calls), as_json=as_json)
            return
        if settle is not None:
            client.settle_undo(run, calls[0], settle, reason=reason)
            return
        made = client.undo(run, calls or [_COMPENSABLE], reason=reason)
    if as_json:
        printing.document(printing.record(made))
    else:
        click.echo(made.id)


def _meant(run: str, found: Sequence[Undoable], calls: Sequence[str]) -> Sequence[Undoable]:
    """Those of the calls that are named, or all."""
    names = {one.name: one for one in found}
    wanted = [name.removeprefix(f"{run}/") for name in calls]
    if unknown := [name for name in wanted if name not in names]:
        raise click.UsageError(
            f"the run has made no call of that name that may not be repeated: {', '.join(unknown)}"
        )
    return [names[name] for name in wanted] if wanted else found


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
