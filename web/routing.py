"""Blueprints whose routes are read strictly and described for `/openapi.json`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

import flask_smorest
from flask import request
from marshmallow import Schema

from web import body, permissions
from web.errors import PROBLEM
from web.schemas.problems import ProblemSchema

F = TypeVar("F", bound=Callable[..., Any])


class Routes(flask_smorest.Blueprint):  # type: ignore[misc]  # distributed without types
    """Routes of one kind of resource."""

    ARGUMENTS_PARSER = body.Parser()

    def on(
        self, method: str, rule: str, *, needs: str, most_bytes: int | None = None
    ) -> Callable[[F], F]:
        """Answer a method at an address, to whoever holds a permission (`permissions.needs`).

        `most_bytes`: of its body, where that may be larger than others.
        """

        def found(view: F) -> F:
            taking = view if most_bytes is None else _larger(view, most_bytes)
            told = self.doc(**{"x-permission": needs})(permissions.needs(needs)(taking))
            routed: F = self.route(rule, methods=[method])(told)
            return routed

        return found

    def query(self, schema: type[Schema]) -> Callable[[F], F]:
        """Take parameters from the address."""
        found: Callable[[F], F] = self.arguments(schema, location="query")
        return found

    def takes(self, schema: type[Schema], *, required: bool = True) -> Callable[[F], F]:
        """Take a JSON body, or perhaps none where no field of it is required."""
        found: Callable[[F], F] = self.arguments(schema, required=required)
        return found

    def gives(
        self,
        schema: type[Schema] | Schema | None,
        status: HTTPStatus = HTTPStatus.OK,
        **options: Any,
    ) -> Callable[[F], F]:
        """Answer with what a schema shows of what is returned."""
        found: Callable[[F], F] = self.response(status, schema, **options)
        return found

    def also_gives(self, status: HTTPStatus, **options: Any) -> Callable[[F], F]:
        """Describe another answer."""
        found: Callable[[F], F] = self.alt_response(status, **options)
        return found

    def refuses(self, status: HTTPStatus, description: str) -> Callable[[F], F]:
        """Describe a refusal that whoever calls should know of."""
        return self.also_gives(
            status, schema=ProblemSchema, content_type=PROBLEM, description=description
        )

    def described(self, **options: Any) -> Callable[[F], F]:
        """Add to the description what the code does not say."""
        found: Callable[[F], F] = self.doc(**options)
        return found


def _larger(view: F, most_bytes: int) -> F:
    """The view, for which a body may be so large."""

    @functools.wraps(view)
    def found(*args: Any, **kwargs: Any) -> Any:
        request.max_content_length = most_bytes
        return view(*args, **kwargs)

    return found  # type: ignore[return-value]  # it takes and gives the same
