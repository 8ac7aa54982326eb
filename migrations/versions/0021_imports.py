"""Runs that were recorded elsewhere, and are here to be looked at.

Where one comes from is said when it is brought in, and never changes. The version that it ran is kept
beside it, and is none that anybody could run.
"""

from __future__ import annotations

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

IMPORTS = """
ALTER TABLE workflow_version ADD COLUMN imported boolean NOT NULL DEFAULT false;
ALTER TABLE run ADD COLUMN imported json,
    ADD CONSTRAINT run_imported_has_ended CHECK (imported IS NULL OR finished_at IS NOT NULL);
CREATE INDEX run_imports ON run (tenant_id, id) WHERE imported IS NOT NULL;
"""


def upgrade() -> None:
    op.execute(IMPORTS)


def downgrade() -> None:
    op.execute("ALTER TABLE run DROP COLUMN imported")
    op.execute("ALTER TABLE workflow_version DROP COLUMN imported")
