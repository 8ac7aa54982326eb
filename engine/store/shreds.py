"""Taking users' data out of ended runs, which no role of ours may do but by these functions."""

from __future__ import annotations

from sqlalchemy import Connection, text

from engine.store.ids import RunId


def shred(connection: Connection, run: RunId, step: str | None) -> int:
    """Empty the payloads of a run that has ended, or of one step of it; how many.

    With them go the arguments and values of calls, what people were shown, the forms and reasons of
    their answers, what was printed, the payloads of events that ended its waits, and its snapshots.
    """
    statement = text("SELECT shred_payloads(:tenant, CAST(:run AS uuid), :step)")
    return int(connection.execute(statement, {**run._asdict(), "step": step}).scalar_one())


def release(connection: Connection, run: RunId) -> int:
    """Let go of the blobs that nothing of a shredded run names any more; how many."""
    statement = text("SELECT release_blobs(:tenant, CAST(:run AS uuid))")
    return int(connection.execute(statement, run._asdict()).scalar_one())


def keep(connection: Connection, run: RunId, variables: str) -> None:
    """Write what is left of the variables, as JSON text."""
    statement = text(
        "UPDATE run SET variables = CAST(:variables AS json)"
        " WHERE tenant_id = :tenant AND id = CAST(:run AS uuid)"
    )
    connection.execute(statement, {**run._asdict(), "variables": variables})


def shredded(connection: Connection, run: RunId) -> frozenset[str]:
    """The names of the payloads of a run that are shredded."""
    statement = text(
        "SELECT id FROM payload WHERE tenant_id = :tenant AND run_id = CAST(:run AS uuid)"
        " AND shredded_at IS NOT NULL"
    )
    return frozenset(connection.execute(statement, run._asdict()).scalars())
