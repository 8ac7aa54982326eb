"""Calls of HTTP services.

An answer is `{status, headers, url}` and the body: `json` where it is said to be JSON, `text` where it
is text, else `base64`; nothing where there is none. A status from 400 on fails, unless the service or
the call accepts it:

    429 rate_limited    408 timeout    other 4xx client_error    5xx server_error

and the message has the beginning of what the server said. A request that may change something carries
the call's idempotency key, by which a server that knows such keys does it once.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import urlencode

import httpx2

from engine import capabilities
from engine.capabilities import Profile
from engine.core import values
from engine.core.values import Json
from engine.errors import Invalid
from engine.services import http, origins, settled
from engine.services.http import Config
from workers.services import connections, reach
from workers.services.connections import Guard, Resolver, Unreached, resolved
from workers.services.service import NOTHING, Answer, Asked

#: Headers of an answer that are told, and characters of each.
_MOST_HEADERS = 64
_LONGEST_HEADER = 2_048
#: Characters of a body that a message quotes.
_QUOTED = 500
_HIDDEN = "[hidden]"
_TEXTUAL = (
    "text/",
    "application/xml",
    "application/javascript",
    "application/x-www-form-urlencoded",
)
#: Of Python's codecs those that are character sets, and take time in proportion.
_CODINGS = ("utf", "ascii", "iso8859", "cp", "shift_jis", "euc", "gb", "big5", "koi8", "mac")
#: Credentials shorter than that are not looked for in what comes back.
_LEAST_HIDDEN = 6
#: Where JSON is said to stand: `application/json`, and what says that it is written in it.
_JSON = ("/json", "+json")


def carry(asked: Asked, *, resolve: Resolver = resolved) -> Answer:
    """Send the request that was asked for, or say what would be sent."""
    if names := settled.missing(dict(asked.config)):
        message = f"it was not given the secrets that it is configured with: {', '.join(names)}"
        return Answer(reason="not_granted", message=message)
    try:
        config = http.read(dict(asked.config), resolved=True)
    except Invalid as error:
        return Answer(reason="blocked", message=str(error))
    guard = connections.guard(asked, config.allow_private, config.timeout, resolve=resolve)
    where = ""
    try:
        request = _request(config, asked)
        where = f"{_place(request)}: "
        if asked.arguments.get("dry_run"):
            return Answer(value=_told(config, asked, guard, request), usage=NOTHING)
        answer = _answered(config, asked, guard, request)
        return _accepted(config, asked, answer)
    except Unreached as unreached:
        return Answer(reason=unreached.reason, message=f"{where}{unreached.message}")


def _request(config: Config, asked: Asked) -> httpx2.Request:
    """The request as it is sent. Raises `Unreached` for what must not be."""
    method = _method(config, asked)
    wrong = http.method(config, method)
    if wrong is not None:
        raise Unreached("blocked", wrong)
    url = _url(config, asked.arguments)
    reach.checked(url, config.hosts)
    _granted(asked, url)
    headers = httpx2.Headers({"User-Agent": "celeriac", "Accept": "*/*"})
    if method not in http.SAFE:
        headers["Idempotency-Key"] = asked.idempotency_key
    for name, value in _headers(config, asked.arguments).items():
        headers[name] = value
    content, kind = _content(asked.arguments)
    if kind is not None:
        headers.setdefault("Content-Type", kind)
    try:
        return httpx2.Request(method, url, headers=headers, content=content)
    except httpx2.InvalidURL as error:
        raise Unreached("arguments_refused", f"the URL cannot be used: {error}") from None


def _url(config: Config, arguments: Mapping[str, Json]) -> str:
    try:
        url = http.target(config, arguments)
    except http.Beyond as beyond:
        raise Unreached("blocked", str(beyond)) from None
    query = arguments.get("query")
    pairs = _pairs(query) if isinstance(query, dict) else []
    if not pairs:
        return url
    return f"{url}{'&' if '?' in url else '?'}{urlencode(pairs)}"


def _headers(config: Config, arguments: Mapping[str, Json]) -> dict[str, str]:
    """The headers of the call, then those of the service, which no call replaces."""
    fixed = {**config.headers, **dict([config.auth] if config.auth else [])}
    taken = {name.lower() for name in fixed}
    given = arguments.get("headers")
    found: dict[str, str] = {}
    for name, value in given.items() if isinstance(given, dict) else ():
        text = _scalar(value)
        wrong = http.header(name, text)
        if wrong is None and name.lower() in taken:
            wrong = f"the header {name} is set by the service"
        if wrong is not None:
            raise Unreached("arguments_refused", wrong)
        found[name] = text
    return {**found, **fixed}


def _content(arguments: Mapping[str, Json]) -> tuple[bytes | None, str | None]:
    """The body of a request, and what kind of text it is."""
    given = [name for name in ("json", "text", "form") if arguments.get(name) is not None]
    if len(given) > 1:
        message = f"there are several bodies: {', '.join(given)}; give one"
        raise Unreached("arguments_refused", message)
    if not given:
        return None, None
    value = arguments[given[0]]
    match given[0]:
        case "json":
            return values.canonical(value).encode(), "application/json"
        case "text":
            return str(value).encode(), "text/plain; charset=utf-8"
        case _:
            pairs = _pairs(value) if isinstance(value, dict) else []
            return urlencode(pairs).encode(), "application/x-www-form-urlencoded"


def _pairs(fields: Mapping[str, Json]) -> list[tuple[str, str]]:
    """Names and values of a query or a form; a list gives a name several times, null not at all."""
    return [
        (name, _scalar(one))
        for name, value in fields.items()
        for one in (value if isinstance(value, list) else [value])
        if one is not None
    ]


def _scalar(value: Json) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise Unreached("arguments_refused", "a header, query or form holds an object or a list")


def _told(config: Config, asked: Asked, guard: Guard, request: httpx2.Request) -> Json:
    """What would be sent, without what the service itself sends along."""
    origin = origins.origin(str(request.url))
    if origin.address is not None:
        connections.judged(guard, origin.host, origin.port)
    hidden = {*(name.lower() for name in config.headers)}
    hidden |= {config.auth[0].lower()} if config.auth else set()
    headers: dict[str, Json] = {
        name: _HIDDEN if name in hidden else value for name, value in request.headers.items()
    }
    headers["host"] = origin.authority
    told: dict[str, Json] = {
        "dry_run": True,
        "method": request.method,
        "url": str(request.url),
        "headers": headers,
    }
    for name in ("json", "text", "form"):
        if asked.arguments.get(name) is not None:
            told[name] = asked.arguments[name]
    return told


def _answered(
    config: Config, asked: Asked, guard: Guard, request: httpx2.Request
) -> httpx2.Response:
    def judge(url: str) -> None:
        _granted(asked, url)
        _within(config, url)

    way = reach.Reach(guard, hosts=config.hosts, max_bytes=config.max_bytes)
    secret = [*config.headers, *([config.auth[0]] if config.auth else [])]
    return reach.fetch(way, request, redirects=config.redirects, secret=secret, judge=judge)


def _granted(asked: Asked, url: str) -> None:
    """Raise `Unreached` for a URL of a host that the code which calls was not granted."""
    if asked.hosts is None:
        return
    origin = origins.origin(url)
    profile = Profile(hosts=asked.hosts)
    if not capabilities.allows_host(profile, origin.scheme, origin.host, origin.port):
        raise Unreached("blocked", f"{origin} is not granted to the code that asks")


def _within(config: Config, url: str) -> None:
    """Raise `Unreached` for a URL of the base's host that is not below the base."""
    if config.base is None:
        return
    # As the client writes URLs: a host in small letters, no port that is the usual one.
    base = str(httpx2.URL(config.base)).rstrip("/")
    if origins.origin(url) != origins.origin(base):
        return
    try:
        http.target(replace(config, base=base), {"url": url})
    except http.Beyond as beyond:
        raise Unreached("blocked", str(beyond)) from None


