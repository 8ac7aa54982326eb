"""SQL services: one Postgres database each, with what may be asked of it.

    kind: sql
    config:
      url: postgresql://reader@db.example.com:5432/shop
      password: $env.SHOP_PASSWORD
      max_rows: 500
      timeout: 10s

TLS with a checked certificate, unless the URL says `?sslmode=require` (encrypted, whoever answers) or
`?sslmode=disable`. A private host has to be named in `allow_private` and opened by whoever runs the
platform; so has a folder of unix sockets (`postgresql:///shop?host=/run/postgresql`).

`write: false`, the default, holds statements to queries, in a transaction that cannot write. That is a
good guard against accidents and against what a model makes up, but *not the wall*: only the grants of
the database's user are. A function that a query calls does what its owner may, over `dblink` for one;
a superuser reads files and runs programs. So give a service a user of its own that may read what it has
to, and nothing else:

    CREATE ROLE reader LOGIN PASSWORD '…' CONNECTION LIMIT 10;
    GRANT SELECT ON orders, customers TO reader;

SQLite is no such service: its files lie on one worker's disk, and others would not find them there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from engine.core.problem import Problem
from engine.core.section import Section
from engine.core.values import Json
from engine.errors import Invalid
from engine.services import origins, settled

PORT = 5432
#: Characters of a statement.
LIMIT = 100_000
#: Seconds, rows, and bytes of them, unless a configuration says otherwise.
SECONDS = 30.0
ROWS = 1_000
BYTES = 1_048_576
MOST_ROWS = 100_000
MOST_BYTES = 64 * BYTES
#: What a URL may say of TLS.
MODES = ("verify-full", "require", "disable")
_MOST_PARAMETERS = 1_000
_MOST_PORT = 65_535
_FIELDS = ("url", "password", "write", "max_rows", "max_bytes", "timeout", "allow_private")
_SCHEMES = ("postgresql", "postgres")

#: What a statement is made of, as far as `:name` could stand in it without being a parameter.
_TOKEN = re.compile(
    r"""
    (?<![\w$])[eE]'(?:[^'\\]|\\.|'')*+(?:'|\Z)    # text with backslashes
    | '(?:[^']|'')*+(?:'|\Z)                      # text
    | "(?:[^"]|"")*+(?:"|\Z)                      # a name
    | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)
    | --[^\n]*                                    # a comment
    | /\*.*?(?:\*/|\Z)
    | ::                                          # a cast
    | (?<![\w:]):(?P<name>[A-Za-z_]\w*)
    """,
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a database is, and who asks there."""

    #: A name or an address; None for a unix socket.
    host: str | None
    port: int
    #: Of unix sockets.
    folder: str | None = None
    user: str
    password: str | None = field(default=None, repr=False)
    database: str
    mode: str = "verify-full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """An SQL service, as it was configured."""

    #: None while its URL is a secret that has not been put in.
    place: Place | None
    write: bool = False
    max_rows: int = ROWS
    max_bytes: int = BYTES
    #: Seconds in all.
    timeout: float = SECONDS
    allow_private: tuple[str, ...] = ()

    @property
    def effect(self) -> str:
        """What a call leaves in the world, where nobody says it."""
        return "at_most_once" if self.write else "pure"

    @property
    def parameters(self) -> Mapping[str, Json]:
        """The JSON Schema of the arguments of a call."""
        what = "One statement." if self.write else "One query: SELECT, VALUES, TABLE or WITH."
        return {
            "type": "object",
            "properties": {
                "statement": {
                    "description": f"{what} Parameters stand in it as :name, or as $1, $2.",
                    "type": "string",
                    "minLength": 1,
                    "maxLength": LIMIT,
                },
                "parameters": {
                    "description": "Values by name for :name, or in order for $1, $2.",
                    "anyOf": [
                        {"type": "object", "maxProperties": _MOST_PARAMETERS},
                        {"type": "array", "maxItems": _MOST_PARAMETERS},
                    ],
                    "default": {},
                },
                "dry_run": {
                    "description": "Say what would be run, and run nothing.",
                    "type": "boolean",
                    "default": False,
                },
            },
            "required": ["statement"],
            "additionalProperties": False,
        }


def read(config: Json, *, path: str = "config", resolved: bool = False) -> Config:
    """Read a configuration; `resolved` where what is secret has been put in.

    Raises `Invalid` with every problem; none quotes what may be secret.
    """
    problems: list[Problem] = []
    section = Section(config, path, problems)
    section.known(_FIELDS)
    if "url" not in section.fields:
        section.fail("url", "it is missing", "write postgresql://user@host/database")
    url = settled.secret(section, "url", "postgresql://user@host/database, or $env.NAME")
    password = settled.credential(section, "password", "$env.NAME", resolved=resolved)
    timeout = section.duration("timeout", 0.05, settled.MAX_SECONDS)
    place = None
    try:
        place = (
            None
            if url is None or settled.unresolved(url)
            else _place(url, password, resolved=resolved)
        )
    except _Unread as unread:
        section.fail("url", str(unread), unread.remedy)
    found = Config(
        place=place,
        write=section.flag("write"),
        max_rows=section.integer("max_rows", 1, MOST_ROWS, ROWS),
        max_bytes=section.integer("max_bytes", 1, MOST_BYTES, BYTES),
        timeout=SECONDS if timeout is None else timeout,
        allow_private=settled.private(section),
    )
    if problems:
        raise Invalid(problems, "the configuration of the sql service is not valid")
    return found


class Unbound(Exception):
    """The parameters of a call do not go with its statement; the message says how."""


def bound(statement: str, parameters: Json) -> tuple[str, Sequence[Json]]:
    """A statement whose parameters are `$1`, `$2`, as the server binds them, and their values.

    Values never become part of the text. Raises `Unbound`.
    """
    if "\x00" in statement or not statement.strip():
        raise Unbound("the statement is empty, or holds a NUL character")
    if isinstance(parameters, list):
        return statement, parameters
    given = parameters if isinstance(parameters, dict) else {}
    names: dict[str, int] = {}

    def numbered(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return match[0]
        return f"${names.setdefault(name, len(names) + 1)}"

    text = _TOKEN.sub(numbered, statement)
    if missing := [name for name in names if name not in given]:
        raise Unbound(f"there is no value for {', '.join(f':{name}' for name in missing)}")
    if extra := [name for name in given if name not in names]:
        told = ", ".join(f":{name}"[:40] for name in extra[:5])
        raise Unbound(f"the statement has no {told}")
    return text, [given[name] for name in names]


class _Unread(Exception):
    def __init__(
        self, message: str, remedy: str = "write postgresql://user@host:5432/database"
    ) -> None:
        super().__init__(message)
        self.remedy = remedy


def _place(url: str, password: str | None, *, resolved: bool) -> Place:
    try:
        parts = urlsplit(url)
        port = parts.port or PORT
    except ValueError:
        raise _Unread("it is no URL") from None
    if parts.scheme not in _SCHEMES:
        raise _Unread("it is not of Postgres")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    mode, folder = query.pop("sslmode", MODES[0]), query.pop("host", None)
    if query or parts.fragment:
        raise _Unread("it has parameters other than sslmode and host")
    if mode not in MODES:
        raise _Unread("its sslmode is not known", f"write one of {', '.join(MODES)}")
    user, database = unquote(parts.username or ""), unquote(parts.path[1:])
    if not user or not database:
        raise _Unread("it names no user, or no database")
    if parts.password is not None and password is not None:
        raise _Unread("it has a password, and so has the configuration", "keep one of them")
    host = None
    if folder is None:
        try:
            host = origins.hostname(_host(parts.netloc))
        except ValueError:
            raise _Unread("its host is none, or several") from None
    elif parts.hostname or not folder.startswith("/"):
        raise _Unread("its host is not one folder of sockets", "write ?host=/run/postgresql")
    given = unquote(parts.password) if parts.password is not None else password
    texts = (user, database, given or "", folder or "")
    if not all(text.isprintable() for text in texts):
        raise _Unread("it holds control characters")
    written = parts.password or ""
    if written and not resolved and not settled.REFERENCE.fullmatch(written):
        raise _Unread(
            "its password is written out, for all who may see the service", settled.REMEDY
        )
    return Place(
        host=host,
        port=port,
        folder=folder and (folder.rstrip("/") or "/"),
        user=user,
        password=given,
        database=database,
        mode=mode,
    )


def _host(netloc: str) -> str:
    """The host as it is written, with the brackets of an IPv6 address."""
    place = netloc.rpartition("@")[2]
    host = place.partition("]")[0] + "]" if place.startswith("[") else place.partition(":")[0]
    if not host or "*" in host:
        raise ValueError("no host")
    return host
