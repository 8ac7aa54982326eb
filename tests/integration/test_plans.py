"""Statements are planned once for each connection, maybe while there is next to nothing: what is named
must be found by its name then, too, and not by going through whatever there will be."""

from __future__ import annotations

import re

import pytest

from engine.platform import Platform
from engine.runs import attempts, turns
from engine.runs.attempts import Succeeded
from engine.settings import Settings
from engine.store import payloads, session
from engine.store.ids import StepId
from tests.support.plans import noted, plans
from tests.support.platforms import LINE, as_owner, publish, register, submit
from workers.execution import Worker

#: What each statement locks, and the last column of the key of that.
LOCKED = {
    "result_report": ("step", "key"),
    "run_lock": ("run", "id"),
    "step_begin": ("step", "key"),
    "step_delete": ("step", "key"),
    "step_take": ("step", "key"),
}
#: What each statement reads by its key, and the last columns of that.
READ = {
    "payload_get": {("payload", "id")},
    "payload_results": {("payload", "id"), ("result", "step")},
}
_LOCKS = re.compile(r"LockRows[^\n]*\n[^\n]* on (run|step)\b[^\n]*\n([^\n]*)")

pytestmark = pytest.mark.usefixtures("sound")


def test_what_is_planned_while_there_is_little_finds_what_is_named_by_its_key(
    main: Platform, worker: Worker, settings: Settings
) -> None:
    register(main, "noop")
    version = publish(main, LINE)
    runs = [submit(main, version) for _ in range(3)]
    as_owner(settings, "ANALYZE run, step, inbox, tenant")
    with noted() as asked:
        leases = attempts.take(worker.platform, [StepId(*run, "a#1") for run in runs], worker.name)
        attempts.begin(worker.platform, leases)
        attempts.report(worker.platform, worker.name, [(lease, Succeeded()) for lease in leases])
        turns.take_turns(main, runs)
    assert asked.keys() >= LOCKED.keys()
    found = plans(main.database, {name: asked[name] for name in LOCKED})
    for name, (table, key) in LOCKED.items():
        ((locks, how),) = _LOCKS.findall(found[name])
        assert locks == table, found[name]
        assert f"{key} = " in how, found[name]


def test_what_steps_gave_is_found_by_name_among_all_that_their_run_has(
    main: Platform, worker: Worker, settings: Settings
) -> None:
    """A map of a thousand items would go through a million payloads."""
    register(main, "noop")
    run = submit(main, publish(main, LINE))
    as_owner(settings, "ANALYZE run, step, result, payload")
    with noted() as asked, session.transaction(main.database) as connection:
        payloads.get(connection, [(run, "input")])
        payloads.results(connection, run, ["a#1"])
    found = plans(main.database, asked)
    for name, tables in READ.items():
        scans = re.findall(r"Index Scan using \w+ on (\w+?)_\w+ [^\n]*\n([^\n]*)", found[name])
        how = {
            (table, key)
            for table, condition in scans
            for _, key in tables
            if f"({key} = " in condition
        }
        assert how >= tables, found[name]
