"""Limits of money, steps, calls and time: two who ask at once, and code that lies about itself."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.core import codec
from engine.core import messages as msg
from engine.core.values import Json
from engine.platform import Platform
from engine.runs import control, launch, policies, sweep, turns, views
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import clock
from tests.support.fleet import wait_until
from tests.support.hands import beside, carry_out
from tests.support.platforms import (
    TENANT,
    Sent,
    chain,
    lose_leases,
    publish,
    register,
    sql,
    submit,
    wake,
)
from workers.execution import Worker, execute

pytestmark = pytest.mark.usefixtures("sound")

NICKEL = Decimal("0.05")


@pytest.fixture
def database(database: str) -> str:
    """Of an hour and a minute that have only begun."""
    clock.give(database)
    return database


def budget(main: Platform, **fields: Json) -> None:
    """The tenant's one budget, from now on."""
    document = orjson.dumps({"policy": "purse", "budgets": [{"name": "all", **fields}]})
    policies.apply(main, TENANT, document, by="ada")


def verdicts(main: Platform, run: RunId) -> list[tuple[str, msg.Verdict]]:
    """What history says was said of a run, each with its moment."""
    lines = views.history(main, run, limit=10_000, payloads=True)
    records = [
        codec.read(one.kind, one.body, one.payload or {}, at=one.at, number=one.format)
        for one in lines
    ]
    return [
        (record.moment, verdict)
        for record in records
        if isinstance(record, msg.Judged)
        for verdict in record.verdicts
    ]


def charged(main: Platform, unit: str = "cost_usd", *, ordinal: int | None = None) -> Decimal:
    """What the ledger has of a unit, of attempts (ordinal 0) or of all."""
    ((found,),) = sql(
        main,
        "SELECT coalesce(sum((usage->>:unit)::numeric), 0) FROM ledger"
        " WHERE ordinal = coalesce(:ordinal, ordinal)",
        unit=unit,
        ordinal=ordinal,
    )
    return Decimal(found)


def aside(main: Platform) -> Decimal:
    ((found,),) = sql(
        main, "SELECT coalesce(sum((amounts->>'cost_usd')::numeric), 0) FROM reservation"
    )
    return Decimal(found)


# --- two at once ----------------------------------------------------------------------------------


def began(main: Platform, version: str, number: int) -> list[RunId]:
    """Runs of as many users, whose first turns are taken at the same moment."""
    runs = [
        launch.submit(main, TENANT, version, {}, by=f"user{each}").run for each in range(number)
    ]
    ready = threading.Barrier(number)

    def turn(run: RunId) -> None:
        ready.wait()
        turns.take_turns(main, [run])

    with ThreadPoolExecutor(number) as threads:
        list(threads.map(turn, runs))
    return runs


def work(main: Platform, worker: Worker) -> None:
    """Whatever is ready of whatever run, until nothing is."""
    assert isinstance(main.broker, Sent)
    while main.broker.hints:
        step = main.broker.hints.pop(0).step
        execute(worker, step)
        turns.take_turns(main, [step.run_id])


def by_status(main: Platform, runs: list[RunId]) -> dict[str, list[RunId]]:
    found: dict[str, list[RunId]] = {}
    for run in runs:
        found.setdefault(views.status(main, run).status, []).append(run)
    return found


def test_runs_that_start_at_once_do_not_pass_the_limit_of_their_tenant_together(
    main: Platform, worker: Worker
) -> None:
    budget(main, scope="tenant", window="day", metric="cost_usd", limit=0.10)
    register(main, "f")
    version = publish(main, chain(a={"uses": "f", "estimate": {"cost_usd": 0.04}}))
    runs = began(main, version, 6)
    stand = by_status(main, runs)
    assert {status: len(some) for status, some in stand.items()} == {"running": 2, "failed": 4}
    assert aside(main) == Decimal("0.08")
    for run in stand["failed"]:
        assert "purse:all" in (views.run(main, run).message or "")
        ((moment, verdict),) = verdicts(main, run)
        assert (moment, verdict.action) == ("start", "reject_execution")
        assert (verdict.scope, verdict.observed, verdict.limit) == ("tenant", 0.12, 0.1)
    work(main, worker)
    assert (charged(main), aside(main)) == (Decimal("0.08"), 0)
    assert sql(main, "SELECT FROM attempt WHERE step <> 'a#1'") == []
    assert len(sql(main, "SELECT FROM attempt")) == 2


