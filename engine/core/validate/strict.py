"""What seed 001 asks of a graph: tasks and plans take turns.

A task is followed by plans and a plan by tasks, a task comes after one plan, and a run begins
with a plan. Names can be those of Python modules.
"""

from __future__ import annotations

import keyword
from collections.abc import Collection, Iterator

from engine.core.graph import Graph, Node, NodeId, Role
from engine.core.problem import Problem

#: What may follow what; the start and the end of a run stand outside of the turns.
_FOLLOWING = {
    "start": {"plan"},
    "task": {"plan"},
    "plan": {"task", "end"},
}


def problems(graph: Graph) -> Iterator[Problem]:
    """Where tasks and plans do not take turns."""
    plans: dict[NodeId, set[NodeId]] = {node: set() for node in graph.nodes}
    followed: dict[NodeId, set[str]] = {node: set() for node in graph.nodes}
    for edge in graph.edges:
        source, target = _what(graph.nodes[edge.source]), _what(graph.nodes[edge.target])
        followed[edge.source].add(target)
        if source == "plan":
            plans[edge.target].add(edge.source)
        if target not in _FOLLOWING.get(source, {target}):
            yield Problem(
                path=graph.place(edge.id),
                message=f"{edge.source} ({source}) leads to {edge.target} ({target}), and tasks "
                "and plans take turns",
                remedy=f"put a {'task' if source == 'plan' else 'plan'} between them, or leave "
                "`strict` out",
            )
    for node in graph.nodes.values():
        yield from _node(graph, node, plans[node.id], followed[node.id])
    start = graph.nodes.get(graph.start)
    if start is not None and _what(start) == "task":
        yield Problem(
            path="start",
            message=f"the run begins with {start.id}, a task: a plan comes first",
            remedy="start at a plan, or leave `strict` out",
        )


def _what(node: Node) -> str:
    return node.kind if node.role is Role.CONTROL else node.role.value


def _node(
    graph: Graph, node: Node, plans: Collection[str], followed: Collection[str]
) -> Iterator[Problem]:
    """What is wrong with a node, given the plans before it and what comes after it."""
    place, what = graph.place(node.id), _what(node)
    if what in {"pass", "milestone"}:
        yield Problem(
            path=place,
            message=f"{node.id} is neither a task nor a plan",
            remedy="make it a plan with rules, or leave `strict` out",
        )
    if not node.id.isidentifier() or not node.id.isascii() or keyword.iskeyword(node.id):
        yield Problem(
            path=place,
            message=f"{node.id} is not a name that Python would take",
            remedy="use letters, digits and _, or leave `strict` out",
        )
    if what == "task" and len(plans) > 1:
        yield Problem(
            path=place,
            message=f"the task {node.id} comes after {len(plans)} plans: "
            f"{', '.join(sorted(plans))}",
            remedy="let one plan lead to it, or leave `strict` out",
        )
    if what == "plan" and "task" not in followed:
        yield Problem(
            path=place,
            message=f"the plan {node.id} leads to no task",
            remedy="add an edge to one, or leave `strict` out",
        )
