"""Blobs: a row for each value that is too large for a row, and who refers to it.

References belong to runs and go with them: they are appended, and partitioned as all that a
run has. What no reference names for a day is collected (`engine.runs.large`).
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BLOBS = """
CREATE TABLE blob (
    tenant_id text NOT NULL REFERENCES tenant,
    sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    size bigint NOT NULL CHECK (size >= 0),
    state text NOT NULL CHECK (state IN ('wanted', 'stored', 'condemned')),
    touched_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, sha256)
);
CREATE INDEX blob_touched ON blob (touched_at);
CREATE INDEX blob_condemned ON blob (touched_at) WHERE state = 'condemned';

CREATE TABLE blob_reference (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    sha256 text NOT NULL,
    PRIMARY KEY (tenant_id, run_id, sha256)
) PARTITION BY RANGE (run_id);
CREATE INDEX blob_referenced ON blob_reference (tenant_id, sha256);
"""

# A blob is written by whoever has a large value, and taken away by the coordinator alone.
GRANTS = """
GRANT SELECT, INSERT ON blob, blob_reference TO celeriac_control;
GRANT UPDATE (state, touched_at), DELETE ON blob TO celeriac_control;
GRANT SELECT, INSERT ON blob TO celeriac_worker;
GRANT UPDATE (state, touched_at) ON blob TO celeriac_worker;
GRANT INSERT ON blob_reference TO celeriac_worker;
"""


def upgrade() -> None:
    op.execute(BLOBS)
    op.execute("SELECT ensure_partitions(CURRENT_DATE, 3)")
    op.execute(GRANTS)


def downgrade() -> None:
    op.execute("DROP TABLE blob_reference, blob")
