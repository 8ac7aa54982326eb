"""Bringing the tools of a server into the registry: each one a service, held to policies.

The platform asks the server, by a run like any other, so what it may reach, and who may ask, is what it
always is. What the server says of its tools is then registered as it stands, and that is what runs
use from then on: a tool whose description or schema its server changes afterwards stays what it was,
until somebody syncs again and sees what would be different.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from celeriac.client.errors import ApiError
from celeriac.client.records import Tool
from engine.core.document import vocabulary as words
from engine.core.problem import Problem
from engine.errors import Invalid

if TYPE_CHECKING:
    from celeriac.client.client import Client

#: Seconds that the server's list is waited for.
SECONDS = 120.0
#: Characters of a server's description that are kept: models read every one of them.
_LONGEST = 4_096
_NODE = "tools"
_FOREIGN = re.compile(r"[^A-Za-z0-9_.-]")
_TERMS = (
    *("required_permissions", "cost_estimate_usd", "tokens_estimate", "timeout_seconds"),
    *("rate_per_minute", "rate_per_hour", "requires_approval", "category", "undo"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something that a tool says of itself, as it is registered and as its server has it."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What became of the tools of a server, by the names that they have here."""

    server: str
    #: The run that asked for them.
    run: str
    #: Whether nothing was registered.
    dry_run: bool
    new: tuple[str, ...]
    changed: Mapping[str, tuple[Difference, ...]]
    same: tuple[str, ...]
    #: Registered still, and not the server's any more: calls of them fail there.
    gone: tuple[str, ...]
    #: Why a tool is not registered, by the server's name for it.
    refused: Mapping[str, str]


@dataclass(kw_only=True)
class _Found:
    new: list[str] = field(default_factory=list)
    changed: dict[str, tuple[Difference, ...]] = field(default_factory=dict)
    same: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def sync(client: Client, name: str, *, trust_hints: bool, dry_run: bool, timeout: float) -> Synced:
    """Register the tools of the server that a service names. See `Client.sync_services`."""
    server = client.tool(name)
    config = _config(server)
    run, listed = _listed(client, server, timeout)
    ours = {tool.name: tool for tool in client.tools() if tool.name.startswith(f"{name}.")}
    named = {each["name"]: _named(name, each["name"]) for each in listed}
    times = Counter(named[each["name"]] for each in listed)
    found = _Found()
    for each in listed:
        known_as = named[each["name"]]
        before = ours.get(known_as)
        if why := _unfit(name, known_as, times[known_as], before):
            found.refused[each["name"]] = why
            continue
        wanted = _wanted(each, config, server, before, trust_hints=trust_hints)
        differences = () if before is None else _differences(before, wanted)
        if before is not None and not differences:
            found.same.append(known_as)
            continue
        if not dry_run:
            try:
                client.register_service(known_as, "mcp", wanted.pop("config"), **wanted)
            except Invalid as error:
                found.refused[each["name"]] = str(error)
                continue
        if before is None:
            found.new.append(known_as)
        else:
            found.changed[known_as] = differences
    gone = [tool.name for tool in ours.values() if _own(name, tool) not in {None, *named}]
    return Synced(
        server=name,
        run=run,
        dry_run=dry_run,
        new=tuple(found.new),
        changed=found.changed,
        same=tuple(found.same),
        gone=tuple(gone),
        refused=found.refused,
    )


def _config(server: Tool) -> dict[str, Any]:
    """How a server is reached. Raises `Invalid` for what is none."""
    service = server.service or {}
    if service.get("kind") == "mcp" and "tool" not in service["config"]:
        return dict(service["config"])
    what = "one tool of a server" if service.get("kind") == "mcp" else "no server of tools"
    remedy = "register a service of kind mcp without a tool, and name that"
    problem = Problem(path="name", message=f"{server.name} is {what}", remedy=remedy)
    raise Invalid([problem], "there is nothing to sync")


def _listed(client: Client, server: Tool, timeout: float) -> tuple[str, list[dict[str, Any]]]:
    """The run that asked the server for its tools, and what it says of them."""
    reference = f"{server.name}@{server.version}"
    version = client.publish(
        {
            "workflow": f"sync.{server.name}",
            "nodes": {_NODE: {"kind": "tool", "tool": reference}},
        }
    )
    run = client.submit(version).wait(timeout)
    if run.status != "completed":
        message = f"run {run.id}, which asked {server.name}, is {run.status}: {run.message}"
        raise ApiError(message)
    return run.id, client.result(run.id, f"{_NODE}#1").result["tools"]


def _named(name: str, tool: str) -> str:
    """What a tool of a server is called here: what names here may not have is an underscore."""
    return f"{name}.{_FOREIGN.sub('_', tool)}"


def _unfit(name: str, known_as: str, times: int, before: Tool | None) -> str | None:
    """What keeps a tool from being registered under a name."""
    if not words.matches(words.FUNCTION, known_as):
        return "its name is too long for one here, which has up to 128 characters"
    if times > 1:
        return f"several tools of the server would be {known_as}"
    if before is not None and _own(name, before) is None:
        return f"{known_as} is registered as something else"
    return None


def _wanted(
    listed: Mapping[str, Any],
    config: Mapping[str, Any],
    server: Tool,
    before: Tool | None,
    *,
    trust_hints: bool,
) -> dict[str, Any]:
    """A tool of a server, as it is to be registered.

    Its terms are those that it was given here, and at first those of its server's service.
    """
    description = listed["description"]
    if len(description) > _LONGEST:
        description = description[: _LONGEST - 1] + "…"
    effect = "at_most_once" if before is None else before.effect
    if trust_hints:
        effect = _hinted(listed["annotations"])
    return {
        "config": {**config, "tool": listed["name"], "schema": listed["schema"]},
        "description": description,
        "effect": effect,
        **{term: _plain(getattr(before or server, term)) for term in _TERMS},
    }


def _hinted(annotations: Mapping[str, Any]) -> str:
    """What a call leaves in the world, if the server is to be believed."""
    if annotations.get("readOnlyHint"):
        return "pure"
    return "idempotent" if annotations.get("idempotentHint") else "at_most_once"


def _differences(before: Tool, wanted: Mapping[str, Any]) -> tuple[Difference, ...]:
    registered: Mapping[str, Any] = {} if before.service is None else before.service["config"]
    pairs = {
        "description": (before.description, wanted["description"]),
        "effect": (before.effect, wanted["effect"]),
        **{
            key: (registered.get(key), wanted["config"].get(key))
            for key in dict.fromkeys((*registered, *wanted["config"]))
        },
    }
    return tuple(
        Difference(field=key, before=old, after=new)
        for key, (old, new) in pairs.items()
        if old != new
    )


def _own(name: str, tool: Tool) -> str | None:
    """What a server calls the tool that is registered; None for one that is not of that server."""
    service = tool.service or {}
    own = service["config"].get("tool") if service.get("kind") == "mcp" else None
    return own if own is not None and tool.name == _named(name, own) else None


def _plain(value: Any) -> Any:
    return [*value] if isinstance(value, tuple) else value
