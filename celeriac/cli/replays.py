"""`celeriac replay`: a run, decided once more; and `explain`: why it is where it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from celeriac.cli import api, files, printing
from celeriac.cli.failures import FAILED, Misused


@click.command()
@click.argument("run")
@click.option("--version", metavar="VERSION", help="Against another version of its workflow.")
@click.option(
    "--policy",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="Against the policy in a file, in place of those in force.",
)
@click.option("--beside", is_flag=True, help="The policy beside those in force.")
@click.option("--exit-code", is_flag=True, help="Exit code 1 if anything diverges.")
@printing.json_option
@click.pass_context
def replay(
    ctx: click.Context,
    /,
    *,
    run: str,
    version: str | None,
    policy: str | None,
    beside: bool,
    exit_code: bool,
    as_json: bool,
) -> None:
    """Decide a run once more from what was recorded.

    Nothing is carried out or changed: its recorded events are taken as they were, and each decision
    is compared with the one in its history. Against another version of its workflow, or a policy, the
    first divergence is named, and what would have changed.
    """
    if version is not None and policy is not None:
        raise Misused("give --version or --policy, not both")
    if beside and policy is None:
        raise Misused("--beside belongs to --policy")
    text = None if policy is None else files.text_of(policy)
    with api.connected() as client:
        found = client.replay(run, version=version, policy=text, beside=beside)
    if as_json:
        printing.document(found)
    else:
        _show(found)
    if exit_code and found["divergences"]:
        ctx.exit(FAILED)


@click.command()
@click.argument("run")
@click.option(
    "--before", type=click.IntRange(1), metavar="SEQ", help="Decisions before this line of history."
)
@printing.json_option
def explain(*, run: str, before: int | None, as_json: bool) -> None:
    """Say why a run is where it is, and what it waits for.

    For everything that waits: what it waits for, and when it wakes. Of its last decisions: each edge
    that was taken or was not, with its condition, the values that this rested on and the verdict.
    """
    with api.connected() as client:
        found = client.explain(run, before)
    if as_json:
        printing.document(found)
        return
    click.echo(printing.legible(found["why"]))
    if found["waits"]:
        printing.table(
            ("\nwaits", "\nstatus", "\nfor", "\nwakes"), map(_waiting, found["waits"]), empty=""
        )
    if found["more_waits"]:
        click.echo(f"More is live: {found['live']}.", err=True)
    if found["decisions"]:
        printing.table(
            ("\nseq", "\nstep", "\nedge", "\nwhy"),
            (row for decision in found["decisions"] for row in _decided(decision)),
            empty="",
        )
    if found["before"] is not None:
        click.echo(f"Older decisions: --before {found['before']}.", err=True)


def _waiting(each: Mapping[str, Any]) -> Sequence[object]:
    wakes = None if each["wakes_at"] is None else datetime.fromisoformat(each["wakes_at"])
    name = each["step"] or each["node"] or "the run"
    return name, printing.status(each["status"]), each["waits_for"], printing.time(wakes)


def _decided(decision: Mapping[str, Any]) -> Iterator[Sequence[object]]:
    for way in decision["ways"]:
        yield decision["seq"], decision["step"], way["edge"], way["told"]


def _show(found: Mapping[str, Any]) -> None:
    against = "" if found["other"] is None else f" against {found['other']}"
    divergences = "1 divergence" if found["divergences"] == 1 else "0 divergences"
    decisions = "1 decision" if found["decisions"] == 1 else f"{found['decisions']} decisions"
    click.echo(printing.legible(f"{decisions}, {divergences}{against}"))
    if found["first"] is not None:
        for line in _first(found["first"]):
            click.echo(printing.legible(line))
    for line in _would(found["would"] or {}):
        click.echo(printing.legible(line))
    if found["untold"]:
        click.echo(
            f"{found['untold']} more could not be compared, and were taken as told.", err=True
        )
    for each in found["unknown"]:
        click.echo(printing.legible(f"Not known: {each}"), err=True)
    for note in found["notes"]:
        click.echo(f"Note: {note}.", err=True)


def _first(first: Mapping[str, Any]) -> Iterator[str]:
    what = first.get("kind") or first.get("moment")
    line = f", line {first['seq']}" if "seq" in first else ""
    step = f" at {first['step']}" if first["step"] else ""
    yield f"first: {what}{step}{line}"
    differs = set(first.get("differs", ()))
    for side in ("recorded", "would"):
        told = first[side]
        if differs and isinstance(told, dict):
            told = {"kind": told["kind"], **{k: v for k, v in told.items() if k in differs}}
        yield f"  {side:<9} {'nothing' if told is None else printing.legible(told)}"
    if first.get("rule"):
        yield f"  rule      {first['rule']}: {first.get('observed')} against {first.get('limit')}"


def _would(would: Mapping[str, Any]) -> Iterator[str]:
    """What would have changed, as far as anything would."""
    if would.get("end"):
        yield f"It would end {would['end']}: {would['reason']}."
    if would.get("missing"):
        yield f"It would ask for what was never done: {', '.join(would['missing'])}."
    if would.get("not_made"):
        yield f"It would not do: {', '.join(would['not_made'])}."
    consequence, asked = would.get("consequence"), would.get("asked")
    if consequence is not None and (consequence != "passed" or would["would_ask"] != asked):
        yield f"It would be {consequence}; people would be asked {would['would_ask']} times, and were {asked}."
