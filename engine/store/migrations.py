"""Under which versions of its workflow a run was, before the one that it is under.

What was moved, and by whom, is told by the run's history; this finds it without reading all of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select, text, update

from engine.core.graph import NodeId
from engine.core.messages import Holds
from engine.core.values import Json, canonical
from engine.store.ids import RunId
from engine.store.tables import history, migration, run


def put(
    connection: Connection,
    of: RunId,
    seq: int,
    *,
    version: str,
    was: str,
    was_pins: Mapping[str, Json],
) -> None:
    """Keep that a run went on under another version from a line of its history on."""
    connection.execute(
        insert(migration).values(
            tenant_id=of.tenant,
            run_id=of.run,
            seq=seq,
            version_id=version,
            was=was,
            was_pins=dict(was_pins),
        )
    )


def move(connection: Connection, of: RunId, version: str, pins: Mapping[str, Json]) -> None:
    """Let a run, which the transaction has locked, be of another version."""
    connection.execute(
        update(run)
        .where(run.c.tenant_id == of.tenant, run.c.id == of.run)
        .values(version_id=version, pins=dict(pins))
    )


_RENAME = text(
    """
    WITH s AS MATERIALIZED (
        SELECT s.tenant_id, s.run_id, s.key, w.node, w.visits, w.holds
        FROM step s JOIN unnest(CAST(:keys AS text[]), CAST(:nodes AS text[]),
                CAST(:visits AS text[]), CAST(:holds AS text[])) AS w (key, node, visits, holds)
            ON s.key = w.key
        WHERE s.tenant_id = :tenant AND s.run_id = CAST(:run AS uuid)
        ORDER BY s.key FOR UPDATE OF s)
    UPDATE step SET node = s.node, visits = s.visits::json, holds = s.holds::json
    FROM s WHERE step.tenant_id = s.tenant_id AND step.run_id = s.run_id AND step.key = s.key
    """
)


def rename(
    connection: Connection,
    of: RunId,
    steps: Iterable[tuple[str, str, Mapping[NodeId, int], Holds]],
) -> None:
    """Say where live steps stand: key, node, visits and locks. Who owns them goes on with them."""
    rows = list(steps)
    if not rows:
        return
    connection.execute(
        _RENAME,
        {
            "tenant": of.tenant,
            "run": of.run,
            "keys": [key for key, _, _, _ in rows],
            "nodes": [node for _, node, _, _ in rows],
            "visits": [canonical(visits) for _, _, visits, _ in rows],
            "holds": [canonical(holds) for _, _, _, holds in rows],
        },
    )


def of(connection: Connection, run_id: RunId) -> Sequence[Row[Any]]:
    """The moves of a run, the first one first: `seq`, `version_id`, `was`, `was_pins`."""
    return connection.execute(
        select(migration)
        .where(migration.c.tenant_id == run_id.tenant, migration.c.run_id == run_id.run)
        .order_by(migration.c.seq)
    ).all()


def answer(connection: Connection, run_id: RunId, request: str, *, after: int) -> Row[Any] | None:
    """What became of a request, after a line of history: `kind` and `body`; None: nothing yet."""
    return connection.execute(  # type: ignore[return-value]  # a row is a row
        select(history.c.kind, history.c.body).where(
            history.c.tenant_id == run_id.tenant,
            history.c.run_id == run_id.run,
            history.c.seq > after,
            history.c.kind.in_(("Migrated", "NotMigrated")),
            history.c.body["request"].as_string() == request,
        )
    ).first()
