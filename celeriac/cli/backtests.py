"""`celeriac backtest`, and what it shares with `celeriac policy backtest`: recorded runs, held
against a version of their workflow or a policy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click

from celeriac.cli import api, printing
from celeriac.cli.failures import FAILED
from engine.core.transitions import RunStatus

F = TypeVar("F", bound=Callable[..., Any])

_STATUSES = [status.value for status in RunStatus]


def chosen(command: F) -> F:
    """Options that say which runs."""
    options = (
        click.option("--workflow", metavar="NAME", help="Runs of this workflow."),
        _of_any,
    )
    for option in reversed(options):
        command = option(command)
    return command


def _of_any(command: F) -> F:
    options = (
        click.option("--user", metavar="USER", help="Runs that this user submitted."),
        click.option(
            "--status",
            type=click.Choice(_STATUSES),
            multiple=True,
            help="Runs of this status. May be given several times.",
        ),
        click.option("--since", type=click.DateTime(), help="Submitted after this time."),
        click.option("--until", type=click.DateTime(), help="Submitted before this time."),
        click.option(
            "--run",
            "runs",
            metavar="RUN",
            multiple=True,
            help="This run. Several times for several.",
        ),
        click.option(
            "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="So many."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def given(which: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the client takes them: times are those of this machine's zone."""
    return {
        name: value.astimezone() if isinstance(value, datetime) else value
        for name, value in which.items()
    }


@click.command()
@click.argument("workflow", metavar="NAME[@VERSION]")
@_of_any
@click.option("--exit-code", is_flag=True, help="Exit code 1 unless every run stays the same.")
@printing.json_option
@click.pass_context
def backtest(
    ctx: click.Context, /, *, workflow: str, exit_code: bool, as_json: bool, **which: Any
) -> None:
    """Lead recorded runs of a workflow through another version of it.

    That is the latest, unless one is named. What their steps reported is taken as it was; nothing is carried out or changed. It says which runs
    would come to the same end on the same path, the first difference of the others, and which steps
    would not have been done.
    """
    with api.connected() as client:
        found = client.backtest(version=workflow, **given(which))
    if as_json:
        printing.document(found)
    else:
        _show_version(found)
    if exit_code and found["totals"]["same"] < len(found["runs"]):
        ctx.exit(FAILED)


def show_policy(found: Mapping[str, Any]) -> None:
    """What a policy would have made of runs, as a table and in sentences."""
    printing.table(
        ("run", "workflow", "was", "would", "at", "rule", "observed", "limit", "asks", "saved"),
        (_policy_row(run) for run in found["runs"]),
        empty="There were no runs.",
    )
    totals = found["totals"]
    of = f"{totals['blocked']} of {found['extent']['runs']} runs would have been blocked"
    click.echo(
        f"{of}; {_counted(totals['more'], 'approval')} more, {totals['fewer']} fewer; "
        f"{_dollars(totals['saved_usd'])} of {_dollars(totals['cost_usd'])} saved."
    )
    if totals["freed"]:
        click.echo(f"{totals['freed']} of {totals['were_blocked']} that were blocked would pass.")
    _beside(found)


def _show_version(found: Mapping[str, Any]) -> None:
    printing.table(
        (
            "run",
            "version",
            "ended",
            "would end",
            "outcome",
            "first difference",
            "not done",
            "saved",
        ),
        (_version_row(run) for run in found["runs"]),
        empty="There were no runs.",
    )
    totals = found["totals"]
    click.echo(
        f"{found['workflow']}@{found['version']}: {totals['same']} the same, "
        f"{totals['different']} different, {totals['unknown']} unknown; "
        f"{_dollars(totals['saved_usd'])} of {_dollars(totals['cost_usd'])} saved."
    )
    _beside(found)


def _policy_row(run: Mapping[str, Any]) -> Sequence[object]:
    told = run["block"] or run["first"] or {}
    at = f"{told['moment']} {told['tool'] or told['step']}" if told else ""
    asks = f"{run['asked']} → {run['would_ask']}" if run["asked"] or run["would_ask"] else ""
    return (
        *(run["run"], run["workflow"], printing.status(run["was"]), printing.status(run["would"])),
        *(at, told.get("rule"), told.get("observed"), told.get("limit"), asks),
        _dollars(run["saved_usd"]) if run["block"] else "",
    )


def _version_row(run: Mapping[str, Any]) -> Sequence[object]:
    first = run["first"]
    told = "" if first is None else f"{first['kind']} {first['step'] or ''}".rstrip()
    return (
        *(run["run"], run["version"], printing.status(run["status"])),
        printing.status(run["would_end"] or ""),
        *(run["outcome"], told, len(run["not_made"]) or "", _dollars(run["saved_usd"])),
    )


def _beside(found: Mapping[str, Any]) -> None:
    """What was cut off, is not known, or is assumed."""
    extent = found["extent"]
    if extent["truncated"]:
        reason = {"runs": "there are more runs", "size": "there is too much of it"}
        why = reason.get(extent["because"], "it takes too long")
        click.echo(f"Not everything was looked at: {why}.", err=True)
    for run in found["runs"]:
        for each in run["unknown"]:
            click.echo(printing.legible(f"{run['run']}: not known: {each}"), err=True)
    for note in found["notes"]:
        click.echo(f"Note: {note}.", err=True)


def _dollars(amount: str) -> str:
    whole = amount.rstrip("0").rstrip(".") if "." in amount else amount
    return f"${whole}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
