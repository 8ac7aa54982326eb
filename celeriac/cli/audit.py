"""`celeriac audit`: read, verify, seal and shred what the platform remembers of what happened."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime

import click

from celeriac.cli import printing, servers, times
from celeriac.cli.failures import FAILED
from engine import platform, signing
from engine.blobs import Anchors
from engine.platform import DatabaseRole, Platform
from engine.runs import access, sealing, shredding, verification
from engine.runs import audit as entries
from engine.runs.verification import Report
from engine.signing import SigningKeys
from engine.store.ids import RunId
from engine.store.trail import Which

_tenant = click.option(
    "--tenant", default=access.LOCAL.tenant, show_default=True, help="Whose audit."
)


class _Url(click.ParamType):  # type: ignore[type-arg]  # generic in its stubs alone
    """Where copies of anchors are."""

    name = "url"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if "://" not in value:
            self.fail(f"{value!r} is no URL; one looks like s3://bucket/anchors", param, ctx)
        return value


class _Keys(click.ParamType):  # type: ignore[type-arg]  # generic in its stubs alone
    """Keys as the setting writes them; public halves are enough."""

    name = "keys"

    def convert(
        self, value: str | SigningKeys, param: click.Parameter | None, ctx: click.Context | None
    ) -> SigningKeys:
        if isinstance(value, SigningKeys):
            return value
        try:
            return signing.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group()
def audit() -> None:
    """Read and verify what happened, and who did what.

    These commands go to the database itself, as `doctor` does; tenants have /api/v1/audit.
    """


@audit.command()
@_tenant
@click.option("--since", type=times.Time(), help="From this time on, as 2026-01-31T12:00Z.")
@click.option("--until", type=times.Time(), help="Before this time.")
@click.option("--run", metavar="RUN", help="Only of this run.")
@click.option("--workflow", metavar="NAME", help="Only of this workflow and its runs.")
@click.option("--by", metavar="USER", help="Only what this user did.")
@click.option("--action", metavar="KIND", help="Only of this kind, as workflow.publish.")
@click.option(
    "--format",
    "as_format",
    type=click.Choice(("jsonl", "csv")),
    default="jsonl",
    show_default=True,
    help="A JSON document a line, or CSV that no spreadsheet takes for formulas.",
)
def export(
    *,
    tenant: str,
    since: datetime | None,
    until: datetime | None,
    run: str | None,
    workflow: str | None,
    by: str | None,
    action: str | None,
    as_format: str,
) -> None:
    """Print the audit: lines of runs' histories, and acts, in order."""
    which = Which(since=since, until=until, run=run, workflow=workflow, by=by, action=action)
    with _control() as built:
        if as_format == "csv":
            click.echo(entries.as_csv(entries.COLUMNS))
        for entry in entries.stream(built, tenant, which):
            if as_format == "csv":
                click.echo(entries.as_csv(entries.cells(entry)))
            else:
                click.echo(entries.as_json(entry))


@audit.command()
@click.option("--tenant", help="Whose audit; all tenants', one after the other, unless given.")
@click.option("--run", metavar="RUN", help="Only this run, of the tenant.")
@click.option(
    "--anchors",
    type=_Url(),
    metavar="URL",
    help="Where copies of anchors are; else CELERIAC_ANCHOR_URL.",
)
@click.option(
    "--keys",
    type=_Keys(),
    metavar="NAME:public:KEY,…",
    help="What anchors are signed with; else CELERIAC_AUDIT_KEYS. Public halves are enough.",
)
@printing.json_option
@click.pass_context
def verify(
    ctx: click.Context,
    *,
    tenant: str | None,
    run: str | None,
    anchors: str | None,
    keys: SigningKeys | None,
    as_json: bool,
) -> None:
    """Say whether what is stored is what happened, as far as that was anchored.

    Names the first row of each chain that was altered, moved, or is gone, and prints what no anchor
    covers yet: of that nothing is promised. Exit code 1 where something is wrong.
    """
    given = Anchors(anchors) if anchors else None
    with _control() as built:
        if run is not None or tenant is not None:
            whose = tenant or access.LOCAL.tenant
            found = [verification.verify(built, whose, run=run, anchors=given, signers=keys)]
        else:
            found = [*verification.verify_all(built, anchors=given, signers=keys)]
    if as_json:
        printing.document([verification.described(report) for report in found])
    else:
        for report in found:
            _show(report)
    if not all(report.sound for report in found):
        ctx.exit(FAILED)


@audit.command()
def seal() -> None:
    """Seal and anchor what has moved, now; coordinators do it by themselves."""
    with _control() as built:
        done = sealing.seal(built)
    assert done is not None
    click.echo(f"{done.anchors} anchors were made, {done.copies} copied outside", err=True)


@audit.command()
def keys() -> None:
    """Print the public halves of the keys that anchors are signed with, for whoever verifies."""
    with servers.reached() as settings:
        click.echo(settings.audit_keys.verifying().text())


@audit.command()
@click.argument("run")
@_tenant
@click.option("--step", metavar="KEY", help="Only of this step, as node#1.")
@click.option("--why", required=True, help="Kept with the act.")
def shred(*, run: str, tenant: str, step: str | None, why: str) -> None:
    """Remove users' data from a RUN that has ended; its history still verifies.

    Inputs, results, answers, arguments and values of calls, what was printed, and what variables were
    left with of it. What errors said stays: it is part of the history. There is no way back.
    """
    with _control() as built:
        count = shredding.shred(built, RunId(tenant, run), step=step, by=getpass.getuser(), why=why)
    click.echo(f"{count} payloads were shredded", err=True)


@contextmanager
def _control() -> Iterator[Platform]:
    with (
        servers.reached() as settings,
        closing(platform.build(settings, DatabaseRole.CONTROL, connections=2)) as built,
    ):
        yield built


def _show(report: Report) -> None:
    click.echo(
        f"{report.tenant}: {report.runs} runs with {report.lines} lines, {report.acts} acts,"
        f" {report.anchors} anchors ({report.copies} compared with their copies outside)"
    )
    for note in report.notes:
        click.echo(f"  {note}")
    if report.shredded:
        click.echo(f"  {report.shredded} payloads were shredded, as acts say")
    if report.uncopied:
        click.echo(f"  {report.uncopied} anchors wait for their copy outside")
    _show_tail(report)
    if report.faults:
        printing.table(
            ("table", "run", "row", "found"),
            ((fault.table, fault.run, fault.row, fault.detail) for fault in report.faults),
            empty="",
        )
    else:
        click.echo("  nothing was altered, moved or removed" + _since(report))


def _since(report: Report) -> str:
    return f" up to {printing.time(report.anchored_at)}" if report.anchored_at else ""


def _show_tail(report: Report) -> None:
    """What is not promised yet."""
    if not (report.tail_acts or report.tail_runs):
        return
    click.echo(
        f"  not anchored yet: {report.tail_acts} acts, {report.tail_lines} lines of"
        f" {report.tail_runs} runs"
    )
    for tail in report.tail:
        click.echo(f"    {tail.run}: lines {tail.first} to {tail.last}")
    if report.tail_runs > len(report.tail):
        click.echo(f"    and {report.tail_runs - len(report.tail)} runs more")
