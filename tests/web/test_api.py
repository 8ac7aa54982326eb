"""`/api/v1` as resources: what is published, submitted and read, and how lists page."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from engine.broker import Broker
from engine.platform import Platform
from engine.runs import launch, turns, views
from engine.store import session
from engine.store.ids import RunId
from tests.support import platforms, site
from tests.support.platforms import LINE, finish, take
from tests.support.site import Api
from web import site as sites
from web import streams

DOCUMENT = {"workflow": "w", "nodes": {"a": {"uses": "noop"}}, "edges": ["a -> end"]}
YAML = """\
workflow: y
nodes:
  a: {uses: noop}
edges:
  - a -> end
"""


@pytest.fixture
def line(control: Platform) -> str:
    """The id of a published workflow of two nodes."""
    platforms.register(control, "noop")
    return platforms.publish(control, dict(LINE))


def submit(api: Api, **more: Any) -> str:
    response = api.post("/api/v1/runs", json={"workflow": "line", **more})
    assert response.status_code == 201, response.text
    return str(response.json["run_id"])


def pages(api: Api, path: str, limit: int) -> Iterator[list[Any]]:
    cursor = None
    while True:
        query = {"limit": limit, **({"cursor": cursor} if cursor else {})}
        response = api.get(path, query_string=query)
        assert response.status_code == 200, response.text
        yield response.json["items"]
        cursor = response.json["next"]
        if cursor is None:
            return


# --- what goes wrong ---------------------------------------------------------------------------


def test_another_submission_under_the_same_key_is_refused(api: Api, line: str) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = api.post("/api/v1/runs", json={"workflow": "line"}, headers=headers)
    assert first.status_code == 201
    assert "Idempotent-Replay" not in first.headers
    other = api.post("/api/v1/runs", json={"workflow": "line", "inputs": {"a": 1}}, headers=headers)
    assert other.status_code == 422
    assert other.json["errors"][0]["path"] == "Idempotency-Key"
    again = api.post("/api/v1/runs", json={"workflow": "line"}, headers=headers)
    assert again.status_code == 200
    assert again.headers["Idempotent-Replay"] == "true"
    assert again.json["run_id"] == first.json["run_id"]
    assert len(api.get("/api/v1/runs").json["items"]) == 1


def test_a_submission_that_is_repeated_is_the_same_although_a_version_was_published_since(
    api: Api, control: Platform, line: str
) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = api.post("/api/v1/runs", json={"workflow": "line"}, headers=headers)
    newer = {**LINE, "inputs": {"needed": {"type": "string"}}}
    platforms.publish(control, newer)
    again = api.post("/api/v1/runs", json={"workflow": "line"}, headers=headers)
    assert (again.status_code, again.json["run_id"]) == (200, first.json["run_id"])
    assert api.post("/api/v1/runs", json={"workflow": "line"}).status_code == 422


def test_a_key_of_another_tenant_is_another_key(api: Api, stranger: Api, line: str) -> None:
    code = "def noop(state):\n    return state"
    assert (
        stranger.post("/api/v1/functions", json={"name": "noop", "code": code}).status_code == 201
    )
    assert stranger.post("/api/v1/workflows", json=LINE).status_code == 201
    headers = {"Idempotency-Key": "k1"}
    mine = api.post("/api/v1/runs", json={"workflow": "line"}, headers=headers)
    theirs = stranger.post("/api/v1/runs", json={"workflow": "line"}, headers=headers)
    assert (mine.status_code, theirs.status_code) == (201, 201)
    assert mine.json["run_id"] != theirs.json["run_id"]


def test_many_submissions_under_one_key_at_once_are_one_run(
    app: Flask, api: Api, line: str
) -> None:
    def once(_: int) -> Any:
        own = Api(client=app.test_client(), token=api.token)
        return own.post(
            "/api/v1/runs", json={"workflow": "line"}, headers={"Idempotency-Key": "race"}
        )

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(once, range(16)))
    assert {answer.status_code for answer in answers} == {200, 201}
    assert [answer.status_code for answer in answers].count(201) == 1
    assert len({answer.json["run_id"] for answer in answers}) == 1


def test_cancelling_what_has_ended_is_a_conflict(api: Api, line: str) -> None:
    run = submit(api)
    first = api.post(f"/api/v1/runs/{run}/cancel", json={"reason": "enough"})
    assert (first.status_code, first.json["status"]) == (200, "cancelled")
    again = api.post(f"/api/v1/runs/{run}/cancel")
    assert again.status_code == 409
    assert again.content_type == "application/problem+json"
    shown = api.get(f"/api/v1/runs/{run}").json
    assert (shown["status"], shown["reason"], shown["message"]) == (
        "cancelled",
        "cancelled",
        "enough",
    )


def test_a_problem_of_a_yaml_document_tells_its_line(api: Api, line: str) -> None:
    text = "workflow: y\nnodes:\n  a:\n    uses: noop\n    retries: 3\nedges: [a -> end]\n"
    response = api.post("/api/v1/workflows", data=text, content_type="application/yaml")
    assert response.status_code == 422
    (problem,) = response.json["errors"]
    assert problem["path"] == "nodes.a.retries"
    assert "line 5" in problem["message"]


def test_a_version_that_is_taken_is_a_conflict(api: Api, line: str) -> None:
    document = {**DOCUMENT, "version": "1.0.0"}
    assert api.post("/api/v1/workflows", json=document).status_code == 201
    assert api.post("/api/v1/workflows", json=document).status_code == 200
    other = {**document, "nodes": {"a": {"uses": "noop", "title": "another"}}}
    assert api.post("/api/v1/workflows", json=other).status_code == 409


def test_a_database_that_is_away_is_unavailable_and_nothing_is_told_of_it(
    app: Flask, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise OperationalError("SELECT secret", {}, Exception("password=hunter2"))

    monkeypatch.setattr(views, "runs", away)
    response = api.get("/api/v1/runs")
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    assert "secret" not in response.text
    assert "hunter2" not in response.text


def test_a_defect_is_a_500_that_tells_its_request_id_and_no_more(
    app: Flask, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the secret inside")

    monkeypatch.setattr(views, "runs", broken)
    for path in ("/api/v1/runs", "/graph/runs"):
        response = api.get(path, headers={"X-Request-ID": "mine-1"})
        assert response.status_code == 500
        assert "secret" not in response.text
        assert "Traceback" not in response.text
        assert response.headers["X-Request-ID"] == "mine-1"


def test_with_the_broker_gone_submitting_and_cancelling_answer_at_once(
    control: Platform, line: str
) -> None:
    class Mute(Broker):
        """A broker that takes for ever over everything."""

        def send(self, hints: object) -> None:  # noqa: ARG002
            asked.set()
            released.wait(30)

        def nudge(self, runs: object) -> None:  # noqa: ARG002
            asked.set()
            released.wait(30)

    asked, released = threading.Event(), threading.Event()
    mute = replace(control, broker=Mute(app=control.broker.app))
    try:
        with site.served(mute) as app:
            api = site.member(app, control)
            with ThreadPoolExecutor(1) as pool:
                runs = [pool.submit(submit, api).result(timeout=5) for _ in range(20)]
                cancel = pool.submit(api.post, f"/api/v1/runs/{runs[0]}/cancel")
                assert cancel.result(timeout=5).json["status"] == "cancelled"
            assert asked.wait(5)
            released.set()
    finally:
        released.set()


def test_the_web_speaks_to_the_database_in_its_own_role(app: Flask) -> None:
    with session.transaction(sites.of(app).platform.database) as connection:
        assert connection.execute(text("SELECT current_user")).scalar_one() == "celeriac_api"


# --- workflows and functions -------------------------------------------------------------------


def test_a_document_is_published_as_json_and_as_yaml(api: Api, line: str) -> None:
    response = api.post("/api/v1/workflows", json=DOCUMENT)
    assert response.status_code == 201
    assert response.headers["Location"] == "/api/v1/workflows/w/versions/1.0.0"
    assert api.get(response.headers["Location"]).json == response.json
    for kind, code in (("application/yaml", 201), ("application/x-yaml", 200), ("text/yaml", 200)):
        response = api.post("/api/v1/workflows", data=YAML, content_type=kind)
        assert (response.status_code, response.json["version"]) == (code, "1.0.0")
    assert api.get("/api/v1/workflows/y").json["document"]["workflow"] == "y"


def test_versions_of_a_workflow_are_kept_and_listed(api: Api, line: str) -> None:
    for title in ("one", "two", "three"):
        nodes = {"a": {"uses": "noop", "title": title}}
        assert api.post("/api/v1/workflows", json={**DOCUMENT, "nodes": nodes}).status_code == 201
    listed = api.get("/api/v1/workflows/w/versions").json["items"]
    assert [version["version"] for version in listed] == ["1.0.2", "1.0.1", "1.0.0"]
    assert "document" not in listed[0]
    first = api.get("/api/v1/workflows/w/versions/1.0.0").json
    assert first["document"]["nodes"]["a"]["title"] == "one"
    assert api.get("/api/v1/workflows/w").json["version"] == "1.0.2"
    latest = api.get("/api/v1/workflows").json["items"]
    assert [(v["workflow"], v["version"]) for v in latest] == [("line", "1.0.0"), ("w", "1.0.2")]
    assert [len(page) for page in pages(api, "/api/v1/workflows/w/versions", 2)] == [2, 1]


@pytest.mark.parametrize("plural", ["functions", "tools"])
def test_functions_and_tools_are_registered_and_versioned(api: Api, plural: str) -> None:
    place = f"/api/v1/{plural}"
    for number in range(3):
        code = f"def f(state: dict, n=1):\n    return {number}"
        response = api.post(place, json={"name": "f", "code": code, "description": "Counts"})
        assert response.status_code == 201
        assert response.headers["Location"] == f"{place}/f/versions/{number + 1}"
        assert api.get(response.headers["Location"]).json == response.json
    assert response.json["source"].endswith("return 2")
    assert response.json["created_by"] == "ada"
    assert response.json["parameters"]["n"] == {
        "annotation": "Any",
        "default": 1,
        "required": False,
    }
    again = api.post(place, json={"name": "f", "code": code, "description": "Counts"})
    assert again.json == response.json
    (listed,) = api.get(place).json["items"]
    assert (listed["version"], "source" in listed) == (3, False)
    assert [v["version"] for v in api.get(f"{place}/f/versions").json["items"]] == [3, 2, 1]
    assert api.get(f"{place}/g/versions").status_code == 404


def test_a_tool_says_what_a_call_of_it_leaves_in_the_world(api: Api) -> None:
    body = {"name": "t", "code": "def t():\n    return 1", "effect": "at_most_once"}
    assert api.post("/api/v1/tools", json=body).json["effect"] == "at_most_once"
    wrong = api.post("/api/v1/tools", json={**body, "effect": "some"})
    assert (wrong.status_code, wrong.json["errors"][0]["path"]) == (422, "effect")


SEARCH = {
    "name": "search",
    "code": "def search(query, limit=5):\n    return query",
    "description": "Search internal documents",
    "parameters": {"query": {"type": "string"}},
    "required_permissions": ["read:documents"],
    "cost_estimate_usd": 0.01,
    "rate_per_minute": 60,
    "tags": ["docs"],
}


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("parameters", {"query": {"type": "text"}}, "parameters.properties.query.type"),
        ("parameters", ["query"], "parameters"),
        ("required_permissions", ["a b"], "required_permissions[0]"),
        ("cost_estimate_usd", -1, "cost_estimate_usd"),
        ("timeout_seconds", 0, "timeout_seconds"),
        ("rate_per_minute", 0, "rate_per_minute"),
        ("category", "odd", "category"),
        ("status", "off", "status"),
        ("tags", ["a,b"], "tags[0]"),
        ("cost", 1, "cost"),
    ],
)
def test_terms_that_are_wrong_register_nothing(api: Api, field: str, value: Any, path: str) -> None:
    wrong = api.post("/api/v1/tools", json={**SEARCH, field: value})
    assert (wrong.status_code, [e["path"] for e in wrong.json["errors"]]) == (422, [path])
    assert api.get("/api/v1/tools/search").status_code == 404


def test_a_tool_is_shown_with_its_terms_and_offered_to_models(api: Api, stranger: Api) -> None:
    made = api.post("/api/v1/tools", json=SEARCH)
    assert made.status_code == 201
    schema = {
        "type": "object",
        "properties": {"query": {"type": "string"}},
        "required": ["query"],
        "additionalProperties": False,
    }
    told = api.get("/api/v1/tools/search").json
    assert told == made.json
    assert told["parameters"] == told["schema"] == schema
    assert list(told["takes"]) == ["query", "limit"]
    wanted = {"cost_estimate_usd": 0.01, "timeout_seconds": 30, "rate_per_minute": 60}
    assert {**told, **wanted} == told
    assert (told["status"], told["tags"], told["rate_per_hour"]) == ("active", ["docs"], None)
    listed = api.get("/api/v1/llm/tools?tag=docs").json
    assert listed == [
        {
            "type": "function",
            "function": {
                "name": "search",
                "description": "Search internal documents",
                "parameters": schema,
            },
        }
    ]
    assert stranger.get("/api/v1/llm/tools").json == []
    assert (
        stranger.post("/api/v1/tools/search/standing", json={"status": "active"}).status_code == 404
    )
    assert api.post("/api/v1/tools/search/standing", json={}).status_code == 422
    assert api.post("/api/v1/tools/search/standing", json={"status": "off"}).status_code == 422
    off = api.post(
        "/api/v1/tools/search/standing", json={"status": "disabled", "reason": "it broke"}
    )
    assert off.json == {"status": "disabled", "tags": ["docs"]}
    assert api.get("/api/v1/tools").json["items"][0]["version"] == 1
    assert api.get("/api/v1/tools/search").json["status"] == "disabled"
    assert api.get("/api/v1/llm/tools").json == []


def test_lists_page_by_name_while_names_are_added(api: Api) -> None:
    code = "def f(s):\n    return s"
    names = [f"f{number:02}" for number in range(7)]
    for name in names:
        api.post("/api/v1/functions", json={"name": name, "code": code})
    seen = []
    for page in pages(api, "/api/v1/functions", 2):
        seen += [function["name"] for function in page]
        api.post("/api/v1/functions", json={"name": f"a{len(seen)}", "code": code})
    assert seen == names


# --- runs --------------------------------------------------------------------------------------


def test_a_run_is_submitted_carried_out_and_read(
    api: Api, control: Platform, worker: Platform, line: str
) -> None:
    response = api.post("/api/v1/runs", json={"workflow": "line", "inputs": {"n": 1}})
    assert response.status_code == 201
    assert response.json == {
        "run_id": response.json["run_id"],
        "status": "queued",
        "seq": 0,
        "ended": False,
    }
    place = response.headers["Location"]
    run = RunId("local", response.json["run_id"])
    assert place == f"/api/v1/runs/{run.run}"
    turns.take_turns(control, [run])
    shown = api.get(place).json
    assert (shown["status"], shown["workflow"], shown["version"]) == ("running", "line", "1.0.0")
    assert shown["variables"] == {"n": 1}
    assert shown["pins"] == {"function:noop": 1}
    assert [(step["key"], step["status"]) for step in shown["steps"]] == [("a#1", "ready")]
    assert api.get(f"{place}/wait?seconds=0").json["ended"] is False
    finish(control, worker, take(worker, run, "a#1"), n=2)
    finish(control, worker, take(worker, run, "b#1"), m=3)
    shown = api.get(place).json
    assert (shown["status"], shown["reason"]) == ("completed", "end")
    assert shown["variables"] == {"n": 2, "m": 3}
    assert shown["steps"] == []
    assert api.get(f"{place}/wait").json["ended"] is True
    steps = api.get(f"{place}/steps").json["items"]
    assert [step["key"] for step in steps] == ["a#1", "b#1", "end#1"]
    assert [step["status"] for step in steps] == ["succeeded"] * 3
    assert api.get(f"{place}/steps/a%231").json == steps[0]
    assert api.get(f"{place}/steps/a%231/result").json == {"result": None, "patch": {"n": 2}}
    assert api.get(f"{place}/steps/end%231/result").status_code == 404
    assert [a["step"] for a in api.get(f"{place}/attempts").json["items"]] == ["a#1", "b#1"]
    (attempt,) = api.get(f"{place}/attempts?step=b%231").json["items"]
    assert (attempt["outcome"], attempt["worker"]) == ("succeeded", "w1")
    assert api.get(f"{place}/calls").json == {"items": []}
    assert api.get(f"{place}/logs").json == {"items": [], "next": None}


def test_history_is_read_in_pages_and_without_users_data_unless_asked_for(
    api: Api, control: Platform, worker: Platform, line: str
) -> None:
    run = platforms.submit(control, line, secret="s3cret")
    finish(control, worker, take(worker, run, "a#1"), n=2)
    place = f"/api/v1/runs/{run.run}/history"
    whole = api.get(place).json
    assert whole["next"] is None
    assert "s3cret" not in str(whole)
    assert [line["seq"] for line in whole["items"]] == list(range(1, len(whole["items"]) + 1))
    told = api.get(f"{place}?payloads=true").json["items"]
    assert told[0]["payload"] == {"inputs": {"secret": "s3cret"}}
    seen, after = [], 0
    while after is not None:
        page = api.get(f"{place}?after={after}&limit=2").json
        seen += page["items"]
        after = page["next"]
    assert seen == whole["items"]


def test_the_state_at_every_line_of_history_is_there(
    api: Api, control: Platform, worker: Platform, line: str
) -> None:
    run = platforms.submit(control, line, n=0)
    finish(control, worker, take(worker, run, "a#1"), n=1)
    finish(control, worker, take(worker, run, "b#1"), n=2)
    place = f"/api/v1/runs/{run.run}/checkpoints"
    listed = api.get(place).json["items"]
    assert [point["step"] for point in listed] == ["a#1", "b#1", "end#1"]
    values = [api.get(f"{place}/{point['seq']}").json for point in listed]
    assert [value["state"]["variables"]["n"] for value in values] == [1, 2, 2]
    assert [value["seq"] for value in values] == [point["seq"] for point in listed]
    assert [len(page) for page in pages(api, place, 2)] == [2, 1]
    for seq in range(1, views.status(control, run).seq + 1):
        assert api.get(f"{place}/{seq}").status_code == 200


def test_runs_are_listed_newest_first_filtered_and_in_pages(
    api: Api, control: Platform, line: str
) -> None:
    platforms.publish(control, DOCUMENT)
    runs = [submit(api) for _ in range(5)]
    other = submit(api, workflow="w")
    api.post(f"/api/v1/runs/{runs[0]}/cancel")
    listed = [run["id"] for run in api.get("/api/v1/runs").json["items"]]
    assert listed == [other, *reversed(runs)]
    assert [run["id"] for page in pages(api, "/api/v1/runs", 4) for run in page] == listed

    def found(**query: str) -> list[str]:
        return [run["id"] for run in api.get("/api/v1/runs", query_string=query).json["items"]]

    assert found(workflow="w") == [other]
    assert found(status="cancelled") == [runs[0]]
    assert found(status="cancelled,queued", workflow="line") == list(reversed(runs))
    assert found(status="failed") == []
    assert found(version_id=line) == list(reversed(runs))


def test_a_submission_may_name_a_version_or_its_id(api: Api, control: Platform, line: str) -> None:
    nodes = {"a": {"uses": "noop"}, "b": {"uses": "noop", "title": "anew"}}
    newer = platforms.publish(control, {**LINE, "nodes": nodes})

    def version_of(**named: str) -> Any:
        run = api.post("/api/v1/runs", json=named).json["run_id"]
        return api.get(f"/api/v1/runs/{run}").json["version"]

    assert version_of(workflow="line") == "1.0.1"
    assert version_of(workflow="line", version="1.0.0") == "1.0.0"
    assert version_of(version_id=line) == "1.0.0"
    assert version_of(version_id=newer.upper()) == "1.0.1"


def test_a_run_that_is_stuck_is_shown_and_taken_up_again(
    api: Api, control: Platform, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = launch.submit(control, "local", line, {}, by="ada").run

    def defect(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    with monkeypatch.context() as patched:
        patched.setattr(turns, "advance", defect)
        turns.take_turns(control, [run])
    place = f"/api/v1/runs/{run.run}"
    assert "a defect" in api.get(place).json["stuck_error"]
    retried = api.post(f"{place}/retry")
    assert (retried.status_code, retried.json["status"]) == (200, "running")
    assert api.get(place).json["stuck_error"] is None
    assert api.post(f"{place}/retry").json["status"] == "running"


def hinted(control: Platform, run: RunId, waiting: Future[Any]) -> Any:
    """What comes of waiting; hints before the listener has subscribed are lost, as they may be."""
    while not wait([waiting], timeout=0.1).done:
        control.live.publish([run])
    return waiting.result()


def test_waiting_ends_when_the_run_does_and_not_at_the_next_look(
    api: Api,
    control: Platform,
    worker: Platform,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Looks are an hour apart here: what wakes those who wait is the live channel."""
    monkeypatch.setattr(streams, "LOOK_SECONDS", 3600)
    run = platforms.submit(control, line)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.get, f"/api/v1/runs/{run.run}/wait?seconds=300")
        finish(control, worker, take(worker, run, "a#1"))
        finish(control, worker, take(worker, run, "b#1"))
        response = hinted(control, run, waiting)
    assert (response.json["status"], response.json["ended"]) == ("completed", True)


