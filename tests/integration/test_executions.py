"""A run as executions of tasks and plans: what people are shown, and what its own code sees."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac import testing
from engine.errors import NotFound
from engine.runs import control, executions, sweep
from engine.runs.attempts import Failed, Succeeded
from engine.runs.executions import Place
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.hands import carry_out
from tests.support.platforms import chain, lose_leases, publish, register, submit, take
from workers.execution import execute

#: Says which executions led to a step, without their ids and times.
TELL = """
def tell(state, context):
    return [
        [e.header.name, e.header.status, e.header.edge_taken, e.implicit, e.result.inline,
         e["result"].get("next_task_names"),
         [r.inline for r in e.result.upstream_tasks_results or []]]
        for e in context.previous
    ]
"""
#: Two branches, a lap back over a rule, a task after a task, and a join of two tasks.
CODING: dict[str, Any] = {
    "workflow": "coding",
    "variables": {"laps": {"default": 0}},
    "nodes": {
        "ask": {"uses": "ask"},
        "plan": {"role": "plan", "uses": "plan"},
        "code1": {"uses": "code"},
        "code2": {"uses": "code"},
        "check1": {"uses": "tell"},
        "accept": {"uses": "accept"},
        "judge": {
            "role": "plan",
            "rules": [{"when": "$laps < 2", "next": ["ask"]}, {"next": ["end"]}],
        },
    },
    "edges": [
        "ask -> plan",
        {"from": "plan", "to": "code1", "label": "first", "type": "parallel"},
        {"from": "plan", "to": "code2", "title": "the other", "type": "parallel"},
        "code1 -> check1",
        {"from": ["check1", "code2"], "to": "accept", "type": "join"},
        "accept -> judge",
        {"from": "judge", "to": "ask", "label": "loop"},
        "judge -> end",
    ],
}
SOURCES = {
    "ask": "def ask(state, context):\n    return [e.header.name for e in context.previous]",
    "plan": "def plan(state, context):\n"
    "    return {'next_task_names': ['code1', 'code2'], 'saw': len(context.previous)}",
    "code": "def code(state, context):\n"
    "    return context.node + ' of ' + context.previous[0].header.name",
    "accept": TELL.replace("tell", "accept", 1).replace(
        "    return [", "    state['laps'] += 1\n    return [", 1
    ),
    "tell": TELL,
}


@pytest.fixture
def coding(main):
    for name, source in SOURCES.items():
        register(main, name, source)
    return publish(main, CODING)


@pytest.fixture
def done(main, worker, coding):
    run = submit(main, coding)
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.message) == ("completed", "")
    return run


def every(main, run, limit=500) -> list[Any]:
    found, since = [], executions.FIRST
    while True:
        page = executions.page(main, run, since=since, limit=limit)
        found += page.items
        if page.following is None:
            return found
        since = page.following


def ids(record) -> list[str]:
    """Where a reader goes on from an execution."""
    if "parent_plan_exec_id" in record:
        return [record["parent_plan_exec_id"]] if record["parent_plan_exec_id"] else []
    return list(record["parent_task_exec_ids"])


# --- what is not there ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "exec_id",
    [
        "",
        "nope",
        "{run}",
        "{run}:ask:1",
        "{run}:ask:1:9",
        "{run}:nobody:1:1",
        "{run}:ask:x:1",
        "{run}:plan:1:plan",
        "{run}:ask:99999999999:1",
        "{run}:ask:1:plan",
        "x{run}:ask:1:1",
    ],
)
def test_an_execution_that_is_not_there_is_not_found(main, worker, done, exec_id):
    with pytest.raises(NotFound):
        executions.one(main, done, exec_id.format(run=done.run))


def test_a_run_of_another_tenant_has_no_executions(main, worker, done):
    foreign = RunId("other", done.run)
    for ask in (executions.page, executions.timeline):
        with pytest.raises(NotFound):
            ask(main, foreign)


def test_a_step_whose_parents_hold_too_much_is_told_so(main, worker):
    register(main, "big", "def big(state):\n    return 'x' * 1_000_000")
    register(main, "look", "def look(state, context):\n    return len(context.previous)")
    wide = [f"n{number}" for number in range(5)]
    version = publish(
        main,
        {
            "workflow": "w",
            "nodes": {
                "f": {"uses": "big"},
                **{name: {"uses": "big"} for name in wide},
                "j": {"uses": "look"},
            },
            "edges": [
                {"from": "f", "to": wide, "type": "parallel"},
                {"from": wide, "to": "j", "type": "join"},
                "j -> end",
            ],
        },
    )
    run = submit(main, version)
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.reason) == ("failed", "error")
    assert "hold 5000010 bytes of results" in ended.message
    # A record of REST names by address what does not fit, and a page of large results is short.
    (join,) = (e for e in every(main, run) if e["header"]["name"] == "plan:j")
    shown = join["result"]["upstream_tasks_results"]
    assert [("inline" in one, one["size_bytes"]) for one in shown] == [(True, 1_000_002)] * 2 + [
        (False, 1_000_002)
    ] * 3
    whole = executions.one(main, run, shown[-1]["uri"].rpartition("/")[2])
    assert whole["result"]["inline"] == "x" * 1_000_000
    assert len(executions.page(main, run).items) < 8


# --- what is shown ----------------------------------------------------------------------------


def test_from_the_end_the_parents_lead_to_the_start_without_a_gap(main, worker, done):
    found = every(main, done)
    by_id = {record["header"]["exec_id"]: record for record in found}
    assert len(by_id) == len(found)
    (end,) = (record for record in found if record["header"]["name"] == "end")
    reached, level = set(), ids(end)
    while level:
        assert not set(level) - by_id.keys()
        reached.update(level)
        level = [parent for one in level for parent in ids(by_id[one]) if parent not in reached]
    assert reached == by_id.keys() - {end["header"]["exec_id"]}
    (start,) = (record for record in found if not ids(record))
    assert (start["header"]["name"], start["header"]["iteration_idx"]) == ("ask", 0)


def test_a_task_follows_a_plan_and_a_plan_what_it_is_to_judge(main, worker, done):
    found = {r["header"]["exec_id"]: r for r in every(main, done)}

    def at(node, attempt=1):
        return found[f"{done.run}:{node}:1:{attempt}"]

    between = found[f"{done.run}:check1:1:plan"]
    assert between["implicit"] is True
    assert between["result"]["next_task_names"] == ["check1"]
    assert between["parent_task_exec_ids"] == [f"{done.run}:code1:1:1"]
    assert at("check1")["parent_plan_exec_id"] == between["header"]["exec_id"]
    assert at("code1")["parent_plan_name"] == "plan"
    met = found[f"{done.run}:accept:1:plan"]
    assert met["parent_task_names"] == ["check1", "code2"]
    plan = at("plan")
    assert plan["implicit"] is False
    assert plan["header"]["edge_taken"] == "first, the other"
    assert plan["result"]["next_task_names"] == ["code1", "code2"]
    assert plan["result"]["inline"]["saw"] == 1
    upstream = plan["result"]["upstream_tasks_results"]
    assert [one["id"] for one in upstream] == [f"{done.run}:ask:1:1"]
    judge = at("judge")
    assert judge["result"]["next_task_names"] == ["ask"]
    assert "inline" not in judge["result"]
    assert found[f"{done.run}:ask:2:1"]["parent_plan_exec_id"] == judge["header"]["exec_id"]
    task = at("ask")
    assert task["header"] | {"created_at": 0, "started_at": 0, "ended_at": 0} == {
        "name": "ask",
        "exec_id": f"{done.run}:ask:1:1",
        "graph_id": task["header"]["graph_id"],
        "lifetime_id": done.run,
        "tenant_id": "local",
        "attempt": 1,
        "iteration_idx": 0,
        "created_at": 0,
        "started_at": 0,
        "ended_at": 0,
        "status": "SUCCEEDED",
        "edge_taken": "ask->plan",
    }
    assert task["header"]["created_at"] <= task["header"]["started_at"] < task["header"]["ended_at"]
    telemetry = task["policy_telemetry"]
    assert telemetry["latency_ms"] > 0
    assert telemetry["memory_bytes"] > 0
    assert (telemetry["tokens_used"], telemetry["cost_usd"]) == (0, 0.0)
    assert task["result"] == {
        "id": f"{done.run}:ask:1:1",
        "inline": [],
        "size_bytes": 2,
        "error_message": "",
    }


def test_pages_of_any_size_show_the_same(main, worker, done):
    whole = every(main, done)
    assert every(main, done, limit=1) == whole
    assert every(main, done, limit=3) == whole
    for record in whole:
        assert executions.one(main, done, record["header"]["exec_id"]) == record


def test_what_code_sees_is_the_same_in_memory(main, worker, done):
    """And what it sees is what people are shown."""
    made: dict[str, Any] = {}
    for source in SOURCES.values():
        exec(source, made)  # ours
    functions = {name: made[name] for name in SOURCES}
    record = testing.run(CODING, functions=functions)
    assert record.status == "completed"
    found = every(main, done)
    for node in ("ask", "code1", "check1", "accept"):
        for step in record.visits(node):
            (shown,) = (
                e
                for e in found
                if e["header"]["exec_id"] == f"{done.run}:{node}:{step.iteration}:1"
            )
            assert shown["result"]["inline"] == step.result, step.key
    (accept, _) = record.visits("accept")
    checked = [
        ["plan:check1", "SUCCEEDED", "code1->check1", True, None, ["check1"], ["code1 of plan"]]
    ]
    assert accept.result == [
        [
            "plan:accept",
            "SUCCEEDED",
            "check1->accept, code2->accept",
            True,
            None,
            ["accept"],
            [checked, "code2 of plan"],
        ]
    ]
    assert record.visits("ask")[1].result == ["judge"]


def test_each_attempt_is_an_execution(main, worker, settings):
    register(main, "noop")
    retried = {"uses": "noop", "retry": {"attempts": 2, "backoff": "0s"}}
    run = submit(main, publish(main, chain(a=retried)))
    at = worker.platform
    take(at, run, "a#1")
    lose_leases(settings)
    sweep.sweep(main)
    second = take(at, run, "a#1")
    platforms.finish(main, at, second, Failed(reason="error", message="boom"))
    sweep.sweep(main)
    third = take(at, run, "a#1")
    (lost, failed, running) = every(main, run)
    assert [e["header"]["attempt"] for e in (lost, failed, running)] == [1, 2, 3]
    assert [e["header"]["status"] for e in (lost, failed, running)] == [
        "FAILED",
        "FAILED",
        "RUNNING",
    ]
    assert failed["result"]["error_message"] == "boom"
    assert "stopped answering" in lost["result"]["error_message"]
    platforms.finish(main, at, third, Succeeded(result=7, usage={"tokens_used": 5, "hops": 2}))
    done = executions.one(main, run, running["header"]["exec_id"])
    assert done["result"]["inline"] == 7
    assert done["policy_telemetry"]["tokens_used"] == 5
    assert done["policy_telemetry"]["custom_metrics"] == {"hops": 2}
    (end,) = (e for e in every(main, run) if e["header"]["name"] == "end")
    assert end["parent_task_exec_ids"] == [f"{run.run}:a:1:3"]


def test_a_skipped_and_a_cancelled_step_say_so(main, worker):
    register(main, "noop")
    run = submit(main, publish(main, chain(a={"uses": "noop"}, b={"uses": "noop"})))
    take(worker.platform, run, "a#1")
    control.skip(main, run, "a#1", by="ada", reason="known")
    control.cancel(main, run, by="ada")
    a, plan, b = every(main, run)
    assert (a["header"]["status"], a["result"]["error_message"]) == (
        "SUCCEEDED",
        "skipped by ada: known",
    )
    assert plan["parent_task_exec_ids"] == [a["header"]["exec_id"]]
    assert (b["header"]["status"], b["header"]["started_at"]) == ("CANCELED", None)


def test_what_a_second_attempt_sees_is_what_the_first_one_saw(main, worker, settings):
    register(main, "one", "def one(state):\n    return 1")
    register(main, "tell", TELL)
    run = submit(main, publish(main, chain(a={"uses": "one"}, b={"uses": "tell"})))
    execute(worker, main.broker.hints.pop().step)
    platforms.turns.take_turns(main, [run])
    take(worker.platform, run, "b#1")
    lose_leases(settings)
    sweep.sweep(main)
    carry_out(main, worker, run)
    told = executions.one(main, run, f"{run.run}:b:1:2")
    assert told["result"]["inline"] == [["plan:b", "SUCCEEDED", "a->b", True, None, ["b"], [1]]]


def test_a_timeline_tells_what_happened_in_order(main, worker, done):
    told = executions.timeline(main, done)
    assert (told.plans, told.tasks) == (5, 10)
    names = [record["header"]["name"] for record in told.page.items]
    assert names[:2] == ["ask", "plan"]
    assert names[-1] == "end"
    assert [r["header"] for r in told.page.items] == [e["header"] for e in every(main, done)]
    first = executions.timeline(main, done, limit=3)
    assert first.page.following == Place(*first.page.following)
    rest = executions.timeline(main, done, since=first.page.following)
    assert first.page.items + rest.page.items == told.page.items


def test_what_was_recorded_of_an_attempt_stays_whatever_comes_after_it(main, worker, settings):
    """S1-15: each attempt is a line of its own, and no line is ever another."""
    register(main, "noop")
    retried = {"uses": "noop", "retry": {"attempts": 3, "backoff": "0s"}}
    run = submit(main, publish(main, chain(a=retried, b={"uses": "noop"})))
    at = worker.platform

    def lines() -> list[tuple[Any, ...]]:
        told = "SELECT seq, kind, body::text, hash FROM history WHERE run_id = CAST(:run AS uuid)"
        return [tuple(row) for row in platforms.sql(main, f"{told} ORDER BY seq", run=run.run)]

    before = lines()
    outcomes = [("a#1", None), ("a#1", Failed(reason="error", message="boom"))]
    outcomes += [("a#1", Succeeded(result=1)), ("b#1", Succeeded(result=2))]
    for key, outcome in outcomes:
        lease = take(at, run, key)
        if outcome is None:
            lose_leases(settings)
        else:
            platforms.finish(main, at, lease, outcome)
        sweep.sweep(main)
        after = lines()
        assert after[: len(before)] == before
        before = after
    kinds = [kind for _, kind, *_ in before if kind.startswith("Attempt")]
    assert kinds == ["AttemptLost", "AttemptFailed", *["AttemptSucceeded"] * 2]
    shown = [e for e in every(main, run) if e["header"]["name"] in "ab"]
    assert [e["header"]["attempt"] for e in shown] == [1, 2, 3, 1]
