"""Secrets, sealed, and what is granted to functions, tools and workflows.

A secret's versions are appended; what was sealed of one is removed when the next comes, and when the
secret is deleted, so that a row without it says who had put what when, and no more. One version of
each name is whole at a time.

The API seals, and seals anew; workers read. Coordinators have no part in either table: what they
decide, and write to history, cannot hold what they never see.
"""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE secret (
    tenant_id text NOT NULL REFERENCES tenant,
    name text NOT NULL CHECK (name ~ '^[A-Za-z_][A-Za-z0-9_]{0,63}$'),
    version integer NOT NULL CHECK (version > 0),
    sensitive boolean NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    key_id text,
    nonce bytea,
    ciphertext bytea,
    PRIMARY KEY (tenant_id, name, version),
    CONSTRAINT secret_is_whole_or_gone CHECK (num_nulls(key_id, nonce, ciphertext) IN (0, 3))
);
CREATE UNIQUE INDEX secret_in_force ON secret (tenant_id, name) WHERE key_id IS NOT NULL;
CREATE TABLE capability (
    tenant_id text NOT NULL REFERENCES tenant,
    kind text NOT NULL CHECK (kind IN ('function', 'tool', 'workflow')),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    version text NOT NULL,
    profile json NOT NULL,
    granted_by text NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    why text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, kind, name, version)
);
"""

GRANTS = """
SELECT raise_wall('secret'), raise_wall('capability');
GRANT SELECT, INSERT ON secret, capability TO celeriac_api;
GRANT UPDATE (key_id, nonce, ciphertext) ON secret TO celeriac_api;
GRANT UPDATE (profile, granted_by, granted_at, why), DELETE ON capability TO celeriac_api;
GRANT SELECT ON secret, capability TO celeriac_worker;
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(GRANTS)


def downgrade() -> None:
    op.execute("DROP TABLE capability, secret")
