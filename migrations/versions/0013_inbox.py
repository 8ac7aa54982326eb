"""What people are asked outlives the step that asks; says can be handed to others.

A row of `question` is written when a step begins to ask, one of `verdict` when that is settled:
neither is ever altered. Whose say an answer is, and why it was given, stands in the answer. A
question that nobody settles in time is put to others, too: `escalates_at` says when, `who` to whom.
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

WAITS = """
ALTER TABLE wait
    ADD COLUMN round integer NOT NULL DEFAULT 1,
    ADD COLUMN who text[] NOT NULL DEFAULT '{}',
    ADD COLUMN tool text,
    ADD COLUMN four_eyes boolean NOT NULL DEFAULT false,
    ADD COLUMN escalates_at timestamptz,
    ADD COLUMN escalated_at timestamptz;
UPDATE wait SET who = ARRAY(SELECT json_array_elements_text(asks -> 'from'))
WHERE json_typeof(asks -> 'from') = 'array';
DROP INDEX wait_people;
CREATE INDEX wait_people ON wait (tenant_id, opened_at)
    WHERE kind IN ('approval', 'input', 'permit');
CREATE INDEX wait_escalates ON wait (escalates_at) WHERE escalates_at IS NOT NULL;
"""

QUESTIONS = """
CREATE TABLE question (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    step text NOT NULL,
    attempt integer NOT NULL,
    round integer NOT NULL DEFAULT 1,
    kind text NOT NULL,
    tool text,
    asks json NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    PRIMARY KEY (tenant_id, run_id, step, attempt, round)
) PARTITION BY RANGE (run_id);
CREATE INDEX question_asked ON question (tenant_id, asked_at);

CREATE TABLE verdict (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    step text NOT NULL,
    attempt integer NOT NULL,
    round integer NOT NULL DEFAULT 1,
    by text NOT NULL,
    choice text,
    approved boolean,
    tool text,
    message text NOT NULL DEFAULT '',
    escalated_at timestamptz,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, run_id, step, attempt, round)
) PARTITION BY RANGE (run_id);
CREATE INDEX verdict_approved ON verdict (tenant_id, tool, at) WHERE approved;

ALTER TABLE answer
    ADD COLUMN round integer NOT NULL DEFAULT 1,
    ADD COLUMN say_of text,
    ADD COLUMN delegation uuid,
    ADD COLUMN reason text NOT NULL DEFAULT '',
    ADD COLUMN digest text;
UPDATE answer SET say_of = said_by;
ALTER TABLE answer
    ALTER COLUMN say_of SET NOT NULL,
    DROP CONSTRAINT answer_pkey,
    ADD CONSTRAINT answer_pkey PRIMARY KEY (tenant_id, run_id, step, attempt, round, said_by),
    ADD CONSTRAINT answer_say_counts_once
        UNIQUE (tenant_id, run_id, step, attempt, round, say_of);
GRANT SELECT, INSERT ON question, verdict TO celeriac_control;
"""

#: Once there are partitions.
OPEN = """
INSERT INTO question (tenant_id, run_id, step, attempt, kind, asks, asked_at, expires_at)
SELECT w.tenant_id, w.run_id, w.step, s.attempt, w.kind, w.asks, w.opened_at, s.wake_at
FROM wait w JOIN step s ON s.tenant_id = w.tenant_id AND s.run_id = w.run_id AND s.key = w.step
WHERE w.kind IN ('approval', 'input');
"""

DELEGATIONS = """
CREATE TABLE delegation (
    tenant_id text NOT NULL REFERENCES tenant,
    id uuid NOT NULL,
    giver text NOT NULL,
    roles text[] NOT NULL,
    taker text NOT NULL,
    run_id uuid,
    step text,
    attempt integer,
    round integer,
    until timestamptz,
    reason text NOT NULL DEFAULT '',
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT delegation_to_another CHECK (giver <> taker),
    CONSTRAINT delegation_has_bounds CHECK (
        (run_id IS NULL) <> (until IS NULL)
        AND (run_id IS NULL) = (step IS NULL)
        AND (run_id IS NULL) = (attempt IS NULL)
        AND (run_id IS NULL) = (round IS NULL))
);
CREATE INDEX delegation_taken ON delegation (tenant_id, taker);
CREATE INDEX delegation_given ON delegation (tenant_id, giver);

CREATE TABLE revocation (
    tenant_id text NOT NULL,
    delegation uuid NOT NULL,
    by text NOT NULL,
    reason text NOT NULL DEFAULT '',
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, delegation),
    FOREIGN KEY (tenant_id, delegation) REFERENCES delegation (tenant_id, id)
);
GRANT SELECT, INSERT ON delegation, revocation TO celeriac_control;
"""

BATCHES = """
CREATE TABLE batch (
    tenant_id text NOT NULL REFERENCES tenant,
    by text NOT NULL,
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    digest text NOT NULL,
    questions json NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, by, key)
);

CREATE TABLE batch_answer (
    tenant_id text NOT NULL,
    by text NOT NULL,
    key text NOT NULL,
    question text NOT NULL,
    outcome json NOT NULL,
    PRIMARY KEY (tenant_id, by, key, question),
    FOREIGN KEY (tenant_id, by, key) REFERENCES batch (tenant_id, by, key) ON DELETE CASCADE
);
GRANT SELECT, INSERT, DELETE ON batch TO celeriac_control;
GRANT SELECT, INSERT ON batch_answer TO celeriac_control;
"""


TABLES = ("question", "verdict", "delegation", "revocation", "batch", "batch_answer")


def upgrade() -> None:
    for statements in (WAITS, QUESTIONS, DELEGATIONS, BATCHES):
        op.execute(statements)
    for table in TABLES:
        op.execute(f"SELECT raise_wall('{table}')")
    op.execute("SELECT ensure_partitions(CURRENT_DATE, 3)")
    op.execute(OPEN)


def downgrade() -> None:
    op.execute("DROP TABLE batch_answer, batch, revocation, delegation, verdict, question")
    op.execute(
        """
        ALTER TABLE answer
            DROP CONSTRAINT answer_say_counts_once,
            DROP CONSTRAINT answer_pkey,
            ADD CONSTRAINT answer_pkey PRIMARY KEY (tenant_id, run_id, step, attempt, said_by),
            DROP COLUMN round, DROP COLUMN say_of, DROP COLUMN delegation, DROP COLUMN reason,
            DROP COLUMN digest;
        DROP INDEX wait_escalates, wait_people;
        CREATE INDEX wait_people ON wait (tenant_id, opened_at) WHERE kind IN ('approval', 'input');
        ALTER TABLE wait DROP COLUMN round, DROP COLUMN who, DROP COLUMN tool,
            DROP COLUMN four_eyes, DROP COLUMN escalates_at, DROP COLUMN escalated_at;
        """
    )
