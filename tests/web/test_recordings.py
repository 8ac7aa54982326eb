"""Runs as files, over REST and as people use them from the outside."""

from __future__ import annotations

import pytest

from engine.platform import Platform
from engine.store.ids import RunId
from tests.support import recorded
from tests.support.platforms import LINE, finish, publish, register, submit, take
from tests.support.site import Api

IMPORTS = "/api/v1/imports"


@pytest.fixture
def run(control: Platform, worker: Platform) -> RunId:
    register(control, "noop")
    begun = submit(control, publish(control, dict(LINE)), n=0)
    for key in ("a#1", "b#1"):
        finish(control, worker, take(worker, begun, key), n=1)
    return begun


def test_a_file_that_is_none_changes_nothing_and_is_answered_with_its_line(api: Api) -> None:
    text = recorded.text()
    for data, kind, code in [
        (text, "application/json", 415),
        (text.encode() + b"x", recorded.CONTENT, 422),
        (text.replace("loop", "lo0p"), recorded.CONTENT, 422),
        (b"", recorded.CONTENT, 422),
        (b"\xff\xfe", recorded.CONTENT, 422),
    ]:
        response = api.post(IMPORTS, data=data, content_type=kind)
        assert response.status_code == code, response.text
    assert response.json["errors"][0]["path"] == "line 1"
    assert api.get("/api/v1/runs").json["items"] == []


def test_what_is_exported_is_imported_by_another_tenant_and_is_the_same_there(
    api: Api, stranger: Api, run: RunId
) -> None:
    place = f"/api/v1/runs/{run.run}"
    assert stranger.get(f"{place}/export").status_code == 404
    assert api.get(f"{place}/export?payloads=most").status_code == 422
    file = api.get(f"{place}/export")
    assert (file.status_code, file.content_type) == (200, recorded.CONTENT)
    assert api.post(IMPORTS, data=file.data, content_type=recorded.CONTENT).status_code == 409
    made = stranger.post(IMPORTS, data=file.data, content_type=recorded.CONTENT)
    assert (made.status_code, made.json["status"]) == (201, "completed")
    assert made.headers["Location"] == place
    shown = stranger.get(place).json
    assert (shown["imported"]["tenant"], shown["variables"]) == (run.tenant, {"n": 1})
    assert api.get(place).json["imported"] is None
    for below in (
        *("steps", "executions", "timeline", "diagram", "checkpoints", "history", "calls"),
        *("attempts", "logs", "explain", "children", "checkpoints/3"),
    ):
        there = stranger.get(f"{place}/{below}")
        assert there.status_code == 200, (below, there.text)
    assert stranger.get(f"/graph/state/{run.run}").status_code == 200
    assert stranger.post(f"{place}/replay", json={}).json["outcome"] == "same"
    for act in (
        "cancel",
        "pause",
        "resume",
        "terminate",
        "checkpoints/3/fork",
        "steps/a%231/restart",
    ):
        refused = stranger.post(f"{place}/{act}", json={})
        assert refused.status_code == 409, (act, refused.text)
    named = stranger.send("PUT", f"{place}/checkpoints/3", json={"name": "mine"})
    assert (named.status_code, "read-only" in named.json["detail"]) == (409, True)
    assert stranger.get("/api/v1/workflows").json["items"] == []
    (listed,) = stranger.get("/api/v1/runs").json["items"]
    assert listed["imported"]["by"]
    assert stranger.get(f"{place}/export").status_code == 200
