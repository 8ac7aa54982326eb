"""What makes the audit provable: acts chained by their tenant, and anchors over all that moved.

`history.xid` and `admin_act.xid` say which transaction wrote a row. A sealer that has seen all
transactions up to some number looks at the rows of later ones alone, in whatever order they were
committed, and no turn does anything for it: the column fills itself. Rows from before have 0.

Anchors, their leaves and seals are appended by control and altered by nobody; the API reads them, for
its tenant alone. What our roles may not do at all, remove a user's data from ended runs, a function of
the owner's does, for control: it takes any tenant's name, and so is not for the API.
"""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

MOVED = """
ALTER TABLE history ADD COLUMN xid bigint NOT NULL DEFAULT 0;
ALTER TABLE history ALTER COLUMN xid SET DEFAULT pg_current_xact_id()::text::bigint;
CREATE INDEX history_moved ON history (xid);
ALTER TABLE admin_act ADD COLUMN xid bigint NOT NULL DEFAULT 0;
ALTER TABLE admin_act ALTER COLUMN xid SET DEFAULT pg_current_xact_id()::text::bigint;
CREATE INDEX admin_act_moved ON admin_act (xid);
CREATE INDEX admin_act_when ON admin_act (tenant_id, at, id);
ALTER TABLE payload ADD COLUMN shredded_at timestamptz;
"""

SEALS = """
CREATE TABLE act_seal (
    tenant_id text NOT NULL REFERENCES tenant,
    position bigint NOT NULL CHECK (position > 0),
    act_id uuid NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (tenant_id, position),
    UNIQUE (tenant_id, act_id)
);
CREATE TABLE anchor (
    tenant_id text NOT NULL REFERENCES tenant,
    number bigint NOT NULL CHECK (number > 0),
    at timestamptz NOT NULL,
    position bigint NOT NULL CHECK (position >= 0),
    acts bytea NOT NULL,
    root bytea NOT NULL,
    count integer NOT NULL CHECK (count >= 0),
    previous bytea NOT NULL,
    hash bytea NOT NULL,
    signature bytea,
    key_id text,
    PRIMARY KEY (tenant_id, number),
    CONSTRAINT anchor_signed_by_a_key CHECK ((signature IS NULL) = (key_id IS NULL))
);
CREATE TABLE anchor_leaf (
    tenant_id text NOT NULL,
    number bigint NOT NULL,
    place integer NOT NULL CHECK (place > 0),
    kind text NOT NULL CHECK (kind IN ('act', 'run')),
    subject uuid NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    hash bytea NOT NULL,
    marks bytea NOT NULL,
    PRIMARY KEY (tenant_id, number, place),
    FOREIGN KEY (tenant_id, number) REFERENCES anchor (tenant_id, number)
);
CREATE INDEX anchor_leaf_subject ON anchor_leaf (tenant_id, subject, seq);
CREATE TABLE anchor_pending (
    tenant_id text NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (tenant_id, number),
    FOREIGN KEY (tenant_id, number) REFERENCES anchor (tenant_id, number)
);
CREATE TABLE sealing (
    name text PRIMARY KEY,
    next_at timestamptz NOT NULL,
    horizon bigint NOT NULL DEFAULT 0
);
GRANT SELECT, INSERT ON act_seal, anchor, anchor_leaf, anchor_pending, sealing TO celeriac_control;
GRANT DELETE ON anchor_pending TO celeriac_control;
GRANT UPDATE (next_at, horizon) ON sealing TO celeriac_control;
"""

# Whoever serves requests verifies what was sealed, and seals nothing.
WALLS = """
SELECT raise_wall('act_seal'), raise_wall('anchor'), raise_wall('anchor_leaf'),
    raise_wall('anchor_pending');
REVOKE INSERT, DELETE ON act_seal, anchor, anchor_leaf, anchor_pending FROM celeriac_api;
"""

