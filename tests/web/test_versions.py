"""Versions of workflows over REST: what never changes, what ranges mean, drafts, and what is retired."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest
from werkzeug.test import TestResponse

from engine.errors import Blocked
from engine.platform import Platform
from engine.runs import launch, retirement
from engine.store import session, workflows
from tests.support import platforms
from tests.support.platforms import TENANT, finish, sql, take
from tests.support.site import Api

DRAFTS = "/api/v1/drafts"
WORKFLOWS = "/api/v1/workflows"


def document(version: str | None = None, steps: int = 10, **more: Any) -> dict[str, Any]:
    numbered = {} if version is None else {"version": version}
    nodes = {"a": {"uses": "noop"}}
    shape = {"workflow": "w", "nodes": nodes, "edges": ["a -> end"], "limits": {"steps": steps}}
    return {**shape, **numbered, **more}


def parent(names: str, name: str = "parent") -> dict[str, Any]:
    """A workflow whose one step runs another."""
    nodes = {"part": {"kind": "workflow", "workflow": names}}
    return {"workflow": name, "nodes": nodes, "edges": ["part -> end"]}


@pytest.fixture(autouse=True)
def functions(control: Platform) -> None:
    platforms.register(control, "noop")


@pytest.fixture
def published(api: Api) -> Mapping[str, str]:
    """The ids of versions, by number; each has another document."""
    found = {}
    for steps, number in enumerate(
        ("1.0.0", "1.2.0", "1.2.5", "1.10.0", "2.0.0", "2.1.0-rc.1", "0.9.0"), start=5
    ):
        response = api.post(WORKFLOWS, json=document(number, steps))
        assert response.status_code == 201, response.text
        found[number] = response.json["id"]
    return found


def submitted(api: Api, version: str | None) -> TestResponse:
    named = {} if version is None else {"version": version}
    return api.post("/api/v1/runs", json={"workflow": "w", **named})


# --- what is published never changes -----------------------------------------------------------


@pytest.mark.parametrize("number", ["1.0", "1", "v1.0.0", "1.0.0.0", "latest", "^1.0.0", ""])
def test_what_is_no_number_of_a_version_is_refused_with_the_form(api: Api, number: str) -> None:
    response = api.post(WORKFLOWS, json=document(number))
    assert response.status_code == 422
    (problem,) = [each for each in response.json["errors"] if each["path"] == "version"]
    assert "1.2.0" in problem["message"] + problem["remedy"]


@pytest.mark.parametrize("number", ["1.0.0-01", "1.0.0-a..b", "1.0.0-."])
def test_a_pre_release_is_numbered_as_semver_has_it(api: Api, number: str) -> None:
    response = api.post(WORKFLOWS, json=document(number))
    assert (response.status_code, response.json["errors"][0]["path"]) == (422, "version")
    assert api.get(WORKFLOWS).json["items"] == []


def test_a_number_is_taken_once(api: Api) -> None:
    first = api.post(WORKFLOWS, json=document("1.0.0"), query_string={"notes": "the first"})
    assert first.status_code == 201
    again = api.post(WORKFLOWS, json=document("1.0.0"), query_string={"notes": "another"})
    assert (again.status_code, again.json) == (200, first.json)
    other = api.post(WORKFLOWS, json=document("1.0.0", steps=11))
    assert other.status_code == 409
    assert "1.0.0 of w is published" in other.json["detail"]
    assert "under another number" in other.json["detail"]
    (listed,) = api.get(f"{WORKFLOWS}/w/versions").json["items"]
    assert (listed["notes"], listed["created_by"]) == ("the first", "ada")


def test_a_version_that_is_published_cannot_be_put(api: Api) -> None:
    made = api.post(WORKFLOWS, json=document("1.0.0")).json
    place = f"{WORKFLOWS}/w/versions/1.0.0"
    response = api.send("PUT", place, json=document("1.0.0", steps=11))
    assert response.status_code == 409
    assert "publish the document under another number" in response.json["detail"]
    assert api.get(place).json == made
    missing = api.send("PUT", f"{WORKFLOWS}/w/versions/3.0.0", json=document("3.0.0"))
    assert missing.status_code == 404


def test_notes_that_are_too_long_publish_nothing(api: Api) -> None:
    response = api.post(WORKFLOWS, json=document(), query_string={"notes": "x" * 1001})
    assert response.status_code == 422
    assert api.get(WORKFLOWS).json["items"] == []


# --- what a range means --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "number"),
    [
        (None, "2.0.0"),
        ("latest", "2.0.0"),
        ("*", "2.0.0"),
        ("^1.2", "1.10.0"),
        ("~1.2.3", "1.2.5"),
        (">=1,<2", "1.10.0"),
        ("1.x", "1.10.0"),
        ("1.2", "1.2.5"),
        ("<1", "0.9.0"),
        ("1.2.0", "1.2.0"),
        ("2.1.0-rc.1", "2.1.0-rc.1"),
        (">=2", "2.0.0"),
    ],
)
def test_a_run_is_of_the_highest_release_that_is_asked_for(
    api: Api, published: Mapping[str, str], asked: str | None, number: str
) -> None:
    response = submitted(api, asked)
    assert response.status_code == 201, response.text
    shown = api.get(f"/api/v1/runs/{response.json['run_id']}").json
    assert (shown["version"], shown["version_id"]) == (number, published[number])


@pytest.mark.parametrize("asked", ["^3", ">=2.0.1", "2.1", "9.9.9"])
def test_where_no_release_is_of_a_range_there_is_nothing_to_run(
    api: Api, published: Mapping[str, str], asked: str
) -> None:
    assert published
    response = submitted(api, asked)
    assert response.status_code == 404
    assert f"w@{asked}" in response.json["detail"]


@pytest.mark.parametrize("asked", ["^", "newest", ">=1 <2", "1.0.0.0", ""])
def test_what_names_no_version_is_refused_with_what_would(
    api: Api, published: Mapping[str, str], asked: str
) -> None:
    assert published
    response = submitted(api, asked)
    assert response.status_code == 422
    (problem,) = response.json["errors"]
    assert problem["path"] == "version"
    assert "^1.2" in problem["remedy"]


def test_a_child_is_of_the_version_that_its_range_meant_when_the_run_was_submitted(
    api: Api, control: Platform, worker: Platform, published: Mapping[str, str]
) -> None:
    version = platforms.publish(control, parent("w@^1.2"))
    run = platforms.submit(control, version)
    assert api.post(WORKFLOWS, json=document("1.11.0", steps=20)).status_code == 201
    later = platforms.submit(control, version)
    shown = api.get(f"/api/v1/runs/{run.run}").json
    assert shown["pins"] == {"workflow:w@^1.2": published["1.10.0"]}
    for submitted_run, number in ((run, "1.10.0"), (later, "1.11.0")):
        (child,) = api.get(f"/api/v1/runs/{submitted_run.run}/children").json["items"]
        assert child["version"] == number
        started = platforms.RunId(TENANT, child["id"])
        finish(control, worker, take(worker, started, "a#1"))


def test_a_workflow_that_names_a_range_of_nothing_is_refused(
    api: Api, published: Mapping[str, str]
) -> None:
    assert published
    response = api.post(WORKFLOWS, json=parent("w@^3"))
    assert response.status_code == 422
    (problem,) = response.json["errors"]
    assert (problem["path"], problem["message"]) == (
        "nodes.part.workflow",
        "Workflow not found: w@^3",
    )


# --- what is retired -----------------------------------------------------------------------------


def test_a_version_in_use_is_not_retired_and_all_that_uses_it_is_listed(
    api: Api, control: Platform
) -> None:
    first = platforms.publish(control, document("1.0.0"))
    platforms.publish(control, document("2.0.0", steps=11))
    exact = platforms.publish(control, {**parent("w@1.0.0"), "version": "1.0.0"})
    platforms.publish(control, parent("w@>=1", "either"))
    run = platforms.submit(control, first)
    asking = platforms.submit(control, exact)
    (child,) = api.get(f"/api/v1/runs/{asking.run}/children").json["items"]
    place = f"{WORKFLOWS}/w/versions/1.0.0"
    refused = api.send("DELETE", place, json={"reason": "old"})
    assert refused.status_code == 409
    listed = [(each["path"], each["remedy"]) for each in refused.json["errors"]]
    paths = {path for path, _ in listed}
    runs = {f"runs.{each}" for each in (run.run, asking.run, child["id"])}
    assert paths == runs | {"workflows.parent@1.0.0.nodes.part.workflow"}
    assert all(remedy for _, remedy in listed)
    assert api.get(place).json["retired_at"] is None
    assert submitted(api, "1.0.0").status_code == 201
    assert sql(control, "SELECT 1 FROM admin_act WHERE action = 'workflow.retire'") == []
    for live in api.get("/api/v1/runs", query_string={"status": "running,queued"}).json["items"]:
        api.post(f"/api/v1/runs/{live['id']}/cancel", json={})
    again = api.send("DELETE", place, json={})
    assert [each["path"] for each in again.json["errors"]] == [
        "workflows.parent@1.0.0.nodes.part.workflow"
    ]
    parents = f"{WORKFLOWS}/parent/versions/1.0.0"
    assert api.send("DELETE", parents, json={}).status_code == 200
    done = api.send("DELETE", place, json={"reason": "old"})
    assert (done.status_code, done.json["retired_by"]) == (200, "ada")


def test_what_is_retired_is_started_by_nobody_and_read_by_everybody(
    api: Api, published: Mapping[str, str]
) -> None:
    place = f"{WORKFLOWS}/w/versions/2.0.0"
    assert api.send("DELETE", place, json={"reason": "wrong"}).status_code == 200
    assert submitted(api, None).json["run_id"]
    newest = api.get("/api/v1/runs").json["items"][0]
    assert newest["version"] == "1.10.0"
    assert api.get(f"{WORKFLOWS}/w").json["version"] == "1.10.0"
    for asked in ({"workflow": "w", "version": "2.0.0"}, {"version_id": published["2.0.0"]}):
        response = api.post("/api/v1/runs", json=asked)
        assert response.status_code == 409
        assert "is retired" in response.json["detail"]
    assert submitted(api, ">=2").status_code == 404
    named = api.post(WORKFLOWS, json=parent("w@2.0.0"))
    assert named.status_code == 422
    assert "is retired" in named.json["errors"][0]["message"]
    shown = api.get(place).json
    assert (shown["document"]["version"], shown["retired_by"]) == ("2.0.0", "ada")
    once_more = api.send("DELETE", place, json={})
    assert once_more.json["retired_at"] == shown["retired_at"]
    acts = api.get("/api/v1/audit", query_string={"action": "workflow.retire"}).json["items"]
    assert [(act["subject"], act["why"]) for act in acts] == [("workflow:w@2.0.0", "wrong")]


def test_the_number_of_what_is_retired_is_never_given_again(
    api: Api, published: Mapping[str, str]
) -> None:
    assert api.send("DELETE", f"{WORKFLOWS}/w/versions/2.0.0", json={}).status_code == 200
    assert api.post(WORKFLOWS, json=document("2.0.0", steps=99)).status_code == 409
    again = api.post(WORKFLOWS, json=api.get(f"{WORKFLOWS}/w/versions/2.0.0").json["document"])
    assert (again.status_code, again.json["id"]) == (200, published["2.0.0"])
    unnumbered = api.get(f"{WORKFLOWS}/w/versions/2.0.0").json["document"]
    del unnumbered["version"]
    assert api.post(WORKFLOWS, json=unnumbered).json["version"] == "2.0.1"


@pytest.mark.parametrize("number", ["^1", "latest", "1.x", "9.0.0", "nonsense"])
def test_a_range_retires_nothing(api: Api, published: Mapping[str, str], number: str) -> None:
    response = api.send("DELETE", f"{WORKFLOWS}/w/versions/{number}", json={})
    assert response.status_code == 404
    listed = api.get(f"{WORKFLOWS}/w/versions").json["items"]
    assert {each["version"]: each["retired_at"] for each in listed} == dict.fromkeys(published)


def test_a_version_of_the_platforms_own_is_not_retired(api: Api) -> None:
    assert api.post("/api/v1/sessions", json={"name": "s"}).status_code == 201
    own = next(
        each
        for each in api.get(WORKFLOWS).json["items"]
        if each["workflow"].startswith("celeriac.")
    )
    place = f"{WORKFLOWS}/{own['workflow']}/versions/{own['version']}"
    assert api.send("DELETE", place, json={}).status_code == 422


def test_a_run_that_is_being_submitted_is_seen_by_whoever_retires(control: Platform) -> None:
    version = platforms.publish(control, document("1.0.0"))
    raised: list[BaseException] = []

    def retire() -> None:
        try:
            retirement.retire(control, TENANT, "w", "1.0.0", by="ada")
        except Blocked as blocked:
            raised.append(blocked)

    with session.transaction(control.database) as connection:
        # As a submission that is under way holds it.
        sql_lock = "SELECT 1 FROM workflow_version WHERE id = :id FOR KEY SHARE"
        connection.exec_driver_sql(sql_lock.replace(":id", f"'{version}'"))
        waiting = threading.Thread(target=retire)
        waiting.start()
        run = launch.submit(control, TENANT, version, {}, by="ada").run
    waiting.join()
    (blocked,) = raised
    assert isinstance(blocked, Blocked)
    assert [problem.path for problem in blocked.problems] == [f"runs.{run.run}"]
    with session.transaction(control.database) as connection:
        assert not workflows.retired(connection, TENANT, version)


# --- drafts ----------------------------------------------------------------------------------------


def save(api: Api, text: str, revision: int | None = None, name: str = "w") -> TestResponse:
    headers = {"Content-Type": "application/yaml"}
    if revision is not None:
        headers["If-Match"] = f'"{revision}"'
    return api.send("PUT", f"{DRAFTS}/{name}", data=text.encode(), headers=headers)


GOOD = """\
# mine
workflow: w
nodes:
  a: {uses: noop}
