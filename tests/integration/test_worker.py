"""Steps carried out by the worker's own code, with a real sandbox and a real database."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import Unavailable
from engine.runs import attempts, calls, catalogue, control, graphs, sweep, turns, views
from engine.store.ids import StepId
from tests.support import platforms
from tests.support.hands import carry_out
from tests.support.platforms import (
    chain,
    lose_leases,
    publish,
    register,
    sql,
    submit,
    take,
    wake,
)
from workers.execution import execute
from workers.sandbox import Sandbox


@pytest.fixture
def own(worker):
    """A worker with a sandbox of its own, to break."""
    with Sandbox() as started:
        yield replace(worker, sandbox=started)


def reasons(main, run):
    return [attempt.reason for attempt in views.attempts(main, run)]


@pytest.fixture
def a_second_of_cpu(monkeypatch):
    """Half its seconds of processor time, as it would have, a spin may not get on a busy machine."""
    monkeypatch.setattr("workers.sandbox.messages.cpu_seconds", lambda _: 1)


# --- sad paths ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason", "said"),
    [
        ("    return 1 / 0", "error", "ZeroDivisionError"),
        ("    time.sleep(60)", "timeout", "1"),
        ("    while True: pass", "cpu", ""),
        ("    return 'x' * 40_000_000", "output_too_large", "33554432"),
        ("    state['x'] = 'x' * 10**9", "memory", ""),
        ("    return {'$blob': 'ab' * 32, 'size': 3}", "error", "ours"),
        ("    return {1, 2}", "error", "set"),
        ("    return float('nan')", "error", "finite"),
        ("    open('/etc/passwd')", "error", "open"),
        ("    state['log'] = ['x' * 300_000]\n    return state", "variables_too_large", "262144"),
        ("    return invoke('nowhere')", "error", "nowhere"),
    ],
)
@pytest.mark.usefixtures("a_second_of_cpu")
def test_each_kind_of_death_has_its_own_reason(main, worker, code, reason, said):
    register(main, "f", f"def f(state):\n{code}")
    node = {"uses": "f", "timeout": 1 if said == "1" else 60}
    version = publish(main, {**chain(a=node), "variables": {"log": {"reduce": "append"}}})
    run = submit(main, version)
    settings = replace(worker.platform.settings, sandbox_bytes=64 * 1024 * 1024)
    tight = replace(worker, platform=replace(worker.platform, settings=settings))
    ended = carry_out(main, tight, run)
    assert (ended.status, ended.reason) == ("failed", reason), ended.message
    assert said.lower() in (ended.message or "").lower()


def test_a_condition_that_gives_back_the_state_is_an_error(main, worker):
    register(main, "more", "def more(state):\n    return state")
    run = submit(main, publish(main, chain(a={"choose": "more"})))
    ended = carry_out(main, worker, run)
    assert ended.reason == "error"
    assert "True, False" in (ended.message or "")


def test_a_save_that_cannot_be_evaluated_names_its_field(main, worker):
    register(main, "f", "def f(state):\n    return 3")
    run = submit(main, publish(main, chain(a={"uses": "f", "save": {"x": "$result.y.z"}})))
    ended = carry_out(main, worker, run)
    assert ended.reason == "save_failed"
    assert "save.x" in (ended.message or "")


def test_a_cancelled_step_is_stopped_within_seconds(main, worker, settings):
    register(main, "f", "def f(state):\n    print('begun')\n    time.sleep(60)")
    run = submit(main, publish(main, chain(a={"uses": "f", "timeout": 60})))
    step = main.broker.hints.pop().step
    running = threading.Thread(target=execute, args=(worker, step))
    running.start()
    while not views.logs(main, run):
        time.sleep(0.02)
    began = time.monotonic()
    assert control.cancel(main, run, by="ada") == "cancelled"
    running.join(timeout=40)
    assert not running.is_alive()
    # The step itself would take a minute.
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("then", ["hang", "die", "raise"])
def test_what_may_happen_once_is_never_started_again(main, worker, tmp_path, then):
    witness = tmp_path / "witness"
    register(
        main,
        "pay",
        library="tests.support.witness:pay",
        namespace="tool",
        effect="at_most_once",
    )
    node = {
        "kind": "tool",
        "tool": "pay",
        "with": {"witness": str(witness), "then": then},
        "timeout": 1 if then == "hang" else 30,
        "retry": {"attempts": 3, "backoff": 0},
    }
    run = submit(main, publish(main, chain(a=node)))
    ended = carry_out(main, worker, run)
    assert witness.read_text() == "paid\n"
    assert (ended.status, ended.reason) == ("failed", "unknown_outcome")
    first, second = reasons(main, run)
    assert first == {"hang": "timeout", "die": "killed", "raise": "error"}[then]
    assert second == "unknown_outcome"
    assert f"ended as {first}" in (ended.message or "")


def test_a_process_that_has_carried_out_installed_code_is_kept_for_its_tenant(main, own, tmp_path):
    witness = str(tmp_path / "witness")
    register(main, "visit", library="tests.support.witness:visit")
    register(main, "charge", library="tests.support.witness:charge", namespace="tool")
    tool = {"kind": "tool", "tool": "charge", "with": {"witness": witness}}
    for node in ({"uses": "visit"}, tool):
        run = submit(main, publish(main, chain(a=node)), witness=witness)
        assert carry_out(main, own, run).status == "completed"
        (lane,) = own.sandbox._zygotes[True]._parked
        assert lane.whose == platforms.TENANT
        # That the next one begins in a process of its own.
        own.sandbox._zygotes[True].resume(platforms.TENANT).close()


@pytest.mark.parametrize("name", ["one@9", "one@x", "one@0", "one@99999999999", "two"])
def test_a_call_of_what_is_not_there_is_an_error_that_code_can_catch(main, worker, name):
    register(main, "one", "def one():\n    return 1", namespace="tool")
    code = (
        "def f(state):\n"
        "    try:\n"
        f"        return invoke({name!r})\n"
        "    except ToolError as error:\n"
        "        return error.reason"
    )
    register(main, "f", code)
    node = {"uses": "f", "save": {"said": "$result"}}
    ended = carry_out(main, worker, submit(main, publish(main, chain(a=node))))
    assert ended.variables == {"said": "no_such_tool"}


def test_the_timeout_is_of_the_whole_attempt(main, worker):
    register(main, "nap", "def nap(state):\n    time.sleep(0.7)")
    register(main, "ask", "def ask(state):\n    time.sleep(0.7)\n    return 'end'")
    node = {"uses": "nap", "choose": "ask", "timeout": 1.0}
    ended = carry_out(main, worker, submit(main, publish(main, chain(a=node))))
    assert (ended.status, ended.reason) == ("failed", "timeout")
    assert "longer than its 1 s" in (ended.message or "")


def test_a_save_that_nests_too_deeply_fails_the_step_and_nothing_else(main, worker):
    register(main, "f", "def f(state):\n    return 1")
    deep = 1
    for _ in range(60):
        deep = {"in": deep}
    node = {"uses": "f", "save": {"x": {"y": {"y": {"y": {"y": {"y": "$x"}}}}}}}
    run = submit(main, publish(main, chain(a=node)), x=deep)
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.reason) == ("failed", "save_failed")
    assert "save.x" in (ended.message or "")
    assert "deeper" in (ended.message or "")


def test_a_machine_that_cannot_start_a_process_fails_no_run(main, own, settings):
    register(main, "f", "def f(state):\n    return {'n': 1}")
    run = submit(main, publish(main, chain(a={"uses": "f"})))
    own.sandbox._zygotes[False].kill()
    python, own.sandbox._python = own.sandbox._python, "/nowhere/python"
    assert carry_out(main, own, run).status == "running"
    assert reasons(main, run) == ["lost", "lost"]
    (step,) = sql(main, "SELECT status, wake_at > clock_timestamp() AS later FROM step")
    assert (step.status, step.later) == ("retrying", True), "each try waits longer for the next"
    own.sandbox._python = python
    wake(settings)
    sweep.sweep(main)
    assert carry_out(main, own, run).status == "completed"


@pytest.mark.parametrize("left", [0, 3, 7])
def test_a_process_without_descriptors_fails_no_run(main, own, settings, left):
    register(main, "f", "def f(state):\n    return {'n': 1}")
    run = submit(main, publish(main, chain(a={"uses": "f"})))
    step = main.broker.hints.pop().step
    with own.platform.database.connect(), own.platform.database.connect():
        """What the pool has, it need not open."""
    with only_descriptors(left):
        execute(own, step)
    turns.take_turns(main, [run])
    assert views.status(main, run).status == "running"
    assert reasons(main, run) == ["lost"]
    assert carry_out(main, own, run).status == "completed"


def test_a_sandbox_that_closes_beneath_a_step_fails_no_run(main, own, monkeypatch):
    """As in a cold shutdown: the worker ends while a thread is between two executions."""
    register(main, "one", "def one():\n    return 1", namespace="tool")
    register(main, "f", "def f(state):\n    return invoke('one')")
    run = submit(main, publish(main, chain(a={"uses": "f"})))
    authorise = calls.authorise

    def then_close(*arguments, **options):
        answer = authorise(*arguments, **options)
        own.sandbox.close()
        return answer

    monkeypatch.setattr(calls, "authorise", then_close)
    execute(own, main.broker.hints.pop().step)
    turns.take_turns(main, [run])
    assert views.status(main, run).status == "running"
    assert reasons(main, run) == ["lost"]


def test_a_database_that_is_away_during_a_call_costs_an_attempt_and_no_lease(
    main, worker, monkeypatch
):
    register(main, "one", "def one():\n    return 1", namespace="tool")
    register(main, "f", "def f(state):\n    return {'n': invoke('one')}")
    run = submit(main, publish(main, chain(a={"uses": "f"})))
    asked, authorise = [], calls.authorise

    def away_at_first(*arguments, **options):
        asked.append(arguments)
        if len(asked) == 1:
            raise Unavailable("it is away")
        return authorise(*arguments, **options)

    monkeypatch.setattr(calls, "authorise", away_at_first)
    execute(worker, main.broker.hints.pop().step)
    assert sql(main, "SELECT FROM step WHERE status = 'leased'") == []
    turns.take_turns(main, [run])
    assert carry_out(main, worker, run).variables == {"n": 1}
    assert reasons(main, run) == ["lost", None]


@pytest.mark.parametrize("committed", [False, True])
def test_a_step_whose_beginning_is_unknown_is_let_go_at_once(
    main, worker, settings, monkeypatch, committed
):
    register(main, "f", "def f(state, context):\n    return {'n': context.attempt}")
    run = submit(main, publish(main, chain(a={"uses": "f"})))
    taken = attempts.take

    def cut_off(*arguments):
        if committed:
            taken(*arguments)
        raise Unavailable("it was cut off")

    with monkeypatch.context() as patched:
        patched.setattr(attempts, "take", cut_off)
        execute(worker, main.broker.hints.pop().step)
    assert sql(main, "SELECT FROM step WHERE status = 'leased'") == []
    assert sql(main, "SELECT FROM refusal") == []
    wake(settings)
    sweep.sweep(main)
    turns.take_turns(main, [run])
    ended = carry_out(main, worker, run)
    # What never began costs no attempt.
    assert ended.variables == {"n": 2 if committed else 1}
    assert reasons(main, run) == (["lost", None] if committed else [None])


def test_a_step_that_two_threads_are_told_of_at_once_is_carried_out_by_one(main, worker):
    register(main, "f", "def f(state):\n    return {'n': 1}")
    run = submit(main, publish(main, chain(a={"uses": "f"})))
    step = main.broker.hints.pop().step
    first, second = worker._take([step, step])
    assert (first.step, second) == (step, None)
    assert len(views.attempts(main, run)) == 1


def test_a_result_that_is_being_reported_is_not_let_go_by_a_doubled_message(
    main, worker, monkeypatch
):
    register(main, "f", "def f(state):\n    return {'n': 1}")
    run = submit(main, publish(main, chain(a={"uses": "f"})))
    step = main.broker.hints.pop().step
    report = attempts.report

    def late(*arguments):
        def cut_off(*_):
            raise Unavailable("it was cut off")

        with monkeypatch.context() as patched:
            patched.setattr(attempts, "take", cut_off)
            patched.setattr("workers.execution.time.monotonic", _hurried(time.monotonic))
            execute(worker, step)
        return report(*arguments)

    monkeypatch.setattr(attempts, "report", late)
    execute(worker, step)
    turns.take_turns(main, [run])
    assert reasons(main, run) == [None]


def test_a_step_that_cannot_be_read_costs_the_others_of_its_commit_nothing(
    main, worker, monkeypatch
):
    register(main, "f", "def f(state):\n    return {'n': 1}")
    bad = submit(main, publish(main, chain(a={"uses": "f"}, b={"uses": "f"})))
    good = submit(main, publish(main, chain(a={"uses": "f"})))
    load, known = graphs.load, views.run(main, bad).version_id

    def torn(connection, tenant, version):
        if version == known:
            raise KeyError("torn")
        return load(connection, tenant, version)

    with monkeypatch.context() as patched:
        patched.setattr(graphs, "load", torn)
        first, second = worker._take([StepId(*bad, "a#1"), StepId(*good, "a#1")])
    assert (first, second.step.run) == (None, good.run)
    assert reasons(main, bad) == ["lost"]


def _hurried(clock):
    """A clock by which each look comes an hour after the one before."""
    looks = iter(range(10_000))
    return lambda: clock() + 3600 * next(looks)


# --- going on -------------------------------------------------------------------------------


def test_a_run_keeps_to_the_versions_it_was_submitted_with(main, worker):
    register(main, "f", "def f(state):\n    return {'n': 1}")
    version = publish(main, chain(a={"uses": "f"}, b={"uses": "f"}))
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
    run = submit(main, publish(main, chain(a={"uses": "f"}, b={"uses": "f"})))
    execute(worker, main.broker.hints.pop(0).step)
    register(main, "one", "def one():\n    return 2", namespace="tool")
    turns.take_turns(main, [run])
    assert carry_out(main, worker, run).variables == {"seen": [1, 1]}


def test_a_name_with_its_version_means_the_same_to_a_run_for_ever(main, worker):
    register(main, "x", "def x(state):\n    return {'who': 'function 1'}")
    for number in (1, 2):
        code = f"def x(state):\n    return {{'who': 'tool {number}'}}"
        register(main, "x", code, namespace="tool")
    run = submit(main, publish(main, chain(a={"uses": "x@2"}, b={"uses": "x@2"})))
    execute(worker, main.broker.hints.pop(0).step)
    turns.take_turns(main, [run])
    assert views.run(main, run).variables == {"who": "tool 2"}
    register(main, "x", "def x(state):\n    return {'who': 'function 2'}")
    assert carry_out(main, worker, run).variables == {"who": "tool 2"}


def test_a_tool_may_be_a_nodes_function(main, worker):
    register(
        main,
        "add_one",
        "def add_one(state):\n    state.set('n', state.get('n', 0) + 1)\n    return state",
        namespace="tool",
    )
    run = submit(main, publish(main, chain(a={"uses": "add_one"})), n=5)
    assert carry_out(main, worker, run).variables == {"n": 6}


def test_a_tool_node_saves_what_the_tool_answers(main, worker):
    register(main, "add", "def add(a: int, b: int):\n    return a + b", namespace="tool")
    node = {"kind": "tool", "tool": "add", "with": {"a": "$n", "b": 2}, "save": {"sum": "$result"}}
    run = submit(main, publish(main, chain(a=node)), n=5)
    assert carry_out(main, worker, run).variables == {"n": 5, "sum": 7}
    (call,) = views.calls(main, run)
    assert (call.tool, call.ordinal) == ("add", 1)


def test_what_a_node_prints_is_its_log_and_not_its_result(main, worker):
    register(
        main, "f", "def f(state):\n    print('hello')\n    print('{\"n\": 9}')\n    return {'n': 1}"
    )
    run = submit(main, publish(main, chain(a={"uses": "f"})))
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
    run = submit(main, publish(main, chain(a=node)))
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
    ended = carry_out(main, worker, submit(main, publish(main, chain(a=node))))
    assert (ended.status, ended.reason) == ("failed", "nondeterministic_call")
    assert len(sql(main, "SELECT FROM call")) == 1


@pytest.mark.parametrize(
    ("effect", "status"), [("idempotent", "completed"), ("at_most_once", "running")]
)
def test_a_call_whose_outcome_was_never_recorded_is_repeated_only_if_it_may_be(
    main, worker, settings, effect, status
):
    register(main, "send", "def send():\n    return 'sent'", namespace="tool", effect=effect)
    node = {"kind": "tool", "tool": "send", "save": {"sent": "$result"}}
    run = submit(main, publish(main, chain(a=node)))
    step = main.broker.hints.pop().step
    lease = take(worker.platform, run, "a#1")
    begun = calls.authorise(worker.platform, lease, 1, "send", {"args": [], "kwargs": {}})
    assert isinstance(begun, calls.Authorised)
    lose_leases(settings)
    sweep.sweep(main)
    main.broker.hints.append(platforms.Hint(step=step, workflow="w"))
    ended = carry_out(main, worker, run)
    assert ended.status == status
    if status == "running":
        assert views.step(main, run, "a#1").status == "waiting"


def test_a_worker_that_was_cut_off_starts_no_call(main, worker, settings):
    register(main, "send", "def send():\n    return 'sent'", namespace="tool")
    register(main, "f")
    run = submit(main, publish(main, chain(a={"uses": "f"})))
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


@contextlib.contextmanager
def only_descriptors(left):
    """A process that can open so many files more, and then none."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(file.name) for file in Path("/proc/self/fd").iterdir())
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + left, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(min(left, len(taken))):
            os.close(taken.pop())
        yield
    finally:
        for file in taken:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
