"""Reading the edges of a document: chains and arrows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from engine.core.document import vocabulary as words
from engine.core.document.names import reference
from engine.core.graph import Edge, EdgeId, NodeId
from engine.core.problem import Problem
from engine.core.section import UNREAD, Section, nearest, short
from engine.core.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """An edge as it stands in a document."""

    edge: Edge
    place: str
    #: It says that its source takes every edge that holds.
    parallel: bool = False


def edges(top: Section) -> list[Drawn] | None:
    """The edges in order; None if they are no list or too many."""
    given = top.fields.get("edges", [])
    if not isinstance(given, list):
        top.wrong("edges", given, "a list of edges, such as - a -> b")
        return None
    found: dict[EdgeId, Drawn] = {}
    for index, entry in enumerate(given):
        for each in _drawn(top, f"edges[{index}]", entry):
            name = _id(each.edge.source, each.edge.target, found)
            found[name] = replace(each, edge=replace(each.edge, id=name))
            if len(found) > words.MAX_EDGES:
                top.fail("edges", f"more than {words.MAX_EDGES} edges", "split the workflow")
                return None
    return list(found.values())


def _id(source: str, target: str, taken: Mapping[EdgeId, object]) -> EdgeId:
    """The name of an edge: its ends, numbered where several join the same two nodes."""
    name, number = f"{source}->{target}", 1
    while (found := EdgeId(name if number == 1 else f"{name}#{number}")) in taken:
        number += 1
    return found


def _drawn(top: Section, path: str, entry: Json) -> Iterator[Drawn]:
    """The edges that one entry of the list stands for."""
    match entry:
        case str():
            yield from _chain(top, path, entry)
        case dict():
            yield from _arrows(Section(entry, path, top.problems))
        case _:
            top.wrong(path, entry, "an edge: a -> b, or {from: a, to: b}")


def _chain(top: Section, path: str, text: str) -> Iterator[Drawn]:
    nodes = [part.strip() for part in text.split("->")]
    if len(nodes) < 2 or not all(words.matches(words.NODE_NAME, node) for node in nodes):  # noqa: PLR2004
        message = f"{short(text)} is not a chain of nodes"
        top.problems.append(Problem(path=path, message=message, remedy="write a -> b -> c"))
        return
    for source, target in itertools.pairwise(nodes):
        edge = Edge(id=EdgeId(""), source=NodeId(source), target=NodeId(target))
        yield Drawn(edge=edge, place=path)


def _arrows(section: Section) -> Iterator[Drawn]:
    """`{from, to, …}`, from or to several nodes."""
    on = section.option("on", [on for on in words.EDGES if on], ())
    every = {field for fields in words.EDGES.values() for field in fields}
    section.known(words.EDGES[on], later=words.LATER_EDGE, elsewhere=every)
    kind = section.option("type", words.EDGE_TYPES, ())
    when = section.expression("when")
    if (kind is None and "type" in section.fields) or (on is None and "on" in section.fields):
        # Nothing is known of this edge but its ends.
        when = UNREAD
    kind = kind or nearest(str(section.fields.get("type")), words.EDGE_TYPES) or "normal"
    if kind == "parallel" and on is not None:
        section.fail("type", f"of the edges `on: {on}` one is taken", "leave `type` out")
    edge = Edge(
        id=EdgeId(""),
        source=NodeId(""),
        target=NodeId(""),
        arrive=words.EDGE_TYPES[kind],
        when=when,
        ask=reference(section, "ask"),
        label=section.text("label", words.LABEL, "a label of one line, up to 100 characters"),
        on=on,
        reasons=frozenset(section.options("reason", words.FAILURES)),
        title=section.text("title", words.TITLE, "a title of one line, up to 200 characters"),
    )
    for source in _ends_of(section, "from"):
        for target in _ends_of(section, "to"):
            yield Drawn(
                edge=replace(edge, source=source, target=target),
                place=section.path,
                parallel=kind == "parallel" and on is None,
            )


def _ends_of(section: Section, field: str) -> list[NodeId]:
    """The node or nodes that a field names."""
    if field not in section.fields:
        section.fail(field, f"the edge has no `{field}`", "write {from: a, to: b}")
        return []
    given = section.fields[field]
    names = given if isinstance(given, list) and given else [given]
    found = [NodeId(name) for name in names if isinstance(name, str)]
    if len(found) < len(names):
        section.wrong(section.at(field), given, "the name of a node, or a list of names")
    return found
