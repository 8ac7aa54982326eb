"""What the README of seed 000 tells its readers to type, character for character.

Only the port and what stands in angle brackets is replaced, as a reader would.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket

from tests.support import stack as stacks
from tests.support.fleet import wait_until
from tests.support.services import Services
from tests.support.stack import Stack

pytestmark = pytest.mark.timeout(180)

REGISTER_NODE = r"""
curl -X POST http://localhost:8000/nodes/register \
  -H "Content-Type: application/json" \
  -d '{"name":"increment","code":"def increment(state):\n  value = state.get(\"value\", 0)\n  state.set(\"value\", value+1)\n  return state"}'
"""
REGISTER_TOOL = r"""
curl -X POST http://localhost:8000/tools/register \
  -H "Content-Type: application/json" \
  -d '{"name":"add_one","code":"def add_one(state):\n  v = state.get(\"n\",0)\n  state.set(\"n\", v+1)\n  return state"}'
"""
CREATE = r"""
curl -X POST http://localhost:8000/graph/create \
  -H "Content-Type: application/json" \
  -d '{"name":"simple","start_node":"start","nodes":[{"name":"start","type":"start"},{"name":"increment","type":"standard","function":"increment"},{"name":"end","type":"end"}],"edges":[{"source":"start","target":"increment"},{"source":"increment","target":"end"}]}'
"""
RUN = r"""
curl -X POST http://localhost:8000/graph/run \
  -H "Content-Type: application/json" \
  -d '{"graph_id":"<graph_id>", "initial_state":{"value":1}}'
"""
RUN_ASYNC = r"""
curl -X POST http://localhost:8000/graph/run_async -H "Content-Type: application/json" -d '{"graph_id":"<graph_id>","initial_state":{}}'
"""
STATUS = "curl http://localhost:8000/graph/status/<run_id>"
STATE = "curl http://localhost:8000/graph/state/<run_id>"
CANCEL = "curl -X POST http://localhost:8000/graph/cancel/<run_id>"
REVIEW = r"""
curl -X POST http://localhost:8000/graph/run \
  -H "Content-Type: application/json" \
  -d '{
    "graph_id": "<graph_id_from_list>",
    "initial_state": {
      "code": "def calculate(x, y):\n    if x > 10:\n        return x*y\n    return x+y",
      "quality_threshold": 6.0
    }
  }'
"""
POLL = r"""
# Start
RUN_ID=$(curl -s -X POST http://localhost:8000/graph/run_async \
  -H "Content-Type: application/json" \
  -d '{"graph_id": "<graph_id_from_list>", "initial_state": {"code": "def f():\n    return 1"}}' | jq -r '.run_id')

# Poll state
curl -s http://localhost:8000/graph/state/$RUN_ID
"""
CUSTOM = r"""
curl -X POST http://localhost:8000/graph/create \
  -H "Content-Type: application/json" \
  -d '{
    "name": "my_workflow",
    "nodes": [
      {"name": "start", "type": "start"},
      {"name": "process", "type": "standard", "function": "my_function"},
      {"name": "end", "type": "end"}
    ],
    "edges": [
      {"source": "start", "target": "process"},
      {"source": "process", "target": "end"}
    ]
  }'
"""

#: For machines without the programs that the README takes for granted.
SHIMS = {
    "curl": """\
import sys, urllib.error, urllib.request
method, headers, data, url = None, {}, None, None
words = iter(sys.argv[1:])
for word in words:
    if word == "-X": method = next(words)
    elif word == "-H": name, _, value = next(words).partition(": "); headers[name] = value
    elif word == "-d": data = next(words).encode()
    elif word != "-s": url = word
request = urllib.request.Request(url, data=data, headers=headers, method=method)
try:
    print(urllib.request.urlopen(request).read().decode())
except urllib.error.HTTPError as error:
    print(error.read().decode())
""",
    "jq": "import json, sys\nprint(json.load(sys.stdin)[sys.argv[-1].lstrip('.')])\n",
}


@pytest.fixture(scope="module")
def stack(shared_services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stacks.running(shared_services, tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of stand-ins for what this machine has not got."""
    folder = tmp_path_factory.mktemp("bin")
    for name, source in SHIMS.items():
        if shutil.which(name) is None:
            script = folder / name
            script.write_text(f"#!{sys.executable}\n{source}")
            script.chmod(0o755)
    return folder