edges:
  - a -> end
"""
WRONG = """\
workflow: other
nodes:
  a: {uses: missing}
  b: {kind: workflow, workflow: w@^7}
edges:
  - a -> b -> end
"""


def test_a_draft_may_be_wrong_and_all_that_is_wrong_is_told(api: Api) -> None:
    response = save(api, WRONG)
    assert (response.status_code, response.json["valid"]) == (201, False)
    assert response.headers["ETag"] == '"1"'
    paths = {problem["path"]: problem["message"] for problem in response.json["problems"]}
    assert paths == {
        "workflow": "it is other, in the draft of w",
        "nodes.a.uses": "Function not found: missing",
        "nodes.b.workflow": "Workflow not found: w@^7",
    }
    refused = api.post(f"{DRAFTS}/w/publish", json={})
    assert refused.status_code == 422
    assert api.get(WORKFLOWS).json["items"] == []
    unread = save(api, "workflow: [", 1)
    assert unread.status_code == 200
    (problem,) = unread.json["problems"]
    assert "not YAML" in problem["message"]


def test_what_somebody_else_has_saved_is_not_written_over(api: Api) -> None:
    assert save(api, GOOD).status_code == 201
    assert save(api, WRONG).status_code == 409
    assert save(api, WRONG, 1).json["revision"] == 2
    late = save(api, GOOD, 1)
    assert late.status_code == 412
    assert "revision 2, not 1" in late.json["detail"]
    for method, path in (("DELETE", f"{DRAFTS}/w"), ("POST", f"{DRAFTS}/w/publish")):
        response = api.send(method, path, json={}, headers={"If-Match": '"1"'})
        assert response.status_code == 412
    assert api.get(f"{DRAFTS}/w").json["text"] == WRONG


@pytest.mark.parametrize("given", ["1", "*", '"0"', 'W/"1"', '"x"', '"12345678901"', ""])
def test_what_is_no_revision_is_refused(api: Api, given: str) -> None:
    assert save(api, GOOD).status_code == 201
    headers = {"If-Match": given, "Content-Type": "application/yaml"}
    response = api.send("PUT", f"{DRAFTS}/w", data=b"x: 1", headers=headers)
    assert (response.status_code, response.json["errors"][0]["path"]) == (422, "If-Match")


@pytest.mark.parametrize(
    ("name", "text", "path"),
    [
        ("w", b"\xff", ""),
        ("w", b"a\0b", ""),
        ("w", b"  \n", ""),
        ("a@b", b"x: 1", "name"),
        ("celeriac.own", b"x: 1", "workflow"),
        ("x" * 129, b"x: 1", "name"),
    ],
)
def test_what_cannot_be_kept_is_no_draft(api: Api, name: str, text: bytes, path: str) -> None:
    headers = {"Content-Type": "application/yaml"}
    response = api.send("PUT", f"{DRAFTS}/{name}", data=text, headers=headers)
    assert (response.status_code, response.json["errors"][0]["path"]) == (422, path)
    assert api.get(DRAFTS).json["items"] == []


def test_a_draft_is_of_its_media_type(api: Api) -> None:
    response = api.send("PUT", f"{DRAFTS}/w", data=b"x", headers={"Content-Type": "text/html"})
    assert response.status_code == 415


def test_a_draft_becomes_a_version_and_is_gone(api: Api) -> None:
    assert save(api, WRONG).status_code == 201
    assert save(api, GOOD, 1).json["valid"] is True
    (listed,) = api.get(DRAFTS).json["items"]
    assert (listed["workflow"], listed["revision"], "text" in listed) == ("w", 2, False)
    response = api.post(
        f"{DRAFTS}/w/publish", json={"notes": "as agreed"}, headers={"If-Match": '"2"'}
    )
    assert response.status_code == 201
    assert response.headers["Location"].endswith("/api/v1/workflows/w/versions/1.0.0")
    (version,) = api.get(f"{WORKFLOWS}/w/versions").json["items"]
    told = {name: version[name] for name in ("version", "notes", "created_by")}
    assert told == {"version": "1.0.0", "notes": "as agreed", "created_by": "ada"}
    assert api.get(f"{DRAFTS}/w").status_code == 404
    assert api.post(f"{DRAFTS}/w/publish", json={}).status_code == 404
    acts = api.get("/api/v1/audit").json["items"]
    assert [act["action"] for act in acts if act["subject"].endswith(":w")] == [
        *("draft.save", "draft.save", "draft.publish")
    ]


def test_a_draft_that_cannot_be_published_stays(api: Api) -> None:
    assert api.post(WORKFLOWS, json=document("1.0.0")).status_code == 201
    assert save(api, GOOD.replace("workflow: w", "workflow: w\nversion: 1.0.0")).status_code == 201
    assert api.post(f"{DRAFTS}/w/publish", json={}).status_code == 409
    assert api.get(f"{DRAFTS}/w").status_code == 200


def test_a_draft_is_given_up(api: Api) -> None:
    assert save(api, GOOD).status_code == 201
    assert api.send("DELETE", f"{DRAFTS}/w", json={"reason": "no"}).json["revision"] == 1
    assert api.send("DELETE", f"{DRAFTS}/w", json={}).status_code == 404
    assert save(api, GOOD, 1).status_code == 404
    assert save(api, GOOD).status_code == 201


def test_of_those_who_begin_a_draft_at_once_one_does(api: Api) -> None:
    begun = threading.Barrier(4)
    answers: list[int] = []

    def begin() -> None:
        begun.wait()
        answers.append(save(api, GOOD).status_code)

    racing = [threading.Thread(target=begin) for _ in range(4)]
    for one in racing:
        one.start()
    for one in racing:
        one.join()
    assert sorted(answers) == [201, 409, 409, 409]
