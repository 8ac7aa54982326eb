"""What people do that is not an event of a run: kept for good, in rows that nobody may alter.

A row says who did what to what, when and why, with digests of how it was before and after.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE admin_act (
            tenant_id text NOT NULL REFERENCES tenant,
            id uuid NOT NULL,
            at timestamptz NOT NULL DEFAULT clock_timestamp(),
            by text NOT NULL,
            action text NOT NULL CHECK (action ~ '^[a-z_]+[.][a-z_]+$'),
            subject text NOT NULL,
            why text NOT NULL DEFAULT '',
            detail json NOT NULL DEFAULT '{}',
            before text CHECK (before ~ '^[0-9a-f]{64}$'),
            after text CHECK (after ~ '^[0-9a-f]{64}$'),
            PRIMARY KEY (tenant_id, id)
        );
        CREATE INDEX admin_act_subject ON admin_act (tenant_id, subject);
        GRANT SELECT, INSERT ON admin_act TO celeriac_control;
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE admin_act")
