"""What surrounds every request: its id, its line in the log, and the headers of its answer."""

from __future__ import annotations

import re
import time
from uuid import uuid4

import structlog
from flask import Flask, Response, g, request

_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
#: Scripts, frames and sniffing have no business with an API; pages set policies of their own.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}

_log = structlog.get_logger("web.request")


def install(app: Flask) -> None:
    """Put every request of an app into its envelope."""
    app.before_request(_open)
    app.after_request(_close)
    app.teardown_request(lambda _: structlog.contextvars.clear_contextvars())


def request_id() -> str:
    """The id of the current request: the client's own where it is a decent one."""
    found = g.get("request_id")
    return str(found) if found else ""


def _open() -> None:
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _ID.fullmatch(given) else uuid4().hex
    g.began = time.perf_counter()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _close(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    if request.is_secure:
        response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    response.headers["X-Request-ID"] = request_id()
    _log.info(
        "request",
        method=request.method,
        path=request.path,
        status=response.status_code,
        milliseconds=round((time.perf_counter() - g.get("began", 0.0)) * 1000, 1),
        peer=request.remote_addr,
    )
    return response
