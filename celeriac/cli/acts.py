"""`celeriac cancel`, `terminate`, `pause`, `resume`, `retry`, `skip`: what people do to runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click

from celeriac.cli import api, printing
from celeriac.cli.failures import FAILED, Misused
from celeriac.cli.runs import STATUSES
from celeriac.client import Acted, Client, Run

F = TypeVar("F", bound=Callable[..., Any])


def _reasoned(command: F) -> F:
    """An option that says why."""
    return click.option("--reason", default="", help="Why; the history keeps it.")(command)


def chosen(command: F) -> F:
    """One run, several, or a filter."""
    options = (
        click.argument("runs", metavar="[RUN]...", nargs=-1),
        click.option("--workflow", metavar="NAME", help="Every run of this workflow."),
        click.option("--version-id", metavar="ID", help="Every run of this version."),
        click.option(
            "--status",
            "statuses",
            type=click.Choice(STATUSES),
            multiple=True,
            help="Every run of this status. May be given several times.",
        ),
        click.option("--before", type=click.DateTime(), help="Submitted before this time."),
        click.option("--after", type=click.DateTime(), help="Submitted after this time."),
        _reasoned,
        printing.json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@chosen
@click.option(
    "--compensate",
    is_flag=True,
    help="Of one run: undo what it has done first, by the handlers of its nodes.",
)
def cancel(*, compensate: bool, **given: Any) -> None:
    """Stop a run, or every run of a filter.

    It holds at once; what is being carried out learns of it within moments and is ended. With
    --compensate the run goes on until the last handler has ended.
    """
    if compensate and (len(given["runs"]) != 1 or is_filtered(given)):
        raise Misused("--compensate is for one run: name it")
    _act(
        "cancel",
        lambda client, run, reason: client.cancel(run, reason, compensate=compensate),
        **given,
    )


@click.command()
@chosen
def terminate(**given: Any) -> None:
    """End a run, or every run of a filter, as it stands: nothing of it is ever undone."""
    _act("terminate", lambda client, run, reason: client.terminate(run, reason), **given)


@click.command()
@chosen
def pause(**given: Any) -> None:
    """Let nothing new of a run start; what is being carried out may finish."""
    _act("pause", lambda client, run, reason: client.pause(run, reason), **given)


@click.command()
@chosen
def resume(**given: Any) -> None:
    """Let a paused run go on exactly where it was."""
    _act("resume", lambda client, run, reason: client.resume(run, reason), **given)


@click.command()
@click.argument("run")
@click.argument("step", required=False)
@_reasoned
@printing.json_option
def retry(*, run: str, step: str | None, reason: str, as_json: bool) -> None:
    """Begin a live step anew, now; without a STEP, take the turn of a run that is stuck.

    A STEP is named as `show` names it, such as draft#1. An attempt of it that is being carried
    out is taken away and does not count against its retries.
    """
    with api.connected() as client:
        found = client.retry(run) if step is None else client.retry_step(run, step, reason=reason)
    _tell(found, as_json=as_json)


@click.command()
@click.argument("run")
@click.argument("step")
@click.option("--choice", metavar="NAME", help="The edge it takes: a label or a target.")
@_reasoned
@printing.json_option
def skip(*, run: str, step: str, choice: str | None, reason: str, as_json: bool) -> None:
    """Let a live step of a run count as done; whoever carries it out loses it."""
    with api.connected() as client:
        _tell(client.skip_step(run, step, choice, reason=reason), as_json=as_json)


def is_filtered(given: Mapping[str, Any]) -> bool:
    """Whether runs are meant that are not named."""
    return any(given[name] for name in ("workflow", "version_id", "statuses", "before", "after"))


def is_one(action: str, runs: Sequence[str], given: Mapping[str, Any]) -> bool:
    """Whether the one run that is named is meant, rather than all that are; none is wrong usage."""
    if not runs and not is_filtered(given):
        raise Misused(f"name a run, or which runs to {action}: --workflow, --status, --before …")
    return len(runs) == 1 and not is_filtered(given)


def meant(runs: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """The runs that are meant, as the client takes them."""
    before, after = given["before"], given["after"]
    return {
        "ids": runs,
        "workflow": given["workflow"],
        "version_id": given["version_id"],
        "status": given["statuses"],
        # As typed: in the time of whoever types.
        "before": before and before.astimezone(),
        "after": after and after.astimezone(),
    }


def _act(
    action: str,
    one: Callable[[Client, str, str], Run],
    *,
    runs: Sequence[str],
    workflow: str | None,
    version_id: str | None,
    statuses: Sequence[str],
    before: datetime | None,
    after: datetime | None,
    reason: str,
    as_json: bool,
) -> None:
    """Act on the one run that is named, or on all that are meant."""
    which = {
        "workflow": workflow,
        "version_id": version_id,
        "statuses": statuses,
        "before": before,
        "after": after,
    }
    with api.connected() as client:
        if is_one(action, runs, which):
            _tell(one(client, runs[0], reason), as_json=as_json)
            return
        found = client.bulk(action, reason=reason, **meant(runs, which))
    tell_all(found, as_json=as_json)


def _tell(run: Run, *, as_json: bool) -> None:
    if as_json:
        printing.document(run)
    else:
        click.echo(run.status)


def tell_all(found: Sequence[Acted], *, as_json: bool) -> None:
    """What came of it for each; an exit code of failure where one was refused."""
    if as_json:
        printing.document(found)
    else:
        printing.table(
            ("run", "outcome", "status", "why"),
            [(each.run_id, each.outcome, each.status or "", each.why) for each in found],
            empty="There are no such runs.",
        )
    if any(each.outcome == "refused" for each in found):
        click.get_current_context().exit(FAILED)
