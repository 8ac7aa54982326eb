"""The items of maps, as what is done with them knows them."""

from __future__ import annotations

import orjson
from sqlalchemy import Connection

from engine import waiting
from engine.core.graph import Graph, Map, NodeId
from engine.core.values import Json
from engine.store import payloads
from engine.store.ids import RunId


def payload_name(of: str, index: int) -> str:
    """The name of the payload in which an item lies."""
    return f"{of}.{index}/item"


def node_of(key: str) -> NodeId:
    """The node that a step's key names."""
    return NodeId(key.rpartition("#")[0])


def of(key: str) -> str:
    """The key of the step whose item a step is about; its own, if it is about none."""
    node, _, number = key.rpartition("#")
    return f"{node}#{number.partition('.')[0]}"


def names(connection: Connection, run: RunId, graph: Graph, of: str, index: int) -> dict[str, Json]:
    """The names by which the node within a map knows an item of it."""
    declared = graph.nodes[node_of(of)].wait
    assert isinstance(declared, Map)
    (row,) = payloads.get(connection, [(run, payload_name(of, index))])
    return waiting.item_names(declared, index, orjson.loads(row.body))
