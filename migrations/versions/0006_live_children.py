"""The children of a run that still live, found however many it has had.

Every turn of a run that may have children asks for those that nobody waits for any more; a map
over many child runs would otherwise read all that have ended, once for each of them.
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE INDEX run_live_children ON run (tenant_id, parent_run)
        WHERE parent_run IS NOT NULL AND finished_at IS NULL
        """
    )


def downgrade() -> None:
    op.execute("DROP INDEX run_live_children")
