"""Steps that are ready stand in lanes of their queue, so that no tenant waits for another.

The index holds what is ready and no more: which tenants have something in a lane, and since when.
"""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

LANES = """
ALTER TABLE step ADD COLUMN lane integer NOT NULL DEFAULT 0;
CREATE INDEX step_lines ON step (coalesce(queue, ''), lane, tenant_id, wake_at)
    WHERE status = 'ready';
"""


def upgrade() -> None:
    op.execute(LANES)


def downgrade() -> None:
    op.execute("ALTER TABLE step DROP COLUMN lane")
