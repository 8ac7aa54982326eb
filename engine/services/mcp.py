"""MCP services: a server of tools, or one of its tools.

    kind: mcp
    config:
      url: https://tools.example.com/mcp
      auth: {bearer: $env.TOOLS_TOKEN}
      headers: {X-Team: blue}
      tool: search
      schema: {type: object, properties: {query: {type: string}}, required: [query]}
      timeout: 20s

Without a `tool` a call lists the server's tools. With one it is a call of that tool, and takes what
`schema` says: what was agreed to when it was registered, whatever the server says of it later. Servers
are reached by streamable HTTP alone: no process is started for one. `auth`, `headers`, `timeout`,
`max_bytes` (of all answers in one call) and `allow_private` are as HTTP services have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine import tools
from engine.core.problem import Problem
from engine.core.section import Section
from engine.core.values import Json
from engine.errors import Invalid
from engine.services import http, origins, settled
from engine.services.origins import Origin

#: What a server's tool may be called there.
TOOL = r"^[^\x00-\x20\x7f]{1,128}$"
#: What people write who mean a server that is a process of theirs.
_PROCESS = ("command", "args", "env", "cwd", "stdio")
#: Headers that the protocol sets.
_PROTOCOL = frozenset({"accept", "content-type", "last-event-id", "idempotency-key"})
_FIELDS = (*("url", "tool", "schema", "headers", "auth", "timeout", "max_bytes", "allow_private"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """An MCP service, as it was configured."""

    url: str
    #: The tool that a call is of, by the server's name for it; None where a call lists them.
    tool: str | None = None
    #: What a call of the tool takes, as JSON Schema.
    schema: Mapping[str, Json] = field(default_factory=dict)
    #: Sent with every request. They may hold secrets, as `auth` does.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: The header that says who asks, and its value; what is secret in it may be a name still.
    auth: tuple[str, str] | None = field(default=None, repr=False)
    #: Seconds in all.
    timeout: float = http.SECONDS
    #: Of everything that the server answers in one call.
    max_bytes: int = http.BYTES
    allow_private: tuple[str, ...] = ()

    @property
    def origin(self) -> Origin:
        """The one place that requests go to."""
        return origins.origin(self.url)

    @property
    def effect(self) -> str:
        """What a call leaves in the world, where nobody says it: of strangers the worst."""
        return "pure" if self.tool is None else "at_most_once"

    @property
    def parameters(self) -> Mapping[str, Json]:
        """The JSON Schema of the arguments of a call."""
        if self.tool is None:
            return {"type": "object", "properties": {}, "additionalProperties": False}
        return self.schema or {"type": "object"}


def read(config: Json, *, path: str = "config", resolved: bool = False) -> Config:
    """Read a configuration; `resolved` where what is secret has been put in.

    Raises `Invalid` with every problem; none quotes what may be secret.
    """
    problems: list[Problem] = []
    section = Section(config, path, problems)
    for name in _PROCESS:
        if name in section.fields:
            remedy = "serve it by streamable HTTP, and give its url"
            section.fail(name, "no process is started for a server of tools", remedy)
    section.known((*_FIELDS, *_PROCESS))
    timeout = section.duration("timeout", 0.05, settled.MAX_SECONDS)
    auth = http.credentials(section, resolved=resolved) if "auth" in section.fields else None
    tool = section.text("tool", TOOL, "the server's name of a tool, without spaces")
    found = Config(
        url=_url(section),
        tool=tool,
        schema=_schema(section),
        headers=_headers(section, auth, resolved=resolved),
        auth=auth,
        timeout=http.SECONDS if timeout is None else timeout,
        max_bytes=section.integer("max_bytes", 1, http.MOST_BYTES, http.BYTES),
        allow_private=settled.private(section),
    )
    if problems:
        raise Invalid(problems, "the configuration of the mcp service is not valid")
    return found


def _url(section: Section) -> str:
    given = section.fields.get("url")
    if not isinstance(given, str):
        section.wrong(section.at("url"), given, "the URL of a server, such as https://host/mcp")
        return ""
    try:
        origins.origin(given)
    except ValueError as error:
        section.fail("url", f"it {error}", "write a URL, such as https://tools.example.com/mcp")
    return given


def _schema(section: Section) -> Mapping[str, Json]:
    if "schema" not in section.fields:
        return {}
    if "tool" not in section.fields:
        section.fail("schema", "it is of no tool", "name the tool, or leave the schema out")
    given = section.fields["schema"]
    schema = given if isinstance(given, dict) else {}
    section.problems += tools.schema_problems(given, schema, section.at("schema"))
    if names := settled.missing(schema):
        # A server may write it, and is not to say which secrets it gets.
        message = f"it stands for secrets: {', '.join(names)}"
        section.fail("schema", message, "give secrets in auth and headers alone")
    return schema


def _headers(
    section: Section, auth: tuple[str, str] | None, *, resolved: bool
) -> Mapping[str, str]:
    found = http.own_headers(section, auth, resolved=resolved)
    for name in found:
        if name.lower() in _PROTOCOL or name.lower().startswith("mcp-"):
            section.fail(
                f"headers.{name}", f"the header {name} is the protocol's own", "leave it out"
            )
    return found
