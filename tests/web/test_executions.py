"""Executions and timelines over the API, with seed 001's names."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from flask import Flask

from celeriac.client import Client
from engine.platform import Platform
from engine.runs.attempts import Failed, Succeeded
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.platforms import LINE, finish, take
from tests.support.site import Api


@pytest.fixture
def run(control: Platform, worker: Platform) -> RunId:
    """`a` is done, `b` has failed once for good."""
    platforms.register(control, "noop")
    run = platforms.submit(control, platforms.publish(control, dict(LINE)))
    finish(control, worker, take(worker, run, "a#1"), Succeeded(result={"n": 1}))
    return run


def get(api: Api, run: RunId, path: str, **query: Any) -> Any:
    response = api.get(f"/api/v1/runs/{run.run}/{path}", query_string=query)
    assert response.status_code == 200, response.text
    return response.json


def test_a_cursor_that_was_never_handed_out_is_refused(api: Api, run: RunId) -> None:
    for path in ("executions", "timeline"):
        for cursor in ("x", "WzEs", "WzEsMl0x", "WyJhIiwxXQ", "WzEsLTFd"):
            response = api.get(f"/api/v1/runs/{run.run}/{path}?cursor={cursor}")
            assert response.status_code == 422, cursor
            assert response.json["errors"][0]["path"] == "cursor"


def test_nobody_sees_the_executions_of_another_tenant(stranger: Api, run: RunId) -> None:
    for path in ("executions", f"executions/{run.run}:a:1:1", "timeline"):
        assert stranger.get(f"/api/v1/runs/{run.run}/{path}").status_code == 404


def test_executions_are_listed_and_read_with_the_names_of_the_seed(api: Api, run: RunId) -> None:
    items, cursor = [], {}
    while True:
        page = get(api, run, "executions", limit=1, **cursor)
        items += page["items"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    task, plan, second = items
    assert set(task) == {
        "header",
        "policy_telemetry",
        "result",
        "parent_plan_exec_id",
        "parent_plan_name",
    }
    assert task["result"]["inline"] == {"n": 1}
    assert task["result"]["size_bytes"] == 7
    assert plan["implicit"] is True
    assert plan["result"]["upstream_tasks_results"] == [task["result"]]
    assert second["parent_plan_exec_id"] == plan["header"]["exec_id"]
    assert second["header"]["status"] == "PENDING"
    assert get(api, run, f"executions/{plan['header']['exec_id']}") == plan


def test_a_timeline_has_the_shape_of_the_seed(
    api: Api, run: RunId, control: Platform, worker: Platform
) -> None:
    finish(control, worker, take(worker, run, "b#1"), Failed(reason="error", message="boom"))
    told = get(api, run, "timeline")
    assert {name: told[name] for name in ("tenantId", "lifetimeId", "status", "errorMessage")} == {
        "tenantId": "local",
        "lifetimeId": run.run,
        "status": "FAILED",
        "errorMessage": "boom",
    }
    assert (told["planExecutions"], told["taskExecutions"], told["next"]) == (0, 2, None)
    assert told["entryPlanNames"] == ["a"]
    assert told["completedAt"] is not None
    kinds = [(event["eventType"], event["nodeName"]) for event in told["events"]]
    assert kinds == [
        ("TASK_EXECUTION", "a"),
        ("PLAN_EXECUTION", "plan:b"),
        ("TASK_EXECUTION", "b"),
    ]
    first, plan, last = told["events"]
    assert (first["parentExecutionId"], first["parentNodeName"]) == (None, None)
    assert (plan["parentExecutionId"], plan["nextTaskNames"]) == (first["executionId"], ["b"])
    assert (last["status"], last["errorMessage"]) == ("FAILED", "boom")
    part = get(api, run, "timeline", limit=2)
    rest = get(api, run, "timeline", cursor=part["next"])
    assert part["events"] + rest["events"] == told["events"]


def test_a_cancelled_run_is_canceled_in_a_timeline(api: Api, run: RunId) -> None:
    api.post(f"/api/v1/runs/{run.run}/cancel")
    told = get(api, run, "timeline")
    assert (told["status"], told["events"][-1]["status"]) == ("CANCELED", "CANCELED")


def test_the_client_reads_executions_and_the_timeline(app: Flask, api: Api, run: RunId) -> None:
    transport = httpx2.WSGITransport(app=app)
    with Client("http://127.0.0.1", api.token, transport=transport) as client:
        found = list(client.executions(run.run))
        assert [client.execution(run.run, each["header"]["exec_id"]) for each in found] == found
        events = client.timeline(run.run)["events"]
    assert [e["executionId"] for e in events] == [e["header"]["exec_id"] for e in found]
