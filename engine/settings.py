"""The settings of a process: one frozen record, read from the environment once.

Without `DATABASE_URL`, `BROKER_URL` and `REDIS_URL` a process belongs to the embedded profile, whose
supervisor starts the servers and hands their URLs to its children. With them it belongs to a fleet.
URLs are normalised here, so that no other module has to know in how many ways one can be written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from environs import Env, EnvValidationError
from marshmallow import ValidationError, validate

from engine import keys, signers, signing
from engine.core.problem import Problem
from engine.core.values import VALUE_BYTES
from engine.errors import Invalid
from engine.keys import Ring, Use
from engine.services import addresses
from engine.signers import Signers
from engine.signing import SigningKeys

#: Anything but this driver would be a second one: SQLAlchemy 2.1 reads a bare `postgresql:` as psycopg 3.
_DATABASE_SCHEME = "postgresql+psycopg2"
#: What `Settings.sandbox_bytes` is unless it is given.
SANDBOX_BYTES = 256 * 1024 * 1024
#: Walls around code that is registered as source, from the weakest to the strongest
#: (`workers.sandbox` says what each is made of).
SANDBOX_MODES = ("limits", "landlock", "seccomp", "portable", "full")
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


class SettingsError(Invalid):
    """The environment holds settings that Celeriac cannot use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder of a worker in which code may be granted files."""

    path: Path
    write: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a process must know before it starts."""

    #: SQLAlchemy's form: `postgresql+psycopg2://…`. URLs stay out of `repr`: they hold passwords.
    database_url: str | None = field(default=None, repr=False)
    #: Celery's form: `redis://…`, `redis+socket:///path`, `amqp://…`.
    broker_url: str | None = field(default=None, repr=False)
    #: redis-py's form: `redis://…`, `unix:///path`. Follows from the broker where that is a Redis.
    redis_url: str | None = field(default=None, repr=False)
    #: obstore's form; a folder under `home` unless it is given.
    blob_url: str = field(repr=False)
    #: What blobs are sealed with. The embedded platform makes a key of its own.
    blob_keys: Ring = field(default=Ring(), repr=False)
    #: What secrets are sealed with. The embedded platform makes a key of its own.
    secret_keys: Ring = field(default=Ring(use=keys.SECRETS), repr=False)
    #: What anchors of the audit are signed with. The embedded platform makes a key of its own.
    audit_keys: SigningKeys = field(default=SigningKeys(), repr=False)
    #: Where anchors are kept outside the database, in obstore's form; the embedded platform's is a
    #: folder under `home` unless it is given.
    anchor_url: str | None = field(default=None, repr=False)
    #: The data folder: the embedded servers' data, blobs, logs, keys.
    home: Path
    #: Whether the embedded platform's supervisor started this process.
    supervised: bool = False
    #: Whether requests without a credential, made by this machine's user, act as the local principal;
    #: the embedded profile's default, and for it only.
    anonymous: bool = False
    #: Whose JWTs say who asks; nobody's unless keys are given.
    signers: Signers = field(default=Signers(), repr=False)
    #: Python modules whose functions and tools are installed as trusted library code.
    libraries: tuple[str, ...] = ()
    lease_seconds: float = 30.0
    sweep_seconds: float = 1.0
    #: How old the message of a waiting row may grow before it is sent again.
    resend_seconds: float = 5.0
    #: How long a worker with threads to spare may take nothing while work is due, before it ends itself.
    stall_seconds: float = 60.0
    #: How long `/graph/run` waits for a result before it answers 202.
    wait_seconds: float = 30.0
    #: Cap of streams and waiting requests of one web process.
    streams: int = 64
    #: Whether a worker takes the turn that follows its own report, in the same commit, instead of asking
    #: a coordinator, and goes on with what that makes ready. It acts under the coordinators' database role, too.
    worker_turns: bool = False
    #: Places off the public internet that tenants' services may be let into: addresses, networks,
    #: folders of sockets; of the platform's own servers the very `address:port` or socket.
    private_hosts: tuple[str, ...] = ()
    #: The most that one value may be, as JSON, wherever it lies.
    value_bytes: int = VALUE_BYTES
    #: Memory that one execution of user code may take, on top of the bare interpreter. What it
    #: returns, as JSON, may be half of that.
    sandbox_bytes: int = SANDBOX_BYTES
    #: The most of it that a granted capability may widen that to.
    sandbox_most_bytes: int = 4 * SANDBOX_BYTES
    #: Walls around code that is registered as source: one of `SANDBOX_MODES`, or `auto`, the strongest
    #: that a worker can have.
    sandbox: str = "auto"
    #: The weakest with which a worker runs such code at all.
    sandbox_minimum: str = "portable"
    #: In which it may be granted files, by the paths that they have where workers are.
    sandbox_folders: tuple[Folder, ...] = ()
    #: Versions of agents and workflows that a run, with all that it starts, may publish.
    written_per_run: int = 20
    #: The same for all runs of a tenant, within a day.
    written_per_day: int = 500
    log_level: str = "INFO"
    #: Where tests arm the fault hooks; unset outside of tests.
    fault_dir: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    #: Threads of one worker; of two or more, it may spare one besides (`workers.relief`).
    concurrency: int = 4

    @property
    def embedded(self) -> bool:
        """Whether this process belongs to the embedded profile rather than to a fleet."""
        return self.supervised or self.database_url is None

    @property
    def own_servers(self) -> tuple[str, ...]:
        """Where the platform's own servers listen: `host:port`, or a folder of unix sockets."""
        urls = (self.database_url, self.broker_url, self.redis_url, self.blob_url, self.anchor_url)
        places = (place for url in urls if url for place in _listening(url))
        return tuple(dict.fromkeys([*places, f"{_bracketed(self.host)}:{self.port}"]))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read every setting; report whatever is wrong with any of them together."""
        return _read(os.environ if environment is None else environment)

    def to_environment(self) -> dict[str, str]:
        """The variables that make a child process read these same settings."""
        values = {
            "DATABASE_URL": self.database_url,
            "BROKER_URL": self.broker_url,
            "REDIS_URL": self.redis_url,
            "BLOB_URL": self.blob_url,
            "CELERIAC_BLOB_KEYS": self.blob_keys.text() or None,
            "CELERIAC_SECRET_KEYS": self.secret_keys.text() or None,
            "CELERIAC_AUDIT_KEYS": self.audit_keys.text() or None,
            "CELERIAC_ANCHOR_URL": self.anchor_url,
            "CELERIAC_HOME": str(self.home),
            "CELERIAC_SUPERVISED": "1" if self.supervised else None,
            "CELERIAC_ANONYMOUS": "local" if self.anonymous else "off",
            "CELERIAC_JWT_KEYS": self.signers.text or None,
            "CELERIAC_JWT_ISSUER": self.signers.issuer or None,
            "CELERIAC_JWT_AUDIENCE": self.signers.audience or None,
            "CELERIAC_LIBRARIES": ",".join(self.libraries) or None,
            "CELERIAC_LEASE_SECONDS": str(self.lease_seconds),
            "CELERIAC_SWEEP_SECONDS": str(self.sweep_seconds),
            "CELERIAC_RESEND_SECONDS": str(self.resend_seconds),
            "CELERIAC_STALL_SECONDS": str(self.stall_seconds),
            "CELERIAC_WAIT_SECONDS": str(self.wait_seconds),
            "CELERIAC_STREAMS": str(self.streams),
            "CELERIAC_WORKER_TURNS": "1" if self.worker_turns else None,
            "CELERIAC_PRIVATE_HOSTS": ",".join(self.private_hosts) or None,
            "CELERIAC_VALUE_BYTES": str(self.value_bytes),
            "CELERIAC_SANDBOX_BYTES": str(self.sandbox_bytes),
            "CELERIAC_SANDBOX_MOST_BYTES": str(self.sandbox_most_bytes),
            "CELERIAC_SANDBOX": self.sandbox,
            "CELERIAC_SANDBOX_MINIMUM": self.sandbox_minimum,
            "CELERIAC_SANDBOX_FOLDERS": ",".join(
                f"{folder.path}{':write' if folder.write else ''}"
                for folder in self.sandbox_folders
            )
            or None,
            "CELERIAC_WRITTEN_PER_RUN": str(self.written_per_run),
            "CELERIAC_WRITTEN_PER_DAY": str(self.written_per_day),
            "CELERIAC_LOG_LEVEL": self.log_level,
            "CELERIAC_FAULT_DIR": str(self.fault_dir) if self.fault_dir else None,
            "CELERIAC_HOST": self.host,
            "CELERIAC_PORT": str(self.port),
            "CELERIAC_CONCURRENCY": str(self.concurrency),
        }
        return {name: value for name, value in values.items() if value is not None}


class _Reader(Env):
    """Reads from the mapping it is given, where an empty variable counts as unset."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(eager=False)
        self._given = {name: text.strip() for name, text in environment.items()}

    def _get_value(self, env_key: str, default: Any) -> Any:
        return self._given.get(env_key) or default


