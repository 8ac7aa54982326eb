"""Calls of SQL services: one statement each, bound by the server, in a transaction of its own.

An answer is `{rows, columns, row_count, truncated}`. Rows are objects; numbers are numbers where nothing
is lost by it, else text; times are ISO 8601, in UTC where they have a zone; bytes are base64; JSON is as
it is, arrays are lists, whatever else is text. Two columns of one name are told apart by a number.

*What holds a statement to what the service allows.*

- Values never become part of the text: statement and values go to the server apart.
- There is one statement: the extended protocol takes no second one.
- Of a service that may not write, the statement is put behind `DECLARE … CURSOR FOR`, which the server's
  own grammar lets nothing follow but a query: no `COMMIT`, `SET`, `DO`, `CALL`, `COPY`, no `INSERT` within
  `WITH`. The transaction is READ ONLY, and has taken its snapshot, after which nothing makes it writable.
- Time-outs are set in the transaction, and kept here, too, where no statement can reach them: when the
  time is over, or the attempt is told to end, the server is asked to cancel, and the connection closed.
- Rows and bytes are counted as they come; what is too much is not read. What may write is not written
  then: it is all or nothing.

What none of that stops is what functions do that a query calls (`dblink`, `pg_read_file`,
`lo_export`, whatever is installed): that is for the grants of the database's user (`engine.services.sql`).

The driver is pg8000, because it speaks through a connection that it is handed: one that was judged
(`workers.services.connections`), counts its bytes and keeps to its time, also towards a server that
means ill. Connections are not kept: each call makes its own.
"""

from __future__ import annotations

import base64
import functools
import re
import ssl
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from threading import Event
from typing import Any

import httpcore2
import httpx2
import scramp
from pg8000 import converters
from pg8000.core import CoreConnection
from pg8000.exceptions import DatabaseError, InterfaceError

from engine.core import values
from engine.core.values import MAX_INTEGER, Json
from engine.errors import Invalid
from engine.services import settled, sql
from engine.services.sql import Config, Place
from workers.services import connections
from workers.services.connections import Guard, Resolver, Stream, Unreached, resolved
from workers.services.service import NOTHING, Answer, Asked

#: Bytes that a conversation may have beside rows.
_TALK = 1_048_576
#: Bytes that one message may have beside a row.
_HEAD = 65_536
#: Milliseconds that a statement waits for a lock at most.
_LOCK = 10_000
#: Seconds for asking a server to cancel.
_CANCELLING = 2.0
#: The most that a server may ask to hash a password, which nothing interrupts.
_ITERATIONS = 1_000_000
_TLS_REQUEST = struct.pack("!ii", 8, 80_877_103)
_CANCEL_REQUEST = struct.pack("!ii", 16, 80_877_102)
_CLEAR, _MD5, _SASL, _SASL_CONTINUE = 3, 5, 10, 11
_CURSOR = "celeriac_answer"
#: What a conversation with a server that talks nonsense ends in.
_NONSENSE = (
    *(InterfaceError, scramp.ScramException, struct.error, ArithmeticError, AttributeError),
    *(LookupError, TypeError, ValueError),
)


def carry(asked: Asked, *, resolve: Resolver = resolved) -> Answer:
    """Run the statement that was asked for, or say what would be run."""
    if names := settled.missing(dict(asked.config)):
        message = f"it was not given the secrets that it is configured with: {', '.join(names)}"
        return Answer(reason="not_granted", message=message)
    try:
        config = sql.read(dict(asked.config), resolved=True)
    except Invalid as error:
        return Answer(reason="blocked", message=str(error))
    assert config.place is not None
    try:
        statement, given = sql.bound(
            str(asked.arguments["statement"]), asked.arguments.get("parameters")
        )
    except sql.Unbound as unbound:
        return Answer(reason="arguments_refused", message=str(unbound))
    if asked.arguments.get("dry_run"):
        return Answer(value=_told(config, config.place, statement, given), usage=NOTHING)
    guard = connections.guard(asked, config.allow_private, config.timeout, resolve=resolve)
    try:
        return Answer(value=_run(config, config.place, guard, statement, given))
    except Unreached as unreached:
        return Answer(reason=unreached.reason, message=unreached.message)


def _told(config: Config, place: Place, statement: str, given: Sequence[Json]) -> Json:
    return {
        "dry_run": True,
        "database": f"{place.host or place.folder}:{place.port}/{place.database}",
        "user": place.user,
        "write": config.write,
        "statement": statement,
        "parameters": [*given],
    }


def _run(config: Config, place: Place, guard: Guard, statement: str, given: Sequence[Json]) -> Json:
    with _session(config, place, guard) as session:
        try:
            with _heeded(config, session):
                if config.write:
                    return _written(session, statement, given)
                return _queried(config, session, statement, given)
        except Unreached as unreached:
            if unreached.reason in {"timeout", "cancelled"}:
                _cancel(place, guard, session.key)
            raise


