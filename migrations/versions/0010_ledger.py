"""Money: what may be spent, what is set aside, what was spent. And people's permits on steps.

*Accounts* are one scope's use of one unit in one window: a user's dollars of this hour. They are
opened when something first asks for them, with what the ledger has charged by then. What is left of
one is handed out to *purses*, a few rows of which any that nobody holds will do: while a limit is
far nobody waits for anybody. Near it a purse gets just what is asked for, under the account's lock,
and before anything is denied all purses are called back and counted.

A *reservation* is set aside before an attempt or call starts and is gone when it is settled. The
*ledger* is appended to, once for every attempt and call, and once more if a charge that had to be
assumed turns out otherwise.

Opening waits until nobody who may charge the account is in the middle of it (an advisory lock that
they share), so what it begins with is exact.
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

STEPS = """
ALTER TABLE step ADD COLUMN asked json NOT NULL DEFAULT '[]',
    ADD COLUMN permits json NOT NULL DEFAULT '[]', ADD COLUMN used json;
GRANT UPDATE (used) ON step TO celeriac_worker;
GRANT SELECT ON principal TO celeriac_worker;
ALTER TABLE run ADD COLUMN root uuid, ADD COLUMN scopes text[];
WITH RECURSIVE tree AS (
    SELECT tenant_id, id, id AS root FROM run WHERE parent_run IS NULL
    UNION ALL
    SELECT r.tenant_id, r.id, t.root FROM run r JOIN tree t
        ON t.tenant_id = r.tenant_id AND t.id = r.parent_run)
UPDATE run r SET root = t.root FROM tree t WHERE t.tenant_id = r.tenant_id AND t.id = r.id;
UPDATE run SET root = id WHERE root IS NULL;
ALTER TABLE run ALTER COLUMN root SET NOT NULL;
CREATE INDEX run_root ON run (tenant_id, root) WHERE root <> id;
ALTER TABLE result DROP CONSTRAINT result_outcome_check,
    ADD CONSTRAINT result_outcome_check
        CHECK (outcome IN ('succeeded', 'failed', 'lost', 'suspended'));
"""

TABLES = """
CREATE TABLE account (
    tenant_id text NOT NULL REFERENCES tenant,
    key text NOT NULL,
    scope text NOT NULL CHECK (scope IN ('run', 'workflow', 'user', 'tenant', 'rate')),
    subject text NOT NULL,
    unit text NOT NULL,
    span text NOT NULL CHECK (span IN ('none', 'minute', 'hour', 'day')),
    period timestamptz NOT NULL,
    limited boolean NOT NULL DEFAULT false,
    granted numeric(38, 9) NOT NULL DEFAULT 0,
    extra numeric(38, 9) NOT NULL DEFAULT 0,
    beyond numeric(38, 9) NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, key)
) WITH (fillfactor = 50);
CREATE INDEX account_subject ON account (tenant_id, scope, subject, period);
CREATE TABLE purse (
    tenant_id text NOT NULL,
    account text NOT NULL,
    slice integer NOT NULL,
    granted numeric(38, 9) NOT NULL DEFAULT 0,
    reserved numeric(38, 9) NOT NULL DEFAULT 0,
    spent numeric(38, 9) NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, account, slice),
    FOREIGN KEY (tenant_id, account) REFERENCES account (tenant_id, key) ON DELETE CASCADE
) WITH (fillfactor = 50);
CREATE TABLE reservation (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    step text NOT NULL,
    attempt integer NOT NULL,
    ordinal integer NOT NULL CHECK (ordinal >= 0),
    user_id text NOT NULL,
    workflow text NOT NULL,
    node text NOT NULL,
    tool text NOT NULL DEFAULT '',
    amounts json NOT NULL,
    accounts json NOT NULL,
    exceeds json NOT NULL DEFAULT '{}',
    at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, run_id, step, attempt, ordinal)
) WITH (fillfactor = 70);
CREATE TABLE ledger (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    step text NOT NULL,
    attempt integer NOT NULL,
    ordinal integer NOT NULL,
    part integer NOT NULL CHECK (part IN (1, 2)),
    user_id text NOT NULL,
    workflow text NOT NULL,
    node text NOT NULL,
    tool text NOT NULL DEFAULT '',
    model text NOT NULL DEFAULT '',
    usage json NOT NULL,
    assumed boolean NOT NULL DEFAULT false,
    charged_at timestamptz NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, run_id, step, attempt, ordinal, part)
) PARTITION BY RANGE (run_id);
CREATE INDEX ledger_charged ON ledger (tenant_id, charged_at);
"""

FUNCTIONS = """
CREATE FUNCTION ledger_period(span text, at timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE span WHEN 'none' THEN 'epoch'::timestamptz ELSE date_trunc(span, at, 'UTC') END
$$;

CREATE FUNCTION ledger_sum(one jsonb, other jsonb, sign integer) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(jsonb_object_agg(name, round(coalesce((one->>name)::numeric, 0)
        + sign * coalesce((other->>name)::numeric, 0), 9)), '{}')
    FROM (SELECT jsonb_object_keys(one) AS name UNION SELECT jsonb_object_keys(other)) names
$$;

-- Held by whoever charges accounts of a tenant, and of a run with all that it starts, until the end of
-- the transaction.
CREATE FUNCTION ledger_share(of_tenant text, of_run uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('ledger ' || of_tenant, 0));
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('ledger ' || root, 0))
    FROM run WHERE tenant_id = of_tenant AND id = of_run;