def _read(environment: Mapping[str, str]) -> Settings:
    env = _Reader(environment)
    positive = validate.Range(min=0, min_inclusive=False, max=86_400)
    for name, parse in _PARSERS.items():
        env.add_parser(name, _unless_unset(parse))
    database_url = env.database_url("DATABASE_URL", None)
    broker_url = env.broker_url("BROKER_URL", None)
    redis_url = env.redis_url("REDIS_URL", None)
    anonymous = env.anonymous("CELERIAC_ANONYMOUS", None)
    if anonymous is None:
        anonymous = not any((database_url, broker_url, redis_url))
    home = env.folder("CELERIAC_HOME", None) or _default_home(environment)
    values: dict[str, Any] = {
        "database_url": database_url,
        "broker_url": broker_url,
        "redis_url": redis_url or redis_of(broker_url),
        "blob_url": env.blob_url("BLOB_URL", None) or (home / "blobs").as_uri(),
        "blob_keys": env.blob_keys("CELERIAC_BLOB_KEYS", None) or Ring(),
        "secret_keys": env.secret_keys("CELERIAC_SECRET_KEYS", None) or Ring(use=keys.SECRETS),
        "audit_keys": env.audit_keys("CELERIAC_AUDIT_KEYS", None) or SigningKeys(),
        "anchor_url": env.blob_url("CELERIAC_ANCHOR_URL", None)
        or (None if database_url else (home / "anchors").as_uri()),
        "home": home,
        "supervised": env.bool("CELERIAC_SUPERVISED", default=False),
        "anonymous": anonymous,
        "signers": replace(
            env.signers("CELERIAC_JWT_KEYS", None) or Signers(),
            issuer=env.str("CELERIAC_JWT_ISSUER", ""),
            audience=env.str("CELERIAC_JWT_AUDIENCE", ""),
        ),
        "libraries": env.modules("CELERIAC_LIBRARIES", None) or (),
        "lease_seconds": env.float("CELERIAC_LEASE_SECONDS", 30.0, validate=positive),
        "sweep_seconds": env.float("CELERIAC_SWEEP_SECONDS", 1.0, validate=positive),
        "resend_seconds": env.float("CELERIAC_RESEND_SECONDS", 5.0, validate=positive),
        "stall_seconds": env.float("CELERIAC_STALL_SECONDS", 60.0, validate=positive),
        "wait_seconds": env.float("CELERIAC_WAIT_SECONDS", 30.0, validate=positive),
        "streams": env.int("CELERIAC_STREAMS", 64, validate=validate.Range(min=1, max=10_000)),
        "worker_turns": env.bool("CELERIAC_WORKER_TURNS", default=False),
        "private_hosts": env.places("CELERIAC_PRIVATE_HOSTS", None) or (),
        "value_bytes": env.int("CELERIAC_VALUE_BYTES", VALUE_BYTES, validate=_VALUE_BYTES),
        "sandbox_bytes": env.int("CELERIAC_SANDBOX_BYTES", SANDBOX_BYTES, validate=_SANDBOX_BYTES),
        "sandbox_most_bytes": env.int(
            "CELERIAC_SANDBOX_MOST_BYTES", 4 * SANDBOX_BYTES, validate=_SANDBOX_BYTES
        ),
        "sandbox": env.sandbox_mode("CELERIAC_SANDBOX", None) or "auto",
        "sandbox_minimum": env.sandbox_minimum("CELERIAC_SANDBOX_MINIMUM", None) or "portable",
        "sandbox_folders": env.sandbox_folders("CELERIAC_SANDBOX_FOLDERS", None) or (),
        "written_per_run": env.int("CELERIAC_WRITTEN_PER_RUN", 20, validate=_WRITTEN),
        "written_per_day": env.int("CELERIAC_WRITTEN_PER_DAY", 500, validate=_WRITTEN),
        "log_level": env.level("CELERIAC_LOG_LEVEL", None) or "INFO",
        "fault_dir": env.folder("CELERIAC_FAULT_DIR", None),
        "host": env.str("CELERIAC_HOST", "127.0.0.1"),
        "port": env.int("CELERIAC_PORT", 8000, validate=validate.Range(min=0, max=65_535)),
        "concurrency": env.int(
            "CELERIAC_CONCURRENCY", 4, validate=validate.Range(min=1, max=1_000)
        ),
    }
    problems = [*_sealed(env), *_contradictions(environment, values)]
    if problems:
        raise SettingsError(problems)
    return Settings(**values)


