"""Steps carried out by the worker's own code, with a real sandbox and a real database."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace

import pytest
from sqlalchemy import text

from engine.platform import DatabaseRole
from engine.runs import calls, catalogue, control, sweep, turns, views
from engine.store import session
from engine.store.ids import StepId
from tests.support import platforms
from tests.support.platforms import Sent, publish, register, submit, take
from workers.execution import Worker, execute, name_of
from workers.keeper import Keeper
from workers.sandbox import Sandbox


@pytest.fixture
def main(settings):
    with platforms.platform(settings) as built:
        yield replace(built, broker=Sent(app=built.broker.app))


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as started:
        yield started


@pytest.fixture
def worker(settings, main, sandbox):
    with platforms.platform(settings, DatabaseRole.WORKER) as built:
        quiet = replace(built, broker=Sent(app=built.broker.app))
        keeper = Keeper(quiet)
        keeper.start()
        yield Worker(name=name_of(os.getpid()), platform=quiet, sandbox=sandbox, keeper=keeper)
        keeper.close()


def carry_out(main, worker, run):
    """Whatever is ready, until nothing is."""
    while main.broker.hints:
        hint = main.broker.hints.pop(0)
        execute(worker, hint.step)
        turns.take_turns(main, [run])
    return views.run(main, run)


def graph(name="w", **nodes):
    edges = [" -> ".join((*nodes, "end"))]
    return {"workflow": name, "nodes": nodes, "edges": edges}


def sql(main, statement):
    with main.database.begin() as connection:
        return connection.execute(text(statement)).all()


def lose_leases(settings):
    owner = session.connect(settings.database_url)
    with owner.begin() as connection:
        connection.execute(text("UPDATE step SET lease_until = clock_timestamp() - interval '1s'"))
    owner.dispose()


# --- sad paths ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason", "said"),
    [
        ("    return 1 / 0", "error", "ZeroDivisionError"),
        ("    time.sleep(60)", "timeout", "1"),
        ("    while True: pass", "cpu", ""),
        ("    return 'x' * 2_000_000", "output_too_large", "1048576"),
        ("    state['x'] = 'x' * 10**9", "memory", ""),
        ("    return {1, 2}", "error", "set"),
        ("    return float('nan')", "error", "finite"),
        ("    open('/etc/passwd')", "error", "open"),
        ("    state['big'] = 'x' * 300_000\n    return state", "variables_too_large", "262144"),
        ("    return invoke('nowhere')", "error", "nowhere"),
    ],
)
def test_each_kind_of_death_has_its_own_reason(main, worker, code, reason, said):
    register(main, "f", f"def f(state):\n{code}")
    run = submit(main, publish(main, graph(a={"uses": "f", "timeout": 1 if said == "1" else 4})))
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.reason) == ("failed", reason), ended.message
    assert said.lower() in (ended.message or "").lower()


def test_a_condition_that_gives_back_the_state_is_an_error(main, worker):
    register(main, "more", "def more(state):\n    return state")
    run = submit(main, publish(main, graph(a={"choose": "more"})))
    ended = carry_out(main, worker, run)
    assert ended.reason == "error"
    assert "True, False" in (ended.message or "")


def test_a_save_that_cannot_be_evaluated_names_its_field(main, worker):
    register(main, "f", "def f(state):\n    return 3")
    run = submit(main, publish(main, graph(a={"uses": "f", "save": {"x": "$result.y.z"}})))
    ended = carry_out(main, worker, run)
    assert ended.reason == "save_failed"
    assert "save.x" in (ended.message or "")


def test_a_cancelled_step_is_stopped_within_seconds(main, worker, settings):
    register(main, "f", "def f(state):\n    print('begun')\n    time.sleep(60)")
    run = submit(main, publish(main, graph(a={"uses": "f", "timeout": 60})))
    step = main.broker.hints.pop().step
    running = threading.Thread(target=execute, args=(worker, step))
    running.start()
    while not views.logs(main, run):
        time.sleep(0.02)
    began = time.monotonic()
    assert control.cancel(main, run, by="ada") == "cancelled"
    running.join(timeout=10)
    assert not running.is_alive()
    assert time.monotonic() - began < 5


# --- going on -------------------------------------------------------------------------------


def test_a_run_keeps_to_the_versions_it_was_submitted_with(main, worker):
    register(main, "f", "def f(state):\n    return {'n': 1}")
    version = publish(main, graph(a={"uses": "f"}, b={"uses": "f"}))
    before = submit(main, version)
    register(main, "f", "def f(state):\n    return {'n': 2}")
    after = submit(main, version)
    assert carry_out(main, worker, before).variables == {"n": 1}
    main.broker.hints.append(platforms.Hint(step=StepId(*after, "a#1"), workflow="w"))
    assert carry_out(main, worker, after).variables == {"n": 2}


def test_a_tool_is_pinned_at_its_first_use(main, worker):
    register(main, "one", "def one():\n    return 1", namespace="tool")
    register(
        main,
        "f",
        "def f(state):\n    state['seen'] = state.get('seen', []) + [invoke('one')]\n    return state",
    )
    run = submit(main, publish(main, graph(a={"uses": "f"}, b={"uses": "f"})))
    execute(worker, main.broker.hints.pop(0).step)
    register(main, "one", "def one():\n    return 2", namespace="tool")
    turns.take_turns(main, [run])
    assert carry_out(main, worker, run).variables == {"seen": [1, 1]}


def test_a_tool_may_be_a_nodes_function(main, worker):
    register(
        main,
        "add_one",
        "def add_one(state):\n    state.set('n', state.get('n', 0) + 1)\n    return state",
        namespace="tool",
    )
    run = submit(main, publish(main, graph(a={"uses": "add_one"})), n=5)
    assert carry_out(main, worker, run).variables == {"n": 6}


def test_a_tool_node_saves_what_the_tool_answers(main, worker):
    register(main, "add", "def add(a: int, b: int):\n    return a + b", namespace="tool")
    node = {"kind": "tool", "tool": "add", "with": {"a": "$n", "b": 2}, "save": {"sum": "$result"}}
    run = submit(main, publish(main, graph(a=node)), n=5)
    assert carry_out(main, worker, run).variables == {"n": 5, "sum": 7}
    (call,) = views.calls(main, run)
    assert (call.tool, call.ordinal) == ("add", 1)


def test_what_a_node_prints_is_its_log_and_not_its_result(main, worker):
    register(
        main, "f", "def f(state):\n    print('hello')\n    print('{\"n\": 9}')\n    return {'n': 1}"
    )
    run = submit(main, publish(main, graph(a={"uses": "f"})))
    assert carry_out(main, worker, run).variables == {"n": 1}
    assert [line.text for line in views.logs(main, run)] == ["hello", '{"n": 9}']


def test_calls_that_were_recorded_are_not_made_again(main, worker):
    register(main, "draw", "def draw(n):\n    return random.random()", namespace="tool")
    register(
        main,
        "f",
        "def f(state, context):\n"
        "    first = invoke('draw', 1)\n"
        "    second = invoke('draw', 2)\n"
        "    if context.attempt == 1:\n"
        "        raise RuntimeError('after two calls')\n"
        "    return [first, second, invoke('draw', 3)]",
    )
    node = {"uses": "f", "retry": {"attempts": 2, "backoff": 0}, "save": {"drawn": "$result"}}
    run = submit(main, publish(main, graph(a=node)))
    ended = carry_out(main, worker, run)
    assert ended.status == "completed", ended.message
    made = sql(main, "SELECT ordinal, attempt FROM call ORDER BY 1, 2")
    assert made == [(1, 1), (2, 1), (3, 2)]
    kept = [row.value for row in sql(main, "SELECT value FROM call_result ORDER BY ordinal")]
    assert ended.variables["drawn"] == kept


def test_other_calls_at_the_same_place_fail_the_step_for_good(main, worker):
    register(main, "echo", "def echo(n):\n    return n", namespace="tool")
    register(
        main,
        "f",
        "def f(state, context):\n    invoke('echo', context.attempt)\n    raise RuntimeError('again')",
    )
    node = {"uses": "f", "retry": {"attempts": 5, "backoff": 0}}
    ended = carry_out(main, worker, submit(main, publish(main, graph(a=node))))
    assert (ended.status, ended.reason) == ("failed", "nondeterministic_call")
    assert len(sql(main, "SELECT FROM call")) == 1


@pytest.mark.parametrize(
    ("effect", "status"), [("idempotent", "completed"), ("at_most_once", "failed")]
)
def test_a_call_whose_outcome_was_never_recorded_is_repeated_only_if_it_may_be(
    main, worker, settings, effect, status
):
    register(main, "send", "def send():\n    return 'sent'", namespace="tool", effect=effect)
    node = {"kind": "tool", "tool": "send", "save": {"sent": "$result"}}
    run = submit(main, publish(main, graph(a=node)))
    step = main.broker.hints.pop().step
    lease = take(worker.platform, run, "a#1")
    begun = calls.authorise(worker.platform, lease, 1, "send", {"args": [], "kwargs": {}})
    assert isinstance(begun, calls.Authorised)
    lose_leases(settings)
    sweep.sweep(main)
    main.broker.hints.append(platforms.Hint(step=step, workflow="w"))
    ended = carry_out(main, worker, run)
    assert ended.status == status
    if status == "failed":
        assert ended.reason == "unknown_outcome"
        assert "never recorded" in (ended.message or "")


def test_a_worker_that_was_cut_off_starts_no_call(main, worker, settings):
    register(main, "send", "def send():\n    return 'sent'", namespace="tool")
    register(main, "f")
    run = submit(main, publish(main, graph(a={"uses": "f"})))
    lease = take(worker.platform, run, "a#1")
    lose_leases(settings)
    sweep.sweep(main)
    denied = calls.authorise(worker.platform, lease, 1, "send", {"args": [], "kwargs": {}})
    assert isinstance(denied, calls.Denied)
    assert denied.reason == "lost"
    assert sql(main, "SELECT FROM call") == []


def test_a_loop_asks_its_condition_after_every_lap(main, worker):
    register(main, "inc", "def inc(state):\n    state['n'] = state['n'] + 1\n    return state")
    register(main, "less", "def less(state):\n    return state['n'] < 3")
    body = {
        "name": "loop",
        "nodes": [
            {"name": "start", "type": "start"},
            {"name": "work", "type": "loop", "function": "inc", "condition": "less"},
            {"name": "end", "type": "end"},
        ],
        "edges": [{"source": "start", "target": "work"}, {"source": "work", "target": "end"}],
    }
    version = catalogue.publish_simple(main, "local", body, by="ada").id
    run = submit(main, version, n=0)
    ended = carry_out(main, worker, run)
    assert ended.variables == {"n": 3}
    assert [s.key for s in views.steps(main, run) if s.node == "work"] == [
        "work#1",
        "work#2",
        "work#3",
    ]
