"""`celeriac checkpoints`, `fork`, `restart` and `rollback`: places of runs, and going on from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.text import Text

from celeriac.cli import api, given, printing
from celeriac.cli.failures import Misused
from celeriac.client import Checkpoint, Client, Effect, Place, Run, WentBack

_PLAN = click.option(
    "--plan",
    is_flag=True,
    help="Only say what would become of the calls of the run: served, asked, repeated, undecided.",
)
_CHOICES = click.option(
    "--effect",
    "chosen",
    metavar="CALL|CLASS=CHOICE",
    multiple=True,
    help="What becomes of calls that were made since: reuse, skip, execute or compensate (undone first, see"
    " `celeriac undo`). Of one (pay#1.1), or of a class (at_most_once, compensable, …)."
    " What must be chosen is asked for.",
)


_EDITS = click.option(
    "--set",
    "edits",
    metavar="KEY=VALUE",
    multiple=True,
    help="A variable that is to be something else: JSON, or else text. Several times for several.",
)
_REMOVED = click.option(
    "--remove", "removed", metavar="KEY", multiple=True, help="A variable to take away."
)


@click.command()
@click.argument("run")
@click.argument("seq", type=click.IntRange(0), required=False)
@click.option("--against", type=click.IntRange(0), metavar="SEQ", help="What has changed since.")
@click.option("--name", help="Call the place this from now on.")
@printing.json_option
def checkpoints(
    *, run: str, seq: int | None, against: int | None, name: str | None, as_json: bool
) -> None:
    """List the places of a run that it can be taken up from, or show one.

    With a SEQ, a line of its history: the state there, where its threads stand, what was used by
    then, and the difference to another line.
    """
    if seq is None and (against is not None or name is not None):
        raise click.UsageError("say which place: a SEQ is missing")
    with api.connected() as client:
        if seq is None:
            _list([*client.checkpoints(run)], as_json=as_json)
            return
        if name is not None:
            client.name_checkpoint(run, seq, name)
        found = client.checkpoint(run, seq, against=against)
    if as_json:
        printing.document(found)
    else:
        _show(found)


@click.command()
@click.argument("run")
@click.argument("place", metavar="SEQ|NAME")
@_EDITS
@_REMOVED
@_CHOICES
@_PLAN
@printing.json_option
def fork(
    *,
    run: str,
    place: str,
    edits: tuple[str, ...],
    removed: tuple[str, ...],
    chosen: tuple[str, ...],
    plan: bool,
    as_json: bool,
) -> None:
    """Start a run that goes on from a place of another one, which stays as it is.

    The place is a line of its history, or the name that somebody has given it (see `celeriac
    checkpoints`). What was settled there is not done again; what was live begins anew. It is a run by
    itself, even where a step of another one waits for this one (see `celeriac restart`).
    """
    variables = given.pairs(edits, "--set")
    with api.connected() as client:
        seq = _seq(client, run, place)
        if plan:
            _plan(client.effects(run, seq), as_json=as_json)
            return
        choices = _choices(client.effects(run, seq), chosen, as_json=as_json)
        made = client.fork(run, seq, variables, removed=removed, choices=choices)
    _made(made, as_json=as_json)


@click.command()
@click.argument("run")
@click.argument("step")
@click.option("--result", metavar="JSON", help="Let this be its result: it is not carried out.")
@click.option("--choice", metavar="NAME", help="With --result: the edge it takes.")
@click.option(
    "--set", "edits", metavar="KEY=VALUE", multiple=True, help="A variable, as `fork` takes it."
)
@_CHOICES
@_PLAN
@printing.json_option
def restart(
    *,
    run: str,
    step: str,
    result: str | None,
    choice: str | None,
    edits: tuple[str, ...],
    chosen: tuple[str, ...],
    plan: bool,
    as_json: bool,
) -> None:
    """Start a run that goes on from just before a step of another one.

    The other run stays as it is. The step is carried out anew, unless its result is given; whatever
    was settled before it is not done again. Items of maps are steps, too (hear#1.2). Where a step of
    another run waits for this one, the root of both goes on, and is the run that is printed.
    """
    if choice is not None and result is None:
        raise click.UsageError("--choice belongs to --result")
    variables = given.pairs(edits, "--set")
    told = None
    if result is not None:
        told = {"result": given.anything(result, "--result")}
        told |= {} if choice is None else {"choice": choice}
    with api.connected() as client:
        if plan:
            _plan(client.effects(run, step), as_json=as_json)
            return
        choices = _choices(client.effects(run, step), chosen, as_json=as_json)
        made = client.restart(run, step, variables, given=told, choices=choices)
    _made(made, as_json=as_json)


@click.command()
@click.argument("run")
@click.argument("place", metavar="SEQ|NAME")
@_EDITS
@_REMOVED
@click.option("--reason", default="", help="Why; the history keeps it.")
@_CHOICES
@_PLAN
@printing.json_option
def rollback(
    *,
    run: str,
    place: str,
    edits: tuple[str, ...],
    removed: tuple[str, ...],
    reason: str,
    chosen: tuple[str, ...],
    plan: bool,
    as_json: bool,
) -> None:
    """Let a run go on from an earlier place of its own: nothing is deleted.

    Whatever of it is live ends, and late reports of that count for nothing. What was live at the place
    begins anew; variables are what they were there. What was spent stays spent: both are told. Where calls are to be
    undone (--effect …=compensate) the run is paused, goes back, and is resumed when they are, unless it was paused
    before.
    """
    variables = given.pairs(edits, "--set")
    with api.connected() as client:
        seq = _seq(client, run, place)
        if plan:
            _plan(client.effects(run, seq, itself=True), as_json=as_json)
            return
        choices = _choices(client.effects(run, seq, itself=True), chosen, as_json=as_json)
        went = client.roll_back(
            run, seq, variables, removed=removed, choices=choices, reason=reason
        )
    if as_json:
        printing.document(went)
    else:
        _went(went)


def _went(went: WentBack | None) -> None:
    """What became of a run that went back."""
    if went is None:
        click.echo("The run is held up: it goes back with its next turn.")
        return
    out = printing.console()
    out.print(Text(f"went back to line {went.to} at line {went.seq}", "bold"))
    rows = [
        *((step, "ended", "") for step in went.ended),
        *((step, "begins anew as", name) for step, name in went.anew.items()),
    ]
    printing.table(("\nstep", "", ""), rows, empty="Nothing was live.")
    out.print(Text(f"spent {_amounts(went.spent) or 'nothing'}"))
    out.print(Text(f"spent by line {went.to} {_amounts(went.spent_there) or 'nothing'}"))
    out.print(Text(f"charged {_amounts(went.charged) or 'nothing'}"))


def _made(run: Run, *, as_json: bool) -> None:
    if as_json:
        printing.document(printing.record(run))
    else:
        click.echo(run.id)


def _plan(found: Sequence[Effect], *, as_json: bool) -> None:
    """What would become of the calls of the other run."""
    if as_json:
        printing.document(found)
        return
    printing.table(
        ("run", "step", "call", "tool", "effect", "happened", "becomes"),
        (
            (one.run, one.step, one.ordinal, one.tool, one.effect, one.happened, one.becomes)
            for one in found
        ),
        empty="No call would be made again.",
    )


def _choices(found: Sequence[Effect], typed: Sequence[str], *, as_json: bool) -> Mapping[str, str]:
    """What becomes of calls: as it was typed, and asked for where it must be chosen."""
    choices = {name: str(choice) for name, choice in given.pairs(typed, "--effect").items()}
    undecided = [
        one
        for one in found
        if one.becomes == "undecided" and not {one.name, one.effect} & choices.keys()
    ]
    if not undecided or as_json:
        # Whoever reads JSON is answered by the platform, which names each.
        return choices
    _plan(undecided, as_json=False)
    for one in dict.fromkeys(one.effect for one in undecided):
        mine = [each for each in undecided if each.effect == one]
        ways = [way for way in mine[0].choices if all(way in each.choices for each in mine)]
        choices[one] = click.prompt(
            f"What becomes of calls that are {one}?", type=click.Choice(ways)
        )
    return choices


def _seq(client: Client, run: str, place: str) -> int:
    """The line that is meant."""
    if place.isdecimal():
        return int(place)
    seq = client.called(run, place)
    if seq is None:
        raise Misused(f"run {run} has no place that is called {place!r}")
    return seq


def _list(found: list[Checkpoint], *, as_json: bool) -> None:
    if as_json:
        printing.document(found)
        return
    printing.table(
        ("seq", "at", "settled", "name", "named by", "rolled back"),
        (
            (
                *(one.seq, printing.time(one.at), one.step, one.name, one.named_by),
                "yes" if one.rolled_back else "",
            )
            for one in found
        ),
        empty="No step has settled.",
    )


def _show(place: Place) -> None:
    out = printing.console()
    called = "" if place.name is None else f", {place.name!r} of {place.named_by}"
    out.print(Text(printing.legible(f"line {place.seq}{called}: {place.state['status']}"), "bold"))
    printing.variables(place.state["variables"])
    printing.table(
        ("\nstands at", "\nstatus", "\nattempt"),
        [
            *(
                (step["key"], printing.status(step["status"]), step["attempt"])
                for step in place.frontier["steps"]
            ),
            *(
                (f"{token['edge']}", "waits" if token["waits"] else "goes on", "")
                for token in place.frontier["tokens"]
            ),
        ],
        empty="Nothing is live.",
    )
    if place.spent:
        out.print(Text(f"spent {_amounts(place.spent)}"))
    if place.difference is not None:
        _differs(place, place.difference)


def _differs(place: Place, found: Mapping[str, Any]) -> None:
    rows: list[tuple[object, ...]] = [
        *(("+", name, "", value) for name, value in found["added"].items()),
        *(("-", name, value, "") for name, value in found["removed"].items()),
        *(("~", name, each["before"], each["after"]) for name, each in found["changed"].items()),
        *(("+", "step", "", key) for key in found["begun"]),
        *(("-", "step", key, "") for key in found["settled"]),
    ]
    printing.table(
        (f"\nsince {place.against}", "\nwhat", "\nwas", "\nis"),
        rows,
        empty=f"Nothing differs from line {place.against}.",
    )
    if found["spent"]:
        printing.console().print(Text(f"spent since {_amounts(found['spent'])}"))


def _amounts(spent: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in sorted(spent.items()))
