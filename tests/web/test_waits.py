"""What waits, over `/api/v1`: the inbox, answers, events, maps, children."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from engine.platform import Platform
from engine.runs import access, launch, turns
from engine.runs.access import Principal
from engine.store.ids import RunId
from tests.support import platforms, site
from tests.support.described import fits
from tests.support.platforms import TENANT, wake
from tests.support.site import Api
from tests.support.waiting import waits_at

STEP = "w%231"


@pytest.fixture
def approver(app: Flask, control: Platform) -> Api:
    """A client whose credential has the role that is asked."""
    principal = Principal(tenant=TENANT, user="bob", roles=frozenset({"approver"}))
    return Api(client=app.test_client(), token=access.create_key(control.database, principal))


def begin(control: Platform, kind: str, **fields: Any) -> str:
    """The id of a run that waits."""
    version = platforms.publish(control, waits_at(kind, **fields))
    return platforms.submit(control, version).run


def answer(api: Api, run: str, **said: Any) -> Any:
    return api.post(f"/api/v1/runs/{run}/steps/{STEP}/answer", json=said)


# --- answers -------------------------------------------------------------------------------------


def test_who_is_not_asked_is_forbidden_to_answer(
    api: Api, approver: Api, control: Platform
) -> None:
    run = begin(control, "approval", **{"from": ["role:approver"]})
    refused = answer(api, run, choice="approve")
    assert refused.status_code == 403
    assert refused.content_type == "application/problem+json"
    assert refused.json["detail"] == "ada is not asked: role:approver may answer"
    settled = answer(approver, run, choice="approve")
    assert (settled.status_code, settled.json) == (
        200,
        {"settled": True, "said": 1, "quorum": 1, "verdict": "approve"},
    )


def test_who_is_too_late_is_told_the_verdict(api: Api, approver: Api, control: Platform) -> None:
    run = begin(control, "approval")
    assert answer(api, run, choice="reject").status_code == 200
    late = answer(approver, run, choice="approve")
    assert late.status_code == 409
    assert "is settled: ada answered reject (" in late.json["detail"]


def test_an_answer_after_the_expiry_is_a_conflict(
    api: Api, control: Platform, local_settings: Any
) -> None:
    run = begin(control, "approval", expires="1h")
    wake(local_settings)
    assert answer(api, run, choice="approve").json["detail"].endswith("its time is over")


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ({}, "choice"),
        ({"choice": "maybe"}, "choice"),
        ({"choice": "approve", "form": {"stars": "many"}}, "form.stars"),
        ({"choice": 5}, "choice"),
        ({"choice": "approve", "form": []}, "form"),
        ({"choice": "approve", "what": 1}, "what"),
    ],
)
def test_an_answer_that_does_not_fit_says_where(
    api: Api, control: Platform, said: Any, path: str
) -> None:
    run = begin(control, "approval", form={"stars": {"type": "integer", "default": 1}})
    refused = answer(api, run, **said)
    assert refused.status_code == 422
    assert [problem["path"] for problem in refused.json["errors"]] == [path]
    assert len(api.get("/api/v1/waits").json["items"]) == 1


def test_a_stranger_finds_nothing_to_answer(api: Api, stranger: Api, control: Platform) -> None:
    run = begin(control, "approval")
    assert answer(stranger, run, choice="approve").status_code == 404
    assert stranger.get("/api/v1/waits").json["items"] == []
    assert answer(api, "nonsense").status_code == 404


# --- the inbox -----------------------------------------------------------------------------------


def test_the_inbox_shows_what_is_asked(
    app: Flask, spec: dict[str, Any], api: Api, control: Platform
) -> None:
    run = begin(
        control,
        "approval",
        title="Ship it?",
        show={"draft": "$found"},
        form={"why": {"type": "string"}},
        quorum=2,
        expires="1h",
        **{"from": ["role:approver"]},
    )
    begin(control, "event", name="paid", match={"order": 3}, schema={"type": "integer"})
    found = api.get("/api/v1/waits")
    fits(app, spec, found)
    asked, awaited = found.json["items"]
    assert (asked["run_id"], asked["step"], asked["title"]) == (run, "w#1", "Ship it?")
    assert (asked["choices"], asked["who"]) == (["approve", "reject"], ["role:approver"])
    assert (asked["show"], asked["quorum"]) == ({"draft": None}, 2)
    assert asked["expires_at"] is not None
    assert (awaited["kind"], awaited["name"], awaited["match"]) == ("event", "paid", {"order": 3})
    only = api.get("/api/v1/waits", query_string={"kind": "event"}).json["items"]
    assert [one["kind"] for one in only] == ["event"]
    of_run = api.get("/api/v1/waits", query_string={"run_id": run}).json["items"]
    assert [one["run_id"] for one in of_run] == [run]


def test_the_inbox_pages_oldest_first(api: Api, control: Platform) -> None:
    runs = [begin(control, "approval") for _ in range(3)]
    first = api.get("/api/v1/waits", query_string={"limit": 2}).json
    assert [one["run_id"] for one in first["items"]] == runs[:2]
    rest = api.get("/api/v1/waits", query_string={"limit": 2, "cursor": first["next"]}).json
    assert [one["run_id"] for one in rest["items"]] == runs[2:]
    assert rest["next"] is None


@pytest.mark.parametrize(
    "query",
    [{"cursor": "x"}, {"cursor": "WzFd"}, {"kind": "timer"}, {"run_id": "x"}, {"limit": 0}],
)
def test_a_question_that_makes_no_sense_is_refused(api: Api, query: dict[str, Any]) -> None:
    refused = api.get("/api/v1/waits", query_string=query)
    assert refused.status_code == 422
    (problem,) = refused.json["errors"]
    assert problem["path"].startswith(next(iter(query)))


def test_a_run_shows_what_its_steps_wait_for(
    app: Flask, spec: dict[str, Any], api: Api, control: Platform
) -> None:
    run = begin(control, "event", name="paid", match={"order": 3}, expires="1h")
    found = api.get(f"/api/v1/runs/{run}")
    fits(app, spec, found)
    (step,) = found.json["steps"]
    assert (step["status"], step["wait"], step["event"]) == ("waiting", "event", "paid")
    assert step["asks"]["match"] == {"order": 3}
    assert step["wake_at"] is not None
    assert (found.json["parent"], found.json["outputs"]) == (None, None)


# --- events --------------------------------------------------------------------------------------


def test_an_event_resumes_a_parked_run(
    app: Flask, spec: dict[str, Any], api: Api, control: Platform
) -> None:
    run = begin(control, "event", name="paid")
    sent = api.post(f"/api/v1/runs/{run}/events/paid", json={"payload": {"sum": 3}})
    fits(app, spec, sent)
    assert (sent.status_code, sent.json["state"]) == (201, "claimed")
    assert (sent.json["claimed_run"], sent.json["claimed_step"]) == (run, "w#1")
    turns.take_turns(control, [RunId(TENANT, run)])
    shown = api.get(f"/api/v1/runs/{run}").json
    assert (shown["status"], shown["variables"]) == ("completed", {"found": {"sum": 3}})
    assert api.get(sent.headers["Location"]).json == sent.json
    assert api.post(f"/api/v1/runs/{run}/events/paid").status_code == 409


def test_an_event_nobody_waits_for_is_accepted_and_kept(
    app: Flask, spec: dict[str, Any], api: Api, stranger: Api
) -> None:
    sent = api.post("/api/v1/events/paid", json={"match": {"order": 1}, "keep_seconds": 60})
    fits(app, spec, sent)
    assert (sent.status_code, sent.json["state"], sent.json["payload"]) == (202, "kept", None)
    listed = api.get("/api/v1/events", query_string={"state": "kept,claimed"})
    fits(app, spec, listed)
    assert [one["id"] for one in listed.json["items"]] == [sent.json["id"]]
    assert stranger.get("/api/v1/events").json["items"] == []
    assert stranger.get(f"/api/v1/events/{sent.json['id']}").status_code == 404
    assert api.get("/api/v1/events/nonsense").status_code == 404


def test_a_transient_event_nobody_waits_for_is_dropped(api: Api) -> None:
    sent = api.post("/api/v1/events/paid", json={"transient": True})
    assert (sent.status_code, sent.json["state"]) == (201, "dropped")


def test_an_event_sent_twice_under_one_key_is_one(api: Api, control: Platform) -> None:
    begin(control, "event", name="paid")
    headers = {"Idempotency-Key": "k1"}
    first = api.post("/api/v1/events/paid", json={"payload": 1}, headers=headers)
    again = api.post("/api/v1/events/paid", json={"payload": 1}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.headers["Idempotent-Replay"] == "true"
    assert again.json == first.json
    other = api.post("/api/v1/events/paid", json={"payload": 2}, headers=headers)
    assert other.status_code == 422
    assert other.json["errors"][0]["path"] == "Idempotency-Key"


def test_a_payload_that_does_not_fit_is_refused_with_its_place(api: Api, control: Platform) -> None:
    begin(control, "event", name="paid", schema={"type": "integer"})
    refused = api.post("/api/v1/events/paid", json={"payload": "much"})
    assert refused.status_code == 422
    (problem,) = refused.json["errors"]
    assert problem["path"] == "payload"
    assert api.get("/api/v1/events").json["items"][0]["state"] == "refused"


@pytest.mark.parametrize(
    ("sent", "path"),
    [
        ({"match": []}, "match"),
        ({"keep_seconds": -1}, "keep_seconds"),
        ({"keep_seconds": 1e12}, "keep_seconds"),
        ({"transient": "perhaps"}, "transient"),
        ({"what": 1}, "what"),
    ],
)
def test_an_event_that_makes_no_sense_is_refused(api: Api, sent: Any, path: str) -> None:
    refused = api.post("/api/v1/events/paid", json=sent)
    assert refused.status_code == 422
    assert refused.json["errors"][0]["path"] == path
    assert api.get("/api/v1/events").json["items"] == []


def test_events_page_newest_first(api: Api) -> None:
    sent = [api.post("/api/v1/events/paid").json["id"] for _ in range(3)]
    first = api.get("/api/v1/events", query_string={"limit": 2}).json
    rest = api.get("/api/v1/events", query_string={"limit": 2, "cursor": first["next"]}).json
    assert [one["id"] for one in (*first["items"], *rest["items"])] == sent[::-1]


# --- maps, children, cancelling --------------------------------------------------------------------


def test_a_map_takes_items_and_is_told_when_it_has_enough(api: Api, control: Platform) -> None:
    platforms.register(control, "noop")
    run = begin(control, "map", over=[1], do="noop")
    place = f"/api/v1/runs/{run}/steps/{STEP}"
    assert api.post(f"{place}/items", json={"items": [2, None]}).json == {"items": 3}
    assert api.post(f"{place}/items", json={"items": []}).status_code == 422
    assert api.post(f"{place}/items", json={}).status_code == 422
    assert api.post(f"{place}/complete", json={"reason": "enough"}).json["status"] == "running"
    assert api.post(f"{place}/items", json={"items": [4]}).status_code == 409
    assert api.post(f"{place}/complete").status_code == 409
    assert api.post(f"/api/v1/runs/{run}/steps/x/complete").status_code == 404


def test_children_are_listed_and_name_their_parent(
    app: Flask, spec: dict[str, Any], api: Api, stranger: Api, control: Platform
) -> None:
    platforms.publish(control, {**waits_at("event", name="go"), "outputs": {"got": "$found"}})
    run = begin(control, "workflow", workflow="a-event")
    found = api.get(f"/api/v1/runs/{run}/children")
    fits(app, spec, found)
    (child,) = found.json["items"]
    assert child["parent"] == {"run_id": run, "step": "w#1"}
    assert api.get(f"/api/v1/runs/{run}").json["steps"][0]["child"] == child["id"]
    api.post(f"/api/v1/runs/{child['id']}/events/go", json={"payload": 5})
    turns.take_turns(control, [RunId(TENANT, child["id"])])
    whole = api.get(f"/api/v1/runs/{child['id']}")
    fits(app, spec, whole)
    assert whole.json["outputs"] == {"got": 5}
    assert stranger.get(f"/api/v1/runs/{run}/children").status_code == 404


def test_a_cancel_may_ask_for_what_was_done_to_be_undone(
    api: Api, control: Platform, worker: Platform
) -> None:
    platforms.register(control, "noop")
    document = platforms.chain(a={"uses": "noop", "compensate": "noop"}, b={"uses": "noop"})
    run = launch.submit(control, TENANT, platforms.publish(control, document), {}, by="ada").run
    turns.take_turns(control, [run])
    platforms.finish(control, worker, platforms.take(worker, run, "a#1"))
    place = f"/api/v1/runs/{run.run}/cancel"
    assert api.post(place, json={"compensate": "yes please"}).status_code == 422
    assert api.post(place, json={"compensate": True}).json["status"] == "running"
    platforms.finish(control, worker, platforms.take(worker, run, "undo a#1"))
    assert api.get(f"/api/v1/runs/{run.run}").json["status"] == "cancelled"


def test_a_member_without_the_role_still_sees_the_inbox(app: Flask, control: Platform) -> None:
    begin(control, "approval", **{"from": ["user:bob"]})
    reader = replace(access.LOCAL, user="cid", roles=frozenset({"viewer"}))
    token = access.create_key(control.database, reader)
    assert (
        len(site.Api(client=app.test_client(), token=token).get("/api/v1/waits").json["items"]) == 1
    )
