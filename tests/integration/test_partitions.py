from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from engine.runs import identity
from engine.store import partitions, session, tables
from tests.integration.test_roles import ROWS, RUN


@pytest.fixture
def control(database: str) -> Iterator[Engine]:
    engine = session.connect(database, role="celeriac_control")
    yield engine
    engine.dispose()


@pytest.fixture
def owner(database: str) -> Iterator[Engine]:
    engine = session.connect(database)
    yield engine
    engine.dispose()


APPENDED = sorted(
    table.name
    for table in tables.metadata.sorted_tables
    if table.dialect_options["postgresql"]["partition_by"]
)


@pytest.mark.parametrize("table", APPENDED)
def test_a_run_submitted_now_lies_in_this_months_partition(owner: Engine, table: str) -> None:
    this_month = datetime.now(UTC).strftime("%Y%m")
    assert _lies_in(owner, table, identity.new_run()) == f"{table}_{this_month}"


@pytest.mark.parametrize("table", APPENDED)
@pytest.mark.parametrize("year", [1970, 2020, 2040])
def test_a_run_of_another_time_lies_in_the_default_partition(
    owner: Engine, table: str, year: int
) -> None:
    assert _lies_in(owner, table, _id_at(datetime(year, 6, 15, tzinfo=UTC))) == f"{table}_default"


def test_a_month_begins_with_its_first_millisecond_and_ends_before_the_next(
    owner: Engine,
) -> None:
    with session.transaction(owner) as connection:
        partitions.ensure(connection, date(2031, 1, 31))
    first, after = datetime(2031, 2, 1, tzinfo=UTC), datetime(2031, 3, 1, tzinfo=UTC)
    blink = timedelta(milliseconds=1)
    assert _lies_in(owner, "history", _id_at(first - blink)) == "history_203101"
    assert _lies_in(owner, "history", _id_at(first)) == "history_203102"
    assert _lies_in(owner, "history", _id_at(after - blink)) == "history_203102"
    assert _lies_in(owner, "history", _id_at(after)) == "history_203103"


def test_asking_again_makes_nothing_and_asking_later_makes_the_months_that_are_missing(
    control: Engine,
) -> None:
    with session.transaction(control) as connection:
        today = connection.execute(text("SELECT CURRENT_DATE")).scalar_one()
        assert partitions.ensure(connection, today) == 0
        assert partitions.ensure(connection, date(2031, 11, 30)) == 3 * len(APPENDED)
        assert partitions.ensure(connection, date(2031, 12, 1)) == len(APPENDED)
        assert partitions.ensure(connection, date(2031, 11, 1)) == 0


def test_two_at_once_make_each_partition_once(control: Engine) -> None:
    meeting = threading.Barrier(2)
    made: list[int] = []

    def ensure() -> None:
        with session.transaction(control) as connection:
            meeting.wait(timeout=10)
            made.append(partitions.ensure(connection, date(2032, 1, 1)))

    racing = [threading.Thread(target=ensure) for _ in range(2)]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join(timeout=30)
    assert sorted(made) == [0, 3 * len(APPENDED)]


def test_a_month_whose_rows_lie_in_the_default_partition_already_stays_there(
    owner: Engine,
) -> None:
    late = _id_at(datetime(2033, 5, 5, tzinfo=UTC))
    assert _lies_in(owner, "history", late) == "history_default"
    with session.transaction(owner) as connection:
        assert partitions.ensure(connection, date(2033, 5, 6)) == 3 * len(APPENDED) - 1
    assert _lies_in(owner, "payload", late) == "payload_203305"
    assert _lies_in(owner, "history", _id_at(datetime(2033, 6, 5, tzinfo=UTC))) == "history_203306"


def test_a_partition_is_as_strict_as_its_table(owner: Engine) -> None:
    """Nothing is local to it, so that a later change of the table is one of every partition."""
    with session.transaction(owner) as connection:
        partitions.ensure(connection, date(2034, 1, 1))
        of_table = {
            name: connection.execute(
                text(
                    "SELECT count(*) FILTER (WHERE contype = 'c'), count(*) FILTER (WHERE contype = 'p'),"
                    " count(*) FILTER (WHERE conislocal AND contype IN ('c', 'p') AND conparentid <> 0)"
                    " FROM pg_constraint WHERE conrelid = CAST(:name AS regclass)"
                ),
                {"name": name},
            ).one()
            for name in ("result", "result_203401", "result_default")
        }
    assert of_table["result_203401"] == of_table["result"] == of_table["result_default"]


def test_making_partitions_gives_up_soon_when_somebody_holds_the_table(
    owner: Engine, control: Engine
) -> None:
    with session.transaction(owner) as holding:
        holding.execute(text("SELECT * FROM history_default"))
        with (
            session.transaction(control) as connection,
            pytest.raises(OperationalError, match="lock timeout"),
        ):
            partitions.ensure(connection, date(2035, 1, 1))


def _lies_in(engine: Engine, table: str, run: str) -> str:
    with session.transaction(engine) as connection:
        return str(
            connection.execute(
                text(
                    f"INSERT INTO {table} {ROWS[table].replace(RUN, run)}"
                    " RETURNING tableoid::regclass::text"
                )
            ).scalar_one()
        )


def _id_at(moment: datetime) -> str:
    milliseconds = round(moment.timestamp() * 1000)
    return str(UUID(int=milliseconds << 80 | 0x7 << 76 | 0b10 << 62 | 12345))
