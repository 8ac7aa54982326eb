"""`celeriac.Client` over the real API; steps are carried out by a real worker without Celery."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from flask import Flask
from werkzeug.serving import make_server

from celeriac import NodeType, WorkflowGraph, WorkflowState, invoke, testing, tool
from celeriac.client import (
    ApiError,
    Client,
    Conflict,
    Invalid,
    Line,
    LogLine,
    NotFound,
    Unauthenticated,
    Unavailable,
    wire,
)
from celeriac.testing import Fault
from engine import errors
from engine.core import codec
from engine.platform import Platform
from engine.runs import access, turns
from engine.store.ids import RunId
from tests.support.platforms import TENANT
from tests.web.conftest import Working

COUNT = "def count(state):\n    state.set('n', state.get('n', 0) + 1)\n    print('n is', state['n'])\n    return state\n"
LOOP = {
    "workflow": "loop",
    "inputs": {"n": {"type": "integer", "default": 0}},
    "nodes": {"work": {"uses": "count"}},
    "edges": [{"from": "work", "to": "work", "when": "$n < 3", "label": "loop"}, "work -> end"],
}


@pytest.fixture
def key(control: Platform) -> str:
    return access.create_key(control.database, replace(access.LOCAL, user="ada"))


@pytest.fixture
def client(app: Flask, key: str) -> Iterator[Client]:
    with Client("http://127.0.0.1", key, transport=httpx2.WSGITransport(app=app)) as client:
        yield client


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses before another attempt, which take no time here."""
    pauses: list[float] = []
    monkeypatch.setattr(wire.time, "sleep", pauses.append)
    return pauses


class Broken(httpx2.BaseTransport):
    """A way to the app that fails as told before it works."""

    def __init__(
        self, app: Flask, *faults: Exception | httpx2.Response, after: bool = False
    ) -> None:
        self._inner = httpx2.WSGITransport(app=app)
        self._faults = list(faults)
        self._after = after
        self.requests: list[httpx2.Request] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if self._faults:
            if self._after:
                self._inner.handle_request(request)
            fault = self._faults.pop(0)
            if isinstance(fault, Exception):
                raise fault
            return fault
        return self._inner.handle_request(request)


def published(client: Client) -> None:
    client.register_function(COUNT)
    client.publish(LOOP)


# --- what goes wrong --------------------------------------------------------------------------


def test_without_a_credential_there_is_a_clear_error(app: Flask, tmp_path: Path) -> None:
    with (
        Client("http://platform.example", transport=httpx2.WSGITransport(app=app)) as stranger,
        pytest.raises(Unauthenticated) as raised,
    ):
        stranger.run("x")
    assert (raised.value.status, raised.value.title) == (401, "Unauthorized")


def test_every_problem_of_a_document_is_told_with_its_place(client: Client) -> None:
    with pytest.raises(Invalid) as raised:
        client.publish("workflow: x\nnodes:\n  a: {uses: nobody, retries: 3}\n")
    assert raised.value.status == 422
    assert [problem.path for problem in raised.value.problems] == ["nodes.a.retries"]
    assert "nodes.a.retries: there is no field `retries`" in str(raised.value)
    assert isinstance(raised.value, errors.Invalid)


def test_what_does_not_exist_is_not_found(client: Client) -> None:
    for ask in (
        lambda: client.submit("nothing"),
        lambda: client.run("0190c0de-0000-7000-8000-000000000000"),
        lambda: client.run("../runs"),
        lambda: client.workflow("nothing/at all", "1.0.0"),
        lambda: list(client.events("0190c0de-0000-7000-8000-000000000000")),
    ):
        with pytest.raises(NotFound) as raised:
            ask()
        assert raised.value.status == 404
        assert isinstance(raised.value, errors.NotFound)


def test_inputs_that_are_not_json_never_leave(app: Flask, key: str) -> None:
    transport = Broken(app)
    with (
        Client("http://127.0.0.1", key, transport=transport) as client,
        pytest.raises(errors.Invalid, match=r"inputs\.when\[0\].*datetime"),
    ):
        client.submit("loop", {"when": [datetime.now(UTC)]})
    assert transport.requests == []


def test_inputs_that_do_not_fit_are_refused_with_their_path(client: Client) -> None:
    published(client)
    with pytest.raises(Invalid) as raised:
        client.submit("loop", {"n": "1"})
    assert [problem.path for problem in raised.value.problems] == ["inputs.n"]


