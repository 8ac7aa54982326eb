"""The one validator for whatever enters: bodies, query strings, paths and headers.

Text is read strictly (`engine.core.values`): what Postgres or a reader in another language
would refuse, or silently change, is refused here with its path. Then a schema says which
fields there are; everything that is wrong is reported at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn
from urllib.parse import quote
from uuid import UUID

from flask import Request
from marshmallow import RAISE, Schema, ValidationError
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import RequestEntityTooLarge

from engine.core import values
from engine.core.problem import Problem
from engine.core.values import InvalidJson, Json
from engine.errors import Invalid
from web import connection
from web.errors import BadRequest, WrongMediaType

#: Bytes of a request's body, unless the app is made with another limit.
MAX_BYTES = 1_048_576
IDEMPOTENCY_KEY_CHARACTERS = 255

#: What a large body may hold beside its texts, in bytes, and how many texts.
_BESIDE = 65_536

#: What marshmallow says, as we say it, with what to do.
_WORDS: Mapping[str, tuple[str, str]] = {
    "Missing data for required field.": ("is missing", "add it"),
    "Field may not be null.": ("is null", "give it a value, or leave it out"),
    "Unknown field.": ("is not known here", "remove it, or check its spelling"),
    "Not a valid string.": ("is not a text", "send a JSON string"),
    "Not a valid integer.": ("is not a whole number", "send a whole number"),
    "Not a valid number.": ("is not a number", "send a number"),
    "Not a valid boolean.": ("is neither true nor false", "send one of them"),
    "Not a valid UUID.": ("is not an id", "send a UUID"),
    "Not a valid datetime.": ("is not a time", "send one such as 2026-01-31T12:00:00Z"),
    "Not a valid aware datetime.": ("names no time zone", "add one: Z, or +01:00"),
    "Not a valid list.": ("is not a list", "send a JSON array"),
    "Not a valid mapping type.": ("is not an object", "send a JSON object"),
    "Invalid input type.": ("is not an object", "send a JSON object"),
}


class Parser(FlaskParser):
    """Reads what routes declare with `@blueprint.arguments`, strictly."""

    DEFAULT_UNKNOWN_BY_LOCATION = {  # noqa: RUF012  # webargs declares it so
        **FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION,
        "json": RAISE,
        "query": RAISE,
    }

    def load_json(self, req: Request, schema: Schema) -> Any:
        if not has_body(req) and not any(field.required for field in schema.fields.values()):
            return {}
        return read_json(req)

    def load_querystring(self, req: Request, schema: Schema) -> Any:
        check_query(req)
        return super().load_querystring(req, schema)

    def handle_error(
        self,
        error: ValidationError,
        req: Request,  # noqa: ARG002  # webargs' signature, here and below
        schema: Schema,  # noqa: ARG002
        *,
        error_status_code: int | None,  # noqa: ARG002
        error_headers: Mapping[str, str] | None,  # noqa: ARG002
    ) -> NoReturn:
        raise Invalid(_flattened(error)) from error


def has_body(request: Request) -> bool:
    """Whether a request has a body, or says of what type it would be."""
    return bool(
        request.content_length or request.mimetype or "Transfer-Encoding" in request.headers
    )


def read_json(request: Request) -> Json:
    """The JSON value in the body of a request.

    Where more than the usual is taken, it is for the sake of long texts: many values cost far more
    than their bytes.
    """
    if request.mimetype != "application/json":
        raise WrongMediaType
    found = read_bytes(request)
    if len(found) > MAX_BYTES and _holds_many(found):
        message = f"a body of more than {MAX_BYTES} bytes may hold long texts alone"
        remedy = "send less, or send files as bytes"
        raise Invalid([Problem(path="", message=message, remedy=remedy)])
    return strict(found)


def _holds_many(data: bytes) -> bool:
    """Whether JSON holds many values, by what stands between its quotes."""
    quoted = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    if quoted.count(b'"') > _BESIDE:
        return True
    return sum(map(len, quoted.split(b'"')[::2])) > _BESIDE


def read_bytes(request: Request) -> bytes:
    """The body of a request, up to the app's limit."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        # What a few bytes unfold to is nothing to find out here.
        raise WrongMediaType("compressed bodies are not read; send it without Content-Encoding")
    with received():
        found = request.get_data(cache=False)
        # A server hands out what has come by the time that a client is gone, and is silent.
        if request.content_length is not None and len(found) < request.content_length:
            raise ConnectionError
    limit = request.max_content_length
    # Of a body without a length, Werkzeug hands out what lies within the limit and is silent.
    if request.content_length is None and limit is not None and len(found) >= limit:
        raise RequestEntityTooLarge
    return found


