"""`celeriac functions`, `tools`, `register`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from celeriac.cli import api, files, printing
from celeriac.client import Function, Tool
from engine import documents
from engine import tools as definitions
from engine.core.problem import Problem
from engine.errors import Invalid


@click.command()
@printing.json_option
def functions(*, as_json: bool) -> None:
    """List the functions that nodes can use."""
    with api.connected() as client:
        _list(client.functions(), as_json=as_json, what="functions")


@click.command()
@printing.json_option
def tools(*, as_json: bool) -> None:
    """List the tools that running steps can call."""
    with api.connected() as client:
        _list(client.tools(), as_json=as_json, what="tools")


@click.group()
def register() -> None:
    """Register a function or a tool from its source, or a service from a document.

    FILE is Python, which defines a function of the name, or YAML for a service; `-` is stdin.
    Registering what has not changed is the same version; a new version is for the runs submitted
    from then on.
    """


@register.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--name", help="Of the function; by default that of the only one in the file.")
@click.option("--description", help="By default the first line of its docstring.")
@printing.json_option
def function(*, file: str, name: str | None, description: str | None, as_json: bool) -> None:
    """Register a function: what a node runs, or chooses by."""
    source = files.text_of(file)
    with api.connected() as client:
        found = client.register_function(source, name=name, description=description)
    _show(found, as_json=as_json)


@register.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--name", help="Of the tool; by default that of the only function in the file.")
@click.option("--description", help="By default the first line of its docstring.")
@click.option(
    "--effect",
    type=click.Choice(definitions.EFFECTS),
    help="What a call leaves in the world, and so what a retry may do; pure unless it is said.",
)
@click.option(
    "--terms",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="YAML or JSON of what it asks of callers: parameters, required_permissions, "
    "cost_estimate_usd, timeout_seconds, …",
)
@printing.json_option
def tool(
    *,
    file: str,
    name: str | None,
    description: str | None,
    effect: str | None,
    terms: str | None,
    as_json: bool,
) -> None:
    """Register a tool: what a running step calls by name."""
    source = files.text_of(file)
    asked = {} if terms is None else _terms(files.text_of(terms))
    if effect is not None:
        asked["effect"] = effect
    with api.connected() as client:
        found = client.register_tool(source, name=name, description=description, **asked)
    _show(found, as_json=as_json)


@register.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@printing.json_option
def service(*, file: str, as_json: bool) -> None:
    """Register a service: a tool that reaches a host, a database, a model, a server of tools.

    FILE is YAML or JSON: name, kind, config, and the terms that tools have. What must stay secret
    stands in it as $env.NAME.
    """
    asked = _document(files.text_of(file))
    missing = [field for field in ("name", "kind", "config") if field not in asked]
    if missing:
        raise Invalid(
            [Problem(path=field, message="it is missing", remedy="give it") for field in missing],
            "the service cannot be registered",
        )
    with api.connected() as client:
        found = client.register_service(**asked)
    _show(found, as_json=as_json)


@click.command()
@click.argument("name")
@click.argument("status", type=click.Choice(definitions.STATUSES), required=False)
@click.option("--tag", multiple=True, help="Its tags from now on; may be given often.")
@click.option("--reason", default="", help="For the audit.")
def stand(*, name: str, status: str | None, tag: Sequence[str], reason: str) -> None:
    """Change the status or the tags of a tool, from the next call on.

    A tool that is disabled, or in maintenance, is not called, whatever version of it a run uses.
    """
    with api.connected() as client:
        client.stand_tool(name, status=status, tags=list(tag) if tag else None, reason=reason)


def _document(text: str) -> dict[str, Any]:
    found = documents.read_text(text)
    if not isinstance(found, dict):
        remedy = "write fields: cost_estimate_usd: 0.01"
        raise Invalid([Problem(path="", message="it is no object", remedy=remedy)])
    return found


def _terms(text: str) -> dict[str, Any]:
    found = _document(text)
    for name in ("name", "description", "code"):
        found.pop(name, None)
    return found


def _list(found: Iterator[Function] | Iterator[Tool], *, as_json: bool, what: str) -> None:
    if as_json:
        printing.document(list(found))
    else:
        printing.table(
            ("name", "version", "takes", "description", "from"),
            map(_row, found),
            empty=f"There are no {what}.",
        )


def _row(function: Function) -> Sequence[object]:
    takes = ", ".join(
        name if about.get("required", True) else f"[{name}]"
        for name, about in (
            function.takes if isinstance(function, Tool) else function.parameters
        ).items()
    )
    served = function.service if isinstance(function, Tool) else None
    place = function.library or (served["kind"] if served else function.created_by)
    return function.name, function.version, takes, function.description, place


def _show(function: Function, *, as_json: bool) -> None:
    if as_json:
        printing.document(function)
    else:
        click.echo(f"{function.name}@{function.version}")