END $$;

-- A purse that nobody holds, or a new one, or else one that has to be waited for.
CREATE FUNCTION ledger_purse(of_tenant text, of_account text) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    place integer; number integer;
BEGIN
    SELECT slice INTO place FROM purse WHERE tenant_id = of_tenant AND account = of_account
    LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF FOUND THEN RETURN place; END IF;
    SELECT count(*) INTO number FROM purse WHERE tenant_id = of_tenant AND account = of_account;
    IF number < 16 THEN
        INSERT INTO purse (tenant_id, account, slice) VALUES (of_tenant, of_account, number)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN RETURN number; END IF;
    END IF;
    place := floor(random() * number);
    PERFORM FROM purse WHERE tenant_id = of_tenant AND account = of_account AND slice = place
    FOR UPDATE;
    RETURN place;
END $$;

-- Count what is used, and leave nothing in any purse; the account is locked.
CREATE FUNCTION ledger_call_back(of_tenant text, of_account text) RETURNS numeric
LANGUAGE plpgsql AS $$
DECLARE
    used numeric;
BEGIN
    PERFORM FROM purse WHERE tenant_id = of_tenant AND account = of_account
    ORDER BY slice FOR UPDATE;
    UPDATE purse SET granted = reserved + spent
    WHERE tenant_id = of_tenant AND account = of_account;
    SELECT coalesce(sum(granted), 0) INTO used FROM purse
    WHERE tenant_id = of_tenant AND account = of_account;
    UPDATE account SET granted = used, limited = true
    WHERE tenant_id = of_tenant AND key = of_account;
    RETURN used;
END $$;

-- Set an amount aside. `short`: what was used already where there was no room; `over`: by how much the
-- limit was passed, where people have allowed that.
CREATE FUNCTION ledger_take(of_tenant text, of_account text, wanted numeric, most numeric,
    exceed boolean, OUT short numeric, OUT over numeric) LANGUAGE plpgsql AS $$
DECLARE
    place integer; known account; used numeric; free numeric; chunk numeric;
