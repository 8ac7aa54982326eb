"""Bundles as they were uploaded, and what led to a step for those who carry it out.

A bundle's row is written once, when all that came of it is known: whoever is told its id finds
how it ended. Workers read the history of runs, because the code of a step may
ask for the executions that led to it.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE bundle (
            tenant_id text NOT NULL REFERENCES tenant,
            id uuid NOT NULL,
            correlation_id text NOT NULL,
            file text NOT NULL,
            size bigint NOT NULL,
            sha256 text NOT NULL,
            status text NOT NULL CHECK (status IN ('COMPLETED', 'FAILED')),
            steps json NOT NULL,
            problems json NOT NULL DEFAULT '[]',
            warnings json NOT NULL DEFAULT '[]',
            version_id uuid,
            created_by text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            PRIMARY KEY (tenant_id, id),
            FOREIGN KEY (tenant_id, version_id) REFERENCES workflow_version (tenant_id, id),
            CONSTRAINT bundle_completed_has_version
                CHECK ((status = 'COMPLETED') = (version_id IS NOT NULL))
        );
        GRANT SELECT, INSERT ON bundle TO celeriac_control;
        GRANT SELECT ON history TO celeriac_worker;
        """
    )


def downgrade() -> None:
    op.execute("REVOKE SELECT ON history FROM celeriac_worker")
    op.execute("DROP TABLE bundle")
