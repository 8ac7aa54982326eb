"""Who carries nodes out, and who chooses among their edges."""

from __future__ import annotations

from collections.abc import Iterator

from engine.core import loops
from engine.core.graph import Edge, Graph, Node, Role
from engine.core.problem import Problem
from engine.core.section import UNREAD, below, short, suggestion


def problems(graph: Graph) -> Iterator[Problem]:
    """What is wrong with functions, choices, rules and the ways for failures."""
    for node in graph.nodes.values():
        edges = graph.edges_from(node.id)
        asking = next((edge for edge in edges if edge.ask), None)
        nothing = not (node.uses or node.choose or asking)
        if node.kind == "function" and node.role is Role.TASK and nothing:
            yield Problem(
                path=graph.place(node.id),
                message="the node names no function",
                remedy="write uses: NAME, or kind: pass if there is nothing to do",
            )
        if asking is not None:
            yield from _asking(graph, node, asking)
        yield from _failing(graph, node)
        yield from _rules(graph, node)
    yield from _idle(graph)


def _idle(graph: Graph) -> Iterator[Problem]:
    """Loops in which nothing is ever carried out: the coordinator would turn in them by itself."""
    passed = {node.id for node in graph.nodes.values() if node.passes}
    links = [(e.source, e.target) for e in graph.edges if {e.source, e.target} <= passed]
    for loop in loops.components(sorted(passed), links):
        if any(source in loop and target in loop for source, target in links):
            yield Problem(
                path=graph.place(min(loop)),
                message=f"a loop of nodes that do nothing: {', '.join(sorted(loop))}",
                remedy="put a node into the loop that does something, or open it",
            )


def _asking(graph: Graph, node: Node, asking: Edge) -> Iterator[Problem]:
    path = below(graph.place(asking.id), "ask")
    if node.wait is not None:
        yield Problem(
            path=path,
            message=f"{node.id} waits, and only a worker can ask a function",
            remedy="use `when`, or ask from a function node",
        )
    elif not node.works:
        yield Problem(
            path=path,
            message=f"{node.id} is passed without a worker, which alone can ask a function",
            remedy="use `when`, or ask from a function node",
        )
    elif node.role is Role.PLAN or node.kind != "function":
        does = f"of kind {node.kind}, and only does"
        what = "a plan, and chooses itself" if node.role is Role.PLAN else does
        yield Problem(
            path=path,
            message=f"{node.id} is {what}",
            remedy="use `when`, or ask from a function node",
        )
    if any(edge.when for edge in graph.edges_from(node.id)):
        yield Problem(
            path=path,
            message=f"the edges of {node.id} have both `ask` and `when`",
            remedy="use one of them throughout: functions answer before expressions do",
        )


def _failing(graph: Graph, node: Node) -> Iterator[Problem]:
    for edge in graph.edges_from(node.id, on="error"):
        if node.passes and node.kind != "end":
            yield Problem(
                path=below(graph.place(edge.id), "on"),
                message=f"{node.id} is passed without a worker, and never fails",
                remedy="remove the edge",
            )
        elif edge.target == edge.source:
            yield Problem(
                path=graph.place(edge.id),
                message=f"{node.id} would try again for ever",
                remedy="write retry: {attempts: 3} at the node",
            )


def _rules(graph: Graph, node: Node) -> Iterator[Problem]:
    targets = [edge.target for edge in graph.edges_from(node.id)]
    for place, rule in enumerate(node.rules):
        for position, name in enumerate(rule.next):
            if name not in targets and rule.when is not UNREAD:
                yield Problem(
                    path=f"{graph.place(node.id)}.rules[{place}].next[{position}]",
                    message=f"no edge leads from {node.id} to {short(name)}",
                    remedy=suggestion(name, targets) or f"add {node.id} -> {name} to the edges",
                )
