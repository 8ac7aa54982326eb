"""`celeriac agent`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from celeriac.cli import api, files, flags, printing
from celeriac.client import Agent
from engine.core import values
from engine.core.problem import Problem
from engine.core.values import InvalidJson
from engine.errors import CeleriacError, Invalid

_REASON = click.option("--reason", default="", help="For the audit.")


class Agents(click.Group):
    """The commands below; every other name is an agent's, and a command as its definition says."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        name, _, version = cmd_name.partition("@")
        try:
            with ctx.scope(cleanup=False), api.connected() as client:
                return flags.command(client.agent(name, version or None), version or None)
        except (CeleriacError, click.ClickException):
            # Somebody only presses Tab.
            if ctx.resilient_parsing:
                return None
            raise

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = super().shell_complete(ctx, incomplete)
        try:
            with ctx.scope(cleanup=False), api.connected() as client:
                found += (
                    CompletionItem(agent.name, help=agent.help.partition("\n")[0])
                    for agent in client.agents()
                    if agent.name.startswith(incomplete)
                )
        except (CeleriacError, click.ClickException):
            pass
        return found


@click.group(
    cls=Agents, invoke_without_command=True, subcommand_metavar="COMMAND|AGENT[@VERSION] [ARGS]..."
)
@click.pass_context
def agent(ctx: click.Context) -> None:
    """Run an agent by its name, or look after agents.

    `celeriac agent NAME --help` says what flags an agent has: one for each of its inputs. What it
    gives goes to stdout, bare where that is a pipe and it is one value; what it prints goes to
    stderr. Exit code 1 when it fails. Without an argument all agents are listed.
    """
    if ctx.invoked_subcommand is None:
        _list(as_json=False)


@agent.command("import")
@click.argument("path", metavar="FILE|DIR", type=click.Path(exists=True, allow_dash=True))
@printing.json_option
def import_(*, path: str, as_json: bool) -> None:
    """Enter the agents of a file of seed 002, or of every .json file of a folder.

    All are entered, or none. What has not changed keeps its version.
    """
    found = _agents_of(path)
    with api.connected() as client:
        entered = client.enter_agents({"agents": found})
    if as_json:
        printing.document(list(entered))
        return
    for each in entered:
        click.echo(f"{each.name}@{each.version}" + ("" if each.changed else "  unchanged"))


@agent.command("list")
@printing.json_option
def list_(*, as_json: bool) -> None:
    """List agents, with what they take and give."""
    _list(as_json=as_json)


@agent.command()
@click.argument("name")
@click.option(
    "--version", metavar="VERSION", help="1.2, or the newest of 1; by default the newest."
)
@printing.json_option
def show(*, name: str, version: str | None, as_json: bool) -> None:
    """Show the definition of an agent, as it was entered."""
    with api.connected() as client:
        found = client.agent(name, version)
    printing.document(found if as_json else {"agents": {found.name: found.definition}})


@agent.command()
@click.argument("name")
@printing.json_option
def versions(*, name: str, as_json: bool) -> None:
    """List the versions of an agent, the newest first."""
    with api.connected() as client:
        found = client.agent_versions(name)
    if as_json:
        printing.document(list(found))
        return
    rows = (
        (each.version, printing.time(each.created_at), each.created_by, _written_by(each))
        for each in found
    )
    printing.table(("version", "entered", "by", "written in"), rows, empty="")


@agent.command()
@click.argument("name")
@click.argument("new")
@_REASON
def rename(*, name: str, new: str, reason: str) -> None:
    """Call an agent NEW, in all agents that use it as well."""
    with api.connected() as client:
        for each in client.rename_agent(name, new, reason=reason):
            click.echo(f"{each.name}@{each.version}")


@agent.command()
@click.argument("name")
@_REASON
def delete(*, name: str, reason: str) -> None:
    """Remove an agent that nothing uses."""
    with api.connected() as client:
        client.remove_agent(name, reason=reason)


def _written_by(found: Agent) -> str:
    """The run and the step that have written a version; nothing where a person entered it."""
    written = found.written_by
    return "" if written is None else f"run {written.run_id}, {written.step}"


def _list(*, as_json: bool) -> None:
    with api.connected() as client:
        found = list(client.agents())
    if as_json:
        printing.document(found)
    else:
        columns = ("name", "version", "type", "takes", "gives", "help")
        printing.table(columns, map(_row, found), empty="There are no agents.")


def _row(found: Agent) -> Sequence[object]:
    takes = (*found.inputs, *(f"[{name}]" for name in found.optional_inputs))
    summary = found.help.partition("\n")[0]
    return (
        found.name,
        found.version,
        found.type,
        ", ".join(takes),
        ", ".join(found.outputs),
        summary,
    )


def _agents_of(path: str) -> dict[str, Any]:
    """The definitions in a file, or in those of a folder, by name. Raises `Invalid`."""
    if path == "-" or not Path(path).is_dir():
        return dict(_definitions(path))
    found: dict[str, Any] = {}
    for file in sorted(Path(path).rglob("*.json")):
        for name, definition in _definitions(str(file)):
            if name in found:
                raise _wrong(str(file), f"{name} is in another file as well", "keep one of them")
            found[name] = definition
    if not found:
        raise _wrong(path, "there are no agents in its .json files", "name another folder")
    return found


def _definitions(file: str) -> Iterator[tuple[str, Any]]:
    """What a file defines: many agents, or one that is called as the file is."""
    try:
        read = values.parse(files.text_of(file), path=file)
    except InvalidJson as error:
        raise Invalid(error.problems, "the agents cannot be read") from error
    if isinstance(read, Mapping) and "type" in read and "agents" not in read:
        yield Path(file).stem, read
        return
    found = read.get("agents") if isinstance(read, Mapping) else None
    if not isinstance(found, Mapping):
        raise _wrong(file, "there are no agents in it", 'write {"agents": {NAME: {"type": …}}}')
    yield from found.items()


def _wrong(path: str, message: str, remedy: str) -> Invalid:
    problem = Problem(path=path, message=message, remedy=remedy)
    return Invalid([problem], "the agents cannot be read")
