"""Digests of all that is stored, so that a test can say that nothing has changed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, text

from engine.store import tables

#: That a request was refused is written down here.
RECORDS = {"refused_request", "unknown_request"}
_ACTS = "action <> 'request.refuse'"


def of(owner: Engine, *, tenant: str | None = None) -> dict[str, Any]:
    """How many rows there are of everything, and a digest of them."""
    found: dict[str, Any] = {}
    for table in tables.metadata.sorted_tables:
        if table.name in RECORDS:
            continue
        which = _ACTS if table.name == "admin_act" else "true"
        if tenant is not None and "tenant_id" in table.c:
            which = f"{which} AND tenant_id = '{tenant}'"
        row = "(to_jsonb(t) - 'last_used_at')::text"
        counted = text(
            f"SELECT count(*), md5(string_agg({row}, ',' ORDER BY {row}))"
            f" FROM {table.name} t WHERE {which}"
        )
        with owner.connect() as connection:
            found[table.name] = tuple(connection.execute(counted).one())
    return found