BEGIN
    over := 0;
    -- A purse that proves too small once it is locked stays locked until this block is rolled back,
    -- and whoever calls the purses back would wait for it. What was handed out under a higher limit
    -- is called back first.
    BEGIN
        SELECT slice INTO place FROM purse WHERE tenant_id = of_tenant AND account = of_account
            AND granted - reserved - spent >= wanted
            AND EXISTS (SELECT FROM account a WHERE a.tenant_id = of_tenant AND a.key = of_account
                AND a.limited AND a.granted <= most + a.extra)
        LIMIT 1 FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN RAISE no_data_found; END IF;
        UPDATE purse SET reserved = reserved + wanted
        WHERE tenant_id = of_tenant AND account = of_account AND slice = place;
        RETURN;
    EXCEPTION WHEN no_data_found THEN NULL;
    END;
    SELECT * INTO known FROM account WHERE tenant_id = of_tenant AND key = of_account
    FOR NO KEY UPDATE;
    free := most + known.extra - known.granted;
    IF NOT known.limited OR free < wanted THEN
        used := ledger_call_back(of_tenant, of_account);
        free := most + known.extra - used;
        IF free < wanted THEN
            IF NOT exceed THEN short := used; RETURN; END IF;
            -- Others may be over it already, by what they used beyond what was set aside.
            over := least(wanted, wanted - free);
            UPDATE account SET extra = extra + over
            WHERE tenant_id = of_tenant AND key = of_account;
            free := wanted;
        END IF;
    END IF;
    chunk := greatest(wanted, round(free / 32, 9));
    place := ledger_purse(of_tenant, of_account);
    UPDATE purse SET granted = granted + chunk, reserved = reserved + wanted
    WHERE tenant_id = of_tenant AND account = of_account AND slice = place;
    UPDATE account SET granted = granted + chunk WHERE tenant_id = of_tenant AND key = of_account;
END $$;

-- Hand back what was set aside and charge what was used, in the purses of one account. `less`: by how
-- much the limit is passed no more.
CREATE FUNCTION ledger_book(of_tenant text, of_account text, back numeric, charge numeric,
    less numeric) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    place integer; more numeric := greatest(charge - back, 0); bound boolean;
BEGIN
    IF back = 0 AND charge = 0 AND less = 0 THEN RETURN; END IF;
    IF less > 0 THEN
        UPDATE account SET extra = extra - less WHERE tenant_id = of_tenant AND key = of_account;
    END IF;
    IF more > 0 THEN
        SELECT limited INTO bound FROM account WHERE tenant_id = of_tenant AND key = of_account;
        IF bound THEN
            -- What was used beyond what was set aside takes its room from the account itself.
            UPDATE account SET granted = granted + more, beyond = beyond + more
            WHERE tenant_id = of_tenant AND key = of_account;
        END IF;
    END IF;
    place := ledger_purse(of_tenant, of_account);
    IF more > 0 AND NOT bound THEN
        -- Whoever made it a limited account held every purse; what it is now is seen under ours.
        SELECT limited INTO bound FROM account WHERE tenant_id = of_tenant AND key = of_account;
        IF bound THEN
            UPDATE account SET granted = granted + more, beyond = beyond + more
            WHERE tenant_id = of_tenant AND key = of_account;
        END IF;
    END IF;
    UPDATE purse SET reserved = reserved - back, spent = spent + charge,
        granted = granted + CASE WHEN bound AND more > 0 THEN more ELSE 0 END
    WHERE tenant_id = of_tenant AND account = of_account AND slice = place;
END $$;

-- Set aside what an attempt (ordinal 0) or call may use, in each account that limits it, or in none.
CREATE FUNCTION ledger_reserve(of_tenant text, of_run uuid, of_step text, of_attempt integer,
    of_ordinal integer, by_user text, of_workflow text, of_node text, of_tool text, now timestamptz,
    wanted jsonb, limits jsonb, meters text[]) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    one record; took record; used numeric; amount numeric; missing text[]; said jsonb;
    taken jsonb := '{}'; passed jsonb := '{}';
