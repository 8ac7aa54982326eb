"""Agents over REST: entered, read, run, renamed and removed."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from engine.platform import Platform
from engine.runs import views
from engine.store.ids import RunId
from tests.support.platforms import TENANT
from tests.support.site import Api

ECHO = {"type": "template", "prompt": "{input}", "inputs": ["input"], "outputs": ["output"]}
STEP = {"agent": "echo", "params": {"input": "$x"}, "output": ["said"]}
SAYS = {"type": "workflow", "inputs": ["x"], "outputs": ["said"], "steps": [STEP], "gui": {"x": 1}}


def enter(api: Api, **agents: Any) -> dict[str, Any]:
    answer = api.post("/api/v1/agents", json={"agents": agents})
    assert answer.status_code == 200, answer.json
    return {each["name"]: each for each in answer.json["items"]}


def test_everything_that_is_wrong_is_told_and_nothing_is_entered(api: Api) -> None:
    wrong = {"type": "template", "inputs": [1]}
    answer = api.post("/api/v1/agents", json={"agents": {"a": wrong, "echo": ECHO}})
    assert answer.status_code == 422
    told = {each["path"] for each in answer.json["errors"]}
    assert told == {"agents.a.inputs", "agents.a.prompt"}
    assert api.get("/api/v1/agents").json["items"] == []


def test_an_agent_is_entered_and_read_as_it_was_written(api: Api) -> None:
    entered = enter(api, echo=ECHO, says=SAYS)
    assert entered["says"]["optional_inputs"] == ["dryrun"]
    assert entered["echo"]["function"] == "agent.echo@1"
    assert [each["changed"] for each in enter(api, echo=ECHO, says=SAYS).values()] == [False] * 2
    assert [each["name"] for each in api.get("/api/v1/agents").json["items"]] == ["echo", "says"]
    page = api.get("/api/v1/agents?limit=1").json
    assert [each["name"] for each in page["items"]] == ["echo"]
    rest = api.get(f"/api/v1/agents?cursor={page['next']}").json
    assert [each["name"] for each in rest["items"]] == ["says"]
    found = api.get("/api/v1/agents/says").json
    assert found["definition"] == SAYS
    assert found["uses"] == {"echo": "agent:echo@1.0"}
    for version in ("1", "1.0"):
        assert api.get(f"/api/v1/agents/says/versions/{version}").json == found
    for version in ("2", "1.1", "x", "1.0.0"):
        assert api.get(f"/api/v1/agents/says/versions/{version}").status_code == 404
    (only,) = api.get("/api/v1/agents/says/versions").json["items"]
    assert only["version"] == "1.0"


def test_what_is_used_is_not_removed_and_a_new_name_is_taken_up(api: Api) -> None:
    enter(api, echo=ECHO, says=SAYS)
    answer = api.send("DELETE", "/api/v1/agents/echo")
    assert (answer.status_code, answer.json["detail"]) == (
        409,
        "echo is used by says; change or remove them first",
    )
    answer = api.post("/api/v1/agents/echo/rename", json={"name": "repeat", "reason": "clearer"})
    told = {each["name"]: each["version"] for each in answer.json["items"]}
    assert told == {"repeat": "1.0", "says": "1.1"}
    assert api.get("/api/v1/agents/echo").status_code == 404
    assert api.send("DELETE", "/api/v1/agents/says", json={"reason": "done"}).json["name"] == "says"
    assert api.send("DELETE", "/api/v1/agents/repeat").status_code == 200
    assert api.get("/api/v1/agents").json["items"] == []


def test_what_it_is_given_may_be_a_file(api: Api, control: Platform) -> None:
    enter(api, echo=ECHO)
    data = base64.b64encode(b'\x00\xff"\\,' * 1_000_000).decode()
    answer = api.post("/api/v1/agents/echo/runs", json={"inputs": {"input": {"$bytes": data}}})
    assert answer.status_code == 201, answer.json
    run = RunId(TENANT, answer.json["run_id"])
    assert views.status(control, run).status == "queued"


@pytest.mark.parametrize(
    "inputs",
    [
        {"input": [1] * 600_000},
        {"input": [""] * 400_000},
        {"input": ['"'] * 300_000},
        {"input": "\\" * 700_000, "x": [[]] * 400_000},
    ],
)
def test_many_values_are_no_file(api: Api, inputs: Any) -> None:
    enter(api, echo=ECHO)
    answer = api.post("/api/v1/agents/echo/runs", json={"inputs": inputs})
    assert answer.status_code == 422
    assert "long texts alone" in json.dumps(answer.json)


def test_more_than_a_file_may_be_is_too_large(api: Api) -> None:
    enter(api, echo=ECHO)
    given = {"inputs": {"input": "x" * 33 * 1_048_576}}
    assert api.post("/api/v1/agents/echo/runs", json=given).status_code == 413
    assert api.post("/api/v1/agents", json={"agents": {"a": "x" * 1_100_000}}).status_code == 413


def test_what_an_agent_takes_is_asked_for(api: Api) -> None:
    enter(api, echo=ECHO, says=SAYS)
    for inputs, path in (({}, "inputs.x"), ({"x": 1, "y": 2}, "inputs.y")):
        answer = api.post("/api/v1/agents/says/runs", json={"inputs": inputs})
        assert answer.status_code == 422, inputs
        assert [each["path"] for each in answer.json["errors"]] == [path]
    assert api.post("/api/v1/agents/nobody/runs", json={}).status_code == 404
    asked = {"inputs": {"x": 1}, "version": "2"}
    assert api.post("/api/v1/agents/says/runs", json=asked).status_code == 404


def test_one_key_is_one_run(api: Api) -> None:
    enter(api, echo=ECHO)
    ask = {"json": {"inputs": {"input": 1}}, "headers": {"Idempotency-Key": "k"}}
    first, again = (api.post("/api/v1/agents/echo/runs", **ask) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json["run_id"] == again.json["run_id"]


def test_agents_of_others_are_not_there(api: Api, stranger: Api) -> None:
    enter(api, echo=ECHO)
    assert stranger.get("/api/v1/agents/echo").status_code == 404
    assert stranger.get("/api/v1/agents").json["items"] == []
    answer = stranger.post("/api/v1/agents", json={"agents": {"says": SAYS}})
    assert [each["message"] for each in answer.json["errors"]] == ["Agent not found: echo"]
