"""What code that somebody registered may reach: a profile, by which everything is denied that it
does not name.

A profile is granted by an admin to a function, a tool or a workflow (`engine.runs.capabilities`). It
is data: `read` makes it of JSON and says all that is wrong with it, the functions below say what it
allows. Who enforces it: the sandbox (files, modules, memory, time), the worker that carries out what
code asks for (services, hosts, databases), and whoever resolves secrets. Installed library code is
trusted, and bound by none of it but for secrets.

    files:     [{path: /srv/models}, {path: /srv/out, write: true}]
    hosts:     ["https://api.example.com", "http://*.corp.example:8080"]
    databases: {warehouse: read}
    services:  [crm.*, mail]
    modules:   [csv, zlib]
    memory_bytes: 536870912
    cpu_seconds: 5
    seconds: 30
    secrets:   [API_KEY]
"""

from __future__ import annotations

import ipaddress
import math
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit

from engine.core import source, values
from engine.core.problem import Problem
from engine.core.section import below, named, short, suggestion
from engine.core.values import Json
from engine.errors import Invalid

T = TypeVar("T")

Access: TypeAlias = Literal["read", "write"]

#: What a secret may be called: `$env.NAME`.
SECRET_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"  # noqa: S105  # a pattern
#: Entries of one field.
MOST = 200
MAX_SECONDS = 86_400.0
MEMORY_BYTES = (16 * 1024 * 1024, 1024**4)

#: Ports that a URL means when it names none. Nothing else is spoken on behalf of code.
SCHEMES: Mapping[str, int] = {"http": 80, "https": 443}

#: Modules that code may be granted beside those that all code has (`engine.core.source.MODULES`). What
#: starts processes, opens sockets, loads native code or looks at the interpreter is left out for good.
GRANTABLE = frozenset(
    """
    abc array asyncio binascii bisect bz2 calendar cmath collections.abc colorsys contextlib
    contextvars copy csv dataclasses difflib enum graphlib gzip heapq hmac html html.parser io ipaddress
    lzma numbers operator pprint queue quopri secrets shlex struct threading tomllib typing unicodedata
    urllib.parse weakref xml.etree.ElementTree zlib zoneinfo
    """.split()  # noqa: SIM905  # read as a text
)

