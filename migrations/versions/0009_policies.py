"""Policies in versions that never change, which version of each is in force, and a number that
every change of what is in force moves on, so that whoever has read them knows when to read again.
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE tenant ADD COLUMN governance bigint NOT NULL DEFAULT 0;
        GRANT UPDATE (governance) ON tenant TO celeriac_control;

        CREATE TABLE policy_version (
            tenant_id text NOT NULL REFERENCES tenant,
            name text NOT NULL,
            version integer NOT NULL CHECK (version >= 1),
            document text NOT NULL,
            checksum text NOT NULL CHECK (checksum ~ '^[0-9a-f]{64}$'),
            created_by text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            PRIMARY KEY (tenant_id, name, version)
        );
        GRANT SELECT, INSERT ON policy_version TO celeriac_control;

        -- Without a version it has been withdrawn.
        CREATE TABLE policy (
            tenant_id text NOT NULL REFERENCES tenant,
            name text NOT NULL,
            active integer,
            changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            PRIMARY KEY (tenant_id, name),
            FOREIGN KEY (tenant_id, name, active) REFERENCES policy_version (tenant_id, name, version)
        );
        GRANT SELECT, INSERT ON policy TO celeriac_control;
        GRANT UPDATE (active, changed_at) ON policy TO celeriac_control;

        -- A worker that asks whether a call may be made judges by the same policies.
        GRANT SELECT ON policy_version, policy, tenant TO celeriac_worker;
        """
    )


def downgrade() -> None:
    op.execute(
        """
        DROP TABLE policy, policy_version;
        REVOKE SELECT ON tenant FROM celeriac_worker;
        ALTER TABLE tenant DROP COLUMN governance;
        """
    )