def _sealed(env: Env) -> Iterator[Problem]:
    try:
        env.seal()
    except EnvValidationError as error:
        found = error.error_messages
        assert isinstance(found, dict)
        for name, messages in found.items():
            for message in messages:
                yield Problem(path=name, message=message)


def _contradictions(environment: Mapping[str, str], values: Mapping[str, Any]) -> Iterator[Problem]:
    given = {name for name in _FLEET if environment.get(name, "").strip()}
    for missing in _REQUIRED_IN_A_FLEET - given if given else ():
        yield Problem(
            path=missing,
            message=f"is missing, while {' and '.join(sorted(given))} is set",
            remedy="set both for a fleet, or none for the embedded platform",
        )
    for name, value in (
        ("CELERIAC_JWT_ISSUER", values["signers"].issuer),
        ("CELERIAC_JWT_AUDIENCE", values["signers"].audience),
    ):
        if values["signers"].keys and not value:
            yield Problem(
                path=name,
                message="is missing, while CELERIAC_JWT_KEYS is set",
                remedy="set it to what every token must say: who made it, and for whom",
            )
    if values["anonymous"] is True and given and values["supervised"] is not True:
        yield Problem(
            path="CELERIAC_ANONYMOUS",
            message="is for the embedded platform only",
            remedy="unset it; a fleet's requests need a credential",
        )


