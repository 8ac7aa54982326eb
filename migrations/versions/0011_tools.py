"""What a tool asks of its callers, and how it stands: the first is part of its version."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE function
            ADD schema json,
            ADD required_permissions text[] NOT NULL DEFAULT '{}',
            ADD cost_estimate_usd numeric(20, 9) NOT NULL DEFAULT 0 CHECK (cost_estimate_usd >= 0),
            ADD tokens_estimate bigint NOT NULL DEFAULT 0 CHECK (tokens_estimate >= 0),
            ADD timeout_seconds double precision NOT NULL DEFAULT 30 CHECK (timeout_seconds > 0),
            ADD rate_per_minute integer CHECK (rate_per_minute > 0),
            ADD rate_per_hour integer CHECK (rate_per_hour > 0),
            ADD requires_approval boolean NOT NULL DEFAULT false,
            ADD category text;
        CREATE TABLE tool (
            tenant_id text NOT NULL REFERENCES tenant,
            name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
            status text NOT NULL
                CHECK (status IN ('active', 'deprecated', 'disabled', 'maintenance')),
            tags text[] NOT NULL DEFAULT '{}',
            changed_by text NOT NULL,
            changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            PRIMARY KEY (tenant_id, name)
        );
        GRANT SELECT, INSERT, UPDATE ON tool TO celeriac_control;
        GRANT SELECT ON tool TO celeriac_worker;
        """
    )


def downgrade() -> None:
    op.execute(
        """
        DROP TABLE tool;
        ALTER TABLE function
            DROP schema, DROP required_permissions, DROP cost_estimate_usd, DROP tokens_estimate,
            DROP timeout_seconds, DROP rate_per_minute, DROP rate_per_hour,
            DROP requires_approval, DROP category;
        """
    )
