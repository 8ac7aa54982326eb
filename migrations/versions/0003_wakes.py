"""When somebody must look at a run although nothing was reported: a wake of the run as a whole.

Steps have wakes of their own; this one is for what waits in the run's head, such as a join that
will not wait for ever. A run that has ended waits for nothing.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE run ADD COLUMN wake_at timestamptz")
    op.execute(
        "ALTER TABLE run ADD CONSTRAINT run_wakes_until_finished"
        " CHECK (wake_at IS NULL OR finished_at IS NULL)"
    )
    op.execute("CREATE INDEX run_wakes ON run (wake_at) WHERE wake_at IS NOT NULL")
    op.execute("GRANT UPDATE (wake_at) ON run TO celeriac_control")


def downgrade() -> None:
    op.execute("ALTER TABLE run DROP COLUMN wake_at")
