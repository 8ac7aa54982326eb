"""A run's events as a stream (Server-Sent Events): its history, and what its steps print.

History is told in order and by `seq`. The lines that an attempt prints come as they are
written, and all of them before the line of history that ends the attempt. The `id` of every
event holds how far the reader has come, in the history and in each log that is still growing;
a browser hands it back by itself (`Last-Event-ID`), others may (`?after=`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from flask import Response, request

from engine.core.problem import Problem
from engine.core.values import Json
from engine.errors import Forbidden, Invalid
from engine.runs import views
from engine.runs.views import Line, LogLine
from engine.store.ids import RunId
from web import connection, pagination, principal, rendering, site, streams
from web.api.runs import named
from web.errors import Unauthenticated
from web.places import Place
from web.routing import Routes
from web.schemas.history import LAST, EventsArguments, LineSchema
from web.schemas.steps import LogLineSchema
from web.site import Site

routes = Routes(
    "events",
    __name__,
    url_prefix="/api/v1/runs/<run_id>",
    description="A run as it happens.",
)

#: How often a quiet stream says that it is there.
KEEP_ALIVE_SECONDS = 15.0
_RETRY_MILLISECONDS = 1000
_BEGINNING = "RequestStart"
_ENDING = frozenset({"AttemptSucceeded", "AttemptFailed", "AttemptLost"})
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_STREAM = "text/event-stream"
_DESCRIBED: Mapping[str, Json] = {
    "200": {
        "description": "Events `history`, `log`, and `end` when the run has ended",
        "content": {_STREAM: {}},
    },
    "204": {"description": "The run has ended, and the caller has read all of it"},
}

_Attempt = tuple[str, int]


@dataclass
class Reader:
    """How far a reader of one run has come."""

    seq: int = 0
    #: The last line read of each attempt whose log may grow.
    logs: dict[_Attempt, int] = field(default_factory=dict)

    @property
    def id(self) -> str:
        read: list[Json] = [
            [step, attempt, line] for (step, attempt), line in self.logs.items() if line
        ]
        return f"{self.seq}~{pagination.cursor(read)}" if read else str(self.seq)


@routes.on("GET", "/events", needs="run:read")
@routes.query(EventsArguments)
@routes.gives(None)
@routes.described(
    parameters=[{"in": "header", "name": "Last-Event-ID", "schema": {"type": "string"}}],
    responses=_DESCRIBED,
)
def events(arguments: dict[str, Any], run_id: str) -> Response:
    """Follow a run: what has happened first, then what happens."""
    here, run = site.current(), named(run_id)
    reader = _reader(request.headers.get("Last-Event-ID") or arguments.get("after"))
    status = views.status(here.platform, run)
    if status.terminal and reader.seq >= status.seq > 0:
        # The one answer after which a browser does not connect again.
        return Response(status=204)
    place = here.places.take()
    gone = partial(connection.is_gone, request.environ)
    may = principal.again(request, "run:read")
    told = _told(
        here, run, reader, gone, may, payloads=arguments["payloads"], logs=arguments["logs"]
    )
    response = Response(_kept(told, place), content_type=_STREAM, headers=_HEADERS)
    # The generator's own end is not enough: one that was never begun is never ended.
    response.call_on_close(place.leave)
    return response


def _told(
    here: Site,
    run: RunId,
    reader: Reader,
    gone: Callable[[], bool],
    may: Callable[[], None],
    *,
    payloads: bool,
    logs: bool,
) -> Iterator[str]:
    yield f"retry: {_RETRY_MILLISECONDS}\n\n"
    spoke = time.monotonic()
    if logs:
        for step in views.run(here.platform, run).steps:
            reader.logs.setdefault((step.key, step.attempt), 0)
    with here.listener.bell(run) as bell:
        batches = streams.follow(here, run, bell, after=reader.seq, payloads=payloads, may=may)
        for batch in batches:
            if gone():
                return
            for event in _of(here, run, batch, reader, logs=logs):
                yield event
                spoke = time.monotonic()
            if time.monotonic() - spoke > KEEP_ALIVE_SECONDS:
                yield ": still here\n\n"
                spoke = time.monotonic()
    if not here.stopping.is_set():
        status = views.status(here.platform, run)
        yield _event("end", reader.id, {"run_id": run.run, "status": status.status})


def _of(
    here: Site, run: RunId, batch: tuple[Line, ...], reader: Reader, *, logs: bool
) -> Iterator[str]:
    """The events of a batch of history, and of what was printed meanwhile."""
    for line in batch:
        if logs:
            yield from _around(here, run, line, reader)
        reader.seq = line.seq
        yield _event("history", reader.id, _LINE.dump(line))
    if logs:
        for attempt in list(reader.logs):
            yield from _printed(here, run, attempt, reader)


def _around(here: Site, run: RunId, line: Line, reader: Reader) -> Iterator[str]:
    """A log may grow from when an attempt is asked for, and is whole before its end is told."""
    step, number = line.body.get("step"), line.body.get("attempt")
    if not isinstance(step, str) or not isinstance(number, int):
        return
    attempt = (step, number)
    if line.kind == _BEGINNING:
        reader.logs.setdefault(attempt, 0)
    elif line.kind in _ENDING:
        yield from _printed(here, run, attempt, reader)
        reader.logs.pop(attempt, None)


def _printed(here: Site, run: RunId, attempt: _Attempt, reader: Reader) -> Iterator[str]:
    for line in _fresh(here, run, attempt, reader.logs):
        reader.logs[attempt] = line.line
        yield _event("log", reader.id, _LOG_LINE.dump(line))


def _fresh(
    here: Site, run: RunId, attempt: _Attempt, read: Mapping[_Attempt, int]
) -> Iterator[LogLine]:
    """The lines of an attempt that were not read yet."""
    key, number = attempt
    after = {(step, other): line for (step, other), line in read.items() if step == key}
    while found := views.logs(here.platform, run, key=key, after=after):
        for line in found:
            after[(line.step, line.attempt)] = line.line
            if line.attempt == number:
                yield line


def _kept(events: Iterable[str], place: Place) -> Iterator[str]:
    try:
        yield from events
    except (Unauthenticated, Forbidden):
        # Who connects again is told why.
        return
    finally:
        place.leave()


def _event(kind: str, name: str, data: object) -> str:
    return f"event: {kind}\nid: {name}\ndata: {rendering.text(data)}\n\n"


def _reader(text: str | None) -> Reader:
    if not text:
        return Reader()
    seq, _, rest = text.partition("~")
    if not (seq.isascii() and seq.isdigit() and len(seq) < len(str(LAST)) and int(seq) <= LAST):
        raise _unknown()
    return Reader(seq=int(seq), logs=dict(pagination.log_lines(rest)) if rest else {})


def _unknown() -> Invalid:
    return Invalid(
        [
            Problem(
                path="after",
                message="is no id of an event",
                remedy="send the `id` of the event that was read last, or leave it out",
            )
        ]
    )


_LINE = LineSchema()
_LOG_LINE = LogLineSchema()
