"""`celeriac waits`, `send`: what runs wait for from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import click

from celeriac.cli import api, given, printing
from celeriac.client import Wait

_KINDS = ("approval", "input", "permit", "event")


@click.command()
@click.option("--mine", "view", flag_value="mine", help="Only what you may answer, and have not.")
@click.option("--team", "view", flag_value="team", help="Only what a role is asked that you have.")
@click.option(
    "--overdue", "view", flag_value="overdue", help="Only what others are asked by now, too."
)
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(_KINDS),
    multiple=True,
    help="Only of this kind. May be given several times.",
)
@click.option("--run", metavar="RUN", help="Only of this run.")
@click.option("--workflow", metavar="NAME", help="Only of this workflow.")
@click.option("--tool", metavar="NAME", help="Only about calls of this tool.")
@click.option(
    "--count", is_flag=True, help="Only how many there are: yours, your team's, late, all."
)
@printing.json_option
def waits(
    *,
    view: str | None,
    kinds: tuple[str, ...],
    run: str | None,
    workflow: str | None,
    tool: str | None,
    count: bool,
    as_json: bool,
) -> None:
    """List who is asked, and which events are awaited.

    Those that have waited for longest stand first.
    """
    kind = ",".join(kinds) or None
    with api.connected() as client:
        if count:
            _tell(client.count_waits(kind=kind, run=run, workflow=workflow, tool=tool), as_json)
            return
        found = list(client.waits(view=view, kind=kind, run=run, workflow=workflow, tool=tool))
    if as_json:
        printing.document(found)
    else:
        table(found)


def table(found: Iterable[Wait]) -> None:
    """Open waits, a line each."""
    printing.table(
        ("run", "step", "kind", "of whom", "what", "since", "until", "request"),
        map(_row, found),
        empty="Nobody is asked, and nothing is awaited.",
    )


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


def _tell(counts: Mapping[str, int], as_json: bool) -> None:  # noqa: FBT001  # as everywhere
    if as_json:
        printing.document(counts)
    else:
        printing.table(tuple(counts), [tuple(counts.values())], empty="")


def _row(wait: Wait) -> Sequence[object]:
    return (
        wait.run_id,
        wait.step,
        wait.kind,
        ", ".join(wait.who) or ("" if wait.kind == "event" else "anybody"),
        _what(wait),
        printing.time(wait.opened_at),
        printing.time(wait.expires_at),
        wait.request_id or "",
    )


def _what(wait: Wait) -> str:
    if wait.kind == "event":
        return wait.name
    parts = [wait.title or wait.tool or ", ".join(wait.choices)]
    if wait.tool is not None:
        parts.append(f"{wait.tool}({printing.legible(wait.arguments)})")
    if wait.differs:
        parts.append(f"other than last time: {', '.join(one or 'all' for one in wait.differs)}")
    if wait.overdue:
        parts.append("overdue")
    return "; ".join(parts)
