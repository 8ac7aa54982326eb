"""Runs that go on from an earlier place of their own.

When a run went back is told by its history; few runs ever do, and those lines are found at once.
"""

from __future__ import annotations

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

LINES = "CREATE INDEX history_rollbacks ON history (tenant_id, run_id, seq) WHERE kind = 'RollBack'"

# What is left of what was asked for is of the shape that its fold expects.
_FORKED = "WHEN 'Forked' THEN json_build_object('variables', mark)"
_ASKED = "WHEN 'RollbackRequested' THEN json_build_object('variables', mark)"
SHRED = """
DO $do$ BEGIN
    EXECUTE replace(pg_get_functiondef('shred_payloads(text, uuid, text)'::regprocedure),
        $was${was}$was$, $is${becomes}$is$);
END $do$;
"""


def upgrade() -> None:
    op.execute(LINES)
    op.execute(SHRED.format(was=_FORKED, becomes=f"{_FORKED}\n            {_ASKED}"))


def downgrade() -> None:
    op.execute(SHRED.format(was=f"{_FORKED}\n            {_ASKED}", becomes=_FORKED))
    op.execute("DROP INDEX history_rollbacks")
