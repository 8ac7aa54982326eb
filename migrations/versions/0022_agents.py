"""Agents: what they are called, whether they are there still, and their versions.

A version names the workflow that it runs as and, where steps call it, the version of its function. It
is never changed. An agent that was removed keeps its versions: what was pinned runs on.
"""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE agent (
    tenant_id text NOT NULL REFERENCES tenant,
    name text NOT NULL CHECK (name ~ '^[A-Za-z_][A-Za-z0-9_.-]{0,99}$'),
    removed boolean NOT NULL DEFAULT false,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, name)
);
CREATE TABLE agent_version (
    tenant_id text NOT NULL,
    name text NOT NULL,
    major integer NOT NULL CHECK (major > 0),
    minor integer NOT NULL CHECK (minor >= 0),
    definition json NOT NULL,
    uses json NOT NULL,
    function_version integer CHECK (function_version > 0),
    version_id uuid NOT NULL,
    checksum text NOT NULL CHECK (checksum ~ '^[0-9a-f]{64}$'),
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, name, major, minor),
    FOREIGN KEY (tenant_id, name) REFERENCES agent (tenant_id, name),
    FOREIGN KEY (tenant_id, version_id) REFERENCES workflow_version (tenant_id, id)
);
GRANT SELECT, INSERT ON agent, agent_version TO celeriac_control;
GRANT UPDATE (removed, changed_by, changed_at) ON agent TO celeriac_control;
SELECT raise_wall('agent'), raise_wall('agent_version');
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute("DROP TABLE agent_version, agent")
