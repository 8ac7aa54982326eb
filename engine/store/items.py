"""The items of maps as rows: what a run takes over of those that were under way in another one.

An item lies in a payload of its own, and what became of it in the rows of its attempt. A run that
goes on from a place of another one gets copies: of every item, and of the results of those that
had ended there. Nobody of the new run has made them, and nothing was used for them there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row

from engine.core.forking import Mapped
from engine.store import session
from engine.store.ids import RunId

_TAKE_OVER = session.Statement(
    name="items_take_over",
    types="text, text, text, text[], int[], int[], text[], text",
    sql="""
    WITH maps AS (SELECT * FROM unnest($4, $5, $6) AS m (key, count, begun)),
    places AS (
        INSERT INTO payload (tenant_id, run_id, id, salt, body)
        SELECT p.tenant_id, $3::uuid, p.id, p.salt, p.body
        FROM maps m CROSS JOIN generate_series(0, m.count - 1) AS place
        JOIN payload p ON p.tenant_id = $1 AND p.run_id = $2::uuid
            AND p.id = m.key || '.' || place || '/item'),
    done AS MATERIALIZED (
        SELECT i.step, p.salt, p.body
        FROM (SELECT m.key || '.' || place AS step
            FROM maps m CROSS JOIN generate_series(0, m.begun - 1) AS place) i
        LEFT JOIN result r ON r.tenant_id = $1 AND r.run_id = $2::uuid AND r.step = i.step
            AND r.outcome = 'succeeded'
        JOIN payload p ON p.tenant_id = $1 AND p.run_id = $2::uuid
            AND p.id = i.step || '/' || coalesce(r.attempt::text, 'given')
        WHERE i.step <> ALL($7)),
    began AS (
        INSERT INTO attempt (tenant_id, run_id, step, attempt, fence, worker)
        SELECT $1, $3::uuid, step, 1, 0, $8 FROM done),
    ended AS (
        INSERT INTO result (tenant_id, run_id, step, attempt, fence, outcome)
        SELECT $1, $3::uuid, step, 1, 0, 'succeeded' FROM done),
    kept AS (
        INSERT INTO payload (tenant_id, run_id, id, salt, body)
        SELECT $1, $3::uuid, step || '/1', salt, body FROM done)
    SELECT step, body->'result' AS result FROM done
    """,
)


def take_over(
    connection: Connection, run: RunId, to: RunId, maps: Sequence[Mapped], live: Sequence[str]
) -> Sequence[Row[Any]]:
    """Let a run have the items of maps of another one, but for what those that are live there came to.

    Returns the results of the others, where they have one.
    """
    return session.run(
        connection,
        _TAKE_OVER,
        run.tenant,
        run.run,
        to.run,
        [one.key for one in maps],
        [one.count for one in maps],
        [one.begun for one in maps],
        list(live),
        f"of run {run.run}",
    )
