"""A command for an agent: a flag for each of its inputs, its outputs on stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click

from celeriac.cli import api, given, printing
from celeriac.cli.failures import Failure
from celeriac.client import Agent, LogLine, Run
from engine.core import tape, values
from engine.core.values import Json

#: What stands for stdin, as the value of a flag.
STDIN = "-"
#: Flags of an agent must not be taken for our own parameters.
_OWN = "input_"


def command(agent: Agent, version: str | None) -> click.Command:
    """The command that runs an agent, in a version of it if one is named."""
    hints = _hints(agent)
    params: list[click.Parameter] = [
        *(_flag(name, hints, required=True) for name in agent.inputs),
        *(_flag(name, hints, required=False) for name in agent.optional_inputs),
    ]
    if "json" not in {*agent.inputs, *agent.optional_inputs}:
        what = "All outputs as one JSON object; bytes in it in base64."
        params.append(click.Option(["as_json", "--json"], is_flag=True, help=what))

    def run(*, as_json: bool = False, **flags: Any) -> None:
        inputs = dict(_inputs(flags))
        with api.connected() as client:
            ended = _told(client.run_agent(agent.name, inputs, version=version))
        if ended.status != "completed":
            raise Failure(f"{agent.name}: {ended.message or ended.reason or ended.status}")
        _print(agent, ended.outputs or {}, as_json=as_json)

    return click.Command(agent.name, params=params, callback=run, help=_help(agent))


def _help(agent: Agent) -> str:
    outputs = ", ".join(agent.outputs) or "nothing"
    return (
        f"{agent.help}\n\nGives {outputs}. The value {STDIN} of a flag is stdin, as it is.".strip()
    )


def _flag(name: str, hints: Mapping[str, str], *, required: bool) -> click.Option:
    if name == tape.DRY_RUN and not required:
        what = "Reach nothing outside, and say what would have been done."
        return click.Option([f"{_OWN}{name}", f"--{name}"], is_flag=True, help=what)
    return click.Option(
        [f"{_OWN}{name}", f"--{name}"], required=required, metavar="VALUE", help=hints.get(name)
    )


def _hints(agent: Agent) -> dict[str, str]:
    """What an agent's definition says of its inputs, for whoever fills in a form."""
    found: Any = agent.definition
    for field in ("gui", "param_hints"):
        found = found.get(field) if isinstance(found, dict) else None
    told = found if isinstance(found, dict) else {}
    texts = {name: hint.get("tooltip") for name, hint in told.items() if isinstance(hint, dict)}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _inputs(flags: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What was typed, by the names of inputs. What was not is left out."""
    read = False
    for flag, typed in flags.items():
        name = flag.removeprefix(_OWN)
        if typed is None or typed is False:
            continue
        if typed != STDIN:
            yield name, typed if typed is True else _typed(typed)
            continue
        if read:
            raise click.UsageError(f"--{name}: stdin can be given once")
        read = True
        yield name, _read(sys.stdin.buffer.read())


def _typed(text: str) -> Json | bytes:
    """What a flag says: JSON where that is written just so, else text; bytes that are no text."""
    data = os.fsencode(text)
    if _read(data) == data:
        return data
    found = given.value(text)
    # What is passed on is what was typed, whoever prints it: 007 and 1e3 are texts.
    return found if values.canonical(found) == text else text


def _read(data: bytes) -> str | bytes:
    """Text where bytes are that."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data
    return data if "\0" in text else text


def _told(started: Run) -> Run:
    """A run when it has ended; what its steps print goes to stderr as it comes."""
    try:
        for event in started.events():
            if isinstance(event.told, LogLine):
                click.echo(printing.legible(event.told.text), err=True)
    except KeyboardInterrupt:
        click.echo(f"The run goes on; to stop it: celeriac cancel {started.id}", err=True)
        raise
    return started.refresh()


def _print(agent: Agent, outputs: Mapping[str, Any], *, as_json: bool) -> None:
    """Outputs: one alone bare where programs read, else each by its name."""
    if as_json:
        printing.document({name: outputs.get(name) for name in agent.outputs})
    elif len(agent.outputs) == 1 and not sys.stdout.isatty():
        sys.stdout.buffer.write(_bare(outputs.get(agent.outputs[0])))
        sys.stdout.buffer.flush()
    else:
        for name in agent.outputs:
            shown = _bare(outputs.get(name)).decode(errors="backslashreplace")
            click.echo(f"{name}: {printing.legible(shown)}")


def _bare(value: Json) -> bytes:
    """A value as a program takes it: bytes and text as they are, nothing for null."""
    data = values.bytes_of(value)
    if data is not None:
        return data
    if value is None:
        return b""
    return (value if isinstance(value, str) else values.canonical(value)).encode()
