"""Who may ask without a credential: this machine's user, on the routes of seed 000, on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from engine.errors import CeleriacError
from engine.platform import Platform
from engine.settings import Settings
from tests.support import platforms, site
from tests.support.services import Services
from web import errors, permissions

EVIL = "http://evil.example"
BODY = {"name": "f", "code": "def f(state):\n    return state"}


@pytest.fixture(scope="module")
def own(shared_services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with site.of_its_own(shared_services, tmp_path_factory.mktemp("home")) as settings:
        yield site.local(settings)


@pytest.fixture(scope="module")
def control(own: Settings) -> Iterator[Platform]:
    with site.controlled(own) as platform:
        yield platform


@pytest.fixture(scope="module")
def app(control: Platform) -> Iterator[Flask]:
    with site.served(control) as app:
        yield app


def ask(app: Flask, path: str = "/graph/list", method: str = "GET", **given: Any) -> Any:
    environ = {"REMOTE_ADDR": "127.0.0.1", **given.pop("environ", {})}
    return app.test_client().open(path, method=method, environ_overrides=environ, **given)


def test_this_machine_is_served(app: Flask) -> None:
    assert ask(app).status_code == 200
    assert ask(app, "/nodes/register", "POST", json=BODY).status_code == 200


@pytest.mark.parametrize("peer", ["192.168.1.7", "10.0.0.1", "8.8.8.8", "::2", "fe80::1", "nope"])
def test_another_machine_is_not(app: Flask, peer: str) -> None:
    response = ask(app, environ={"REMOTE_ADDR": peer})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert set(response.json) == {"error", "detail"}
    assert peer in response.json["detail"]


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", ""])
def test_every_spelling_of_loopback_is_this_machine(app: Flask, peer: str) -> None:
    assert ask(app, environ={"REMOTE_ADDR": peer}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.nip.io"),
        *("192.168.1.7:8000", "0.0.0.0:8000", "[::2]:8000", "[::]", "169.254.169.254"),
        *("2130706433", "0x7f000001", ""),
    ],
)
def test_a_name_that_may_be_rebound_is_not_this_machine(app: Flask, host: str) -> None:
    assert ask(app, headers={"Host": host}).status_code == 401


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.1.2.3", "[::1]:8000", "[::1]"]
)
def test_a_loopback_name_is_this_machine(app: Flask, host: str) -> None:
    assert ask(app, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [EVIL, "null", "http://localhost:3000", "http://127.0.0.1", "http://localhost.evil.example"],
)
def test_a_page_from_elsewhere_is_not_served(app: Flask, origin: str) -> None:
    headers = {"Host": "localhost:8000", "Origin": origin}
    assert ask(app, headers=headers).status_code == 401
    assert ask(app, "/nodes/register", "POST", json=BODY, headers=headers).status_code == 401
    assert ask(app, f"/graph/cancel/{'0' * 8}", "POST", headers=headers).status_code == 401


def test_a_page_of_ours_is_served(app: Flask) -> None:
    headers = {
        "Host": "localhost:8000",
        "Origin": "http://localhost:8000",
        "Sec-Fetch-Site": "same-origin",
    }
    assert ask(app, headers=headers).status_code == 200


@pytest.mark.parametrize("site_of", ["cross-site", "same-site"])
def test_a_request_that_a_browser_made_for_another_site_is_not_served(
    app: Flask, site_of: str
) -> None:
    assert ask(app, headers={"Sec-Fetch-Site": site_of}).status_code == 401


@pytest.mark.parametrize(
    "header", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via"]
)
def test_what_a_proxy_passed_on_is_not_this_machine(app: Flask, header: str) -> None:
    assert ask(app, headers={header: "127.0.0.1"}).status_code == 401


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_a_form_that_any_page_can_send_is_not_read(app: Flask, kind: str) -> None:
    body = '{"name": "f", "code": "def f(state):\\n    return state"}'
    response = ask(app, "/nodes/register", "POST", data=body, content_type=kind)
    assert response.status_code == 415
    assert ask(app, "/graph/cancel/x", "POST", data="", content_type=kind).status_code in (404, 415)


@pytest.mark.parametrize(
    "path",
    [
        *("/api/v1/runs", "/api/v1/workflows", "/api/v1/functions", "/api/v1/tools"),
        "/api/v1/runs/00000000-0000-7000-8000-000000000000/events",
    ],
)
def test_the_other_api_wants_a_credential_of_everybody(app: Flask, path: str) -> None:
    response = ask(app, path)
    assert response.status_code == 401
    assert response.content_type == "application/problem+json"


@pytest.mark.parametrize(
    "path", ["/health", "/api/v1/health", "/api/v1/ready", "/docs", "/openapi.json"]
)
def test_what_is_for_everybody_wants_none(app: Flask, path: str) -> None:
    given = {"headers": {"Host": EVIL}, "environ": {"REMOTE_ADDR": "8.8.8.8"}}
    assert ask(app, path, **given).status_code == 200


@pytest.mark.parametrize("changes", [{"anonymous": False}, {"supervised": False}])
def test_elsewhere_a_credential_is_needed_on_every_route(
    control: Platform, changes: dict[str, bool]
) -> None:
    with site.served(replace(control, settings=replace(control.settings, **changes))) as app:
        response = ask(app)
        assert response.status_code == 401
        member = site.member(app, control)
        assert member.get("/graph/list").status_code == 200


def test_every_route_that_is_not_public_asks_who_comes(app: Flask) -> None:
    """Generated from the route table: a new route is closed unless somebody opens it."""
    outside = {"REMOTE_ADDR": "8.8.8.8"}
    open_ones = set()
    for rule in app.url_map.iter_rules():
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
            if rule.websocket:
                continue
            path = rule.build(dict.fromkeys(rule.arguments, "1"), append_unknown=False)
            assert path is not None
            response = ask(app, path[1], method, environ=outside)
            if response.status_code != 401:
                open_ones.add(rule.endpoint)
    assert open_ones <= {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if permissions.of(app, rule.endpoint) == permissions.PUBLIC
    }


# --- credentials -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer nope"},
        {"Authorization": f"Bearer clr_{'0' * 16}.{'0' * 43}"},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer clr_\x01"},
        {"X-API-Key": "nope"},
        {"X-API-Key": ""},
        {"X-API-Key": "x" * 5000},
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/runs", "/graph/list"])
def test_a_wrong_credential_is_worse_than_none(
    app: Flask, path: str, header: dict[str, str]
) -> None:
    """Where it would be served without one, a request with a wrong one is still refused."""
    response = ask(app, path, headers=header)
    assert response.status_code == 401


def test_both_headers_carry_a_credential(app: Flask, control: Platform) -> None:
    token = site.member(app, control).token
    for header in ({"Authorization": f"Bearer {token}"}, {"Authorization": f"bearer {token}"}):
        assert ask(app, "/api/v1/runs", headers=header).status_code == 200
    given = {"headers": {"X-API-Key": token}, "environ": {"REMOTE_ADDR": "8.8.8.8"}}
    assert ask(app, "/api/v1/runs", **given).status_code == 200
    assert ask(app, "/graph/list", **given).status_code == 200


def test_a_secret_of_another_key_does_not_fit(app: Flask, control: Platform) -> None:
    mine, other = (site.member(app, control).token for _ in range(2))
    mixed = f"{mine.partition('.')[0]}.{other.partition('.')[2]}"
    assert ask(app, "/api/v1/runs", headers={"X-API-Key": mixed}).status_code == 401


# --- tenants -----------------------------------------------------------------------------------


def test_nothing_of_one_tenant_is_there_for_another(app: Flask, control: Platform) -> None:
    """Every address of A, asked for by B, is answered like one that never was."""
    platforms.register(control, "noop")
    platforms.publish(control, dict(platforms.LINE))
    run = platforms.submit(control, platforms.publish(control, dict(platforms.LINE)))
    member, eve = site.member(app, control), site.stranger(app, control)
    version = member.get("/graph/list").json["graphs"][0]["graph_id"]
    never = "01a00000-0000-7000-8000-000000000000"
    for template, real, unreal in [
        *(
            (f"/api/v1/runs/{{}}{below}", run.run, never)
            for below in ("", "/steps", "/steps/a%231", "/history", "/logs", "/attempts")
        ),
        *(
            (f"/api/v1/runs/{{}}{below}", run.run, never)
            for below in ("/calls", "/checkpoints", "/checkpoints/1", "/wait", "/events")
        ),
        ("/graph/status/{}", run.run, never),
        ("/graph/state/{}", run.run, never),
        ("/graph/{}", version, never),
        ("/api/v1/workflows/{}", "line", "nine"),
        ("/api/v1/workflows/{}/versions", "line", "nine"),
        ("/api/v1/workflows/{}/versions/1.0.0", "line", "nine"),
        ("/api/v1/functions/{}", "noop", "nowt"),
        ("/api/v1/functions/{}/versions", "noop", "nowt"),
    ]:
        assert member.get(template.format(real)).status_code in (200, 404)
        theirs, nobodys = eve.get(template.format(real)), eve.get(template.format(unreal))
        assert theirs.status_code == nobodys.status_code == 404
        assert _bare(theirs, real) == _bare(nobodys, unreal)
    for path in (f"/api/v1/runs/{run.run}/cancel", f"/api/v1/runs/{run.run}/retry"):
        assert eve.post(path, json={} if "cancel" in path else None).status_code == 404
    assert eve.post(f"/graph/cancel/{run.run}").status_code == 404
    for body in ({"version_id": version}, {"workflow": "line"}):
        assert eve.post("/api/v1/runs", json=body).status_code == 404
    assert eve.post("/graph/run", json={"graph_id": version}).status_code == 404
    for path in ("/api/v1/runs", "/api/v1/workflows", "/api/v1/functions", "/api/v1/tools"):
        assert eve.get(path).json["items"] == []
    assert eve.get("/graph/list").json == {"graphs": []}
    assert eve.get("/graph/runs").json == {"runs": []}
    assert eve.get("/tools/list").json == {"tools": []}
    assert platforms.status(control, run) == "running"


def _bare(response: Any, name: str) -> Any:
    body = dict(response.json)
    body.pop("request_id", None)
    return {key: str(value).replace(name, "X") for key, value in body.items()}


def test_every_error_has_words_and_a_status() -> None:
    waiting, seen = [CeleriacError], []
    while waiting:
        kind = waiting.pop()
        seen.append(kind)
        waiting += kind.__subclasses__()
    assert len(seen) > 6
    for kind in seen:
        assert kind.__doc__
        if kind.__module__.startswith(("engine", "web")):
            assert any(base in errors.STATUSES for base in kind.__mro__), kind
