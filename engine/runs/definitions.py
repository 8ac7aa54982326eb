"""Functions and tools as a run sees them: by pinned version, each read once per process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from engine.store import calls, functions
from engine.store.ids import StepId

_CACHED = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A version of a function or tool: source that somebody sent, or installed library code."""

    namespace: str
    name: str
    version: int
    source: str | None
    library: str | None
    effect: str


def of_run(
    connection: Connection, step: StepId, pins: Mapping[str, int], namespace: str, name: str
) -> Definition | None:
    """What a name means to a run; None when there is no such function or tool.

    Names that the graph names were pinned at submission; others are at their first use.
    """
    version = pins.get(f"{namespace}:{name}") or calls.pin(connection, step, namespace, name)
    if version is None:
        return None
    return _load(connection, step.tenant, namespace, name, version)


def _load(
    connection: Connection, tenant: str, namespace: str, name: str, version: int
) -> Definition | None:
    key = (tenant, namespace, name, version)
    if key not in _known:
        row = functions.get(connection, tenant, namespace, name, version)
        if row is None:
            return None
        if len(_known) >= _CACHED:
            _known.clear()
        _known[key] = Definition(
            namespace=namespace,
            name=name,
            version=version,
            source=row.source,
            library=row.library,
            effect=row.effect,
        )
    return _known[key]


_known: dict[tuple[str, str, str, int], Definition] = {}
