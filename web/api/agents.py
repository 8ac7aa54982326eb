"""Agents: enter files of them, read, rename and remove them, and run one."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from engine.formats import agent as formats
from engine.runs import agents
from engine.runs.agents import Entered
from engine.store.agents import AgentVersion
from web import pagination, principal, site
from web.api import runs
from web.routing import Routes
from web.schemas.agents import (
    AgentRunSchema,
    AgentSchema,
    AgentVersionsSchema,
    EnteredAgentsSchema,
    NewAgentsSchema,
    RemovalSchema,
    RenameSchema,
    WholeAgentSchema,
)
from web.schemas.pages import PageArguments, page_of
from web.schemas.runs import StatusSchema

#: Bytes of what an agent is given: files pass through it as they are, in base64.
MOST_INPUT = 32 * 1_048_576

routes = Routes(
    "agents",
    __name__,
    url_prefix="/api/v1/agents",
    description="Procs, templates and workflows with one interface, as seed 002 has them.",
)


@routes.on("POST", "", needs="definition:write")
@routes.takes(NewAgentsSchema)
@routes.gives(EnteredAgentsSchema)
def enter(asked: dict[str, Any]) -> dict[str, Any]:
    """Enter the agents of a file, all or none; what has not changed keeps its version."""
    who = principal.current()
    data = {"agents": asked["agents"]}
    return _entered(agents.enter(site.current().platform, who.tenant, data, by=who.user))


@routes.on("GET", "", needs="definition:read")
@routes.query(PageArguments)
@routes.gives(page_of(AgentSchema))
def newest(arguments: dict[str, Any]) -> dict[str, Any]:
    """List agents by name, each in its newest version."""
    limit = arguments["limit"]
    found = agents.page(
        site.current().platform,
        principal.current().tenant,
        after=pagination.key_of(arguments.get("cursor"), str) or "",
        limit=limit + 1,
    )
    page = pagination.page(found, limit=limit, key=lambda version: version.name)
    return {**page, "items": [shown(each) for each in page["items"]]}


@routes.on("GET", "/<name>", needs="definition:read")
@routes.gives(WholeAgentSchema)
def show(name: str) -> dict[str, Any]:
    """Get the newest version of an agent."""
    return shown(agents.find(site.current().platform, principal.current().tenant, name))


@routes.on("GET", "/<name>/versions", needs="definition:read")
@routes.gives(AgentVersionsSchema)
def versions(name: str) -> dict[str, Any]:
    """List the versions of an agent, newest first."""
    found = agents.versions(site.current().platform, principal.current().tenant, name)
    return {"items": [shown(each) for each in found]}


@routes.on("GET", "/<name>/versions/<version>", needs="definition:read")
@routes.gives(WholeAgentSchema)
def version(name: str, version: str) -> dict[str, Any]:
    """Get a version of an agent; of a major, the newest."""
    return shown(agents.find(site.current().platform, principal.current().tenant, name, version))


@routes.on("DELETE", "/<name>", needs="definition:write")
@routes.takes(RemovalSchema, required=False)
@routes.gives(AgentSchema)
def remove(asked: dict[str, Any], name: str) -> dict[str, Any]:
    """Remove an agent that nothing uses. What was pinned to a version of it runs on."""
    here, who = site.current(), principal.current()
    return shown(agents.remove(here.platform, who.tenant, name, by=who.user, why=asked["reason"]))


@routes.on("POST", "/<name>/rename", needs="definition:write")
@routes.takes(RenameSchema)
@routes.gives(EnteredAgentsSchema)
def rename(asked: dict[str, Any], name: str) -> dict[str, Any]:
    """Call an agent otherwise, in all agents that use it: these get another version each."""
    who = principal.current()
    found = agents.rename(
        site.current().platform, who.tenant, name, asked["name"], by=who.user, why=asked["reason"]
    )
    return _entered(found)


@routes.on("POST", "/<name>/runs", needs="run:start", most_bytes=MOST_INPUT)
@routes.described(parameters=[runs.KEY])
@routes.takes(AgentRunSchema, required=False)
@routes.gives(StatusSchema, HTTPStatus.CREATED)
@routes.also_gives(
    HTTPStatus.OK,
    schema=StatusSchema,
    description="The run was submitted before, under this key",
    success=True,
)
def run(asked: dict[str, Any], name: str) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Run an agent."""
    here, who = site.current(), principal.current()
    found = agents.find(here.platform, who.tenant, name, asked.get("version"))
    named = {"agent": name, "version": asked.get("version")}
    return runs.entered(runs.submitted(found.version_id, agents.inputs(asked["inputs"]), named))


def shown(found: AgentVersion) -> dict[str, Any]:
    """A version of an agent, as it is told."""
    agent = formats.entered(found.name, found.definition)
    called = None
    if found.function_version is not None:
        called = f"{formats.registered(found.name)}@{found.function_version}"
    return {
        "name": found.name,
        "version": found.version,
        "type": agent.type,
        "help": agent.help,
        "inputs": agent.inputs,
        "optional_inputs": agent.takes[len(agent.inputs) :],
        "outputs": agent.outputs,
        "workflow": formats.registered(found.name),
        "version_id": found.version_id,
        "function": called,
        "checksum": found.checksum,
        "created_by": found.created_by,
        "created_at": found.created_at,
        "written_by": found.written_by,
        "definition": found.definition,
        "uses": found.uses,
    }


def _entered(found: tuple[Entered, ...]) -> dict[str, Any]:
    return {"items": [{**shown(each.version), "changed": each.changed} for each in found]}
