"""What becomes of calls that were made after the place that a run goes on from, as somebody has chosen.

A choice waits until the run makes the same call: of the same node, with the same tool, version and
arguments. It is taken once; where there are several, in the order in which the calls were made.

What is chosen holds from a line of the run's history (`since`; 0: it began with it) until it goes back the next time,
or its nodes get other names (`until`), and is not touched then: whoever goes on from one of those lines has what was chosen, and not taken,
there. What really happened before a place needs no other choice. What was served, or skipped, by a choice did not
happen itself, and its row says when the call began that stands for it (`call.served`). What `execute` has let
through is a call of its own, about which is asked: that choice is not had again. A call that is refused, until the one
that it repeats is undone, does not take its choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from engine.core.graph import NodeId
from engine.core.messages import Chosen
from engine.store import calls, session, undone
from engine.store.ids import RunId, StepId


def standing(line: str, time: str) -> str:
    """SQL for whether a choice, a row `k`, held at a line, and no call of its run had taken it by that time."""
    return f"""
    k.since <= {line} AND coalesce(k.until > {line}, true) AND k.made_at <= {time}
    AND NOT EXISTS (SELECT FROM call t WHERE t.tenant_id = k.tenant_id AND t.run_id = k.run_id
        AND t.step = k.taken_step AND t.ordinal = k.taken_ordinal AND t.started_at <= {time})
    """


# What may have happened, may not happen twice and was chosen by nobody, because it was made beside the
# choosing, is refused when the run comes to it: that is loud, and another rollback can choose.
_CHOOSE = session.Statement(
    name="choice_choose",
    types="text, text, bigint, timestamptz, text, bigint, text[], int[], text[], text[], text[], text[]",
    sql=rf"""
    WITH given AS (SELECT * FROM unnest($7, $8, $9) AS g (step, ordinal, choice)),
    later AS (
        SELECT DISTINCT ON (c.step, c.ordinal) c.*, x.attempt IS NOT NULL AS ended, x.reason, x.value
        FROM call c LEFT JOIN call_result x ON x.tenant_id = c.tenant_id AND x.run_id = c.run_id
            AND x.step = c.step AND x.ordinal = c.ordinal AND x.attempt = c.attempt
        WHERE c.tenant_id = $1 AND c.run_id = $2::uuid AND c.started_at > $4 AND {calls.REAL}
        ORDER BY c.step, c.ordinal, c.attempt DESC),
    picked AS (
        SELECT l.step, l.ordinal, coalesce((SELECT n.node FROM unnest($11, $12) AS n (step, node) WHERE n.step = l.step),
                regexp_replace(l.step, '#[0-9]+(\.[0-9]+)?$', '')) AS node, l.digest,
            coalesce(g.choice, 'refuse') AS choice,
            CASE WHEN g.choice = 'reuse' THEN l.value END AS value, l.started_at AS made_at
        FROM later l LEFT JOIN given g USING (step, ordinal)
        WHERE g.choice IS NOT NULL OR (l.effect NOT IN ('pure', 'idempotent')
            AND NOT (l.ended AND coalesce(l.reason = ANY($10), false))
            AND {undone.fate("l", calls.NEVER_MADE)} IS DISTINCT FROM 'undone')),
    handed AS (
        SELECT k.step, k.ordinal, k.node, k.digest, k.choice, k.value, k.made_at FROM chosen_call k
        WHERE k.tenant_id = $1 AND k.run_id = $2::uuid AND {standing("$3", "$4")}
            AND NOT (k.choice NOT IN ('reuse', 'skip') AND EXISTS (SELECT FROM chosen_call e
                WHERE e.tenant_id = k.tenant_id AND e.run_id = k.run_id AND e.step = k.step AND e.ordinal = k.ordinal
                    AND e.made_at = k.made_at AND e.choice NOT IN ('reuse', 'skip') AND e.taken_step IS NOT NULL))),
    replaced AS (
        UPDATE chosen_call SET until = $6 WHERE tenant_id = $1 AND run_id = $5::uuid AND until IS NULL)
    INSERT INTO chosen_call (tenant_id, run_id, since, step, ordinal, node, digest, choice, value, made_at)
    SELECT $1, $5::uuid, $6, n.* FROM (SELECT * FROM handed UNION ALL SELECT * FROM picked) n
    RETURNING value
    """,  # noqa: S608  # our own constants
)

# A step that has taken one, and has made its call, knows it already.
_RENAME = session.Statement(
    name="choice_rename",
    types="text, text, bigint, text[], text[]",
    sql="""
    WITH named AS (SELECT * FROM unnest($4, $5) AS n (was, becomes)),
    held AS (
        SELECT k.*, coalesce(n.becomes, k.node) AS now FROM chosen_call k LEFT JOIN named n ON n.was = k.node
        WHERE k.tenant_id = $1 AND k.run_id = $2::uuid AND k.until IS NULL AND NOT EXISTS (SELECT FROM call t
            WHERE t.tenant_id = k.tenant_id AND t.run_id = k.run_id AND t.step = k.taken_step AND t.ordinal = k.taken_ordinal)),
    replaced AS (
        UPDATE chosen_call SET until = $3 WHERE tenant_id = $1 AND run_id = $2::uuid AND until IS NULL)
    INSERT INTO chosen_call (tenant_id, run_id, since, step, ordinal, node, digest, choice, value, made_at, taken_step,
        taken_ordinal)
    SELECT tenant_id, run_id, $3, step, ordinal, now, digest, choice, value, made_at, taken_step, taken_ordinal
    FROM held RETURNING value
    """,
)

# Of a choice `k` that lets its call through only when the one that it is for is undone: what has become of that. It may
# have been made by a run that this one goes on from.
_FATE = f"""
    CASE WHEN k.choice IN ('refuse', 'compensate') THEN coalesce((SELECT {undone.told(calls.NEVER_MADE)}
        FROM undone_call u JOIN run b ON b.tenant_id = u.tenant_id AND b.id = u.by_run
        JOIN call c ON c.tenant_id = u.tenant_id AND c.run_id = u.run_id AND c.step = u.step AND c.ordinal = u.ordinal
            AND c.digest = k.digest AND c.started_at = k.made_at
        WHERE u.tenant_id = k.tenant_id AND u.step = k.step AND u.ordinal = k.ordinal LIMIT 1), 'stands') END
