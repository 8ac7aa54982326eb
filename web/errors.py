"""From what went wrong to what a client reads: one table, two shapes.

`/api/v1` answers with RFC 9457 problems, the routes of seed 000 with `{"error", "detail"}`.
Both list every problem with its path and remedy, and neither ever shows a stack trace: what
was not foreseen is logged under the request's id, and the client is told that id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from flask import Response, request
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException

from engine.core.problem import Problem
from engine.errors import (
    Blocked,
    CeleriacError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Outdated,
    Settled,
    Unavailable,
)
from web import connection, envelope, rendering

PROBLEM = "application/problem+json"

_log = structlog.get_logger(__name__)


class Unauthenticated(CeleriacError):
    """No credential came with the request; send `Authorization: Bearer clr_…` or `X-API-Key`."""


class BadRequest(Invalid):
    """The request breaks a rule of what it asks for; every problem is listed with its place."""


class WrongMediaType(CeleriacError):
    """The body is of a type that is not read here; send `Content-Type: application/json`."""


#: By the nearest class that is named here. A test holds every error class against it.
STATUSES: Mapping[type[BaseException], HTTPStatus] = {
    BadRequest: HTTPStatus.BAD_REQUEST,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Outdated: HTTPStatus.PRECONDITION_FAILED,
    Conflict: HTTPStatus.CONFLICT,
    WrongMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    # The database is away, or all its connections are in use.
    OperationalError: HTTPStatus.SERVICE_UNAVAILABLE,
    InterfaceError: HTTPStatus.SERVICE_UNAVAILABLE,
    PoolTimeout: HTTPStatus.SERVICE_UNAVAILABLE,
    Exception: HTTPStatus.INTERNAL_SERVER_ERROR,
}

#: What a client is told of an error that is none of ours.
_WORDS = {
    HTTPStatus.NOT_FOUND: "there is nothing at this address; /docs lists what there is",
    HTTPStatus.METHOD_NOT_ALLOWED: "this address does not take that method",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the body is larger than is read here",
    HTTPStatus.SERVICE_UNAVAILABLE: "the database cannot be reached at the moment; try again",
    HTTPStatus.INTERNAL_SERVER_ERROR: "something went wrong here; it is logged under this request_id",
}
_RETRY_SECONDS = "1"
_LISTED = 100
_LEGIBLE = 500
_DETAIL = 8000


def status_of(error: BaseException) -> HTTPStatus:
    """The status that an error is answered with."""
    if isinstance(error, HTTPException) and error.code is not None:
        return HTTPStatus(error.code)
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def answer(error: Exception) -> Response:
    """The answer to a request that raised."""
    if isinstance(error, HTTPException) and error.response is not None:
        return error.response  # type: ignore[return-value]  # ours are Flask's
    status = status_of(error)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        connection.drain(request.environ)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        original = getattr(error, "original_exception", None) or error
        _log.error("request.failed", exc_info=original)
    elif status == HTTPStatus.SERVICE_UNAVAILABLE and not isinstance(error, CeleriacError):
        _log.warning("request.unavailable", error=str(error).partition("\n")[0])
    problems = error.problems if isinstance(error, Invalid | Blocked) else ()
    verdict = error.verdict if isinstance(error, Settled) else None
    response = _response(status, _detail(error, status), problems, verdict)
    for name, value in _headers(error, status).items():
        response.headers[name] = value
    return response


def listed(problems: Sequence[Problem]) -> list[dict[str, str]]:
    """Problems as JSON data, as far as anybody will read."""
    shown = [
        {
            "path": _legible(problem.path),
            "message": _legible(problem.message),
            "remedy": _legible(problem.remedy),
        }
        for problem in problems[:_LISTED]
    ]
    if len(problems) > _LISTED:
        more = f"and {len(problems) - _LISTED} more problems"
        shown.append({"path": "", "message": more, "remedy": "mend these first"})
    return shown


def _response(
    status: HTTPStatus,
    detail: str,
    problems: Sequence[Problem],
    verdict: Mapping[str, Any] | None,
) -> Response:
    if speaks_seed(request.path):
        body: dict[str, Any] = {"error": status.phrase, "detail": _told(detail, problems)}
        if problems:
            body["errors"] = listed(problems)
        return rendering.json(body, status=status)
    body = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "request_id": envelope.request_id(),
    }
    if problems:
        body["errors"] = listed(problems)
    if verdict is not None:
        body["verdict"] = verdict
    return rendering.json(body, status=status, media_type=PROBLEM)


def speaks_seed(path: str) -> bool:
    """Whether an address answers in the words of seed 000."""
    return path.partition("/")[2].partition("/")[0] in {"graph", "nodes", "tools"}


def _told(detail: str, problems: Sequence[Problem]) -> str:
    """All in one text, for clients that read `detail` alone."""
    if not problems:
        return detail
    return "; ".join(
        f"{problem['path']}: {problem['message']}" if problem["path"] else problem["message"]
        for problem in listed(problems)
    )


def _legible(text: str, most: int = _LEGIBLE) -> str:
    """A text that any reader takes: names that a client made up stand in paths and messages."""
    if len(text) > most:
        text = f"{text[:most]}…"
    return text.encode("utf-8", "backslashreplace").decode()


def _detail(error: Exception, status: HTTPStatus) -> str:
    if isinstance(error, CeleriacError):
        return _legible(error.message, _DETAIL)
    return _WORDS.get(status, status.description or status.phrase)


def _headers(error: Exception, status: HTTPStatus) -> dict[str, str]:
    headers = {}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = _RETRY_SECONDS
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="celeriac"'
    methods = getattr(error, "valid_methods", None)
    if methods:
        headers["Allow"] = ", ".join(sorted(methods))
    return headers
