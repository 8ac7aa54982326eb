"""Row-level security: the second wall between tenants, for the role of the API.

The first is that every statement names its tenant. If one forgot, the API's processes would still see
and write the rows of one tenant alone: the one that their transaction is bound to
(`engine.store.session.bound`), and none where it is bound to none. Coordinators and workers serve all
tenants; their policies let them pass, and their wall is the composite keys.

The owner passes, too, which is why nothing is forced on him: migrations alone act as the owner, and a
wall that he must open himself keeps nobody out. Partitions are reached through their parents, whose
policies hold; nobody is granted a partition itself.

`raise_wall` is for the migrations that make tables later: it puts up both policies and gives the API
what the coordinator was granted, so it is called when the grants are made.
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

ROLE = """
DO $$
DECLARE
    may_act text := CASE WHEN current_setting('server_version_num')::int >= 160000
        THEN 'SET' ELSE 'MEMBER' END;
BEGIN
    IF to_regrole('celeriac_api') IS NULL THEN
        BEGIN
            CREATE ROLE celeriac_api NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    IF NOT pg_has_role(current_user, 'celeriac_api', may_act) THEN
        BEGIN
            GRANT celeriac_api TO CURRENT_USER;
        EXCEPTION WHEN unique_violation THEN NULL;
        END;
    END IF;
END $$;
GRANT USAGE ON SCHEMA public TO celeriac_api;
GRANT EXECUTE ON FUNCTION credential_of(text) TO celeriac_api;
"""

# No role of ours is a member of another: policies hold for members, too.
FUNCTIONS = """
CREATE FUNCTION share_grants(of regclass) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    what text;
BEGIN
    FOR what IN
        SELECT acl.privilege_type FROM pg_class c, aclexplode(c.relacl) acl
        WHERE c.oid = of AND acl.grantee = 'celeriac_control'::regrole
        UNION ALL
        SELECT format('%s (%I)', acl.privilege_type, a.attname)
        FROM pg_attribute a, aclexplode(a.attacl) acl
        WHERE a.attrelid = of AND acl.grantee = 'celeriac_control'::regrole
    LOOP
        EXECUTE format('GRANT %s ON %s TO celeriac_api', what, of);
    END LOOP;
END $$;

CREATE FUNCTION raise_wall(around regclass) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    own text := format('%I = current_setting(''celeriac.tenant'', true)',
        CASE WHEN around = 'tenant'::regclass THEN 'id' ELSE 'tenant_id' END);
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', around);
    EXECUTE format('CREATE POLICY own_tenant ON %s TO celeriac_api USING (%s) WITH CHECK (%s)',
        around, own, own);
    EXECUTE format('CREATE POLICY all_tenants ON %s TO celeriac_control, celeriac_worker'
        ' USING (true) WITH CHECK (true)', around);
    PERFORM share_grants(around);
END $$;
REVOKE ALL ON FUNCTION share_grants(regclass), raise_wall(regclass) FROM PUBLIC;
"""

_OF_TENANTS = """
    SELECT c.oid::regclass FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND (c.relname = 'tenant' OR EXISTS (SELECT FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped))
    ORDER BY c.relname
"""


def upgrade() -> None:
    op.execute(ROLE)
    op.execute(FUNCTIONS)
    op.execute(f"SELECT raise_wall(oid) FROM ({_OF_TENANTS}) AS walled (oid)")  # noqa: S608  # ours
    op.execute("SELECT share_grants('unknown_request')")


def downgrade() -> None:
    op.execute(
        f"""
        DO $$
        DECLARE
            walled regclass;
        BEGIN
            FOR walled IN {_OF_TENANTS} LOOP
                EXECUTE format('DROP POLICY own_tenant ON %s', walled);
                EXECUTE format('DROP POLICY all_tenants ON %s', walled);
                EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', walled);
                EXECUTE format('REVOKE ALL ON %s FROM celeriac_api', walled);
            END LOOP;
        END $$;
        REVOKE ALL ON unknown_request FROM celeriac_api;
        REVOKE ALL ON FUNCTION credential_of(text) FROM celeriac_api;
        DROP FUNCTION raise_wall(regclass), share_grants(regclass);
        REVOKE USAGE ON SCHEMA public FROM celeriac_api;
        """
    )
