"""Runs that go on under another version of their workflow.

Which version a run was under before, and from which line of its history on it is under another, is kept
beside it. Whoever made it, and the name of the workflow, stay as they were submitted.
"""

from __future__ import annotations

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

MOVES = """
CREATE TABLE migration (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    version_id uuid NOT NULL,
    was uuid NOT NULL,
    was_pins json NOT NULL,
    PRIMARY KEY (tenant_id, run_id, seq),
    FOREIGN KEY (tenant_id, run_id) REFERENCES run (tenant_id, id),
    FOREIGN KEY (tenant_id, version_id) REFERENCES workflow_version (tenant_id, id),
    FOREIGN KEY (tenant_id, was) REFERENCES workflow_version (tenant_id, id)
);
GRANT SELECT, INSERT ON migration TO celeriac_control;
-- The code of a step may ask for the executions that led to it.
GRANT SELECT ON migration TO celeriac_worker;
SELECT raise_wall('migration');
GRANT UPDATE (version_id, pins) ON run TO celeriac_control;
SELECT share_grants('run');
"""


def upgrade() -> None:
    op.execute(MOVES)


def downgrade() -> None:
    op.execute(
        """
        REVOKE UPDATE (version_id, pins) ON run FROM celeriac_control, celeriac_api;
        DROP TABLE migration;
        """
    )
