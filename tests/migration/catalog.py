"""What Postgres itself says of a schema, so that two of them can be compared."""

from __future__ import annotations

from sqlalchemy import Connection, text

#: Each answers with (table, name, definition); partitions are left out, their parents stand for them.
_QUESTIONS = {
    "tables": """
        SELECT c.relname, c.relkind::text,
               concat_ws(' ', pg_get_partkeydef(c.oid), c.reloptions::text, c.relpersistence)
        FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {ours}""",
    "columns": """
        SELECT c.relname, a.attname,
               concat_ws(' ', format_type(a.atttypid, a.atttypmod),
                         CASE WHEN a.attnotnull THEN 'NOT NULL' END,
                         'identity ' || nullif(a.attidentity::text, ''),
                         'default ' || pg_get_expr(d.adbin, d.adrelid))
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
        WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p') AND {ours}""",
    "constraints": """
        SELECT c.relname, k.conname, k.contype::text || ' ' || pg_get_constraintdef(k.oid)
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE {ours}""",
    "indexes": """
        SELECT c.relname, i.relname, pg_get_indexdef(x.indexrelid)
        FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
        WHERE {ours}""",
    "triggers": """
        SELECT c.relname, t.tgname, pg_get_triggerdef(t.oid)
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal AND {ours}""",
}
_OURS = """c.relnamespace = 'public'::regnamespace AND NOT c.relispartition
        AND c.relname <> 'alembic_version'"""


def snapshot(connection: Connection) -> dict[str, frozenset[tuple[str, str, str]]]:
    """Tables, columns, constraints, indexes and triggers, by name and definition."""
    return {
        topic: frozenset(
            tuple(row) for row in connection.execute(text(question.format(ours=_OURS)))
        )
        for topic, question in _QUESTIONS.items()
    }


def everything(connection: Connection) -> frozenset[tuple[str, str, str]]:
    """Whatever there is beside the version row: relations, functions, types, and grants on the schema."""
    return frozenset(
        tuple(row)
        for row in connection.execute(
            text("""
                SELECT 'relation', relname, coalesce(relacl::text, '') FROM pg_class
                WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'alembic_version%'
                UNION ALL
                SELECT 'function', proname, coalesce(proacl::text, '') || prosrc FROM pg_proc
                WHERE pronamespace = 'public'::regnamespace
                UNION ALL
                SELECT 'type', typname, '' FROM pg_type
                WHERE typnamespace = 'public'::regnamespace AND typname NOT LIKE '%alembic_version'
                UNION ALL
                SELECT 'schema', acl.grantee::regrole::text, acl.privilege_type
                FROM pg_namespace, aclexplode(nspacl) acl
                WHERE nspname = 'public' AND acl.grantee <> 0""")
        )
    )
