"""What people do to runs over the API: to one, to one of its steps, to many."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from flask import Flask

from celeriac.client import Acted, Client, Conflict, Invalid, NotFound
from engine.platform import Platform
from engine.runs import launch, turns
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.described import fits
from tests.support.platforms import LINE, TENANT, take
from tests.support.site import Api
from tests.support.waiting import waits_at

NOWHERE = "01900000-0000-7000-8000-000000000000"


@pytest.fixture
def line(control: Platform) -> str:
    platforms.register(control, "noop")
    return platforms.publish(control, dict(LINE))


@pytest.fixture
def client(app: Flask, api: Api) -> Iterator[Client]:
    transport = httpx2.WSGITransport(app=app)
    with Client("http://127.0.0.1", api.token, transport=transport) as client:
        yield client


def submit(control: Platform, line: str) -> RunId:
    return platforms.submit(control, line)


# --- what goes wrong ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"action": "cancel", "filter": {}}, "filter"),
        ({"action": "cancel"}, "filter"),
        ({"action": "erase", "filter": {"workflow": "line"}}, "action"),
        ({"action": "cancel", "filter": {"workflw": "line"}}, "filter.workflw"),
        ({"action": "cancel", "filter": {"ids": ["me"]}}, "filter.ids[0]"),
        ({"action": "cancel", "filter": {"status": ["ended"]}}, "filter.status[0]"),
        ({"action": "cancel", "filter": {"before": "2026-01-01"}}, "filter.before"),
        ({"action": "cancel", "filter": {"before": "2026-01-01T00:00:00"}}, "filter.before"),
        ({"action": "cancel", "filter": {"workflow": "line"}, "limit": 1001}, "limit"),
        ({"action": "cancel", "filter": {"workflow": "line"}, "cursor": "x"}, "cursor"),
        ({"action": "signal", "filter": {"workflow": "line"}}, "event"),
        ({"action": "pause", "filter": {"workflow": "line"}, "event": {"name": "go"}}, "event"),
        ({"action": "signal", "filter": {"workflow": "line"}, "event": {}}, "event.name"),
        ({"action": "signal", "filter": {"workflow": "line"}, "event": {"name": ""}}, "event.name"),
    ],
)
def test_an_act_on_many_that_makes_no_sense_changes_nothing(
    api: Api, control: Platform, line: str, body: object, path: str
) -> None:
    run = submit(control, line)
    response = api.post("/api/v1/runs/bulk", json=body)
    assert response.status_code == 422, response.text
    assert [problem["path"] for problem in response.json["errors"]] == [path]
    assert platforms.status(control, run) == "running"


@pytest.mark.parametrize("choice", [7, {"a": 1}, ["b", 7], "x" * 2000])
def test_a_choice_of_no_kind_is_refused(
    api: Api, control: Platform, line: str, choice: object
) -> None:
    run = submit(control, line)
    place = f"/api/v1/runs/{run.run}/steps/a%231/skip"
    response = api.post(place, json={"choice": choice})
    assert response.status_code == 422
    assert response.json["errors"][0]["path"] == "choice"


def test_nobody_acts_on_the_runs_of_another_tenant(
    api: Api, stranger: Api, control: Platform, line: str
) -> None:
    run = submit(control, line)
    place = f"/api/v1/runs/{run.run}"
    for act in ("terminate", "steps/a%231/skip", "steps/a%231/retry"):
        assert stranger.post(f"{place}/{act}").status_code == 404
    body = {"action": "cancel", "filter": {"workflow": "line"}}
    assert stranger.post("/api/v1/runs/bulk", json=body).json == {"items": [], "next": None}
    named = {"action": "cancel", "filter": {"ids": [run.run]}}
    (answer,) = stranger.post("/api/v1/runs/bulk", json=named).json["items"]
    assert (answer["outcome"], answer["status"]) == ("refused", None)
    assert platforms.status(control, run) == "running"


def test_what_has_ended_cannot_be_acted_on(client: Client, control: Platform, line: str) -> None:
    run = submit(control, line).run
    assert client.terminate(run, "enough").reason == "terminated"
    for act in (
        lambda: client.terminate(run),
        lambda: client.skip_step(run, "a#1"),
        lambda: client.retry_step(run, "a#1"),
    ):
        with pytest.raises(Conflict):
            act()


# --- what goes well -------------------------------------------------------------------------


def test_steps_are_retried_and_skipped_with_a_reason(
    client: Client, control: Platform, worker: Platform, line: str
) -> None:
    run = client.run(submit(control, line).run)
    take(worker, RunId("local", run.id), "a#1")
    with pytest.raises(NotFound):
        run.retry_step("b#1")
    (live,) = run.retry_step("a#1", reason="it hangs").live or ()
    assert (live.key, live.attempt, live.status) == ("a#1", 2, "ready")
    with pytest.raises(Invalid):
        run.skip_step("a#1", "nowhere")
    (live,) = run.skip_step("a#1", reason="known").live or ()
    assert live.key == "b#1"
    told = {line.kind: line.body.get("reason") for line in run.history()}
    assert (told["RetryRequested"], told["SkipRequested"]) == ("it hangs", "known")


def test_many_runs_are_acted_on_in_pages(client: Client, control: Platform, line: str) -> None:
    runs = [submit(control, line).run for _ in range(3)]
    found = client.bulk("cancel", workflow="line", status=["running", "paused"], reason="night")
    assert found == tuple(
        Acted(run_id=run, outcome="done", status="cancelled") for run in reversed(runs)
    )
    assert {client.run(run).message for run in runs} == {"night"}
    (refused,) = client.bulk("resume", ids=[NOWHERE])
    assert (refused.outcome, refused.why) == ("refused", "there is no such run")


def test_the_answers_are_as_they_are_described(
    app: Flask, api: Api, control: Platform, line: str
) -> None:
    spec = app.test_client().get("/openapi.json").json
    run = submit(control, line).run
    for path, body in (
        (f"{run}/steps/a%231/retry", {"reason": "x"}),
        (f"{run}/steps/a%231/skip", {"choice": "b"}),
        (f"{run}/steps/b%231/skip", {"choice": "nowhere"}),
        ("bulk", {"action": "pause", "filter": {"ids": [run]}, "limit": 1}),
        (f"{run}/terminate", {"reason": "x"}),
    ):
        fits(app, spec, api.post(f"/api/v1/runs/{path}", json=body))


def test_many_runs_are_signalled_each_for_itself(client: Client, control: Platform) -> None:
    waits = platforms.publish(control, waits_at("event", name="go", save={"found": "$result"}))
    runs = [platforms.submit(control, waits) for _ in range(2)]
    # The third is not there yet.
    runs.append(launch.submit(control, TENANT, waits, {}, by="ada").run)
    answers = client.bulk(
        "signal", ids=[run.run for run in runs], event={"name": "go", "payload": 7}
    )
    assert {one.run_id: (one.outcome, one.status) for one in answers} == {
        runs[0].run: ("done", "completed"),
        runs[1].run: ("done", "completed"),
        runs[2].run: ("accepted", "queued"),
    }
    turns.take_turns(control, [runs[2]])
    assert platforms.status(control, runs[2]) == "completed"
    (late,) = client.bulk("signal", ids=[runs[0].run], event={"name": "go"})
    assert (late.outcome, late.status) == ("refused", "completed")


def test_runs_are_signalled_once_under_one_key(client: Client, control: Platform) -> None:
    document = waits_at("event", name="go")
    document["nodes"]["again"] = {"kind": "event", "name": "go"}
    document["edges"] = ["w -> again", "again -> end"]
    run = platforms.submit(control, platforms.publish(control, document))
    for _ in range(2):
        (answer,) = client.bulk(
            "signal", ids=[run.run], event={"name": "go"}, idempotency_key="once"
        )
        assert (answer.outcome, answer.status) == ("done", "running")
    (refused,) = client.bulk(
        "signal", ids=[run.run], event={"name": "stop"}, idempotency_key="once"
    )
    assert refused.outcome == "refused"
    (answer,) = client.bulk("signal", ids=[run.run], event={"name": "go"})
    assert (answer.outcome, answer.status) == ("done", "completed")
