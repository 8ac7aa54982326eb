"""Runs that go on from an earlier place of their own.

When a run went back is told by its history; few runs ever do, and those lines are found at once. What
becomes of calls that were made since is chosen, for them and for forks, and waits until the run makes
the same call.
"""

from __future__ import annotations

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

LINES = "CREATE INDEX history_rollbacks ON history (tenant_id, run_id, seq) WHERE kind = 'RollBack'"

CHOSEN = """
CREATE TABLE chosen_call (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    step text NOT NULL,
    ordinal integer NOT NULL CHECK (ordinal > 0),
    node text NOT NULL,
    digest text NOT NULL,
    choice text NOT NULL CHECK (choice IN ('reuse', 'skip', 'execute', 'refuse')),
    value json,
    made_at timestamptz NOT NULL,
    taken_step text,
    taken_ordinal integer,
    PRIMARY KEY (tenant_id, run_id, step, ordinal, made_at),
    FOREIGN KEY (tenant_id, run_id) REFERENCES run (tenant_id, id),
    CONSTRAINT chosen_call_taken_by_a_call CHECK ((taken_step IS NULL) = (taken_ordinal IS NULL))
);
GRANT SELECT, INSERT, DELETE ON chosen_call TO celeriac_control;
GRANT SELECT ON chosen_call TO celeriac_worker;
GRANT UPDATE (choice, value, taken_step, taken_ordinal) ON chosen_call TO celeriac_control;
GRANT UPDATE (taken_step, taken_ordinal) ON chosen_call TO celeriac_worker;
SELECT raise_wall('chosen_call');
"""

# What is left of what was asked for is of the shape that its fold expects.
_FORKED = "WHEN 'Forked' THEN json_build_object('variables', mark)"
_ASKED = "WHEN 'RollbackRequested' THEN json_build_object('variables', mark)"
SHRED = """
DO $do$ BEGIN
    EXECUTE replace(pg_get_functiondef('shred_payloads(text, uuid, text)'::regprocedure),
        $was${was}$was$, $is${becomes}$is$);
END $do$;
"""


_RESULTS = "UPDATE public.call_result c SET value = mark"
_SERVED = """UPDATE public.chosen_call c SET value = mark WHERE c.tenant_id = tenant AND c.run_id = run
        AND c.value IS NOT NULL AND (only_step IS NULL OR only_step IN (c.step, c.taken_step));
    """


def upgrade() -> None:
    op.execute(LINES)
    op.execute(CHOSEN)
    op.execute(SHRED.format(was=_RESULTS, becomes=_SERVED + _RESULTS))
    op.execute(SHRED.format(was=_FORKED, becomes=f"{_FORKED}\n            {_ASKED}"))


def downgrade() -> None:
    op.execute(SHRED.format(was=f"{_FORKED}\n            {_ASKED}", becomes=_FORKED))
    op.execute(SHRED.format(was=_SERVED + _RESULTS, becomes=_RESULTS))
    op.execute("DROP TABLE chosen_call")
    op.execute("DROP INDEX history_rollbacks")