def _queried(config: Config, session: _Session, statement: str, given: Sequence[Json]) -> Json:
    session.begin("READ ONLY")
    session.bound(f"DECLARE {_CURSOR} NO SCROLL CURSOR FOR {statement}", given)
    truncated = False
    try:
        # One more than is told, to know whether there is more.
        session.execute_simple(f"FETCH FORWARD {config.max_rows + 1} FROM {_CURSOR}")
    except _Full:
        truncated = True
        if not session.rows:
            message = f"the first row is larger than {config.max_bytes} bytes"
            raise Unreached("output_too_large", message) from None
    rows = session.rows[: config.max_rows]
    return _answer(session, rows, len(rows), truncated=truncated or len(session.rows) > len(rows))


def _written(session: _Session, statement: str, given: Sequence[Json]) -> Json:
    session.begin("READ WRITE")
    try:
        count = session.bound(statement, given)
    except _Full:
        message = "the rows that come back are more than the service may answer; nothing is written"
        raise Unreached("output_too_large", message) from None
    try:
        session.execute_simple("COMMIT")
    except Unreached as unreached:
        message = f"{unreached.message}; whether it was written is not known"
        raise Unreached(unreached.reason, message) from None
    return _answer(session, session.rows, max(count, 0), truncated=False)


def _answer(session: _Session, rows: Sequence[list[Json]], count: int, *, truncated: bool) -> Json:
    columns = _apart(session.names)
    return {
        "rows": [dict(zip(columns, row, strict=True)) for row in rows],
        "columns": [*columns],
        "row_count": count,
        "truncated": truncated,
    }


def _apart(names: Sequence[str]) -> Sequence[str]:
    """Names, those that come again with a number behind them."""
    found: dict[str, None] = {}
    for name in names:
        new, number = name, 1
        while new in found:
            number += 1
            new = f"{name}_{number}"
        found[new] = None
    return [*found]


# --- the conversation -------------------------------------------------------------------------


class _Full(Exception):
    """There is more than may be answered."""


class _Wire:
    """A stream as the driver takes one."""

    def __init__(self, stream: Stream, most: int) -> None:
        self._stream = stream
        #: Bytes of one message at most.
        self._most = most
        self._read = bytearray()
        self._written = bytearray()

    def makefile(self, mode: str) -> _Wire:  # noqa: ARG002  # what the driver asks for
        return self

    def read(self, size: int) -> bytes:
        if size > self._most:
            raise _Full
        while len(self._read) < size:
            data = self._stream.read(_HEAD)
            if not data:
                raise Unreached("interrupted", "the database closed the connection")
            self._read += data
        found = bytes(self._read[:size])
        del self._read[:size]
        return found

    def write(self, data: bytes) -> None:
        self._written += data

    def flush(self) -> None:
        data, self._written = bytes(self._written), bytearray()
        try:
            self._stream.write(data)
        except httpcore2.WriteError as error:
            raise Unreached("interrupted", f"the connection broke: {error}") from None

    def close(self) -> None:
        self._stream.close()


