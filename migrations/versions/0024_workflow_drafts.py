"""Notes on versions of workflows, versions that are retired, and drafts.

A version that is retired stays as it is, for the runs that it has had: only who retired it, and when,
is written beside it.
"""

from __future__ import annotations

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

VERSIONS = """
ALTER TABLE workflow_version
    ADD COLUMN notes text NOT NULL DEFAULT '',
    ADD COLUMN retired_at timestamptz,
    ADD COLUMN retired_by text,
    ADD CONSTRAINT workflow_version_notes_check CHECK (length(notes) <= 4000),
    ADD CONSTRAINT workflow_version_retired_by_somebody
        CHECK ((retired_at IS NULL) = (retired_by IS NULL));
GRANT UPDATE (retired_at, retired_by) ON workflow_version TO celeriac_control;
SELECT share_grants('workflow_version');
"""

DRAFTS = """
CREATE TABLE workflow_draft (
    tenant_id text NOT NULL REFERENCES tenant (id),
    workflow text NOT NULL CHECK (length(workflow) BETWEEN 1 AND 200),
    revision integer NOT NULL CHECK (revision >= 1),
    text text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    saved_by text NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, workflow)
);
GRANT SELECT, INSERT, DELETE ON workflow_draft TO celeriac_control;
GRANT UPDATE (revision, text, saved_by, saved_at) ON workflow_draft TO celeriac_control;
SELECT raise_wall('workflow_draft');
"""


def upgrade() -> None:
    op.execute(VERSIONS)
    op.execute(DRAFTS)


def downgrade() -> None:
    op.execute("DROP TABLE workflow_draft")
    op.execute(
        """
        REVOKE UPDATE (retired_at, retired_by) ON workflow_version
            FROM celeriac_control, celeriac_api;
        ALTER TABLE workflow_version DROP COLUMN notes, DROP COLUMN retired_at,
            DROP COLUMN retired_by;
        """
    )
