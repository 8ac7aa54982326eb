"""Policies: apply, look at, lint, try and withdraw them."""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus
from typing import Any

from flask import request

from engine.core import values
from engine.core.problem import Problem
from engine.errors import Invalid
from engine.guardrails import trial
from engine.runs import policies
from engine.runs.policies import Applied, Linted
from engine.store.policies import PolicyVersion
from web import body, pagination, permissions, principal, site
from web.errors import WrongMediaType
from web.routing import Routes
from web.schemas.pages import PageArguments, page_of
from web.schemas.policies import (
    AppliedSchema,
    ApplyArguments,
    LintSchema,
    PolicySchema,
    TrialSchema,
    TrialsSchema,
    WholePolicySchema,
    WithdrawSchema,
)

routes = Routes(
    "policies",
    __name__,
    url_prefix="/api/v1/policies",
    description="What runs must keep to: rules, budgets and plug-ins, in versions that never change.",
)

_KINDS = frozenset({"application/json", "application/yaml", "application/x-yaml", "text/yaml"})
_DOCUMENT = {
    "required": True,
    "description": "A policy, as JSON or as YAML; its schema is at /api/v1/schema/policy",
    "content": {
        "application/json": {"schema": {"$ref": "/api/v1/schema/policy"}},
        "application/yaml": {},
    },
}


@routes.on("POST", "", needs="policy:write")
@routes.described(requestBody=_DOCUMENT)
@routes.query(ApplyArguments)
@routes.gives(AppliedSchema, HTTPStatus.CREATED)
@routes.also_gives(HTTPStatus.OK, schema=AppliedSchema, description="It was in force before")
def apply(arguments: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Put a policy in force, from the next turn of every run on.

    What says the same as the newest version is that version; anything else is one more.
    """
    who = principal.current()
    found = policies.apply(
        site.current().platform, who.tenant, _text(), by=who.user, why=arguments["reason"]
    )
    place = f"/api/v1/policies/{found.version.name}/versions/{found.version.version}"
    status = HTTPStatus.CREATED if found.changed else HTTPStatus.OK
    return _applied(found), status, {"Location": body.address(place)}


@routes.on("GET", "", needs="policy:read")
@routes.query(PageArguments)
@routes.gives(page_of(PolicySchema))
def listed(arguments: dict[str, Any]) -> dict[str, Any]:
    """List policies by name: of each the version in force, else the newest."""
    limit = arguments["limit"]
    found = policies.listed(
        site.current().platform,
        principal.current().tenant,
        after=pagination.key_of(arguments.get("cursor"), str) or "",
        limit=limit + 1,
    )
    return pagination.page(found, limit=limit, key=lambda policy: policy.name)


@routes.on("POST", "/lint", needs="policy:read")
@routes.described(requestBody=_DOCUMENT)
@routes.gives(LintSchema)
def lint() -> dict[str, Any]:
    """Say what is wrong with a policy, and what is most likely not meant. Nothing is changed."""
    found: Linted = policies.linted(site.current().platform, principal.current().tenant, _text())
    return {
        "valid": not found.problems,
        "problems": found.problems,
        "warnings": found.warnings,
    }


@routes.on("POST", "/test", needs="policy:read")
@routes.takes(TrialSchema)
@routes.gives(TrialsSchema)
def test(given: dict[str, Any]) -> dict[str, Any]:
    """Say which rules of a policy would fire, on facts or on a run. Nothing is carried out."""
    policy, facts, run = given["policy"], given.get("facts"), given.get("run")
    if (facts is None) == (run is None):
        message = "a policy is tried on facts or on a run"
        raise Invalid([Problem(path="facts", message=message, remedy="give one of the two")])
    if run is not None:
        permissions.check(principal.current(), "run:read")
    text = policy if isinstance(policy, str) else values.canonical(policy)
    moments = None if facts is None else trial.read(facts)
    found = policies.try_out(
        site.current().platform,
        principal.current().tenant,
        text,
        facts=moments,
        run=None if run is None else str(run),
    )
    fired = Counter(verdict.rule for each in found for verdict in each.verdicts)
    return {"moments": [each.as_json() for each in found], "fired": fired}


@routes.on("GET", "/<name>", needs="policy:read")
@routes.gives(WholePolicySchema)
def show(name: str) -> PolicyVersion:
    """Get a policy: the version in force, else the newest."""
    return policies.show(site.current().platform, principal.current().tenant, name)


@routes.on("GET", "/<name>/versions", needs="policy:read")
@routes.query(PageArguments)
@routes.gives(page_of(PolicySchema))
def versions(arguments: dict[str, Any], name: str) -> dict[str, Any]:
    """List the versions of a policy, newest first."""
    limit = arguments["limit"]
    found = policies.versions(
        site.current().platform,
        principal.current().tenant,
        name,
        before=pagination.number_of(arguments.get("cursor")),
        limit=limit + 1,
    )
    return pagination.page(found, limit=limit, key=lambda policy: policy.version)


@routes.on("GET", "/<name>/versions/<int:version>", needs="policy:read")
@routes.gives(WholePolicySchema)
def version(name: str, version: int) -> PolicyVersion:
    """Get a version of a policy."""
    return policies.show(site.current().platform, principal.current().tenant, name, version)


@routes.on("POST", "/<name>/withdraw", needs="policy:write")
@routes.takes(WithdrawSchema, required=False)
@routes.gives(PolicySchema)
def withdraw(given: dict[str, Any], name: str) -> PolicyVersion:
    """Take a policy out of force, from the next turn of every run on."""
    who = principal.current()
    return policies.withdraw(
        site.current().platform, who.tenant, name, by=who.user, why=given["reason"]
    )


def _text() -> bytes:
    """The document in the body of the request, as it was written."""
    if request.mimetype not in _KINDS:
        raise WrongMediaType("a policy is YAML or JSON; send Content-Type: application/yaml")
    return body.read_bytes(request)


def _applied(found: Applied) -> dict[str, Any]:
    return {"policy": found.version, "changed": found.changed, "warnings": found.warnings}