def test_a_stream_tells_what_happens_when_it_does(
    app: Flask,
    control: Platform,
    worker: Platform,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "LOOK_SECONDS", 3600)
    here = replace(sites.of(app), platform=sites.of(app).platform.of(platforms.TENANT))
    run = platforms.submit(control, line)
    with here.listener.bell(run) as bell:
        told = streams.follow(here, run, bell, after=0)
        first = next(told)
        assert next(told) == ()
        finish(control, worker, take(worker, run, "a#1"))
        with ThreadPoolExecutor(1) as pool:
            following = hinted(control, run, pool.submit(next, told))
        assert following[0].seq == first[-1].seq + 1


def test_waiting_requests_take_places(app: Flask, api: Api, control: Platform, line: str) -> None:
    run = platforms.submit(control, line)
    places = sites.of(app).places
    taken = [places.take() for _ in range(control.settings.streams)]
    for path in ("wait", "events"):
        response = api.get(f"/api/v1/runs/{run.run}/{path}")
        assert response.status_code == 503
        assert response.headers["Retry-After"]
        assert response.content_type == "application/problem+json"
    assert api.get(f"/api/v1/runs/{run.run}").status_code == 200
    for place in taken:
        place.leave()
    for _ in range(2 * control.settings.streams):
        assert api.get(f"/api/v1/runs/{run.run}/wait?seconds=0").status_code == 200


