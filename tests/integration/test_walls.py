"""The second wall between tenants: what the database itself keeps from the API's role."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors
from sqlalchemy import text

from engine.errors import CeleriacError
from engine.platform import DatabaseRole
from engine.store import keys, session, tables
from tests.integration.test_roles import GRANTS, ROWS, RUN
from tests.support import services
from tests.support.services import Services

OF_TENANTS = sorted(table.name for table in tables.metadata.sorted_tables if "tenant_id" in table.c)


@pytest.fixture(scope="module")
def database(shared_services: Services) -> Iterator[str]:
    """A database with one row of each of two tenants in every table."""
    url = services.create_database(shared_services)
    with _owner(url) as cursor:
        for tenant in ("acme", "other"):
            for table, row in ROWS.items():
                if tenant == "acme" or table in {*OF_TENANTS, "tenant"}:
                    cursor.execute(f"INSERT INTO {table} {_of(tenant, row)}")
    yield url
    services.drop_database(shared_services, url)


def test_every_table_of_tenants_has_its_wall(database: str) -> None:
    with _owner(database) as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class c WHERE relkind IN ('r', 'p') AND NOT relispartition"
            " AND relnamespace = 'public'::regnamespace AND (relname = 'tenant' OR EXISTS (SELECT"
            " FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id'))"
        )
        of_tenants = {name for (name,) in cursor.fetchall()}
        cursor.execute(
            "SELECT tablename FROM pg_policies JOIN pg_class ON relname = tablename"
            " WHERE relrowsecurity AND schemaname = 'public'"
            " GROUP BY 1 HAVING array_agg(policyname ORDER BY policyname)::text[] ="
            " '{all_tenants,own_tenant}'"
        )
        walled = {name for (name,) in cursor.fetchall()}
    assert walled == of_tenants == {*OF_TENANTS, "tenant"}


def test_no_role_of_ours_gets_around_a_wall(database: str) -> None:
    with _owner(database) as cursor:
        cursor.execute(
            r"SELECT rolname FROM pg_roles r WHERE rolname LIKE 'celeriac\_%'"
            " AND (rolbypassrls OR rolsuper OR EXISTS ("
            "   SELECT FROM pg_auth_members m JOIN pg_roles o ON o.oid = m.roleid"
            "   WHERE m.member = r.oid))"
        )
        assert cursor.fetchall() == []


def test_without_a_tenant_there_is_nothing(database: str) -> None:
    for table in (*OF_TENANTS, "tenant"):
        with _api(database) as cursor:
            cursor.execute(f"SELECT count(*) FROM {table}")
            assert cursor.fetchone() == (0,), table
            with pytest.raises(errors.InsufficientPrivilege, match=_refusal(table)):
                cursor.execute(f"INSERT INTO {table} {_of('acme', ROWS[table])}")


def test_a_tenant_sees_and_writes_its_own_alone(database: str) -> None:
    for table in (*OF_TENANTS, "tenant"):
        column = "id" if table == "tenant" else "tenant_id"
        with _api(database, tenant="acme") as cursor:
            cursor.execute(f"SELECT {column} FROM {table}")
            assert cursor.fetchall() == [("acme",)], table
            if "DELETE" in GRANTS["celeriac_api"][table]:
                cursor.execute(f"DELETE FROM {table} WHERE {column} = 'other'")
                assert cursor.rowcount == 0
            with pytest.raises(errors.InsufficientPrivilege, match=_refusal(table)):
                cursor.execute(f"INSERT INTO {table} {_of('other', ROWS[table])}")


def test_a_row_cannot_be_moved_to_another_tenant(database: str) -> None:
    with _api(database, tenant="acme") as cursor:
        cursor.execute("UPDATE step SET status = status WHERE tenant_id = 'other'")
        assert cursor.rowcount == 0
        with pytest.raises(errors.InsufficientPrivilege, match="row-level security"):
            cursor.execute("UPDATE inbox SET tenant_id = 'other'")


@pytest.mark.parametrize("role", ["celeriac_control", "celeriac_worker"])
def test_who_serves_all_tenants_passes(database: str, role: str) -> None:
    with _owner(database) as cursor:
        cursor.execute(f"BEGIN; SET LOCAL ROLE {role}")
        for table, granted in GRANTS[role].items():
            if "SELECT" in granted and table in OF_TENANTS:
                cursor.execute(f"SELECT count(DISTINCT tenant_id) FROM {table}")
                assert cursor.fetchone() == (2,), table


def test_a_transaction_is_bound_and_its_connection_is_not(database: str) -> None:
    engine = session.connect(database, role=DatabaseRole.API, size=1)
    acme, count = session.bound(engine, "acme"), text("SELECT count(*) FROM step")
    try:
        with session.transaction(acme) as connection:
            assert connection.execute(count).scalar_one() == 1
        with session.transaction(engine) as connection:
            assert connection.execute(count).scalar_one() == 0
        with pytest.raises(CeleriacError), session.transaction(acme):
            raise CeleriacError("it goes wrong")
        with session.transaction(engine) as connection:
            assert connection.execute(count).scalar_one() == 0
        with session.transaction(session.bound(acme, "other")) as connection:
            found = connection.execute(text("SELECT tenant_id FROM step")).scalar_one()
            assert found == "other"
    finally:
        engine.dispose()


def test_a_key_is_found_before_its_tenant_is_known_and_nothing_beside_it(database: str) -> None:
    engine = session.connect(database, role=DatabaseRole.API, size=1)
    try:
        with session.transaction(engine) as connection:
            found = keys.presented(connection, "k")
            assert found is not None
            assert (found.tenant, found.user) == ("acme", "ada")
            assert keys.presented(connection, "%") is None
            assert connection.execute(text("SELECT count(*) FROM api_key")).scalar_one() == 0
    finally:
        engine.dispose()


def test_what_finds_keys_cannot_be_led_elsewhere(database: str) -> None:
    with _owner(database) as cursor:
        cursor.execute(
            "SELECT prosecdef, proconfig, proacl::text FROM pg_proc WHERE proname = 'credential_of'"
        )
        definer, settings, granted = cursor.fetchone()
    assert definer
    assert settings == ["search_path=public, pg_temp"]
    assert "celeriac_worker" not in granted
    assert not any(entry.startswith("=") for entry in granted.strip("{}").split(","))


@pytest.mark.parametrize("role", ["celeriac_api", "celeriac_control", "celeriac_worker"])
def test_a_wall_keeps_no_statement_from_its_index(database: str, role: str) -> None:
    with _owner(database) as cursor:
        cursor.execute(
            f"BEGIN; SET LOCAL ROLE {role}; SET LOCAL celeriac.tenant = 'acme';"
            " SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off;"
            " EXPLAIN SELECT * FROM step"
            f" WHERE tenant_id = 'acme' AND run_id = '{RUN}' AND key = 'a#1'"
        )
        plan = "\n".join(line for (line,) in cursor.fetchall())
        cursor.execute("ROLLBACK")
    assert "step_pkey" in plan
    assert "run_id =" in plan.partition("Index Cond")[2]
    assert ("current_setting" in plan) is (role == "celeriac_api")
    assert "Filter" not in plan or role == "celeriac_api"


def test_a_new_table_gets_its_wall_with_one_call(database: str) -> None:
    with _owner(database) as cursor:
        cursor.execute(
            "BEGIN; CREATE TABLE novelty (tenant_id text, n integer);"
            " INSERT INTO novelty VALUES ('acme', 1), ('other', 2);"
            " GRANT SELECT, UPDATE (n) ON novelty TO celeriac_control;"
            " SELECT raise_wall('novelty');"
            " SET LOCAL ROLE celeriac_api; SET LOCAL celeriac.tenant = 'acme';"
            " UPDATE novelty SET n = 3"
        )
        assert cursor.rowcount == 1
        cursor.execute("SELECT n FROM novelty")
        assert cursor.fetchall() == [(3,)]
        cursor.execute("ROLLBACK")


@contextmanager
def _owner(url: str) -> Iterator[Any]:
    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection:
        connection.autocommit = True
        yield connection.cursor()


@contextmanager
def _api(url: str, *, tenant: str | None = None) -> Iterator[Any]:
    """As a process of the API; whatever is done is undone."""
    with _owner(url) as cursor:
        cursor.execute("BEGIN; SET LOCAL ROLE celeriac_api")
        if tenant is not None:
            cursor.execute("SELECT set_config('celeriac.tenant', %s, true)", (tenant,))
        yield cursor
        cursor.execute("ROLLBACK")


def _refusal(table: str) -> str:
    """What keeps the API from writing to a table what is not its tenant's."""
    may_insert = "INSERT" in GRANTS["celeriac_api"][table]
    return "row-level security" if may_insert else "permission denied"


def _of(tenant: str, row: str) -> str:
    if tenant == "acme":
        return row
    return row.replace("'acme'", f"'{tenant}'").replace("'k', 'key', 'x'", "'k2', 'key', 'x'")
