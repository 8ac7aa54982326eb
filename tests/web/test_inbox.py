"""The inbox over `/api/v1`: views, answers to many, says in other hands, requests and their end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from engine.platform import Platform
from engine.runs import access
from engine.runs.access import Principal
from tests.support import platforms
from tests.support.described import fits
from tests.support.platforms import TENANT
from tests.support.site import Api
from tests.support.waiting import waits_at

STEP = "w%231"

Described = Callable[[TestResponse], None]


@pytest.fixture
def bob(app: Flask, control: Platform) -> Api:
    """A client of bob's, who is a boss and may answer."""
    principal = Principal(tenant=TENANT, user="bob", roles=frozenset({"boss", "approver"}))
    return Api(client=app.test_client(), token=access.create_key(control.database, principal))


@pytest.fixture
def described(app: Flask, spec: dict[str, Any]) -> Described:
    """Holds an answer against its description."""
    return lambda answer: fits(app, spec, answer)


def begin(control: Platform, **fields: Any) -> str:
    version = platforms.publish(control, waits_at("approval", **fields))
    return platforms.submit(control, version).run


def waiting(api: Api, **query: Any) -> list[str]:
    found = api.get("/api/v1/waits", query_string=query).json["items"]
    return [one["run_id"] for one in found]


def test_a_view_shows_and_counts_what_is_mine(
    described: Described, api: Api, bob: Api, control: Platform
) -> None:
    run = begin(control, quorum={"approve": 2, "deny": 1}, **{"from": ["role:boss"]})
    begin(control, **{"from": ["user:zoe"]})
    assert waiting(bob, view="mine") == waiting(bob, view="team") == [run]
    assert waiting(api, view="mine") == waiting(bob, view="overdue") == []
    assert waiting(bob, workflow="nothing") == waiting(bob, tool="mail") == []
    told = bob.get("/api/v1/waits/counts")
    described(told)
    assert told.json == {"mine": 1, "team": 1, "overdue": 0, "all": 2}
    place = f"/api/v1/runs/{run}/steps/{STEP}/answer"
    assert bob.post(place, json={"choice": "approve", "reason": "why not"}).json["said"] == 1
    (one,) = bob.get("/api/v1/waits", query_string={"view": "team"}).json["items"]
    assert (one["quorum"], one["quorums"]) == (2, {"approve": 2, "reject": 1})
    assert [(said["by"], said["reason"]) for said in one["said"]] == [("bob", "why not")]
    assert waiting(bob, view="mine") == []
    for query in ({"view": "yours"}, {"kind": "permit,timer"}):
        assert api.get("/api/v1/waits", query_string=query).status_code == 422


def test_the_loser_is_told_the_verdict_field_by_field(
    described: Described, api: Api, bob: Api, control: Platform
) -> None:
    place = f"/api/v1/runs/{begin(control)}/steps/{STEP}/answer"
    assert api.post(place, json={"choice": "reject"}).json["verdict"] == "reject"
    late = bob.post(place, json={"choice": "approve"})
    described(late)
    assert late.status_code == 409
    assert (late.json["verdict"]["by"], late.json["verdict"]["choice"]) == ("user:ada", "reject")


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ({"choice": "reject"}, "reason"),
        ({"choice": "approve", "reason": "x" * 2001}, "reason"),
        ({"choice": "approve", "reason": "\u0000"}, "reason"),
        ({"choice": "approve", "digest": "d"}, "digest"),
        ({"choice": "approve", "behalf": 3}, "behalf"),
    ],
)
def test_an_answer_that_does_not_fit_says_where(
    bob: Api, control: Platform, said: Any, path: str
) -> None:
    run = begin(control, reason="required")
    refused = bob.post(f"/api/v1/runs/{run}/steps/{STEP}/answer", json=said)
    assert refused.status_code == 422
    assert [problem["path"] for problem in refused.json["errors"]] == [path]
    assert waiting(bob, view="mine") == [run]


def test_many_are_answered_at_once_and_once_under_a_key(
    described: Described, api: Api, stranger: Api, bob: Api, control: Platform
) -> None:
    runs = [begin(control), begin(control, **{"from": ["user:zoe"]})]
    names = [one["request_id"] for one in api.get("/api/v1/waits").json["items"]]
    sent = {"ids": names, "choice": "approve"}
    foreign = stranger.post("/api/v1/waits/answers", json=sent).json["items"]
    assert [one["outcome"] for one in foreign] == ["refused"] * 2
    for _ in range(2):
        came = bob.post("/api/v1/waits/answers", json=sent, headers={"Idempotency-Key": "k"})
        described(came)
        assert [(one["run_id"], one["outcome"]) for one in came.json["items"]] == [
            *((runs[0], "done"), (runs[1], "refused"))
        ]
    used = bob.post(
        "/api/v1/waits/answers", json={**sent, "reason": "x"}, headers={"Idempotency-Key": "k"}
    )
    assert [problem["path"] for problem in used.json["errors"]] == ["Idempotency-Key"]
    by_filter = {"filter": {"view": "mine"}, "choice": "approve"}
    assert bob.post("/api/v1/waits/answers", json=by_filter).json == {"items": []}
    for wrong in ({}, {"ids": names, "filter": {}}, {"filter": {"kind": ["event"]}}, {"ids": [3]}):
        assert bob.post("/api/v1/waits/answers", json=wrong).status_code == 422


