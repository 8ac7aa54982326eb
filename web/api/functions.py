"""Functions and tools: register source, read what is registered. Two namespaces, one way."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from engine.errors import NotFound
from engine.runs import catalogue
from engine.store.functions import Function, Namespace
from web import body, pagination, principal, site
from web.routing import Routes
from web.schemas.functions import (
    FunctionSchema,
    FunctionVersionsSchema,
    NewFunctionSchema,
    NewToolSchema,
    WholeFunctionSchema,
)
from web.schemas.pages import PageArguments, page_of

#: As large as a version's number can be.
_LAST = 2**31 - 1


def _routes(namespace: Namespace, new: type[NewFunctionSchema], description: str) -> Routes:
    plural = f"{namespace}s"
    routes = Routes(plural, __name__, url_prefix=f"/api/v1/{plural}", description=description)

    @routes.on("POST", "", needs="definition:write")
    @routes.takes(new)
    @routes.gives(WholeFunctionSchema, HTTPStatus.CREATED)
    def register(asked: dict[str, Any]) -> tuple[Function, int, dict[str, str]]:
        """Register source under a name. Runs submitted from now on use it."""
        who = principal.current()
        found = catalogue.register(
            site.current().platform,
            who.tenant,
            namespace,
            asked["name"],
            asked["code"],
            description=asked["description"] or "",
            effect=asked.get("effect", "pure"),
            by=who.user,
        )
        place = f"/api/v1/{plural}/{found.name}/versions/{found.version}"
        return found, HTTPStatus.CREATED, {"Location": body.address(place)}

    @routes.on("GET", "", needs="definition:read")
    @routes.query(PageArguments)
    @routes.gives(page_of(FunctionSchema))
    def newest(arguments: dict[str, Any]) -> dict[str, Any]:
        """List names, each in its newest version."""
        limit = arguments["limit"]
        found = catalogue.function_list(
            site.current().platform,
            principal.current().tenant,
            namespace,
            after=pagination.key_of(arguments.get("cursor"), str) or "",
            limit=limit + 1,
        )
        return pagination.page(found, limit=limit, key=lambda function: function.name)

    @routes.on("GET", "/<name>", needs="definition:read")
    @routes.gives(WholeFunctionSchema)
    def show(name: str) -> Function:
        """Get the newest version of a name."""
        return catalogue.function(
            site.current().platform, principal.current().tenant, namespace, name
        )

    @routes.on("GET", "/<name>/versions", needs="definition:read")
    @routes.gives(FunctionVersionsSchema)
    def versions(name: str) -> dict[str, Sequence[Function]]:
        """List the versions of a name, newest first."""
        found = catalogue.function_versions(
            site.current().platform, principal.current().tenant, namespace, name
        )
        if not found:
            raise NotFound(f"{namespace.capitalize()} not found: {name}")
        return {"items": found}

    @routes.on("GET", "/<name>/versions/<int:version>", needs="definition:read")
    @routes.gives(WholeFunctionSchema)
    def version(name: str, version: int) -> Function:
        """Get a version of a name."""
        if version > _LAST:
            raise NotFound(f"{namespace.capitalize()} not found: {name}@{version}")
        return catalogue.function(
            site.current().platform, principal.current().tenant, namespace, name, version
        )

    return routes


routes = _routes("function", NewFunctionSchema, "What nodes run and choose by.")
tool_routes = _routes("tool", NewToolSchema, "What running steps may call by name.")
