"""Migrating live runs over REST: what is told, what is refused, and what it leaves."""

from __future__ import annotations

from typing import Any

import pytest

from engine.platform import Platform
from tests.support import belongings, platforms
from tests.support.platforms import LINE, finish, take
from tests.support.site import Api


@pytest.fixture
def run(api: Api, control: Platform) -> str:
    """A run whose first step is ready, of a workflow with two versions more."""
    platforms.register(control, "noop")
    version = platforms.publish(control, {**LINE, "version": "1.0.0"})
    run = platforms.submit(control, version).run
    platforms.publish(control, {**LINE, "version": "2.0.0", "limits": {"steps": 9}})
    without: dict[str, Any] = {**LINE, "nodes": {"b": {"uses": "noop"}}, "edges": ["b -> end"]}
    platforms.publish(control, {**without, "version": "3.0.0"})
    return run


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ({}, "to"),
        ({"to": 2}, "to"),
        ({"to": "newest"}, "version"),
        ({"to": "2.0.0", "nodes": ["a"]}, "nodes"),
        ({"to": "2.0.0", "nodes": {"a": 1}}, "nodes.a.value"),
        ({"to": "2.0.0", "more": 1}, "more"),
    ],
)
def test_what_makes_no_sense_is_refused(
    api: Api, run: str, asked: dict[str, Any], path: str
) -> None:
    response = api.post(f"/api/v1/runs/{run}/migrate", json=asked)
    assert (response.status_code, response.json["errors"][0]["path"]) == (422, path)


def test_what_keeps_a_run_is_listed_and_nothing_is_changed(api: Api, run: str) -> None:
    before = api.get(f"/api/v1/runs/{run}").json
    asked = api.post(f"/api/v1/runs/{run}/migrate", json={"to": "^3", "dry_run": True})
    refused = api.post(f"/api/v1/runs/{run}/migrate", json={"to": "^3"})
    assert (asked.status_code, refused.status_code) == (200, 409)
    (problem,) = refused.json["errors"]
    assert asked.json["problems"] == [problem]
    assert (problem["path"], asked.json["migrated"]) == ("steps.a#1", False)
    assert "map it" in problem["remedy"]
    assert api.get(f"/api/v1/runs/{run}").json == before


def test_a_run_goes_on_under_another_version(
    api: Api, run: str, control: Platform, worker: Platform
) -> None:
    body = {"to": "2.x", "reason": "better"}
    asked = api.post(f"/api/v1/runs/{run}/migrate", json={**body, "dry_run": True})
    assert asked.json["steps"] == [{"step": "a#1", "node": "a", "becomes": "a", "status": "ready"}]
    assert api.get(f"/api/v1/runs/{run}").json["version"] == "1.0.0"
    done = api.post(f"/api/v1/runs/{run}/migrate", json=body)
    assert (done.status_code, done.json["migrated"], done.json["to"]) == (200, True, "2.0.0")
    assert api.get(f"/api/v1/runs/{run}").json["version"] == "2.0.0"
    (told,) = api.get("/api/v1/audit", query_string={"action": "MigrateRequested"}).json["items"]
    assert (told["by"], told["why"], told["run"]) == ("ada", "better", run)
    again = api.post(f"/api/v1/runs/{run}/migrate", json=body)
    assert again.status_code == 409
    named = platforms.RunId(platforms.TENANT, run)
    for step in ("a#1", "b#1"):
        finish(control, worker, take(worker, named, step))
    replay = api.post(f"/api/v1/runs/{run}/replay", json={})
    assert (replay.json["divergences"], replay.json["outcome"]) == (0, "same")


def test_many_are_migrated_by_filter(api: Api, run: str) -> None:
    body: dict[str, Any] = {"action": "migrate", "filter": {"workflow": "line"}}
    bare = api.post("/api/v1/runs/bulk", json=body)
    assert (bare.status_code, bare.json["errors"][0]["path"]) == (422, "migration")
    asked = {**body, "migration": {"to": "2.0.0", "dry_run": True}}
    (would,) = api.post("/api/v1/runs/bulk", json=asked).json["items"]
    assert (would["run_id"], would["outcome"]) == (run, "would")
    (stays,) = api.post("/api/v1/runs/bulk", json={**body, "migration": {"to": "3.0.0"}}).json[
        "items"
    ]
    assert stays["outcome"] == "refused"
    assert "steps.a#1" in stays["why"]
    (done,) = api.post("/api/v1/runs/bulk", json={**body, "migration": {"to": "2.0.0"}}).json[
        "items"
    ]
    assert done["outcome"] == "done"


def test_who_may_not_control_runs_migrates_none(app: Any, control: Platform, run: str) -> None:
    viewer = Api(client=app.test_client(), token=belongings.key(control, "vi", {"viewer"}))
    assert viewer.post(f"/api/v1/runs/{run}/migrate", json={"to": "2.0.0"}).status_code == 403
