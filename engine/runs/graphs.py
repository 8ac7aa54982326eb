"""Graphs of workflow versions, read once per process: a version never changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import orjson
from sqlalchemy import Connection

from engine.core import document
from engine.core.graph import Graph
from engine.core.values import Json
from engine.errors import Invalid, NotFound
from engine.store import migrations, workflows
from engine.store.ids import RunId

_CACHED = 1000

Pins: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Under:
    """A version that a run is under, and what it has pinned there."""

    version: str
    pins: Pins


def load(connection: Connection, tenant: str, version_id: str) -> Graph:
    """The graph of a workflow version. Raises `NotFound`."""
    known = _parsed.get((tenant, version_id))
    if known is not None:
        return known
    text = workflows.document(connection, tenant, version_id)
    if text is None:
        raise NotFound(f"workflow version {version_id} does not exist")
    if len(_parsed) >= _CACHED:
        _parsed.clear()
    graph = parse(orjson.loads(text))
    _parsed[(tenant, version_id)] = graph
    return graph


def of_run(connection: Connection, run: RunId, graph: Graph) -> Graph:
    """The graph of a run, and beside it what it had under earlier versions: to read its record by."""
    for moved in reversed(migrations.of(connection, run)):
        graph = _beside(graph, load(connection, run.tenant, str(moved.was)))
    return graph


def under(connection: Connection, run: RunId, seq: int, *, version: str, pins: Pins) -> Under:
    """The version that a run was under at a line of its history; it is under `version` now."""
    for moved in migrations.of(connection, run):
        if moved.seq > seq:
            return Under(version=str(moved.was), pins=moved.was_pins)
    return Under(version=version, pins=pins)


def _beside(new: Graph, old: Graph) -> Graph:
    """A graph with the nodes and edges of another that it does not have."""
    known = {edge.id for edge in new.edges}
    return replace(
        new,
        nodes={**old.nodes, **new.nodes},
        edges=(*new.edges, *(edge for edge in old.edges if edge.id not in known)),
    )


def parse(data: Json) -> Graph:
    """A document that was valid when it was published. Raises `Invalid` if it no longer is."""
    graph = document.read(data)
    if isinstance(graph, tuple):
        raise Invalid(graph, "a published document can no longer be read")
    return graph


_parsed: dict[tuple[str, str], Graph] = {}