_MODULE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*", re.ASCII)
_SERVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}(\.\*)?", re.ASCII)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?", re.ASCII)
_RULE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#@]+)/?")
_PORTS = range(1, 65_536)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class File:
    """A file or a folder with all that is in it."""

    path: str
    write: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Host:
    """Where code may have requests sent: by scheme, host and port together."""

    scheme: str
    #: A name, an address, or `*.` and a name: whatever lies below that, at any depth.
    host: str
    port: int

    @property
    def text(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What code may reach. The empty one allows nothing; its limits are the platform's own."""

    files: tuple[File, ...] = ()
    hosts: tuple[Host, ...] = ()
    databases: Mapping[str, Access] = field(default_factory=dict)
    #: Names, or `prefix.*`.
    services: tuple[str, ...] = ()
    #: Modules of the standard library, beside those that all code has.
    modules: tuple[str, ...] = ()
    #: On top of the bare interpreter's; None: the platform's own, and so for the others.
    memory_bytes: int | None = None
    cpu_seconds: float | None = None
    #: Wall-clock seconds.
    seconds: float | None = None
    secrets: tuple[str, ...] = ()

    def told(self) -> dict[str, Json]:
        """The profile as `read` reads it, without what it does not say."""
        files: list[Json] = [{"path": one.path, "write": one.write} for one in self.files]
        found: dict[str, Json] = {
            "files": files,
            "hosts": [one.text for one in self.hosts],
            "databases": dict(self.databases),
            "services": [*self.services],
            "modules": [*self.modules],
            "memory_bytes": self.memory_bytes,
            "cpu_seconds": self.cpu_seconds,
            "seconds": self.seconds,
            "secrets": [*self.secrets],
        }
        return {name: value for name, value in found.items() if value}


#: What is granted to whom nobody has granted anything.
NOTHING = Profile()

# --- reading ----------------------------------------------------------------------------------


def read(given: Json, *, path: str = "") -> Profile:
    """A profile from JSON. Raises `Invalid` with every problem."""
    problems = [*values.problems(given, path=path)]
    if not isinstance(given, dict):
        what = named(given)
        problem = Problem(path=path, message=f"{what} is no profile", remedy="write an object")
        raise Invalid([problem], _WRONG)
    reader = _Reader(given, path, problems)
    found = Profile(
        files=reader.several("files", _file),
        hosts=reader.several("hosts", _host),
        databases=reader.databases(),
        services=reader.several("services", _service),
        modules=reader.several("modules", _module),
        memory_bytes=reader.whole("memory_bytes", *MEMORY_BYTES),
        cpu_seconds=reader.seconds("cpu_seconds"),
        seconds=reader.seconds("seconds"),
        secrets=reader.several("secrets", _secret),
    )
    reader.known()
    if problems:
        raise Invalid(problems, _WRONG)
    return found


_WRONG = "the capabilities are not valid"


class _Wrong(Exception):
    """An entry that is none; in words, with what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class _Reader:
    """Reads fields, and keeps what is wrong with them."""

    def __init__(self, given: Mapping[str, Json], path: str, problems: list[Problem]) -> None:
        self._given = given
        self._path = path
        self._problems = problems
        self._asked: list[str] = []

    def known(self) -> None:
        """Refuse fields that nobody has asked for."""
        for name in self._given:
            if name not in self._asked:
                remedy = suggestion(name, self._asked) or f"known are {', '.join(self._asked)}"
                self._fail(name, f"{short(name)} is no capability", remedy)

    def several(self, name: str, entry: Callable[[Json], T]) -> tuple[T, ...]:
        """A list of entries, in order, each once."""
        given = self._take(name)
        if given is None:
            return ()
        if not isinstance(given, list) or len(given) > MOST:
            self._fail(name, f"{named(given)} is not what it takes", f"a list of up to {MOST}")
            return ()
        found: dict[T, None] = {}
        for index, each in enumerate(given):
            try:
                found[entry(each)] = None
            except _Wrong as wrong:
                self._fail(f"{name}[{index}]", wrong.message, wrong.remedy)
        return tuple(found)

    def databases(self) -> dict[str, Access]:
        given = self._take("databases")
        if given is None:
            return {}
        if not isinstance(given, dict) or len(given) > MOST:
            wanted = "an object such as {warehouse: read}"
            self._fail("databases", f"{named(given)} is not what it takes", wanted)
            return {}
        found: dict[str, Access] = {}
        for name, access in given.items():
            if not _SERVICE.fullmatch(name) or name.endswith(".*"):
                message, remedy = f"{short(name)} is no database", "name one that is registered"
                self._fail(f"databases.{name}", message, remedy)
            elif access == "read":
                found[name] = "read"
            elif access == "write":
                found[name] = "write"
            else:
                wanted = "read, or write, which is both"
                self._fail(f"databases.{name}", f"{named(access)} is no access", wanted)
        return found

    def whole(self, name: str, least: int, most: int) -> int | None:
        given = self._take(name)
        if given is None:
            return None
        if not isinstance(given, int) or isinstance(given, bool) or not least <= given <= most:
            wanted = f"a whole number from {least} to {most}"
            self._fail(name, f"{named(given)} is not what it takes", wanted)
            return None
        return given

    def seconds(self, name: str) -> float | None:
        given = self._take(name)
        if given is None:
            return None
        number = isinstance(given, int | float) and not isinstance(given, bool)
        if not number or not math.isfinite(float(given)) or not 0 < float(given) <= MAX_SECONDS:  # type: ignore[arg-type]
            wanted = f"a number of seconds, more than 0, {MAX_SECONDS:g} at most"
            self._fail(name, f"{named(given)} is not what it takes", wanted)
            return None
        return float(given)  # type: ignore[arg-type]  # it is a number

    def _take(self, name: str) -> Json:
        self._asked.append(name)
        return self._given.get(name)

    def _fail(self, name: str, message: str, remedy: str) -> None:
        path = below(self._path, name)
        self._problems.append(Problem(path=path, message=message, remedy=remedy))


def _file(given: Json) -> File:
    fields = {"path": given} if isinstance(given, str) else given
    if not isinstance(fields, dict) or not fields.keys() <= {"path", "write"}:
        raise _Wrong(f"{named(given)} names no file", "write {path: /srv/data, write: false}")
    path, write = fields.get("path"), fields.get("write", False)
    if not isinstance(write, bool):
        raise _Wrong(f"write is {named(write)}", "write true or false")
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        raise _Wrong(f"{named(path)} is no absolute path", "begin it with /")
    if path.startswith("//") or posixpath.normpath(path) != (path.rstrip("/") or "/"):
        raise _Wrong(f"{short(path)} goes about", "write it without .. and . and //")
    if path.strip("/") == "":
        raise _Wrong("/ is everything there is", "name the folders that are needed")
    return File(path=path.rstrip("/"), write=write)


def _host(given: Json) -> Host:
    example = "write it as https://api.example.com:443 or http://*.corp.example:8080"
    found = _RULE.fullmatch(given) if isinstance(given, str) else None
    if found is None:
        raise _Wrong(f"{named(given)} names no scheme and host", example)
    scheme = found[1].lower()
    if scheme not in SCHEMES:
        raise _Wrong(f"{short(scheme)} is not spoken", f"the schemes are {', '.join(SCHEMES)}")
    try:
        parts = urlsplit(f"{scheme}://{found[2]}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _Wrong(f"{short(found[2])} is no host and port", example) from None
    if port is not None and port not in _PORTS:
        raise _Wrong(f"{port} is no port", "write one from 1 to 65535")
    host = _normal(host)
    below_it = host.removeprefix("*.")
    if not _is_address(host) and not (
        all(map(_LABEL.fullmatch, below_it.split("."))) and len(below_it) <= 253  # noqa: PLR2004
    ):
        raise _Wrong(f"{short(host)} is no host", f"{example}; a name that is not ASCII as xn--…")
    if host.startswith("*.") and ("." not in below_it or _is_address(below_it)):
        raise _Wrong(
            f"{short(host)} is nearly everything", "name at least two parts: *.example.com"
        )
    return Host(scheme=scheme, host=host, port=port or SCHEMES[scheme])


def _service(given: Json) -> str:
    if not isinstance(given, str) or not _SERVICE.fullmatch(given):
        raise _Wrong(f"{named(given)} names no service", "write its name, or prefix.* for several")
    return given


def _module(given: Json) -> str:
    if not isinstance(given, str) or not _MODULE.fullmatch(given):
        raise _Wrong(f"{named(given)} is no module", "write its name, such as csv or urllib.parse")
    if given not in GRANTABLE and given not in source.MODULES:
        remedy = (
            suggestion(given, GRANTABLE) or f"these are granted: {', '.join(sorted(GRANTABLE))}"
        )
        raise _Wrong(f"{given} is never allowed", remedy)
    return given


def _secret(given: Json) -> str:
    if not isinstance(given, str) or not re.fullmatch(SECRET_NAME, given):
        raise _Wrong(f"{named(given)} names no secret", "write letters, digits and _, up to 64")
    return given


# --- asking -----------------------------------------------------------------------------------


def allows_host(profile: Profile, scheme: str, host: str, port: int | None = None) -> bool:
    """Whether requests may be sent there. Without a port it is the one that the scheme means."""
    scheme, host = scheme.lower(), _normal(host)
    number = SCHEMES.get(scheme) if port is None else port
    return any(
        (rule.scheme, rule.port) == (scheme, number) and _is_of(rule.host, host)
        for rule in profile.hosts
    )


def allows_database(profile: Profile, name: str, *, write: bool = False) -> bool:
    """Whether a database may be read, or be written."""
    access = profile.databases.get(name)
    return access == "write" or (access == "read" and not write)


def allows_service(profile: Profile, name: str) -> bool:
    """Whether a service may be called."""
    return any(
        name == rule or (rule.endswith(".*") and name.startswith(rule[:-1]))
        for rule in profile.services
    )


def refusal(profile: Profile, kind: str, name: str, arguments: Mapping[str, Any]) -> str | None:
    """Why code of this profile may not make a call of a service; None where it may.

    `kind` is the service's carrier (`http`, `sql`, `llm`, `mcp`). Of `arguments` these are looked
    at, however the carrier has come by them: for `http` the whole `url` that would be asked for, for
    `sql` the `database`, the service's name unless it is given, and whether it would `write`.
    """
    if not allows_service(profile, name):
        return f"service {name} is not granted; {_REMEDY} services: [{name}]"
    match kind:
        case "http":
            return _refused_url(profile, arguments.get("url"))
        case "sql":
            return _refused_database(
                profile, str(arguments.get("database") or name), write=bool(arguments.get("write"))
            )
        case _:
            return None


_REMEDY = "an admin grants it with"


def _refused_url(profile: Profile, url: object) -> str | None:
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        scheme, host, port = parts.scheme.lower(), parts.hostname or "", parts.port
    except ValueError:
        scheme, host, port = "", "", None
    if not host or scheme not in SCHEMES:
        return f"{named(str(url))} is no address that code may ask; use http:// or https://"
    if allows_host(profile, scheme, host, port):
        return None
    wanted = Host(scheme=scheme, host=_normal(host), port=port or SCHEMES[scheme]).text
    return f"{wanted} is not granted; {_REMEDY} hosts: [{wanted}]"


def _refused_database(profile: Profile, name: str, *, write: bool) -> str | None:
    if allows_database(profile, name, write=write):
        return None
    access = "write" if write else "read"
    what = "granted to be read alone" if name in profile.databases else "not granted"
    return f"database {name} is {what}; {_REMEDY} databases: {{{name}: {access}}}"


def _is_of(rule: str, host: str) -> bool:
    if not rule.startswith("*."):
        return rule == host
    return host.endswith(rule[1:]) and len(host) > len(rule) - 1 and not _is_address(host)


def _normal(host: str) -> str:
    """A host as it is compared: in small letters, an address in its one form."""
    host = host.lower().removeprefix("[").removesuffix("]").removesuffix(".")
    return str(ipaddress.ip_address(host)) if _is_address(host) else host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


# --- whose ------------------------------------------------------------------------------------

KINDS = ("function", "tool", "workflow")
_SUBJECT = re.compile(
    r"(function|tool|workflow):([^@\x00-\x1f\x7f]{1,128})(?:@([0-9][0-9A-Za-z.-]{0,63}))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom something is granted to: a function, a tool or a workflow, in one version or in all."""

    kind: str
    name: str
    #: None: every version, those to come included.
    version: str | None = None

    @property
    def text(self) -> str:
        whole = f"{self.kind}:{self.name}"
        return whole if self.version is None else f"{whole}@{self.version}"


def subject(text: str, *, path: str = "subject") -> Subject:
    """A subject from `function:NAME@3`. Raises `Invalid`."""
    found = _SUBJECT.fullmatch(text)
    if found is None:
        message = f"{short(text)} is neither a function, a tool nor a workflow"
        remedy = "write function:NAME@3, or tool:NAME for all of its versions"
        raise Invalid([Problem(path=path, message=message, remedy=remedy)])
    return Subject(kind=found[1], name=found[2], version=found[3])


def entries(profile: Profile) -> Iterator[str]:
    """What a profile grants, a line for each, for people."""
    for name, value in profile.told().items():
        match value:
            case list():
                shown = [
                    f"{one['path']} ({'write' if one['write'] else 'read'})"
                    if isinstance(one, dict)
                    else str(one)
                    for one in value
                ]
                yield f"{name}: {', '.join(shown)}"
            case dict():
                yield f"{name}: {', '.join(f'{key} ({access})' for key, access in value.items())}"
            case _:
                yield f"{name}: {value}"
