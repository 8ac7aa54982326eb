from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors

import migrations
from celeriac.drill.servers import Servers
from celeriac.embedded import postgres
from engine.errors import NotFound
from tests.support import services
from tests.support.services import Services

ROOT = Path(migrations.__file__).parents[1]
UPGRADE = "import sys, migrations; migrations.upgrade(sys.argv[1])"


def test_a_revision_that_does_not_exist_is_refused_by_name(
    empty_database: Callable[[], str],
) -> None:
    url = empty_database()
    with pytest.raises(NotFound, match="'9999'"):
        migrations.upgrade(url, "9999")
    assert migrations.current(url) is None


def test_a_step_that_fails_leaves_nothing_behind(empty_database: Callable[[], str]) -> None:
    url = empty_database()
    _execute(url, "CREATE TABLE history (in_the_way integer)")
    with pytest.raises(Exception, match="history"):
        migrations.upgrade(url)
    assert migrations.current(url) is None
    with pytest.raises(errors.UndefinedTable):
        _execute(url, "SELECT FROM tenant")


def test_a_database_ahead_of_this_release_is_left_as_it_is(database: str) -> None:
    _execute(database, "UPDATE alembic_version SET version_num = '9998'")
    migrations.upgrade(database)
    assert migrations.current(database) == "9998"


def test_an_upgrade_with_nothing_to_do_does_not_even_import_alembic(database: str) -> None:
    program = f"{UPGRADE}; assert not any(m.startswith('alembic') for m in sys.modules)"
    subprocess.run([sys.executable, "-c", program, database], check=True, cwd=ROOT)
    started = time.process_time()
    migrations.upgrade(database)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_any_spelling_of_the_url_will_do(database: str, scheme: str) -> None:
    rest = database.partition("://")[2]
    assert migrations.current(f"{scheme}://{rest}") == migrations.head()


def test_many_processes_may_upgrade_one_new_cluster_at_once(own_servers: Servers) -> None:
    """No role, no schema yet: two processes for each of two databases."""
    urls = [postgres.ensure_database(own_servers.cluster, f"fresh_{n}") for n in range(2)]
    racing = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", UPGRADE, url], cwd=ROOT)
        for url in urls * 2
    ]
    assert [process.wait(timeout=60) for process in racing] == [0] * len(racing)
    assert [migrations.current(url) for url in urls] == [migrations.head()] * 2


def test_an_owner_that_is_no_superuser_can_upgrade_and_act_as_either_role(
    own_servers: Servers,
) -> None:
    admin = own_servers.database_url
    _execute(admin, "CREATE ROLE proprietor LOGIN CREATEROLE")
    _execute(admin, "CREATE DATABASE theirs OWNER proprietor")
    # The socket admits our own account alone; the session then gives its powers up.
    url = own_servers.cluster.url("theirs") + "&options=-csession_authorization%3Dproprietor"
    migrations.upgrade(url)
    for role in ("celeriac_api", "celeriac_control", "celeriac_worker"):
        _execute(url, f"SET ROLE {role}; SELECT FROM run")


def test_a_database_made_from_a_template_needs_no_upgrade(shared_services: Services) -> None:
    url = services.create_database(shared_services)
    try:
        assert migrations.current(url) == migrations.head()
    finally:
        services.drop_database(shared_services, url)


def test_what_was_asked_and_said_before_it_was_kept_for_good_is_taken_along(
    empty_database: Callable[[], str],
) -> None:
    url, run = empty_database(), "01975c3e-0000-7000-8000-000000000001"
    migrations.upgrade(url, "0007")
    _execute(
        url,
        f"""
        INSERT INTO tenant (id, name) VALUES ('acme', 'Acme');
        INSERT INTO workflow (tenant_id, name) VALUES ('acme', 'w');
        INSERT INTO workflow_version (tenant_id, id, workflow, version, document, checksum,
            created_by) VALUES ('acme', '{run}', 'w', '1.0.0', '{{}}', 'c', 'me');
        INSERT INTO run (tenant_id, id, version_id, rules, submitted_by)
            VALUES ('acme', '{run}', '{run}', 1, 'me');
        INSERT INTO step (tenant_id, run_id, key, node, iteration, status, attempt, wait)
            SELECT 'acme', '{run}', key, 'a', 1, 'waiting', 3, 'approval'
            FROM (VALUES ('a#1'), ('b#1')) AS s (key);
        INSERT INTO wait (tenant_id, run_id, step, kind, asks) VALUES
            ('acme', '{run}', 'a#1', 'approval', '{{"from": ["role:x", "user:y"]}}'),
            ('acme', '{run}', 'b#1', 'event', '{{}}');
        INSERT INTO answer (tenant_id, run_id, step, attempt, said_by)
            VALUES ('acme', '{run}', 'a#1', 3, 'ada');
        """,
    )
    migrations.upgrade(url)
    assert _execute(url, "SELECT step, who, round FROM wait ORDER BY step") == [
        ("a#1", ["role:x", "user:y"], 1),
        ("b#1", [], 1),
    ]
    assert _execute(url, "SELECT step, attempt, round, kind FROM question") == [
        ("a#1", 3, 1, "approval")
    ]
    assert _execute(url, "SELECT round, said_by, say_of FROM answer") == [(1, "ada", "ada")]


