"""Runs that go on from a place of another one.

Where a run comes from is said when it is submitted, and never changes. The other run may be gone by
then: nothing binds the two.
"""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

LINEAGE = """
ALTER TABLE run ADD COLUMN forked_run uuid, ADD COLUMN forked_seq bigint,
    ADD CONSTRAINT run_forked_at_a_line CHECK ((forked_run IS NULL) = (forked_seq IS NULL));
CREATE INDEX run_forks ON run (tenant_id, forked_run) WHERE forked_run IS NOT NULL;
"""

# What is left of the first line of a fork is of the shape that its fold expects.
_SUBMITTED = "WHEN 'RunSubmitted' THEN json_build_object('inputs', mark)"
_FORKED = """WHEN 'Forked' THEN json_build_object('variables', mark)
            WHEN 'ResultGiven' THEN json_build_object('result', json_build_object('inline', mark))"""
SHRED = """
DO $do$ BEGIN
    EXECUTE replace(pg_get_functiondef('shred_payloads(text, uuid, text)'::regprocedure),
        $was${was}$was$, $is${becomes}$is$);
END $do$;
"""


def upgrade() -> None:
    op.execute(LINEAGE)
    op.execute(SHRED.format(was=_SUBMITTED, becomes=f"{_SUBMITTED}\n            {_FORKED}"))


def downgrade() -> None:
    op.execute(SHRED.format(was=f"{_SUBMITTED}\n            {_FORKED}", becomes=_SUBMITTED))
    op.execute("ALTER TABLE run DROP COLUMN forked_run, DROP COLUMN forked_seq")