_MIB = 1024 * 1024
#: From what lies in a row at most, to what one message from a sandbox can carry twice.
_VALUE_BYTES = validate.Range(min=_MIB, max=1024 * _MIB)
_WRITTEN = validate.Range(min=0, max=1_000_000)
_SANDBOX_BYTES = validate.Range(min=16 * _MIB, max=1024 * 1024 * _MIB)

_FLEET = ("DATABASE_URL", "BROKER_URL", "REDIS_URL")
_REQUIRED_IN_A_FLEET = frozenset({"DATABASE_URL", "BROKER_URL"})


def _database_url(text: str) -> str:
    scheme, rest = _split(text, "postgresql://user@host:5432/name")
    if scheme not in {"postgres", "postgresql", _DATABASE_SCHEME}:
        raise ValidationError(f"starts with {scheme}:, which is not Postgres; use postgresql://…")
    return f"{_DATABASE_SCHEME}:{rest}"


def _broker_url(text: str) -> str:
    scheme, rest = _split(text, "redis://host:6379/0")
    if scheme in _TLS:
        return f"rediss:{rest}"
    if scheme in _TCP:
        return f"redis:{rest}"
    if scheme in _SOCKET:
        return _socket_url("redis+socket", rest, database_named="virtual_host")
    return text


def _redis_url(text: str) -> str:
    scheme, rest = _split(text, "redis://host:6379/0")
    if scheme in _TLS:
        return f"rediss:{rest}"
    if scheme in _TCP:
        return f"redis:{rest}"
    if scheme in _SOCKET:
        return _socket_url("unix", rest, database_named="db")
    raise ValidationError(
        f"starts with {scheme}:, which is neither Redis nor Valkey; use redis://…"
    )


