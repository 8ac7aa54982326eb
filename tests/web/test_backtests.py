"""Backtests over REST: policies and versions held against recorded runs."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from celeriac.client import Client
from engine.core.principal import Principal
from engine.platform import Platform
from engine.runs import access
from engine.runs.attempts import Succeeded
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.described import fits
from tests.support.platforms import LINE, finish, publish, submit, take
from tests.support.site import Api

PLACE = "/api/v1/backtests"
POLICY = (
    "policy: p\nrules:\n  - {name: cap, metric: cost_usd, op: '>', value: 0.1, action: abort}\n"
)
NOBODY = "0190ffff-0000-7000-8000-000000000000"


def recorded(control: Platform, worker: Platform) -> RunId:
    """A run of two steps that has ended."""
    platforms.register(control, "noop")
    run = submit(control, publish(control, dict(LINE)))
    for key, dollars in (("a#1", 0.2), ("b#1", 0.000000001)):
        used = {"cost_usd": dollars}
        finish(control, worker, take(worker, run, key), Succeeded(usage=used, own=used))
    assert platforms.status(control, run) == "completed"
    return run


# --- what goes wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "body", "status", "path"),
    [
        ("policy", {}, 422, "policy"),
        ("policy", {"policy": POLICY, "more": 1}, 422, "more"),
        ("policy", {"policy": "policy: p\nrules: [nonsense]"}, 422, "rules[0]"),
        ("policy", {"policy": POLICY, "runs": {"ids": ["me"]}}, 422, "runs.ids[0]"),
        ("policy", {"policy": POLICY, "runs": {"limit": 0}}, 422, "runs.limit"),
        ("policy", {"policy": POLICY, "runs": {"status": ["gone"]}}, 422, "runs.status[0]"),
        ("policy", {"policy": POLICY, "runs": {"since": "yesterday"}}, 422, "runs.since"),
        ("policy", {"policy": POLICY, "runs": {"ids": [NOBODY]}}, 404, None),
        ("policy", {"policy": POLICY, "runs": {"workflow": "nobody"}}, 404, None),
        ("version", {}, 422, "workflow"),
        ("version", {"workflow": "nobody"}, 404, None),
        ("version", {"workflow": "line", "version": "9.9.9"}, 404, None),
        ("version", {"workflow": "line", "version": "no"}, 422, "version"),
        ("version", {"workflow": "line", "runs": {"ids": [NOBODY]}}, 404, None),
    ],
)
def test_what_makes_no_sense_or_is_not_there_is_refused(
    *, api: Api, control: Platform, place: str, body: Any, status: int, path: str | None
) -> None:
    platforms.register(control, "noop")
    publish(control, dict(LINE))
    response = api.post(f"{PLACE}/{place}", json=body)
    assert response.status_code == status, response.text
    told = [each["path"] for each in response.json.get("errors", [])]
    assert told == ([] if path is None else [path])
    if path == "rules[0]":
        assert "(line 2, column 9)" in response.json["errors"][0]["message"]


def test_runs_of_another_tenant_are_not_there(
    api: Api, stranger: Api, control: Platform, worker: Platform
) -> None:
    run = recorded(control, worker).run
    ours = {"policy": POLICY, "runs": {"ids": [run]}}
    assert api.post(f"{PLACE}/policy", json=ours).status_code == 200
    assert stranger.post(f"{PLACE}/policy", json=ours).status_code == 404
    theirs = stranger.post(f"{PLACE}/policy", json={"policy": POLICY})
    assert (theirs.status_code, theirs.json["runs"]) == (200, [])
    assert stranger.post(f"{PLACE}/version", json={"workflow": "line"}).status_code == 404


@pytest.mark.parametrize(
    ("scopes", "policy", "version"),
    [
        (("policy:read",), 403, 403),
        (("definition:read",), 403, 403),
        (("policy:read", "run:read"), 200, 403),
        (("definition:read", "run:read"), 403, 200),
    ],
)
def test_who_may_not_read_runs_or_rules_is_told_nothing(
    *,
    app: Flask,
    control: Platform,
    worker: Platform,
    scopes: tuple[str, ...],
    policy: int,
    version: int,
) -> None:
    recorded(control, worker)
    who = Principal(tenant="local", user="vic", roles=frozenset(), permissions=frozenset(scopes))
    small = Api(client=app.test_client(), token=access.create_key(control.database, who))
    assert small.post(f"{PLACE}/policy", json={"policy": POLICY}).status_code == policy
    assert small.post(f"{PLACE}/version", json={"workflow": "line"}).status_code == version


# --- what goes well ---------------------------------------------------------------------------


def test_a_policy_and_a_version_are_held_against_a_run(
    app: Flask, api: Api, control: Platform, worker: Platform
) -> None:
    spec = app.test_client().get("/openapi.json").json
    run = recorded(control, worker).run
    which = {"workflow": "line", "status": ["completed"], "until": "2999-01-01T00:00:00Z"}
    found = api.post(f"{PLACE}/policy", json={"policy": POLICY, "runs": which})
    assert found.status_code == 200, found.text
    fits(app, spec, found)
    (told,) = found.json["runs"]
    assert (told["run"], told["was"], told["would"]) == (run, "passed", "aborted")
    assert (told["cost_usd"], told["saved_usd"]) == ("0.200000001", "0.000000001")
    assert (told["block"]["step"], told["block"]["observed"]) == ("a#1", 0.2)
    assert found.json["totals"]["blocked_by"] == {"aborted": 1}
    assert found.json["extent"] == {"runs": 1, "truncated": False, "because": None, "until": None}
    longer = {
        **LINE,
        "nodes": {**LINE["nodes"], "c": {"uses": "noop"}},
        "edges": ["a -> c -> b -> end"],
    }  # type: ignore[dict-item]
    publish(control, longer)
    found = api.post(f"{PLACE}/version", json={"workflow": "line"})
    assert found.status_code == 200, found.text
    fits(app, spec, found)
    (told,) = found.json["runs"]
    assert (told["outcome"], told["missing"], told["saved_usd"]) == ("different", ["c#1"], "0")
    assert (told["first"]["kind"], told["first"]["would"]["to"]) == ("edges", ["c"])
    assert found.json["totals"]["first"] == {"edges": 1}


def test_the_client_wants_one_of_the_two() -> None:
    with Client("http://127.0.0.1:9", api_key="x") as client:
        for given in ({}, {"policy": POLICY, "version": "line@1"}):
            with pytest.raises(ValueError, match="a policy or a version"):
                client.backtest(**given)  # type: ignore[arg-type]
