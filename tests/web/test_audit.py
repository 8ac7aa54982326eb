"""That everything leaves a trace, and how traces are read over REST."""

from __future__ import annotations

import csv
import io
import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from engine.platform import DatabaseRole, Platform
from engine.runs import acts, audit, sealing
from engine.settings import Settings
from engine.store import session, trail
from tests.support import platforms, recorded
from tests.support.belongings import AGENT
from tests.support.described import fits
from tests.support.paying import in_doubt, paid
from tests.support.platforms import (
    LINE,
    TENANT,
    as_owner,
    finish,
    publish,
    register,
    sql,
    submit,
    take,
)
from tests.support.site import Api
from tests.support.waiting import waits_at
from tests.web import test_bundles

#: Nothing else makes a request that changes something; the others only ask.
CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
#: What is asked by POST, because the question is a body, and changes nothing.
ASKING = frozenset(
    {
        *("validation.check_graph", "validation.check_node_name"),
        *("policies.lint", "policies.test", "backtests.policy", "backtests.version"),
        "replays.replay",
        # Nobody changes a version: this says what to do instead.
        "workflows.change",
    }
)

SOURCE = "def f(state):\n    return state"
SERVICE = {"name": "served", "kind": "http", "config": {"hosts": ["https://api.example.com"]}}
DOCUMENT: Mapping[str, Any] = {
    "workflow": "new",
    "nodes": {"a": {"uses": "noop"}},
    "edges": ["a -> end"],
}
GRAPH: Mapping[str, Any] = {
    "name": "g",
    "nodes": [
        {"name": "start", "type": "start"},
        {"name": "a", "type": "standard", "function": "noop"},
        {"name": "end", "type": "end"},
    ],
    "edges": [{"source": "start", "target": "a"}, {"source": "a", "target": "end"}],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a probe has at hand."""

    api: Api
    seed: FlaskClient
    control: Platform
    settings: Settings

    def begun(self) -> str:
        """A run whose first step is ready."""
        return submit(self.control, publish(self.control, dict(LINE))).run

    def further(self) -> dict[str, str]:
        """To a version of the same workflow that a run can go on under."""
        limits = {"steps": 77}
        document = {**LINE, "version": f"{uuid4().int % 10**9}.0.0", "limits": limits}
        publish(self.control, document)
        return {"to": document["version"]}

    def waiting(self, kind: str, **fields: Any) -> str:
        return submit(self.control, publish(self.control, waits_at(kind, **fields))).run

    def mapping(self) -> str:
        document = {
            "workflow": "mapping",
            "nodes": {"w": {"kind": "map", "over": [1, 2, 3], "do": "noop", "at_once": 1}},
            "edges": ["w -> end"],
        }
        return submit(self.control, publish(self.control, document)).run

    def paid(self) -> str:
        """A run that has ended, and a call of which can be undone."""
        with platforms.platform(self.settings, DatabaseRole.WORKER) as worker:
            return paid(self.control, worker).run

    def in_doubt(self) -> str:
        """A run that has ended, of a call of which nobody knows whether it was undone."""
        with platforms.platform(self.settings, DatabaseRole.WORKER) as worker:
            return in_doubt(self.control, worker).run

    def stuck(self) -> str:
        run = self.begun()
        as_owner(
            self.settings,
            "UPDATE run SET stuck_error = 'boom', stuck_until = now() + interval '1 hour'"
            " WHERE id = :run",
            run=run,
        )
        return run

    def graph(self) -> str:
        return str(self.seed.post("/graph/create", json=GRAPH).json["graph_id"])

    def made(self, path: str, **given: Any) -> Any:
        """What a request to the API has made."""
        response = self.api.post(path, json=given)
        assert response.status_code == 201, response.text
        return response.json

    def version(self) -> str:
        """The address of a version that nothing uses."""
        made = self.made("/api/v1/workflows", **DOCUMENT, limits={"steps": 7})
        return f"/api/v1/workflows/new/versions/{made['version']}"

    def draft(self) -> str:
        """The address of a draft, under a name of its own."""
        name = str(uuid4())
        place = f"/api/v1/drafts/{name}"
        response = self.api.send("PUT", place, json={**DOCUMENT, "workflow": name})
        assert response.status_code == 201, response.text
        return place

    def agent(self) -> str:
        """The address of an agent that nothing uses."""
        name = f"a{uuid4().hex}"
        response = self.api.post("/api/v1/agents", json={"agents": {name: AGENT}})
        assert response.status_code == 200, response.text
        return f"/api/v1/agents/{name}"

    def user(self) -> str:
        return str(self.made("/api/v1/users", id=str(uuid4()), roles=["viewer"])["id"])

    def key(self) -> str:
        return str(self.made("/api/v1/keys", name="k")["id"])

    def secret(self) -> str:
        """The address of a secret."""
        made = self.made("/api/v1/secrets", name="KEY", value="a value to be kept")
        return f"/api/v1/secrets/{made['name']}"

    def capability(self) -> str:
        """The address of a grant."""
        made = self.made("/api/v1/capabilities", subject="function:noop@1", profile={})
        return f"/api/v1/capabilities/{made['subject']}"

    def delegation(self) -> dict[str, Any]:
        """What hands a say of ada's to somebody."""
        until = datetime.now(UTC) + timedelta(hours=1)
        return {"to": self.user(), "reason": "away", "until": until.isoformat()}

    def session(self) -> str:
        """The address of a session."""
        found = self.made("/api/v1/sessions", name="s")
        return f"/api/v1/sessions/{found['workflow_id']}"

    def asking(self, **step: Any) -> str:
        """The address of a step of a session, that waits for somebody."""
        place = self.session()
        found = self.made(f"{place}/steps", name="S", **step)
        assert found["status"] == "waiting_approval", found
        return f"{place}/steps/{found['step_id']}"

    def sensitive(self) -> str:
        register(self.control, "send_email", namespace="tool")
        return self.asking(step_type="tool_call", tool_name="send_email")

    def question(self) -> str:
        """The name of what a step asks people."""
        run = self.waiting("approval")
        (found,) = self.api.get("/api/v1/waits", query_string={"run_id": run}).json["items"]
        return str(found["request_id"])


class Asked(NamedTuple):
    """A request, once whatever it needs is there."""

    path: str
    json: Mapping[str, Any] | None = None
    method: str = "POST"
    #: By the routes of seed 000, hence without a credential.
    seed: bool = False
    options: Mapping[str, Any] = {}


def _of_run(act: str) -> Callable[[Place], Asked]:
    return lambda place: Asked(f"/api/v1/runs/{place.begun()}/{act}", {})


def _of_session(act: str) -> Callable[[Place], Asked]:
    return lambda place: Asked(f"{place.session()}/{act}", {})


def _rollback(place: Place) -> Asked:
    session = place.session()
    kept = place.made(f"{session}/checkpoints", name="here")
    return Asked(f"{session}/rollback", {"checkpoint_id": kept["checkpoint_id"]})


def _policy(name: str) -> Asked:
    text = f"policy: {name}\nrules: [steps > 100000 → warn]"
    options = {"data": text.encode(), "content_type": "application/yaml"}
    return Asked("/api/v1/policies", options=options)


def _withdrawal(place: Place) -> Asked:
    asked = _policy("withdrawn")
    assert place.api.post(asked.path, **asked.options).status_code == 201
    return Asked("/api/v1/policies/withdrawn/withdraw", {})


def _bundle() -> Asked:
    file = FileStorage(io.BytesIO(test_bundles.changed()), "research.tar.gz")
    boundary, body = encode_multipart({"file": file})
    kind = f"multipart/form-data; boundary={boundary}"
    return Asked("/api/graph-bundle/upload", options={"data": body, "content_type": kind})


def _recording() -> Asked:
    options = {"data": recorded.text().encode(), "content_type": recorded.CONTENT}
    return Asked("/api/v1/imports", options=options)


#: A request to every route that changes something, which it must carry out. Who adds such a route
#: adds its request here; what it does leaves an act, or is an event of a run.
PROBES: Mapping[str, Callable[[Place], Asked]] = {
    "functions.register": lambda _: Asked("/api/v1/functions", {"name": "f", "code": SOURCE}),
    "tools.register": lambda _: Asked("/api/v1/tools", {"name": "f", "code": SOURCE}),
    "tools.stand": lambda _: Asked("/api/v1/tools/lookup/standing", {"tags": ["tried"]}),
    "services.register_service": lambda _: Asked("/api/v1/services", SERVICE),
    "policies.apply": lambda _: _policy("applied"),
    "policies.withdraw": _withdrawal,
    "secrets.put": lambda _: Asked("/api/v1/secrets", {"name": "PUT", "value": "a value"}),
    "secrets.delete": lambda p: Asked(p.secret(), {}, method="DELETE"),
    "secrets.rotate": lambda _: Asked("/api/v1/secrets/rotate", {}),
    "capabilities.grant": lambda _: Asked(
        "/api/v1/capabilities", {"subject": "function:noop", "profile": {"seconds": 3}}
    ),
    "capabilities.revoke": lambda p: Asked(p.capability(), {}, method="DELETE"),
    "users.create": lambda _: Asked("/api/v1/users", {"id": "bob"}),
    "users.change": lambda p: Asked(
        f"/api/v1/users/{p.user()}", {"roles": ["operator"]}, method="PATCH"
    ),
    "users.deactivate": lambda p: Asked(f"/api/v1/users/{p.user()}", {}, method="DELETE"),
    "keys.create": lambda _: Asked("/api/v1/keys", {"name": "k"}),
    "keys.rotate": lambda p: Asked(f"/api/v1/keys/{p.key()}/rotate", {}),
    "keys.revoke": lambda p: Asked(f"/api/v1/keys/{p.key()}", {}, method="DELETE"),
    "delegations.delegate": lambda p: Asked("/api/v1/delegations", p.delegation()),
    "delegations.revoke": lambda p: Asked(
        f"/api/v1/delegations/{p.made('/api/v1/delegations', **p.delegation())['id']}/revoke", {}
    ),
    "sessions.begin": lambda _: Asked("/api/v1/sessions", {"name": "s"}),
    "sessions.step": lambda p: Asked(
        f"{p.session()}/steps", {"step_type": "reasoning", "name": "S"}
    ),
    "sessions.approve": lambda p: Asked(f"{p.sensitive()}/approve", {}),
    "sessions.deny": lambda p: Asked(f"{p.sensitive()}/deny", {}),
    "sessions.give": lambda p: Asked(f"{p.asking(step_type='human_input')}/input", {"input": 1}),
    "sessions.checkpoint": _of_session("checkpoints"),
    "sessions.rollback": _rollback,
    "sessions.complete": lambda p: Asked(f"{p.session()}/complete"),
    "sessions.cancel": _of_session("cancel"),
    "sessions.pause": _of_session("pause"),
    "sessions.resume": _of_session("resume"),
    "workflows.publish": lambda _: Asked("/api/v1/workflows", DOCUMENT),
    "workflows.retire": lambda p: Asked(p.version(), {"reason": "over"}, method="DELETE"),
    "drafts.save": lambda _: Asked("/api/v1/drafts/new", DOCUMENT, method="PUT"),
    "drafts.publish": lambda p: Asked(f"{p.draft()}/publish", {}),
    "drafts.discard": lambda p: Asked(p.draft(), {}, method="DELETE"),
    "bundles.upload": lambda _: _bundle(),
    "recordings.bring": lambda _: _recording(),
    "agents.enter": lambda _: Asked("/api/v1/agents", {"agents": {"entered": AGENT}}),
    "agents.run": lambda p: Asked(f"{p.agent()}/runs", {"inputs": {"input": "x"}}),
    "agents.rename": lambda p: Asked(f"{p.agent()}/rename", {"name": f"n{uuid4().hex}"}),
    "agents.remove": lambda p: Asked(p.agent(), {}, method="DELETE"),
    "sent.send": lambda _: Asked("/api/v1/events/paid", {"payload": 1}),
    "sent.send_to_run": lambda p: Asked(f"/api/v1/runs/{p.begun()}/events/paid", {"payload": 1}),
    "runs.submit": lambda p: Asked("/api/v1/runs", {"version_id": publish(p.control, dict(LINE))}),
    "runs.cancel": _of_run("cancel"),
    "runs.terminate": _of_run("terminate"),
    "runs.pause": _of_run("pause"),
    "runs.resume": _of_run("resume"),
    "runs.roll_back": lambda p: Asked(f"/api/v1/runs/{p.begun()}/rollback", {"seq": 3}),
    "runs.undo": lambda p: Asked(f"/api/v1/runs/{p.paid()}/undo", {"calls": ["b#1.1"]}),
    "runs.settle_undo": lambda p: Asked(
        f"/api/v1/runs/{p.in_doubt()}/undo/settle", {"call": "b#1.1", "fate": "stands"}
    ),
    "runs.retry": lambda p: Asked(f"/api/v1/runs/{p.stuck()}/retry"),
    "runs.migrate": lambda p: Asked(f"/api/v1/runs/{p.begun()}/migrate", p.further()),
    "runs.act_on_many": lambda p: Asked(
        "/api/v1/runs/bulk", {"action": "retry", "filter": {"ids": [p.stuck()]}}
    ),
    "checkpoints.name": lambda p: Asked(
        f"/api/v1/runs/{p.begun()}/checkpoints/1", {"name": "begun"}, method="PUT"
    ),
    "checkpoints.fork": _of_run("checkpoints/3/fork"),
    "steps.restart": _of_run("steps/a%231/restart"),
    "steps.skip": _of_run("steps/a%231/skip"),
    "steps.retry": _of_run("steps/a%231/retry"),
    "waits.answer": lambda p: Asked(
        f"/api/v1/runs/{p.waiting('approval')}/steps/w%231/answer", {"choice": "approve"}
    ),
    "waits.answer_many": lambda p: Asked(
        "/api/v1/waits/answers", {"ids": [p.question()], "choice": "approve"}
    ),
    "waits.add_items": lambda p: Asked(
        f"/api/v1/runs/{p.mapping()}/steps/w%231/items", {"items": [4]}
    ),
    "waits.complete": lambda p: Asked(f"/api/v1/runs/{p.mapping()}/steps/w%231/complete", {}),
    "nodes.register_node": lambda _: Asked(
        "/nodes/register", {"name": "g", "code": SOURCE.replace("f(", "g(")}, seed=True
    ),
    "tool-registry.register_tool": lambda _: Asked(
        "/tools/register", {"name": "g", "code": SOURCE.replace("f(", "g(")}, seed=True
    ),
    "graph.create": lambda _: Asked("/graph/create", {**GRAPH, "name": "other"}, seed=True),
    "graph-runs.run": lambda p: Asked(
        "/graph/run", {"graph_id": p.graph(), "initial_state": {}}, seed=True
    ),
    "graph-runs.run_async": lambda p: Asked(
        "/graph/run_async", {"graph_id": p.graph(), "initial_state": {}}, seed=True
    ),
    "graph-runs.cancel": lambda p: Asked(f"/graph/cancel/{p.begun()}", seed=True),
}

#: Acts, lines of histories and letters for them that name who did it.
_TRACES = """
    SELECT 'act ' || id AS id FROM admin_act WHERE by = :by
    UNION SELECT 'line ' || run_id || ' ' || seq FROM history
        WHERE body->>'by' = :by OR strpos(body->>'by', '"user:' || :by || '"') > 0
            OR strpos(body->>'by', '"' || :by || '"') > 0
    UNION SELECT 'letter ' || run_id || ' ' || id FROM inbox WHERE body->>'by' = :by
"""


@pytest.fixture
def place(api: Api, seed: FlaskClient, control: Platform, local_settings: Settings) -> Place:
    register(control, "noop")
    register(control, "lookup", namespace="tool")
    return Place(api=api, seed=seed, control=control, settings=local_settings)


def test_every_route_that_changes_something_leaves_a_trace(app: Flask, place: Place) -> None:
    """S3-14."""
    changing = {
        str(rule.endpoint)
        for rule in app.url_map.iter_rules()
        if CHANGING & (rule.methods or set())
    }
    assert changing == PROBES.keys() | ASKING
    for endpoint, prepared in PROBES.items():
        asked = prepared(place)
        by = "local" if asked.seed else "ada"
        before = traces(place, by)
        options = {"json": asked.json} if asked.json is not None else asked.options
        if asked.seed:
            response = place.seed.open(asked.path, method=asked.method, **options)
        else:
            response = place.api.send(asked.method, asked.path, **options)
        assert response.status_code in {200, 201, 202}, (endpoint, response.text)
        assert traces(place, by) - before, f"{endpoint} leaves no trace"


def traces(place: Place, by: str) -> set[str]:
    return {row.id for row in sql(place.control, _TRACES, by=by)}


def test_a_say_that_settles_nothing_leaves_a_trace_for_each_who_said_it(place: Place) -> None:
    run = place.waiting("approval", quorum=2)
    said = {"choice": "approve", "reason": "it looks right"}
    answered = place.api.post(f"/api/v1/runs/{run}/steps/w%231/answer", json=said)
    assert answered.json["settled"] is False
    (act,) = [entry for entry in entries(place.api, by="ada") if entry["action"] == "wait.answer"]
    assert act["subject"].startswith("wait:apr_")
    assert act["detail"] == {"run_id": run, "step": "w#1", "choice": "approve", "behalf": "ada"}


def test_whoever_repeats_what_is_so_leaves_no_second_act(place: Place) -> None:
    for name, again in (("functions.register", 201), ("workflows.publish", 200)):
        asked = PROBES[name](place)
        assert place.api.post(asked.path, json=asked.json).status_code == 201
        before = traces(place, "ada")
        assert place.api.post(asked.path, json=asked.json).status_code == again
        assert traces(place, "ada") == before


# --- reading -------------------------------------------------------------------------------------


def entries(api: Api, **which: Any) -> list[dict[str, Any]]:
    """All entries, a page after the other."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        response = api.get("/api/v1/audit", query_string={"limit": 3, **which, **cursor})
        assert response.status_code == 200, response.text
        found += response.json["items"]
        if response.json["next"] is None:
            return found
        cursor = {"cursor": response.json["next"]}


def test_a_workflows_audit_tells_all_that_became_of_it_in_order(
    place: Place, worker: Platform
) -> None:
    """S3-05."""
    document = {
        "workflow": "pay",
        "nodes": {"a": {"uses": "noop"}, "w": {"kind": "approval"}},
        "edges": ["a -> w -> end"],
    }
    place.api.post("/api/v1/workflows", json=document)
    version = publish(place.control, document)
    run = submit(place.control, version)
    finish(place.control, worker, take(worker, run, "a#1"))
    place.api.post(f"/api/v1/runs/{run.run}/steps/w%231/answer", json={"choice": "approve"})
    submit(place.control, publish(place.control, dict(LINE)))
    with session.transaction(place.control.database) as connection:
        acts.record(connection, TENANT, by="ada", action="run.note", subject=f"run:{run.run}")
    found = entries(place.api, workflow="pay")
    lines = [entry for entry in found if entry["run"]]
    assert {entry["run"] for entry in lines} == {run.run}
    assert [entry["seq"] for entry in lines] == [*range(1, len(lines) + 1)]
    assert [entry["action"] for entry in found if entry["act"]] == ["workflow.publish", "run.note"]
    told = [entry["action"] for entry in lines]
    steps = ("RunSubmitted", "RequestStart", "AttemptSucceeded", "TakeEdges", "Opened", "WaitEnded")
    places = [told.index(kind) for kind in (*steps, "FinishRun")]
    assert places == sorted(places)
    assert next(one["by"] for one in lines if one["action"] == "WaitEnded") == "user:ada"


def test_entries_are_found_by_what_they_are(app: Flask, spec: Any, place: Place) -> None:
    first = submit(place.control, publish(place.control, dict(LINE)))
    second = submit(place.control, publish(place.control, dict(LINE)))
    place.api.post(f"/api/v1/runs/{first.run}/cancel", json={"reason": "enough"})
    place.api.post("/api/v1/events/paid", json={"payload": 1})
    everything = entries(place.api)
    fits(app, spec, place.api.get("/api/v1/audit"))
    (cancelled,) = entries(place.api, action="CancelRequested")
    assert (cancelled["run"], cancelled["why"], cancelled["by"]) == (first.run, "enough", "ada")
    assert {entry["run"] for entry in entries(place.api, run=second.run)} == {second.run}
    assert {entry["by"] for entry in entries(place.api, by="ada")} == {"ada"}
    assert entries(place.api, by="nobody") == []
    (sent,) = entries(place.api, action="event.send")
    assert sent["detail"] == {"name": "paid", "run": None}
    middle = cancelled["at"]
    earlier, later = entries(place.api, until=middle), entries(place.api, since=middle)
    key = operator.itemgetter("run", "seq", "act")
    assert {key(one) for one in earlier} | {key(one) for one in later} == set(map(key, everything))
    assert cancelled in later


def test_a_tenants_audit_is_its_own(place: Place, stranger: Api) -> None:
    run = submit(place.control, publish(place.control, dict(LINE)))
    assert entries(stranger, run=run.run) == []
    own = [(entry["action"], entry["by"], entry["subject"][:4]) for entry in entries(stranger)]
    assert own == [("user.create", "celeriac", "user"), ("key.create", "celeriac", "key:")]
    assert stranger.get("/api/v1/audit/verify", query_string={"run": run.run}).status_code == 404
    assert stranger.get("/api/v1/audit/verify").json["lines"] == 0
    assert place.seed.get("/api/v1/audit").status_code == 401


@pytest.mark.parametrize(
    "asked",
    [
        {"since": "yesterday"},
        {"since": "2026-01-01T00:00:00"},
        {"run": "x"},
        {"cursor": "x"},
        {"cursor": "WyJ4IiwxXQ"},
        {"limit": "0"},
        {"what": "x"},
    ],
)
def test_what_cannot_be_asked_is_refused(api: Api, asked: dict[str, str]) -> None:
    assert api.get("/api/v1/audit", query_string=asked).status_code == 422


def test_verifying_tells_what_is_wrong(app: Flask, spec: Any, place: Place) -> None:
    run = submit(place.control, publish(place.control, dict(LINE)))
    before = place.api.get("/api/v1/audit/verify").json
    assert (before["sound"], before["tail_runs"], before["anchors"]) == (True, 1, 0)
    sealing.seal(place.control)
    answer = place.api.get("/api/v1/audit/verify")
    fits(app, spec, answer)
    assert (answer.json["sound"], answer.json["tail_runs"], answer.json["anchors"]) == (True, 0, 1)
    as_owner(place.settings, "UPDATE history SET hash = 'x' WHERE seq = 2")
    found = place.api.get("/api/v1/audit/verify", query_string={"run": run.run})
    fits(app, spec, found)
    assert found.json["sound"] is False
    assert [(one["table"], one["run"], one["row"]) for one in found.json["faults"]] == [
        ("history", run.run, "2")
    ]


# --- export --------------------------------------------------------------------------------------


def test_no_cell_is_a_formula_to_a_spreadsheet() -> None:
    risky = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\n=1", "\uff1d1")
    row = next(csv.reader(io.StringIO(audit.as_csv(risky), newline="")))
    assert all(cell.startswith("'") for cell in row)
    plain = ("fine", 'say "no", please', "two\nlines", 3, None)
    told = ["fine", 'say "no", please', "two\nlines", "3", ""]
    assert next(csv.reader(io.StringIO(audit.as_csv(plain), newline=""))) == told


def test_all_of_it_is_streamed_a_page_at_a_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        submit(place.control, publish(place.control, dict(LINE)))
    monkeypatch.setattr(audit, "_PAGE", 2)
    found = [*audit.stream(place.control, TENANT, trail.Which())]
    assert [json.loads(audit.as_json(one))["hash"] for one in found] == [
        entry["hash"] for entry in entries(place.api)
    ]