@contextmanager
def received() -> Iterator[None]:
    """Raise `BadRequest` where a body that is read within does not come as it was announced."""
    try:
        yield
    except connection.BROKEN as error:
        problem = Problem(
            path="", message="the body is not as its headers announce it", remedy="send it whole"
        )
        raise BadRequest([problem]) from error


def strict(text: bytes) -> Json:
    """The JSON value of a text."""
    if not text.strip():
        raise Invalid([Problem(path="", message="the body is empty", remedy="send a JSON value")])
    try:
        return values.parse(text)
    except InvalidJson as error:
        raise Invalid(error.problems) from error


def check_path(request: Request) -> None:
    """Refuse parts of the address that no name can hold."""
    _check(dict(request.view_args or {}))


def check_query(request: Request) -> None:
    """Refuse parameters that are given twice, and texts that no value can hold."""
    twice = [name for name, given in request.args.lists() if len(given) > 1]
    if twice:
        raise Invalid(
            Problem(path=name, message="is given more than once", remedy="keep one of them")
            for name in twice
        )
    _check(request.args.to_dict())


def check_texts(values: Mapping[str, str]) -> None:
    """Refuse texts that no value can hold."""
    _check(dict(values))


def uuid(text: str) -> str | None:
    """The one spelling of an id; None for what is none."""
    try:
        found = str(UUID(text))
    except ValueError:
        return None
    # UUID() takes braces, urn: and missing hyphens as well: an id has one spelling.
    return found if found == text.lower() else None


def known_id(text: str | None, path: str) -> str | None:
    """An id that was given as a parameter. Raises `Invalid` for what is none."""
    if text is None or (found := uuid(text)) is not None:
        return None if text is None else found
    raise Invalid([Problem(path=path, message="is not an id", remedy="send a UUID")])


def address(path: str) -> str:
    """A path as it stands in an address."""
    return quote(path)


def idempotency_key(request: Request) -> str | None:
    """The key under which a submission may be repeated."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    key = key.strip(" ")
    if not 0 < len(key) <= IDEMPOTENCY_KEY_CHARACTERS or not key.isprintable():
        raise Invalid(
            [
                Problem(
                    path="Idempotency-Key",
                    message=f"is not 1 to {IDEMPOTENCY_KEY_CHARACTERS} printable characters",
                    remedy="send a UUID, for instance",
                )
            ]
        )
    return key


def _check(value: object) -> None:
    if found := tuple(values.problems(value)):
        raise Invalid(found)


def _flattened(error: ValidationError) -> list[Problem]:
    """Marshmallow's nested messages as problems with paths."""
    messages: dict[str, Any] = error.messages_dict
    return [
        _problem(path, message)
        for location in messages.values()
        for path, message in _leaves(location, "")
    ]


def _leaves(messages: Any, path: str) -> Iterator[tuple[str, str]]:
    match messages:
        case str():
            yield path, messages
        case list():
            for message in messages:
                yield from _leaves(message, path)
        case dict():
            for name, inner in messages.items():
                yield from _leaves(inner, _below(path, name))
        case _:
            yield path, str(messages)


def _below(path: str, name: object) -> str:
    if isinstance(name, int):
        return f"{path}[{name}]"
    if name == "_schema":
        return path
    return f"{path}.{name}" if path else str(name)


def _problem(path: str, message: str) -> Problem:
    words, remedy = _WORDS.get(message, (message, ""))
    return Problem(path=path, message=words, remedy=remedy)
