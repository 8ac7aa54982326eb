from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

import migrations
from engine.store import tables
from migrations import climb
from tests.migration import catalog


def test_the_tables_of_the_code_are_the_sum_of_the_migrations(
    database: str, empty_database: Callable[[], str]
) -> None:
    described = create_engine(empty_database(), poolclass=NullPool)
    tables.metadata.create_all(described)
    with (
        described.connect() as of_code,
        create_engine(database, poolclass=NullPool).connect() as migrated,
    ):
        expected, found = catalog.snapshot(of_code), catalog.snapshot(migrated)
    for topic, definitions in expected.items():
        assert found[topic] == definitions, topic


def test_the_comparison_sees_a_check_an_index_and_a_default_that_differ(
    empty_database: Callable[[], str],
) -> None:
    engine = create_engine(empty_database(), poolclass=NullPool)
    changes = {
        "constraints": "ALTER TABLE step DROP CONSTRAINT step_waiting_wakes",
        "indexes": "DROP INDEX step_leases; CREATE INDEX step_leases ON step (lease_until)",
        "columns": "ALTER TABLE run ALTER seq SET DEFAULT 1",
        "tables": "ALTER TABLE step RESET (fillfactor)",
    }
    tables.metadata.create_all(engine)
    with engine.connect() as connection:
        before = catalog.snapshot(connection)
        for change in changes.values():
            connection.execute(text(change))
        after = catalog.snapshot(connection)
    assert [topic for topic in before if before[topic] != after[topic]] == sorted(
        changes, key=list(before).index
    )


def test_down_and_up_again_leaves_what_was_there(empty_database: Callable[[], str]) -> None:
    url = empty_database()
    bare = _everything(url)
    migrations.upgrade(url)
    first = _everything(url)
    migrations.downgrade(url)
    assert migrations.current(url) is None
    assert _everything(url) == bare
    migrations.upgrade(url)
    assert migrations.current(url) == migrations.head()
    assert _everything(url) == first


def test_steps_are_numbered_without_gaps_and_alembic_agrees_on_the_head() -> None:
    scripts = climb.scripts_of()
    numbers = sorted(script.revision for script in scripts.walk_revisions())
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
    assert scripts.get_heads() == [migrations.head()]


def _everything(url: str) -> frozenset[tuple[str, str, str]]:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return catalog.everything(connection)
