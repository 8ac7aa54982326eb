"""Users' data, each in a row of its own, bound to the history by a salted digest.

Shredding a row leaves the chain of hashes as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from engine.store import session
from engine.store.ids import RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """A payload as JSON text, under its name in its run."""

    run: RunId
    name: str
    salt: bytes
    body: str


_PUT = session.Statement(
    name="payload_put",
    types="text[], text[], text[], bytea[], text[]",
    sql="""
    INSERT INTO payload (tenant_id, run_id, id, salt, body)
    SELECT tenant, run::uuid, id, salt, body::json
    FROM unnest($1, $2, $3, $4, $5) AS n (tenant, run, id, salt, body)
    """,
)

# Each by its key, whatever was known of the table when that was planned: OFFSET 0 keeps it from being
# joined in another way. A map of a thousand items would look at a million payloads.
_GET = session.Statement(
    name="payload_get",
    types="text[], text[], text[]",
    sql="""
    SELECT w.tenant AS tenant_id, w.run AS run_id, w.id, p.body
    FROM unnest($1, $2, $3) AS w (tenant, run, id)
    CROSS JOIN LATERAL (SELECT p.body::text AS body FROM payload p
        WHERE p.tenant_id = w.tenant AND p.run_id = w.run::uuid AND p.id = w.id OFFSET 0) p
    """,
)

# The results of steps that have one, without the rest of what their reports carried; or that somebody
# has given them, so that nobody carried them out.
_RESULTS = session.Statement(
    name="payload_results",
    types="text, text, text[]",
    sql="""
    WITH w AS (
        SELECT w.step, r.step || '/' || r.attempt AS id FROM unnest($3) AS w (step)
        CROSS JOIN LATERAL (SELECT r.step, r.attempt FROM result r
            WHERE r.tenant_id = $1 AND r.run_id = $2::uuid AND r.step = w.step
                AND r.outcome = 'succeeded' OFFSET 0) r
        UNION ALL
        SELECT w.step, w.step || '/given' FROM unnest($3) AS w (step))
    SELECT w.step, p.result FROM w
    CROSS JOIN LATERAL (SELECT (p.body->'result')::text AS result FROM payload p
        WHERE p.tenant_id = $1 AND p.run_id = $2::uuid AND p.id = w.id OFFSET 0) p
    """,
)


def put(connection: Connection, run: RunId, name: str, salt: bytes, body: str) -> None:
    """Keep a payload, as JSON text, under its name in the run."""
    put_all(connection, [Payload(run=run, name=name, salt=salt, body=body)])


def put_all(connection: Connection, payloads: Sequence[Payload]) -> None:
    """Keep payloads."""
    if payloads:
        session.later(
            connection,
            _PUT,
            [one.run.tenant for one in payloads],
            [one.run.run for one in payloads],
            [one.name for one in payloads],
            [one.salt for one in payloads],
            [one.body for one in payloads],
        )


def get(connection: Connection, names: Sequence[tuple[RunId, str]]) -> Sequence[Row[Any]]:
    """Payloads by run and name; those that there are."""
    if not names:
        return ()
    return session.run(
        connection,
        _GET,
        [run.tenant for run, _ in names],
        [run.run for run, _ in names],
        [name for _, name in names],
    )


def results(connection: Connection, run: RunId, steps: Sequence[str]) -> Sequence[Row[Any]]:
    """The results of steps that succeeded, or that were given them, as JSON text of a value."""
    return session.run(connection, _RESULTS, run.tenant, run.run, list(steps))
