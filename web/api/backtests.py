"""Backtests: policies and versions of workflows, held against recorded runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.core import values
from engine.core.transitions import RunStatus
from engine.runs import backtests
from engine.runs.backtests import Filter, PolicyBacktest, VersionBacktest
from web import permissions, principal, site
from web.routing import Routes
from web.schemas.backtests import (
    ChosenSchema,
    JudgedRunsSchema,
    LedRunsSchema,
    PolicyBacktestSchema,
    VersionBacktestSchema,
)

routes = Routes(
    "backtests",
    __name__,
    url_prefix="/api/v1/backtests",
    description="Policies and versions of workflows, held against what has happened.",
)


@routes.on("POST", "/policy", needs="policy:read")
@routes.takes(PolicyBacktestSchema)
@routes.gives(JudgedRunsSchema)
def policy(given: dict[str, Any]) -> PolicyBacktest:
    """Say what a policy would have made of recorded runs. Nothing is carried out or changed.

    Which runs it would have blocked, where and why, how often people would have been asked, and
    what would not have been spent. Who reads this must be allowed to read runs as well.
    """
    who = principal.current()
    permissions.check(who, "run:read")
    text = given["policy"]
    here = site.current()
    with here.places.taken():
        return backtests.of_policy(
            here.platform,
            who.tenant,
            text if isinstance(text, str) else values.canonical(text),
            _chosen(given["runs"]),
            beside=given["beside"],
        )


@routes.on("POST", "/version", needs="definition:read")
@routes.takes(VersionBacktestSchema)
@routes.gives(LedRunsSchema)
def version(given: dict[str, Any]) -> VersionBacktest:
    """Lead recorded runs of a workflow through a version of it. Nothing is carried out or changed.

    What their steps reported is taken as it was; whether they come to the same end on the same path
    is told, and the first difference. Who reads this must be allowed to read runs as well.
    """
    who = principal.current()
    permissions.check(who, "run:read")
    here = site.current()
    with here.places.taken():
        return backtests.of_version(
            here.platform,
            who.tenant,
            given["workflow"],
            given["version"],
            _chosen(given["runs"]),
        )


def _chosen(given: Mapping[str, Any]) -> Filter:
    if not given:
        given = ChosenSchema().load({})
    return Filter(
        ids=tuple(map(str, given["ids"])),
        workflow=given["workflow"],
        user=given["user"],
        statuses=tuple(map(RunStatus, given["status"])),
        since=given["since"],
        until=given["until"],
        limit=given["limit"],
    )