# Of ended runs only, and of nothing that a hash covers. What is left is of the shape that the fold
# and all who read expect, and says that it was shredded.
SHRED = """
CREATE FUNCTION shred_payloads(tenant text, run uuid, only_step text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    shredded integer;
    mark json := json_build_object('$shredded', true);
BEGIN
    IF NOT EXISTS (SELECT FROM public.run r WHERE r.tenant_id = tenant AND r.id = run
            AND r.finished_at IS NOT NULL FOR NO KEY UPDATE) THEN
        RAISE EXCEPTION 'only what has ended can be shredded' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    UPDATE public.payload p SET salt = '', shredded_at = clock_timestamp(),
        body = CASE (SELECT h.kind FROM public.history h WHERE h.tenant_id = tenant
                AND h.run_id = run AND h.payload_id = p.id)
            WHEN 'RunSubmitted' THEN json_build_object('inputs', mark)
            WHEN 'AttemptSucceeded' THEN json_build_object('result', json_build_object('inline', mark))
            WHEN 'AttemptWithheld' THEN json_build_object('result', json_build_object('inline', mark))
            WHEN 'WaitEnded' THEN json_build_object('result', json_build_object('inline', mark))
            WHEN 'ItemsAdded' THEN json_build_object('items', coalesce(
                (SELECT json_agg(mark) FROM json_array_elements(p.body->'items')), '[]'))
            WHEN 'AttemptSuspended' THEN json_build_object('asks', mark)
            WHEN 'Saved' THEN '{}'
            ELSE mark END
    WHERE p.tenant_id = tenant AND p.run_id = run AND p.shredded_at IS NULL
        AND (only_step IS NULL OR starts_with(p.id, only_step || '/')
            OR EXISTS (SELECT FROM public.history h WHERE h.tenant_id = tenant AND h.run_id = run
                AND h.payload_id = p.id AND h.body->>'step' = only_step));
    GET DIAGNOSTICS shredded = ROW_COUNT;
    UPDATE public.call c SET arguments = mark WHERE c.tenant_id = tenant AND c.run_id = run
        AND (only_step IS NULL OR c.step = only_step);
    UPDATE public.call_result c SET value = mark WHERE c.tenant_id = tenant AND c.run_id = run
        AND c.value IS NOT NULL
        AND (only_step IS NULL OR c.step = only_step);
    UPDATE public.question q SET asks = coalesce((
        SELECT json_object_agg(e.key, CASE WHEN e.key IN ('show', 'arguments') THEN mark ELSE e.value END)
        FROM json_each(q.asks) e), '{}')
    WHERE q.tenant_id = tenant AND q.run_id = run AND (only_step IS NULL OR q.step = only_step);
    UPDATE public.answer a SET form = mark, reason = '' WHERE a.tenant_id = tenant AND a.run_id = run
        AND (only_step IS NULL OR a.step = only_step);
    DELETE FROM public.log l WHERE l.tenant_id = tenant AND l.run_id = run
        AND (only_step IS NULL OR l.step = only_step);
    UPDATE public.event e SET payload = mark WHERE e.tenant_id = tenant AND e.claimed_run = run
        AND (only_step IS NULL OR e.claimed_step = only_step);
    -- Snapshots hold all variables as they were.
    DELETE FROM public.checkpoint k WHERE k.tenant_id = tenant AND k.run_id = run;
    UPDATE public.run r SET snapshot_seq = 0,
        outputs = CASE WHEN r.outputs IS NOT NULL THEN mark END
    WHERE r.tenant_id = tenant AND r.id = run;
    RETURN shredded;
END $$;
CREATE FUNCTION release_blobs(tenant text, run uuid) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    released integer;
BEGIN
    DELETE FROM public.blob_reference f WHERE f.tenant_id = tenant AND f.run_id = run
        AND EXISTS (SELECT FROM public.payload p WHERE p.tenant_id = tenant AND p.run_id = run
            AND p.shredded_at IS NOT NULL)
        AND NOT EXISTS (SELECT FROM public.payload p WHERE p.tenant_id = tenant AND p.run_id = run
            AND strpos(p.body::text, f.sha256) > 0)
        AND NOT EXISTS (SELECT FROM public.call c WHERE c.tenant_id = tenant AND c.run_id = run
            AND strpos(c.arguments::text, f.sha256) > 0)
        AND NOT EXISTS (SELECT FROM public.call_result c WHERE c.tenant_id = tenant AND c.run_id = run
            AND strpos(c.value::text, f.sha256) > 0)
        AND NOT EXISTS (SELECT FROM public.run r WHERE r.tenant_id = tenant AND r.id = run
            AND strpos(r.variables::text, f.sha256) > 0);
    GET DIAGNOSTICS released = ROW_COUNT;
    RETURN released;
END $$;
REVOKE ALL ON FUNCTION shred_payloads(text, uuid, text), release_blobs(text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION shred_payloads(text, uuid, text), release_blobs(text, uuid)
    TO celeriac_control;
"""


def upgrade() -> None:
    for statements in (MOVED, SEALS, WALLS, SHRED):
        op.execute(statements)


def downgrade() -> None:
    op.execute("DROP FUNCTION shred_payloads, release_blobs")
    op.execute("DROP TABLE sealing, anchor_pending, anchor_leaf, anchor, act_seal")
    op.execute("DROP INDEX admin_act_when")
    op.execute(
        "ALTER TABLE payload DROP COLUMN shredded_at;"
        "ALTER TABLE admin_act DROP COLUMN xid; ALTER TABLE history DROP COLUMN xid"
    )
