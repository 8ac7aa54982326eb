"""What becomes of calls that were made after the place that a run goes on from, as somebody has chosen.

A choice waits until the run makes the same call: of the same node, with the same tool, version and
arguments. It is taken once; where there are several, in the order in which the calls were made. Who goes
back to before a choice was taken has it again, and so has a fork from there: what really happened before a
place needs no other choice. What was served, or skipped, by a choice did not happen itself, and its row says when
the call began that stands for it (`call.served`): the choice may be changed since, or be had again. What
`execute` has let through is a call of its own, about which is asked: that choice is not had again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from engine.core.messages import Chosen
from engine.store import calls, session, undone
from engine.store.ids import RunId, StepId

#: A choice that no call of its run had taken by a time.
_UNTAKEN = """
    NOT EXISTS (SELECT FROM call t WHERE t.tenant_id = k.tenant_id AND t.run_id = k.run_id
        AND t.step = k.taken_step AND t.ordinal = k.taken_ordinal AND t.started_at <= $4)
"""

# What may have happened, may not happen twice and was chosen by nobody, because it was made beside the
# choosing, is refused when the run comes to it: that is loud, and another rollback can choose.
_CHOOSE = session.Statement(
    name="choice_choose",
    types="text, text, text, timestamptz, text[], int[], text[], text[]",
    sql=rf"""
    WITH given AS (SELECT * FROM unnest($5, $6, $7) AS g (step, ordinal, choice)),
    later AS (
        SELECT DISTINCT ON (c.step, c.ordinal) c.*, x.attempt IS NOT NULL AS ended, x.reason, x.value
        FROM call c LEFT JOIN call_result x ON x.tenant_id = c.tenant_id AND x.run_id = c.run_id
            AND x.step = c.step AND x.ordinal = c.ordinal AND x.attempt = c.attempt
        WHERE c.tenant_id = $1 AND c.run_id = $2::uuid AND c.started_at > $4 AND {calls.REAL}
        ORDER BY c.step, c.ordinal, c.attempt DESC),
    picked AS (
        SELECT l.step, l.ordinal, regexp_replace(l.step, '#[0-9]+(\.[0-9]+)?$', '') AS node, l.digest,
            coalesce(g.choice, 'refuse') AS choice,
            CASE WHEN g.choice = 'reuse' THEN l.value END AS value, l.started_at AS made_at
        FROM later l LEFT JOIN given g USING (step, ordinal)
        WHERE g.choice IS NOT NULL OR (l.effect NOT IN ('pure', 'idempotent')
            AND NOT (l.ended AND coalesce(l.reason = ANY($8), false))
            AND {undone.fate("l", calls.NEVER_MADE)} IS DISTINCT FROM 'undone')),
    gone AS (
        DELETE FROM chosen_call k WHERE k.tenant_id = $1 AND k.run_id = $3::uuid AND k.made_at > $4
            AND NOT EXISTS (SELECT FROM picked p WHERE p.step = k.step AND p.ordinal = k.ordinal
                AND p.made_at = k.made_at)),
    freed AS (
        UPDATE chosen_call k SET taken_step = NULL, taken_ordinal = NULL
        WHERE k.tenant_id = $1 AND k.run_id = $3::uuid AND k.made_at <= $4 AND k.choice <> 'execute'
            AND k.taken_step IS NOT NULL AND {_UNTAKEN})
    INSERT INTO chosen_call (tenant_id, run_id, step, ordinal, node, digest, choice, value, made_at)
    SELECT $1, $3::uuid, step, ordinal, node, digest, choice, value, made_at FROM picked
    ON CONFLICT (tenant_id, run_id, step, ordinal, made_at) DO UPDATE SET choice = excluded.choice,
        value = excluded.value, taken_step = NULL, taken_ordinal = NULL
    RETURNING value
    """,  # noqa: S608  # our own constants
)

_HAND_OVER = session.Statement(
    name="choice_hand_over",
    types="text, text, text, timestamptz",
    sql=f"""
    INSERT INTO chosen_call (tenant_id, run_id, step, ordinal, node, digest, choice, value, made_at)
    SELECT k.tenant_id, $3::uuid, k.step, k.ordinal, k.node, k.digest, k.choice, k.value, k.made_at
    FROM chosen_call k
    WHERE k.tenant_id = $1 AND k.run_id = $2::uuid AND k.made_at <= $4 AND {_UNTAKEN}
        AND (k.choice <> 'execute' OR k.taken_step IS NULL)
    RETURNING value
    """,  # noqa: S608  # our own constants
)

_TAKE = session.Statement(
    name="choice_take",
    types="text, text, text, int, text, text",
    sql="""
    WITH mine AS (
        SELECT tenant_id, run_id, step, ordinal, made_at FROM chosen_call
        WHERE tenant_id = $1 AND run_id = $2::uuid AND node = $5 AND digest = $6
            AND (taken_step IS NULL OR (taken_step = $3 AND taken_ordinal = $4))
        ORDER BY taken_step IS NULL, made_at, step, ordinal LIMIT 1 FOR UPDATE)
    UPDATE chosen_call k SET taken_step = $3, taken_ordinal = $4 FROM mine m
    WHERE k.tenant_id = m.tenant_id AND k.run_id = m.run_id AND k.step = m.step
        AND k.ordinal = m.ordinal AND k.made_at = m.made_at
    RETURNING k.choice, k.value::text AS value, k.step, k.ordinal, k.made_at
    """,
)


def choose(
    connection: Connection, run: RunId, to: RunId, chosen: Sequence[Chosen], *, after: datetime
) -> Sequence[Row[Any]]:
    """Keep what becomes, in a run, of the calls that another one, or itself, made after a time.

    Choices for those that were made before, and taken since, are to be had again. The values that may be
    served.
    """
    return session.run(
        connection,
        _CHOOSE,
        *(run.tenant, run.run, to.run, after),
        [one.step for one in chosen],
        [one.ordinal for one in chosen],
        [one.choice for one in chosen],
        sorted(calls.NEVER_MADE),
    )


def hand_over(connection: Connection, run: RunId, to: RunId, *, by: datetime) -> Sequence[Row[Any]]:
    """Give a run the choices that another one had not taken by a time; the values that may be served."""
    return session.run(connection, _HAND_OVER, run.tenant, run.run, to.run, by)


def take(
    connection: Connection, step: StepId, ordinal: int, *, node: str, digest: str
) -> Row[Any] | None:
    """What was chosen for a call that a step is about to make; None: nothing. Safe to repeat."""
    return next(iter(session.run(connection, _TAKE, *step, ordinal, node, digest)), None)