BEGIN
    PERFORM ledger_share(of_tenant, of_run);
    SELECT array_agg(key) INTO missing FROM (
        SELECT l->>'account' AS key FROM jsonb_array_elements(limits) l
        UNION SELECT unnest(meters)) named
    WHERE NOT EXISTS (SELECT FROM account a WHERE a.tenant_id = of_tenant AND a.key = named.key);
    IF missing IS NOT NULL THEN RETURN jsonb_build_object('missing', missing); END IF;
    BEGIN
        FOR one IN SELECT * FROM jsonb_to_recordset(limits) AS l
            (account text, unit text, most numeric, exceed boolean, free boolean) ORDER BY account
        LOOP
            amount := coalesce((wanted->>one.unit)::numeric, 0);
            IF amount = 0 THEN
                -- What it uses is not said: there must be something left.
                CONTINUE WHEN one.free OR one.exceed;
                SELECT coalesce(sum(reserved + spent), 0) INTO used FROM purse
                WHERE tenant_id = of_tenant AND account = one.account;
                CONTINUE WHEN used < one.most;
            ELSE
                SELECT * INTO took
                FROM ledger_take(of_tenant, one.account, amount, one.most, one.exceed);
                used := took.short;
                IF used IS NULL THEN
                    taken := taken || jsonb_build_object(one.account, amount);
                    IF took.over > 0 THEN
                        passed := passed || jsonb_build_object(one.account, took.over);
                    END IF;
                    CONTINUE;
                END IF;
            END IF;
            said := jsonb_build_object('short', one.account, 'used', used, 'wanted', amount);
            -- Nothing of what was taken before stands.
            RAISE EXCEPTION SQLSTATE 'CL001';
        END LOOP;
    EXCEPTION WHEN SQLSTATE 'CL001' THEN RETURN said;
    END;
    INSERT INTO reservation AS r (tenant_id, run_id, step, attempt, ordinal, user_id, workflow,
        node, tool, amounts, accounts, exceeds, at)
    VALUES (of_tenant, of_run, of_step, of_attempt, of_ordinal, by_user, of_workflow, of_node,
        of_tool, wanted, taken, passed, now)
    ON CONFLICT (tenant_id, run_id, step, attempt, ordinal) DO UPDATE SET
        amounts = ledger_sum(r.amounts::jsonb, excluded.amounts::jsonb, 1),
        accounts = ledger_sum(r.accounts::jsonb, excluded.accounts::jsonb, 1),
        exceeds = ledger_sum(r.exceeds::jsonb, excluded.exceeds::jsonb, 1);
    RETURN '{}';
END $$;

-- Charge what an attempt or call has used, once, and let go of what was set aside. `used` null: all that
-- was. What was assumed is set right once; whatever comes later only lets go.
CREATE FUNCTION ledger_settle(of_tenant text, of_run uuid, of_step text, of_attempt integer,
    of_ordinal integer, used jsonb, is_assumed boolean, of_tool text, of_model text)
RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    held reservation; entry ledger; charge jsonb := '{}'; place integer := 1; one record;
BEGIN
    PERFORM ledger_share(of_tenant, of_run);
    DELETE FROM reservation WHERE tenant_id = of_tenant AND run_id = of_run AND step = of_step
        AND attempt = of_attempt AND ordinal = of_ordinal RETURNING * INTO held;
    SELECT * INTO entry FROM ledger WHERE tenant_id = of_tenant AND run_id = of_run
        AND step = of_step AND attempt = of_attempt AND ordinal = of_ordinal AND part = 1;
    IF FOUND THEN
        place := 0;
        IF entry.assumed AND NOT is_assumed AND used IS NOT NULL THEN
            charge := ledger_sum(used, entry.usage::jsonb, -1);
            place := 2;
        END IF;
    ELSIF held.run_id IS NOT NULL THEN
        charge := ledger_sum(coalesce(used, held.amounts::jsonb), '{}', 1);
        entry.user_id := held.user_id; entry.workflow := held.workflow; entry.node := held.node;
        entry.tool := held.tool; entry.charged_at := held.at;
    ELSE
        charge := ledger_sum(coalesce(used, '{}'), '{}', 1);
        SELECT r.submitted_by, v.workflow, split_part(of_step, '#', 1), of_tool,
            clock_timestamp()
        INTO entry.user_id, entry.workflow, entry.node, entry.tool, entry.charged_at
        FROM run r JOIN workflow_version v ON v.tenant_id = r.tenant_id AND v.id = r.version_id
        WHERE r.tenant_id = of_tenant AND r.id = of_run;
    END IF;
    IF place > 0 THEN
        INSERT INTO ledger (tenant_id, run_id, step, attempt, ordinal, part, user_id, workflow,
            node, tool, model, usage, assumed, charged_at)
        VALUES (of_tenant, of_run, of_step, of_attempt, of_ordinal, place, entry.user_id,
            entry.workflow, entry.node, entry.tool, of_model, charge, is_assumed, entry.charged_at)
        ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN place := 0; END IF;
    END IF;
    FOR one IN SELECT a.key, a.unit, place > 0 AND a.period = ledger_period(a.span, entry.charged_at)
            AND (a.scope, a.subject) IN (('run', r.root::text), ('workflow', entry.workflow),
                ('user', entry.user_id), ('tenant', of_tenant),
                ('rate', entry.tool || ' ' || entry.user_id)) AS due
        FROM account a JOIN run r ON r.tenant_id = of_tenant AND r.id = of_run
        WHERE a.tenant_id = of_tenant AND ((a.scope, a.subject) IN (('run', r.root::text),
                ('workflow', entry.workflow), ('user', entry.user_id), ('tenant', of_tenant),
                ('rate', entry.tool || ' ' || entry.user_id))
            OR a.key = ANY (ARRAY(SELECT json_object_keys(held.accounts))))
        ORDER BY a.key
    LOOP
        PERFORM ledger_book(of_tenant, one.key, coalesce((held.accounts->>one.key)::numeric, 0),
            CASE WHEN one.due THEN coalesce((charge->>one.unit)::numeric, 0) ELSE 0 END,
            coalesce((held.exceeds->>one.key)::numeric, 0));
    END LOOP;
    RETURN CASE WHEN place > 0 THEN charge END;
