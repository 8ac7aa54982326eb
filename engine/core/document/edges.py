"""Reading the edges of a document: chains and arrows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace

from engine.core.document import vocabulary as words
from engine.core.document.names import reference
from engine.core.graph import Edge, EdgeId, NodeId
from engine.core.problem import Problem
from engine.core.section import UNREAD, Section, short
from engine.core.values import Json


def edges(top: Section) -> list[tuple[Edge, str]] | None:
    """The edges in order, each with its place; None if they are no list or too many."""
    given = top.fields.get("edges", [])
    if not isinstance(given, list):
        top.wrong("edges", given, "a list of edges, such as - a -> b")
        return None
    found: dict[EdgeId, tuple[Edge, str]] = {}
    for index, entry in enumerate(given):
        path = f"edges[{index}]"
        for edge in _drawn(top, path, entry):
            name = _id(edge.source, edge.target, found)
            found[name] = (replace(edge, id=name), path)
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


def _drawn(top: Section, path: str, entry: Json) -> Iterator[Edge]:
    """The edges that one entry of the list stands for."""
    match entry:
        case str():
            yield from _chain(top, path, entry)
        case dict():
            yield from _arrows(Section(entry, path, top.problems))
        case _:
            top.wrong(path, entry, "an edge: a -> b, or {from: a, to: b}")


def _chain(top: Section, path: str, text: str) -> Iterator[Edge]:
    nodes = [part.strip() for part in text.split("->")]
    if len(nodes) < 2 or not all(words.matches(words.NODE_NAME, node) for node in nodes):  # noqa: PLR2004
        message = f"{short(text)} is not a chain of nodes"
        top.problems.append(Problem(path=path, message=message, remedy="write a -> b -> c"))
        return
    for source, target in itertools.pairwise(nodes):
        yield Edge(id=EdgeId(""), source=NodeId(source), target=NodeId(target))


def _arrows(section: Section) -> Iterator[Edge]:
    """`{from, to, …}`, from or to several nodes."""
    section.known(words.EDGE, later=words.LATER_EDGE)
    kind = section.option("type", words.EDGE_TYPES, words.LATER_TYPES)
    when = section.expression("when")
    if kind is None and "type" in section.fields:
        # Nothing is known of this edge but its ends.
        when = UNREAD
    ask = reference(section, "ask")
    label = section.text("label", words.LABEL, "a label of one line, up to 100 characters")
    for source in _ends_of(section, "from"):
        for target in _ends_of(section, "to"):
            yield Edge(
                id=EdgeId(""),
                source=source,
                target=target,
                arrive=words.EDGE_TYPES[kind or "normal"],
                when=when,
                ask=ask,
                label=label,
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