def test_a_say_is_handed_over_used_and_shown(
    described: Described, api: Api, stranger: Api, bob: Api, control: Platform
) -> None:
    run = begin(control, **{"from": ["role:boss"]})
    place, later = "/api/v1/delegations", datetime.now(UTC) + timedelta(hours=1)
    for wrong in (
        *({}, {"to": "ada"}, {"to": "ada", "reason": "x"}, {"to": "bob", "reason": "x"}),
        {"to": "ada", "reason": "x", "until": "tomorrow"},
        {"to": "nobody", "reason": "x", "until": later.isoformat()},
        {"to": "ada", "reason": "x", "run_id": "x", "step": "w#1"},
    ):
        assert bob.post(place, json=wrong).status_code == 422, wrong
    here = {"to": "ada", "reason": "away", "run_id": run, "step": "w#1"}
    assert api.post(place, json={**here, "to": "bob"}).status_code == 403
    assert stranger.post(place, json=here).status_code == 404
    given = bob.post(place, json=here)
    described(given)
    assert (given.status_code, given.json["giver"], given.json["status"]) == (201, "bob", "open")
    back = bob.post(f"{place}/{given.json['id']}/revoke")
    assert back.json["status"] == "revoked"
    assert stranger.post(f"{place}/{given.json['id']}/revoke").status_code == 404
    assert api.post(f"{place}/nonsense/revoke").status_code == 404
    until = bob.post(place, json={"to": "ada", "reason": "away", "until": later.isoformat()})
    assert until.status_code == 201
    said = {"choice": "reject", "reason": "no", "behalf": "bob"}
    assert api.post(f"/api/v1/runs/{run}/steps/{STEP}/answer", json=said).status_code == 200
    listed = api.get(place)
    described(listed)
    assert [one["id"] for one in listed.json["items"]] == [until.json["id"], given.json["id"]]
    assert stranger.get(place).json["items"] == []
    told = api.get(f"/api/v1/runs/{run}/steps/{STEP}/answers")
    described(told)
    (asked,) = told.json["items"]
    (heard,) = asked["answers"]
    assert (asked["status"], asked["choice"], asked["reason"]) == ("denied", "reject", "no")
    assert (heard["by"], heard["behalf"], heard["reason"]) == ("ada", "bob", "no")
    assert stranger.get(f"/api/v1/runs/{run}/steps/{STEP}/answers").status_code == 404


def test_a_request_for_an_approval_has_a_life_of_its_own(
    described: Described, api: Api, stranger: Api, bob: Api, control: Platform
) -> None:
    runs = [begin(control, expires="24h") for _ in range(3)]
    bob.post(f"/api/v1/runs/{runs[0]}/steps/{STEP}/answer", json={"choice": "approve"})
    first = api.get("/api/v1/approvals", query_string={"limit": 2})
    described(first)
    rest = api.get("/api/v1/approvals", query_string={"limit": 2, "cursor": first.json["next"]})
    shown = [*first.json["items"], *rest.json["items"]]
    assert [one["run_id"] for one in shown] == runs[::-1]
    assert rest.json["next"] is None
    one = api.get(f"/api/v1/approvals/{shown[-1]['request_id']}")
    described(one)
    assert one.json["request_id"].startswith("apr_")
    assert {name: one.json[name] for name in ("policy_id", "requested_by", "status")} == {
        "policy_id": None,
        "requested_by": "ada",
        "status": "approved",
    }
    assert (one.json["approved_by"], one.json["expiry_hours"]) == (["bob"], 24)
    only = api.get("/api/v1/approvals", query_string={"status": "approved"}).json["items"]
    assert only == [one.json]
    assert stranger.get("/api/v1/approvals").json["items"] == []
    assert stranger.get(f"/api/v1/approvals/{shown[0]['request_id']}").status_code == 404
    assert api.get("/api/v1/approvals/apr_x").status_code == 404
    for query in ({"status": "done"}, {"cursor": "WzFd"}):
        assert api.get("/api/v1/approvals", query_string=query).status_code == 422
