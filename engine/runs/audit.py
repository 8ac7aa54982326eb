"""The audit as one stream: what happened to runs, and what people did beside them.

Entries come in the order in which runs were submitted and acts done; the lines of a run come
together, in their order. Users' data is no part of it: history tells what was decided, and points
to the data by salted digests.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import Any

from sqlalchemy import Row

from engine.core.values import Json, canonical
from engine.platform import Platform
from engine.store import reads, trail
from engine.store.trail import Place, Which

_PAGE = 500
#: What spreadsheets take for a formula, where a cell begins with it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001  # they do


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a run's history, or one act."""

    at: datetime
    #: The kind of the line, as `RunSubmitted`, or the action of the act, as `workflow.publish`.
    action: str
    #: Who: users, and whatever else brings events. Empty where the engine decided.
    by: str
    #: What the act was done to; of a line, its step.
    subject: str
    why: str
    #: Of a line: its run, that run's workflow, and which line it is.
    run: str | None
    workflow: str | None
    seq: int | None
    #: Of an act: its id, and its position in the chain once it is sealed.
    act: str | None
    position: int | None
    detail: Mapping[str, Json]
    #: Digests of what was and is there, of an act that changed something.
    before: str | None
    after: str | None
    #: The link of the chain; None for an act that is not sealed yet.
    hash: str | None

    @property
    def place(self) -> Place:
        """Where in the stream it stands."""
        return Place(self.run, self.seq or 0) if self.run else Place(self.act or "", 0)


COLUMNS = tuple(item.name for item in fields(Entry))


def page(
    platform: Platform, tenant: str, which: Which, *, after: Place | None = None, limit: int = 100
) -> tuple[Entry, ...]:
    """Entries in order, after a place."""
    with reads.reading(platform.database) as connection:
        lines = trail.lines(connection, tenant, which, after=after, limit=limit)
        acts = trail.acts(connection, tenant, which, after=after, limit=limit)
    found = merge(map(_line, lines), map(_act, acts), key=lambda entry: entry.place)
    return tuple(islice(found, limit))


def stream(platform: Platform, tenant: str, which: Which) -> Iterator[Entry]:
    """All entries in order, a page in memory at a time."""
    after: Place | None = None
    while found := page(platform, tenant, which, after=after, limit=_PAGE):
        yield from found
        after = found[-1].place


def as_json(entry: Entry) -> str:
    """An entry as one line of JSON."""
    return canonical({**_plain(entry), "detail": entry.detail})


def as_csv(values: tuple[object, ...]) -> str:
    """A row of CSV, whose cells no spreadsheet takes for a formula."""
    text = io.StringIO()
    # The writer quotes what holds any of its line's end.
    csv.writer(text, lineterminator="\r\n").writerow([_cell(value) for value in values])
    return text.getvalue().removesuffix("\r\n")


def cells(entry: Entry) -> tuple[object, ...]:
    """An entry by its columns."""
    told = {**_plain(entry), "detail": canonical(entry.detail)}
    return tuple(told[name] for name in COLUMNS)


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def _plain(entry: Entry) -> dict[str, Any]:
    told = {name: getattr(entry, name) for name in COLUMNS}
    return {**told, "at": entry.at.isoformat().replace("+00:00", "Z")}


def _line(row: Row[Any]) -> Entry:
    body: Mapping[str, Any] = row.body
    by = body.get("by", "")
    return Entry(
        at=row.at,
        action=row.kind,
        by=", ".join(map(str, by)) if isinstance(by, list) else str(by),
        subject=str(body.get("step") or ""),
        why=str(body.get("reason") or ""),
        run=row.run_id,
        workflow=row.workflow,
        seq=row.seq,
        act=None,
        position=None,
        detail=body,
        before=None,
        after=None,
        hash=bytes(row.hash).hex(),
    )


def _act(row: Row[Any]) -> Entry:
    return Entry(
        at=row.at,
        action=row.action,
        by=row.by,
        subject=row.subject,
        why=row.why,
        run=None,
        workflow=None,
        seq=None,
        act=row.id,
        position=row.position,
        detail=row.detail,
        before=row.before,
        after=row.after,
        hash=None if row.hash is None else bytes(row.hash).hex(),
    )
