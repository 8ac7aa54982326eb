"""The JSON Schemas of documents."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Response

from engine.core import schema
from engine.core.values import Json
from engine.guardrails import schema as policies
from web import rendering
from web.permissions import PUBLIC
from web.routing import Routes

routes = Routes(
    "schema", __name__, url_prefix="/api/v1", description="The languages of documents, for tools."
)

_SCHEMA = "application/schema+json"
_DESCRIBED: Mapping[str, Json] = {
    "200": {"description": "The schema", "content": {_SCHEMA: {"schema": {"type": "object"}}}}
}


@routes.on("GET", "/schema", needs=PUBLIC)
@routes.gives(None)
@routes.described(security=[], responses=_DESCRIBED)
def document_schema() -> Response:
    """Get the JSON Schema of workflow documents, for editors and for whoever validates early."""
    return rendering.json(schema.document_schema(), media_type=_SCHEMA)


@routes.on("GET", "/schema/policy", needs=PUBLIC)
@routes.gives(None)
@routes.described(security=[], responses=_DESCRIBED)
def policy_schema() -> Response:
    """Get the JSON Schema of policies, for editors and for whoever validates early."""
    return rendering.json(policies.policy_schema(), media_type=_SCHEMA)
