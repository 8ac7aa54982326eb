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

_GET = session.Statement(
    name="payload_get",
    types="text[], text[], text[]",
    sql="""
    SELECT p.tenant_id, p.run_id::text AS run_id, p.id, p.body::text AS body FROM payload p
    JOIN unnest($1, $2, $3) AS w (tenant, run, id)
        ON p.tenant_id = w.tenant AND p.run_id = w.run::uuid AND p.id = w.id
    """,
)

# The results of steps that have one, without the rest of what their reports carried; or that somebody
# has given them, so that nobody carried them out.
_RESULTS = session.Statement(
    name="payload_results",
    types="text, text, text[]",
    sql="""
    SELECT r.step, (p.body->'result')::text AS result FROM result r
    JOIN payload p ON p.tenant_id = r.tenant_id AND p.run_id = r.run_id
        AND p.id = r.step || '/' || r.attempt
    WHERE r.tenant_id = $1 AND r.run_id = $2::uuid AND r.step = ANY($3)
        AND r.outcome = 'succeeded'
    UNION ALL
    SELECT w.step, (p.body->'result')::text FROM unnest($3) AS w (step)
    JOIN payload p ON p.tenant_id = $1 AND p.run_id = $2::uuid AND p.id = w.step || '/given'
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
