"""Services: what tools reach outside of the platform, as it is registered.

A service is a tool whose body is neither source nor library code but a kind and a configuration:
which hosts may be asked (`http`), which database (`sql`), which model and at what price (`llm`),
whose tools (`mcp`); or which of the tenant's own definitions may be read and written (`catalogue`). It is versioned, pinned and guarded as every tool is; what it does is done by
the worker (`workers.services`), outside of whatever code called it.

One module per kind reads and checks a configuration and says what a call takes. Nothing here does
I/O. What must stay secret stands in a configuration as `$env.NAME`, is refused where it is written out,
and is put in by the worker just before a call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from engine.core.problem import Problem
from engine.core.section import suggestion
from engine.core.values import Json
from engine.errors import Invalid
from engine.services import catalogue, http, llm, mcp, sql


class Config(Protocol):
    """A configuration that has been read."""

    @property
    def parameters(self) -> Mapping[str, Json]:
        """The JSON Schema of the arguments of a call."""

    @property
    def timeout(self) -> float:
        """Seconds that a call may take."""

    @property
    def effect(self) -> str:
        """What a call leaves in the world, where nobody says it."""


Reader = Callable[..., Config]

#: By kind: `read(config, *, path="", resolved=False) -> Config`, which raises `Invalid` with every problem.
READERS: Mapping[str, Reader] = {
    catalogue.KIND: catalogue.read,
    "http": http.read,
    "llm": llm.read,
    "mcp": mcp.read,
    "sql": sql.read,
}


def read(
    kind: str, config: Mapping[str, Any], *, path: str = "config", resolved: bool = False
) -> Config:
    """Read the configuration of a service; `resolved` where it need not name its secrets.

    Raises `Invalid` with every problem.
    """
    reader = READERS.get(kind)
    if reader is None:
        known = ", ".join(sorted(READERS))
        remedy = suggestion(kind, READERS) or f"write one of {known}"
        problem = Problem(path="kind", message=f"there is no kind {kind!r}", remedy=remedy)
        raise Invalid([problem], "the service cannot be registered")
    return reader(config, path=path, resolved=resolved)


def permissions(config: Config) -> tuple[str, ...]:
    """What whoever calls a service must be allowed to do in any case."""
    return config.permissions if isinstance(config, catalogue.Config) else ()


def reached(
    service: Mapping[str, Any], name: str, arguments: Mapping[str, Json]
) -> dict[str, Json]:
    """What a call of a registered service would reach, as `engine.capabilities.refusal` asks for it."""
    config = read(service["kind"], service["config"], resolved=True)
    match config:
        case http.Config():
            try:
                return {"url": http.target(config, arguments)}
            except http.Beyond:
                return {"url": None}
        case sql.Config(write=write):
            return {"database": name, "write": write}
        case _:
            return {}


#: Of kinds whose calls cost what is in them: what one may use, by unit.
ESTIMATES: Mapping[str, Callable[[Any, Mapping[str, Json]], Mapping[str, float]]] = {
    "llm": llm.estimate
}


def estimate(service: Mapping[str, Any], arguments: Mapping[str, Json]) -> Mapping[str, float]:
    """What a call of a registered service may use, as far as that shows in its arguments.

    `service` is its `kind` and its `config`; secrets need not be put in.
    """
    known = ESTIMATES.get(service["kind"])
    if known is None:
        return {}
    return known(read(service["kind"], service["config"], resolved=True), arguments)
