"""The record of what people do that is no event of a run: keys, roles, policies, definitions.

Every use case that changes such a thing writes one row here, in its own transaction: neither is
there without the other. What happens to a run is told by the run's own history.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from sqlalchemy import Connection

from engine.core.values import Json, canonical
from engine.runs import identity
from engine.store import acts
from engine.store.acts import Act


def record(
    connection: Connection,
    tenant: str,
    *,
    by: str,
    action: str,
    subject: str,
    why: str = "",
    detail: Mapping[str, Json] | None = None,
    before: Json = None,
    after: Json = None,
) -> None:
    """Keep that somebody did something.

    `action` is `noun.verb` (`key.create`), `subject` what it was done to (`key:ab12`). Of what was
    and is there only digests are kept, `detail` is shown as it is: no secret may be in it.
    """
    acts.put(
        connection,
        Act(
            tenant=tenant,
            id=identity.new_run(),
            by=by,
            action=action,
            subject=subject,
            why=why,
            detail=detail or {},
            before=_digest(before),
            after=_digest(after),
        ),
    )


def _digest(value: Json) -> str | None:
    return None if value is None else hashlib.sha256(canonical(value).encode()).hexdigest()
