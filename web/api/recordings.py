"""Runs as files: taken out when they have ended, brought in to be looked at."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Response, request

from engine.formats import recording
from engine.runs import exports, imports, views
from web import body, principal, site
from web.api.runs import named, standing
from web.errors import WrongMediaType
from web.routing import Routes
from web.schemas.recordings import ExportArguments
from web.schemas.runs import StatusSchema

routes = Routes(
    "recordings",
    __name__,
    url_prefix="/api/v1",
    description="Runs as files, for another platform or a test.",
)

#: Lines, each a digest and a JSON object.
CONTENT = "application/vnd.celeriac.run"
_FILE = {"content": {CONTENT: {"schema": {"type": "string"}}}}


@routes.on("GET", "/runs/<run_id>/export", needs="run:read")
@routes.query(ExportArguments)
@routes.described(responses={"200": {"description": "The run as a file", **_FILE}})
@routes.gives(None)
def export(arguments: dict[str, Any], run_id: str) -> Response:
    """Get a run that has ended as a file: its history, its graph, what it was pinned to.

    Users' data goes along as it is asked for. Secrets are in no history.
    """
    here, run = site.current(), named(run_id)
    with here.places.taken():
        text = exports.export(here.platform, run, payloads=arguments["payloads"])
    headers = {"Content-Disposition": f'attachment; filename="{run.run}.run"'}
    return Response(text, content_type=CONTENT, headers=headers)


@routes.on("POST", "/imports", needs="run:start")
@routes.described(
    requestBody={"required": True, "description": "A file that an export gave", **_FILE}
)
@routes.gives(StatusSchema, HTTPStatus.CREATED)
def bring() -> tuple[dict[str, Any], int, dict[str, str]]:
    """Bring in a run that was recorded elsewhere, to be replayed, explained and looked at.

    It is read-only, keeps its id, and counts in no budget. A file that was altered is refused with the
    line.
    """
    if request.mimetype != CONTENT:
        raise WrongMediaType(f"a run is sent as {CONTENT}")
    here, who = site.current(), principal.current()
    request.max_content_length = recording.MAX_BYTES
    with here.places.taken():
        run = imports.bring(here.platform, who.tenant, body.read_bytes(request), by=who.user)
    headers = {"Location": f"/api/v1/runs/{run.run}"}
    return standing(run, views.status(here.platform, run)), HTTPStatus.CREATED, headers
