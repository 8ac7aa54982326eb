"""Bundles over the API: what is refused, what is told of it, and that their code runs."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from flask import Flask
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from engine.platform import Platform
from engine.runs import executions, views
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.described import fits
from tests.support.platforms import TENANT
from tests.support.site import Api
from tests.unit.formats.test_bundle import gzipped, tarred, zipped
from tests.web.conftest import Working

DRAWING = """
digraph Research {
  plan_search [type="plan", label="What to look for"];
  find [type="task"];
  again [type="task"];
  plan_answer [type="plan"];
  answer [type="task"];
  plan_search -> find;
  plan_search -> again;
  find -> plan_answer [type="join"];
  again -> plan_answer [type="join"];
  plan_answer -> answer;
}
"""
PLAN = """
from __future__ import annotations

import json
from typing import List

from agentic_common.pb import PlanInput, PlanResult


def names() -> List[str]:
    return json.loads('["find", "again"]')


def plan(plan_input: PlanInput) -> PlanResult:
    assert plan_input.plan_name == "plan_search"
    assert plan_input.task_executions == []
    result = PlanResult()
    result.next_task_names.extend(names())
    return result
"""
FIND = """
from agentic_common.pb import TaskInput, TaskResult


def task(task_input: TaskInput) -> TaskResult:
    chosen = task_input.plan_execution.result.next_task_names
    return TaskResult(inline_data={"by": task_input.task_name, "of": len(chosen)})
"""
AGAIN = "def task(task_input):\n    return {'by': task_input['task_name']}\n"
ANSWER_PLAN = """
def plan(plan_input):
    seen = [(e.header.name, e.result.inline_data) for e in plan_input.task_executions]
    print(seen)
    return {"next_task_names": ["answer"], "confidence": len(seen)}
"""
ANSWER = """
import agentic_common.pb as pb


def task(task_input):
    results = task_input.plan_execution.result.upstream_tasks_results
    return pb.TaskResult(
        inline_data=[[r.inline_data["by"] for r in results], task_input.variables["question"]]
    )
