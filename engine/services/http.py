"""HTTP services: which hosts may be asked, how, and with which credentials.

    kind: http
    config:
      hosts: [https://api.example.com, "https://*.example.com:8443"]
      base: https://api.example.com/v1
      methods: [GET, POST]
      headers: {X-Team: blue}
      auth: {bearer: $env.API_TOKEN}
      redirects: 3
      timeout: 20s

`hosts` are schemes, hosts and ports, one by one; a star stands for all names under a domain, and alone
(`https://*`) for every public host. `base` makes the `url` of a call relative to it, and neither a call
nor a redirect within its host leaves its path. A redirect to another host of the list takes no
credentials along, and next to no headers. `auth` is one of `bearer`, `basic: {user, password}`, or
`header` and `value`; its token, password or value is the name of a secret, and so is that of a fixed
header such as `X-Api-Key`. A private host has to be named in `allow_private` too, and opened by
whoever runs the platform.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from engine.core.problem import Problem
from engine.core.section import Section, suggestion
from engine.core.values import Json
from engine.errors import Invalid
from engine.services import origins, settled
from engine.services.origins import Origin

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
#: Methods that change nothing.
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
#: Headers that neither a configuration nor a call may set: they are the client's own.
RESERVED = frozenset(
    {
        *("accept-encoding", "connection", "content-encoding", "content-length", "expect", "host"),
        *("keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te"),
        *("trailer", "transfer-encoding", "upgrade"),
    }
)
MAX_REDIRECTS = 5
#: Seconds, and bytes of answer, unless a configuration says otherwise.
SECONDS = 30.0
BYTES = 1_048_576
MOST_BYTES = 64 * BYTES
_MOST_HOSTS = 100
_MOST_HEADERS = 50
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_ACCEPTED = (400, 599)
_FIELDS = (
    *("hosts", "base", "methods", "headers", "auth", "accept", "redirects", "timeout"),
    *("max_bytes", "allow_private"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """An HTTP service, as it was configured."""

    hosts: tuple[Origin, ...]
    #: What the URL of a call is relative to; without a slash at its end.
    base: str | None = None
    methods: tuple[str, ...] = ("GET", "HEAD")
    #: Sent with every request. They may hold secrets, as `auth` does.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: The header that says who asks, and its value; what is secret in it may be a name still.
    auth: tuple[str, str] | None = field(default=None, repr=False)
    #: Statuses from 400 on that are answers like any other.
    accept: frozenset[int] = frozenset()
    redirects: int = 0
    #: Seconds in all.
    timeout: float = SECONDS
    max_bytes: int = BYTES
    allow_private: tuple[str, ...] = ()

    @property
    def effect(self) -> str:
        """What a call leaves in the world, where nobody says it."""
        return "idempotent" if SAFE.issuperset(self.methods) else "at_most_once"

    @property
    def parameters(self) -> Mapping[str, Json]:
        """The JSON Schema of the arguments of a call."""
        where = "The URL to ask." if self.base is None else f"Path or URL, relative to {self.base}."
        scalar: Json = {"type": ["string", "number", "boolean", "null"]}
        values: Json = {"anyOf": [scalar, {"type": "array", "items": scalar}]}
        properties: dict[str, Json] = {
            "url": _text(where, most=origins.LIMIT),
            "method": {
                "description": "What is asked for.",
                "enum": [*self.methods],
                "default": self.methods[0],
            },
            "headers": {
                "description": "Headers beside those of the service.",
                "type": "object",
                "maxProperties": _MOST_HEADERS,
                "additionalProperties": {"type": "string"},
            },
            "query": {
                "description": "What is added to the URL's query; a list gives a name several times.",
                "type": "object",
                "additionalProperties": values,
            },
            "json": {"description": "A body, sent as JSON."},
            "text": {"description": "A body, sent as it is.", "type": "string"},
            "form": {
                "description": "A body, sent as a form.",
                "type": "object",
                "additionalProperties": values,
            },
            "accept": {
                "description": "Statuses from 400 on that are no failure, such as 404.",
                "type": "array",
                "items": {"type": "integer", "minimum": _ACCEPTED[0], "maximum": _ACCEPTED[1]},
            },
            "dry_run": {
                "description": "Say what would be sent, and send nothing.",
                "type": "boolean",
                "default": False,
            },
        }
        return {
            "type": "object",
            "properties": properties,
            "required": [] if self.base is not None else ["url"],
            "additionalProperties": False,
        }


def read(config: Json, *, path: str = "config", resolved: bool = False) -> Config:
    """Read a configuration; `resolved` where what is secret has been put in.

    Raises `Invalid` with every problem; none quotes what may be secret.
    """
    problems: list[Problem] = []
    section = Section(config, path, problems)
    section.known(_FIELDS)
    hosts = _hosts(section)
    timeout = section.duration("timeout", 0.05, settled.MAX_SECONDS)
    auth = credentials(section, resolved=resolved) if "auth" in section.fields else None
    found = Config(
        hosts=hosts,
        base=_base(section, hosts),
        methods=_methods(section),
        headers=own_headers(section, auth, resolved=resolved),
        auth=auth,
        accept=_accept(section),
        redirects=section.integer("redirects", 0, MAX_REDIRECTS, 0),
        timeout=SECONDS if timeout is None else timeout,
        max_bytes=section.integer("max_bytes", 1, MOST_BYTES, BYTES),
        allow_private=settled.private(section),
    )
    if problems:
        raise Invalid(problems, "the configuration of the http service is not valid")
    return found


class Beyond(ValueError):
    """A call would leave what its service's `base` confines it to; the message says how."""