def test_a_paused_run_goes_on_when_it_is_resumed(client: Client) -> None:
    client.register_function("def noop(state):\n    return state\n")
    version = client.publish(
        {"workflow": "w", "nodes": {"a": {"uses": "noop"}}, "edges": ["a -> end"]}
    )
    run = client.submit(version)
    assert run.pause("look").status in {"queued", "paused"}
    assert run.refresh().status == "paused"
    assert run.resume("seen").status == "running"
    assert [line.kind for line in run.history()].count("PauseRequested") == 1


def test_a_run_that_has_ended_cannot_be_cancelled(client: Client) -> None:
    published(client)
    run = client.submit("loop")
    assert run.cancel("changed my mind").status == "cancelled"
    with pytest.raises(Conflict):
        run.cancel()
    assert run.refresh().message == "changed my mind"


def test_a_platform_that_is_not_there_is_unavailable_after_some_patience(
    no_waiting: list[float],
) -> None:
    with (
        Client("http://127.0.0.1:1", "clr_x") as client,
        pytest.raises(Unavailable, match="celeriac up") as raised,
    ):
        client.run("x")
    assert (raised.value.status, len(no_waiting)) == (None, wire.ATTEMPTS - 1)
    assert no_waiting == sorted(no_waiting)


def test_something_else_at_the_url_is_named_as_such() -> None:
    page = httpx2.MockTransport(lambda _: httpx2.Response(200, text="<html>"))
    with (
        Client("http://127.0.0.1", "x", transport=page) as client,
        pytest.raises(ApiError, match="is this a platform's URL"),
    ):
        client.run("x")


def test_an_error_page_of_a_proxy_is_an_error_of_its_status(no_waiting: list[float]) -> None:
    for status, kind in ((502, Unavailable), (403, ApiError), (500, ApiError)):
        page = httpx2.MockTransport(lambda _, status=status: httpx2.Response(status, text="<html>"))
        with (
            Client("http://127.0.0.1", "x", transport=page) as client,
            pytest.raises(kind) as raised,
        ):
            client.run("x")
        assert raised.value.status == status
    assert len(no_waiting) == wire.ATTEMPTS - 1


# --- what is sent again -----------------------------------------------------------------------


def test_a_submission_whose_answer_is_lost_is_one_run(
    app: Flask, key: str, client: Client, no_waiting: list[float]
) -> None:
    published(client)
    transport = Broken(
        app, httpx2.ReadTimeout("slow"), httpx2.RemoteProtocolError("cut"), after=True
    )
    with Client("http://127.0.0.1", key, transport=transport) as flaky:
        run = flaky.submit("loop")
    sent = {request.headers["Idempotency-Key"] for request in transport.requests[:3]}
    assert len(sent) == 1
    assert [each.id for each in client.runs()] == [run.id]


def test_a_key_of_ones_own_makes_two_submissions_one(client: Client) -> None:
    published(client)
    first, again = (client.submit("loop", {"n": 1}, idempotency_key="k1") for _ in range(2))
    assert first.id == again.id
    with pytest.raises(Invalid, match="another submission"):
        client.submit("loop", {"n": 2}, idempotency_key="k1")


def test_what_writes_without_a_key_is_sent_once(
    app: Flask, key: str, no_waiting: list[float]
) -> None:
    transport = Broken(app, httpx2.ReadTimeout("slow"))
    with (
        Client("http://127.0.0.1", key, transport=transport) as client,
        pytest.raises(Unavailable),
    ):
        client.register_function(COUNT)
    assert len(transport.requests) == 1
    assert no_waiting == []


def test_a_read_waits_as_long_as_the_platform_asks_for(
    app: Flask, key: str, no_waiting: list[float]
) -> None:
    busy = httpx2.Response(503, headers={"Retry-After": "3"}, json={"detail": "later"})
    lost = httpx2.Response(503, headers={"Retry-After": "3600"})
    with Client("http://127.0.0.1", key, transport=Broken(app, busy, lost)) as client:
        assert list(client.workflows()) == []
    assert no_waiting == [3.0, wire.LONGEST_WAIT_SECONDS]