class _Session(CoreConnection):  # type: ignore[misc]  # it has no types
    """One conversation with a database, whose rows are counted as they come."""

    def __init__(self, config: Config, place: Place, guard: Guard, stream: Stream) -> None:
        self._config = config
        self._guard = guard
        self._safe = place.mode != "disable" or place.host is None
        self._oids: Sequence[int] = ()
        #: Bytes of rows so far; None while rows are none of an answer.
        self._bytes: int | None = None
        self.rows: list[list[Json]] = []
        self.names: Sequence[str] = ()
        #: By which the server tells whose statement is to be cancelled.
        self.key = b""
        super().__init__(
            place.user,
            database=place.database,
            password=place.password,
            ssl_context=False,
            application_name="celeriac",
            startup_params={"client_encoding": "UTF8"},
            sock=_Wire(stream, config.max_bytes + _HEAD),
        )
        self.pg_types = defaultdict(lambda: str, _READ)

    def begin(self, mode: str) -> None:
        """Begin a transaction that keeps to the time, and take its snapshot."""
        left = max(int(self._guard.left() * 1000), 1)
        settings = {
            "statement_timeout": left,
            "lock_timeout": min(left, _LOCK),
            "idle_in_transaction_session_timeout": left + _LOCK,
            "datestyle": "ISO, YMD",
            "intervalstyle": "iso_8601",
            "timezone": "UTC",
            "bytea_output": "hex",
            "extra_float_digits": 1,
        }
        told = ", ".join(f"set_config('{name}', '{to}', true)" for name, to in settings.items())
        self.execute_simple(f"BEGIN TRANSACTION {mode}; SELECT {told}")
        self._bytes = 0

    def bound(self, statement: str, given: Sequence[Json]) -> int:
        """Run a statement with values; the rows it counts, if it does."""
        name, columns, read = self.prepare_statement(statement, ())
        if len(self._oids) != len(given):
            message = f"the statement takes {len(self._oids)} parameters and is given {len(given)}"
            raise Unreached("arguments_refused", message)
        texts = [_sent(value, oid) for value, oid in zip(given, self._oids, strict=True)]
        self.names = [column["name"] for column in columns or ()]
        ended = self.execute_named(name, texts, columns, read, statement)
        return int(ended.row_count)

    def close(self) -> None:
        """Say farewell, if anybody listens."""
        with suppress(Unreached, InterfaceError, AttributeError):
            super().close()

    # The names are the driver's, and so is what they are given.

    def handle_DATA_ROW(self, data: bytes, context: Any) -> None:  # noqa: N802
        super().handle_DATA_ROW(data, context)
        row = context.rows.pop()
        if self._bytes is None:
            return
        self._bytes += len(data)
        if self._bytes > self._config.max_bytes or len(self.rows) > self._config.max_rows:
            raise _Full
        self.rows.append(row)

    def handle_ROW_DESCRIPTION(self, data: bytes, context: Any) -> None:  # noqa: N802
        super().handle_ROW_DESCRIPTION(data, context)
        self.names = [column["name"] for column in context.columns]

    def handle_PARAMETER_DESCRIPTION(self, data: bytes, context: Any) -> None:  # noqa: ARG002, N802
        self._oids = [oid for (oid,) in struct.iter_unpack("!I", data[2:])]

    def handle_BACKEND_KEY_DATA(self, data: bytes, context: Any) -> None:  # noqa: ARG002, N802
        self.key = data

    def handle_NOTICE_RESPONSE(self, data: bytes, context: Any) -> None:  # noqa: N802
        """Nobody reads them."""

    def handle_NOTIFICATION_RESPONSE(self, data: bytes, context: Any) -> None:  # noqa: N802
        """Nobody listens."""

    def handle_AUTHENTICATION_REQUEST(self, data: bytes, context: Any) -> None:  # noqa: N802
        (way,) = struct.unpack_from("!i", data)
        if way in {_CLEAR, _MD5, _SASL} and self.password is None:
            raise Unreached("client_error", "the database asks for a password, and there is none")
        if way == _CLEAR and not self._safe:
            message = (
                "the database asks for the password in clear text, over a connection without TLS"
            )
            raise Unreached("blocked", message)
        if way == _SASL_CONTINUE:
            rounds = re.search(rb"(?:^|,)i=([0-9]{1,20})(?:,|$)", data[4:])
            if rounds is not None and int(rounds[1]) > _ITERATIONS:
                message = f"the database asks to hash the password {rounds[1].decode()} times"
                raise Unreached("bad_response", message)
        super().handle_AUTHENTICATION_REQUEST(data, context)


@contextmanager
def _session(config: Config, place: Place, guard: Guard) -> Iterator[_Session]:
    with closing(_opened(place, guard)) as stream:
        stream.allowance = 2 * config.max_bytes + _TALK
        with _heeded(config, None):
            session = _Session(config, place, guard, stream)
        with closing(session):
            yield session


def _opened(place: Place, guard: Guard) -> Stream:
    """A connection to a database's server, encrypted as its URL says."""
    if place.host is None:
        assert place.folder is not None
        return connections.connect_unix(guard, place.folder, f".s.PGSQL.{place.port}")
    stream = connections.connect(guard, place.host, place.port)
    if place.mode == "disable":
        return stream
    with ExitStack() as undone:
        undone.callback(stream.close)
        try:
            stream.write(_TLS_REQUEST)
        except httpcore2.WriteError as error:
            raise Unreached("interrupted", f"the connection broke: {error}") from None
        if stream.read(1) != b"S":
            message = f"{place.host} speaks no TLS; say ?sslmode=disable where that may be"
            raise Unreached("unreachable", message)
        encrypted = stream.start_tls(_tls(place.mode), place.host)
        undone.pop_all()
    return encrypted


@functools.cache
def _tls(mode: str) -> ssl.SSLContext:
    context = httpx2.create_ssl_context()
    context.set_alpn_protocols(["postgresql"])
    if mode == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _cancel(place: Place, guard: Guard, key: bytes) -> None:
    """Ask the server to leave off; whether it does, it does not say."""
    if not key:
        return
    brief = replace(guard, until=time.monotonic() + _CANCELLING, stopped=Event())
    with suppress(Unreached, httpcore2.WriteError), closing(_opened(place, brief)) as stream:
        stream.write(_CANCEL_REQUEST + key)
        # It closes the connection when it has heard.
        stream.read(1)


