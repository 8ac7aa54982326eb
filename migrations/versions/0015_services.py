"""Tools that are services: neither source nor library, but a kind and a configuration.

What one of them says as it comes is shown in the log of its step, beside what code prints.
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE function
            ADD service json,
            DROP CONSTRAINT function_has_one_body,
            ADD CONSTRAINT function_has_one_body
                CHECK (num_nonnulls(source, library, service) = 1),
            ADD CONSTRAINT service_is_a_tool CHECK (service IS NULL OR namespace = 'tool');
        ALTER TABLE log
            ADD call integer,
            DROP CONSTRAINT log_stream_check,
            ADD CONSTRAINT log_stream_check CHECK (stream IN ('stdout', 'stderr', 'tokens'));
        """
    )


def downgrade() -> None:
    op.execute(
        """
        DELETE FROM log WHERE stream = 'tokens';
        ALTER TABLE log
            DROP call,
            DROP CONSTRAINT log_stream_check,
            ADD CONSTRAINT log_stream_check CHECK (stream IN ('stdout', 'stderr'));
        DELETE FROM function WHERE service IS NOT NULL;
        ALTER TABLE function
            DROP CONSTRAINT service_is_a_tool,
            DROP CONSTRAINT function_has_one_body,
            ADD CONSTRAINT function_has_one_body CHECK ((source IS NULL) <> (library IS NULL)),
            DROP service;
        """
    )
