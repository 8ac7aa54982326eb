"""A run's history: what was reported, what was decided, in order."""

from __future__ import annotations

from typing import Any

from engine.runs import views
from web import site
from web.api.runs import named
from web.routing import Routes
from web.schemas.history import HistoryArguments, HistorySchema

routes = Routes(
    "history",
    __name__,
    url_prefix="/api/v1/runs/<run_id>",
    description="The append-only, hash-chained record of a run, which is its audit log.",
)


@routes.on("GET", "/history", needs="run:read")
@routes.query(HistoryArguments)
@routes.gives(HistorySchema)
def read(arguments: dict[str, Any], run_id: str) -> dict[str, Any]:
    """Read lines after a `seq`."""
    limit = arguments["limit"]
    found = views.history(
        site.current().platform,
        named(run_id),
        after=arguments["after"],
        limit=limit + 1,
        payloads=arguments["payloads"],
    )
    shown = found[:limit]
    return {"items": shown, "next": shown[-1].seq if len(found) > limit else None}
