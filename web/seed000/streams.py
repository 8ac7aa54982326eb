"""`/graph/ws/<run_id>`: a run's steps as JSON messages, first what there is, then what comes.

Each message is a step with its `seq`; `?after=` takes a stream up after one that was seen. The
socket is closed when the run has ended. Text `ping` is answered by text `pong`.

A refusal comes after the handshake, as a code that scripts can read: 4401 for a request without
a valid credential, 4403 for one whose user may not read runs, 4404 for a run that is not there,
1013 while the database stays away. Only when no place is left is there no handshake: 503, with
`Retry-After`. 1000 says that the run has ended, and nothing else does.
"""

from __future__ import annotations

from functools import partial

from flask import Blueprint, Response, request

from engine.core.problem import Problem
from engine.errors import Forbidden, Invalid, NotFound, Unavailable
from engine.runs import views
from engine.store import session
from engine.store.ids import RunId
from web import body, lines, permissions, principal, rendering, site, streams, websocket
from web.errors import Unauthenticated
from web.schemas.history import LAST
from web.seed000 import running, shape
from web.site import Site
from web.websocket import Connection

PERMISSION = "run:read"
#: How long a stream that opens waits for the database; one that is open waits on.
PATIENCE_SECONDS = 3.0

routes = Blueprint("graph-stream", __name__, url_prefix="/graph")


@routes.route("/ws/<run_id>", websocket=True)
@permissions.needs(PERMISSION, within=True)
def stream(run_id: str) -> Response:
    """Stream the steps of a run."""
    here = site.current()
    after = _after()
    with here.places.taken(), websocket.opened(request) as connection:
        _serve(connection, run_id, after)
    return websocket.Handled(request.environ)


def _serve(connection: Connection, run_id: str, after: int) -> None:
    try:
        run = session.insist(partial(_admitted, run_id), seconds=PATIENCE_SECONDS)
        _tell(site.current(), connection, run, after)
    except Unauthenticated as error:
        connection.close(websocket.UNAUTHENTICATED, error.message)
    except Forbidden as error:
        principal.note_refusal(request, error)
        connection.close(websocket.FORBIDDEN, error.message)
    except NotFound as error:
        connection.close(websocket.NOT_FOUND, error.message)
    except Unavailable:
        connection.close(websocket.TRY_AGAIN, "the database is away; connect again later")


def _admitted(run_id: str) -> RunId:
    """The run that is asked for, if whoever asks may read it."""
    principal.admit(request, PERMISSION)
    run = running.named(run_id)
    views.status(site.current().platform, run)
    return run


def _tell(here: Site, connection: Connection, run: RunId, after: int) -> None:
    may = principal.again(request, PERMISSION)
    with here.listener.bell(run) as bell:
        connection.wakes(bell.ring)
        for batch in streams.follow(here, run, bell, after=after, may=may):
            for said in connection.received():
                if said == "ping":
                    connection.send("pong")
            for line in batch:
                step = shape.step(lines.entry(line))
                if step is not None:
                    connection.send(rendering.text(step))
    if here.stopping.is_set():
        connection.close(websocket.RESTARTING, "the server is about to restart; connect again")
    else:
        connection.close(websocket.NORMAL, "the run has ended")


def _after() -> int:
    body.check_query(request)
    text = request.args.get("after", "0")
    if text.isascii() and text.isdigit() and len(text) <= len(str(LAST)) and int(text) <= LAST:
        return int(text)
    raise Invalid(
        [Problem(path="after", message="is no seq", remedy="send the seq that was seen last")]
    )
