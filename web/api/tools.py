"""Tools: what functions have, and beside it the terms of a call, how a tool stands, and models' lists."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from http import HTTPStatus
from typing import Any

from flask import request

from engine import tools
from engine.core.problem import Problem
from engine.errors import Invalid
from engine.runs import catalogue
from engine.store.functions import Function
from web import body, pagination, principal, site
from web.api import functions
from web.routing import Routes
from web.schemas.functions import (
    ChangeSchema,
    ModelToolsArguments,
    ModelToolSchema,
    NewServiceSchema,
    NewToolSchema,
    StandingSchema,
    ToolVersionSchema,
    ToolVersionsSchema,
    WholeToolVersionSchema,
)
from web.seed000 import answers

_TERMS = ("parameters", *(each.name for each in fields(tools.Terms) if each.name != "schema"))
_STANDING = ("status", "tags")


def _register(asked: dict[str, Any]) -> Function:
    who = principal.current()
    return catalogue.register(
        site.current().platform,
        who.tenant,
        "tool",
        asked["name"],
        asked["code"],
        description=asked["description"] or "",
        effect=asked["effect"],
        terms=tools.terms(_given(asked, _TERMS)),
        standing=_given(asked, _STANDING),
        by=who.user,
    )


def _given(asked: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: asked[name] for name in names if name in asked}


def _shown(found: Function) -> dict[str, Any]:
    declared = found.terms.schema
    return {
        **{each.name: getattr(found, each.name) for each in fields(found)},
        **found.terms.told(),
        "takes": found.parameters,
        "parameters": found.parameters if declared is None else declared,
        "schema": _schema(found),
        "status": found.standing.status,
        "tags": found.standing.tags,
    }


def _schema(found: Function) -> dict[str, Any]:
    declared = found.terms.schema
    signature: Any = found.parameters
    return tools.derived(signature) if declared is None else dict(declared)


routes = functions.resource(
    "tool",
    new=NewToolSchema,
    one=ToolVersionSchema,
    whole=WholeToolVersionSchema,
    versions_of=ToolVersionsSchema,
    enter=_register,
    shown=_shown,
    description="What running steps may call by name.",
)


@routes.on("POST", "/<name>/standing", needs="definition:write")
@routes.takes(ChangeSchema)
@routes.gives(StandingSchema)
def stand(asked: dict[str, Any], name: str) -> tools.Standing:
    """Change the status or the tags of a tool, in all of its versions, from the next call on."""
    who = principal.current()
    change = _given(asked, _STANDING)
    if not change:
        remedy = "give a status, tags, or both"
        raise Invalid([Problem(path="status", message="nothing is to change", remedy=remedy)])
    return catalogue.stand(
        site.current().platform, who.tenant, name, change, by=who.user, why=asked["reason"]
    )


service_routes = Routes(
    "services",
    __name__,
    url_prefix="/api/v1/services",
    description="Tools that reach outside: HTTP hosts, databases, models, servers of tools.",
)


@service_routes.on("POST", "", needs="service:write")
@service_routes.takes(NewServiceSchema)
@service_routes.gives(WholeToolVersionSchema, HTTPStatus.CREATED)
def register_service(asked: dict[str, Any]) -> tuple[Any, int, dict[str, str]]:
    """Register a service under a name: a version of a tool, listed and guarded as tools are."""
    who = principal.current()
    found = catalogue.register_service(
        site.current().platform,
        who.tenant,
        asked["name"],
        asked["kind"],
        asked["config"],
        description=asked["description"] or "",
        effect=asked["effect"],
        terms=tools.terms(_given(asked, _TERMS)),
        standing=_given(asked, _STANDING),
        by=who.user,
    )
    place = f"/api/v1/tools/{found.name}/versions/{found.version}"
    return _shown(found), HTTPStatus.CREATED, {"Location": body.address(place)}


model_routes = Routes(
    "tools-for-models",
    __name__,
    url_prefix="/api/v1/llm",
    description="What may be called, in the words of language models.",
)


@model_routes.on("GET", "/tools", needs="definition:read")
@model_routes.query(ModelToolsArguments)
@model_routes.gives(ModelToolSchema(many=True))
def for_models(arguments: dict[str, Any]) -> tuple[list[dict[str, Any]], int, dict[str, str]]:
    """List the tools that may be called, in function-calling format.

    A `Link` header leads on where there are very many.
    """
    limit = arguments["limit"]
    found = catalogue.for_models(
        site.current().platform,
        principal.current().tenant,
        tag=arguments.get("tag"),
        category=arguments.get("category"),
        after=pagination.key_of(arguments.get("cursor"), str) or "",
        limit=limit + 1,
    )
    page = pagination.page(found, limit=limit, key=lambda tool: tool.name)
    told = [tools.for_models(each.name, each.description, _schema(each)) for each in page["items"]]
    return told, 200, answers.link(request.path, page["next"])
