"""Questions that nobody settles in time are put to others, too."""

from __future__ import annotations

from engine.platform import Platform
from engine.runs import acts, identity
from engine.store import session, waits
from engine.store.ids import QuestionId


def sweep(platform: Platform, limit: int) -> int:
    """Put overdue questions to those who are asked then, too; how many there were.

    By the database's clock, each once, and each recorded with it.
    """
    with session.transaction(platform.database) as connection:
        late = waits.escalate(connection, limit)
        for row in late:
            of = QuestionId(row.tenant_id, row.run_id, row.step, row.attempt, row.round)
            acts.record(
                connection,
                row.tenant_id,
                by="clock",
                action="wait.escalate",
                subject=f"wait:{identity.question(of)}",
                why="nobody has settled it in time",
                detail={
                    "run_id": row.run_id,
                    "step": row.step,
                    "to": row.asks["escalate"]["to"],
                    "who": list(row.who),
                },
            )
    return len(late)