def test_runs_for_which_a_tenant_has_no_room_pause_and_go_on_when_it_has(
    main: Platform, worker: Worker, settings: Settings
) -> None:
    terms: dict[str, Json] = {"scope": "tenant", "window": "day", "metric": "cost_usd"}
    terms["on_shortfall"] = "pause"
    budget(main, **terms, limit=0.10)
    register(main, "f")
    version = publish(main, chain(a={"uses": "f", "estimate": {"cost_usd": 0.06}}))
    runs = began(main, version, 4)
    stand = by_status(main, runs)
    assert {status: len(some) for status, some in stand.items()} == {"running": 1, "paused": 3}
    assert aside(main) == Decimal("0.06")
    work(main, worker)
    for run in stand["paused"]:
        # Whoever lets it go on without more room finds it paused again, and nothing begun.
        control.resume(main, run, by="ada")
        turns.take_turns(main, [run])
        wake(settings)
        sweep.sweep(main)
        assert views.status(main, run).status == "paused"
        assert {verdict.action for _, verdict in verdicts(main, run)} == {"pause_lifetime"}
    assert len(sql(main, "SELECT FROM attempt")) == 1
    budget(main, **terms, limit=0.20)
    for run in stand["paused"]:
        control.resume(main, run, by="ada")
        turns.take_turns(main, [run])
    wake(settings)
    sweep.sweep(main)
    work(main, worker)
    after = by_status(main, runs)
    assert {status: len(some) for status, some in after.items()} == {"completed": 3, "paused": 1}
    assert (charged(main), aside(main)) == (Decimal("0.18"), 0)


# --- who lies about money -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "comes_to"),
    [
        ("", "0.05"),
        ("context.use(cost_usd=0)", "0.05"),
        ("context.use(cost_usd=0.01, tokens_used=3)", "0.05"),
        ("context.use(cost_usd=-5)", "0.05"),
        ("context.use(cost_usd=float('nan'))", "0.05"),
        ("context._use({'cost_usd': -5})", "0.05"),
        ("context.use(cost_usd=0.04)\n    context.use(cost_usd=0.03)", "0.07"),
    ],
)
def test_who_says_that_it_cost_less_is_charged_what_was_expected(
    main: Platform, worker: Worker, says: str, comes_to: str
) -> None:
    budget(main, scope="tenant", metric="cost_usd", limit=1)
    register(main, "f", f"def f(state, context):\n    {says or 'pass'}\n    return state")
    version = publish(main, chain(a={"uses": "f", "estimate": {"cost_usd": 0.05}}))
    run = submit(main, version)
    carry_out(main, worker, run)
    # Who tried to tell less than nothing has failed, and may be trying again.
    tries = len(views.attempts(main, run))
    assert charged(main) == Decimal(comes_to) * tries
    assert charged(main) + aside(main) <= 1


def test_what_is_measured_is_not_what_code_says_of_it(main: Platform, worker: Worker) -> None:
    budget(main, scope="tenant", metric="seconds", limit=0.2)
    lie = "context.use(seconds=0, cpu_seconds=0, max_rss=0, calls=0, steps=0)"
    body = f"def f(state, context):\n    {lie}\n    time.sleep(0.3)\n    {lie}"
    register(main, "f", body)
    version = publish(main, chain(a={"uses": "f"}, b={"uses": "f"}))
    run = submit(main, version)
    ended = carry_out(main, worker, run)
    (attempt,) = views.attempts(main, run)
    assert min(attempt.usage["seconds"], charged(main, "seconds")) >= 0.3
    assert attempt.usage["cpu_seconds"] > 0
    assert attempt.usage["max_rss"] > 0
    assert charged(main, "steps") == 1
    assert (ended.status, "purse:all" in (ended.message or "")) == ("failed", True)


@pytest.mark.parametrize("says", ["cost_usd=0", "cost_usd=0.02", "tokens_used=7"])
def test_who_tells_of_little_and_is_lost_is_charged_what_was_expected(
    main: Platform, worker: Worker, settings: Settings, tmp_path: Path, says: str
) -> None:
    budget(main, scope="tenant", metric="cost_usd", limit=1)
    register(main, "f", f"def f(state, context):\n    context.use({says})\n    time.sleep(60)")
    version = publish(main, chain(a={"uses": "f", "estimate": {"cost_usd": 0.05}, "timeout": 60}))
    run = submit(main, version)
    with beside(execute, worker, main.broker.hints.pop().step):
        wait_until(
            lambda: sql(main, "SELECT FROM step WHERE used IS NOT NULL") != [],
            what="what it tells to be known",
        )
        lose_leases(settings)
        sweep.sweep(main)
        ((assumed, cost),) = sql(
            main, "SELECT assumed, (usage->>'cost_usd')::numeric FROM ledger WHERE ordinal = 0"
        )
        assert (assumed, cost) == (True, NICKEL)
        # That it was made is counted, whatever became of it.
        assert charged(main, "steps") == 1
        control.cancel(main, run, by="ada")


