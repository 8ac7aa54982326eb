"""`celeriac test`: the tests that stand in documents and agents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click

from celeriac.cli import api, files, printing
from celeriac.cli.failures import FAILED
from celeriac.client import Client, NotFound
from celeriac.client.sources import name_in
from celeriac.testing import reports, suites
from celeriac.testing.cases import Checked
from celeriac.testing.suites import Suite
from celeriac.testing.supplies import Given, Installed, Platform, Supply
from celeriac.testing.walls import Walls
from engine import documents
from engine.errors import Invalid
from engine.formats import agent as agents

_DOCUMENTS = (".yaml", ".yml", ".json")
_MARKS = {"passed": "✓", "failed": "✗", "broken": "!"}
_STYLES = {"passed": "green", "failed": "red", "broken": "yellow"}
_OUT = click.Path(dir_okay=False, writable=True)


@click.command()
@click.argument("what", metavar="[NAME[@VERSION]|FILE]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every workflow and agent of the platform.")
@click.option(
    "--code",
    type=click.Path(exists=True, dir_okay=False),
    multiple=True,
    help="A file of Python whose function FILEs name. May be given several times.",
)
@click.option("--junit", type=_OUT, help="Write a report as JUnit's XML.")
@click.option("--html", type=_OUT, help="Write a report as a page of HTML.")
@printing.json_option
@click.pass_context
def test(
    ctx: click.Context,
    *,
    what: tuple[str, ...],
    every: bool,
    code: tuple[str, ...],
    junit: str | None,
    html: str | None,
    as_json: bool,
) -> None:
    """Run the tests that stand in workflows and agents, in memory.

    A FILE (.yaml, .yml or .json: a document, or agents) is tested as it is, without a platform; a NAME is
    a workflow or an agent that is published. What a test does not fake is really called where that
    leaves nothing in the world: installed libraries, and source behind the walls of a sandbox. Exit
    code 1 if a test fails, cannot be run, or if there is none.
    """
    if every == bool(what):
        raise click.UsageError("name what to test: NAME, FILE, or --all alone")
    checked: list[Checked] = []
    with ExitStack() as stack:
        walls = stack.enter_context(Walls())
        client = None
        if every or not all(map(_is_file, what)):
            client = stack.enter_context(api.connected())
        found = _suites(ctx, client, what)
        sources = {name_in(text): text for text in map(files.text_of, code)}
        supplies: list[Supply] = [
            Given(walls=walls, sources=sources, workflows=suites.workflows(found)),
            *([] if client is None else [Platform(client, walls)]),
            Installed(),
        ]
        for suite in found:
            checked += _shown(suites.run(suite, walls, *supplies), quiet=as_json)
    _write(checked, junit, html)
    if as_json:
        printing.document([asdict(each) for each in checked])
    else:
        click.echo(_summary(checked), err=not checked)
    if not checked or any(each.outcome != "passed" for each in checked):
        ctx.exit(FAILED)


def _is_file(named: str) -> bool:
    return Path(named).suffix in _DOCUMENTS


def _suites(ctx: click.Context, client: Client | None, what: Sequence[str]) -> list[Suite]:
    """What is to be tested. A file that cannot be read ends the command."""
    if not what:
        assert client is not None
        return [*_all(client)]
    found: list[Suite] = []
    wrong = False
    for named in what:
        if not _is_file(named):
            assert client is not None
            found.append(_published(client, named))
            continue
        try:
            found += suites.of_text(files.text_of(named))
        except Invalid as invalid:
            printing.problems(named, invalid.problems)
            wrong = True
    if wrong:
        ctx.exit(FAILED)
    return found


def _published(client: Client, named: str) -> Suite:
    """The suite of a workflow, or of an agent, of a platform. Raises `NotFound`."""
    name, _, version = named.partition("@")
    agent = name.removeprefix(agents.registered(""))
    if agent != name and not version:
        return _of_agent(client, agent, None)
    try:
        found = client.workflow(name, version or None)
    except NotFound as error:
        try:
            return _of_agent(client, name, version or None)
        except NotFound:
            raise error from None
    return Suite(graph=documents.graph(dict(found.document or {})))


def _of_agent(client: Client, name: str, version: str | None) -> Suite:
    found = client.agent(name, version)
    of = client.workflow(found.workflow, f"{found.version}.0")
    graph = documents.graph(dict(of.document or {}))
    entered = agents.entered(found.name, dict(found.definition or {}))
    return suites.of_agent(entered, graph)


def _all(client: Client) -> Iterator[Suite]:
    known = set()
    for agent in client.agents():
        known.add(agent.workflow)
        yield _of_agent(client, agent.name, agent.version)
    for version in client.workflows():
        if version.workflow not in known:
            yield _published(client, f"{version.workflow}@{version.version}")


def _shown(checked: Iterator[Checked], *, quiet: bool) -> Iterator[Checked]:
    """Each test as it ends, told to whoever reads along."""
    workflow = None
    for each in checked:
        yield each
        if quiet:
            continue
        if each.workflow != workflow:
            workflow = each.workflow
            click.echo(printing.legible(workflow))
        mark = click.style(_MARKS[each.outcome], _STYLES[each.outcome])
        click.echo(f"  {mark} {printing.legible(each.name)} ({each.seconds * 1000:.0f} ms)")
        for line in reports.told(each):
            click.echo(f"      {printing.legible(line)}")


def _summary(checked: Sequence[Checked]) -> str:
    if not checked:
        return "There are no tests: write them in a document's `tests`."
    found = reports.counts(checked)
    count = "1 test" if len(checked) == 1 else f"{len(checked)} tests"
    return f"{count}: {found['passed']} passed, {found['failed']} failed, {found['broken']} broken"


def _write(checked: Sequence[Checked], junit: str | None, html: str | None) -> None:
    """The reports that were asked for. What cannot be written is wrong usage."""
    wanted = ((junit, reports.junit), (html, _page))
    for file, report in wanted:
        if file is None:
            continue
        try:
            Path(file).write_text(report(checked), encoding="utf-8")
        except OSError as error:
            raise click.UsageError(f"cannot write {file}: {error.strerror}") from error


def _page(checked: Sequence[Checked]) -> str:
    return reports.html(checked, at=datetime.now().astimezone())
