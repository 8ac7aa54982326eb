"""Runs that go back to an earlier place of their own, over REST."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from engine.core.values import Json
from engine.platform import Platform
from engine.runs import calls, views
from engine.runs import control as acts
from engine.store.ids import RunId
from tests.support.platforms import LINE, finish, publish, register, submit, take
from tests.support.site import Api


@pytest.fixture
def run(control: Platform, worker: Platform) -> RunId:
    register(control, "noop")
    begun = submit(control, publish(control, dict(LINE)), n=0)
    finish(control, worker, take(worker, begun, "a#1"), n=1)
    return begun


def line_of(api: Api, run: RunId, kind: str) -> int:
    lines = api.get(f"/api/v1/runs/{run.run}/history").json["items"]
    return next(int(line["seq"]) for line in lines if line["kind"] == kind)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, 422),
        ({"seq": 3, "name": "begun"}, 422),
        ({"seq": 0}, 422),
        ({"seq": 2**62 + 1}, 422),
        ({"name": ""}, 422),
        ({"seq": 99}, 404),
        ({"name": "nowhere"}, 404),
        ({"name": "\x00"}, 422),
        ({"seq": 3, "variables": {"n": {"$blob": "x"}}}, 422),
        ({"seq": 3, "removed": ["none"]}, 422),
        ({"seq": 3, "variables": 1}, 422),
    ],
)
def test_what_is_wrong_is_told_and_changes_nothing(
    api: Api, control: Platform, run: RunId, asked: Mapping[str, Json], status: int
) -> None:
    before = views.status(control, run)
    answer = api.post(f"/api/v1/runs/{run.run}/rollback", json=dict(asked))
    assert answer.status_code == status, answer.text
    assert views.status(control, run) == before


def test_where_it_cannot_go_back_it_says_why(api: Api, control: Platform, run: RunId) -> None:
    place, amid = f"/api/v1/runs/{run.run}/rollback", line_of(api, run, "AttemptSucceeded")
    refused = api.post(place, json={"seq": amid})
    assert (refused.status_code, "being settled there" in refused.json["detail"]) == (409, True)
    acts.cancel(control, run, by="ada")
    ended = api.post(place, json={"seq": 3})
    assert (ended.status_code, "it has already ended" in ended.json["detail"]) == (409, True)


def test_a_run_goes_on_from_a_place_that_has_a_name(
    api: Api, control: Platform, worker: Platform, run: RunId
) -> None:
    place, begun = f"/api/v1/runs/{run.run}", line_of(api, run, "Admitted")
    api.send("PUT", f"{place}/checkpoints/{begun}", json={"name": "begun"})
    asked = {"name": "begun", "variables": {"n": 7}, "reason": "a wrong turn"}
    answer = api.post(f"{place}/rollback", json=asked)
    assert answer.status_code == 200, answer.text
    went = answer.json["rollback"]
    assert (answer.json["status"], went["to"], went["seq"]) == ("running", begun, went["seq"])
    assert (went["ended"], went["anew"]) == (["b#1"], {"a#1": "a#2"})
    finish(control, worker, take(worker, run, "a#2"))
    finish(control, worker, take(worker, run, "b#2"))
    shown = api.get(place).json
    assert (shown["status"], shown["variables"]) == ("completed", {"n": 7})
    told = {step["key"]: step["status"] for step in api.get(f"{place}/steps").json["items"]}
    assert (told["a#1"], told["b#1"], told["b#2"]) == ("rolled_back", "rolled_back", "succeeded")
    points = api.get(f"{place}/checkpoints").json["items"]
    assert [(one["step"], one["rolled_back"]) for one in points if one["step"] == "a#1"] == [
        ("a#1", True)
    ]
    for below in ("executions", "timeline", "diagram", "history", "calls", "explain"):
        assert api.get(f"{place}/{below}").status_code == 200, below
    replayed = api.post(f"{place}/replay", json={}).json
    assert (replayed["outcome"], replayed["divergences"]) == ("same", 0)
    assert api.get(f"/graph/state/{run.run}").status_code == 200


def test_what_becomes_of_calls_must_be_chosen_and_each_is_named(
    api: Api, control: Platform, worker: Platform, run: RunId
) -> None:
    register(control, "send", namespace="tool", effect="at_most_once")
    none: Json = {"args": [], "kwargs": {"state": 1}}
    lease = take(worker, run, "b#1")
    sent = calls.authorise(worker, lease, 1, "send", none)
    assert isinstance(sent, calls.Authorised)
    calls.settle(worker, lease, sent, calls.Answer(value="sent"))
    place = f"/api/v1/runs/{run.run}"
    (settled,) = api.get(f"{place}/checkpoints").json["items"]
    seq = settled["seq"]
    (effect,) = api.get(f"{place}/checkpoints/{seq}/effects").json["items"]
    assert (effect["happened"], effect["becomes"], effect["later"]) == ("yes", "undecided", True)
    for path, asked in [
        ("rollback", {"seq": seq}),
        (f"checkpoints/{seq}/fork", {}),
        ("steps/b%231/restart", {}),
    ]:
        refused = api.post(f"{place}/{path}", json=asked)
        assert refused.status_code == 409, refused.text
        assert [one["path"] for one in refused.json["errors"]] == ["choices.b#1.1"]
        wrong = api.post(f"{place}/{path}", json={**asked, "choices": {"at_most_once": "perhaps"}})
        assert wrong.status_code == 422, wrong.text
        other = api.post(f"{place}/{path}", json={**asked, "choices": {"b#7.1": "skip"}})
        assert other.status_code == 422, other.text
    went = api.post(f"{place}/rollback", json={"seq": seq, "choices": {"b#1.1": "reuse"}})
    assert went.status_code == 200, went.text
    again = calls.authorise(worker, take(worker, run, "b#2"), 1, "send", none)
    assert again == calls.Recorded(value="sent")