_TCP = frozenset({"redis", "valkey"})
_TLS = frozenset({"rediss", "valkeys", "redis+tls", "valkey+tls"})
_SOCKET = frozenset({"unix", "redis+socket", "redis+unix", "valkey+unix", "valkey+socket"})


def redis_of(broker_url: str | None) -> str | None:
    """The Redis behind a broker, where the broker is one."""
    if broker_url and broker_url.startswith(("redis:", "rediss:", "redis+socket:")):
        return _redis_url(broker_url)
    return None


def _socket_url(scheme: str, rest: str, *, database_named: str) -> str:
    """A unix socket's URL with its database number under the name that the reader knows."""
    parts = urlsplit(f"unix:{rest}")
    query = dict(parse_qsl(parts.query))
    numbers = [query.pop(name) for name in ("db", "virtual_host") if name in query]
    if numbers:
        query[database_named] = numbers[0].strip("/")
    url = urlunsplit(("", parts.netloc, parts.path, urlencode(query), ""))
    return f"{scheme}://{url.removeprefix('//')}"


def _blob_url(text: str) -> str:
    scheme, _ = _split(text, "file:///folder or s3://bucket")
    if scheme not in _BLOB_SCHEMES:
        raise ValidationError(
            f"starts with {scheme}:; known are {', '.join(sorted(_BLOB_SCHEMES))}"
        )
    return text


