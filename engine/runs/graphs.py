"""Graphs of workflow versions, read once per process: a version never changes."""

from __future__ import annotations

import orjson
from sqlalchemy import Connection

from engine.core import document
from engine.core.graph import Graph
from engine.core.values import Json
from engine.errors import Invalid, NotFound
from engine.store import workflows

_CACHED = 1000


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


def parse(data: Json) -> Graph:
    """A document that was valid when it was published. Raises `Invalid` if it no longer is."""
    graph = document.read(data)
    if isinstance(graph, tuple):
        raise Invalid(graph, "a published document can no longer be read")
    return graph


_parsed: dict[tuple[str, str], Graph] = {}
