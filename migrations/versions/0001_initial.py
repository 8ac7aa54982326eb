"""The first schema: what is mutable and small, what is appended and partitioned, three roles.

Every key of tenant data begins with the tenant. Tables that only grow are partitioned by
range of run id (UUIDv7, hence by month of submission), so a run lies in one partition and
retention drops whole partitions. Workers write them without a foreign key to `run`: its
check would lock the run row, and a report must never wait for a turn. Their wall is that
their statements copy tenant and run from the step row they hold.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TENANTS = """
CREATE TABLE tenant (
    id text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE api_key (
    tenant_id text NOT NULL REFERENCES tenant,
    id text NOT NULL UNIQUE,
    name text NOT NULL,
    hash bytea NOT NULL,
    roles text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);
CREATE TABLE idempotency (
    tenant_id text NOT NULL REFERENCES tenant,
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    digest text NOT NULL,
    run_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, key)
);
"""

DEFINITIONS = """
CREATE TABLE function (
    tenant_id text NOT NULL REFERENCES tenant,
    namespace text NOT NULL CHECK (namespace IN ('function', 'tool')),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    version integer NOT NULL CHECK (version > 0),
    source text,
    library text,
    description text NOT NULL DEFAULT '',
    parameters json NOT NULL DEFAULT '{}',
    effect text NOT NULL DEFAULT 'pure'
        CHECK (effect IN ('pure', 'idempotent', 'at_most_once', 'compensable')),
    checksum text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, namespace, name, version),
    CONSTRAINT function_has_one_body CHECK ((source IS NULL) <> (library IS NULL))
);
CREATE TABLE workflow (
    tenant_id text NOT NULL REFERENCES tenant,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, name)
);
CREATE TABLE workflow_version (
    tenant_id text NOT NULL,
    id uuid NOT NULL,
    workflow text NOT NULL,
    version text NOT NULL CHECK (
        version ~ '^[0-9]{1,9}[.][0-9]{1,9}[.][0-9]{1,9}(-[0-9A-Za-z.-]+)?([+][0-9A-Za-z.-]+)?$'),
    document json NOT NULL,
    checksum text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, workflow, version),
    FOREIGN KEY (tenant_id, workflow) REFERENCES workflow (tenant_id, name)
);
"""

RUNS = """
CREATE TABLE run (
    tenant_id text NOT NULL,
    id uuid NOT NULL,
    version_id uuid NOT NULL,
    status text NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'running', 'paused', 'completed', 'failed', 'cancelled')),
    rules integer NOT NULL,
    pins json NOT NULL DEFAULT '{}',
    seq bigint NOT NULL DEFAULT 0,
    hash bytea NOT NULL DEFAULT '',
    head json NOT NULL DEFAULT '{}',
    variables json NOT NULL DEFAULT '{}',
    snapshot_seq bigint NOT NULL DEFAULT 0,
    patched bigint NOT NULL DEFAULT 0,
    submitted_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    reason text,
    message text,
    ended_step text,
    stuck_count integer NOT NULL DEFAULT 0,
    stuck_error text,
    stuck_until timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, version_id) REFERENCES workflow_version (tenant_id, id),
    CONSTRAINT run_finished_when_terminal CHECK (
        (finished_at IS NOT NULL) = (status IN ('completed', 'failed', 'cancelled'))),
    CONSTRAINT run_stuck_has_error CHECK ((stuck_error IS NULL) = (stuck_until IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX run_stuck ON run (stuck_until) WHERE stuck_until IS NOT NULL;

CREATE TABLE step (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    key text NOT NULL,
    node text NOT NULL,
    iteration integer NOT NULL CHECK (iteration > 0),
    status text NOT NULL
        CHECK (status IN ('deferred', 'held', 'ready', 'leased', 'reported', 'retrying')),
    attempt integer NOT NULL CHECK (attempt > 0),
    errors integer NOT NULL DEFAULT 0,
    lost integer NOT NULL DEFAULT 0,
    queue text,
    parents json NOT NULL DEFAULT '[]',
    thread json NOT NULL DEFAULT '[]',
    visits json NOT NULL DEFAULT '{}',
    wake_at timestamptz,
    sends integer NOT NULL DEFAULT 0,
    fence bigint NOT NULL DEFAULT 0,
    worker text,
    lease_until timestamptz,
    begun boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, run_id, key),
    FOREIGN KEY (tenant_id, run_id) REFERENCES run (tenant_id, id),
    CONSTRAINT step_leased_has_owner CHECK (
        (status = 'leased') = (lease_until IS NOT NULL)
        AND (status = 'leased') = (worker IS NOT NULL)),
    CONSTRAINT step_waiting_wakes CHECK (
        (status IN ('deferred', 'ready', 'retrying')) = (wake_at IS NOT NULL)),
    CONSTRAINT step_begun_while_leased CHECK (NOT begun OR status = 'leased')
) WITH (fillfactor = 50);
CREATE INDEX step_wakes ON step (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX step_leases ON step (lease_until) WHERE lease_until IS NOT NULL;

CREATE TABLE inbox (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL,
    format integer NOT NULL,
    body json NOT NULL,
    payload_id text,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, run_id, id)
);
CREATE INDEX inbox_oldest ON inbox (received_at);
"""

APPENDED = """
CREATE TABLE history (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    at timestamptz NOT NULL,
    kind text NOT NULL,
    format integer NOT NULL,
    body json NOT NULL,
    payload_id text,
    hash bytea NOT NULL,
    PRIMARY KEY (tenant_id, run_id, seq)
) PARTITION BY RANGE (run_id);

CREATE TABLE payload (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    id text NOT NULL,
    salt bytea NOT NULL,
    body json NOT NULL,
    PRIMARY KEY (tenant_id, run_id, id)
) PARTITION BY RANGE (run_id);

CREATE TABLE attempt (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    step text NOT NULL,
    attempt integer NOT NULL CHECK (attempt > 0),
    fence bigint NOT NULL,
    worker text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, run_id, step, attempt)
) PARTITION BY RANGE (run_id);

