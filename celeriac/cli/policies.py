"""`celeriac policy`: what runs must keep to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from celeriac.cli import api, backtests, files, printing
from celeriac.cli.failures import FAILED, Misused
from celeriac.client import Policy
from engine.core import values
from engine.core.problem import Problem
from engine.core.values import InvalidJson, Json
from engine.errors import Invalid
from engine.guardrails import document, lint, schema, trial

_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True)
_OFFLINE = click.option(
    "--offline",
    is_flag=True,
    help="Look at the file alone: no platform is asked for the tools, workflows and plug-ins there.",
)
_REASON = click.option("--reason", default="", help="Why, for the record.")


@click.group()
def policy() -> None:
    """Apply, lint, try, backtest, list, show and withdraw policies.

    A policy is YAML or JSON: rules such as `sum(tokens_used) > 10 000 → abort_lifetime`, budgets,
    plug-ins. It holds from the next turn of every run on. FILE may be `-`, stdin.
    """


@policy.command()
@click.argument("file", type=_FILE)
@_REASON
@printing.json_option
def apply(*, file: str, reason: str, as_json: bool) -> None:
    """Put a policy in force; prints its version.

    What says the same as the newest version is that version, anything else is one more.
    """
    text = files.text_of(file)
    with api.connected() as client:
        found = client.apply_policy(text, reason)
    if as_json:
        printing.document({**asdict(found), "policy": found.policy})
        return
    click.echo(f"{found.policy.name}@{found.policy.version}")
    if not found.changed:
        click.echo("It was in force before.", err=True)
    _warn(file, found.warnings)


@policy.command(name="lint")
@click.argument("file", type=_FILE)
@_OFFLINE
@printing.json_option
@click.pass_context
def check(ctx: click.Context, *, file: str, offline: bool, as_json: bool) -> None:
    """Say what is wrong with a policy, and what is most likely not meant; nothing is changed.

    Exit code 1 if the policy cannot be applied; warnings are no reason.
    """
    text = files.text_of(file)
    if offline:
        found = _linted(text)
    else:
        with api.connected() as client:
            found = client.lint_policy(text)
    if as_json:
        printing.document(found)
    elif found["valid"]:
        click.echo(f"{file}: the policy is valid")
        _warn(file, found["warnings"])
    else:
        printing.problems(file, [Problem(**each) for each in found["problems"]])
    if not found["valid"]:
        ctx.exit(FAILED)


@policy.command(name="test")
@click.argument("file", type=_FILE)
@click.option("--facts", type=_FILE, help="A file of JSON: a moment, or a list of them.")
@click.option("--run", help="A run as it was recorded.")
@click.option(
    "--exit-code", is_flag=True, help="Exit code 1 if any rule stops, asks or modifies anything."
)
@_OFFLINE
@printing.json_option
@click.pass_context
def try_out(
    ctx: click.Context,
    *,
    file: str,
    facts: str | None,
    run: str | None,
    exit_code: bool,
    offline: bool,
    as_json: bool,
) -> None:
    """Say which rules of a policy would fire, on given facts or on a run; nothing is carried out.

    Facts are objects such as {"moment": "call", "tool": "send_email", "arguments": {"to": "a@b.c"}, "user":
    "ada", "usage": {"cost_usd": 0.5}, "totals": {"tokens_used": 10001, "user hour cost_usd": 4}}.
    """
    if (facts is None) == (run is None):
        raise click.UsageError("name --facts FILE or --run RUN")
    if offline and run is not None:
        raise click.UsageError("a run is on a platform; leave --offline out")
    text = files.text_of(file)
    given = None if facts is None else _facts(facts)
    if offline:
        moments: list[Any] = [
            each.as_json() for each in trial.attempt(document.read(text), trial.read(given))
        ]
    else:
        with api.connected() as client:
            moments = list(client.test_policy(text, facts=given, run=run)["moments"])
    if as_json:
        printing.document(moments)
    else:
        printing.table(
            ("moment", "step", "tool", "action", "rule", "observed", "limit"),
            (row for each in moments for row in _rows(each)),
            empty="No rule fires." if moments else "There was no moment to be judged.",
        )
    if exit_code and any(each["action"] not in _HARMLESS for each in moments):
        ctx.exit(FAILED)


_HARMLESS = frozenset({"allow", "allow_with_audit", "warn"})


@policy.command()
@click.argument("file", type=_FILE)
@click.option(
    "--beside", is_flag=True, help="Beside the policies in force, not in place of all of them."
)
@click.option("--exit-code", is_flag=True, help="Exit code 1 if any run would have been blocked.")
@backtests.chosen
@printing.json_option
@click.pass_context
def backtest(
    ctx: click.Context,
    /,
    *,
    file: str,
    beside: bool,
    exit_code: bool,
    as_json: bool,
    **which: Any,
) -> None:
    """Say what a policy would have made of recorded runs; nothing is carried out or changed.

    Which runs it would have blocked that were not, and at which step; how many approvals it would
    have asked for; what would not have been spent. The newest runs of those that all options hold of.
    """
    text = files.text_of(file)
    with api.connected() as client:
        found = client.backtest(text, beside=beside, **backtests.given(which))
    if as_json:
        printing.document(found)
    else:
        backtests.show_policy(found)
    if exit_code and found["totals"]["blocked"]:
        ctx.exit(FAILED)


@policy.command(name="list")
@printing.json_option
def listed(*, as_json: bool) -> None:
    """List policies: of each the version in force, else the newest."""
    with api.connected() as client:
        found = list(client.policies())
    _list(found, as_json=as_json)


@policy.command()
@click.argument("name")
@click.option("--version", type=click.IntRange(min=1), help="By default the one in force.")
@click.option("--versions", is_flag=True, help="List its versions instead, the newest first.")
@printing.json_option
def show(*, name: str, version: int | None, versions: bool, as_json: bool) -> None:
    """Print a policy as it was written."""
    with api.connected() as client:
        if versions:
            _list(list(client.policy_versions(name)), as_json=as_json)
            return
        found = client.policy(name, version)
    if as_json:
        printing.document(found)
    else:
        state = "in force" if found.active else "not in force"
        click.echo(f"{found.name}@{found.version}, {state}", err=True)
        click.echo(printing.legible(found.document or "").rstrip("\n"))


@policy.command()
@click.argument("name")
@_REASON
@printing.json_option
def withdraw(*, name: str, reason: str, as_json: bool) -> None:
    """Take a policy out of force; its versions stay."""
    with api.connected() as client:
        found = client.withdraw_policy(name, reason)
    if as_json:
        printing.document(found)
    else:
        click.echo(f"{found.name}@{found.version} is withdrawn")


@policy.command(name="schema")
def language() -> None:
    """Print the JSON Schema of policies."""
    click.echo(json.dumps(schema.policy_schema(), indent=2, ensure_ascii=False))


def _list(found: Sequence[Policy], *, as_json: bool) -> None:
    if as_json:
        printing.document(found)
        return
    printing.table(
        ("policy", "version", "in force", "applied", "by"),
        (
            (
                each.name,
                each.version,
                "yes" if each.active else "no",
                printing.time(each.created_at),
                each.created_by,
            )
            for each in found
        ),
        empty="There are no policies.",
    )


def _linted(text: str) -> Mapping[str, Any]:
    try:
        found = document.read(text)
    except Invalid as invalid:
        return {"valid": False, "problems": [*map(asdict, invalid.problems)], "warnings": []}
    return {"valid": True, "problems": [], "warnings": [*map(asdict, lint.warnings(found))]}


def _warn(file: str, warnings: Sequence[Mapping[str, str]]) -> None:
    for each in warnings:
        told = f"{file}: warning: {each['path']}: {each['message']} ({each['remedy']})"
        click.echo(printing.legible(told), err=True)


def _facts(file: str) -> Json:
    try:
        return values.parse(files.text_of(file))
    except InvalidJson as error:
        raise Misused(f"{file}: {error}") from error


def _rows(moment: Mapping[str, Any]) -> list[Sequence[object]]:
    place = (moment["moment"], moment["step"] or moment["node"], moment["tool"])
    return [
        (
            *place,
            verdict["action"],
            verdict["rule"],
            verdict.get("observed"),
            verdict.get("limit"),
        )
        for verdict in moment["verdicts"]
    ]
