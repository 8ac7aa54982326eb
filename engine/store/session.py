"""Transactions, and statements prepared once per connection.

Nothing else in the project commits. Functions of the store take the connection of the
caller's transaction, so what belongs together commits together.

A round trip to the database costs more than most statements do. So what begins a transaction, and
what is asked for `later`, waits for the next statement whose rows somebody needs, or for the commit,
and goes there with it: in one message, in order, the first that fails ending all.
"""

from __future__ import annotations

import time
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any, TypeAlias, TypeVar

import psycopg2.errors
from sqlalchemy import Connection, Date, Engine, Row, create_engine, event, func, select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from engine.errors import GaveUp, StoodInTheWay, Unavailable
from engine.store import arrays

T = TypeVar("T")
_tuples: Any = namedtuple  # noqa: PYI024  # of columns that are known only when it runs

_GAVE_UP = (
    psycopg2.errors.QueryCanceled,
    psycopg2.errors.LockNotAvailable,
    psycopg2.errors.SerializationFailure,
)

#: The state by which `all_written` ends a transaction.
_MOVED_ON = "XMOVD"
#: The execution option of an engine that is bound to a tenant.
_TENANT = "celeriac_tenant"
_BEGIN_READING = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL enable_seqscan = on;"
    "SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on"
)
#: Where a connection keeps the transaction that is open on it.
_OPEN = "celeriac_transaction"
#: Until the end of the transaction: the connection goes back to a pool that serves all.
_BIND = "SELECT set_config('celeriac.tenant', %s, true)"

#: A statement that runs longer has lost its plan or its lock order; it must not hold others up.
STATEMENT_TIMEOUT_MS = 15_000
#: A worker that waits longer for a row tries anew, so that others need not wait with it.
LOCK_TIMEOUT_MS = 3_000
#: A transaction in which nothing is said for so long belongs to nobody any more.
IDLE_TIMEOUT_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A hot statement: plain SQL with `$1…` parameters, planned once per connection."""

    name: str
    #: Postgres types of the parameters, in order: `text[], uuid[], bigint`.
    types: str
    sql: str


_WAIT_NO_LONGER = Statement(
    name="wait_no_longer", types="text", sql="SELECT set_config('lock_timeout', $1, true)"
)


def connect(url: str, *, role: str | None = None, size: int = 8, impatient: bool = False) -> Engine:
    """A pool of connections that act as a role of ours, or as the login itself.

    `impatient`: they wait for no row longer than `LOCK_TIMEOUT_MS`, and raise `GaveUp` then.
    """
    options = (
        f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c plan_cache_mode=force_generic_plan "
        # What is read here was written just now: a page elsewhere costs hardly more than the next one.
        # Else a statement that looks for some of ten thousand live steps reads them all.
        "-c random_page_cost=1.1 "
        # Plans are made once for each connection, of tables that may be empty then: they must be those
        # that stay good. Who reads much at once may do otherwise (`transaction`).
        "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off "
        # Whoever stands still in a transaction, or is cut off, must not keep its locks.
        f"-c idle_in_transaction_session_timeout={IDLE_TIMEOUT_MS} "
        "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
    )
    if role is not None:
        options += f" -c role={role}"
    if impatient:
        options += f" -c lock_timeout={LOCK_TIMEOUT_MS}"
    engine = create_engine(
        url,
        # Ours to begin and to commit: the driver would make a round trip of each.
        isolation_level="AUTOCOMMIT",
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=size,
        pool_pre_ping=False,
        pool_use_lifo=True,
        # What was begun is ended below; to have the driver see to it again lets other threads in.
        pool_reset_on_return=None,
        connect_args={
            "options": options,
            "connect_timeout": 5,
            # A server that is cut off is noticed in seconds; a plain socket would wait for hours.
            "keepalives": 1,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
            "application_name": f"celeriac {role or 'owner'}",
        },
    )
    event.listen(engine, "before_cursor_execute", _send_what_waits)
    return engine


def bound(engine: Engine, tenant: str) -> Engine:
    """The same pool, whose transactions are bound to a tenant: the API's role sees no other."""
    return engine.execution_options(**{_TENANT: tenant})


#: SQL with its parameters, or a hot statement with its.
_Asked: TypeAlias = tuple[str | Statement, tuple[Any, ...]]


