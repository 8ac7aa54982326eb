"""Functions and tools: register source, read what is registered. Two namespaces, one way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from marshmallow import Schema

from engine.errors import NotFound
from engine.runs import catalogue
from engine.store.functions import Function, Namespace
from web import body, pagination, principal, site
from web.routing import Routes
from web.schemas.functions import (
    FunctionSchema,
    FunctionVersionsSchema,
    NewFunctionSchema,
    WholeFunctionSchema,
)
from web.schemas.pages import PageArguments, page_of

#: As large as a version's number can be.
_LAST = 2**31 - 1


def resource(
    namespace: Namespace,
    *,
    new: type[Schema],
    one: type[Schema],
    whole: type[Schema],
    versions_of: type[Schema],
    enter: Callable[[dict[str, Any]], Function],
    shown: Callable[[Function], Any],
    description: str,
) -> Routes:
    """The routes of a namespace: `enter` keeps what was handed in, `shown` is what is told."""
    plural = f"{namespace}s"
    routes = Routes(plural, __name__, url_prefix=f"/api/v1/{plural}", description=description)

    @routes.on("POST", "", needs="definition:write")
    @routes.takes(new)
    @routes.gives(whole, HTTPStatus.CREATED)
    def register(asked: dict[str, Any]) -> tuple[Any, int, dict[str, str]]:
        """Register source under a name. Runs that have not used the name yet use it."""
        found = enter(asked)
        place = f"/api/v1/{plural}/{found.name}/versions/{found.version}"
        return shown(found), HTTPStatus.CREATED, {"Location": body.address(place)}

    @routes.on("GET", "", needs="definition:read")
    @routes.query(PageArguments)
    @routes.gives(page_of(one))
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
        page = pagination.page(found, limit=limit, key=lambda function: function.name)
        return {**page, "items": [shown(each) for each in page["items"]]}

    @routes.on("GET", "/<name>", needs="definition:read")
    @routes.gives(whole)
    def show(name: str) -> Any:
        """Get the newest version of a name."""
        return shown(
            catalogue.function(site.current().platform, principal.current().tenant, namespace, name)
        )

    @routes.on("GET", "/<name>/versions", needs="definition:read")
    @routes.gives(versions_of)
    def versions(name: str) -> dict[str, Sequence[Any]]:
        """List the versions of a name, newest first."""
        found = catalogue.function_versions(
            site.current().platform, principal.current().tenant, namespace, name
        )
        if not found:
            raise NotFound(f"{namespace.capitalize()} not found: {name}")
        return {"items": [shown(each) for each in found]}

    @routes.on("GET", "/<name>/versions/<int:version>", needs="definition:read")
    @routes.gives(whole)
    def version(name: str, version: int) -> Any:
        """Get a version of a name."""
        if version > _LAST:
            raise NotFound(f"{namespace.capitalize()} not found: {name}@{version}")
        return shown(
            catalogue.function(
                site.current().platform, principal.current().tenant, namespace, name, version
            )
        )

    return routes


def _register(asked: dict[str, Any]) -> Function:
    who = principal.current()
    return catalogue.register(
        site.current().platform,
        who.tenant,
        "function",
        asked["name"],
        asked["code"],
        description=asked["description"] or "",
        by=who.user,
    )


routes = resource(
    "function",
    new=NewFunctionSchema,
    one=FunctionSchema,
    whole=WholeFunctionSchema,
    versions_of=FunctionVersionsSchema,
    enter=_register,
    shown=lambda function: function,
    description="What nodes run and choose by.",
)