class Reader:
    """Somebody at a shell, who reads the README."""

    def __init__(self, stack: Stack, programs: Path) -> None:
        self._stack = stack
        self._path = f"{programs}{os.pathsep}{os.environ['PATH']}"

    def types(self, command: str, **brackets: str) -> Any:
        for name, value in brackets.items():
            assert f"<{name}>" in command
            command = command.replace(f"<{name}>", value)
        done = subprocess.run(
            ["/bin/sh", "-c", command.replace("localhost:8000", self._stack.address)],
            env={**os.environ, "PATH": self._path},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return json.loads(done.stdout)


@pytest.fixture
def reader(stack: Stack, programs: Path) -> Reader:
    return Reader(stack, programs)


def agent(stack: Stack) -> str:
    with stack.client() as client:
        graphs = client.get("/graph/list").json()["graphs"]
    (found,) = (graph for graph in graphs if graph["name"] == "code_review_agent")
    assert len(found["nodes"]) == 8
    graph_id: str = found["graph_id"]
    return graph_id


def test_the_examples_of_the_readme_give_the_documented_answers(reader: Reader) -> None:
    assert reader.types(REGISTER_NODE) == {"status": "registered", "name": "increment"}
    assert reader.types(REGISTER_TOOL) == {"status": "registered", "name": "add_one"}
    created = reader.types(CREATE)
    assert (created["name"], created["node_count"], created["edge_count"]) == ("simple", 3, 2)
    done = reader.types(RUN, graph_id=created["graph_id"])
    assert done["status"] == "completed"
    assert done["final_state"]["data"]["value"] == 2
    assert done["final_state"]["execution_log"]
    started = reader.types(RUN_ASYNC, graph_id=created["graph_id"])
    assert started == {"run_id": started["run_id"], "status": "running"}

    def status() -> str:
        answer = reader.types(STATUS, run_id=started["run_id"])
        assert set(answer) == {"run_id", "status"}
        found: str = answer["status"]
        return found

    wait_until(lambda: status() == "completed", seconds=20, what="the run to complete")
    state = reader.types(STATE, run_id=started["run_id"])
    assert state["current_state"]["data"] == {"value": 1}
    refused = reader.types(CANCEL, run_id=started["run_id"])
    assert refused["detail"] == f"Run not found or not cancellable: {started['run_id']}"


def test_a_background_run_is_cancelled_from_the_shell(reader: Reader, stack: Stack) -> None:
    code = "def waits(state):\n  time.sleep(30)\n  state.set('done', True)\n  return state"
    with stack.client() as client:
        client.post("/nodes/register", json={"name": "waits", "code": code}).raise_for_status()
        body = {
            "nodes": [
                {"name": "start", "type": "start"},
                {"name": "waits", "function": "waits"},
                {"name": "end", "type": "end"},
            ],
            "edges": [
                {"source": "start", "target": "waits"},
                {"source": "waits", "target": "end"},
            ],
        }
        graph = client.post("/graph/create", json=body).json()["graph_id"]
    run_id = reader.types(RUN_ASYNC, graph_id=graph)["run_id"]
    assert reader.types(STATUS, run_id=run_id) == {"run_id": run_id, "status": "running"}
    assert reader.types(CANCEL, run_id=run_id) == {"run_id": run_id, "status": "cancelled"}
    assert reader.types(STATUS, run_id=run_id) == {"run_id": run_id, "status": "cancelled"}
    assert "done" not in reader.types(STATE, run_id=run_id)["current_state"]["data"]


def test_the_code_review_agent_reviews_as_published(reader: Reader, stack: Stack) -> None:
    done = reader.types(REVIEW, graph_id_from_list=agent(stack))
    assert set(done) == {"run_id", "graph_id", "status", "final_state", "execution_log"}
    assert done["status"] == "completed"
    data = done["final_state"]["data"]
    (complexity,) = data["complexity_results"]
    assert (complexity["cyclomatic"], complexity["cognitive"], complexity["lines"]) == (2, 2, 4)
    assert [issue["type"] for issue in data["issues"]] == ["magic_numbers"]
    assert data["quality_score"] == 9.8
    assert {"functions", "suggestions", "improvements_applied"} <= set(data)
    assert done["final_state"]["execution_log"]


def test_the_snippet_that_polls_prints_a_state(reader: Reader, stack: Stack) -> None:
    state = reader.types(POLL, graph_id_from_list=agent(stack))
    assert set(state) == {"run_id", "status", "current_state", "execution_log"}
    assert state["current_state"]["data"]["code"] == "def f():\n    return 1"


def test_a_custom_workflow_is_made_without_naming_its_start(reader: Reader, stack: Stack) -> None:
    code = "def my_function(state):\n  state.set('mine', True)\n  return state"
    with stack.client() as client:
        client.post("/nodes/register", json={"name": "my_function", "code": code})
    created = reader.types(CUSTOM)
    done = reader.types(RUN, graph_id=created["graph_id"])
    assert done["final_state"]["data"] == {"value": 1, "mine": True}


def test_a_websocket_client_sees_every_entry_of_a_run_that_is_under_way(
    reader: Reader, stack: Stack
) -> None:
    run_id = reader.types(
        RUN_ASYNC.replace('"initial_state":{}', '"initial_state":{"code":"def f(): return 11"}'),
        graph_id=agent(stack),
    )["run_id"]
    socket = stack.socket(f"/graph/ws/{run_id}")
    seen = []
    pinging = threading.Thread(target=socket.send, args=("ping",))
    pinging.start()
    pongs = 0
    while True:
        opcode, data = socket.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            break
        if data == b"pong":
            pongs += 1
        else:
            seen.append(json.loads(data))
    pinging.join()
    socket.close()
    assert pongs <= 1
    assert seen == reader.types(STATE, run_id=run_id)["execution_log"]["steps"]
    nodes = {entry["node"] for entry in seen if entry["status"] == "executing"}
    assert {"extract_functions", "check_complexity", "detect_issues"} <= nodes
    for entry in seen:
        # What the README's script prints of each.
        assert all(entry[name] for name in ("node", "status", "message"))
    assert (seen[-1]["node"], seen[-1]["status"]) == ("workflow", "completed")
