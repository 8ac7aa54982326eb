"""What a drill asks of the rows while it disturbs their platform, and when it judges what became of them.

Drills speak as the database's owner: some of this is nobody's business otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ARRAY, BigInteger, Connection, Row, Text, bindparam, text

from engine.core import transitions
from engine.store.ids import RunId, StepId

_TERMINAL = ", ".join(f"'{status}'" for status in sorted(transitions.TERMINAL))


class Stake(NamedTuple):
    """What waits for somebody who may just have been struck, as it stood then."""

    #: Ready steps, and steps that somebody holds, each with the fence it had.
    ready: Sequence[tuple[StepId, int]] = ()
    held: Sequence[tuple[StepId, int]] = ()
    #: Events that nobody has taken up.
    events: Sequence[int] = ()


def live(connection: Connection) -> int:
    """How many runs have not ended."""
    statement = text(f"SELECT count(*) FROM run WHERE status NOT IN ({_TERMINAL})")  # noqa: S608  # our own constants
    found: int = connection.execute(statement).scalar_one()
    return found


def ready(connection: Connection) -> Stake:
    """The steps that wait for a worker, and the events that wait for a coordinator."""
    rows = connection.execute(
        text(
            "SELECT tenant_id, run_id::text AS run_id, key, fence FROM step WHERE status = 'ready'"
        )
    )
    events = connection.execute(text("SELECT id FROM inbox")).scalars()
    return Stake(ready=_fenced(rows.all()), events=tuple(events))


def held(connection: Connection, workers: Sequence[str]) -> Stake:
    """The steps that some workers hold."""
    statement = text(
        "SELECT tenant_id, run_id::text AS run_id, key, fence FROM step"
        " WHERE status = 'leased' AND worker = ANY (:workers)"
    ).bindparams(bindparam("workers", type_=ARRAY(Text)))
    return Stake(held=_fenced(connection.execute(statement, {"workers": list(workers)}).all()))


def unmoved(connection: Connection, stake: Stake) -> int:
    """How much of it is where it was, or has not been taken up by anybody since."""
    fenced = [*stake.ready, *stake.held]
    statement = text(
        """
        SELECT (SELECT count(*) FROM unnest(:tenants, :runs, :keys, :fences, :kinds)
                AS w (tenant, run, key, fence, kind)
            JOIN step s ON s.tenant_id = w.tenant AND s.run_id = w.run::uuid AND s.key = w.key
            JOIN run r ON r.tenant_id = s.tenant_id AND r.id = s.run_id AND r.status <> 'paused'
            WHERE CASE w.kind WHEN 'ready' THEN s.status = 'ready' AND s.fence = w.fence
                ELSE s.fence = w.fence OR s.status IN ('ready', 'retrying', 'reported') END)
            + (SELECT count(*) FROM inbox WHERE id = ANY (:events))
        """
    ).bindparams(
        *(bindparam(name, type_=ARRAY(Text)) for name in ("tenants", "runs", "keys", "kinds")),
        *(bindparam(name, type_=ARRAY(BigInteger)) for name in ("fences", "events")),
    )
    found: int = connection.execute(
        statement,
        {
            "tenants": [step.tenant for step, _ in fenced],
            "runs": [step.run for step, _ in fenced],
            "keys": [step.key for step, _ in fenced],
            "fences": [fence for _, fence in fenced],
            "kinds": ["ready"] * len(stake.ready) + ["held"] * len(stake.held),
            "events": list(stake.events),
        },
    ).scalar_one()
    return found


def known(connection: Connection, *, most: int) -> Sequence[StepId]:
    """Steps that messages may name: those that are live, and as many of the others, the last ones."""
    rows = connection.execute(
        text(
            "(SELECT tenant_id, run_id::text, key FROM step LIMIT :most) UNION ALL"
            " (SELECT tenant_id, run_id::text, step FROM attempt ORDER BY started_at DESC LIMIT :most)"
        ),
        {"most": most},
    )
    return [StepId._make(row) for row in rows]


def hang_up(connection: Connection, draw: int) -> bool:
    """End one of the platform's sessions; whether there was one."""
    ended = connection.execute(
        text(
            "WITH ours AS (SELECT pid, row_number() OVER (ORDER BY pid) - 1 AS place,"
            " count(*) OVER () AS count FROM pg_stat_activity"
            " WHERE application_name LIKE 'celeriac celeriac%')"
            " SELECT pg_terminate_backend(pid) FROM ours WHERE place = :draw % count"
        ),
        {"draw": draw},
    ).scalar_one_or_none()
    return bool(ended)


def runs(connection: Connection) -> Sequence[Row[Any]]:
    """Every run: its tenant, id, status, workflow, variables, and why it ended."""
    statement = text(
        "SELECT r.tenant_id, r.id::text AS id, r.status, v.workflow, r.variables,"
        " concat_ws(': ', r.reason, r.message, r.stuck_error) AS why"
        " FROM run r JOIN workflow_version v ON v.tenant_id = r.tenant_id AND v.id = r.version_id"
    )
    return connection.execute(statement).all()


def accepted(connection: Connection) -> Sequence[tuple[RunId, str, int]]:
    """The results that count: run, step, attempt; as often as there are any."""
    rows = connection.execute(
        text(
            "SELECT tenant_id, run_id::text AS run_id, step, attempt FROM result"
            " WHERE outcome = 'succeeded'"
        )
    )
    return [(RunId(row.tenant_id, row.run_id), row.step, row.attempt) for row in rows]


def refused(connection: Connection) -> int:
    """How many reports came under a fence that did not hold any more."""
    found: int = connection.execute(text("SELECT count(*) FROM refusal")).scalar_one()
    return found


def _fenced(rows: Sequence[Row[Any]]) -> tuple[tuple[StepId, int], ...]:
    return tuple((StepId(row.tenant_id, row.run_id, row.key), row.fence) for row in rows)
