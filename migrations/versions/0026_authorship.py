"""Which versions of agents and workflows were written by runs, and by which step of them.

Steps publish by a call, and workers carry calls out. So workers may add versions, and nothing that was
published is theirs to change.
"""

from __future__ import annotations

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE authorship (
    tenant_id text NOT NULL REFERENCES tenant,
    kind text NOT NULL CHECK (kind IN ('agent', 'workflow')),
    name text NOT NULL,
    version text NOT NULL,
    run_id uuid NOT NULL,
    step text NOT NULL,
    root uuid NOT NULL,
    workflow text NOT NULL,
    parent text,
    digest text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, kind, name, version)
);
CREATE INDEX authorship_root ON authorship (tenant_id, root);
CREATE INDEX authorship_step ON authorship (tenant_id, run_id, step);
CREATE INDEX authorship_day ON authorship (tenant_id, written_at);
GRANT SELECT, INSERT ON authorship TO celeriac_control;
SELECT raise_wall('authorship');
"""

WORKERS = """
GRANT SELECT, INSERT ON authorship, agent, agent_version, workflow, workflow_draft TO celeriac_worker;
GRANT INSERT ON workflow_version, function, admin_act TO celeriac_worker;
GRANT UPDATE (removed, changed_by, changed_at) ON agent TO celeriac_worker;
GRANT UPDATE (revision, text, saved_by, saved_at) ON workflow_draft TO celeriac_worker;
"""


def upgrade() -> None:
    op.execute(TABLE)
    op.execute(WORKERS)


def downgrade() -> None:
    op.execute(
        """
        REVOKE ALL ON agent, agent_version, workflow, workflow_draft FROM celeriac_worker;
        REVOKE UPDATE (removed, changed_by, changed_at) ON agent FROM celeriac_worker;
        REVOKE UPDATE (revision, text, saved_by, saved_at) ON workflow_draft FROM celeriac_worker;
        REVOKE INSERT ON workflow_version, function, admin_act FROM celeriac_worker;
        DROP TABLE authorship;
        """
    )
