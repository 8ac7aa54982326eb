"""Users' data, each in a row of its own, bound to the history by a salted digest.

Shredding a row leaves the chain of hashes as it was.
"""

from __future__ import annotations

from sqlalchemy import Connection

from engine.store import session
from engine.store.ids import RunId

_PUT = session.Statement(
    name="payload_put",
    types="text, text, text, bytea, text",
    sql="""
    INSERT INTO payload (tenant_id, run_id, id, salt, body)
    VALUES ($1, $2::uuid, $3, $4, $5::json)
    """,
)


def put(connection: Connection, run: RunId, name: str, salt: bytes, body: str) -> None:
    """Keep a payload, as JSON text, under its name in the run."""
    session.run(connection, _PUT, run.tenant, run.run, name, salt, body)