@contextmanager
def _heeded(config: Config, session: _Session | None) -> Iterator[None]:
    """What the server says against it, in our words."""
    try:
        yield
    except DatabaseError as error:
        told = error.args[0] if isinstance(error.args[0], dict) else {}
        code = str(told.get("C", ""))
        raise Unreached(_reason(code), _said(told, code, write=config.write)) from None
    except _Full:
        raise Unreached("bad_response", "the database says more than it may") from None
    except _NONSENSE as error:
        begun = "while it was asked" if session else "before it was asked"
        message = f"the database answers what makes no sense, {begun}: {type(error).__name__}"
        raise Unreached("bad_response", message) from None


def _said(told: Mapping[str, Any], code: str, *, write: bool) -> str:
    said = str(told.get("M", "it failed"))[:1_000]
    for name in ("D", "H"):
        if told.get(name):
            said += f"; {str(told[name])[:500]}"
    if code in {"42601", "0A000", "25006"} and not write:
        said += "; this service takes queries alone (SELECT, VALUES, TABLE, WITH)"
    return f"{said} (SQLSTATE {code})"


def _reason(code: str) -> str:
    """Our word for an SQLSTATE."""
    if code == "57014":
        return "timeout"
    if code in {"25006", "42501"}:
        return "blocked"
    # Somebody stood in the way, or the server cannot at the moment.
    if code[:2] in {"08", "40", "53", "57", "58", "XX"} or code == "55P03":
        return "server_error"
    return "client_error"


# --- values -----------------------------------------------------------------------------------

_JSON, _JSONB, _TEXTS = 114, 3802, frozenset({25, 1043, 1042, 705})


def _sent(value: Json, oid: int) -> str | None:
    """A value as the server reads it, where a parameter of that type stands."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int() | float():
            return repr(value)
        case list() if oid not in {_JSON, _JSONB} and oid not in _TEXTS:
            return "{" + ",".join(_element(one) for one in value) + "}"
        case _:
            return values.canonical(value)


def _element(value: Json) -> str:
    """A value within an array."""
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return "{" + ",".join(_element(one) for one in value) + "}"
    text = str(_sent(value, 0)).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _number(text: str) -> Json:
    """A numeric, as a number where nothing is lost."""
    exact = Decimal(text)
    if not exact.is_finite():
        return text
    if exact == exact.to_integral_value() and "." not in text:
        return int(exact) if abs(exact) <= MAX_INTEGER else text
    near = float(exact)
    return near if Decimal(repr(near)) == exact else text


def _float(text: str) -> Json:
    return text if text in {"NaN", "Infinity", "-Infinity"} else float(text)


def _json(text: str) -> Json:
    try:
        return values.parse(text)
    except values.InvalidJson:
        # It is JSON, and more than can be kept as such: a number beyond 64 bits, say.
        return text


def _bytes(text: str) -> Json:
    return base64.b64encode(bytes.fromhex(text.removeprefix("\\x"))).decode()


_MOMENT = re.compile(r"(\d{4,})-(\d\d)-(\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)([+-]\d\d)?(:\d\d)?")


def _moment(text: str) -> Json:
    match = _MOMENT.fullmatch(text)
    if match is None:
        # Infinity, and whatever was before Christ.
        return text
    year, month, day, clock, hours, minutes = match.groups()
    return f"{year}-{month}-{day}T{clock}" + (f"{hours}{minutes or ':00'}" if hours else "")


def _list(read: Callable[[str], Json]) -> Callable[[str], Json]:
    def each(found: Any) -> Json:
        if isinstance(found, list):
            return [each(one) for one in found]
        return None if found is None else read(str(found))

    return lambda text: each(converters.string_array_in(text))


#: By type, and the type of arrays of it.
_KINDS: Sequence[tuple[int, int, Callable[[str], Json]]] = (
    (16, 1000, lambda text: text == "t"),
    *((oid, many, int) for oid, many in ((20, 1016), (21, 1005), (23, 1007), (26, 1028))),
    *((oid, many, _float) for oid, many in ((700, 1021), (701, 1022))),
    (1700, 1231, _number),
    *((oid, many, _json) for oid, many in ((_JSON, 199), (_JSONB, 3807))),
    (17, 1001, _bytes),
    *((oid, many, _moment) for oid, many in ((1114, 1115), (1184, 1185))),
    # Text, names, dates, times, UUIDs, addresses.
    *((oid, many, str) for oid, many in ((25, 1009), (1043, 1015), (1042, 1014), (19, 1003))),
    *((oid, many, str) for oid, many in ((1082, 1182), (1083, 1183), (2950, 2951), (869, 1041))),
)
_READ: Mapping[int, Callable[[str], Json]] = {
    **{oid: read for oid, _, read in _KINDS},
    **{many: _list(read) for _, many, read in _KINDS},
}
