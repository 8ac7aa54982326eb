"""`celeriac waits`, `answer`, `send`: what runs wait for from outside."""

from __future__ import annotations

from collections.abc import Sequence

import click

from celeriac.cli import api, given, printing
from celeriac.client import Wait

_KINDS = ("approval", "input", "event")


@click.command()
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(_KINDS),
    multiple=True,
    help="Only of this kind. May be given several times.",
)
@click.option("--run", metavar="RUN", help="Only of this run.")
@printing.json_option
def waits(*, kinds: tuple[str, ...], run: str | None, as_json: bool) -> None:
    """List who is asked, and which events are awaited.

    Those that have waited for longest stand first.
    """
    with api.connected() as client:
        found = list(client.waits(kind=",".join(kinds) or None, run=run))
    if as_json:
        printing.document(found)
    else:
        printing.table(
            ("run", "step", "kind", "of whom", "what", "since", "until"),
            map(_row, found),
            empty="Nobody is asked, and nothing is awaited.",
        )


@click.command()
@click.argument("run")
@click.argument("step")
@click.option("--choice", metavar="CHOICE", help="One of the choices, where there are any.")
@click.option(
    "--field",
    "pairs",
    metavar="KEY=VALUE",
    multiple=True,
    help="A field of the form: JSON where it is that, else text. May be given several times.",
)
@printing.json_option
def answer(
    *, run: str, step: str, choice: str | None, pairs: tuple[str, ...], as_json: bool
) -> None:
    """Answer a step that asks people.

    A question is settled once; whoever comes too late is told what it was.
    """
    form = given.pairs(pairs, "--field")
    with api.connected() as client:
        found = client.answer(run, step, choice, form)
    if as_json:
        printing.document(found)
    elif found.settled:
        click.echo("settled")
    else:
        click.echo(f"{found.said} of {found.quorum} have said so")


@click.command()
@click.argument("name")
@click.option("--run", metavar="RUN", help="To this run; else to whoever waits for it.")
@click.option(
    "--match",
    "pairs",
    metavar="KEY=VALUE",
    multiple=True,
    help="What it is about; a step that waits with the same is meant. May be given several times.",
)
@click.option("--payload", metavar="JSON|@FILE", default="null", help="What it brings.")
@click.option("--transient", is_flag=True, help="Drop it if nobody waits for it now.")
@click.option("--keep", metavar="SECONDS", type=click.FloatRange(0), help="How long it is kept.")
@click.option("--key", metavar="KEY", help="What is sent under one key is one event.")
@printing.json_option
def send(
    *,
    name: str,
    run: str | None,
    pairs: tuple[str, ...],
    payload: str,
    transient: bool,
    keep: float | None,
    key: str | None,
    as_json: bool,
) -> None:
    """Send an event to whoever waits for it.

    It is kept until a step takes it or its time is over.
    """
    brings, match = given.anything(payload, "--payload"), given.pairs(pairs, "--match")
    with api.connected() as client:
        sent = client.send(
            name,
            brings,
            run=run,
            match=match,
            transient=transient,
            keep_seconds=keep,
            idempotency_key=key,
        )
    if as_json:
        printing.document(sent)
    else:
        by = f" by {sent.claimed_step} of {sent.claimed_run}" if sent.claimed_run else ""
        why = f": {sent.detail}" if sent.detail else ""
        click.echo(printing.legible(f"{sent.id} {sent.state}{by}{why}"))


def _row(wait: Wait) -> Sequence[object]:
    what = wait.name if wait.kind == "event" else wait.title or ", ".join(wait.choices)
    return (
        wait.run_id,
        wait.step,
        wait.kind,
        ", ".join(wait.who) or ("" if wait.kind == "event" else "anybody"),
        what,
        printing.time(wait.opened_at),
        printing.time(wait.expires_at),
    )