def target(config: Config, arguments: Mapping[str, Json]) -> str:
    """The whole URL that a call asks for, without its `query`. Raises `Beyond`."""
    given, base = str(arguments.get("url") or ""), config.base
    if base is None:
        return given
    url = given
    if "://" not in given.partition("?")[0]:
        url = f"{base}/{given.lstrip('/')}" if given and given[0] != "?" else base + given
    if url != base and not url.startswith((f"{base}/", f"{base}?")):
        raise Beyond(f"the URL is not below the service's base, {base}")
    if _climbs(url.removeprefix(base).partition("?")[0]):
        raise Beyond("the URL has steps such as `..`, which lead out of the base")
    return url


def _climbs(path: str) -> bool:
    """Whether a path has steps such as `..`, to whoever reads it once more than he should."""
    readings = [path, unquote(path), unquote(unquote(path))]
    return any(
        step.partition(";")[0] in {".", ".."}
        for reading in readings
        for step in reading.replace("\\", "/").split("/")
    )


def header(name: str, value: str) -> str | None:
    """What keeps a header from being sent; None if nothing does. The value is not quoted."""
    if not _TOKEN.fullmatch(name):
        return f"{name[:40]!r} is no name of a header"
    if name.lower() in RESERVED:
        return f"the header {name} is the client's own"
    if not (value.isascii() and value.replace("\t", " ").isprintable()):
        return f"the header {name} holds characters other than printable ASCII"
    return None


def _hosts(section: Section) -> tuple[Origin, ...]:
    given = section.fields.get("hosts")
    wanted = 'a list of schemes and hosts, such as ["https://api.example.com"]'
    if not isinstance(given, list) or not 0 < len(given) <= _MOST_HOSTS:
        section.wrong(section.at("hosts"), given, wanted)
        return ()
    found: list[Origin] = []
    for index, text in enumerate(given):
        name = f"hosts[{index}]"
        if not isinstance(text, str):
            section.wrong(section.at(name), text, "a scheme and a host")
            continue
        try:
            found.append(origins.allowed(text))
        except ValueError as error:
            section.fail(name, f"it {error}", "write it as https://api.example.com")
    return tuple(found)


def _base(section: Section, hosts: tuple[Origin, ...]) -> str | None:
    if "base" not in section.fields:
        return None
    value = section.fields["base"]
    if not isinstance(value, str):
        section.wrong(section.at("base"), value, "a URL")
        return None
    try:
        origin = origins.origin(value)
    except ValueError as error:
        section.fail("base", f"it {error}", "write a URL, such as https://api.example.com/v1")
        return None
    if "?" in value:
        section.fail("base", "it has a query", "give it in the calls")
    elif hosts and not origins.permitted(origin, hosts):
        section.fail("base", f"{origin} is not among the hosts", "add it to hosts")
    return value.rstrip("/")


