"""Nodes that ask people, hold locks, are undone, or fail as only they do."""

from __future__ import annotations

from collections.abc import Iterator

from engine.core import loops, reasons
from engine.core.graph import Asked, Graph, Node, NodeId
from engine.core.problem import Problem
from engine.core.section import UNREAD, below, short, suggestion


def problems(graph: Graph) -> Iterator[Problem]:
    """Choices that no edge answers to, locks held up to nowhere, and what never comes to pass."""
    for node in graph.nodes.values():
        if isinstance(node.wait, Asked) and graph.origin is None:
            yield from _choices(graph, node, node.wait)
        if isinstance(node.wait, Asked):
            yield from _quorum(graph, node, node.wait)
        if node.lock is not None and node.lock.until is not None:
            yield from _until(graph, node, node.lock.until)
        if node.compensate is not None:
            yield from _undone(graph, node)
        yield from _reasons(graph, node)


def _choices(graph: Graph, node: Node, asked: Asked) -> Iterator[Problem]:
    """Where edges are labelled with what people choose, there is one for each choice."""
    edges = graph.edges_from(node.id)
    labelled = [edge for edge in edges if edge.label is not None]
    if not asked.choices or not labelled:
        return
    wrong = [edge for edge in labelled if edge.label not in asked.choices]
    for edge in wrong:
        label = str(edge.label)
        yield Problem(
            path=below(graph.place(edge.id), "label"),
            message=f"{short(label)} is no choice of {node.id}",
            remedy=suggestion(label, asked.choices) or f"write {' or '.join(asked.choices)}",
        )
    for choice in asked.choices:
        if not wrong and graph.answering(node.id, choice) is None:
            yield Problem(
                path=graph.place(node.id),
                message=f"no edge of {node.id} answers to the choice {short(choice)}",
                remedy=f"label one {choice}, or add one without a label for all other choices",
            )


def _quorum(graph: Graph, node: Node, asked: Asked) -> Iterator[Problem]:
    # Whoever is asked later may answer as well.
    all_asked = {*asked.who, *(asked.escalate.to if asked.escalate else ())}
    people = {who for who in all_asked if who.startswith("user:")}
    place = f"{graph.place(node.id)}.quorum"
    for path, needed in (
        (place, asked.quorum),
        *((f"{place}.{choice}", number) for choice, number in asked.quorums.items()),
    ):
        if asked.who and people == all_asked and needed > len(people):
            yield Problem(
                path=path,
                message=f"{needed} must say the same, and only {len(people)} may answer",
                remedy="ask for fewer, or name more in `from`",
            )


def _until(graph: Graph, node: Node, until: NodeId) -> Iterator[Problem]:
    path = f"{graph.place(node.id)}.lock.until"
    if until not in graph.nodes:
        yield Problem(
            path=path,
            message=f"there is no node {short(until)}",
            remedy=suggestion(until, graph.nodes) or "name the last node of the section",
        )
    elif until not in loops.reachable([node.id], ((e.source, e.target) for e in graph.edges)):
        yield Problem(
            path=path,
            message=f"no way leads from {node.id} to {until}",
            remedy="name a node behind this one, or leave `until` out",
        )


def _undone(graph: Graph, node: Node) -> Iterator[Problem]:
    if node.kind == "function" and node.uses is None:
        yield Problem(
            path=f"{graph.place(node.id)}.compensate",
            message=f"{node.id} only chooses, and there is nothing to undo",
            remedy="write `uses`, or leave `compensate` out",
        )
    handler = NodeId(f"undo {node.id}")
    if handler in graph.nodes:
        yield Problem(
            path=graph.place(handler),
            message=f"so the step is called that undoes {node.id}",
            remedy="choose another name",
        )


def _reasons(graph: Graph, node: Node) -> Iterator[Problem]:
    """Edges for failures that a node never has."""
    possible = reasons.of_kind(node.kind)
    for edge in graph.edges_from(node.id, on="error"):
        if edge.reasons.isdisjoint(possible) and edge.reasons and edge.when is not UNREAD:
            some = sorted(edge.reasons)
            yield Problem(
                path=below(graph.place(edge.id), "reason"),
                message=f"{node.id} never fails for {' or '.join(some)}",
                remedy=f"it may fail for {', '.join(possible)}",
            )
