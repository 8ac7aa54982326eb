"""A secret that every kind of node uses, looked for wherever anything is left.

Real processes: the API, a coordinator, a Celery worker. Whatever passes through Valkey is listened to
from the first moment. Beside the secret the same nodes use a value that is not sensitive, so that it
is known that the search finds what is there.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import redis
from sqlalchemy import create_engine, text

from celeriac.client import Client
from celeriac.embedded.install import install
from engine.settings import Settings
from engine.store import tables
from tests.support import fleet, llm, site, tool_servers
from tests.support.services import Services
from tests.unit.services import outside

CANARY = "cånary/4711+xyz%w0rd"
PLAIN = "plåin/0815+model%name"
BOTH = {"key": "$env.CANARY", "plain": "$env.PLAIN"}

LEAK = """
def leak(state):
    key, plain = state["key"], state["plain"]
    for value in (key, plain):
        print(value, repr(value), json.dumps(value))
        print(base64.b64encode(("user:" + value).encode()).decode(), value.encode().hex())
    state["kept"] = {key: [key, plain], plain: base64.b64encode(key.encode()).decode()}
    told = invoke("send", key, to=plain)
    return {"told": told, "large": (key + plain) * 60000, "basic": [key, plain]}
"""
FAIL = "def fail(state):\n    raise ValueError(state['key'] + ' or ' + state['plain'])"
SEND = (
    "def send(key, to):\n"
    "    print('sends', key, to)\n"
    "    return {'echo': key, 'to': to, 'hex': key.encode().hex()}"
)
AGENT = "def agent(key, plain, output):\n    print(key)\n    return {'answer': [key, plain]}"

NODES: Mapping[str, Any] = {
    "source": {"uses": "leak", "with": BOTH},
    "library": {"uses": "tell", "with": BOTH, "save": {"told": "$result"}},
    "tool": {
        "kind": "tool",
        "tool": "send",
        "with": {"key": "$env.CANARY", "to": "$env.PLAIN"},
        "save": {"sent": "$result"},
    },
    "mapped": {
        "kind": "map",
        "over": [1, 2],
        "do": {"uses": "tell", "with": BOTH},
        "save": {"mapped": "$result"},
    },
    "filled": {
        "kind": "template",
        "template": "{{ key }} and {{ plain }}",
        "with": BOTH,
        "save": {"filled": "$result"},
    },
    "posted": {
        "kind": "http",
        "service": "echo",
        "method": "POST",
        "url": "$('?to=' + $env.PLAIN)",
        "json": BOTH,
        "save": {"posted": "$result.json"},
    },
    "queried": {
        "kind": "sql",
        "service": "books",
        "statement": "SELECT :key AS key, :plain AS plain, length(:key) AS length",
        "parameters": BOTH,
        "save": {"queried": "$result.rows"},
    },
    "talked": {
        "kind": "llm",
        "service": "model",
        "prompt": "Repeat {{ key }}, then {{ plain }}.",
        "with": BOTH,
        "tools": ["send"],
        "save": {"talked": "$result.content"},
    },
    "looked": {
        "kind": "tool",
        "tool": "files.look",
        "with": {"path": "$('' + $env.CANARY + ' ' + $env.PLAIN)"},
        "save": {"looked": "$result.structured.path"},
    },
    "asked": {
        "kind": "tool",
        "tool": "ask",
        "with": {"key": "$env.CANARY", "to": "$env.PLAIN"},
    },
}


@dataclass(kw_only=True)
class Place:
    """A platform at work, and all that anybody could look at."""

    settings: Settings
    folder: Path
    client: Client
    #: What passed through Valkey.
    heard: list[str] = field(default_factory=list)
    echo: outside.Server
    model: llm.Server
    tools: tool_servers.ToolServer
    runs: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def place(shared_services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("home")
    with site.of_its_own(shared_services, folder) as given:
        sockets = parse_qs(urlsplit(given.database_url or "").query)["host"][0]
        settings = replace(
            given,
            port=_free_port(),
            libraries=("tests.support.told",),
            private_hosts=("127.0.0.1", f"{sockets}/.s.PGSQL.5432"),
        )
        install(settings, key_file=folder / "admin.key")
        heard: list[str] = []
        with (
            _listening(settings, heard),
            outside.http(_echo) as echo,
            llm.serving(_repeat) as model,
            tool_servers.serving() as tools,
            fleet.fleet(settings, ["web", "coordinator", "worker"], folder),
        ):
            key = (folder / "admin.key").read_text().strip()
            with Client(f"http://127.0.0.1:{settings.port}", key) as client:
                found = Place(
                    settings=settings,
                    folder=folder,
                    client=client,
                    heard=heard,
                    echo=echo,
                    model=model,
                    tools=tools,
                )
                _serve(found, sockets)
                _work(found)
                yield found


def _echo(handler: Any) -> None:
    outside.reply(handler, body=handler.body, content_type="application/json")


def _repeat(request: llm.Request) -> llm.Answer:
    """The model uses a tool with all that it was asked, then says it."""
    said = request.text("user")
    if request.turn == 1:
        return llm.Say(calls=[("send", {"key": said, "to": said})])
    return llm.Say(text=said)


def _serve(place: Place, sockets: str) -> None:
    """Services that are given the secret, too, in what they are configured with."""
    client, here = place.client, ["127.0.0.1"]
    fleet.wait_until(lambda: _answers(client), seconds=60, what="web")
    name = urlsplit(place.settings.database_url or "").path[1:]
    url = f"postgresql://celeriac@/{name}?host={sockets}"
    services: Mapping[str, tuple[str, dict[str, Any]]] = {
        "echo": (
            "http",
            {
                "hosts": [place.echo.url],
                "base": place.echo.url,
                "methods": ["POST"],
                "auth": {"header": "X-Key", "value": "$env.CANARY64"},
                "allow_private": here,
            },
        ),
        "books": ("sql", {"url": url, "allow_private": [sockets]}),
        "model": (
            "llm",
            {
                "url": place.model.url,
                "api_key": "$env.CANARY64",
                "model": "small",
                "models": {"small": {"input_usd_per_million": 1, "output_usd_per_million": 1}},
                "allow_private": here,
            },
        ),
    }
    services = {
        **services,
        "files.look": (
            "mcp",
            {
                "url": place.tools.url,
                "tool": "look",
                "auth": {"bearer": "$env.CANARY64"},
                "allow_private": here,
            },
        ),
    }
    for service, (kind, config) in services.items():
        client.register_service(service, kind, config)


def _work(place: Place) -> None:
    """Every kind of node uses the secret; some fail with it, some are asked about."""
    client = place.client
    # What goes into a header is ASCII.
    written = base64.b64encode(CANARY.encode()).decode()
    for name, value in (("CANARY", CANARY), ("CANARY64", written), ("PLAIN", PLAIN)):
        client.put_secret(name, value, sensitive=name != "PLAIN")
    for name, source in (("leak", LEAK), ("fail", FAIL), ("agent", AGENT)):
        client.register_function(source, name=name)
    client.register_tool(SEND, name="send")
    client.register_tool(SEND.replace("send(", "ask("), name="ask", requires_approval=True)
    profile = {"secrets": ["CANARY", "CANARY64", "PLAIN"]}
    for subject in ("function:leak@1", "function:fail", "function:agent", "function:tell"):
        client.grant(subject, profile)
    services = ("tool:echo", "tool:books", "tool:model", "tool:files.look")
    for subject in ("tool:send", "tool:ask@1", *services):
        client.grant(subject, profile)
    chain = {"workflow": "all", "nodes": NODES, "edges": [" -> ".join([*NODES, "end"])]}
    failing = {
        "workflow": "failing",
        "nodes": {"f": {"uses": "fail", "with": BOTH, "retry": {"attempts": 2, "backoff": 0}}},
        "edges": ["f -> end"],
    }
    listed = {
        "workflow": "listed",
        "steps": [{"agent": "agent", "params": BOTH, "output": ["answer"]}],
    }
    for document in (chain, failing, listed):
        client.publish(document)
        client.grant(f"workflow:{document['workflow']}", profile)
        place.runs.append(client.submit(document["workflow"]).id)
    fleet.wait_until(lambda: len([*client.waits()]) == 1, seconds=90, what="the question")
    first, second, third = place.runs
    (question,) = client.waits()
    client.answer(first, "asked#1", choice="approve", digest=question.digest)
    assert client.wait(first, 90).status == "completed"
    assert client.wait(second, 90).status == "failed"
    assert client.wait(third, 90).status == "completed"


def test_the_secret_was_used(place: Place) -> None:
    told = json.dumps([call.value for call in place.client.calls(place.runs[0])])
    assert told.count("[secret:CANARY]") >= 4
    lengths = place.client.run(place.runs[0]).variables["mapped"]
    assert [each["length"] for each in lengths] == [len(CANARY)] * 2
    # Whoever was to have it has it.
    variables = place.client.run(place.runs[0]).variables
    assert variables["queried"][0]["length"] == len(CANARY)
    (posted,) = place.echo.heard
    assert json.loads(posted.body)["key"] == CANARY
    assert base64.b64decode(posted.headers["x-key"]).decode() == CANARY
    first, second = place.model.requests
    # What was filled in has left the sandbox; a model's provider is told no secret but its own.
    assert "[secret:CANARY]" in first.text("user")
    assert second.headers["authorization"].startswith("Bearer ")
    for name in ("filled", "posted", "queried", "talked", "looked"):
        assert "[secret:CANARY" in json.dumps(variables[name]), name


def test_it_is_in_no_table(place: Place) -> None:
    _check(_rows(place.settings))


def test_it_is_in_no_answer_of_the_api(place: Place) -> None:
    _check(dict(_answers_of(place)))


def test_it_is_in_no_run_that_is_taken_out_as_a_file(place: Place) -> None:
    _check({run: place.client.export(run) for run in place.runs})


def test_it_is_in_no_log_of_any_process(place: Place) -> None:
    for file in place.folder.glob("*.log"):
        assert not _traces(file.read_text(errors="replace"), CANARY), file


def test_it_never_passed_through_valkey_nor_lies_there(place: Place) -> None:
    assert any("execute_step" in line or "workers" in line for line in place.heard)
    for line in place.heard:
        assert not _traces(line, CANARY), line[:200]
    with redis.from_url(place.settings.redis_url or "") as store:
        for key in store.scan_iter():
            assert not _traces(f"{key!r} {store.dump(key)!r}", CANARY), key


def test_it_is_in_no_file_of_the_data_folder(place: Place) -> None:
    blobs = 0
    for file in place.folder.rglob("*"):
        if file.is_file():
            blobs += "blobs" in file.parts
            assert not _traces(file.read_bytes().decode("latin-1"), CANARY), file
            assert not _traces(file.read_bytes().decode("utf-8", "replace"), CANARY), file
    assert blobs, "what is large lies in a blob"


def _check(told: Mapping[str, str]) -> None:
    """The one is nowhere; the other, which is used in the same way, is found."""
    found = {where: _traces(each, CANARY) for where, each in told.items()}
    assert {where: traces for where, traces in found.items() if traces} == {}
    assert any(_traces(each, PLAIN) for each in told.values())


def _traces(told: str, value: str) -> list[str]:
    """The spellings of a value that stand in a text."""
    data = value.encode()
    spelt = {
        value,
        json.dumps(value)[1:-1],
        quote(value, safe=""),
        data.hex(),
        data.hex().upper(),
        data.decode("latin-1"),
        # As Valkey writes what is no ASCII.
        ascii(data)[2:-1],
    }
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data).decode()
        spelt.add(encoded[before + 1 : -4])
        spelt.add(encoded[before + 1 : -4].replace("+", "-").replace("/", "_"))
    return [one for one in spelt if one in told]


def _rows(settings: Settings) -> dict[str, str]:
    """Every row of every table, as text; what is binary in hex."""
    engine = create_engine(settings.database_url or "")
    found: dict[str, str] = {}
    with engine.connect() as connection:
        for table in tables.metadata.sorted_tables:
            rows = connection.execute(text(f"SELECT to_jsonb(t)::text FROM {table.name} t"))
            found[table.name] = "\n".join(row[0] for row in rows)
    engine.dispose()
    assert found["secret"]
    assert found["capability"]
    return found


def _answers_of(place: Place) -> Iterator[tuple[str, str]]:
    """What the API tells of the runs, and of all else that there is."""
    wire = place.client._wire
    paths = [
        *("secrets", "secrets/CANARY/versions", "capabilities", "audit", "waits", "approvals"),
        *("usage", "runs", "events", "functions", "tools", "workflows", "policies"),
    ]
    of_runs = [
        *("", "/steps", "/attempts", "/calls", "/logs", "/history?payloads=true", "/checkpoints"),
        *("/executions", "/timeline", "/children"),
    ]
    for run in place.runs:
        paths += [f"runs/{run}{each}" for each in of_runs]
        for step in place.client.steps(run):
            key = quote(step.key, safe="")
            paths += [f"runs/{run}/steps/{key}{each}" for each in ("", "/result", "/output")]
    for sha256 in _blobs(place.settings):
        paths.append(f"blobs/{sha256}")
    for path in paths:
        response = wire._http.get(f"/api/v1/{path}")
        assert response.status_code in {200, 404}, (path, response.text)
        yield path, response.text


def _blobs(settings: Settings) -> list[str]:
    engine = create_engine(settings.database_url or "")
    with engine.connect() as connection:
        found = [row.sha256 for row in connection.execute(text("SELECT sha256 FROM blob"))]
    engine.dispose()
    assert found
    return found


@contextmanager
def _listening(settings: Settings, heard: list[str]) -> Iterator[None]:
    """Keep whatever any process sends to Valkey, in its words."""
    store = redis.from_url(settings.redis_url or "", socket_timeout=600)
    ended = "the-end-of-listening"
    with store.monitor() as monitor:

        def listen() -> None:
            for command in monitor.listen():
                heard.append(str(command["command"]))
                if ended in heard[-1]:
                    return

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield
        with redis.from_url(settings.redis_url or "") as other:
            other.echo(ended)
        thread.join(timeout=10)
    store.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(client: Client) -> bool:
    try:
        client.me()
    except Exception:  # noqa: BLE001  # it is not there yet
        return False
    return True