def _methods(section: Section) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(section.options("methods", METHODS)))
    if "methods" in section.fields and not found and section.fields["methods"] == []:
        section.fail("methods", "it is empty", "name one, or leave it out")
    return found or ("GET", "HEAD")


def own_headers(
    section: Section, auth: tuple[str, str] | None, *, resolved: bool
) -> Mapping[str, str]:
    """The field `headers`, what is sent with every request; `auth` sets its own."""
    inner = section.section("headers")
    found: dict[str, str] = {}
    for name in inner.fields:
        known = resolved or not settled.is_credential(name)
        value = settled.credential(inner, name, "a text", resolved=known)
        if value is None:
            continue
        wrong = header(name, value)
        if wrong is None and auth is not None and name.lower() == auth[0].lower():
            wrong = f"the header {name} is what auth sets"
        if wrong is not None:
            inner.fail(name, wrong, "leave it out")
        found[name] = value
    return found


def credentials(section: Section, *, resolved: bool) -> tuple[str, str] | None:
    """The header that the field `auth` comes to, and its value; None with problems."""
    inner = section.section("auth")
    given = [name for name in ("bearer", "basic", "header") if name in inner.fields]
    if len(given) != 1:
        remedy = "write one of bearer, basic, or header and value"
        section.fail("auth", "it says not one way but " + (" and ".join(given) or "none"), remedy)
        return None
    way = given[0]
    inner.known((way, "value") if way == "header" else (way,))
    match way:
        case "bearer":
            token = settled.credential(inner, "bearer", "$env.NAME", resolved=resolved)
            return None if token is None else _fit(inner, way, "Authorization", f"Bearer {token}")
        case "basic":
            return _basic(inner.section("basic"), resolved=resolved)
        case _:
            name = inner.text("header", _TOKEN.pattern, "the name of a header")
            value = settled.credential(inner, "value", "$env.NAME", resolved=resolved)
            if "value" not in inner.fields:
                inner.fail("value", "it is missing", "write $env.NAME")
            return None if name is None or value is None else _fit(inner, way, name, value)


def _basic(section: Section, *, resolved: bool) -> tuple[str, str] | None:
    section.known(("user", "password"))
    user = settled.secret(section, "user", "a name, or $env.NAME")
    password = settled.credential(section, "password", "$env.NAME", resolved=resolved)
    for name in ("user", "password"):
        if name not in section.fields:
            section.fail(name, "it is missing", "write it, or $env.NAME")
    if user is None or password is None:
        return None
    if ":" in user:
        section.fail("user", "it holds a colon, which nothing can tell from the password's", "")
    word = base64.b64encode(f"{user}:{password}".encode()).decode()
    return "Authorization", f"Basic {word}"


def _fit(section: Section, field_: str, name: str, value: str) -> tuple[str, str] | None:
    wrong = header(name, value)
    if wrong is not None:
        section.fail(field_, wrong, "")
        return None
    return name, value


def _accept(section: Section) -> frozenset[int]:
    given = section.fields.get("accept", [])
    least, most = _ACCEPTED
    if not isinstance(given, list) or not all(
        type(status) is int and least <= status <= most for status in given
    ):
        wanted = f"a list of statuses from {least} to {most}, such as [404]"
        section.fail("accept", "it is no such list", f"write {wanted}")
        return frozenset()
    return frozenset(status for status in given if isinstance(status, int))


def _text(description: str, *, most: int) -> dict[str, Json]:
    return {"description": description, "type": "string", "minLength": 1, "maxLength": most}


def method(config: Config, given: str) -> str | None:
    """What keeps a method from being used; None if nothing does."""
    if given in config.methods:
        return None
    remedy = suggestion(given.upper(), config.methods)
    listed = ", ".join(config.methods)
    return f"the method {given[:20]!r} is not among the service's: {listed}" + (
        f" ({remedy})" if remedy else ""
    )
