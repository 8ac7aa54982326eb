"""Services by REST and by the client: who may register what, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from flask import Flask

from celeriac.client import Client, Conflict, Forbidden, NotFound
from engine.errors import Invalid
from engine.platform import Platform
from engine.runs import access
from tests.support.site import Api

HOSTS = {"hosts": ["https://api.example.com"]}
SERVICE: dict[str, Any] = {"name": "api", "kind": "http", "config": HOSTS}
SOURCE = "def api(url):\n    return url"


def refused(api: Api, **given: Any) -> dict[str, Any]:
    """What is said of each field; nothing is registered."""
    response = api.post("/api/v1/services", json={**SERVICE, **given})
    assert response.status_code == 422, response.text
    assert api.get("/api/v1/tools").json["items"] == []
    return {each["path"]: each for each in response.json.get("errors", ())}


def client_of(app: Flask, control: Platform, role: str) -> Client:
    who = replace(access.LOCAL, user=role, roles=frozenset({role}))
    key = access.create_key(control.database, who)
    return Client("http://127.0.0.1", key, transport=httpx2.WSGITransport(app=app))


@pytest.fixture
def client(app: Flask, control: Platform) -> Iterator[Client]:
    with client_of(app, control, "admin") as client:
        yield client


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["editor", "operator", "viewer"])
def test_whoever_is_no_admin_may_not(app: Flask, control: Platform, role: str) -> None:
    with client_of(app, control, role) as client, pytest.raises(Forbidden):
        client.register_service("api", "http", HOSTS)


def test_a_kind_that_there_is_not_is_told_with_what_may_be_meant(api: Api) -> None:
    found = refused(api, kind="htp")
    assert "http" in found["kind"]["remedy"]
    assert "mcp" in refused(api, kind="carrier-pigeon")["kind"]["remedy"]


def test_every_problem_of_a_config_is_told_at_once_and_nothing_secret(api: Api) -> None:
    config = {"url": "ftp://x", "auth": {"bearer": "hush\n"}, "tool": "a b", "command": "npx"}
    found = refused(api, kind="mcp", config=config)
    assert found.keys() == {"config.url", "config.auth.bearer", "config.tool", "config.command"}
    assert "hush" not in str(found)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"name": "a b"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"effect": "none"}, "effect"),
        ({"cost_estimate_usd": -1}, "cost_estimate_usd"),
        ({"parameters": {"type": "object"}}, "parameters"),
        ({"status": "asleep"}, "status"),
        ({"code": SOURCE}, "code"),
    ],
)
def test_what_is_wrong_beside_the_config_is_told_with_its_place(
    api: Api, given: dict[str, Any], path: str
) -> None:
    assert path in refused(api, **given)


# --- what is registered -----------------------------------------------------------------------


def test_a_service_is_a_tool_with_a_config_that_keeps_the_names_of_secrets(api: Api) -> None:
    config = {**HOSTS, "auth": {"bearer": "$env.TOKEN"}}
    response = api.post(
        "/api/v1/services", json={**SERVICE, "config": config, "requires_approval": True}
    )
    assert response.status_code == 201
    assert response.headers["Location"] == "/api/v1/tools/api/versions/1"
    found = api.get("/api/v1/tools/api").json
    assert found["service"] == {"kind": "http", "config": config}
    assert (found["requires_approval"], found["effect"]) == (True, "idempotent")
    assert found["schema"]["required"] == ["url"]
    (listed,) = api.get("/api/v1/llm/tools").json
    assert listed["function"]["name"] == "api"


def test_a_name_stays_the_sort_of_tool_that_it_is(client: Client) -> None:
    """Else code would take over what an admin has granted to a service."""
    assert client.register_tool(SOURCE).version == 1
    with pytest.raises(Conflict, match="api is a tool of code"):
        client.register_service("api", "http", HOSTS)
    assert client.register_service("other", "http", HOSTS).version == 1
    assert client.register_service("other", "http", HOSTS).version == 1
    assert client.register_service("other", "http", {**HOSTS, "redirects": 1}).version == 2
    with pytest.raises(Conflict, match="other is a service"):
        client.register_tool(SOURCE.replace("api", "other"), name="other")
    assert client.tool("other").version == 2


def test_a_stranger_sees_nothing_of_it(client: Client, stranger: Api) -> None:
    client.register_service("api", "http", HOSTS)
    assert stranger.get("/api/v1/tools/api").status_code == 404


def test_only_a_server_of_tools_can_be_synced(client: Client) -> None:
    with pytest.raises(NotFound):
        client.sync_services("tools")
    client.register_service("api", "http", HOSTS)
    with pytest.raises(Invalid, match="nothing to sync"):
        client.sync_services("api")
    one = {"url": "https://tools.example.com/mcp", "tool": "a"}
    client.register_service("tools.a", "mcp", one)
    with pytest.raises(Invalid, match="nothing to sync"):
        client.sync_services("tools.a")
    assert [*client.runs()] == []
