"""The routes of seed 000, as its clients know them; nodes are carried out by a real worker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from engine.core.transitions import RunStatus
from engine.platform import Platform
from engine.runs import libraries, views
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import hands, platforms, site
from tests.support.platforms import as_owner, sql
from tests.support.services import Services
from web import site as sites
from workers.sandbox import Sandbox

INCREMENT = (
    'def increment(state):\n  value = state.get("value", 0)\n'
    '  state.set("value", value+1)\n  return state'
)
ADD_ONE = 'def add_one(state):\n  v = state.get("n",0)\n  state.set("n", v+1)\n  return state'
STEP_STATUSES = {
    *("started", "executing", "completed", "transition"),
    *("end_reached", "max_iterations", "timeout", "error"),
}


@pytest.fixture(scope="module")
def own(shared_services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with site.of_its_own(shared_services, tmp_path_factory.mktemp("home")) as settings:
        yield replace(site.local(settings), wait_seconds=20)


@pytest.fixture(scope="module")
def control(own: Settings, sandbox: Sandbox) -> Iterator[Platform]:
    with hands.at_work(own, sandbox) as platform:
        libraries.install(platform.database, "local")
        yield platform


@pytest.fixture(scope="module")
def seed(control: Platform) -> Iterator[FlaskClient]:
    with site.served(control) as app:
        yield app.test_client()


def register(seed: FlaskClient, name: str, body: str, kind: str = "nodes") -> None:
    code = f"def {name}(state):\n" + "\n".join(f"    {line}" for line in body.splitlines())
    response = seed.post(f"/{kind}/register", json={"name": name, "code": code})
    assert response.status_code == 200, response.text
    assert response.json == {"status": "registered", "name": name}


def create(seed: FlaskClient, *nodes: dict[str, Any], edges: list[Any], **more: Any) -> str:
    given = [
        {"name": "start", "type": "start"},
        *nodes,
        {"name": "end", "type": "end"},
    ]
    response = seed.post(
        "/graph/create", json={"name": "g", "nodes": given, "edges": [*map(edge, edges)], **more}
    )
    assert response.status_code == 200, response.text
    found = response.json
    assert found["node_count"] == len(given)
    assert found["edge_count"] == len(edges)
    return str(found["graph_id"])


def edge(given: Any) -> dict[str, Any]:
    if isinstance(given, dict):
        return given
    source, target = given.split(" -> ")
    return {"source": source, "target": target}


def linear(seed: FlaskClient, function: str) -> str:
    return create(
        seed,
        {"name": function, "type": "standard", "function": function},
        edges=[f"start -> {function}", f"{function} -> end"],
    )


def run(seed: FlaskClient, graph: str, **state: Any) -> dict[str, Any]:
    response = seed.post("/graph/run", json={"graph_id": graph, "initial_state": state})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json
    assert set(found) == {"run_id", "graph_id", "status", "final_state", "execution_log"}
    assert found["graph_id"] == graph
    check_state(found["final_state"])
    check_log(found["execution_log"])
    return found


def check_state(state: dict[str, Any]) -> None:
    assert set(state) - {"execution_log_omitted"} == {
        *("run_id", "graph_id", "final_node", "iterations", "data", "started_at"),
        *("completed_at", "error", "execution_log"),
    }
    assert isinstance(state["iterations"], int)
    for entry in state["execution_log"]:
        assert set(entry) == {"node", "iteration", "timestamp", "input", "output"}


def check_log(log: dict[str, Any]) -> None:
    assert set(log) == {"run_id", "graph_id", "started_at", "completed_at", "steps"}
    for step in log["steps"]:
        assert set(step) == {
            *("seq", "timestamp", "node", "iteration", "status", "message", "data"),
        }
        assert step["status"] in STEP_STATUSES
    seqs = [step["seq"] for step in log["steps"]]
    assert seqs == sorted(set(seqs))


def visits(found: dict[str, Any]) -> list[str]:
    """The nodes that were executed, in order."""
    steps = found["execution_log"]["steps"]
    return [step["node"] for step in steps if step["status"] == "executing"]


def statuses(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(step["node"], step["status"]) for step in found["execution_log"]["steps"]]


def started(seed: FlaskClient, graph: str, **state: Any) -> str:
    response = seed.post("/graph/run_async", json={"graph_id": graph, "initial_state": state})
    assert response.status_code == 200, response.text
    assert set(response.json) == {"run_id", "status"}
    assert response.json["status"] == "running"
    return str(response.json["run_id"])


def wait_for(control: Platform, run_id: str, condition: Any) -> None:
    deadline = time.monotonic() + 60
    run = RunId("local", run_id)
    while not condition(views.run(control, run)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- what goes wrong ---------------------------------------------------------------------------


def test_a_graph_without_an_end_is_refused_and_not_listed(seed: FlaskClient) -> None:
    body = {
        "name": "invalid_graph",
        "start_node": "start",
        "nodes": [{"name": "start", "type": "start"}, {"name": "middle", "type": "standard"}],
        "edges": [{"source": "start", "target": "middle"}],
    }
    response = seed.post("/graph/create", json=body)
    assert response.status_code == 400
    assert "Graph missing end node" in response.json["detail"]
    listed = seed.get("/graph/list").json["graphs"]
    assert all(graph["name"] != "invalid_graph" for graph in listed)


def test_a_node_that_raises_ends_its_run_in_error(seed: FlaskClient) -> None:
    """S0-D1: never `completed`."""
    register(seed, "fails", "raise ValueError('no good')")
    found = run(seed, linear(seed, "fails"))
    assert found["status"] == "error"
    assert "no good" in found["final_state"]["error"]
    assert ("fails", "error") in statuses(found)
    assert statuses(found)[-1] == ("workflow", "error")
    assert seed.get(f"/graph/status/{found['run_id']}").json["status"] == "error"
    assert found["final_state"]["completed_at"] is not None


def test_a_node_that_is_killed_for_its_memory_ends_its_run_in_error(seed: FlaskClient) -> None:
    """S0-D5: a gigabyte never ends as completed, without an error."""
    register(seed, "hoards", "state.set('x', len('a' * 2_000_000_000))\nreturn state")
    found = run(seed, linear(seed, "hoards"))
    assert found["status"] == "error"
    assert found["final_state"]["error"]
    assert found["final_state"]["data"] == {}


def test_what_a_node_prints_does_not_spoil_its_result(seed: FlaskClient) -> None:
    """S0-D5."""
    register(seed, "chatters", "print('{\"a\": 1}')\nstate.set('done', True)\nreturn state")
    found = run(seed, linear(seed, "chatters"))
    assert found["status"] == "completed"
    assert found["final_state"]["data"] == {"done": True}


def test_registered_code_is_not_run_by_the_api(seed: FlaskClient) -> None:
    """S0-D5: neither module level code nor decorators nor defaults."""
    code = "import_time = [][1]\ndef waits(state, when=1/1):\n    return state"
    response = seed.post("/nodes/register", json={"name": "waits", "code": code})
    assert response.status_code == 200
    found = run(seed, linear(seed, "waits"))
    assert found["status"] == "error"
    assert "IndexError" in found["final_state"]["error"]


def test_an_unknown_condition_is_refused(seed: FlaskClient) -> None:
    """S0-D4."""
    body = {
        "nodes": [{"name": "start", "type": "start"}, {"name": "end", "type": "end"}],
        "edges": [{"source": "start", "target": "end", "condition": "nobody"}],
    }
    response = seed.post("/graph/create", json=body)
    assert response.status_code == 400
    assert "Function not found: nobody" in response.json["detail"]


def test_a_run_that_has_ended_is_not_cancellable(seed: FlaskClient) -> None:
    register(seed, "quick", "return state")
    found = run(seed, linear(seed, "quick"))
    response = seed.post(f"/graph/cancel/{found['run_id']}")
    assert response.status_code == 404
    told = response.json["detail"]
    assert told == f"Run not found or not cancellable: {found['run_id']}"
    assert seed.get(f"/graph/status/{found['run_id']}").json["status"] == "completed"


def test_a_run_that_cannot_be_stopped_now_is_not_said_to_be_cancelled(
    seed: FlaskClient, control: Platform
) -> None:
    register(seed, "long", "time.sleep(10)\nreturn state")
    run_id = started(seed, linear(seed, "long"))
    wait_for(control, run_id, lambda run: any(step.begun for step in run.steps))
    (row,) = sql(control, "SELECT head::text AS head FROM run WHERE id::text = :run", run=run_id)
    with_head = "UPDATE run SET head = :head WHERE id::text = :run"
    as_owner(control.settings, with_head, head='{"nonsense": 1}', run=run_id)
    response = seed.post(f"/graph/cancel/{run_id}")
    assert response.status_code == 503
    assert "could not be stopped yet" in response.json["detail"]
    assert int(response.headers["Retry-After"]) >= 1
    assert seed.get(f"/graph/status/{run_id}").json["status"] == "running"
    as_owner(control.settings, with_head, head=row.head, run=run_id)
    response = seed.post(f"/graph/cancel/{run_id}")
    assert response.json == {"run_id": run_id, "status": "cancelled"}


def test_a_run_that_is_cancelled_is_cancelled_at_once_and_leaves_nothing(
    seed: FlaskClient, control: Platform
) -> None:
    register(seed, "very_long", "time.sleep(10)\nstate.set('done', True)\nreturn state")
    run_id = started(seed, linear(seed, "very_long"))
    wait_for(control, run_id, lambda run: any(step.begun for step in run.steps))
    began = time.monotonic()
    response = seed.post(f"/graph/cancel/{run_id}")
    assert response.status_code == 200
    assert response.json == {"run_id": run_id, "status": "cancelled"}
    assert seed.get(f"/graph/status/{run_id}").json == {"run_id": run_id, "status": "cancelled"}
    # The step itself would take ten seconds.
    assert time.monotonic() - began < 8
    state = seed.get(f"/graph/state/{run_id}").json
    assert state["status"] == "cancelled"
    assert "done" not in state["current_state"]["data"]
    last = state["execution_log"]["steps"][-1]
    assert (last["node"], last["data"]["status"]) == ("workflow", "cancelled")


def test_a_run_that_takes_longer_than_requests_may_is_accepted(
    control: Platform, seed: FlaskClient, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    files = {"began": str(tmp_path / "began"), "go": str(go)}
    platforms.register(control, "slow", library="tests.support.witness:wait_for_file")
    graph = linear(seed, "slow")
    hasty = replace(control, settings=replace(control.settings, wait_seconds=0.1))
    with site.served(hasty) as app:
        body = {"graph_id": graph, "initial_state": files}
        response = app.test_client().post("/graph/run", json=body)
    assert response.status_code == 202
    run_id = response.json["run_id"]
    assert response.json == {"run_id": run_id, "status": "running"}
    assert response.headers["Location"] == f"/graph/state/{run_id}"
    go.touch()
    wait_for(control, run_id, lambda run: run.status is RunStatus.COMPLETED)
    data = seed.get(f"/graph/state/{run_id}").json["current_state"]["data"]
    assert data == {**files, "waited": True}


def test_when_no_place_is_left_a_run_is_not_even_submitted(
    control: Platform, seed: FlaskClient
) -> None:
    register(seed, "quick", "return state")
    graph = linear(seed, "quick")
    with site.served(control) as app:
        places = sites.of(app).places
        taken = [places.take() for _ in range(control.settings.streams)]
        client = app.test_client()
        before = len(client.get("/graph/runs").json["runs"])
        response = client.post("/graph/run", json={"graph_id": graph})
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) >= 1
        assert response.json["detail"]
        assert len(client.get("/graph/runs").json["runs"]) == before
        for place in taken:
            place.leave()
            place.leave()
        assert client.post("/graph/run", json={"graph_id": graph}).status_code == 200


# --- what is promised --------------------------------------------------------------------------


def test_a_node_is_registered_and_run(seed: FlaskClient) -> None:
    response = seed.post("/nodes/register", json={"name": "increment", "code": INCREMENT})
    assert (response.status_code, response.json) == (
        200,
        {"status": "registered", "name": "increment"},
    )
    body = {
        "name": "simple",
        "start_node": "start",
        "nodes": [
            {"name": "start", "type": "start"},
            {"name": "increment", "type": "standard", "function": "increment"},
            {"name": "end", "type": "end"},
        ],
        "edges": [
            {"source": "start", "target": "increment"},
            {"source": "increment", "target": "end"},
        ],
    }
    created = seed.post("/graph/create", json=body).json
    assert (created["name"], created["node_count"], created["edge_count"]) == ("simple", 3, 2)
    found = run(seed, created["graph_id"], value=1)
    assert found["status"] == "completed"
    state = found["final_state"]
    assert state["data"] == {"value": 2}
    assert state["error"] is None
    assert state["final_node"] == "end"
    assert state["iterations"] == 2
    assert state["run_id"] == found["run_id"] == found["execution_log"]["run_id"]
    assert [(e["node"], e["input"], e["output"]) for e in state["execution_log"]] == [
        ("increment", {"value": 1}, {"value": 2})
    ]
    assert statuses(found) == [
        ("start", "started"),
        ("start", "transition"),
        ("increment", "executing"),
        ("increment", "completed"),
        ("increment", "transition"),
        ("end", "completed"),
        ("end", "end_reached"),
        ("workflow", "completed"),
    ]


def test_a_tool_may_be_the_function_of_a_node(seed: FlaskClient) -> None:
    response = seed.post("/tools/register", json={"name": "add_one", "code": ADD_ONE})
    assert response.json == {"status": "registered", "name": "add_one"}
    assert run(seed, linear(seed, "add_one"), n=5)["final_state"]["data"]["n"] == 6


def test_a_node_may_call_a_tool(seed: FlaskClient) -> None:
    code = "def double(x):\n    return x * 2"
    assert seed.post("/tools/register", json={"name": "double", "code": code}).status_code == 200
    register(seed, "calls", "state.set('n', invoke('double', state.get('n')))\nreturn state")
    assert run(seed, linear(seed, "calls"), n=4)["final_state"]["data"]["n"] == 8


def test_tools_are_listed_with_their_parameters(seed: FlaskClient) -> None:
    code = 'def my_tool(arg1: str, arg2: int, arg3=None):\n    """Does it."""\n    return arg1'
    body = {"name": "my_tool", "code": code, "description": "Does something useful"}
    assert seed.post("/tools/register", json=body).status_code == 200
    (found,) = (t for t in seed.get("/tools/list").json["tools"] if t["name"] == "my_tool")
    assert found == {
        "name": "my_tool",
        "description": "Does something useful",
        "parameters": {
            "arg1": {"annotation": "str", "default": None, "required": True},
            "arg2": {"annotation": "int", "default": None, "required": True},
            "arg3": {"annotation": "Any", "default": None, "required": False},
        },
    }


def test_a_background_run_answers_at_once_and_shows_its_state_as_it_goes(
    seed: FlaskClient, control: Platform, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    files = {"began": str(tmp_path / "began"), "go": str(go)}
    register(seed, "first", "state.set('first', True)\nreturn state")
    platforms.register(control, "sleeper", library="tests.support.witness:wait_for_file")
    graph = create(
        seed,
        {"name": "first", "function": "first"},
        {"name": "sleeper", "function": "sleeper"},
        edges=["start -> first", "first -> sleeper", "sleeper -> end"],
    )
    run_id = started(seed, graph, given=1, **files)
    assert views.run(control, RunId("local", run_id)).finished_at is None
    state = seed.get(f"/graph/state/{run_id}").json
    assert set(state) == {"run_id", "status", "current_state", "execution_log"}
    assert state["current_state"]["data"]["given"] == 1
    wait_for(control, run_id, lambda run: any(s.node == "sleeper" and s.begun for s in run.steps))
    state = seed.get(f"/graph/state/{run_id}").json
    assert state["status"] == "running"
    assert state["current_state"]["data"] == {"given": 1, "first": True, **files}
    assert state["current_state"]["completed_at"] is None
    assert state["current_state"]["final_node"] == "sleeper"
    go.touch()
    wait_for(control, run_id, lambda run: run.finished_at is not None)
    state = seed.get(f"/graph/state/{run_id}").json
    assert state["status"] == "completed"
    slept = {"given": 1, "first": True, "waited": True, **files}
    assert state["current_state"]["data"] == slept


def test_branching_follows_the_state(seed: FlaskClient) -> None:
    register(seed, "is_big", "return state.get('n') > 10")
    register(seed, "mark_big", "state.set('size', 'big')\nreturn state")
    register(seed, "mark_small", "state.set('size', 'small')\nreturn state")
    graph = create(
        seed,
        {"name": "look", "type": "standard"},
        {"name": "big", "function": "mark_big"},
        {"name": "small", "function": "mark_small"},
        edges=[
            "start -> look",
            {"source": "look", "target": "big", "condition": "is_big"},
            "look -> small",
            "big -> end",
            "small -> end",
        ],
    )
    assert run(seed, graph, n=50)["final_state"]["data"]["size"] == "big"
    assert run(seed, graph, n=5)["final_state"]["data"]["size"] == "small"


def test_a_conditional_node_names_the_next_node(seed: FlaskClient) -> None:
    register(seed, "route", "return 'left' if state.get('go') == 'l' else 'right'")
    register(seed, "left", "state.set('went', 'left')\nreturn state")
    register(seed, "right", "state.set('went', 'right')\nreturn state")
    graph = create(
        seed,
        {"name": "fork", "type": "conditional", "condition": "route"},
        {"name": "left", "function": "left"},
        {"name": "right", "function": "right"},
        edges=["start -> fork", "fork -> left", "fork -> right", "left -> end", "right -> end"],
    )
    assert run(seed, graph, go="l")["final_state"]["data"]["went"] == "left"
    assert run(seed, graph, go="r")["final_state"]["data"]["went"] == "right"


def test_a_registered_condition_says_yes_and_no(seed: FlaskClient) -> None:
    """S0-D3: `n < 3` ends after the third round, not after the tenth."""
    register(seed, "count", "state.set('n', state.get('n', 0) + 1)\nreturn state")
    register(seed, "fewer", "return state.get('n', 0) < 3")
    graph = create(
        seed,
        {
            "name": "loop",
            "type": "loop",
            "function": "count",
            "condition": "fewer",
            "max_iterations": 10,
        },
        edges=[
            "start -> loop",
            {"source": "loop", "target": "loop", "label": "loop"},
            "loop -> end",
        ],
    )
    found = run(seed, graph)
    assert found["final_state"]["data"]["n"] == 3
    assert visits(found) == ["loop"] * 3


def test_a_loop_stops_at_its_bound_and_says_so(seed: FlaskClient) -> None:
    """S0-D7: the bound counts visits of the node, not transitions of the run."""
    register(seed, "count", "state.set('n', state.get('n', 0) + 1)\nreturn state")
    register(seed, "always", "return True")
    register(seed, "pass_by", "return state")
    graph = create(
        seed,
        *({"name": f"before{n}", "function": "pass_by"} for n in range(3)),
        {
            "name": "loop",
            "type": "loop",
            "function": "count",
            "condition": "always",
            "max_iterations": 10,
        },
        edges=[
            *("start -> before0", "before0 -> before1", "before1 -> before2"),
            "before2 -> loop",
            {"source": "loop", "target": "loop", "label": "loop"},
            "loop -> end",
        ],
    )
    found = run(seed, graph)
    assert found["status"] == "completed"
    assert found["final_state"]["data"]["n"] == 10
    (bound,) = (
        step for step in found["execution_log"]["steps"] if step["status"] == "max_iterations"
    )
    assert (bound["node"], bound["iteration"]) == ("loop", 10)
    assert "10" in bound["message"]


def test_a_graph_without_a_start_node_begins_at_its_start(seed: FlaskClient) -> None:
    register(seed, "my_function", "state.set('done', True)\nreturn state")
    body = {
        "name": "my_workflow",
        "nodes": [
            {"name": "start", "type": "start"},
            {"name": "process", "type": "standard", "function": "my_function"},
            {"name": "end", "type": "end"},
        ],
        "edges": [
            {"source": "start", "target": "process"},
            {"source": "process", "target": "end"},
        ],
    }
    created = seed.post("/graph/create", json=body).json
    assert run(seed, created["graph_id"])["final_state"]["data"] == {"done": True}


def test_a_graph_is_told_as_it_was_given(seed: FlaskClient) -> None:
    register(seed, "quick", "return state")
    graph = create(
        seed,
        {
            "name": "loop",
            "type": "loop",
            "function": "quick",
            "condition": "quick",
            "max_iterations": 7,
        },
        edges=[
            "start -> loop",
            {"source": "loop", "target": "start", "label": "loop"},
            "loop -> end",
        ],
    )
    told = seed.get(f"/graph/{graph}")
    assert told.status_code == 200
    assert told.json == {
        "graph_id": graph,
        "name": "g",
        "nodes": [
            {"name": "start", "type": "start", "max_iterations": 100},
            {"name": "loop", "type": "loop", "max_iterations": 7},
            {"name": "end", "type": "end", "max_iterations": 100},
        ],
        "edges": [
            {"source": "start", "target": "loop", "label": None},
            {"source": "loop", "target": "start", "label": "loop"},
            {"source": "loop", "target": "end", "label": None},
        ],
        "start_node": "start",
        "end_nodes": ["end"],
    }
    assert told.json in seed.get("/graph/list").json["graphs"]


def test_everything_is_there_after_a_restart(seed: FlaskClient, control: Platform) -> None:
    """S0-D6: another process, without anything in memory, knows graphs, functions and runs."""
    register(seed, "quick", "return state")
    graph = linear(seed, "quick")
    found = run(seed, graph, a=1)
    with site.served(control) as app:
        after = app.test_client()
        assert after.get(f"/graph/{graph}").json == seed.get(f"/graph/{graph}").json
        listed = after.get("/graph/runs").json["runs"]
        assert {
            "run_id": found["run_id"],
            "graph_id": graph,
            "status": "completed",
        } in listed
        state = after.get(f"/graph/state/{found['run_id']}").json
        assert state["current_state"] == found["final_state"]
        assert state["execution_log"] == found["execution_log"]
        assert run(after, graph, a=2)["final_state"]["data"] == {"a": 2}


def test_registering_anew_touches_later_runs_alone(seed: FlaskClient, control: Platform) -> None:
    register(seed, "wait_a_bit", "time.sleep(1)\nreturn state")
    register(seed, "bump", "state.set('n', state.get('n', 0) + 1)\nreturn state")
    graph = create(
        seed,
        {"name": "wait_a_bit", "function": "wait_a_bit"},
        {"name": "bump", "function": "bump"},
        edges=["start -> wait_a_bit", "wait_a_bit -> bump", "bump -> end"],
    )
    run_id = started(seed, graph)
    register(seed, "bump", "state.set('n', state.get('n', 0) + 10)\nreturn state")
    wait_for(control, run_id, lambda run: run.finished_at is not None)
    assert seed.get(f"/graph/state/{run_id}").json["current_state"]["data"] == {"n": 1}
    assert run(seed, graph)["final_state"]["data"] == {"n": 10}


def test_the_code_review_agent_is_there_and_reviews(seed: FlaskClient) -> None:
    graphs = seed.get("/graph/list").json["graphs"]
    (agent,) = (graph for graph in graphs if graph["name"] == "code_review_agent")
    assert len(agent["nodes"]) == 8
    code = "def calculate(x, y):\n    if x > 10:\n        return x*y\n    return x+y"
    found = run(seed, agent["graph_id"], code=code, quality_threshold=6.0)
    assert found["status"] == "completed"
    data = found["final_state"]["data"]
    assert data["quality_score"] == 9.8
    (complexity,) = data["complexity_results"]
    assert (complexity["cyclomatic"], complexity["cognitive"], complexity["lines"]) == (2, 2, 4)
    assert [issue["type"] for issue in data["issues"]] == ["magic_numbers"]
    assert found["final_state"]["execution_log"]


def test_a_submission_may_be_repeated_under_its_key(seed: FlaskClient) -> None:
    register(seed, "quick", "return state")
    body = {"graph_id": linear(seed, "quick"), "initial_state": {"a": 1}}
    headers = {"Idempotency-Key": "once"}
    first = seed.post("/graph/run_async", json=body, headers=headers)
    again = seed.post("/graph/run_async", json=body, headers=headers)
    assert first.json == again.json
    other = seed.post("/graph/run", json={**body, "initial_state": {}}, headers=headers)
    assert other.status_code == 422
    assert other.json["errors"][0]["path"] == "Idempotency-Key"


def test_health_and_docs_answer(seed: FlaskClient) -> None:
    assert seed.get("/health").json == {"status": "healthy"}
    root = seed.get("/")
    assert (root.status_code, root.headers["Location"]) == (307, "/docs")
    assert seed.get("/docs").status_code == 200
