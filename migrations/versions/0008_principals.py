"""Users, the keys that belong to them, and what was refused.

Until now a key was its own user, by its name. Each name becomes a user with the roles of the keys of
that name that are valid; a key keeps its own roles as a limit, so none can do more than it could.

A key is looked up before anybody knows whose it is: `credential_of` reads that one row with its user,
whoever asks, and nothing else.
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

PRINCIPALS = """
CREATE TABLE principal (
    tenant_id text NOT NULL REFERENCES tenant,
    id text NOT NULL CHECK (length(id) BETWEEN 1 AND 200),
    roles text[] NOT NULL DEFAULT '{}',
    permissions text[] NOT NULL DEFAULT '{}',
    active boolean NOT NULL DEFAULT true,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, id)
);
INSERT INTO principal (tenant_id, id, roles, created_by)
SELECT tenant_id, name,
    coalesce(array_agg(DISTINCT role ORDER BY role) FILTER (
        WHERE role IS NOT NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())), '{}'),
    'celeriac'
FROM api_key LEFT JOIN LATERAL unnest(roles) AS role ON true
GROUP BY tenant_id, name;
"""

KEYS = """
ALTER TABLE api_key
    ALTER COLUMN roles DROP NOT NULL,
    ADD COLUMN user_id text,
    ADD COLUMN scopes text[],
    ADD COLUMN last_used_at timestamptz,
    ADD COLUMN revoked_at timestamptz,
    ADD COLUMN created_by text NOT NULL DEFAULT 'celeriac';
UPDATE api_key SET user_id = name;
ALTER TABLE api_key
    ALTER COLUMN user_id SET NOT NULL,
    ALTER COLUMN created_by DROP DEFAULT,
    ADD FOREIGN KEY (tenant_id, user_id) REFERENCES principal (tenant_id, id);
CREATE INDEX api_key_user ON api_key (tenant_id, user_id);

CREATE FUNCTION credential_of(key_id text) RETURNS TABLE (
    tenant_id text, id text, hash bytea, user_id text, key_roles text[], scopes text[],
    lately boolean, expired boolean, revoked boolean,
    roles text[], permissions text[], active boolean
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT k.tenant_id, k.id, k.hash, k.user_id, k.roles, k.scopes,
        coalesce(k.last_used_at > clock_timestamp() - interval '1 minute', false),
        k.expires_at IS NOT NULL AND k.expires_at <= clock_timestamp(), k.revoked_at IS NOT NULL,
        u.roles, u.permissions, u.active
    FROM api_key k JOIN principal u ON (u.tenant_id, u.id) = (k.tenant_id, k.user_id)
    WHERE k.id = key_id
$$;
REVOKE ALL ON FUNCTION credential_of(text) FROM PUBLIC;
"""

# A row for each credential, route, reason and minute; and, of those whom nobody knows, for each
# reason and hour. So neither grows with what is thrown at it.
REFUSED = """
CREATE TABLE refused_request (
    tenant_id text NOT NULL REFERENCES tenant,
    credential text NOT NULL,
    route text NOT NULL,
    reason text NOT NULL,
    minute timestamptz NOT NULL,
    count bigint NOT NULL CHECK (count > 0),
    PRIMARY KEY (tenant_id, credential, route, reason, minute)
);
CREATE INDEX refused_request_minute ON refused_request (tenant_id, minute);
CREATE TABLE unknown_request (
    reason text NOT NULL,
    hour timestamptz NOT NULL,
    count bigint NOT NULL CHECK (count > 0),
    PRIMARY KEY (reason, hour)
);
"""

GRANTS = """
GRANT EXECUTE ON FUNCTION credential_of(text) TO celeriac_control;
GRANT SELECT, INSERT ON principal TO celeriac_control;
GRANT UPDATE (roles, permissions, active) ON principal TO celeriac_control;
GRANT UPDATE (last_used_at, revoked_at) ON api_key TO celeriac_control;
GRANT SELECT, INSERT ON refused_request, unknown_request TO celeriac_control;
GRANT DELETE ON refused_request TO celeriac_control;
GRANT UPDATE (count) ON refused_request, unknown_request TO celeriac_control;
"""


def upgrade() -> None:
    for statements in (PRINCIPALS, KEYS, REFUSED, GRANTS):
        op.execute(statements)


def downgrade() -> None:
    op.execute(
        """
        DROP TABLE unknown_request, refused_request;
        DROP FUNCTION credential_of(text);
        UPDATE api_key k SET
            name = user_id,
            roles = coalesce(k.roles, u.roles),
            expires_at = CASE WHEN u.active AND revoked_at IS NULL AND scopes IS NULL
                THEN expires_at ELSE least(expires_at, clock_timestamp()) END
        FROM principal u WHERE (u.tenant_id, u.id) = (k.tenant_id, k.user_id);
        ALTER TABLE api_key DROP COLUMN user_id, DROP COLUMN scopes, DROP COLUMN last_used_at,
            DROP COLUMN revoked_at, DROP COLUMN created_by, ALTER COLUMN roles SET NOT NULL;
        DROP TABLE principal;
        """
    )
