"""What a turn writes is checked where it is written.

A turn's writes go to the database together, and nobody waits for the rows of each: so that a run or a
step had moved on must end the transaction by itself.
"""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

# Its code is one of ours: the standard leaves classes that begin with I to Z to whoever needs them.
CHECK = """
CREATE FUNCTION all_written(written bigint, meant bigint, what text) RETURNS void
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF written <> meant THEN
        RAISE EXCEPTION '% of % % had moved on', meant - written, meant, what
            USING ERRCODE = 'XMOVD';
    END IF;
END $$;
"""


def upgrade() -> None:
    op.execute(CHECK)


def downgrade() -> None:
    op.execute("DROP FUNCTION all_written(bigint, bigint, text)")