"""
FILES: Mapping[str, str] = {
    "agent_graph.dot": DRAWING,
    "plans/plan_search/plan.py": PLAN,
    "plans/plan_search/requirements.txt": "agentic-common\n",
    "plans/plan_answer/plan.py": ANSWER_PLAN,
    "tasks/find/task.py": FIND,
    "tasks/find/requirements.txt": "requests==2.0\n",
    "tasks/again/task.py": AGAIN,
    "tasks/answer/task.py": ANSWER,
    "README.md": "# Research",
}


def upload(api: Api, data: bytes, *, name: str = "research.tar.gz", **form: str) -> TestResponse:
    # Encoded here: the test client would leave a temporary file open.
    boundary, body = encode_multipart({"file": FileStorage(io.BytesIO(data), name), **form})
    return api.post(
        "/api/graph-bundle/upload",
        data=body,
        content_type=f"multipart/form-data; boundary={boundary}",
    )


def process(api: Api, uploaded: TestResponse) -> Any:
    assert uploaded.status_code == 201, uploaded.text
    response = api.get(f"/api/graph-bundle/status/{uploaded.json['processId']}")
    assert response.status_code == 200, response.text
    return response.json


def changed(**changes: str | None) -> bytes:
    files = {**FILES, **{name.replace("__", "/"): text for name, text in changes.items()}}
    return gzipped({name: text for name, text in files.items() if text is not None})


def published(control: Platform) -> int:
    (row,) = platforms.sql(
        control, "SELECT (SELECT count(*) FROM function) + (SELECT count(*) FROM workflow_version)"
    )
    return int(row[0])


# --- what is refused ------------------------------------------------------------------------


def test_a_form_that_is_none_is_refused(api: Api) -> None:
    place = "/api/graph-bundle/upload"
    assert api.post(place, json={}).status_code == 415
    assert api.post(place).status_code == 415
    empty = api.post(place, data={"tenantId": TENANT}, content_type="multipart/form-data")
    assert [p["path"] for p in empty.json["errors"]] == ["file"]
    for form, path in (({"tenant": "x"}, "tenant"), ({"strict": "maybe"}, "strict")):
        refused = upload(api, b"", **form)
        assert refused.status_code == 422
        assert [p["path"] for p in refused.json["errors"]] == [path]
    named = upload(api, b"", name="research.exe")
    assert named.json["errors"][0]["path"] == "file"
    twice = api.post(
        place,
        data={"file": [(io.BytesIO(b""), "a.zip"), (io.BytesIO(b""), "b.zip")]},
        content_type="multipart/form-data",
    )
    assert twice.json["errors"][0]["message"] == "is given more than once"
    nameless = b'--x\r\nContent-Disposition: form-data; filename="b.zip"\r\n\r\n.\r\n--x--\r\n'
    refused = api.post(place, data=nameless, content_type="multipart/form-data; boundary=x")
    assert refused.status_code == 422
    assert refused.json["errors"][0]["message"] == "a part of the form has no name"


def test_the_tenant_is_the_credentials_alone(api: Api, stranger: Api, control: Platform) -> None:
    before = published(control)
    assert upload(api, changed(), tenantId="other").status_code == 404
    assert api.get("/api/graph-bundle/list?tenantId=other").status_code == 404
    composed = {"name": "x", "tenantId": "other"}
    assert api.post("/api/v1/validation/graph", json=composed).status_code == 404
    assert published(control) == before
    mine = upload(api, changed(), tenantId=TENANT)
    assert mine.status_code == 201
    place = f"/api/graph-bundle/status/{mine.json['processId']}"
    assert stranger.get(place).status_code == 404
    assert stranger.get("/api/graph-bundle/list").json["items"] == []


def test_a_bundle_that_is_too_large_is_refused(api: Api) -> None:
    too_large = upload(api, b"\0" * (100 * 1_048_576 + 70_000))
    assert too_large.status_code == 413


def _links() -> bytes:
    made = io.BytesIO(tarred(FILES))
    with tarfile.open(fileobj=made, mode="a") as archive:
        entry = tarfile.TarInfo("plans/evil")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    return made.getvalue()


def _bomb() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"data{number}", b"\0" * 100 * 1_048_576)
    return made.getvalue()


HOSTILE: Mapping[str, tuple[Callable[[], bytes], str]] = {
    "no archive": (lambda: b"hello", "not an archive"),
    "nothing": (lambda: b"", "not an archive"),
    "a slip": (lambda: zipped({**FILES, "../../evil.py": "x"}), "no path within"),
    "a link": (_links, "is a link"),
    "a bomb": (_bomb, "unpacks to more than"),
    "a gzip bomb": (lambda: gzip.compress(b"\0" * 300 * 1_048_576), "INVALID_STRUCTURE"),
    "too many files": (lambda: zipped({f"f{n}": "" for n in range(10_001)}), "more than 10000"),
    "too much code": (
        lambda: tarred({**FILES, **{f"tasks/t{n}/task.py": "#" * 1_048_576 for n in range(33)}}),
        "of code",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_told_what_it_is(api: Api, control: Platform, name: str) -> None:
    make, said = HOSTILE[name]
    found = process(api, upload(api, make()))
    assert found["status"] == "FAILED"
    assert said in found["errors"][0]["message"]
    assert found["errors"][0]["type"] == "INVALID_STRUCTURE"
    assert [(step["step"], step["status"]) for step in found["steps"]] == [
        ("EXTRACTING", "FAILED"),
        ("PARSING", "NOT_STARTED"),
        ("PERSISTING", "NOT_STARTED"),
        ("BUILDING_IMAGES", "NOT_STARTED"),
    ]
    assert published(control) == 0


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"tasks/find/task.py": None}, "MISSING_PYTHON_FILE", "tasks/find/task.py"),
        ({"tasks/again/task.py": None}, "MISSING_DIRECTORY", "tasks/again/"),
        ({"tasks/find/task.py": "import os\ndef task(i): ..."}, "INVALID_STRUCTURE", "module os"),
        ({"tasks/find/task.py": "from . import x\ndef task(i): ..."}, "INVALID_STRUCTURE", "here"),
        ({"tasks/find/task.py": "def tusk(i): ..."}, "INVALID_STRUCTURE", "no function task"),
        ({"tasks/find/task.py": "def task(i:"}, "INVALID_STRUCTURE", "Syntax error"),
        (
            {"agent_graph.dot": DRAWING.replace("plan_answer -> answer;", "find -> nowhere;")},
            "DANGLING_EDGE",
            "nowhere",
        ),
        (
            {"agent_graph.dot": DRAWING.replace("digraph Research", f"digraph {'x' * 125}")},
            "INVALID_NAME",
            "cannot name",
        ),
        (
            {"agent_graph.dot": DRAWING.replace("digraph Research", 'digraph "celeriac.session"')},
            "INVALID_STRUCTURE",
            "the platform's own",
        ),
        (
            {"agent_graph.dot": DRAWING.replace('[type="join"]', '[type="join", when="$x >"]', 1)},
            "INVALID_STRUCTURE",
            "",
        ),
    ],
)
def test_a_bundle_with_problems_publishes_nothing(
    api: Api, control: Platform, changes: dict[str, str | None], kind: str, said: str
) -> None:
    files = {name: text for name, text in {**FILES, **changes}.items() if text is not None}
    if "tasks/find/task.py" in changes and changes["tasks/find/task.py"] is None:
        files["tasks/find/helper.py"] = ""
    found = process(api, upload(api, gzipped(files)))
    assert found["status"] == "FAILED"
    assert (found["errors"][0]["type"], found["graphId"]) == (kind, None)
    assert said in found["errors"][0]["message"]
    assert published(control) == 0


def test_a_drawing_is_held_to_the_rules_of_the_seed_where_it_asks_for_that(api: Api) -> None:
    lines = (line for line in DRAWING.splitlines() if "-> answer" not in line)
    loose = "\n".join(lines).replace('plan_answer [type="plan"];', "")
    loose = loose.replace("plan_answer", "answer")
    data = changed(**{"agent_graph.dot": loose})
    assert process(api, upload(api, data))["status"] == "COMPLETED"
    strict = process(api, upload(api, data, strict="true"))
    assert strict["status"] == "FAILED"
    assert "leads from a task to a task" in strict["errors"][0]["message"]


# --- what goes well -------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [tarred, gzipped, zipped], ids=["tar", "tar.gz", "zip"])
def test_a_bundle_is_published_once_however_often_it_is_sent(
    api: Api, control: Platform, pack: Callable[[Mapping[str, str | bytes]], bytes]
) -> None:
    headers = {"X-Correlation-ID": "c-17"}
    data = {"file": (io.BytesIO(pack(FILES)), "dir/research.zip"), "tenantId": TENANT}
    first = api.post(
        "/api/graph-bundle/upload",
        data=data,
        headers=headers,
        content_type="multipart/form-data",
    )
    assert (first.json["status"], first.headers["X-Correlation-ID"]) == ("UPLOADED", "c-17")
    done = process(api, first)
    assert done | {"createdAt": 0, "sizeBytes": 0, "sha256": 0, "steps": 0, "graphId": 0} == {
        "processId": first.json["processId"],
        "correlationId": "c-17",
        "tenantId": TENANT,
        "fileName": "research.zip",
        "sizeBytes": 0,
        "sha256": 0,
        "status": "COMPLETED",
        "message": "published as Research 1.0.0",
        "steps": 0,
        "errors": [],
        "warnings": [
            "find asks for requests==2.0: nothing is installed for code here",
            "not read: 'README.md'",
        ],
        "graphId": 0,
        "graphName": "Research",
        "version": "1.0.0",
        "createdBy": "ada",
        "createdAt": 0,
    }
    assert [step["status"] for step in done["steps"]] == [*["COMPLETED"] * 3, "NOT_STARTED"]
    again = process(api, upload(api, pack(FILES)))
    assert again["graphId"] == done["graphId"]
    assert published(control) == 6
    listed = api.get("/api/graph-bundle/list?limit=1").json
    assert [each["processId"] for each in listed["items"]] == [again["processId"]]
    rest = api.get(f"/api/graph-bundle/list?limit=1&cursor={listed['next']}").json
    assert [each["processId"] for each in rest["items"]] == [done["processId"]]


def test_the_code_of_a_bundle_runs(api: Api, control: Platform, working: Working) -> None:
    done = process(api, upload(api, changed()))
    submitted = api.post(
        "/api/v1/runs", json={"version_id": done["graphId"], "inputs": {"question": "why"}}
    )
    assert submitted.status_code == 201, submitted.text
    run = RunId(TENANT, submitted.json["run_id"])
    with working() as work:
        work(run.run)
    ended = views.run(control, run)
    assert (ended.status, ended.message) == ("completed", "")
    assert ended.variables == {"question": "why"}
    found: dict[str, Any] = {
        str(e["header"]["name"]): e  # type: ignore[index,call-overload]
        for e in executions.page(control, run).items
    }
    assert found["find"]["result"]["inline"] == {"by": "find", "of": 2}
    assert found["again"]["result"]["inline"] == {"by": "again"}
    assert found["plan_answer"]["result"]["inline"] == {
        "next_task_names": ["answer"],
        "confidence": 2,
    }
    assert found["answer"]["result"]["inline"] == [["find", "again"], "why"]
    assert found["answer"]["parent_plan_name"] == "plan_answer"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            (
                "from agentic_common.pb import TaskResult\ndef task(i):\n"
                "    return TaskResult(error_message='no network')"
            ),
            "Declined: no network",
        ),
        ("def task(i):\n    return {'error_message': 'no network'}", "Declined: no network"),
        ("def task(i):\n    return i.nothing", "TaskInput has no nothing"),
        ("def task(i):\n    return {1, 2}", "is a set"),
    ],
)
def test_a_task_that_cannot_do_its_part_fails_with_its_reason(
    api: Api, working: Working, code: str, said: str
) -> None:
    done = process(api, upload(api, changed(**{"tasks/find/task.py": code})))
    submitted = api.post("/api/v1/runs", json={"version_id": done["graphId"]})
    with working() as work:
        work(submitted.json["run_id"])
    ended = api.get(f"/api/v1/runs/{submitted.json['run_id']}").json
    assert (ended["status"], ended["ended_step"]) == ("failed", "find#1")
    assert said in ended["message"]


def test_a_plan_that_names_no_tasks_is_told_so(api: Api, working: Working) -> None:
    code = "def plan(i):\n    return 7"
    done = process(api, upload(api, changed(**{"plans/plan_search/plan.py": code})))
    submitted = api.post("/api/v1/runs", json={"version_id": done["graphId"]})
    with working() as work:
        work(submitted.json["run_id"])
    ended = api.get(f"/api/v1/runs/{submitted.json['run_id']}").json
    assert "no list of names" in ended["message"]


def test_two_bundles_may_name_their_nodes_alike(api: Api, control: Platform) -> None:
    first = process(api, upload(api, changed()))
    other = {"agent_graph.dot": DRAWING.replace("Research", "Other")}
    second = process(api, upload(api, changed(**other, **{"tasks/find/task.py": AGAIN})))
    names = {row.name for row in platforms.sql(control, "SELECT DISTINCT name FROM function")}
    assert {"Research.find", "Other.find"} <= names
    assert first["graphId"] != second["graphId"]


# --- a composer's checks ---------------------------------------------------------------------


def composed(**changes: Any) -> dict[str, Any]:
    return {
        "id": "g1",
        "name": "Research",
        "tenantId": TENANT,
        "status": "NEW",
        "plans": [{"name": "p", "label": "P", "files": [{"name": "plan.py", "contents": ""}]}],
        "tasks": [{"name": "t"}],
        "edges": [
            {"from": "p", "fromType": "PLAN", "to": "t", "toType": "TASK"},
            {"from": "t", "fromType": "TASK", "to": "p", "toType": "PLAN"},
        ],
        **changes,
    }


def edge(source: str, target: str, *, types: str = "PLAN TASK") -> dict[str, str]:
    source_type, target_type = types.split()
    return {"from": source, "fromType": source_type, "to": target, "toType": target_type}


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"name": " "}, ["INVALID_NAME", "(name)"]),
        ({"plans": [{"name": "p"}, {"name": "p"}]}, ["DUPLICATE_NAME: p", "plans[1]"]),
        ({"tasks": [{"name": "p"}]}, ["DUPLICATE_NAME"]),
        ({"tasks": [{"name": "class"}]}, ["INVALID_NAME: 'class'", "tasks[0]"]),
        ({"tasks": [{"name": 'a"\n b'}]}, ["INVALID_NAME"]),
        ({"edges": [edge("p", "x")]}, ["DANGLING_EDGE: p -> x", "edges[0]"]),
        ({"tasks": [{"name": "t"}, {"name": "u"}]}, ["ORPHANED_NODE", "tasks[1]"]),
        (
            {
                "plans": [{"name": "p"}, {"name": "q"}],
                "edges": [edge("p", "t"), edge("q", "t")],
            },
            ["TASK_MULTIPLE_PLANS", "tasks[0]"],
        ),
        ({"edges": [edge("p", "t", types="TASK TASK")]}, ["INVALID_STRUCTURE", "fromType"]),
        ({"plans": [{"name": "p", "files": []}]}, ["MISSING_PYTHON_FILE", "plans[0].files"]),
    ],
)
def test_a_composed_graph_is_told_what_is_wrong_with_it(
    api: Api, changes: dict[str, Any], errors: list[str]
) -> None:
    found = api.post("/api/v1/validation/graph", json=composed(**changes))
    assert found.status_code == 200, found.text
    assert found.json["valid"] is False
    assert any(all(part in error for part in errors) for error in found.json["errors"]), found.json


def test_a_composed_graph_may_be_right_and_still_surprise(api: Api) -> None:
    right = api.post("/api/v1/validation/graph", json=composed())
    assert right.json == {"valid": True, "errors": [], "warnings": []}
    private = composed(tasks=[{"name": "_t"}], edges=[edge("p", "_t")])
    told = api.post("/api/v1/validation/graph", json=private).json
    assert told["valid"] is True
    assert "_t" in told["warnings"][0]


@pytest.mark.parametrize(
    ("asked", "valid", "said"),
    [
        ({"nodeName": "search"}, True, ""),
        ({"nodeName": "_search"}, True, ""),
        ({"nodeName": ""}, False, "empty"),
        ({"nodeName": "1st"}, False, "INVALID_NAME"),
        ({"nodeName": "lambda"}, False, "word of Python"),
        ({"nodeName": "x" * 65}, False, "more than 64"),
        ({"nodeName": "a", "existingNodeNames": ["a", "b"]}, False, "DUPLICATE_NAME"),
        ({"nodeName": "a", "existingNodeNames": ["a"], "excludeNodeId": "a"}, True, ""),
    ],
)
def test_a_name_is_judged_before_it_is_given(
    api: Api, asked: dict[str, Any], valid: bool, said: str
) -> None:
    found = api.post("/api/v1/validation/node-name", json=asked).json
    assert found["valid"] is valid
    assert said in " ".join(found["errors"])
    assert bool(found["warnings"]) is asked["nodeName"].startswith("_")


def test_the_names_of_a_published_graph_are_taken(api: Api) -> None:
    done = process(api, upload(api, changed()))
    asked = {"nodeName": "find", "graphId": done["graphId"]}
    assert api.post("/api/v1/validation/node-name", json=asked).json["valid"] is False
    unknown = {"nodeName": "find", "graphId": "nope"}
    assert api.post("/api/v1/validation/node-name", json=unknown).status_code == 404


def test_the_answers_are_as_they_are_described(app: Flask, api: Api) -> None:
    spec = app.test_client().get("/openapi.json").json
    done = upload(api, changed())
    for response in (
        done,
        api.get(f"/api/graph-bundle/status/{done.json['processId']}"),
        api.get("/api/graph-bundle/status/nope"),
        api.get("/api/graph-bundle/list"),
        upload(api, b"", name="x"),
        upload(api, changed(), tenantId="other"),
        api.post("/api/v1/validation/graph", json=composed()),
        api.post("/api/v1/validation/node-name", json={"nodeName": "1"}),
    ):
        fits(app, spec, response)
