"""Secrets and capabilities over REST: what is kept, what is told, and what never is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.platform import Platform
from tests.support import site
from tests.support.platforms import register, sql
from tests.support.site import Api

VALUE = "cbw-4711-canary-value"


def put(api: Api, **fields: Any) -> Any:
    return api.post("/api/v1/secrets", json={"name": "KEY", "value": VALUE, **fields})


# --- sad ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"name": "A-B"},
        {"value": ["list", VALUE]},
        {"value": {"in": VALUE}},
        {"value": None},
        {"sensitive": VALUE},
        {"value": f"{VALUE}\0"},
        {"value": "x" * 70_000 + VALUE},
        {VALUE[:4]: VALUE},
        {"value": "short"},
        {"reason": "x" * 1001},
    ],
)
def test_whatever_is_refused_is_not_repeated(api: Api, body: dict[str, Any]) -> None:
    response = put(api, **body)
    assert response.status_code in {400, 422}, response.text
    assert VALUE not in response.text
    assert all(problem["message"] for problem in response.json["errors"])
    assert api.get("/api/v1/secrets").json["items"] == []


def test_what_cannot_even_be_read_is_not_repeated(api: Api) -> None:
    for broken in (f'{{"value": "{VALUE}', f'{{"value": {VALUE}}}', f'"{VALUE}"', VALUE):
        response = api.post("/api/v1/secrets", data=broken, content_type="application/json")
        assert 400 <= response.status_code < 500
        assert VALUE not in response.text


def test_what_is_not_there_is_not_found(api: Api) -> None:
    for path in (
        "/api/v1/secrets/KEY/versions",
        "/api/v1/capabilities/function:f",
        "/api/v1/capabilities/x",
    ):
        assert api.get(path).status_code == 404, path
    for path in ("/api/v1/secrets/KEY", "/api/v1/capabilities/function:f@1"):
        assert api.send("DELETE", path, json={}).status_code == 404, path


def test_every_problem_of_a_profile_is_told(api: Api, control: Platform) -> None:
    register(control, "f")
    asked = {"subject": "function:f", "profile": {"modules": ["os"], "hosts": ["x"], "more": 1}}
    response = api.post("/api/v1/capabilities", json=asked)
    told = {problem["path"] for problem in response.json["errors"]}
    assert told == {"profile.modules[0]", "profile.hosts[0]", "profile.more"}
    for subject, status in (("f", (400, 422)), ("function:g", (404,)), ("function:f@9", (404,))):
        response = api.post("/api/v1/capabilities", json={"subject": subject, "profile": {}})
        assert response.status_code in status, response.text
    assert api.get("/api/v1/capabilities").json["items"] == []


@pytest.mark.parametrize("cursor", ["x", "WzFd", "WyJhIiwiYiJd"])
def test_a_cursor_that_is_none_is_refused(api: Api, cursor: str) -> None:
    for place in ("capabilities", "secrets"):
        response = api.get(f"/api/v1/{place}", query_string={"cursor": cursor})
        assert response.status_code in {400, 422}


# --- kept -----------------------------------------------------------------------------------------


def test_no_answer_and_no_act_tells_a_value_or_a_digest_of_it(api: Api, control: Platform) -> None:
    answers = [put(api), put(api, reason="it leaked")]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[1].json["version"] == 2
    answers += [
        api.get("/api/v1/secrets"),
        api.get("/api/v1/secrets/KEY/versions"),
        api.post("/api/v1/secrets/rotate", json={}),
        api.send("DELETE", "/api/v1/secrets/KEY", json={"reason": "unused"}),
        api.get("/api/v1/secrets/KEY/versions"),
        api.get("/api/v1/audit"),
    ]
    assert {answer.status_code for answer in answers} == {200, 201}
    assert answers[3].json["items"][1]["key_id"] is None
    assert not any(VALUE in answer.text or '"value"' in answer.text for answer in answers)
    acts = sql(control, "SELECT * FROM admin_act WHERE action LIKE 'secret.%' ORDER BY at")
    assert [(act.action, act.by, act.why) for act in acts] == [
        ("secret.put", "ada", ""),
        ("secret.put", "ada", "it leaked"),
        ("secret.rotate", "ada", ""),
        ("secret.delete", "ada", "unused"),
    ]
    assert {(act.before, act.after) for act in acts} == {(None, None)}
    assert VALUE not in json.dumps([dict(act._mapping) for act in acts], default=str)


def test_secrets_are_listed_page_by_page(api: Api) -> None:
    for name in ("B", "A", "C"):
        assert put(api, name=name).status_code == 201
    first = api.get("/api/v1/secrets", query_string={"limit": 2}).json
    assert [item["name"] for item in first["items"]] == ["A", "B"]
    query = {"limit": 2, "cursor": first["next"]}
    second = api.get("/api/v1/secrets", query_string=query).json
    assert ([item["name"] for item in second["items"]], second["next"]) == (["C"], None)
    assert second["items"][0]["key_id"] == "vault"


def test_what_is_anothers_is_no_ones(api: Api, app: Any, control: Platform) -> None:
    put(api)
    other = site.stranger(app, control)
    assert other.get("/api/v1/secrets").json["items"] == []
    assert put(other).json["version"] == 1
    assert other.send("DELETE", "/api/v1/secrets/KEY", json={}).status_code == 200
    assert api.get("/api/v1/secrets").json["items"][0]["version"] == 1


def test_a_grant_is_shown_replaced_and_taken_back_and_its_acts_say_what_was(
    api: Api, control: Platform
) -> None:
    register(control, "f")
    register(control, "f", "def f(state):\n    return 2")
    first, second = {"seconds": 3.0}, {"secrets": ["KEY"], "hosts": ["https://a.example:443"]}
    for subject, profile in (
        ("function:f", first),
        ("function:f@2", first),
        ("function:f@2", second),
    ):
        asked = {"subject": subject, "profile": profile, "reason": "asked for"}
        response = api.post("/api/v1/capabilities", json=asked)
        assert (response.status_code, response.json["profile"]) == (201, profile)
    shown = api.get("/api/v1/capabilities/function:f@2").json
    assert (shown["subject"], shown["profile"], shown["granted_by"]) == (
        "function:f@2",
        second,
        "ada",
    )
    assert api.get("/api/v1/capabilities/function:f@1").json["subject"] == "function:f"
    page = api.get("/api/v1/capabilities", query_string={"limit": 1}).json
    assert [one["subject"] for one in page["items"]] == ["function:f"]
    query = {"limit": 1, "cursor": page["next"]}
    rest = api.get("/api/v1/capabilities", query_string=query).json
    assert ([one["subject"] for one in rest["items"]], rest["next"]) == (["function:f@2"], None)
    gone = api.send("DELETE", "/api/v1/capabilities/function:f@2", json={"reason": "done"})
    assert gone.json["profile"] == second
    assert api.get("/api/v1/capabilities/function:f@2").json["profile"] == first
    acts = sql(
        control, "SELECT * FROM admin_act WHERE subject = 'capability:function:f@2' ORDER BY at"
    )
    assert [(act.action, act.detail) for act in acts] == [
        ("capability.grant", {"before": None, "after": first}),
        ("capability.grant", {"before": first, "after": second}),
        ("capability.revoke", {"before": second, "after": None}),
    ]
    assert acts[1].before == acts[0].after
    assert [act.why for act in acts] == ["asked for", "asked for", "done"]