CREATE TABLE result (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    step text NOT NULL,
    attempt integer NOT NULL,
    fence bigint NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('succeeded', 'failed', 'lost')),
    reason text,
    message text,
    usage json NOT NULL DEFAULT '{}',
    ended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, run_id, step, attempt),
    CONSTRAINT result_says_why CHECK ((outcome = 'succeeded') = (reason IS NULL))
) PARTITION BY RANGE (run_id);
CREATE UNIQUE INDEX result_accepted_once ON result (tenant_id, run_id, step)
    WHERE outcome = 'succeeded';

CREATE TABLE refusal (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    id uuid NOT NULL,
    step text NOT NULL,
    attempt integer NOT NULL,
    fence bigint NOT NULL,
    worker text NOT NULL,
    outcome text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, run_id, id)
) PARTITION BY RANGE (run_id);

CREATE TABLE call (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    step text NOT NULL,
    ordinal integer NOT NULL CHECK (ordinal > 0),
    attempt integer NOT NULL,
    tool text NOT NULL,
    version integer NOT NULL,
    effect text NOT NULL,
    digest text NOT NULL,
    arguments json NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, run_id, step, ordinal, attempt)
) PARTITION BY RANGE (run_id);

CREATE TABLE call_result (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    step text NOT NULL,
    ordinal integer NOT NULL,
    attempt integer NOT NULL,
    reason text,
    message text,
    value json,
    usage json NOT NULL DEFAULT '{}',
    ended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, run_id, step, ordinal, attempt)
) PARTITION BY RANGE (run_id);
CREATE UNIQUE INDEX call_result_once ON call_result (tenant_id, run_id, step, ordinal)
    WHERE reason IS NULL;

CREATE TABLE pin (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    namespace text NOT NULL,
    name text NOT NULL,
    version integer NOT NULL,
    PRIMARY KEY (tenant_id, run_id, namespace, name)
) PARTITION BY RANGE (run_id);

CREATE TABLE log (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    step text NOT NULL,
    attempt integer NOT NULL,
    line integer NOT NULL,
    stream text NOT NULL CHECK (stream IN ('stdout', 'stderr')),
    text text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, run_id, step, attempt, line)
) PARTITION BY RANGE (run_id);

