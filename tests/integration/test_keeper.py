"""Leases are kept while the worker can be heard, and given up before anybody else has them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from engine.errors import Unavailable
from engine.platform import DatabaseRole, Platform
from engine.runs import attempts, sweep, turns, views
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.fleet import wait_until
from tests.support.hands import beside, carry_out
from tests.support.platforms import Sent, chain, lose_leases, publish, register, submit
from tests.support.proxy import between
from workers.execution import Worker, execute
from workers.keeper import Keeper
from workers.sandbox import Sandbox


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A run whose step waits until it may go on."""

    run: RunId
    began: Path
    go: Path


@pytest.fixture
def waiting(main: Platform, tmp_path: Path) -> Waiting:
    register(main, "wait_for_file", library="tests.support.witness:wait_for_file")
    began, go = tmp_path / "began", tmp_path / "go"
    version = publish(main, chain(a={"uses": "wait_for_file", "timeout": 60}))
    run = submit(main, version, began=str(began), go=str(go))
    return Waiting(run=run, began=began, go=go)


def kept_by(keeper: Keeper):
    (one,) = keeper._kept.values()
    return one


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# --- sad paths ------------------------------------------------------------------------------


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "connecting"])
def test_a_worker_that_is_cut_off_stops_before_its_lease_ends(
    main: Platform, settings: Settings, sandbox: Sandbox, tmp_path: Path, connected: bool
) -> None:
    register(main, "stay", library="tests.support.witness:stay")
    witness = tmp_path / "witness"
    node = {"uses": "stay", "timeout": 100}
    run = submit(main, publish(main, chain(a=node)), witness=str(witness))
    lease_seconds = 6.0
    with (
        between(replace(settings, lease_seconds=lease_seconds)) as (far, network),
        platforms.platform(far, DatabaseRole.WORKER) as built,
    ):
        quiet = replace(built, broker=Sent(app=built.broker.app))
        keeper = Keeper(quiet)
        keeper.start()
        worker = Worker(name="w1", platform=quiet, sandbox=sandbox, keeper=keeper)
        with beside(execute, worker, main.broker.hints.pop().step):
            wait_until(lambda: witness.exists() and witness.read_text().endswith("\n"))
            pid, kept = int(witness.read_text()), kept_by(keeper)
            if not connected:
                quiet.database.dispose()
            network.mute()
            wait_until(lambda: not is_alive(pid), seconds=2 * lease_seconds)
            assert time.monotonic() < kept.renewed + lease_seconds
            network.mend()
        keeper.close()
    lose_leases(settings)
    sweep.sweep(main)
    (first,) = views.attempts(main, run)
    assert first.reason == "lost"
    assert views.status(main, run).status == "running"


@pytest.mark.parametrize(
    "error", [RuntimeError("nobody thought of it"), Unavailable("it is away")], ids=["own", "away"]
)
def test_a_keeper_survives_whatever_befalls_it(
    main: Platform, worker: Worker, waiting: Waiting, monkeypatch, error: Exception
) -> None:
    asked: list[bool] = []
    held = attempts.held

    def fails_at_first(*arguments):
        asked.append(len(asked) > 1)
        if not asked[-1]:
            raise error
        return held(*arguments)

    monkeypatch.setattr(attempts, "held", fails_at_first)
    with beside(carry_out, main, worker, waiting.run):
        wait_until(waiting.began.exists)
        wait_until(lambda: any(asked), what="the keeper to look again")
        waiting.go.touch()
    assert [a.outcome for a in views.attempts(main, waiting.run)] == ["succeeded"]


def test_a_database_that_takes_no_writes_for_a_moment_costs_no_lease(
    main: Platform, worker: Worker, settings: Settings, waiting: Waiting, monkeypatch
) -> None:
    """As after a failover, when the old primary is still there."""
    refused: list[Exception] = []
    beat = attempts.beat

    def seen(*arguments):
        try:
            return beat(*arguments)
        except Exception as error:
            refused.append(error)
            raise

    monkeypatch.setattr(attempts, "beat", seen)
    admin = _admin(settings)
    with beside(carry_out, main, worker, waiting.run):
        wait_until(waiting.began.exists)
        kept = kept_by(worker.keeper)
        admin("ALTER DATABASE {} SET default_transaction_read_only = on")
        admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'")
        due = kept.renewed = kept.renewed - settings.lease_seconds / 3
        wait_until(lambda: any("read-only" in str(error) for error in refused))
        admin("ALTER DATABASE {} SET default_transaction_read_only = off")
        admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'")
        wait_until(lambda: kept.renewed > due, what="the lease to be extended")
        main.database.dispose()
        waiting.go.touch()
    assert all(isinstance(error, Unavailable) for error in refused)
    assert [a.outcome for a in views.attempts(main, waiting.run)] == ["succeeded"]


def test_an_attempt_that_lost_its_step_is_stopped_although_the_next_one_runs_beside_it(
    main: Platform, worker: Worker, settings: Settings
) -> None:
    code = (
        "def f(state, context):\n"
        "    print('begun')\n"
        "    time.sleep(60 if context.attempt == 1 else 0.1)\n"
        "    return {'n': context.attempt}"
    )
    register(main, "f", code)
    run = submit(main, publish(main, chain(a={"uses": "f", "timeout": 60})))
    step = main.broker.hints.pop().step
    with beside(execute, worker, step) as first:
        wait_until(lambda: bool(views.logs(main, run)))
        lose_leases(settings)
        sweep.sweep(main)
        with beside(execute, worker, step):
            first.join(timeout=10)
            assert not first.is_alive()
    turns.take_turns(main, [run])
    ended = views.run(main, run)
    assert (ended.status, ended.variables) == ("completed", {"n": 2})
    assert [a.outcome for a in views.attempts(main, run)] == ["lost", "succeeded"]


# --- going on -------------------------------------------------------------------------------


def test_a_step_outlives_its_first_lease(
    main: Platform, settings: Settings, sandbox: Sandbox, waiting: Waiting
) -> None:
    short = replace(settings, lease_seconds=1.5)
    with platforms.platform(short, DatabaseRole.WORKER) as built:
        quiet = replace(built, broker=Sent(app=built.broker.app))
        keeper = Keeper(quiet)
        keeper.start()
        worker = Worker(name="w1", platform=quiet, sandbox=sandbox, keeper=keeper)
        with beside(carry_out, main, worker, waiting.run):
            wait_until(waiting.began.exists)
            kept = kept_by(keeper)
            taken = kept.renewed
            wait_until(lambda: kept.renewed > taken + short.lease_seconds)
            assert sweep.sweep(main).lost == 0
            waiting.go.touch()
        keeper.close()
    assert [a.outcome for a in views.attempts(main, waiting.run)] == ["succeeded"]


def _admin(settings: Settings) -> Callable[[str], None]:
    """Speaks to the database's server from beside it."""
    url = make_url(settings.database_url or "")

    def say(statement: str) -> None:
        engine = create_engine(url.set(database="postgres"), poolclass=NullPool)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(statement.format(url.database)))

    return say
