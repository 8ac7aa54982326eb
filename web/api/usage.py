"""What was used, and what is left of budgets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from engine.core.problem import Problem
from engine.errors import Invalid
from engine.runs import usage
from engine.runs.usage import Budgets
from engine.store.usage import Which
from web import body, pagination, principal, site
from web.routing import Routes
from web.schemas.pages import page_of
from web.schemas.usage import BudgetsArguments, BudgetsSchema, UsageArguments, UsedSchema

routes = Routes(
    "usage",
    __name__,
    url_prefix="/api/v1/usage",
    description="What was used, of whom and for what, as it is just now; and what may still be used.",
)

_FILTERS = ("user", "workflow", "node", "model", "tool", "since", "until")


@routes.on("GET", "", needs="usage:read")
@routes.query(UsageArguments)
@routes.gives(page_of(UsedSchema))
def used(arguments: dict[str, Any]) -> dict[str, Any]:
    """Say what was used, told apart by what is asked for, and what is set aside.

    It comes to what histories tell of attempts, to the last digit; beside that it has what was assumed
    of attempts that were cut off, and what late reports have set right. An amount counts in the window
    in which it was set aside, else in that in which it was charged.
    """
    by, limit = tuple(dict.fromkeys(arguments["by"])), arguments["limit"]
    found = usage.page(
        site.current().platform,
        principal.current().tenant,
        by=by,
        which=Which(
            run=body.known_id(arguments.get("run"), "run"),
            **{name: arguments.get(name) for name in _FILTERS},
        ),
        window=arguments.get("window"),
        after=pagination.group_of(arguments.get("cursor"), by, times=usage.TIMES),
        limit=limit + 1,
    )
    return pagination.page(found, limit=limit, key=lambda each: [*map(_plain, each.key)])


@routes.on("GET", "/budgets", needs="usage:read")
@routes.query(BudgetsArguments)
@routes.gives(BudgetsSchema)
def budgets(arguments: dict[str, Any]) -> Budgets:
    """Say how the budgets in force stand that apply to runs of a user, a workflow, or to one run."""
    who = principal.current()
    run = body.known_id(arguments.get("run"), "run")
    if run is not None and {"user", "workflow"} & arguments.keys():
        message = "says whose it is and of which workflow"
        raise Invalid([Problem(path="run", message=message, remedy="leave the others out")])
    return usage.budgets(
        site.current().platform,
        who.tenant,
        user=arguments.get("user", who.user),
        workflow=arguments.get("workflow"),
        run=run,
    )


def _plain(key: str | datetime) -> str:
    return key.astimezone(UTC).isoformat() if isinstance(key, datetime) else key
