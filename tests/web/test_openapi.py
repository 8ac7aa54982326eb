"""The description of the API: complete, and true."""

from __future__ import annotations

import re
from typing import Any

from flask import Flask

from engine.platform import Platform
from tests.support import platforms
from tests.support.described import BESIDE, fits, operations, path_of
from tests.support.platforms import LINE, finish, take
from tests.support.site import Api


def test_the_description_is_openapi_3_1(spec: dict[str, Any]) -> None:
    assert spec["openapi"] == "3.1.0"
    assert spec["info"]["title"] == "Celeriac"
    assert set(spec["components"]["securitySchemes"]) == {"bearer", "key"}


def test_every_route_is_described(app: Flask, spec: dict[str, Any]) -> None:
    described = {path for _, path in operations(spec)}
    for rule in app.url_map.iter_rules():
        if rule.rule not in BESIDE:
            assert path_of(rule) in described


def test_every_operation_says_what_it_does_and_what_it_answers(spec: dict[str, Any]) -> None:
    for where, operation in operations(spec).items():
        assert operation["summary"].endswith("."), where
        assert operation["responses"], where
        assert operation["tags"], where
        for parameter in operation.get("parameters", ()):
            assert parameter["in"] in {"query", "path", "header"}, where
        if where[0] == "POST" and "register" in where[1]:
            assert operation["requestBody"]["content"]["application/json"]["schema"], where


def test_every_reference_leads_somewhere(spec: dict[str, Any]) -> None:
    def references(part: Any) -> list[str]:
        if isinstance(part, list):
            return [found for entry in part for found in references(entry)]
        if isinstance(part, dict):
            own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            return own + [found for entry in part.values() for found in references(entry)]
        return []

    for reference in references(spec):
        if reference.startswith("#/"):
            place: Any = spec
            for name in reference.removeprefix("#/").split("/"):
                place = place[name]


def test_answers_hold_what_is_described_and_nothing_else(
    app: Flask, api: Api, spec: dict[str, Any], control: Platform, worker: Platform
) -> None:
    platforms.register(control, "noop")
    run = platforms.submit(control, platforms.publish(control, dict(LINE)), n=1)
    finish(control, worker, take(worker, run, "a#1"), n=2)
    take(worker, run, "b#1")
    place = f"/api/v1/runs/{run.run}"
    code = "def f(a: int = 1):\n    return a"
    graph = api.post(
        "/graph/create",
        json={
            "nodes": [{"name": "start", "type": "start"}, {"name": "end", "type": "end"}],
            "edges": [{"source": "start", "target": "end"}],
        },
    )
    for response in [
        graph,
        api.post("/nodes/register", json={"name": "f", "code": code}),
        api.post("/tools/register", json={"name": "f", "code": code}),
        api.post("/graph/run", json={"graph_id": graph.json["graph_id"]}),
        api.post("/graph/run_async", json={"graph_id": graph.json["graph_id"]}),
        api.get("/graph/list"),
        api.get(f"/graph/{graph.json['graph_id']}"),
        api.get("/graph/runs"),
        api.get(f"/graph/status/{run.run}"),
        api.get(f"/graph/state/{run.run}"),
        api.get("/tools/list"),
        api.get("/health"),
        api.get("/api/v1/health"),
        api.get("/api/v1/ready"),
        api.get("/api/v1/workflows"),
        api.get("/api/v1/workflows/line"),
        api.get("/api/v1/workflows/line/versions"),
        api.get("/api/v1/workflows/line/versions/1.0.0"),
        api.get("/api/v1/functions"),
        api.get("/api/v1/functions/f"),
        api.get("/api/v1/functions/f/versions"),
        api.get("/api/v1/functions/f/versions/1"),
        api.get("/api/v1/tools/f"),
        api.post("/api/v1/tools/f/standing", json={"tags": ["a"]}),
        api.get("/api/v1/llm/tools"),
        api.post("/api/v1/tools", json={"name": "f", "code": code}),
        api.get("/api/v1/runs"),
        api.get(place),
        api.get(f"{place}/steps"),
        api.get(f"{place}/steps/a%231"),
        api.get(f"{place}/steps/a%231/result"),
        api.get(f"{place}/attempts"),
        api.get(f"{place}/calls"),
        api.get(f"{place}/logs"),
        api.get(f"{place}/history"),
        api.get(f"{place}/history?payloads=true"),
        api.get(f"{place}/executions"),
        api.get(f"{place}/executions/{run.run}:a:1:1"),
        api.get(f"{place}/executions/nope"),
        api.get(f"{place}/timeline"),
        api.get(f"{place}/checkpoints"),
        api.send("PUT", f"{place}/checkpoints/1", json={"name": "begun"}),
        api.get(f"{place}/checkpoints/3?against=1"),
        api.get(f"{place}/checkpoints/3/effects"),
        api.get(f"{place}/steps/a%231/effects"),
        api.post(f"{place}/steps/a%231/restart", json={"given": {"result": 1}}),
        api.post(f"{place}/checkpoints/3/fork", json={"variables": {"n": 1}}),
        api.get(f"{place}/checkpoints/1"),
        api.post(f"{place}/rollback", json={"seq": 3, "reason": "a wrong turn"}),
        api.post(f"{place}/rollback", json={"seq": 3, "name": "begun"}),
        api.get(f"{place}/undo"),
        api.post(f"{place}/undo", json={"calls": ["a#1.1"]}),
        api.post(f"{place}/undo/settle", json={"call": "a#1.1", "fate": "stands"}),
        api.get(f"{place}/wait?seconds=0"),
        api.post("/api/v1/runs", json={"workflow": "line"}),
        api.post(f"{place}/retry"),
        api.post(f"{place}/cancel"),
        api.post(f"{place}/cancel"),
        api.post(f"/graph/cancel/{run.run}"),
        api.get("/api/v1/runs?limit=0"),
        api.post("/graph/create", json={}),
        api.post("/nodes/register", json={"name": "f", "code": "import os"}),
        api.get("/api/v1/runs/nope"),
        api.post("/api/v1/runs", json={}),
    ]:
        fits(app, spec, response)


def test_the_docs_load_nothing_from_elsewhere(app: Flask) -> None:
    client = app.test_client()
    page = client.get("/docs")
    assert page.content_type == "text/html; charset=utf-8"
    assert "'unsafe-eval'" not in page.headers["Content-Security-Policy"]
    assert "script-src 'self';" in page.headers["Content-Security-Policy"]
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 4
    for place in loaded:
        assert place.startswith("/docs/")
        assert client.get(place).status_code == 200
    assert "<script>" not in page.text
    start = client.get("/docs/start.js")
    assert start.content_type.startswith("text/javascript")
    assert "https://" not in start.text
    for name in ("index.html", "../app.py", "LICENSE", "oauth2-redirect.html", "nothing.js"):
        assert client.get(f"/docs/{name}").status_code == 404
