"""Runs that go on from a place of another one, over REST."""

from __future__ import annotations

import pytest

from engine.platform import Platform
from engine.runs import turns
from engine.store.ids import RunId
from tests.support.platforms import LINE, TENANT, finish, publish, register, submit, take
from tests.support.site import Api


@pytest.fixture
def run(control: Platform, worker: Platform) -> RunId:
    register(control, "noop")
    begun = submit(control, publish(control, dict(LINE)), n=0)
    finish(control, worker, take(worker, begun, "a#1"), n=1)
    return begun


def test_a_fork_that_cannot_be_says_why(api: Api, run: RunId) -> None:
    place = f"/api/v1/runs/{run.run}/checkpoints"
    reported = next(
        line["seq"]
        for line in api.get(f"/api/v1/runs/{run.run}/history").json["items"]
        if line["kind"] == "AttemptSucceeded"
    )
    amid = api.post(f"{place}/{reported}/fork", json={})
    assert (amid.status_code, "being settled there" in amid.json["detail"]) == (409, True)
    assert api.post(f"{place}/99/fork", json={}).status_code == 404
    assert api.post(f"{place}/{2**62 + 1}/fork", json={}).status_code == 404
    assert api.post(f"{place}/2/fork", json={"removed": ["none"]}).status_code == 422
    assert api.post(f"{place}/2/fork", json={"variables": 1}).status_code in {400, 422}


def test_a_fork_is_a_run_that_says_where_it_comes_from(
    api: Api, control: Platform, worker: Platform, run: RunId
) -> None:
    place = f"/api/v1/runs/{run.run}/checkpoints"
    (settled,) = api.get(place).json["items"]
    seq, key = settled["seq"], {"Idempotency-Key": "one"}
    made = api.post(f"{place}/{seq}/fork", json={"variables": {"n": 7}}, headers=key)
    assert made.status_code == 201
    again = api.post(f"{place}/{seq}/fork", json={"variables": {"n": 7}}, headers=key)
    assert (again.status_code, again.json["run_id"]) == (200, made.json["run_id"])
    fork = RunId(TENANT, made.json["run_id"])
    turns.take_turns(control, [fork])
    finish(control, worker, take(worker, fork, "b#1"))
    shown = api.get(made.headers["Location"]).json
    assert (shown["status"], shown["variables"]) == ("completed", {"n": 7})
    assert shown["forked_from"] == {"run_id": run.run, "seq": seq}
    assert api.get(f"/api/v1/runs/{run.run}").json["forked_from"] is None
    for below in ("steps", "executions", "timeline", "diagram", "checkpoints", "history", "calls"):
        found = api.get(f"{made.headers['Location']}/{below}")
        assert found.status_code == 200, (below, found.text)
    assert [step["key"] for step in api.get(f"{made.headers['Location']}/steps").json["items"]] == [
        "b#1",
        "end#1",
    ]
    assert api.get(f"/graph/state/{fork.run}").status_code == 200


def test_a_restart_says_what_it_would_repeat_and_takes_a_result(
    api: Api, control: Platform, worker: Platform, run: RunId
) -> None:
    finish(control, worker, take(worker, run, "b#1"))
    step = f"/api/v1/runs/{run.run}/steps/b%231"
    assert api.get(f"{step}/effects").json["items"] == []
    assert api.get(f"/api/v1/runs/{run.run}/steps/no%231/effects").status_code == 404
    assert api.post(f"{step}/restart", json={"given": {}}).status_code in {400, 422}
    wrong = api.post(f"{step}/restart", json={"given": {"result": 1, "choice": "nowhere"}})
    assert wrong.status_code == 422
    made = api.post(f"{step}/restart", json={"given": {"result": 1}})
    assert made.status_code == 201
    fork = RunId(TENANT, made.json["run_id"])
    turns.take_turns(control, [fork])
    assert api.get(made.headers["Location"]).json["status"] == "completed"
    for below in ("steps", "executions", "timeline", "diagram"):
        found = api.get(f"{made.headers['Location']}/{below}")
        assert found.status_code == 200, (below, found.text)