CREATE TABLE checkpoint (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    seq bigint NOT NULL,
    state json NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, run_id, seq)
) PARTITION BY RANGE (run_id);
"""

# A month's partition holds the run ids whose time lies in it. Ids of other times fall into
# the default partition; a month of which rows already lie there stays there. Attaching locks
# less than `PARTITION OF`, which would stop all reads and writes of the parent.
PARTITIONS = """
CREATE FUNCTION uuid_floor(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;
CREATE FUNCTION ensure_partitions(first date, months integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET lock_timeout = '2s' SET client_min_messages = warning AS $$
DECLARE
    made integer := 0; parent text; month timestamp; part text;
BEGIN
    FOR parent, month IN
        SELECT relname, date_trunc('month', first::timestamp) + make_interval(months => n)
        FROM pg_class, generate_series(0, least(months, 24) - 1) n
        WHERE relkind = 'p' AND relnamespace = 'public'::regnamespace
        ORDER BY relname, n
    LOOP
        part := parent || to_char(month, '_YYYYMM');
        -- Not to_regclass: it answers from a cache that waiting for the lock does not renew.
        CONTINUE WHEN EXISTS (SELECT FROM pg_class
            WHERE relname = part AND relnamespace = 'public'::regnamespace);
        PERFORM pg_advisory_xact_lock(hashtext('ensure_partitions'));
        CONTINUE WHEN EXISTS (SELECT FROM pg_class
            WHERE relname = part AND relnamespace = 'public'::regnamespace);
        IF NOT EXISTS (SELECT FROM pg_class
            WHERE relname = parent || '_default' AND relnamespace = 'public'::regnamespace) THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', parent || '_default', parent);
        END IF;
        BEGIN
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', part, parent);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                parent, part, uuid_floor(month AT TIME ZONE 'UTC'),
                uuid_floor((month + interval '1 month') AT TIME ZONE 'UTC'));
            made := made + 1;
        EXCEPTION WHEN check_violation THEN NULL;
        END;
    END LOOP;
    RETURN made;
END $$;
"""

# Roles belong to the cluster, not to the database: another database may have made them, or
# be making them at this moment. A login that may already act as a role is left alone.
ROLES = """
DO $$
DECLARE
    name text;
    may_act text := CASE WHEN current_setting('server_version_num')::int >= 160000
        THEN 'SET' ELSE 'MEMBER' END;
BEGIN
    FOREACH name IN ARRAY ARRAY['celeriac_control', 'celeriac_worker'] LOOP
        IF to_regrole(name) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
            END;
        END IF;
        IF NOT pg_has_role(current_user, name, may_act) THEN
            BEGIN
                EXECUTE format('GRANT %I TO CURRENT_USER', name);
            EXCEPTION WHEN unique_violation THEN NULL;
            END;
        END IF;
    END LOOP;
END $$;
GRANT USAGE ON SCHEMA public TO celeriac_control, celeriac_worker;
REVOKE ALL ON FUNCTION ensure_partitions(date, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_partitions(date, integer) TO celeriac_control;

GRANT SELECT, INSERT ON tenant, api_key, idempotency, function, workflow, workflow_version
    TO celeriac_control;
GRANT UPDATE (expires_at) ON api_key TO celeriac_control;
GRANT DELETE ON idempotency TO celeriac_control;
GRANT SELECT, INSERT ON run TO celeriac_control;
-- What a run was submitted with never changes.
GRANT UPDATE (status, seq, hash, head, variables, snapshot_seq, patched, started_at, finished_at,
    reason, message, ended_step, stuck_count, stuck_error, stuck_until) ON run TO celeriac_control;
GRANT SELECT, INSERT, UPDATE, DELETE ON step, inbox TO celeriac_control;
GRANT SELECT, INSERT ON history, payload, attempt, result, refusal, call, call_result, pin, log,
    checkpoint TO celeriac_control;

GRANT SELECT ON workflow_version, function, run TO celeriac_worker;
GRANT SELECT ON step TO celeriac_worker;
GRANT UPDATE (status, fence, worker, lease_until, begun, wake_at, sends) ON step
    TO celeriac_worker;
GRANT INSERT ON inbox, payload, refusal TO celeriac_worker;
GRANT SELECT, INSERT ON attempt, result, call, call_result, pin, log TO celeriac_worker;
"""


def upgrade() -> None:
    for statements in (TENANTS, DEFINITIONS, RUNS, APPENDED, PARTITIONS):
        op.execute(statements)
    op.execute("SELECT ensure_partitions(CURRENT_DATE, 3)")
    op.execute(ROLES)


def downgrade() -> None:
    op.execute(
        "DROP TABLE checkpoint, log, pin, call_result, call, refusal, result, attempt, payload, history"
    )
    op.execute("DROP FUNCTION ensure_partitions, uuid_floor")
    op.execute(
        "DROP TABLE inbox, step, run, workflow_version, workflow, function, idempotency, api_key, tenant"
    )
    # The roles stay: another database of the cluster may be theirs too.
    op.execute("REVOKE USAGE ON SCHEMA public FROM celeriac_control, celeriac_worker")