def test_calls_that_were_answered_as_somebody_had_chosen_say_so_from_then_on(
    empty_database: Callable[[], str],
) -> None:
    url = empty_database()
    run, fork = (f"01975c3e-0000-7000-8000-00000000000{n}" for n in (1, 2))
    migrations.upgrade(url, "0026")
    _execute(
        url,
        f"""
        INSERT INTO tenant (id, name) VALUES ('acme', 'Acme');
        INSERT INTO workflow (tenant_id, name) VALUES ('acme', 'w');
        INSERT INTO workflow_version (tenant_id, id, workflow, version, document, checksum, created_by)
            VALUES ('acme', '{run}', 'w', '1.0.0', '{{}}', 'c', 'me');
        INSERT INTO run (tenant_id, id, version_id, rules, submitted_by, root)
            SELECT 'acme', id::uuid, '{run}', 1, 'me', id::uuid FROM (VALUES ('{run}'), ('{fork}')) AS r (id);
        INSERT INTO call (tenant_id, run_id, step, ordinal, attempt, tool, version, effect, digest, arguments, started_at)
            SELECT 'acme', run::uuid, step, 1, 1, 't', 1, 'compensable', 'd', '{{}}', at::timestamptz FROM (VALUES
                ('{run}', 'b#1', '2026-01-01T00:00Z'), ('{run}', 'b#2', '2026-01-02T00:00Z'),
                ('{run}', 'c#1', '2026-01-03T00:00Z'), ('{fork}', 'b#2', '2026-01-02T00:00Z')) AS c (run, step, at);
        INSERT INTO chosen_call (tenant_id, run_id, step, ordinal, node, digest, choice, made_at, taken_step, taken_ordinal)
            VALUES ('acme', '{run}', 'b#1', 1, 'b', 'd', 'reuse', '2026-01-01T00:00Z', 'b#2', 1),
                ('acme', '{run}', 'c#0', 1, 'c', 'd', 'execute', '2026-01-01T00:00Z', 'c#1', 1);
        """,
    )
    migrations.upgrade(url)
    told = "SELECT step, date_part('day', served AT TIME ZONE 'UTC')::int FROM call ORDER BY run_id, step"
    assert _execute(url, told) == [("b#1", None), ("b#2", 1), ("c#1", None), ("b#2", 1)]


def test_what_was_chosen_before_holds_since_the_run_went_back_over_its_call(
    empty_database: Callable[[], str],
) -> None:
    url = empty_database()
    migrations.upgrade(url, "0027")
    run, other = "00000000-0000-7000-8000-000000000001", "00000000-0000-7000-8000-000000000002"
    lines = {3: ("Started", 0), 8: ("Started", 0), 10: ("RollBack", 8), 20: ("RollBack", 3)}
    _execute(
        url,
        "SET session_replication_role = replica;"
        + "".join(
            "INSERT INTO history (tenant_id, run_id, seq, at, kind, format, body, hash) VALUES"
            f" ('acme', '{run}', {seq}, to_timestamp({seq}), '{kind}', 1, '{{\"seq\": {to}}}', '');"
            for seq, (kind, to) in lines.items()
        )
        + "".join(
            "INSERT INTO call (tenant_id, run_id, step, ordinal, attempt, tool, version, effect, digest, arguments,"
            f" started_at) VALUES ('acme', '{run}', 'b#1', {ordinal}, 1, 't', 1, 'compensable', 'd', '{{}}',"
            f" to_timestamp({at}));"
            for ordinal, at in ((1, 5), (2, 9))
        )
        + "".join(
            "INSERT INTO chosen_call (tenant_id, run_id, step, ordinal, node, digest, choice, made_at) VALUES"
            f" ('acme', '{of}', 'b#1', {ordinal}, 'b', 'd', 'skip', to_timestamp({at}));"
            for of in (run, other)
            for ordinal, at in ((1, 5), (2, 9))
        ),
    )
    migrations.upgrade(url, "0028")
    found = _execute(url, "SELECT run_id::text, ordinal, since, until FROM chosen_call")
    # What a fork was given holds since it began.
    assert sorted(found) == [
        *[(run, 1, 20, None), (run, 2, 10, None)],
        *[(other, 1, 0, None), (other, 2, 0, None)],
    ]


def _execute(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Carry statements out; the rows of the last one."""
    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
