"""The description of the API, and whether an answer is one that it promises."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import jsonschema_rs
from flask import Flask
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

#: Routes that are in no description, each with the reason.
BESIDE: Mapping[str, str] = {
    "/": "leads to the docs",
    "/docs": "a page for people",
    "/docs/<name>": "what the page loads",
    "/openapi.json": "the description itself",
    "/graph/ws/<run_id>": "a WebSocket; tests/web/test_streams.py",
}
_METHODS = {"get", "post", "put", "patch", "delete"}
_ERRORS = 400


def operations(spec: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Every operation, by its method and its path."""
    return {
        (method.upper(), path): operation
        for path, methods in spec["paths"].items()
        for method, operation in methods.items()
        if method in _METHODS
    }


def path_of(rule: Rule) -> str:
    """The path of a route, as the description writes it."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)


def fits(app: Flask, spec: dict[str, Any], response: TestResponse) -> None:
    """The answer is one that the description promises."""
    assert Description(app, spec).misfit(response) == "", response.request.path


class Description:
    """What an app says of itself."""

    def __init__(self, app: Flask, spec: dict[str, Any] | None = None) -> None:
        self.spec: dict[str, Any] = spec or app.test_client().get("/openapi.json").json
        self._map = app.url_map
        self._operations = operations(self.spec)
        self._components = _strict(self.spec["components"])
        self._validators: dict[str, jsonschema_rs.Validator] = {}

    def misfit(self, response: TestResponse) -> str:
        """How an answer differs from what is promised; empty where it does not."""
        matched, _ = self._map.bind_to_environ(response.request.environ).match(return_rule=True)
        return self.differs(
            (response.request.method, path_of(matched)),
            response.status_code,
            response.content_type,
            response.get_data(),
        )

    def differs(self, where: tuple[str, str], status: int, kind: str | None, body: bytes) -> str:
        """How what was answered to an operation differs from what is promised."""
        told = self._operations[where]["responses"]
        answer = told.get(str(status)) or (told.get("default") if status >= _ERRORS else None)
        if answer is None:
            return f"the status {status} is not described"
        if "$ref" in answer:
            answer = self.spec["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        content = answer.get("content", {})
        if not content:
            return f"a body of {kind} is not described" if body else ""
        if kind not in content:
            return f"the type {kind} is not described, of {status}"
        if "json" not in kind:
            return ""
        first = next(self._validator(content[kind]["schema"]).iter_errors(json.loads(body)), None)
        return "" if first is None else f"{list(first.instance_path)}: {first.message[:300]}"

    def _validator(self, schema: dict[str, Any]) -> jsonschema_rs.Validator:
        name = json.dumps(schema)
        if name not in self._validators:
            whole = {**_strict(schema), "components": self._components}
            self._validators[name] = jsonschema_rs.validator_for(whole, validate_formats=True)
        return self._validators[name]


def _strict(schema: Any) -> Any:
    """The same schema, in which nothing that it does not name may stand."""
    if isinstance(schema, list):
        return [_strict(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _strict(entry) for name, entry in schema.items()}
    if found.get("type") == "object" and "properties" in found:
        found["additionalProperties"] = False
    return found
