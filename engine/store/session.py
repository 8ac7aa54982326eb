"""Transactions, and statements prepared once per connection.

Nothing else in the project commits. Functions of the store take the connection of the
caller's transaction, so what belongs together commits together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeVar

import psycopg2.errors
from sqlalchemy import Connection, Date, Engine, Row, create_engine, func, select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from engine.errors import GaveUp, StoodInTheWay, Unavailable

T = TypeVar("T")

_GAVE_UP = (
    psycopg2.errors.QueryCanceled,
    psycopg2.errors.LockNotAvailable,
    psycopg2.errors.SerializationFailure,
)

#: The execution option of an engine that is bound to a tenant.
_TENANT = "celeriac_tenant"
#: Until the end of the transaction: the connection goes back to a pool that serves all.
_BIND = "SELECT set_config('celeriac.tenant', %s, true)"

#: A statement that runs longer has lost its plan or its lock order; it must not hold others up.
STATEMENT_TIMEOUT_MS = 15_000
#: A transaction in which nothing is said for so long belongs to nobody any more.
IDLE_TIMEOUT_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A hot statement: plain SQL with `$1…` parameters, planned once per connection."""

    name: str
    #: Postgres types of the parameters, in order: `text[], uuid[], bigint`.
    types: str
    sql: str


def connect(url: str, *, role: str | None = None, size: int = 8) -> Engine:
    """A pool of connections that act as a role of ours, or as the login itself."""
    options = (
        f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c plan_cache_mode=force_generic_plan "
        # Whoever stands still in a transaction, or is cut off, must not keep its locks.
        f"-c idle_in_transaction_session_timeout={IDLE_TIMEOUT_MS} "
        "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
    )
    if role is not None:
        options += f" -c role={role}"
    return create_engine(
        url,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=size,
        pool_pre_ping=False,
        pool_use_lifo=True,
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


def bound(engine: Engine, tenant: str) -> Engine:
    """The same pool, whose transactions are bound to a tenant: the API's role sees no other."""
    return engine.execution_options(**{_TENANT: tenant})


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction: committed when the block ends, rolled back when it raises.

    It is bound to the tenant of its engine, where that is `bound` to one.

    Raises `Unavailable` when the database cannot be reached, and `GaveUp` when it ends the
    transaction itself (a deadlock, a time-out). Whether it was committed may be unknown.
    """
    try:
        with engine.begin() as connection:
            if (tenant := engine.get_execution_options().get(_TENANT)) is not None:
                connection.exec_driver_sql(_BIND, (tenant,))
            yield connection
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
    known = connection.info.setdefault("prepared", set())
    if statement.name not in known:
        types = f"({statement.types}) " if statement.types else ""
        connection.exec_driver_sql(f"PREPARE {statement.name} {types}AS {statement.sql}")
        known.add(statement.name)
    marks = f"({', '.join(['%s'] * len(parameters))})" if parameters else ""
    result = connection.exec_driver_sql(f"EXECUTE {statement.name} {marks}", parameters)
    return result.fetchall() if result.returns_rows else ()
