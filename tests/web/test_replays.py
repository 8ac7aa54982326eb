"""Runs decided once more, and explained, over REST."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2
import pytest
from flask import Flask

from celeriac.client import Client
from engine.core.principal import Principal
from engine.platform import Platform
from engine.runs import access
from engine.store.ids import RunId
from tests.support import platforms, recordings
from tests.support.described import fits
from tests.support.platforms import TENANT, publish, submit
from tests.support.recordings import PLANNED, Scene
from tests.support.site import Api
from tests.support.waiting import waits_at

NOBODY = "0190ffff-0000-7000-8000-000000000000"
POLICY = "policy: p\nrules: [{name: one, metric: steps, op: '>', value: 1, action: abort}]"


@pytest.fixture
def run(control: Platform, worker: Platform) -> str:
    """A run that has ended."""
    return recordings.led(Scene(main=control, hands=worker), "planned").run


def place(run: str) -> str:
    return f"/api/v1/runs/{run}/replay"


@pytest.mark.parametrize(
    ("body", "status", "path"),
    [
        ({"more": 1}, 422, "more"),
        ({"version": 2}, 422, "version"),
        ({"version": "1", "policy": POLICY}, 422, "policy"),
        ({"beside": True}, 422, "beside"),
        ({"policy": "policy: p\nrules: [nonsense]"}, 422, "rules[0]"),
        ({"policy": 3}, 422, ""),
        ({"version": "9.9.9"}, 404, None),
        ({"version": "no"}, 422, "version"),
    ],
)
def test_what_makes_no_sense_or_is_not_there_is_refused(
    api: Api, run: str, body: Any, status: int, path: str | None
) -> None:
    response = api.post(place(run), json=body)
    assert response.status_code == status, response.text
    told = [each["path"] for each in response.json.get("errors", [])]
    assert told == ([] if path is None else [path])


def test_a_run_of_nobody_or_of_another_tenant_is_not_there(
    api: Api, stranger: Api, run: str
) -> None:
    for body in ({}, {"policy": POLICY}, {"version": "1.0.0"}):
        for who, which in ((api, NOBODY), (api, "me"), (stranger, run)):
            assert who.post(place(which), json=body).status_code == 404


@pytest.mark.parametrize(
    ("scopes", "statuses"),
    [
        ((), (403, 403, 403)),
        (("run:read",), (200, 403, 403)),
        (("run:read", "definition:read"), (200, 200, 403)),
        (("run:read", "policy:read"), (200, 403, 200)),
    ],
)
def test_who_may_not_read_versions_or_policies_holds_no_run_against_them(
    app: Flask, control: Platform, run: str, scopes: tuple[str, ...], statuses: tuple[int, ...]
) -> None:
    who = Principal(tenant="local", user="vic", roles=frozenset(), permissions=frozenset(scopes))
    small = Api(client=app.test_client(), token=access.create_key(control.database, who))
    asked: tuple[Mapping[str, str], ...] = ({}, {"version": "1.0.0"}, {"policy": POLICY})
    found = tuple(small.post(place(run), json=body).status_code for body in asked)
    assert found == statuses


def test_a_run_is_decided_once_more_by_itself_a_version_and_a_policy(
    app: Flask, api: Api, control: Platform, spec: dict[str, Any], run: str
) -> None:
    itself = api.post(place(run))
    assert itself.status_code == 200, itself.text
    fits(app, spec, itself)
    assert (itself.json["against"], itself.json["outcome"]) == ("itself", "same")
    assert (itself.json["divergences"], itself.json["first"], itself.json["would"]) == (
        0,
        None,
        None,
    )
    assert itself.json["decisions"] > 5
    plan = {"role": "plan", "rules": [{"when": "$n > 9", "next": ["large"]}, {"next": ["small"]}]}
    nodes: Any = {**PLANNED["nodes"], "plan": plan}  # type: ignore[dict-item]
    publish(control, {**PLANNED, "nodes": nodes})
    version = api.post(place(run), json={"version": "1.0.1"})
    fits(app, spec, version)
    assert (version.json["divergences"], version.json["first"]["step"]) == (1, "plan#1")
    assert version.json["would"]["missing"] == ["small#1"]
    policy = api.post(place(run), json={"policy": POLICY})
    fits(app, spec, policy)
    assert (policy.json["other"], policy.json["would"]["consequence"]) == ("p", "aborted")
    assert policy.json["first"]["step"] == "large#1"
    assert platforms.status(control, RunId(TENANT, run)) == "completed"


def test_the_client_asks_for_the_same(app: Flask, control: Platform, run: str) -> None:
    key = access.create_key(control.database, access.LOCAL)
    with Client("http://127.0.0.1", key, transport=httpx2.WSGITransport(app=app)) as client:
        assert client.replay(run)["divergences"] == 0
        assert client.run(run).replay(version="1.0.0")["outcome"] == "same"
        assert client.replay(run, policy=POLICY, beside=True)["divergences"] == 1
        with pytest.raises(ValueError, match="a policy or a version"):
            client.replay(run, policy=POLICY, version="1.0.0")


# --- why it is where it is --------------------------------------------------------------------


def explanation(run: str) -> str:
    return f"/api/v1/runs/{run}/explain"


@pytest.mark.parametrize("before", ["0", "-1", "x", "99999999999999999999"])
def test_a_line_that_there_cannot_be_is_refused(api: Api, run: str, before: str) -> None:
    response = api.get(f"{explanation(run)}?before={before}")
    assert response.status_code == 422, response.text
    assert [each["path"] for each in response.json["errors"]] == ["before"]


def test_what_is_nobodys_or_another_tenants_is_not_explained(
    api: Api, stranger: Api, run: str
) -> None:
    for who, which in ((api, NOBODY), (api, "me"), (stranger, run)):
        assert who.get(explanation(which)).status_code == 404


def test_a_run_that_waits_and_one_that_has_ended_are_explained(
    *, app: Flask, api: Api, control: Platform, spec: dict[str, Any], run: str
) -> None:
    ended = api.get(explanation(run))
    assert ended.status_code == 200, ended.text
    fits(app, spec, ended)
    assert (ended.json["status"], ended.json["waits"]) == ("completed", [])
    (plan,) = (each for each in ended.json["decisions"] if each["step"] == "plan#1")
    (small,) = (way for way in plan["ways"] if not way["taken"])
    assert (small["target"], small["why"]) == ("small", "choice")
    older = api.get(f"{explanation(run)}?before={plan['seq']}")
    assert [each["step"] for each in older.json["decisions"]] == ["ask#1"]
    going = submit(control, publish(control, waits_at("timer", **{"for": "2h"})))
    waits = api.get(explanation(going.run))
    fits(app, spec, waits)
    (one,) = waits.json["waits"]
    assert (one["step"], one["waits_for"], one["of"]) == (
        *("w#1", "its time to come", {"kind": "timer"}),
    )
    assert one["wakes_at"] > one["since"]


def test_the_client_explains_the_same(app: Flask, control: Platform, run: str) -> None:
    key = access.create_key(control.database, access.LOCAL)
    with Client("http://127.0.0.1", key, transport=httpx2.WSGITransport(app=app)) as client:
        assert client.explain(run)["status"] == "completed"
        assert client.run(run).explain(before=2)["decisions"] == []
