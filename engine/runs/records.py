"""All that was recorded of a run: its history, its calls, and what it was charged.

It is read once, in a transaction that can write nothing, and looked at afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from engine.core import messages as msg
from engine.core.graph import Graph
from engine.core.references import Unread
from engine.core.values import Json, Ref, marked
from engine.errors import Damaged, OutOfReach
from engine.platform import Platform
from engine.runs import graphs, large, ledgers, views
from engine.store import history, reads, runs
from engine.store.ids import RunId

#: Bytes up to which a value that lies in a blob is read, and those of one backtest together.
READ_BYTES = 4 * 1024 * 1024
READ_ALL_BYTES = 64 * 1024 * 1024
_PAGE = 500


class TooLong(Exception):
    """A record is longer than there is room for."""


class Key(NamedTuple):
    """An attempt of a step (ordinal 0), or a call of it."""

    step: str
    attempt: int
    ordinal: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One line of history."""

    seq: int
    at: datetime
    record: msg.Record
    #: The users' data that it points to is there no more.
    shredded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A run as it was recorded."""

    run: RunId
    #: What a list shows of it.
    head: Row[Any]
    graph: Graph
    lines: Sequence[Told]
    calls: Sequence[Row[Any]]
    charges: Mapping[Key, Mapping[str, Decimal]]
    #: The run that it was started for in the end, if not for itself: they are charged as one.
    root: str

    @property
    def cost(self) -> Decimal:
        """What it was charged in dollars."""
        return sum((used.get("cost_usd", Decimal(0)) for used in self.charges.values()), Decimal(0))


@dataclass(slots=True, kw_only=True)
class Room:
    """How much more may be read."""

    lines: int
    bytes: int

    def take(self, row: Row[Any]) -> None:
        """Make room for a line. Raises `TooLong`."""
        self.lines -= 1
        self.bytes -= len(row.body) + len(row.payload or "")
        if self.lines < 0 or self.bytes < 0:
            raise TooLong


def read(connection: Connection, run: RunId, room: Room) -> Record | None:
    """A run's record; None: there is no such run. Raises `TooLong`."""
    head = reads.summary(connection, run)
    if head is None:
        return None
    lines: list[Told] = []
    while True:
        rows = history.read(connection, run, after=lines[-1].seq if lines else 0, limit=_PAGE)
        for row in rows:
            room.take(row)
            lines.append(
                Told(
                    seq=row.seq,
                    at=row.at,
                    record=views.record(row),
                    shredded=row.shredded,
                )
            )
        if len(rows) < _PAGE:
            break
    calls = reads.calls(connection, run)
    return Record(
        run=run,
        head=head,
        graph=graphs.of_run(connection, run, graphs.load(connection, run.tenant, head.version_id)),
        lines=lines,
        calls=calls,
        charges=_charges(reads.charges(connection, run), lines, calls),
        root=runs.glance(connection, run).root,
    )


def _charges(
    rows: Sequence[Row[Any]], lines: Sequence[Told], calls: Sequence[Row[Any]]
) -> dict[Key, dict[str, Decimal]]:
    """What was charged, by whom; of what the ledger does not know, what was reported."""
    found: dict[Key, dict[str, Decimal]] = {}
    for row in rows:
        used = found.setdefault(Key(row.step, row.attempt, row.ordinal), {})
        used[row.unit] = used.get(row.unit, Decimal(0)) + Decimal(row.amount)
    called: dict[Key, dict[str, Decimal]] = {}
    for call in calls:
        usage = ledgers.charges(call.usage or {})
        attempt = called.setdefault(Key(call.step, call.attempt), {})
        for name, amount in usage.items():
            attempt[name] = attempt.get(name, Decimal(0)) + Decimal(str(amount))
        key = Key(call.step, call.attempt, call.ordinal)
        if key not in found and usage:
            found[key] = {name: Decimal(str(amount)) for name, amount in usage.items()}
    for line in lines:
        match line.record:
            case (
                msg.AttemptSucceeded(step=step, attempt=attempt_, usage=told)
                | msg.AttemptFailed(step=step, attempt=attempt_, usage=told)
                | msg.AttemptLost(step=step, attempt=attempt_, usage=told)
                | msg.AttemptSuspended(step=step, attempt=attempt_, usage=told)
                | msg.AttemptWithheld(step=step, attempt=attempt_, usage=told)
            ) if (key := Key(step, attempt_)) not in found:
                # What an attempt tells includes its calls; what was withheld was told before it counts.
                found[key] = {
                    name: max(
                        Decimal(str(amount)) - called.get(key, {}).get(name, Decimal(0)), Decimal(0)
                    )
                    for name, amount in told.items()
                }
            case _:
                pass
    return found


class Reader:
    """Reads values that lie in blobs, as far as they are small enough."""

    def __init__(self, platform: Platform, tenant: str) -> None:
        self._platform = platform
        self._tenant = tenant
        self._left = READ_ALL_BYTES
        self._known: dict[str, Json] = {}

    def __call__(self, ref: Ref) -> Json:
        """The value that a reference stands for. Raises `Unread`."""
        if ref.sha256 not in self._known:
            self._left -= ref.size
            if ref.size > READ_BYTES or self._left < 0:
                raise Unread(f"blob {ref.sha256} is {ref.size} bytes, too large to be read here")
            try:
                self._known[ref.sha256] = large.read(self._platform, self._tenant, ref)
            except (OutOfReach, Damaged) as error:
                raise Unread(error.message) from error
        return self._known[ref.sha256]

    def know(self, ref: Ref, value: Json) -> None:
        """Take a value for what a reference stands for."""
        self._known[ref.sha256] = value

    def whole(self, value: Json) -> Json:
        """A stored value, wherever it lies. Raises `Unread`."""
        ref = marked(value)
        return value if ref is None else self(ref)