_BLOB_SCHEMES = frozenset(
    {"file", "memory", "s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "http", "https"}
)


def _ring(use: Use) -> Callable[[str], Ring]:
    def parse(text: str) -> Ring:
        try:
            return keys.parse(text, use)
        except ValueError as error:
            raise ValidationError(f"{error}; one looks like 2026-01:SECRET") from None

    return parse


def _audit_keys(text: str) -> SigningKeys:
    try:
        return signing.parse(text)
    except ValueError as error:
        raise ValidationError(f"{error}; one looks like 2026-01:SECRET") from None


def _signers(text: str) -> Signers:
    """Keys whose signatures hold: a JWK set, or the name of a file that holds one."""
    if not text.startswith("{"):
        try:
            text = Path(text).expanduser().read_text(encoding="utf-8")
        except (OSError, ValueError):
            raise ValidationError("is neither a JWK set nor a file that can be read") from None
    try:
        return Signers(keys=signers.parse(text), text=text)
    except ValueError as error:
        raise ValidationError(str(error)) from None


def _split(text: str, example: str) -> tuple[str, str]:
    scheme, colon, rest = text.partition(":")
    if not colon or not rest.startswith("//"):
        # The text itself stays out of the message: it may hold a password.
        raise ValidationError(f"is not a URL; one looks like {example}")
    return scheme.lower(), rest


def _folder(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _anonymous(text: str) -> bool:
    if text not in {"local", "off"}:
        raise ValidationError(f"is {text!r}; it is either local or off")
    return text == "local"


def _modules(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    wrong = [name for name in names if not _MODULE.fullmatch(name)]
    if wrong:
        raise ValidationError(f"names no Python module: {', '.join(wrong)}")
    return names


def _places(text: str) -> tuple[str, ...]:
    named = tuple(place.strip() for place in text.split(",") if place.strip())
    for place in named:
        try:
            addresses.places([place])
        except ValueError as error:
            raise ValidationError(f"{error}; write addresses and networks: 10.0.0.0/8") from None
    return named


def _listening(urls: str) -> Iterator[str]:
    """Where the servers of a URL listen, as far as it tells; a broker may have several, with `;`."""
    for url in urls.split(";"):
        parts = urlsplit(url)
        usual = _USUAL_PORTS.get(parts.scheme.partition("+")[0])
        query = parse_qs(parts.query)
        port = query.get("port", [usual and str(usual)])[0]
        # Postgres names hosts in the query, too, and folders of sockets.
        named = ",".join([parts.netloc.rpartition("@")[2], *query.get("host", [])])
        for place in map(unquote, named.split(",")):
            if place.startswith("/"):
                yield place.rstrip("/") or "/"
            elif (match := _PLACE.fullmatch(place)) and (listens := match["port"] or port):
                yield f"{_bracketed(match['host'].strip('[]'))}:{listens}"


_PLACE = re.compile(r"(?P<host>\[[^\]]*\]|[^:]+)(:(?P<port>[0-9]+))?")
_USUAL_PORTS: Mapping[str, int] = {
    "postgresql": 5432,
    "redis": 6379,
    "rediss": 6379,
    "amqp": 5672,
    "amqps": 5671,
    "http": 80,
    "https": 443,
}


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _sandbox_mode(text: str) -> str:
    return text if text == "auto" else _sandbox_minimum(text, "auto", *SANDBOX_MODES)


def _sandbox_minimum(text: str, *known: str) -> str:
    if text not in SANDBOX_MODES:
        raise ValidationError(f"is {text!r}; known are {', '.join(known or SANDBOX_MODES)}")
    return text


def _sandbox_folders(text: str) -> tuple[Folder, ...]:
    """`/srv/in,/srv/out:write`."""
    found = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        path, colon, how = entry.partition(":")
        if colon and how != "write":
            raise ValidationError(
                f"says {how!r} of {path}; a folder may be followed by :write alone"
            )
        if not Path(path).is_absolute() or Path(path) == Path("/"):
            raise ValidationError(f"names {path!r}, which is no absolute path of a folder")
        found.append(Folder(path=Path(path), write=bool(colon)))
    return tuple(found)


def _level(text: str) -> str:
    if text.upper() not in _LOG_LEVELS:
        raise ValidationError(f"is {text!r}; known are {', '.join(_LOG_LEVELS)}")
    return text.upper()


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "database_url": _database_url,
    "broker_url": _broker_url,
    "redis_url": _redis_url,
    "blob_url": _blob_url,
    "blob_keys": _ring(keys.BLOBS),
    "secret_keys": _ring(keys.SECRETS),
    "audit_keys": _audit_keys,
    "signers": _signers,
    "folder": _folder,
    "anonymous": _anonymous,
    "modules": _modules,
    "places": _places,
    "sandbox_mode": _sandbox_mode,
    "sandbox_minimum": _sandbox_minimum,
    "sandbox_folders": _sandbox_folders,
    "level": _level,
}


def _unless_unset(parse: Callable[[str], object]) -> Callable[[str | None], object]:
    return lambda text: None if text is None else parse(text)


def _default_home(environment: Mapping[str, str]) -> Path:
    # Only an absolute path counts, says the XDG base directory specification.
    data = Path(environment.get("XDG_DATA_HOME", ""))
    if data.is_absolute():
        return data / "celeriac"
    try:
        return Path.home() / ".local" / "share" / "celeriac"
    except RuntimeError:
        return Path("/nonexistent/celeriac")
