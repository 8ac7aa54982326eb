"""`celeriac usage`: what was used, and what is left of budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import click

from celeriac.cli import api, printing, times
from celeriac.client import Budget, Usage

#: What it can be told apart by, as the platform has it.
KEYS = ("user", "workflow", "run", "node", "model", "tool", "hour", "day")
#: The units that are shown first.
_FIRST = ("cost_usd", "tokens_used", "calls", "steps")


class _Keys(click.ParamType):  # type: ignore[type-arg]  # generic in its stubs alone
    """Names of keys, separated by commas."""

    name = "keys"

    def convert(
        self, value: str | tuple[str, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        found = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
        for name in found:
            if name not in KEYS:
                self.fail(f"{name!r} is none of {', '.join(KEYS)}", param, ctx)
        return found


@click.group(invoke_without_command=True)
@click.option(
    "--by",
    type=_Keys(),
    default=(),
    metavar="KEY,KEY",
    help=f"What it is told apart by: {', '.join(KEYS)}.",
)
@click.option("--user", help="Only what runs of this user used.")
@click.option("--workflow", metavar="NAME", help="Only what runs of this workflow used.")
@click.option("--run", help="Only what this run used.")
@click.option("--node", metavar="NAME", help="Only what nodes of this name used.")
@click.option("--model", metavar="NAME", help="Only what this model was used for.")
@click.option("--tool", metavar="NAME", help="Only calls of this tool.")
@click.option("--since", type=times.Time(), help="From this time on, as 2026-01-31T12:00Z.")
@click.option("--until", type=times.Time(), help="Before this time.")
@click.option(
    "--window", type=click.Choice(["hour", "day"]), help="Only in the present hour, or day, UTC."
)
@printing.json_option
@click.pass_context
def usage(
    ctx: click.Context,
    /,
    *,
    by: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    as_json: bool,
    **which: str | None,
) -> None:
    """Say what was used, of whom and for what, as it is just now.

    What is set aside for what is under way stands beside it, and as much of it as had to be assumed,
    because nobody has reported it. `celeriac usage budgets` says what may still be used.
    """
    if ctx.invoked_subcommand is not None:
        return
    with api.connected() as client:
        found = list(client.usage(*by, since=since, until=until, **which))
    if as_json:
        printing.document(found)
        return
    units = _units(found)
    printing.table(
        (*by, *units, "attempts", "calls made", "assumed", "set aside"),
        (_row(by, units, each) for each in found),
        empty="Nothing was used.",
    )


@usage.command()
@click.option("--user", help="Of this user; yours otherwise.")
@click.option("--workflow", metavar="NAME", help="That apply to runs of this workflow.")
@click.option("--run", help="That apply to this run, of its user and its workflow.")
@printing.json_option
def budgets(*, user: str | None, workflow: str | None, run: str | None, as_json: bool) -> None:
    """Say how the budgets in force stand."""
    if run is not None and (user or workflow):
        raise click.UsageError("a run says whose it is; leave --user and --workflow out")
    with api.connected() as client:
        found = client.budgets(user=user, workflow=workflow, run=run)
    if as_json:
        printing.document(found)
        return
    printing.table(
        ("budget", "of", "metric", "limit", "spent", "set aside", "left", "window ends", ""),
        map(_budget, found.budgets),
        empty="No budget is in force.",
    )


def _units(found: Sequence[Usage]) -> tuple[str, ...]:
    """Every unit that was used, what matters most first. How many calls there were is told anyway."""
    names = {name for each in found for name in each.used} - {"calls"}
    return (*(name for name in _FIRST if name in names), *sorted(names - set(_FIRST)))


def _row(by: Sequence[str], units: Sequence[str], each: Usage) -> Sequence[object]:
    return (
        *(_key(name, each.by.get(name)) for name in by),
        *(printing.amount(each.used.get(unit)) for unit in units),
        each.attempts,
        each.calls,
        _told(each.assumed),
        _told(each.reserved),
    )


def _key(name: str, value: str | None) -> str:
    if value is None:
        return "-"
    return printing.time(datetime.fromisoformat(value)) if name in ("hour", "day") else value


def _told(amounts: Mapping[str, Decimal]) -> str:
    return ", ".join(f"{name} {printing.amount(amounts[name])}" for name in sorted(amounts))


def _budget(each: Budget) -> Sequence[Any]:
    whose = each.scope if each.subject is None else f"{each.scope} {each.subject}"
    limit = printing.amount(each.limit)
    if each.extra:
        limit += f" + {printing.amount(each.extra)} allowed"
    return (
        f"{each.policy}:{each.name}",
        whose,
        each.metric if each.window == "none" else f"{each.metric} per {each.window}",
        limit,
        printing.amount(each.spent),
        printing.amount(each.reserved),
        printing.amount(each.left),
        printing.time(each.ends),
        "" if each.enforced else "only noted",
    )
