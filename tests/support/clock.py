"""A clock that a test gives to the database: its sessions read it, the machine's is left alone.

Statements of ours ask for `clock_timestamp()` by its bare name. A schema that is searched before
Postgres' own has a function of that name, which is ahead of the real one by as much as a table says.
Defaults of columns were looked up when the tables were made, and are looked up anew.
"""

from __future__ import annotations

from sqlalchemy import text

from engine.store import session

_GIVE = """
CREATE SCHEMA given;
CREATE TABLE given.ahead (by interval NOT NULL);
CREATE FUNCTION given.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT pg_catalog.clock_timestamp() + by FROM given.ahead';
GRANT USAGE ON SCHEMA given TO PUBLIC;
GRANT SELECT ON given.ahead TO PUBLIC;
INSERT INTO given.ahead SELECT date_trunc('hour', moment) + interval '70 minutes' - moment
    FROM pg_catalog.clock_timestamp() AS moment;
DO $$ DECLARE it record; BEGIN
    FOR it IN SELECT d.adrelid::regclass AS place, a.attname AS name FROM pg_attrdef d
        JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        WHERE pg_get_expr(d.adbin, d.adrelid) = 'clock_timestamp()'
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER %I SET DEFAULT given.clock_timestamp()',
            it.place, it.name);
    END LOOP;
    EXECUTE format('ALTER DATABASE %I SET search_path = public, given, pg_catalog',
        current_database());
END $$;
"""


def give(database_url: str) -> None:
    """Have every session that begins from now on see ten past an hour: no test is cut by the next."""
    _as_owner(database_url, _GIVE)


def an_hour_later(database_url: str) -> None:
    """The same minute of the next hour, for everybody, at once."""
    _as_owner(database_url, "UPDATE given.ahead SET by = by + interval '1 hour'")


def _as_owner(database_url: str, statements: str) -> None:
    owner = session.connect(database_url)
    with session.transaction(owner) as connection:
        connection.execute(text(statements))
    owner.dispose()
