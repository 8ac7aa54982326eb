"""Whatever is wrong with a request is a clear 4xx that names the field, and nothing is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from engine.platform import Platform
from engine.runs import launch, turns
from engine.settings import Settings
from engine.store import session
from engine.store.tables import metadata
from tests.support import platforms, site
from tests.support.services import Services
from tests.support.site import Api
from web import pagination

#: A block that must leave every table as it was.
Watch = Callable[[], AbstractContextManager[None]]

ZERO = "00000000-0000-7000-8000-000000000000"

#: Routes that take JSON, each with a body that is accepted as it stands.
SOURCE = {"name": "fine", "code": "def fine(state):\n    return state"}
GRAPH = {
    "name": "g",
    "nodes": [{"name": "start", "type": "start"}, {"name": "end", "type": "end"}],
    "edges": [{"source": "start", "target": "end"}],
}
DOCUMENT = {"workflow": "w", "nodes": {"a": {"uses": "noop"}}, "edges": ["a -> end"]}
SERVICE = {"name": "s", "kind": "mcp", "config": {"url": "https://tools.example.com/mcp"}}
ROUTES: dict[str, dict[str, Any]] = {
    "/nodes/register": SOURCE,
    "/tools/register": SOURCE,
    "/graph/create": GRAPH,
    "/graph/run": {"graph_id": ZERO, "initial_state": {}},
    "/graph/run_async": {"graph_id": ZERO, "initial_state": {}},
    "/api/v1/workflows": DOCUMENT,
    "/api/v1/runs": {"workflow": "line", "inputs": {}},
    "/api/v1/functions": SOURCE,
    "/api/v1/tools": SOURCE,
    "/api/v1/services": SERVICE,
    "/api/v1/runs/RUN/cancel": {"reason": "enough"},
    "/api/v1/runs/RUN/replay": {"version": "1.0.0"},
}

#: JSON that somebody's parser or database chokes on (reliability.md 5.1), and what is said of it.
POISON: dict[str, tuple[str, str]] = {
    "NUL in a text": (r'"a\u0000b"', "NUL"),
    "NUL alone": (r'"\u0000"', "NUL"),
    "a lone high surrogate": (r'"\ud800"', "surrogate"),
    "a lone low surrogate": (r'"x\udfffy"', "surrogate"),
    "surrogates the wrong way round": (r'"\udc00\ud800"', "surrogate"),
    "NUL in a key": (r'{"a\u0000": 1}', "NUL"),
    "a surrogate in a key": (r'{"\ud800": 1}', "surrogate"),
    "NaN": ("NaN", "NaN"),
    "Infinity": ("Infinity", "Infinity"),
    "minus Infinity": ("-Infinity", "Infinity"),
    "a number beyond floats": ("1e999", "not finite"),
    "a numeric beyond Postgres": ("1e131072", "not finite"),
    "a minus number beyond floats": ("-1e999", "not finite"),
    "an integer of 5000 digits": ("9" * 5000, "64 bits"),
    "an integer of 4000 digits": ("9" * 4000, "64 bits"),
    "2 to the 63": (str(2**63), "64 bits"),
    "minus 2 to the 63, less 1": (str(-(2**63) - 1), "64 bits"),
    "nesting of 5000 lists": ("[" * 5000 + "]" * 5000, "deep"),
    "nesting of 100 000 lists": ("[" * 100_000 + "]" * 100_000, "deep"),
    "nesting of 5000 objects": ('{"a":' * 5000 + "1" + "}" * 5000, "deep"),
    "nesting one too deep": ("[" * 64 + "]" * 64, "deep"),
    "a key given twice": ('{"a": 1, "a": 2}', "twice"),
    "a key given twice, far inside": ('[[{"b": {"a": 1, "a": 1}}]]', "twice"),
    "poison among much that is fine": (r'[1, 2, {"a": ["x", "\u0000"]}]', "NUL"),
}

#: Bodies that are no JSON value at all.
GARBAGE: dict[str, tuple[bytes, str]] = {
    "nothing but space": (b"  \n", "empty"),
    "a sentence": (b"hello", "not JSON"),
    "half an object": (b'{"name": "x"', "not JSON"),
    "two values": (b"{} {}", "not JSON"),
    "a trailing comma": (b'{"name": "x",}', "not JSON"),
    "single quotes": (b"{'name': 'x'}", "not JSON"),
    "a comment": (b'{"name": "x"} // fine', "not JSON"),
    "a literal newline in a text": (b'{"name": "a\nb"}', "not JSON"),
    "no UTF-8": (b'{"name": "\xff\xfe\xfa"}', "UTF-8"),
    "a binary": (bytes(range(256)), "JSON"),
}

#: JSON values that are no object.
SHAPES = ["[]", "null", "true", "1", "1.5", '"text"', '[{"name": "x"}]']


# All of it is asked of one platform: nothing that is refused may leave a trace there.


@pytest.fixture(scope="module")
def own(shared_services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with site.of_its_own(shared_services, tmp_path_factory.mktemp("home")) as settings:
        yield settings


@pytest.fixture(scope="module")
def control(own: Settings) -> Iterator[Platform]:
    with site.controlled(site.local(own)) as platform:
        platforms.register(platform, "noop")
        yield platform


@pytest.fixture(scope="module")
def api(control: Platform) -> Iterator[Api]:
    with site.served(control) as app:
        yield site.member(app, control)


@pytest.fixture(scope="module")
def run(control: Platform) -> str:
    """A run that is under way."""
    version = platforms.publish(control, dict(platforms.LINE))
    submitted = launch.submit(control, "local", version, {}, by="ada").run
    turns.take_turns(control, [submitted])
    return submitted.run


@pytest.fixture(scope="module")
def counts(own: Settings) -> Iterator[Callable[[], dict[str, int]]]:
    """How many rows there are in each table."""
    owner = session.connect(own.database_url)

    def count() -> dict[str, int]:
        with session.transaction(owner) as connection:
            return {
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in metadata.sorted_tables
            }

    yield count
    owner.dispose()


@pytest.fixture
def nothing_stored(counts: Callable[[], dict[str, int]]) -> Watch:
    """The block must leave every table as it was."""

    @contextmanager
    def watched() -> Iterator[None]:
        before = counts()
        yield
        assert counts() == before

    return watched


def refused(response: TestResponse, *statuses: int) -> str:
    """All that a refusal says, after a look at its form."""
    text = response.get_data(as_text=True)
    assert response.status_code in (statuses or range(400, 500)), text
    assert "Traceback" not in text
    assert 'File "' not in text
    found = response.get_json()
    assert isinstance(found["detail"], str)
    assert found["detail"]
    if response.request.path.startswith("/api/"):
        assert response.content_type == "application/problem+json"
        assert found["status"] == response.status_code
    else:
        assert found["error"]
    for problem in found.get("errors", ()):
        assert set(problem) == {"path", "message", "remedy"}
    return text


def send(api: Api, path: str, data: bytes | str, run: str, **options: Any) -> TestResponse:
    content_type = options.pop("content_type", "application/json")
    place = path.replace("RUN", run)
    return api.post(place, data=data, content_type=content_type, **options)


# --- every writable route ----------------------------------------------------------------------


@pytest.mark.parametrize("path", ROUTES)
def test_no_json_that_cannot_be_stored_enters(
    api: Api, run: str, nothing_stored: Watch, path: str
) -> None:
    good = ROUTES[path]
    with nothing_stored():
        for name, (poison, word) in POISON.items():
            inside = json.dumps(good)[:-1] + f', "poison": {poison}}}'
            said = refused(send(api, path, inside, run), 422)
            assert word in said, f"{name}: {said}"


@pytest.mark.parametrize("path", ROUTES)
def test_every_field_is_read_strictly(api: Api, run: str, nothing_stored: Watch, path: str) -> None:
    """The same poison in the place of each field that there is."""
    good = ROUTES[path]
    with nothing_stored():
        for field in good:
            for name, (poison, word) in POISON.items():
                spoilt = ", ".join(
                    f'"{other}": {poison if other == field else json.dumps(value)}'
                    for other, value in good.items()
                )
                said = refused(send(api, path, f"{{{spoilt}}}", run), 422)
                assert word in said, f"{field}, {name}: {said}"


@pytest.mark.parametrize("path", ROUTES)
def test_what_is_no_json_is_refused(api: Api, run: str, nothing_stored: Watch, path: str) -> None:
    with nothing_stored():
        for name, (data, word) in GARBAGE.items():
            said = refused(send(api, path, data, run), 422)
            assert word in said, f"{name}: {said}"


@pytest.mark.parametrize("path", ROUTES)
def test_what_is_no_object_is_refused(api: Api, run: str, nothing_stored: Watch, path: str) -> None:
    with nothing_stored():
        for data in SHAPES:
            said = refused(send(api, path, data, run), 422)
            assert "object" in said, f"{data}: {said}"


@pytest.mark.parametrize("path", ROUTES)
def test_an_unknown_field_is_named(api: Api, run: str, nothing_stored: Watch, path: str) -> None:
    for field in ("tenant", "role", "status", "nmae", "__proto__"):
        with nothing_stored():
            response = send(api, path, json.dumps({**ROUTES[path], field: "x"}), run)
            refused(response, 422)
            assert field in [problem["path"] for problem in response.json["errors"]]


@pytest.mark.parametrize("path", ROUTES)
def test_every_field_has_a_type(api: Api, run: str, nothing_stored: Watch, path: str) -> None:
    """Each field with a value of every other type: never a 500, and the field is named."""
    good = ROUTES[path]
    wrong = (None, True, 7, 1.5, "", "text", [], [1], {}, {"a": 1})
    with nothing_stored():
        for field, right in good.items():
            for value in wrong:
                if isinstance(value, type(right)) or (value is None and field == "start_node"):
                    continue
                response = send(api, path, json.dumps({**good, field: value}), run)
                said = refused(response, 400, 422)
                assert any(
                    problem["path"].startswith(field) for problem in response.json["errors"]
                ), f"{field} = {value!r}: {said}"


@pytest.mark.parametrize("path", ROUTES)
def test_a_field_that_is_needed_is_asked_for(
    api: Api, run: str, nothing_stored: Watch, path: str
) -> None:
    needed = {
        "/nodes/register": {"name", "code"},
        "/tools/register": {"name", "code"},
        "/api/v1/functions": {"name", "code"},
        "/api/v1/tools": {"name", "code"},
        "/api/v1/services": {"name", "kind", "config"},
        "/graph/create": {"nodes", "edges"},
        "/graph/run": {"graph_id"},
        "/graph/run_async": {"graph_id"},
        "/api/v1/workflows": {"workflow", "nodes"},
        "/api/v1/runs": {"workflow"},
    }.get(path, set())
    with nothing_stored():
        for field in needed:
            body = {name: value for name, value in ROUTES[path].items() if name != field}
            response = send(api, path, json.dumps(body), run)
            refused(response, 422)
            assert field in [problem["path"] for problem in response.json["errors"]]


@pytest.mark.parametrize("path", ROUTES)
def test_other_media_types_are_refused(
    api: Api, run: str, nothing_stored: Watch, path: str
) -> None:
    good = json.dumps(ROUTES[path])
    others = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
    with nothing_stored():
        for other in [*others, "application/xml", "application/octet-stream"]:
            said = refused(send(api, path, good, run, content_type=other), 415)
            assert "application/json" in said


@pytest.mark.parametrize("path", ROUTES)
def test_a_compressed_body_is_refused(api: Api, run: str, nothing_stored: Watch, path: str) -> None:
    with nothing_stored():
        for encoding in ("gzip", "br", "deflate"):
            headers = {"Content-Encoding": encoding}
            refused(send(api, path, b"\x1f\x8b\x08\x00", run, headers=headers), 415)


@pytest.mark.parametrize("path", ROUTES)
def test_a_body_beyond_the_limit_is_refused(
    api: Api, run: str, nothing_stored: Watch, path: str
) -> None:
    with nothing_stored():
        for size in (1_048_577, 50_000_000):
            said = refused(send(api, path, b'{"a": "' + b"x" * size + b'"}', run), 413)
            assert "larger" in said


@pytest.mark.parametrize("path", ROUTES)
def test_a_method_that_an_address_does_not_take_is_refused(api: Api, run: str, path: str) -> None:
    for method in ("PUT", "PATCH", "DELETE"):
        response = api.send(method, path.replace("RUN", run), json=ROUTES[path])
        refused(response, 405)
        assert "POST" in response.headers["Allow"]


# --- source ------------------------------------------------------------------------------------

SOURCES: dict[str, tuple[dict[str, Any], str]] = {
    "20 001 characters": (
        {"name": "f", "code": "def f(state):\n    pass\n" + "#" * 19_978},
        "20",
    ),
    "an import": ({"name": "f", "code": "import os\ndef f(state):\n    return os"}, "Import"),
    "an import from": (
        {"name": "f", "code": "from os import path\ndef f(s):\n    return s"},
        "Import",
    ),
    "an import inside": (
        {"name": "f", "code": "def f(s):\n    import os\n    return s"},
        "Import",
    ),
    "__import__": ({"name": "f", "code": "def f(s):\n    return __import__('os')"}, "__import__"),
    "a walk over dunders": (
        {"name": "f", "code": "def f(s):\n    return ().__class__.__bases__"},
        "__class__",
    ),
    "no Python": ({"name": "f", "code": "def f(state:\n"}, "code"),
    "no function": ({"name": "f", "code": "f = 1"}, "function"),
    "an empty source": ({"name": "f", "code": ""}, "code"),
    "an empty name": ({"name": "", "code": "def f(s):\n    return s"}, "name"),
    "a name with spaces": ({"name": "a b", "code": "def f(s):\n    return s"}, "name"),
    "a name that is a path": ({"name": "../f", "code": "def f(s):\n    return s"}, "name"),
    "a name that is very long": ({"name": "f" * 300, "code": "def f(s):\n    return s"}, "name"),
    "source that is nested beyond measure": (
        {"name": "f", "code": "def f(s):\n    return " + "(" * 9000 + "1" + ")" * 9000},
        "code",
    ),
    "source that is one long sum": (
        {"name": "f", "code": "def f(s):\n    return " + "+".join("1" * 9000)},
        "code",
    ),
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nodes/register", 400),
        ("/tools/register", 400),
        ("/api/v1/functions", 422),
        ("/api/v1/tools", 422),
    ],
)
def test_source_that_cannot_be_registered_is_refused(
    api: Api, nothing_stored: Watch, path: str, status: int, name: str
) -> None:
    body, word = SOURCES[name]
    with nothing_stored():
        response = api.post(path, json=body)
        said = refused(response, status)
        assert word in said
        assert {problem["path"].partition(".")[0] for problem in response.json["errors"]} <= {
            "name",
            "code",
        }


def test_an_import_is_refused_in_the_words_of_seed_000(api: Api) -> None:
    body = {"name": "f", "code": "import os\ndef f(state):\n    return state"}
    response = api.post("/nodes/register", json=body)
    assert response.status_code == 400
    assert "Import statements are not allowed in dynamic code" in response.json["detail"]


# --- graphs ------------------------------------------------------------------------------------


def graph(nodes: list[dict[str, Any]] | None = None, edges: Any = None, **more: Any) -> dict:
    return {
        **GRAPH,
        **({"nodes": nodes} if nodes is not None else {}),
        **({"edges": edges} if edges is not None else {}),
        **more,
    }


START, END = {"name": "start", "type": "start"}, {"name": "end", "type": "end"}
A = {"name": "a", "type": "standard", "function": "noop"}


def edge(source: str, target: str, **more: Any) -> dict[str, Any]:
    return {"source": source, "target": target, **more}


GRAPHS: dict[str, tuple[dict[str, Any], str]] = {
    "no end": (graph([START, A], [edge("start", "a")]), "Graph missing end node"),
    "no nodes": (graph([], []), "Graph missing"),
    "a start that is not there": (graph(start_node="nope"), "Start node not found: nope"),
    "a dangling source": (
        graph(edges=[edge("start", "end"), edge("ghost", "end")]),
        "ghost",
    ),
    "a dangling target": (
        graph(edges=[edge("start", "end"), edge("start", "ghost")]),
        "ghost",
    ),
    "an unreachable node": (
        graph([START, {"name": "z"}, END], [edge("start", "end")]),
        "Unreachable nodes: z",
    ),
    "a cycle without a loop edge": (
        graph([START, A, END], [edge("start", "a"), edge("a", "start"), edge("a", "end")]),
        "Cycle detected in graph",
    ),
    "an unknown function": (
        graph([START, {**A, "function": "nobody"}, END], [edge("start", "a"), edge("a", "end")]),
        "Function not found: nobody",
    ),
    "an unknown condition of an edge": (
        graph([START, A, END], [edge("start", "a"), edge("a", "end", condition="nobody")]),
        "nobody",
    ),
    "an unknown condition of a node": (
        graph(
            [START, {"name": "a", "type": "conditional", "condition": "nobody"}, END],
            [edge("start", "a"), edge("a", "end")],
        ),
        "nobody",
    ),
    "an unknown type": (
        graph([START, {"name": "a", "type": "magic"}, END], [edge("start", "a"), edge("a", "end")]),
        "magic",
    ),
    "two nodes of one name": (graph([START, END, END]), "end"),
    "a bound of zero": (
        graph([START, {**A, "max_iterations": 0}, END], [edge("start", "a"), edge("a", "end")]),
        "max_iterations",
    ),
    "a bound below zero": (
        graph([START, {**A, "max_iterations": -5}, END], [edge("start", "a"), edge("a", "end")]),
        "max_iterations",
    ),
    "a bound beyond measure": (
        graph([START, {**A, "max_iterations": 2**62}, END], [edge("start", "a"), edge("a", "end")]),
        "max_iterations",
    ),
    "a name that is no name": (graph(name="a/b"), "name"),
    "a name beyond measure": (graph(name="g" * 500), "name"),
    "an empty node name": (graph([START, {"name": ""}, END]), "name"),
    "100 000 nodes": (graph([START, END, *({"name": f"n{n}"} for n in range(30_000))]), "nodes"),
    "100 000 edges": (graph(edges=[edge("start", "end")] * 20_000), "edges"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_cannot_run_is_refused(
    api: Api, control: Platform, nothing_stored: Watch, name: str
) -> None:
    body, word = GRAPHS[name]
    with nothing_stored():
        response = api.post("/graph/create", json=body)
        said = refused(response, 400)
        assert word in said
        assert response.json["errors"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nodes[0].max_iterations", {"name": "start", "max_iterations": "many"}),
        ("nodes[0].max_iterations", {"name": "start", "max_iterations": True}),
        ("nodes[0].max_iterations", {"name": "start", "max_iterations": 1.5}),
        ("nodes[0].name", {"name": 7}),
        ("nodes[0].name", {"type": "start"}),
        ("nodes[0].function", {"name": "start", "function": ["f"]}),
        ("nodes[0].type", {"name": "start", "type": None}),
        ("nodes[0].colour", {"name": "start", "colour": "red"}),
        ("nodes[0]", "start"),
    ],
)
def test_a_node_of_a_wrong_form_is_named(
    api: Api, nothing_stored: Watch, field: str, value: Any
) -> None:
    with nothing_stored():
        response = api.post("/graph/create", json=graph([value, END]))
        refused(response, 422)
        assert [problem["path"] for problem in response.json["errors"]] == [field]


def test_everything_that_is_wrong_is_said_at_once(api: Api) -> None:
    body = {"name": 1, "nodes": [{"type": 2}, {"name": "b", "x": 1}], "edges": [{"source": "a"}]}
    response = api.post("/graph/create", json=body)
    refused(response, 422)
    assert {problem["path"] for problem in response.json["errors"]} == {
        "name",
        "nodes[0].name",
        "nodes[0].type",
        "nodes[1].x",
        "edges[0].target",
    }


# --- documents ---------------------------------------------------------------------------------


def document(**more: Any) -> dict[str, Any]:
    return {**DOCUMENT, **more}


DOCUMENTS: dict[str, tuple[Any, str]] = {
    "an unknown function": (document(nodes={"a": {"uses": "nobody"}}), "nodes.a.uses"),
    "a dangling edge": (document(edges=["a -> nowhere -> end"]), "edges"),
    "an unreachable node": (
        document(nodes={"a": {"uses": "noop"}, "zz": {"uses": "noop"}}),
        "nodes.zz",
    ),
    "no end": (document(edges=["a -> a"]), "edges"),
    "no nodes": (document(nodes={}), "nodes"),
    "a kind without its fields": (document(nodes={"a": {"kind": "llm"}}), "nodes.a.prompt"),
    "a kind of never": (document(nodes={"a": {"kind": "magic"}}), "nodes.a.kind"),
    "an unknown field": (document(nodes={"a": {"uses": "noop", "retries": 3}}), "nodes.a.retries"),
    "a wrong timeout": (document(nodes={"a": {"uses": "noop", "timeout": "soon"}}), "timeout"),
    "a wrong retry": (
        document(nodes={"a": {"uses": "noop", "retry": {"attempts": 0}}}),
        "retry.attempts",
    ),
    "a wrong version": (document(version="one"), "version"),
    "a version beyond measure": (document(version="9999999999999.0.0"), "version"),
    "an expression that is none": (
        document(edges=[{"from": "a", "to": "end", "when": "$x >"}]),
        "edges[0].when",
    ),
    "an expression with an attribute walk": (
        document(edges=[{"from": "a", "to": "end", "when": "().__class__"}]),
        "edges[0].when",
    ),
    "a million parentheses": (
        document(edges=[{"from": "a", "to": "end", "when": "(" * 500_000 + "1" + ")" * 500_000}]),
        "edges[0].when",
    ),
    "a million minus signs": (
        document(edges=[{"from": "a", "to": "end", "when": "-" * 1_000_000 + "1"}]),
        "edges[0].when",
    ),
    "a schema that is none": (document(inputs={"n": {"type": "numbre"}}), "inputs.n"),
    "a schema that reaches out": (
        document(inputs={"n": {"$ref": "http://127.0.0.1/x"}}),
        "inputs.n",
    ),
    "too many nodes": (
        document(nodes={f"n{n}": {"uses": "noop"} for n in range(1001)}, edges=[]),
        "nodes",
    ),
    "too many steps": (document(limits={"steps": 10**9}), "limits.steps"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_that_is_not_valid_is_refused(
    api: Api, control: Platform, nothing_stored: Watch, name: str
) -> None:
    body, path = DOCUMENTS[name]
    with nothing_stored():
        response = api.post("/api/v1/workflows", json=body)
        refused(response, 422)
        assert any(path in problem["path"] for problem in response.json["errors"])


YAML: dict[str, bytes] = {
    "no YAML": b"workflow: [a\n",
    "an alias": b"workflow: w\nnodes: {a: &x {uses: noop}, b: *x}\n",
    "a billion laughs": b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
    "a tag": b"workflow: !!python/object:os.system w\n",
    "two documents": b"workflow: a\n---\nworkflow: b\n",
    "a key given twice": b"workflow: a\nworkflow: b\n",
    "nesting beyond measure": b"workflow: " + b"[" * 10_000,
    "deep flow": b"[" * 5000 + b"]" * 5000,
    "NUL": b"workflow: a\x00b\n",
    "no UTF-8": b"workflow: \xff\n",
    "a bare text": b"hello",
    "a list": b"- a\n- b\n",
    "nothing": b"",
    "a huge integer": b"workflow: " + b"9" * 5000,
}


@pytest.mark.parametrize("name", YAML)
def test_yaml_that_is_not_a_document_is_refused(api: Api, nothing_stored: Watch, name: str) -> None:
    with nothing_stored():
        response = api.post("/api/v1/workflows", data=YAML[name], content_type="application/yaml")
        refused(response, 422)


# --- runs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "graph_id", [ZERO, "nope", "", "x" * 300, f"{{{ZERO}}}", "../../etc/passwd", ZERO[:-1]]
)
@pytest.mark.parametrize("path", ["/graph/run", "/graph/run_async"])
def test_an_unknown_graph_is_not_found(
    api: Api, nothing_stored: Watch, path: str, graph_id: str
) -> None:
    with nothing_stored():
        response = api.post(path, json={"graph_id": graph_id, "initial_state": {}})
        refused(response, 404)
        assert response.json["detail"] == f"Graph not found: {graph_id}"


@pytest.mark.parametrize("run_id", [ZERO, "nope", "%00", "x" * 300, "%ff%fe", "..%2f..%2f", "'--"])
def test_an_unknown_run_is_not_found(api: Api, nothing_stored: Watch, run_id: str) -> None:
    with nothing_stored():
        for path in ("status", "state"):
            refused(api.get(f"/graph/{path}/{run_id}"), 404, 422)
        refused(api.post(f"/graph/cancel/{run_id}"), 404, 422)
        refused(api.get(f"/graph/{run_id}"), 404, 422)
        place = f"/api/v1/runs/{run_id}"
        for below in ("", "/steps", "/steps/a%231", "/steps/a%231/result", "/history", "/logs"):
            refused(api.get(place + below), 404, 422)
        for below in ("/attempts", "/calls", "/checkpoints", "/checkpoints/1", "/events", "/wait"):
            refused(api.get(place + below), 404, 422)
        for below in ("/executions", f"/executions/{run_id}:a:1:1", "/timeline"):
            refused(api.get(place + below), 404, 422)
        for below in ("/cancel", "/terminate", "/steps/a%231/skip", "/steps/a%231/retry"):
            refused(api.post(place + below, json={}), 404, 422)
        refused(api.post(f"{place}/retry"), 404, 422)


def test_what_is_no_id_is_told_as_seed_000_would(api: Api) -> None:
    assert api.get("/graph/status/nope").json["detail"] == "Run not found: nope"
    assert api.get("/graph/state/nope").json["detail"] == "Run not found: nope"
    assert api.get("/graph/nope").json["detail"] == "Graph not found: nope"
    assert api.post("/graph/cancel/nope").json["detail"] == "Run not found or not cancellable: nope"


RUNS: dict[str, tuple[dict[str, Any], str, int]] = {
    "an unknown workflow": ({"workflow": "nobody"}, "nobody", 404),
    "an unknown version": ({"workflow": "line", "version": "9.9.9"}, "9.9.9", 404),
    "a version that is none": ({"workflow": "line", "version": "\t"}, "version", 422),
    "an unknown id": ({"version_id": ZERO}, ZERO, 404),
    "an id that is none": ({"version_id": "1 or 1=1"}, "1 or 1=1", 404),
    "neither": ({"inputs": {}}, "workflow", 422),
    "both": ({"workflow": "line", "version_id": ZERO}, "workflow", 422),
    "a version of an id": ({"version_id": ZERO, "version": "1.0.0"}, "version", 422),
    # Too many to be moved out of the way: each is smaller than a reference to it.
    "inputs beyond measure": (
        {"workflow": "line", "inputs": {f"v{n}": n for n in range(30_000)}},
        "262144 are allowed",
        422,
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_cannot_be_is_refused(
    api: Api, run: str, nothing_stored: Watch, name: str
) -> None:
    body, word, status = RUNS[name]
    with nothing_stored():
        assert word in refused(api.post("/api/v1/runs", json=body), status)


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "é" * 300, "a\tb", "x" * 4000], ids=range(6))
@pytest.mark.parametrize("path", ["/api/v1/runs", "/graph/run_async"])
def test_an_idempotency_key_beyond_measure_is_refused(
    api: Api, run: str, nothing_stored: Watch, path: str, key: str
) -> None:
    version = api.get("/graph/list").json["graphs"][0]["graph_id"]
    body = {"workflow": "line"} if path.startswith("/api") else {"graph_id": version}
    with nothing_stored():
        response = api.post(path, json=body, headers={"Idempotency-Key": key})
        refused(response, 422)
        assert response.json["errors"][0]["path"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/v1/runs?limit=0", "limit"),
        ("/api/v1/runs?limit=-1", "limit"),
        ("/api/v1/runs?limit=501", "limit"),
        ("/api/v1/runs?limit=ten", "limit"),
        ("/api/v1/runs?limit=" + "9" * 4000, "limit"),
        ("/api/v1/runs?limit=1&limit=2", "limit"),
        ("/api/v1/runs?limit=1.5", "limit"),
        ("/api/v1/runs?limit=%00", "limit"),
        ("/api/v1/runs?cursor=x", "cursor"),
        ("/api/v1/runs?cursor=%00", "cursor"),
        ("/api/v1/runs?cursor=W10", "cursor"),
        ("/api/v1/runs?cursor=MQ", "cursor"),
        ("/api/v1/runs?cursor=Im5vIGlkIg", "cursor"),
        ("/api/v1/runs?status=asleep", "status"),
        ("/api/v1/runs?status=running,asleep", "status"),
        ("/api/v1/runs?workflow=a%00b", "workflow"),
        ("/api/v1/runs?version_id=1", "version_id"),
        ("/api/v1/runs?colour=red", "colour"),
        ("/api/v1/workflows?cursor=MQ", "cursor"),
        ("/api/v1/functions?limit=1e3", "limit"),
        ("/api/v1/functions/a%00b", "name"),
        ("/api/v1/workflows/a%00b/versions", "name"),
        ("/graph/list?limit=0", "limit"),
        ("/graph/runs?cursor=zzz", "cursor"),
        ("/tools/list?limit=x", "limit"),
        ("/api/v1/runs/RUN/history?after=-1", "after"),
        ("/api/v1/runs/RUN/history?after=" + str(2**63), "after"),
        ("/api/v1/runs/RUN/history?after=" + "9" * 3000, "after"),
        ("/api/v1/runs/RUN/history?payloads=maybe", "payloads"),
        ("/api/v1/runs/RUN/logs?cursor=bnVsbA", "cursor"),
        ("/api/v1/runs/RUN/logs?cursor=W1sxLDIsM11d", "cursor"),
        ("/api/v1/runs/RUN/steps?cursor=ImEi", "cursor"),
        ("/api/v1/runs/RUN/steps?cursor=" + "OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "cursor"),
        ("/api/v1/runs/RUN/wait?seconds=-1", "seconds"),
        ("/api/v1/runs/RUN/wait?seconds=nan", "seconds"),
        ("/api/v1/runs/RUN/wait?seconds=inf", "seconds"),
        ("/api/v1/runs/RUN/wait?seconds=1e99", "seconds"),
        ("/api/v1/runs/RUN/events?after=x", "after"),
        ("/api/v1/runs/RUN/events?after=1~x", "cursor"),
        ("/api/v1/runs/RUN/events?after=" + "9" * 30, "after"),
        ("/api/v1/runs/RUN/events?logs=perhaps", "logs"),
    ],
)
def test_a_parameter_that_cannot_be_is_named(api: Api, run: str, path: str, field: str) -> None:
    response = api.get(path.replace("RUN", run))
    refused(response, 422)
    assert response.json["errors"][0]["path"].partition("[")[0] == field


@pytest.mark.parametrize("seq", [0, 10**6, 2**62, 2**63, 2**200, "x", "-1"])
def test_a_line_that_history_does_not_have_is_not_found(api: Api, run: str, seq: Any) -> None:
    place = f"/api/v1/runs/{run}/checkpoints"
    response = api.get(f"{place}/{seq}")
    assert response.status_code in ([200] if seq == 0 else [404, 422])
    refused(api.send("PUT", f"{place}/{seq}", json={"name": "nowhere"}), 404, 422)
    if seq != 0:
        refused(api.get(f"{place}/0?against={seq}"), 404, 422)


@pytest.mark.parametrize("name", ["", "x" * 201, None, 1, [], "a\0b"])
def test_a_place_has_a_name_that_is_one(api: Api, run: str, name: Any) -> None:
    response = api.send("PUT", f"/api/v1/runs/{run}/checkpoints/1", json={"name": name})
    refused(response, 400, 422)


@pytest.mark.parametrize("version", [0, 2, 2**31, 2**63, "x"])
def test_a_version_that_a_function_does_not_have_is_not_found(
    api: Api, run: str, version: Any
) -> None:
    refused(api.get(f"/api/v1/functions/noop/versions/{version}"), 404, 422)


def test_names_that_a_client_made_up_are_answered_legibly(api: Api) -> None:
    """What is told of a poisoned key must itself be JSON that anybody can read."""
    data = json.dumps({"name": "f", "code": "x", "\ud800" + "k" * 10_000: "\x00"})
    response = api.post("/nodes/register", data=data, content_type="application/json")
    assert response.status_code == 422
    assert len(response.data) < 10_000
    json.loads(response.data.decode())


def test_a_name_without_end_is_not_told_back_whole(api: Api, run: str) -> None:
    body = {"workflow": "w" * 500_000}
    response = api.post("/api/v1/runs", json=body)
    assert response.status_code == 404
    assert response.json["detail"].startswith("Workflow not found: www")
    assert len(response.data) < 20_000


def test_a_flood_of_problems_is_cut_short(api: Api) -> None:
    data = json.dumps({"name": "f", "code": ["\x00"] * 20_000})
    response = api.post("/nodes/register", data=data, content_type="application/json")
    assert response.status_code == 422
    assert len(response.json["errors"]) == 101
    assert "19900 more" in response.json["errors"][-1]["message"]


# --- times -------------------------------------------------------------------------------------

TIMED = [
    ("/api/v1/audit", "since"),
    ("/api/v1/audit", "until"),
    ("/api/v1/usage", "since"),
    ("/api/v1/usage", "until"),
]


@pytest.mark.parametrize(("path", "field"), TIMED)
@pytest.mark.parametrize("zone", ["+17:47", "-23:59", "+16:00"])
def test_a_time_in_a_zone_that_no_database_knows_is_the_time_that_it_is(
    api: Api, path: str, field: str, zone: str
) -> None:
    at = f"2026-01-31T12:00:00{zone}"
    assert api.get(path, query_string={field: at}).status_code == 200


@pytest.mark.parametrize(("path", "field"), TIMED)
@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59.999-10:00"])
def test_a_time_beyond_the_calendar_is_refused(api: Api, path: str, field: str, at: str) -> None:
    assert "calendar" in refused(api.get(path, query_string={field: at}), 422)


@pytest.mark.parametrize(
    "path", ["/api/v1/keys", "/api/v1/waits", "/api/v1/approvals", "/api/v1/usage"]
)
@pytest.mark.parametrize(
    "at", ["2026-01-31T12:00:00+17:47", "9999-12-31T23:59:59-10:00", "2026-01-31T12:00:00"]
)
def test_a_cursor_with_a_time_that_was_never_handed_out_does_no_harm(
    api: Api, path: str, at: str
) -> None:
    for key in ([at, ZERO], [at, ZERO, "a#1"], [at, ZERO, "a#1", 1, 1], [at]):
        by = {"by": "hour"} if path.endswith("usage") else {}
        response = api.get(path, query_string={**by, "cursor": pagination.cursor(key)})
        assert response.status_code in (200, 422), response.text