@dataclass(slots=True)
class _Transaction:
    """A transaction of a connection, which may not have begun."""

    #: What begins it, and binds it to a tenant.
    opening: tuple[_Asked, ...]
    #: What waits to be sent; what begins it is the first.
    waiting: list[_Asked]
    #: Something was sent, so that it must be committed or rolled back.
    begun: bool = False
    #: It was committed before its block ended.
    over: bool = False


class MovedOn(Exception):
    """What was to be written is not as it was read: somebody else wrote it, and must not have."""


@contextmanager
def transaction(engine: Engine, *, reads: bool = False) -> Iterator[Connection]:
    """One transaction: committed when the block ends, rolled back when it raises.

    It is bound to the tenant of its engine, where that is `bound` to one. `reads`: its statements all
    see one moment, can write nothing, and may read whole tables.

    Raises `Unavailable` when the database cannot be reached, and `GaveUp` when it ends the
    transaction itself (a deadlock, a time-out). Whether it was committed may be unknown.
    """
    begin = _BEGIN_READING if reads else "BEGIN"
    opening = ((begin, ()), *_bind(engine))
    ours = _Transaction(opening=opening, waiting=[*opening])
    with _translated(), engine.connect() as connection:
        connection.info[_OPEN] = ours
        try:
            yield connection
            if not ours.over and (ours.begun or len(ours.waiting) > len(ours.opening)):
                _send(connection, [*_taken(ours), ("COMMIT", ())])
        except BaseException:
            if ours.begun and not ours.over:
                _roll_back(connection)
            raise
        finally:
            if not connection.invalidated:
                connection.info.pop(_OPEN, None)


def _bind(engine: Engine) -> tuple[_Asked, ...]:
    """What binds a transaction to the tenant of its engine, if that is bound to one."""
    tenant = engine.get_execution_options().get(_TENANT)
    return () if tenant is None else ((_BIND, (tenant,)),)


def _taken(ours: _Transaction) -> list[_Asked]:
    waiting, ours.waiting, ours.begun = ours.waiting, [], True
    return waiting


def _roll_back(connection: Connection) -> None:
    """Undo what was done. A connection that cannot even do that is not used again."""
    if connection.invalidated:
        return
    try:
        _send(connection, [("ROLLBACK", ())])
    except DBAPIError:
        connection.invalidate()


@contextmanager
def alone(engine: Engine) -> Iterator[Connection]:
    """For one statement that is a transaction by itself: it goes there and back once, not three times.

    Of an engine that is `bound` to a tenant it is an ordinary transaction. Raises what `transaction`
    raises.
    """
    if _TENANT in engine.get_execution_options():
        with transaction(engine) as connection:
            yield connection
        return
    with _translated(), engine.connect() as connection:
        yield connection


def ask(engine: Engine, statement: Statement, *parameters: Any) -> Sequence[Row[Any]]:
    """Execute one hot statement that is a transaction by itself; its rows.

    It goes there and back once, whether the engine is `bound` to a tenant or not: what is sent together is
    one transaction. Raises what `transaction` raises.
    """
    with _translated(), engine.connect() as connection:
        return _send(connection, [*_bind(engine), (statement, parameters)])


@contextmanager
def _translated() -> Iterator[None]:
    """Say in our words what the database, or the way to it, has to say."""
    try:
        yield
    except DBAPIError as error:
        message = f"the database did not carry out a transaction: {error.orig}"
        if isinstance(error.orig, psycopg2.errors.DeadlockDetected):
            raise StoodInTheWay(message) from error
        if isinstance(error.orig, _GAVE_UP):
            raise GaveUp(message) from error
        if isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated:
            raise Unavailable(message) from error
        if isinstance(error.orig, psycopg2.errors.ReadOnlySqlTransaction):
            raise Unavailable(message) from error
        raise
    except PoolTimeout as error:
        raise Unavailable("every connection to the database is in use; try again") from error


def insist(action: Callable[[], T], *, seconds: float) -> T:
    """Repeat what is safe to repeat for so long as the database cannot be reached."""
    deadline = time.monotonic() + seconds
    pause = 0.05
    while True:
        try:
            return action()
        except Unavailable:
            if time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 1.0)


def today(connection: Connection) -> date:
    """The database's date, UTC."""
    return connection.execute(select(func.timezone("UTC", func.now()).cast(Date))).scalar_one()


def now(connection: Connection) -> datetime:
    """The time by the database's clock, the only one that decides."""
    found: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return found


def run(connection: Connection, statement: Statement, *parameters: Any) -> Sequence[Row[Any]]:
    """Execute a hot statement; its rows, or none."""
    ours = connection.info.get(_OPEN)
    before = [] if ours is None else _taken(ours)
    return _send(connection, [*before, (statement, parameters)])