"""  # noqa: S608  # our own constants
_TAKE = session.Statement(
    name="choice_take",
    types="text, text, text, int, text, text",
    sql=f"""
    WITH mine AS (
        SELECT tenant_id, run_id, since, step, ordinal, made_at FROM chosen_call
        WHERE tenant_id = $1 AND run_id = $2::uuid AND until IS NULL AND node = $5 AND digest = $6
            AND (taken_step IS NULL OR (taken_step = $3 AND taken_ordinal = $4))
        ORDER BY taken_step IS NULL, made_at, step, ordinal LIMIT 1 FOR UPDATE),
    told AS (SELECT m.*, {_FATE} AS fate FROM mine m JOIN chosen_call k USING (tenant_id, run_id, since, step, ordinal, made_at)),
    taken AS (
        UPDATE chosen_call k SET taken_step = $3, taken_ordinal = $4 FROM told m
        WHERE k.tenant_id = m.tenant_id AND k.run_id = m.run_id AND k.since = m.since AND k.step = m.step
            AND k.ordinal = m.ordinal AND k.made_at = m.made_at AND coalesce(m.fate = 'undone', true))
    SELECT k.choice, k.value::text AS value, k.step, k.ordinal, k.made_at, m.fate
    FROM told m JOIN chosen_call k USING (tenant_id, run_id, since, step, ordinal, made_at)
    """,  # noqa: S608  # our own constants
)


def choose(
    connection: Connection,
    place: tuple[RunId, int, datetime],
    to: RunId,
    chosen: Sequence[Chosen],
    *,
    since: int,
    nodes: Mapping[str, str],
) -> Sequence[Row[Any]]:
    """Keep what becomes, in a run, of calls that were made before and after a place: its run, line and time.

    That is what was `chosen` for those after it, and what had been, and was not taken there, for those before. It holds
    from a line of the run that goes on (0: it begins), instead of what did so far. `nodes`: of which node each step is
    there, where that is not what its name says. The values that may be served.
    """
    run, seq, at = place
    return session.run(
        connection,
        _CHOOSE,
        *(run.tenant, run.run, seq, at, to.run, since),
        [one.step for one in chosen],
        [one.ordinal for one in chosen],
        [one.choice for one in chosen],
        sorted(calls.NEVER_MADE),
        [*nodes],
        [*nodes.values()],
    )


def rename(
    connection: Connection, run: RunId, nodes: Mapping[NodeId, NodeId], *, since: int
) -> None:
    """Let what was chosen hold for nodes that have other names from a line on."""
    session.run(connection, _RENAME, run.tenant, run.run, since, [*nodes], [*nodes.values()])


def take(
    connection: Connection, step: StepId, ordinal: int, *, node: str, digest: str
) -> Row[Any] | None:
    """What was chosen for a call that a step is about to make; None: nothing. Safe to repeat.

    `fate`: of one that is let through only when another is undone, what has become of that (`undone.fate`).
    """
    return next(iter(session.run(connection, _TAKE, *step, ordinal, node, digest)), None)
