"""Names of places in runs.

The place is a line of history, the name is what people call it by. A place has one name, and a name
one place of its run.
"""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

NAMES = """
CREATE TABLE checkpoint_name (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    named_by text NOT NULL,
    named_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, run_id, seq),
    UNIQUE (tenant_id, run_id, name),
    FOREIGN KEY (tenant_id, run_id) REFERENCES run (tenant_id, id)
);
GRANT SELECT, INSERT ON checkpoint_name TO celeriac_control;
GRANT UPDATE (name, named_by, named_at) ON checkpoint_name TO celeriac_control;
SELECT raise_wall('checkpoint_name');
"""


def upgrade() -> None:
    op.execute(NAMES)


def downgrade() -> None:
    op.execute("DROP TABLE checkpoint_name")