def test_who_uses_more_than_there_is_is_stopped_in_the_middle_and_charged_for_it(
    main: Platform, worker: Worker, tmp_path: Path
) -> None:
    budget(main, scope="tenant", metric="cost_usd", limit=0.10)
    body = "def f(state, context):\n    for _ in range(60):\n"
    body += "        context.use(cost_usd=0.03)\n        time.sleep(1)"
    register(main, "f", body)
    node: Json = {"uses": "f", "estimate": {"cost_usd": 0.05}, "timeout": 60}
    run = submit(main, publish(main, chain(a=node)))
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.reason) == ("failed", "over_budget")
    assert "purse:all" in (ended.message or "")
    assert charged(main) == Decimal("0.12")
    ((moment, verdict),) = verdicts(main, run)
    assert (moment, verdict.observed, verdict.limit) == ("use", 0.12, 0.1)
    # What it ran over by is nobody else's to spend.
    after = carry_out(main, worker, submit(main, publish(main, chain(a=node))))
    assert (after.status, len(views.attempts(main, RunId(TENANT, after.id)))) == ("failed", 0)


# --- who does not end -----------------------------------------------------------------------------


def test_who_never_ends_is_stopped_by_the_clock_and_charged_what_was_expected(
    main: Platform, worker: Worker
) -> None:
    budget(main, scope="tenant", metric="cost_usd", limit=1)
    register(main, "f", "def f(state, context):\n    context.use(cost_usd=0)\n    time.sleep(60)")
    node: Json = {"uses": "f", "estimate": {"cost_usd": 0.05}, "timeout": 0.5}
    ended = carry_out(main, worker, submit(main, publish(main, chain(a=node))))
    assert (ended.status, ended.reason) == ("failed", "timeout")
    assert (charged(main), aside(main)) == (NICKEL, 0)


@pytest.mark.parametrize("held", ["by the run", "by a budget"])
def test_who_goes_round_and_round_is_stopped_after_so_many_steps(
    main: Platform, worker: Worker, held: str
) -> None:
    if held == "by a budget":
        budget(main, scope="run", metric="steps", limit=5)
    register(main, "f")
    document: dict[str, Json] = {
        "workflow": "round",
        "nodes": {"a": {"uses": "f"}, "b": {"uses": "f", "max_iterations": 1000}},
        "edges": ["a -> b", {"from": "b", "to": "a", "label": "loop"}, "b -> end"],
    }
    if held == "by the run":
        document["limits"] = {"steps": 5}
    run = submit(main, publish(main, document))
    ended = carry_out(main, worker, run)
    assert ended.status == "failed", ended
    assert len(views.attempts(main, run)) == 5
    if held == "by a budget":
        assert "purse:all" in (ended.message or "")
        assert charged(main, "steps") == 5


def calls(main: Platform, witness: Path, **terms: Any) -> str:
    """A function that calls a tool until it is told no, and then again, whatever it is told."""
    register(
        main,
        "charge",
        library="tests.support.witness:charge",
        namespace="tool",
        effect="at_most_once",
        **terms,
    )
    body = (
        "def f(state, context):\n"
        "    said = ''\n"
        "    for _ in range(8):\n"
        "        try:\n"
        "            context.tools.charge(witness=state['witness'])\n"
        "        except ToolError as error:\n"
        "            said = f'{error.reason}: {error}'\n"
        "    return {'said': said}"
    )
    register(main, "f", body)
    return publish(
        main,
        {
            **chain(a={"uses": "f", "timeout": 60}),
            "inputs": {"witness": {"type": "string"}},
        },
    )


@pytest.mark.parametrize("held", ["by a budget", "by its rate"])
def test_who_calls_a_tool_again_and_again_is_let_in_so_often(
    main: Platform, worker: Worker, tmp_path: Path, held: str
) -> None:
    if held == "by a budget":
        budget(main, scope="run", metric="calls", limit=3)
    witness, rate = tmp_path / "witness", {"rate_per_minute": 3} if held == "by its rate" else {}
    run = submit(main, calls(main, witness, **rate), witness=str(witness))
    ended = carry_out(main, worker, run)
    assert len(witness.read_text().splitlines()) == 3
    said = ended.variables["said"]
    assert isinstance(said, str)
    assert said.startswith("over_budget"), said
    assert ("purse:all" if held == "by a budget" else "rate:charge") in said
    assert charged(main, "calls", ordinal=None) == 3
    (first, *_) = [verdict for moment, verdict in verdicts(main, run) if moment == "call"]
    assert (first.observed, first.limit) == (4, 3)


def test_who_asks_on_and_on_whatever_he_is_told_is_not_heard_for_ever(
    main: Platform, worker: Worker, tmp_path: Path
) -> None:
    budget(main, scope="run", metric="calls", limit=1)
    calls(main, tmp_path / "witness")
    body = (
        "def f(state, context):\n"
        "    while True:\n"
        "        try:\n"
        "            context.tools.charge(witness=state['witness'])\n"
        "        except ToolError:\n"
        "            pass"
    )
    register(main, "f", body)
    document = {**chain(a={"uses": "f", "timeout": 60}), "inputs": {"witness": {"type": "string"}}}
    run = submit(main, publish(main, document), witness=str(tmp_path / "witness"))
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.reason) == ("failed", "over_budget")
    assert "100 calls were denied" in (ended.message or "")
    assert len(verdicts(main, run)) == 100
    assert len(views.attempts(main, run)) == 1
