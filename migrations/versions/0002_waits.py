"""Steps that wait: for a time, an event, people, another run, the items of a map, a lock.

A waiting step is a row like any other; what it waits for is a row beside it, gone with it.
Whoever settles a wait moves the step row from `waiting` to `reported`, and only one can.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STEPS = """
ALTER TABLE step
    ADD COLUMN wait text,
    ADD COLUMN "of" text,
    ADD COLUMN item integer,
    ADD COLUMN holds json NOT NULL DEFAULT '[]',
    ADD COLUMN awaits text,
    ADD COLUMN asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    DROP CONSTRAINT step_status_check,
    ADD CONSTRAINT step_status_check CHECK (status IN
        ('deferred', 'held', 'ready', 'leased', 'reported', 'retrying', 'waiting')),
    DROP CONSTRAINT step_waiting_wakes,
    ADD CONSTRAINT step_waiting_wakes CHECK (status = 'waiting'
        OR (status IN ('deferred', 'ready', 'retrying')) = (wake_at IS NOT NULL)),
    ADD CONSTRAINT step_waits_for_something CHECK (status <> 'waiting' OR wait IS NOT NULL);
CREATE INDEX step_awaits ON step (tenant_id, awaits, asked_at) WHERE awaits IS NOT NULL;
"""

RUNS = """
ALTER TABLE run
    ADD COLUMN parent_run uuid,
    ADD COLUMN parent_step text,
    ADD COLUMN parent_attempt integer,
    ADD COLUMN orphan text CHECK (orphan IN ('cancel', 'finish')),
    ADD COLUMN depth integer NOT NULL DEFAULT 0,
    ADD COLUMN outputs json,
    ADD CONSTRAINT run_child_has_parent CHECK ((parent_run IS NULL) = (parent_step IS NULL)
        AND (parent_run IS NULL) = (parent_attempt IS NULL)
        AND (parent_run IS NULL) = (orphan IS NULL));
CREATE INDEX run_children ON run (tenant_id, parent_run, parent_step)
    WHERE parent_run IS NOT NULL;
GRANT UPDATE (outputs) ON run TO celeriac_control;
"""

WAITS = """
CREATE TABLE wait (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    step text NOT NULL,
    kind text NOT NULL,
    name text NOT NULL DEFAULT '',
    correlation text NOT NULL DEFAULT '',
    transient boolean NOT NULL DEFAULT false,
    asks json NOT NULL DEFAULT '{}',
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, run_id, step),
    FOREIGN KEY (tenant_id, run_id, step) REFERENCES step (tenant_id, run_id, key)
        ON DELETE CASCADE
);
CREATE INDEX wait_events ON wait (tenant_id, name, correlation) WHERE kind = 'event';
CREATE INDEX wait_people ON wait (tenant_id, opened_at) WHERE kind IN ('approval', 'input');

CREATE TABLE event (
    tenant_id text NOT NULL REFERENCES tenant,
    id uuid NOT NULL,
    key text,
    digest text NOT NULL,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    run_id uuid,
    match json NOT NULL DEFAULT '{}',
    correlation text NOT NULL DEFAULT '',
    payload json,
    sent_by text NOT NULL,
    state text NOT NULL DEFAULT 'kept' CHECK (state IN ('kept', 'claimed', 'dropped', 'refused')),
    detail text NOT NULL DEFAULT '',
    claimed_run uuid,
    claimed_step text,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT event_claimed_by_a_step CHECK (
        (state = 'claimed') = (claimed_run IS NOT NULL)
        AND (state = 'claimed') = (claimed_step IS NOT NULL))
);
CREATE UNIQUE INDEX event_once ON event (tenant_id, key) WHERE key IS NOT NULL;
CREATE INDEX event_kept ON event (tenant_id, name, correlation) WHERE state = 'kept';
CREATE INDEX event_expires ON event (expires_at);

CREATE TABLE lock (
    tenant_id text NOT NULL,
    name text NOT NULL,
    run_id uuid NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, name),
    FOREIGN KEY (tenant_id, run_id) REFERENCES run (tenant_id, id)
);
CREATE INDEX lock_run ON lock (tenant_id, run_id);

CREATE TABLE answer (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    step text NOT NULL,
    attempt integer NOT NULL,
    said_by text NOT NULL,
    choice text NOT NULL DEFAULT '',
    form json NOT NULL DEFAULT '{}',
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, run_id, step, attempt, said_by)
) PARTITION BY RANGE (run_id);

GRANT SELECT, INSERT, UPDATE, DELETE ON wait, event, lock TO celeriac_control;
GRANT SELECT, INSERT ON answer TO celeriac_control;
GRANT SELECT ON payload TO celeriac_worker;
"""


def upgrade() -> None:
    for statements in (STEPS, RUNS, WAITS):
        op.execute(statements)
    op.execute("SELECT ensure_partitions(CURRENT_DATE, 3)")


def downgrade() -> None:
    op.execute("DROP TABLE answer, lock, event, wait")
    op.execute("REVOKE SELECT ON payload FROM celeriac_worker")
    op.execute(
        """
        DROP INDEX run_children;
        ALTER TABLE run DROP COLUMN parent_run, DROP COLUMN parent_step,
            DROP COLUMN parent_attempt, DROP COLUMN orphan, DROP COLUMN depth, DROP COLUMN outputs;
        DROP INDEX step_awaits;
        ALTER TABLE step DROP COLUMN wait, DROP COLUMN "of", DROP COLUMN item, DROP COLUMN holds,
            DROP COLUMN awaits, DROP COLUMN asked_at, DROP CONSTRAINT step_status_check,
            ADD CONSTRAINT step_status_check CHECK (status IN
                ('deferred', 'held', 'ready', 'leased', 'reported', 'retrying')),
            DROP CONSTRAINT IF EXISTS step_waiting_wakes,
            ADD CONSTRAINT step_waiting_wakes CHECK (
                (status IN ('deferred', 'ready', 'retrying')) = (wake_at IS NOT NULL));
        """
    )