def _accepted(config: Config, asked: Asked, answer: httpx2.Response) -> Answer:
    """What a status means for the call."""
    status, given = answer.status_code, asked.arguments.get("accept")
    accepted = config.accept.union(given if isinstance(given, list) else ())
    if status < HTTPStatus.BAD_REQUEST or status in accepted:
        return Answer(value=_value(config, answer))
    message = f"{_place(answer.request)} answered {status} {answer.reason_phrase}".rstrip()
    waits = answer.headers.get("retry-after", "")
    if waits:
        message += f" (Retry-After: {waits[:40]})"
    said = cleaned(config.auth, answer.content[: 4 * _QUOTED].decode("utf-8", "replace"))
    said = " ".join("".join(char if char.isprintable() else " " for char in said).split())
    if said:
        message += f": {said[:_QUOTED]}"
    reason = reason_of(status)
    if reason == "rate_limited" and answer.request.method != _method(config, asked):
        # What was turned away is only what came of the request, which was heard.
        reason = "client_error"
    return Answer(reason=reason, message=message)


def _method(config: Config, asked: Asked) -> str:
    return str(asked.arguments.get("method") or config.methods[0])


def _place(request: httpx2.Request) -> str:
    """What was asked for, as messages say it: a query may be nobody's business."""
    return f"{request.method} {request.url.copy_with(query=None)}"