# --- credentials ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "environment", "sent"),
    [
        ("http://127.0.0.1:8000", {}, "Bearer clr_home"),
        ("http://localhost:8000", {}, "Bearer clr_home"),
        ("http://[::1]:8000", {}, "Bearer clr_home"),
        ("http://127.0.0.1:8000", {"CELERIAC_API_KEY": "clr_env"}, "Bearer clr_env"),
        ("http://platform.example", {"CELERIAC_API_KEY": "clr_env"}, "Bearer clr_env"),
        ("http://platform.example", {}, None),
        ("http://127.0.0.1.example", {}, None),
    ],
)
def test_the_embedded_key_goes_to_this_machine_alone(
    url: str,
    environment: dict[str, str],
    sent: str | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "admin.key").write_text("clr_home\n")
    monkeypatch.setenv("CELERIAC_HOME", str(tmp_path))
    monkeypatch.delenv("CELERIAC_API_KEY", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json={"items": [], "next": None})

    with Client(url, transport=httpx2.MockTransport(answer)) as client:
        list(client.tools())
    assert seen[0].headers.get("Authorization") == sent


def test_the_url_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_URL", "https://platform.example/celeriac/")
    seen: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(str(request.url).partition("?")[0])
        return httpx2.Response(200, json={"items": [], "next": None})

    with Client(api_key="x", transport=httpx2.MockTransport(answer)) as client:
        list(client.tools())
    assert seen == ["https://platform.example/celeriac/api/v1/tools"]


# --- what can be asked ------------------------------------------------------------------------


def test_functions_and_tools_are_registered_and_listed(client: Client) -> None:
    @tool(name="sdk_add", description="The sum")
    def add(left: int, right: int = 1) -> int:
        return left + right

    assert client.register_tool(add, effect="idempotent").version == 1
    function = client.register_function(COUNT, description="One more")
    assert (function.name, function.source, function.created_by) == ("count", COUNT, "ada")
    assert client.register_function(COUNT, description="One more").version == 1
    assert client.register_function(COUNT.replace("1", "2")).version == 2
    (listed,) = (each for each in client.tools() if each.name == "sdk_add")
    assert (listed.description, listed.effect, listed.source) == ("The sum", "idempotent", None)
    assert listed.parameters["left"] == {"annotation": "int", "default": None, "required": True}
    assert "count" in {each.name for each in client.functions()}


def test_a_tool_takes_its_terms_along_and_stands_as_it_is_told(client: Client) -> None:
    @tool(
        name="sdk_search",
        parameters={"query": {"type": "string"}},
        required_permissions=["read:documents"],
        cost_estimate_usd=0.01,
        tags=["docs"],
    )
    def search(query: str) -> str:
        return query

    made = client.register_tool(search, requires_approval=True)
    assert (made.version, made.cost_estimate_usd, made.requires_approval) == (1, 0.01, True)
    assert (list(made.required_permissions), list(made.tags)) == (["read:documents"], ["docs"])
    (offered,) = client.get_tools_for_llm(tag="docs")
    assert offered["function"]["parameters"] == made.schema
    client.stand_tool("sdk_search", status="disabled", reason="it broke")
    assert client.get_tools_for_llm(tag="docs") == ()
    (listed,) = (each for each in client.tools() if each.name == "sdk_search")
    assert listed.status == "disabled"
    with pytest.raises(Invalid):
        client.register_tool(search, timeout_seconds=-1)
    with pytest.raises(NotFound):
        client.stand_tool("sdk_missing", status="disabled")


def test_a_workflow_is_published_from_text_file_or_data(client: Client, tmp_path: Path) -> None:
    client.register_function(COUNT)
    path = tmp_path / "loop.yaml"
    path.write_text("workflow: loop\nnodes:\n  work: {uses: count}\nedges: [work -> end]\n")
    first = client.publish(path)
    assert (first.workflow, first.version) == ("loop", "1.0.0")
    assert client.publish(path.read_text()).version == "1.0.0"
    second = client.publish(LOOP)
    assert second.version == "1.0.1"
    assert client.workflow("loop").id == second.id
    assert client.workflow("loop", "1.0.0").document == first.document
    assert [version.version for version in client.workflows()] == ["1.0.1"]
    assert client.submit(first).version == "1.0.0"
    assert client.submit("loop", version="1.0.0").version_id == first.id


