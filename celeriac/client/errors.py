"""What a platform may answer instead: one class per situation.

Each is also the error of that name in `engine.errors`, so that code which handles one handles
both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine import errors
from engine.core.problem import Problem


class ApiError(errors.CeleriacError):
    """A platform answered with an error."""

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        title: str = "",
        problems: Sequence[Problem] = (),
        request_id: str = "",
    ) -> None:
        errors.CeleriacError.__init__(self, detail)
        #: The HTTP status; None when there was no answer.
        self.status = status
        self.title = title
        #: Everything that is wrong with the request, each with its place and remedy.
        self.problems = tuple(problems)
        #: What the platform's log has it under.
        self.request_id = request_id

    def __str__(self) -> str:
        return errors.listed(self.message, self.problems)


class Invalid(ApiError, errors.Invalid):
    """The request breaks a rule; `problems` says which."""


class Unauthenticated(ApiError):
    """There was no credential, or not one that is known."""


class Forbidden(ApiError, errors.Forbidden):
    """The credential does not allow this."""


class NotFound(ApiError, errors.NotFound):
    """There is nothing under this name, or not for who asks."""


class Conflict(ApiError, errors.Conflict):
    """Something has changed meanwhile, or stands in the way."""


class Blocked(Conflict, errors.Blocked):
    """Something stands in the way; `problems` lists all of it."""


class Outdated(Conflict, errors.Outdated):
    """Somebody has saved it since it was read."""


class Unavailable(ApiError, errors.Unavailable):
    """The platform does not answer, or cannot at the moment; try again."""

    #: Seconds after which the platform asks to be asked again, if it does.
    retry_after: float | None = None


_CONFLICT = 409
_KINDS: Mapping[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    _CONFLICT: Conflict,
    412: Outdated,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def answered(status: int, phrase: str, body: Any) -> ApiError:
    """The error of an answer: an RFC 9457 problem, unless something in between has answered."""
    told: Mapping[str, Any] = body if isinstance(body, dict) else {}
    listed = told.get("errors")
    kind = Blocked if status == _CONFLICT and listed else _KINDS.get(status, ApiError)
    return kind(
        str(told.get("detail") or f"the platform answered {status} {phrase}"),
        status=status,
        title=str(told.get("title") or phrase),
        problems=[_problem(entry) for entry in listed] if isinstance(listed, list) else (),
        request_id=str(told.get("request_id", "")),
    )


def _problem(entry: Any) -> Problem:
    told: Mapping[str, Any] = entry if isinstance(entry, dict) else {}
    return Problem(
        path=str(told.get("path", "")),
        message=str(told.get("message", entry)),
        remedy=str(told.get("remedy", "")),
    )