# --- what surrounds it all ---------------------------------------------------------------------


def test_every_answer_carries_its_id_and_its_locks(api: Api) -> None:
    for path in ("/api/v1/runs", "/graph/list", "/nothing", "/health", "/api/v1/runs?limit=0"):
        response = api.get(path)
        assert response.headers["X-Request-ID"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert response.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("given", ["a b", "x" * 65, "<script>", "é", ""])
def test_an_id_that_is_no_decent_one_is_replaced(api: Api, given: str) -> None:
    found = api.get("/api/v1/runs", headers={"X-Request-ID": given}).headers["X-Request-ID"]
    assert found != given
    assert len(found) == 32


def test_the_schema_of_documents_is_published(api: Api) -> None:
    response = api.client.get("/api/v1/schema")
    assert response.status_code == 200
    assert response.content_type == "application/schema+json"
    assert response.json["title"] == "Celeriac workflow"


def test_readiness_follows_the_database(
    app: Flask, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert api.client.get("/api/v1/ready").json == {"status": "ready"}

    def away(*_: object) -> None:
        raise OperationalError("SELECT 1", {}, Exception("gone"))

    monkeypatch.setattr("engine.runs.access.authenticate", away)
    assert api.client.get("/api/v1/ready").status_code == 503
    assert api.client.get("/health").status_code == 200
