"""Statements are planned once for each connection, maybe while there is next to nothing: what is named
must be found by its name then, too, and not by going through whatever there will be."""

from __future__ import annotations

import re

import pytest

from engine.platform import Platform
from engine.runs import attempts, turns
from engine.runs.attempts import Succeeded
from engine.settings import Settings
from engine.store import session
from engine.store.ids import StepId
from engine.store.session import Statement
from tests.support.platforms import LINE, as_owner, publish, register, submit
from workers.execution import Worker

#: The tables whose rows are locked, by statement, and the last column of their keys.
TABLES = {"run_lock": "run", "step_take": "step", "result_report": "step"}
KEYS = {"run": "id", "step": "key"}
LOCKING = TABLES.keys()

_LOCKED = re.compile(r"LockRows[^\n]*\n[^\n]* on (run|step)\b[^\n]*\n([^\n]*)")

pytestmark = pytest.mark.usefixtures("sound")


def test_what_is_planned_while_there_is_little_finds_what_is_named_by_its_key(
    main: Platform, worker: Worker, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(main, "noop")
    version = publish(main, LINE)
    runs = [submit(main, version) for _ in range(3)]
    as_owner(settings, "ANALYZE run, step, inbox, tenant")
    asked: dict[str, tuple[Statement, tuple[object, ...]]] = {}
    send = session._send

    def noted(connection, statements):  # type: ignore[no-untyped-def]
        asked.update(
            {one.name: (one, given) for one, given in statements if not isinstance(one, str)}
        )
        return send(connection, statements)

    monkeypatch.setattr(session, "_send", noted)
    leases = attempts.take(worker.platform, [StepId(*run, "a#1") for run in runs], worker.name)
    attempts.report(worker.platform, worker.name, [(lease, Succeeded()) for lease in leases])
    turns.take_turns(main, runs)
    monkeypatch.undo()
    assert asked.keys() >= LOCKING
    with main.database.connect() as connection:
        cursor = connection.connection.dbapi_connection.cursor()  # type: ignore[union-attr]
        for statement, given in (asked[name] for name in sorted(LOCKING)):
            session._prepare(connection, cursor, [statement])
            cursor.execute(f"EXPLAIN {session._execute(statement.name, len(given))}", given or None)
            plan = "\n".join(line for (line,) in cursor.fetchall())
            found = _LOCKED.findall(plan)
            assert [table for table, _ in found] == [TABLES[statement.name]], plan
            for table, how in found:
                assert f"{KEYS[table]} = " in how, plan
