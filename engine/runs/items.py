"""The items of maps, as what is done with them knows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson
from sqlalchemy import Connection

from engine import waiting
from engine.core.graph import Graph, Map, NodeId
from engine.core.values import Json
from engine.store import payloads
from engine.store.ids import RunId


class Place(NamedTuple):
    """Where an item is: in a run, the step of its map, and which it is."""

    run: RunId
    of: str
    number: int


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
    ((place, item),) = read(connection, [Place(run, of, index)]).items()
    return named(graph, place, item)


def read(connection: Connection, places: Sequence[Place]) -> Mapping[Place, Json]:
    """Items, in one statement."""
    wanted = {(place.run, payload_name(place.of, place.number)): place for place in places}
    return {
        wanted[RunId(row.tenant_id, row.run_id), row.id]: orjson.loads(row.body)
        for row in payloads.get(connection, [*wanted])
    }


def named(graph: Graph, place: Place, item: Json) -> dict[str, Json]:
    """An item that was read, by the names by which the node within its map knows it."""
    declared = graph.nodes[node_of(place.of)].wait
    assert isinstance(declared, Map)
    return waiting.item_names(declared, place.number, item)
