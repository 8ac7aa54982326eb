"""What was chosen for calls holds from a line of a run to the next one where it goes back, and is kept.

Calls may be let through when those that they repeat are undone: workers ask for that.

What was chosen before, when a run went back over a call of its own, holds since it first did: which of it another
rollback has put aside was not kept.
"""

from __future__ import annotations

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

BY_PLACE = """
ALTER TABLE chosen_call ADD since bigint NOT NULL DEFAULT 0, ADD until bigint CHECK (until > since);
ALTER TABLE chosen_call ALTER since DROP DEFAULT;
UPDATE chosen_call k SET since = h.seq FROM (
    SELECT o.tenant_id, o.run_id, o.step, o.ordinal, o.made_at, min(b.seq) AS seq FROM chosen_call o
    JOIN call c ON c.tenant_id = o.tenant_id AND c.run_id = o.run_id AND c.step = o.step AND c.ordinal = o.ordinal
        AND c.started_at = o.made_at
    JOIN history b ON b.tenant_id = o.tenant_id AND b.run_id = o.run_id AND b.kind = 'RollBack' AND b.at > o.made_at
    JOIN history p ON p.tenant_id = b.tenant_id AND p.run_id = b.run_id AND p.seq = (b.body->>'seq')::bigint
        AND p.at < o.made_at
    GROUP BY o.tenant_id, o.run_id, o.step, o.ordinal, o.made_at) h
WHERE h.tenant_id = k.tenant_id AND h.run_id = k.run_id AND h.step = k.step AND h.ordinal = k.ordinal
    AND h.made_at = k.made_at;
ALTER TABLE chosen_call DROP CONSTRAINT chosen_call_pkey,
    ADD PRIMARY KEY (tenant_id, run_id, since, step, ordinal, made_at);
CREATE INDEX chosen_call_made ON chosen_call (tenant_id, made_at) WHERE until IS NULL;
ALTER TABLE chosen_call DROP CONSTRAINT chosen_call_choice_check,
    ADD CHECK (choice IN ('reuse', 'skip', 'execute', 'refuse', 'compensate'));
GRANT SELECT ON undone_call TO celeriac_worker;
REVOKE DELETE, UPDATE ON chosen_call FROM celeriac_control, celeriac_api;
GRANT UPDATE (until, taken_step, taken_ordinal) ON chosen_call TO celeriac_control, celeriac_api;
"""

# Only what holds now was kept before.
BY_RUN = """
DELETE FROM chosen_call WHERE until IS NOT NULL;
UPDATE chosen_call SET choice = 'refuse' WHERE choice = 'compensate';
ALTER TABLE chosen_call DROP CONSTRAINT chosen_call_choice_check,
    ADD CHECK (choice IN ('reuse', 'skip', 'execute', 'refuse'));
REVOKE SELECT ON undone_call FROM celeriac_worker;
DROP INDEX chosen_call_made;
ALTER TABLE chosen_call DROP CONSTRAINT chosen_call_pkey, DROP since, DROP until,
    ADD PRIMARY KEY (tenant_id, run_id, step, ordinal, made_at);
REVOKE UPDATE (taken_step, taken_ordinal) ON chosen_call FROM celeriac_control, celeriac_api;
GRANT DELETE ON chosen_call TO celeriac_control, celeriac_api;
GRANT UPDATE (choice, value, taken_step, taken_ordinal) ON chosen_call TO celeriac_control, celeriac_api;
"""


def upgrade() -> None:
    op.execute(BY_PLACE)


def downgrade() -> None:
    op.execute(BY_RUN)