def later(connection: Connection, statement: Statement, *parameters: Any) -> None:
    """Execute a hot statement whose rows nobody needs, at the latest before the commit.

    What it raises is raised by whatever it goes there with.
    """
    ours = connection.info.get(_OPEN)
    if ours is None:
        _send(connection, [(statement, parameters)])
    else:
        ours.waiting.append((statement, parameters))


def amend(connection: Connection, statement: Statement, instead: Statement | None) -> bool:
    """Ask for another statement `instead` of the first such one that waits, with its parameters, or for none.

    False where none waits: it has been sent, or nobody has asked for it.
    """
    ours = connection.info.get(_OPEN)
    waiting = [] if ours is None else ours.waiting
    for place, (asked, parameters) in enumerate(waiting):
        if asked is statement:
            waiting[place : place + 1] = [] if instead is None else [(instead, parameters)]
            return True
    return False


def wait_no_longer(connection: Connection, *, milliseconds: int) -> None:
    """Wait for no row longer than that until the transaction ends, which raises `GaveUp` then."""
    later(connection, _WAIT_NO_LONGER, f"{milliseconds}ms")


def committed(connection: Connection, statement: Statement, *parameters: Any) -> Sequence[Row[Any]]:
    """Commit the connection's transaction, and see what a statement finds right afterwards.

    It is the last that its block does.
    """
    ours = connection.info[_OPEN]
    # What is bound to a tenant is so until it is committed.
    again = ours.opening if len(ours.opening) > 1 else ()
    rows = _send(connection, [*_taken(ours), ("COMMIT", ()), *again, (statement, parameters)])
    ours.over = not again
    return rows


def _send_what_waits(connection: Connection, *_: Any) -> None:
    """Before any other statement of the connection."""
    ours = connection.info.get(_OPEN)
    if ours is not None and ours.waiting:
        _send(connection, _taken(ours))


def _send(connection: Connection, asked: Sequence[_Asked]) -> Sequence[Row[Any]]:
    """Have statements executed in one round trip; the rows of the last one.

    Not through SQLAlchemy, which would take longer for each than the database does.
    """
    driver: Any = connection.connection.dbapi_connection
    with _raised_as_ever(connection, driver), driver.cursor() as cursor:
        _prepare(connection, cursor, [what for what, _ in asked if isinstance(what, Statement)])
        texts = [
            cursor.mogrify(
                what if isinstance(what, str) else _execute(what.name, len(given)),
                [arrays.text(one) if isinstance(one, list) else one for one in given] or None,
            )
            for what, given in asked
        ]
        cursor.execute(b";".join(texts))
        if cursor.description is None:
            return ()
        columns = tuple(column.name for column in cursor.description)
        return [*map(_named(columns), cursor.fetchall())]


def _prepare(connection: Connection, cursor: Any, statements: Sequence[Statement]) -> None:
    """Plan statements that the connection does not know; by themselves, so that all or none are."""
    known: set[str] = connection.info.setdefault("prepared", set())
    new = {one.name: one for one in statements if one.name not in known}
    if new:
        texts = [
            f"PREPARE {one.name} {f'({one.types}) ' if one.types else ''}AS {one.sql}"
            for one in new.values()
        ]
        cursor.execute(";".join(texts))
        known.update(new)


@cache
def _execute(name: str, parameters: int) -> str:
    marks = f" ({', '.join(['%s'] * parameters)})" if parameters else ""
    return f"EXECUTE {name}{marks}"


@cache
def _named(columns: tuple[str, ...]) -> Callable[[Sequence[Any]], Row[Any]]:
    """What makes a row of values: read by name as SQLAlchemy's is, for an eighth of the time."""
    make: Callable[[Sequence[Any]], Row[Any]] = _tuples("Row", columns, rename=True)._make
    return make


@contextmanager
def _raised_as_ever(connection: Connection, driver: Any) -> Iterator[None]:
    """Raise what the driver raises as SQLAlchemy does, and leave a connection that is gone."""
    try:
        yield
    except psycopg2.Error as error:
        if error.pgcode == _MOVED_ON:
            raise MovedOn(error.diag.message_primary) from error
        # A server that dies under several statements at once is not told by the class of the error.
        gone = connection.dialect.is_disconnect(error, driver, None)
        if gone:
            connection.invalidate(error)
        raise DBAPIError.instance(
            None, None, error, psycopg2.Error, connection_invalidated=gone
        ) from error
