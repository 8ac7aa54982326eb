"""Calls that are undone by calls of other tools.

A tool may name what undoes a call of it. Whoever asks that calls of a run be undone starts a run that does it;
which calls it undoes, and in which order, is kept (`undoing_call`), and which of several such runs counts for a call
(`undone_call`).
"""

from __future__ import annotations

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

UNDONE = """
ALTER TABLE function ADD undo json;
CREATE TABLE undone_call (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    step text NOT NULL,
    ordinal integer NOT NULL CHECK (ordinal > 0),
    by_run uuid NOT NULL,
    place integer NOT NULL CHECK (place >= 0),
    settled text CHECK (settled IN ('undone', 'stands')),
    PRIMARY KEY (tenant_id, run_id, step, ordinal),
    FOREIGN KEY (tenant_id, run_id) REFERENCES run (tenant_id, id),
    FOREIGN KEY (tenant_id, by_run) REFERENCES run (tenant_id, id)
);
CREATE UNIQUE INDEX undone_call_by ON undone_call (tenant_id, by_run, place);
CREATE TABLE undoing_call (
    tenant_id text NOT NULL,
    by_run uuid NOT NULL,
    place integer NOT NULL CHECK (place >= 0),
    run_id uuid NOT NULL,
    step text NOT NULL,
    ordinal integer NOT NULL,
    PRIMARY KEY (tenant_id, by_run, place),
    FOREIGN KEY (tenant_id, run_id, step, ordinal) REFERENCES undone_call (tenant_id, run_id, step, ordinal),
    FOREIGN KEY (tenant_id, by_run) REFERENCES run (tenant_id, id)
);
CREATE INDEX undoing_call_call ON undoing_call (tenant_id, run_id, step, ordinal);
GRANT SELECT, INSERT ON undone_call, undoing_call TO celeriac_control;
GRANT UPDATE (by_run, place, settled) ON undone_call TO celeriac_control;
SELECT raise_wall('undone_call');
SELECT raise_wall('undoing_call');
"""

# What was served by a choice that was taken back since is not known any more.
SERVED = """
ALTER TABLE call ADD served timestamptz;
CREATE INDEX call_served ON call (tenant_id, served) WHERE served IS NOT NULL;
UPDATE call c SET served = k.made_at FROM chosen_call k
WHERE k.tenant_id = c.tenant_id AND k.run_id = c.run_id AND k.taken_step = c.step AND k.taken_ordinal = c.ordinal
    AND k.choice IN ('reuse', 'skip');
UPDATE call c SET served = o.served FROM call o
WHERE o.served IS NOT NULL AND c.served IS NULL AND c.tenant_id = o.tenant_id AND c.digest = o.digest
    AND c.started_at = o.started_at;
"""


def upgrade() -> None:
    op.execute(UNDONE)
    op.execute(SERVED)


def downgrade() -> None:
    op.execute("DROP TABLE undoing_call, undone_call")
    op.execute("ALTER TABLE function DROP undo")
    op.execute("ALTER TABLE call DROP served")
