"""The audit as it is read: lines of history and acts of a tenant, by one key.

The key is an id and a seq: of a line its run's, of an act its own and 0. Both ids are UUIDv7, so
the order is that in which runs were submitted and acts done, a run's lines together and in order;
and both tables are read by their primary keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB

from engine.store import tables as t


class Place(NamedTuple):
    """A place in the stream."""

    id: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which entries; None means all."""

    since: datetime | None = None
    #: Not included.
    until: datetime | None = None
    run: str | None = None
    workflow: str | None = None
    by: str | None = None
    #: The kind of a line, or the action of an act.
    action: str | None = None


def lines(
    connection: Connection, tenant: str, which: Which, *, after: Place | None, limit: int
) -> Sequence[Row[Any]]:
    """Lines of history in order, after a place, without users' data."""
    h, r, v = t.history, t.run, t.workflow_version
    statement: Select[Any] = (
        select(
            h.c.run_id,
            h.c.seq,
            h.c.at,
            h.c.kind,
            h.c.body,
            h.c.hash,
            v.c.workflow,
        )
        .select_from(
            h.join(r, and_(r.c.tenant_id == h.c.tenant_id, r.c.id == h.c.run_id)).join(
                v, and_(v.c.tenant_id == r.c.tenant_id, v.c.id == r.c.version_id)
            )
        )
        .where(h.c.tenant_id == tenant)
        .order_by(h.c.run_id, h.c.seq)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(tuple_(h.c.run_id, h.c.seq) > tuple_(*_literals(after)))
    if which.since is not None:
        ended = or_(r.c.finished_at.is_(None), r.c.finished_at >= which.since)
        statement = statement.where(h.c.at >= which.since, ended)
    if which.until is not None:
        statement = statement.where(h.c.at < which.until, r.c.created_at < which.until)
    if which.run is not None:
        statement = statement.where(h.c.run_id == which.run)
    if which.workflow is not None:
        statement = statement.where(v.c.workflow == which.workflow)
    if which.action is not None:
        statement = statement.where(h.c.kind == which.action)
    if which.by is not None:
        statement = statement.where(_said_by(h.c.body, which.by))
    return connection.execute(statement).all()


def acts(
    connection: Connection, tenant: str, which: Which, *, after: Place | None, limit: int
) -> Sequence[Row[Any]]:
    """Acts in order, after a place, each with its link of the chain where it has one."""
    a, s = t.admin_act, t.act_seal
    statement: Select[Any] = (
        select(a, s.c.position, s.c.hash)
        .select_from(a.outerjoin(s, and_(s.c.tenant_id == a.c.tenant_id, s.c.act_id == a.c.id)))
        .where(a.c.tenant_id == tenant)
        .order_by(a.c.id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(a.c.id > after.id)
    if which.since is not None:
        statement = statement.where(a.c.at >= which.since)
    if which.until is not None:
        statement = statement.where(a.c.at < which.until)
    if which.run is not None:
        statement = statement.where(a.c.subject == f"run:{which.run}")
    if which.workflow is not None:
        statement = statement.where(_of_workflow(which.workflow))
    if which.action is not None:
        statement = statement.where(a.c.action == which.action)
    if which.by is not None:
        statement = statement.where(a.c.by == which.by)
    return connection.execute(statement).all()


def _literals(after: Place) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    return literal(after.id, t.history.c.run_id.type), literal(after.seq)


def _said_by(body: ColumnElement[Any], by: str) -> ColumnElement[bool]:
    """Whether a line names somebody: alone, or among those who brought what it waited for."""
    told = cast(body, JSONB)["by"]
    among = or_(told.contains([by]), told.contains([f"user:{by}"]))
    return case(
        (func.jsonb_typeof(told) == "array", among),
        else_=func.coalesce(told.astext == by, literal(value=False)),
    )


def _of_workflow(workflow: str) -> ColumnElement[bool]:
    a, r, v = t.admin_act, t.run, t.workflow_version
    runs = (
        select(literal(1))
        .select_from(r.join(v, and_(v.c.tenant_id == r.c.tenant_id, v.c.id == r.c.version_id)))
        .where(
            r.c.tenant_id == a.c.tenant_id,
            v.c.workflow == workflow,
            a.c.subject == func.concat("run:", r.c.id),
        )
        .exists()
    )
    published = func.starts_with(a.c.subject, f"workflow:{workflow}@")
    return or_(published, and_(func.starts_with(a.c.subject, "run:"), runs))