def test_a_run_is_followed_from_submission_to_end(client: Client, working: Working) -> None:
    published(client)
    run = client.submit("loop", {"n": 1})
    assert (run.status, run.ended, run.submitted_by) == ("queued", False, "ada")
    with working() as work:
        work(run.id)
    done = run.wait()
    assert (done.status, done.reason, done.variables) == ("completed", "end", {"n": 3})
    assert done.pins == {"function:count": 1}
    steps = list(run.steps())
    assert [step.key for step in steps] == ["work#1", "work#2", "end#1"]
    assert [attempt.outcome for attempt in steps[0].attempts] == ["succeeded"]
    assert run.result("work#2").patch == {"n": 3}
    assert [line.text for line in run.logs("work#1")] == ["n is 2"]
    lines = list(run.history())
    assert [line.seq for line in lines] == list(range(1, done.seq + 1))
    assert lines[0].payload is None
    assert next(run.history(payloads=True)).payload == {"inputs": {"n": 1}}
    assert [line.seq for line in run.history(after=5)] == list(range(6, done.seq + 1))
    assert [point.step for point in run.checkpoints()][:2] == ["work#1", "work#2"]
    assert run.calls() == ()


def test_long_lists_are_read_to_their_end(
    client: Client,
    working: Working,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("celeriac.client.client._PAGE", 2)
    published(client)
    submitted = [client.submit("loop", {"n": 3}).id for _ in range(5)]
    assert [run.id for run in client.runs()] == submitted[::-1]
    assert next(client.runs(status="queued,running", workflow="loop")).variables is None
    assert list(client.runs(status="failed")) == []
    with working() as work:
        work(submitted[0])
    run = client.run(submitted[0])
    assert [line.seq for line in run.history()] == list(range(1, run.seq + 1))


def test_waiting_has_an_end(client: Client) -> None:
    published(client)
    run = client.submit("loop")
    with pytest.raises(TimeoutError, match=f"{run.id} has not ended within 0 seconds"):
        run.wait(timeout=0)


def test_waiting_goes_on_when_too_many_wait_already(
    app: Flask, key: str, client: Client, no_waiting: list[float]
) -> None:
    published(client)
    run = client.submit("loop")
    client.cancel(run.id)
    full = [httpx2.Response(503, json={"detail": "no place left"}) for _ in range(wire.ATTEMPTS)]
    with Client("http://127.0.0.1", key, transport=Broken(app, *full)) as patient:
        assert patient.wait(run.id).status == "cancelled"


# --- streams ----------------------------------------------------------------------------------


@pytest.fixture
def served(app: Flask, key: str) -> Iterator[Client]:
    """A client of a server on a port of its own: streams arrive as they are written."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, name="served", daemon=True)
    thread.start()
    try:
        with Client(f"http://127.0.0.1:{server.server_port}", key) as client:
            yield client
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_stream_tells_all_of_a_run_as_it_happens(
    served: Client, control: Platform, working: Working
) -> None:
    published(served)
    run = served.submit("loop")
    turns.take_turns(control, [RunId(TENANT, run.id)])
    events = run.events()
    first = next(events)
    assert isinstance(first.told, Line)
    assert first.told.kind == "RunSubmitted"
    with working() as work:
        work(run.id)
    rest = [event.told for event in events]
    lines = [told for told in rest if isinstance(told, Line)]
    assert [line.seq for line in lines] == list(range(2, run.refresh().seq + 1))
    assert [told.text for told in rest if isinstance(told, LogLine)] == [
        "n is 1",
        "n is 2",
        "n is 3",
    ]
    assert list(run.events(after=f"{lines[-1].seq}")) == []
    assert all(isinstance(event.told, Line) for event in run.events(logs=False))


def test_a_broken_stream_is_taken_up_where_it_broke(
    key: str,
    served: Client,
    working: Working,
    no_waiting: list[float],
) -> None:
    published(served)
    run = served.submit("loop")
    with working() as work:
        work(run.id)
    whole = [event.id for event in run.events()]

    class Cutting(httpx2.HTTPTransport):
        """Lets a little more of a stream through each time."""

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            response = super().handle_request(request)
            if request.url.path.endswith("/events"):
                taken.append(request.headers.get("Last-Event-ID"))
                response.stream = _Cut(response.stream, events=2)
            return response

    taken: list[str | None] = []
    with Client(str(served._wire._url), key, transport=Cutting()) as cut:
        assert [event.id for event in cut.events(run.id)] == whole
    assert taken[:3] == [None, whole[1], whole[3]]


def test_a_stream_that_never_comes_back_is_given_up(no_waiting: list[float]) -> None:
    quiet = httpx2.MockTransport(
        lambda _: httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, text="")
    )
    with (
        Client("http://127.0.0.1", "x", transport=quiet) as client,
        pytest.raises(Unavailable, match="ended before the run"),
    ):
        list(client.events("x"))
    assert len(no_waiting) == wire.ATTEMPTS - 1


class _Cut(httpx2.SyncByteStream):
    """A stream of events that breaks after some."""

    def __init__(self, inner: Any, *, events: int) -> None:
        self._inner = inner
        self._left = events

    def __iter__(self) -> Iterator[bytes]:
        held = b""
        for chunk in self._inner:
            held += chunk
            while b"\n\n" in held:
                event, _, held = held.partition(b"\n\n")
                if self._left == 0:
                    raise httpx2.ReadError("cut")
                self._left -= b"data: " in event
                yield event + b"\n\n"

    def close(self) -> None:
        self._inner.close()


# --- Python graphs ----------------------------------------------------------------------------

LIMIT = 3


def count(state: WorkflowState) -> WorkflowState:
    """One more, by a tool."""
    state.set("counter", invoke("add", state.get("counter", 0), 1))
    return state


def more(state: WorkflowState) -> bool:
    return bool(state["counter"] < 3)


def uses_what_is_around_it(state: WorkflowState) -> None:
    wanted: Client = state["n"]
    state["n"] = LIMIT + len([more for more in range(3)]) + bool(wanted)  # noqa: C416


async def is_asynchronous(state: WorkflowState) -> None: ...


def python_graph() -> WorkflowGraph:
    graph = WorkflowGraph(name="counting")
    graph.add_node("start", node_type=NodeType.START)
    graph.add_node("loop", func=count, node_type=NodeType.LOOP, condition=more, max_iterations=10)
    graph.add_node("end", node_type=NodeType.END)
    graph.add_edge("start", "loop")
    graph.add_edge("loop", "end")
    return graph


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (uses_what_is_around_it, "LIMIT is defined outside of it"),
        (is_asynchronous, "it is asynchronous"),
        (lambda state: state, "it is not defined with def"),
        (len, "its source cannot be found"),
        (LOOP.get, "its source cannot be found"),
    ],
)
def test_a_function_that_would_miss_something_there_is_not_sent(
    function: Callable[..., Any], complaint: str, client: Client
) -> None:
    graph = WorkflowGraph()
    graph.add_node("work", func=function)
    graph.add_node("end", node_type=NodeType.END)
    graph.add_edge("work", "end")
    with pytest.raises(errors.Invalid) as raised:
        client.publish(graph)
    assert complaint in raised.value.problems[0].message
    assert len(raised.value.problems) == 1


def test_a_python_graph_does_on_the_platform_what_it_does_here(
    client: Client, working: Working
) -> None:
    graph = python_graph()
    client.register_tool("def add(left, right):\n    return left + right\n")
    version = client.publish(graph)
    run = client.submit(version)
    with working() as work:
        work(run.id)
    done = run.refresh()
    here = testing.run(graph, tools={"add": lambda left, right: left + right})
    assert done.variables == here.variables == {"counter": 3}, done.message
    assert [decided(line.kind, line.body) for line in run.history()] == [
        decided(type(entry.record).__name__, json.loads(codec.seal(entry.record).body))
        for entry in here.history
    ]
    assert [call.arguments for call in run.calls()] == [
        {"args": list(call.args), "kwargs": {}} for call in here.calls
    ]


def test_a_failure_is_the_same_here_and_there(client: Client, working: Working) -> None:
    document = {
        "workflow": "failing",
        "nodes": {"work": {"uses": "fail"}},
        "edges": ["work -> end"],
    }
    client.register_function("def fail(state):\n    raise ValueError('no')\n")
    client.publish(document)
    run = client.submit("failing")
    with working() as work:
        work(run.id)
    here = testing.run(
        document, faults=[Fault(node="work", message="x")], functions={"fail": count}
    )
    done = run.refresh()
    assert (done.status, done.reason) == (here.status, here.reason) == ("failed", "error")
    assert done.ended_step == "work#1"
    assert "ValueError: no (line 2 of fail" in str(done.message)


def decided(kind: str, body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A line of history without what a lease, a user or a database has put into it."""
    others = {"digest", "fence", "usage", "by", "pins", "version"}
    return kind, {name: value for name, value in body.items() if name not in others}