END $$;

-- Let go of what was set aside for what will not happen, and charge what nobody will report.
CREATE FUNCTION ledger_close(tenants text[], runs text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    one record; place text;
BEGIN
    FOR one IN SELECT r.*, EXISTS (SELECT FROM attempt a WHERE a.tenant_id = r.tenant_id
            AND a.run_id = r.run_id AND a.step = r.step AND a.attempt = r.attempt) AS begun
        FROM reservation r JOIN unnest(tenants, runs) AS w (tenant, run)
            ON r.tenant_id = w.tenant AND r.run_id = w.run::uuid
        WHERE NOT EXISTS (SELECT FROM step s WHERE s.tenant_id = r.tenant_id
            AND s.run_id = r.run_id AND s.key = r.step AND s.attempt = r.attempt
            AND s.status IN ('ready', 'held', 'leased'))
        ORDER BY r.run_id, r.step, r.attempt, r.ordinal
    LOOP
        IF one.begun THEN
            PERFORM ledger_settle(one.tenant_id, one.run_id, one.step, one.attempt, one.ordinal,
                NULL, true, one.tool, '');
            CONTINUE;
        END IF;
        PERFORM ledger_share(one.tenant_id, one.run_id);
        DELETE FROM reservation WHERE tenant_id = one.tenant_id AND run_id = one.run_id
            AND step = one.step AND attempt = one.attempt AND ordinal = one.ordinal;
        FOR place IN SELECT a.key FROM account a WHERE a.tenant_id = one.tenant_id
            AND a.key = ANY (ARRAY(SELECT json_object_keys(one.accounts))) ORDER BY 1
        LOOP
            PERFORM ledger_book(one.tenant_id, place, (one.accounts->>place)::numeric, 0,
                coalesce((one.exceeds->>place)::numeric, 0));
        END LOOP;
    END LOOP;
END $$;

-- Open accounts with what was charged to them so far. Waits for whoever is charging.
CREATE FUNCTION ledger_open(of_tenant text, wanted jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    one record; charged numeric; aside numeric; ends timestamptz; root text;
BEGIN
    -- In the order in which those who charge take their share: the tenant, then runs.
    IF EXISTS (SELECT FROM jsonb_to_recordset(wanted) AS w (scope text) WHERE scope <> 'run') THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('ledger ' || of_tenant, 0));
    END IF;
    FOR root IN SELECT DISTINCT subject FROM jsonb_to_recordset(wanted)
        AS w (scope text, subject text) WHERE scope = 'run' ORDER BY 1
    LOOP
        PERFORM pg_advisory_xact_lock(hashtextextended('ledger ' || root, 0));
    END LOOP;
    FOR one IN SELECT * FROM jsonb_to_recordset(wanted) AS w
        (key text, scope text, subject text, unit text, span text, period timestamptz)
        ORDER BY key
    LOOP
        INSERT INTO account (tenant_id, key, scope, subject, unit, span, period)
        VALUES (of_tenant, one.key, one.scope, one.subject, one.unit, one.span, one.period)
        ON CONFLICT DO NOTHING;
        CONTINUE WHEN NOT FOUND;
        ends := CASE one.span WHEN 'none' THEN 'infinity'
            ELSE one.period + ('1 ' || one.span)::interval END;
        IF one.scope = 'run' THEN
            SELECT coalesce(sum(round((l.usage->>one.unit)::numeric, 9)), 0) INTO charged
            FROM run r JOIN ledger l ON l.tenant_id = r.tenant_id AND l.run_id = r.id
            WHERE r.tenant_id = of_tenant AND l.charged_at >= one.period AND l.charged_at < ends
                AND (r.id = one.subject::uuid OR (r.root = one.subject::uuid AND r.root <> r.id));
        ELSE
            SELECT coalesce(sum(round((l.usage->>one.unit)::numeric, 9)), 0) INTO charged
            FROM ledger l
            WHERE l.tenant_id = of_tenant AND l.charged_at >= one.period AND l.charged_at < ends
                AND CASE one.scope WHEN 'workflow' THEN l.workflow WHEN 'user' THEN l.user_id
                    WHEN 'rate' THEN l.tool || ' ' || l.user_id ELSE l.tenant_id END = one.subject;
        END IF;
        WITH open AS (
            UPDATE reservation r SET accounts = r.accounts::jsonb
                || jsonb_build_object(one.key, coalesce((r.amounts->>one.unit)::numeric, 0))
            WHERE r.tenant_id = of_tenant AND r.at >= one.period AND r.at < ends
                AND CASE one.scope WHEN 'run' THEN (SELECT o.root::text FROM run o
                        WHERE o.tenant_id = r.tenant_id AND o.id = r.run_id)
                    WHEN 'workflow' THEN r.workflow
                    WHEN 'user' THEN r.user_id WHEN 'rate' THEN r.tool || ' ' || r.user_id
                    ELSE r.tenant_id END = one.subject
            RETURNING coalesce((r.amounts->>one.unit)::numeric, 0) AS amount)
        SELECT coalesce(sum(amount), 0) INTO aside FROM open;
        INSERT INTO purse (tenant_id, account, slice, reserved, spent)
        VALUES (of_tenant, one.key, 0, aside, charged);
    END LOOP;
END $$;
"""

GRANTS = """
GRANT SELECT, INSERT, DELETE ON account TO celeriac_control;
GRANT UPDATE (limited, granted, extra, beyond) ON account TO celeriac_control;
GRANT SELECT, INSERT, UPDATE ON purse TO celeriac_control;
GRANT SELECT, INSERT, UPDATE, DELETE ON reservation TO celeriac_control;
GRANT SELECT, INSERT ON ledger TO celeriac_control;
GRANT SELECT, INSERT ON account TO celeriac_worker;
GRANT UPDATE (limited, granted, extra, beyond) ON account TO celeriac_worker;
GRANT SELECT, INSERT, UPDATE ON purse TO celeriac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON reservation TO celeriac_worker;
GRANT SELECT, INSERT ON ledger TO celeriac_worker;
"""


def upgrade() -> None:
    for statements in (STEPS, TABLES, FUNCTIONS, GRANTS):
        op.execute(statements)
    op.execute("SELECT ensure_partitions(CURRENT_DATE, 3)")


def downgrade() -> None:
    op.execute(
        """
        DROP FUNCTION ledger_open, ledger_close, ledger_settle, ledger_reserve, ledger_book,
            ledger_take, ledger_call_back, ledger_purse, ledger_share, ledger_sum, ledger_period;
        DROP TABLE ledger, reservation, purse, account;
        REVOKE SELECT ON principal FROM celeriac_worker;
        ALTER TABLE result DROP CONSTRAINT result_outcome_check,
            ADD CONSTRAINT result_outcome_check CHECK (outcome IN ('succeeded', 'failed', 'lost'));
        ALTER TABLE run DROP COLUMN scopes, DROP COLUMN root;
        ALTER TABLE step DROP COLUMN used, DROP COLUMN permits, DROP COLUMN asked;
        """
    )
