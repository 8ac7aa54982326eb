"""`celeriac answer`, `answers`, `approvals`: what people say, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from celeriac.cli import api, given, printing
from celeriac.cli.failures import FAILED, Misused
from celeriac.client import Answered, Approval, Came, Client, Invalid, Wait

_STATUSES = ("pending", "approved", "denied", "expired", "cancelled")
_PEOPLE = ("approval", "input", "permit")
#: Questions that one request answers.
_MOST = 500


@click.command()
@click.argument("what", metavar="[RUN STEP | REQUEST…]", nargs=-1)
@click.option("--choice", metavar="CHOICE", help="One of the choices, where there are any.")
@click.option(
    "--field",
    "pairs",
    metavar="KEY=VALUE",
    multiple=True,
    help="A field of the form: JSON where it is that, else text. May be given several times.",
)
@click.option("--reason", default="", help="Why; it is kept with the answer.")
@click.option("--behalf", metavar="USER", help="Use the say that this user has handed to you.")
@click.option("--digest", help="Of what you were shown; else it is shown once more.")
@click.option("--mine", "view", flag_value="mine", help="All that you may answer, and have not.")
@click.option("--team", "view", flag_value="team", help="All that a role is asked that you have.")
@click.option("--overdue", "view", flag_value="overdue", help="All that is overdue.")
@click.option("--workflow", metavar="NAME", help="All of this workflow.")
@click.option("--tool", metavar="NAME", help="All about calls of this tool.")
@printing.json_option
def answer(*, what: tuple[str, ...], pairs: tuple[str, ...], as_json: bool, **said: Any) -> None:
    """Answer a step that asks people, or many.

    Many are named by their requests, or chosen by a filter. A question is settled once; whoever comes too late is told what it was. Each of many is
    answered for itself.
    """
    form = given.pairs(pairs, "--field")
    where = {name: said.pop(name) for name in ("view", "workflow", "tool")}
    filtered = any(where.values())
    requests = bool(what) and all(one.startswith("apr_") for one in what)
    if not filtered and not requests:
        if len(what) != 2:  # noqa: PLR2004  # a run and its step
            raise Misused("name a run and its step, requests, or which: --mine, --tool …")
        with api.connected() as client:
            found = _answer(client, what[0], what[1], form, said)
        _tell(found, as_json=as_json)
        return
    if what and filtered:
        raise Misused("name requests, or say which: not both")
    if said["behalf"] or said["digest"]:
        raise Misused("--behalf and --digest are for one question: name its run and step")
    with api.connected() as client:
        _many(client, what, where, form, said, as_json=as_json)


@click.command()
@click.argument("run")
@click.argument("step")
@printing.json_option
def answers(*, run: str, step: str, as_json: bool) -> None:
    """Show what a step has asked people, and who said what."""
    with api.connected() as client:
        found = client.answers(run, step)
    if as_json:
        printing.document(found)
    else:
        printing.table(
            ("attempt", "status", "who", "for", "said", "why", "when"),
            [row for one in found for row in _said(one)],
            empty="It has asked nobody.",
        )


@click.command()
@click.option("--status", type=click.Choice(_STATUSES), help="Only of this status.")
@printing.json_option
def approvals(*, status: str | None, as_json: bool) -> None:
    """List requests for approvals, and what came of them.

    The newest stand first.
    """
    with api.connected() as client:
        found = list(client.approvals(status=status))
    if as_json:
        printing.document(found)
    else:
        printing.table(
            ("request", "run", "step", "what", "status", "by", "reason", "asked"),
            map(_approval, found),
            empty="There are no such requests.",
        )


def _answer(
    client: Client, run: str, step: str, form: Mapping[str, Any], said: Mapping[str, Any]
) -> Answered:
    """Answer one question; where it is bound to what it is for, show that first."""
    choice, more = said["choice"], {n: said[n] for n in ("reason", "behalf")}
    try:
        return client.answer(run, step, choice, form, digest=said["digest"], **more)
    except Invalid as invalid:
        if said["digest"] or all(problem.path != "digest" for problem in invalid.problems):
            raise
    found = [one for one in client.waits(run=run, kind="permit") if one.step == step]
    _show(found)
    digest = found[0].digest if found else None
    return client.answer(run, step, choice, form, digest=digest, **more)


def _many(
    client: Client,
    names: Sequence[str],
    where: Mapping[str, Any],
    form: Mapping[str, Any],
    said: Mapping[str, Any],
    *,
    as_json: bool,
) -> None:
    """Answer many, and exactly those that are shown."""
    shown = [
        one
        for one in client.waits(kind=",".join(_PEOPLE), **where)
        if one.request_id is not None and (not names or one.request_id in names)
    ]
    _show(shown)
    asked = [*names] or [one.request_id for one in shown if one.request_id is not None]
    digests = {one.request_id: one.digest for one in shown if one.request_id and one.digest}
    found: list[Came] = []
    for first in range(0, len(asked), _MOST):
        some = asked[first : first + _MOST]
        found += client.answer_many(
            said["choice"],
            ids=some,
            form=form,
            reason=said["reason"],
            digests={name: digests[name] for name in some if name in digests},
        )
    if as_json:
        printing.document(found)
    else:
        printing.table(
            ("run", "step", "outcome", "settled with", "why"),
            [
                (one.run_id or one.request_id, one.step, one.outcome, one.verdict or "", one.why)
                for one in found
            ],
            empty="Nobody is asked.",
        )
    if any(one.outcome == "refused" for one in found):
        click.get_current_context().exit(FAILED)


def _show(found: Sequence[Wait]) -> None:
    """What is answered, on stderr: what is printed is what came of it."""
    for one in found:
        what = one.title or one.tool or ""
        click.echo(printing.legible(f"{one.run_id} {one.step}: {what}"), err=True)
        if one.tool is not None:
            click.echo(
                printing.legible(f"  {one.tool} {printing.legible(one.arguments)}"), err=True
            )
        if one.differs:
            paths = ", ".join(path or "all" for path in one.differs)
            click.echo(printing.legible(f"  other than last time: {paths}"), err=True)


def _tell(found: Answered, *, as_json: bool) -> None:
    if as_json:
        printing.document(found)
    elif found.settled:
        click.echo("settled")
    else:
        click.echo(f"{found.said} of {found.quorum} have said so")


def _said(asked: Approval) -> list[Sequence[object]]:
    rows: list[Sequence[object]] = [
        (
            asked.attempt,
            asked.status,
            one.by,
            one.behalf or "",
            one.choice or "",
            one.reason,
            printing.time(one.at),
        )
        for one in asked.answers
    ]
    return rows or [(asked.attempt, asked.status, "", "", "", asked.message, "")]


def _approval(one: Approval) -> Sequence[object]:
    return (
        one.request_id,
        one.run_id,
        one.step,
        one.title or one.tool or "",
        one.status,
        (one.settled_by or "").removeprefix("user:"),
        one.reason,
        printing.time(one.requested_at),
    )