def reason_of(status: int) -> str:
    """What a status from 400 on is called as the reason of a failure."""
    match status:
        case HTTPStatus.TOO_MANY_REQUESTS:
            return "rate_limited"
        case HTTPStatus.REQUEST_TIMEOUT:
            return "timeout"
        case _ if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return "client_error"
        case _:
            return "server_error"


def _value(config: Config, answer: httpx2.Response) -> Json:
    told: dict[str, Json] = {
        "status": answer.status_code,
        "headers": {
            name: cleaned(config.auth, text)
            for name, text in reach.headers_of(answer, _MOST_HEADERS, _LONGEST_HEADER).items()
        },
        "url": str(answer.request.url),
    }
    if not answer.content:
        return told
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.endswith(_JSON):
        return {**told, "json": _json(config, answer.content)}
    text = _decoded(answer, textual=not kind or kind.startswith(_TEXTUAL) or kind.endswith("+xml"))
    if text is None:
        return {**told, "base64": base64.b64encode(answer.content).decode()}
    return {**told, "text": cleaned(config.auth, text)}


def _json(config: Config, content: bytes) -> Json:
    try:
        return values.parse(cleaned(config.auth, content.decode()))
    except values.InvalidJson as error:
        raise Unreached(
            "bad_response", f"the answer is said to be JSON, and is not: {error}"
        ) from None
    except UnicodeDecodeError as error:
        message = f"the answer is said to be JSON, and is no UTF-8: {error.reason}"
        raise Unreached("bad_response", message) from None


def _decoded(answer: httpx2.Response, *, textual: bool) -> str | None:
    """A body as text; None where it is none, or cannot be stored as such."""
    if not textual:
        return None
    try:
        coding = codecs.lookup(answer.charset_encoding or "utf-8").name
        text = answer.content.decode(coding if coding.startswith(_CODINGS) else "utf-8")
    except (UnicodeDecodeError, LookupError):
        return None
    return None if any(values.problems(text)) else text


def cleaned(auth: tuple[str, str] | None, text: str) -> str:
    """A text without the credentials, should the server have sent them back."""
    said = auth[1].rpartition(" ")[2] if auth else ""
    return text.replace(said, _HIDDEN) if len(said) >= _LEAST_HIDDEN else text
