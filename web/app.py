"""The Flask app of a platform: routes, their description, and what surrounds every request."""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import flask_smorest
from flask import Flask, Response, current_app, request
from flask.json.provider import JSONProvider

from engine.errors import Forbidden
from engine.platform import Platform
from web import body, docs, envelope, errors, permissions, principal, rendering, site
from web.api import (
    agents,
    approvals,
    audit,
    backtests,
    blobs,
    bundles,
    capabilities,
    checkpoints,
    delegations,
    drafts,
    events,
    executions,
    functions,
    health,
    history,
    keys,
    policies,
    recordings,
    replays,
    runs,
    schema,
    secrets,
    sent,
    sessions,
    steps,
    tools,
    usage,
    users,
    waits,
    workflows,
)
from web.schemas.problems import ProblemSchema, SeedErrorSchema
from web.seed000 import graphs as seed_graphs
from web.seed000 import registry, running, streams

_ERRORS = 400

DESCRIPTION = """\
Workflows that nothing can make forget: submit a graph, follow its run, read its history.

Everything under `/api/v1` takes a credential: `Authorization: Bearer …`, or `X-API-Key`; an API key
(`clr_…`) or a JWT of an issuer whom the platform trusts. It alone says whose data you see. 401: it is
missing or does not hold; 403: your user lacks the permission that is named (each operation tells
its own as `x-permission`); 404: there is no such
thing, or it is somebody else's.
Errors are `application/problem+json` and list every field with its remedy. Lists page by
cursor: hand `next` back as `cursor`. A submission with an `Idempotency-Key` may be repeated.

`/api/graph-bundle` takes archives of a drawing and the code of its nodes. The other routes
outside of `/api/v1` speak the language of the simple workflow engine: `/graph`, `/nodes`,
`/tools`.
"""


def create_app(platform: Platform, *, max_bytes: int = body.MAX_BYTES) -> Flask:
    """An app that serves a platform. Close its site (`site.of(app).close()`) when done."""
    app = Flask("celeriac", static_folder=None, template_folder=None)
    app.json = _Json(app)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.config.update(
        MAX_CONTENT_LENGTH=max_bytes,
        MAX_FORM_PARTS=0,
        API_TITLE="Celeriac",
        API_VERSION=version("celeriac"),
        OPENAPI_VERSION="3.1.0",
        API_SPEC_OPTIONS=_SPEC,
    )
    site.install(app, site.build(platform))
    envelope.install(app)
    app.before_request(_admit)
    app.register_error_handler(Exception, _answer)
    api = _Api(app)
    for blueprint in (
        workflows.routes,
        drafts.routes,
        runs.routes,
        steps.routes,
        executions.routes,
        history.routes,
        checkpoints.routes,
        blobs.routes,
        events.routes,
        waits.routes,
        approvals.routes,
        delegations.routes,
        sent.routes,
        sessions.routes,
        functions.routes,
        agents.routes,
        tools.routes,
        tools.model_routes,
        tools.service_routes,
        audit.routes,
        bundles.routes,
        bundles.check_routes,
        policies.routes,
        secrets.routes,
        capabilities.routes,
        usage.routes,
        backtests.routes,
        replays.routes,
        recordings.routes,
        schema.routes,
        health.routes,
        users.me_routes,
        users.routes,
        keys.routes,
        seed_graphs.routes,
        running.routes,
        registry.node_routes,
        registry.tool_routes,
    ):
        api.register_blueprint(blueprint)
    app.register_blueprint(streams.routes)
    app.register_blueprint(docs.routes)
    app.register_blueprint(docs.root)
    described = permissions.needs(permissions.PUBLIC)(lambda: rendering.json(api.spec.to_dict()))
    app.add_url_rule("/openapi.json", "openapi", described)
    permissions.check_declared(app)
    return app


class _Api(flask_smorest.Api):  # type: ignore[misc]  # distributed without types
    """Describes the routes; what goes wrong is answered by `web.errors` alone."""

    ERROR_SCHEMA = ProblemSchema

    def _register_responses(self) -> None:
        """Errors in their two shapes: that of `/api/v1`, and that of the simple engine."""
        told = {status.name: status.phrase for status in HTTPStatus if status >= _ERRORS}
        for name, phrase in {**told, "DEFAULT_ERROR": "Whatever else goes wrong"}.items():
            content = {
                errors.PROBLEM: {"schema": ProblemSchema},
                rendering.JSON: {"schema": SeedErrorSchema},
            }
            response = {"description": phrase, "content": content}
            self.spec.components.response(name, response, lazy=True)

    def handle_http_exception(self, error: Exception) -> Response:
        return errors.answer(error)


class _Json(JSONProvider):
    """One way of writing JSON for the whole of the app."""

    def dumps(self, obj: Any, **_: Any) -> str:
        return rendering.text(obj)

    def loads(self, s: str | bytes, **_: Any) -> Any:
        return body.strict(s.encode() if isinstance(s, str) else s)


def _admit() -> None:
    """Nothing unknown, and nobody unknown, gets past here."""
    if request.endpoint is None or request.method == "OPTIONS":
        return
    body.check_path(request)
    needed = permissions.of(current_app, request.endpoint)
    assert needed is not None
    if needed != permissions.PUBLIC and not permissions.is_within(current_app, request.endpoint):
        principal.admit(request, needed)


def _answer(error: Exception) -> Response:
    if isinstance(error, Forbidden):
        principal.note_refusal(request, error)
    return errors.answer(error)


_SPEC = {
    "info": {"description": DESCRIPTION},
    "components": {
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
    },
    "security": [{"bearer": []}, {"key": []}],
}
