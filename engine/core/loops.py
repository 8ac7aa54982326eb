"""The loops of a graph, innermost first: which nodes turn together.

A plain strongly connected component merges an inner loop with the outer one that holds
it, so a bound on the inner loop would never be reset by a lap of the outer. Components are
therefore nested in the manner of Steensgaard (1993): take a component, drop the edges that
enter its heads, and look for components in what is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

N = TypeVar("N", bound=str)

#: Loops within loops; what lies deeper turns with the one around it. It keeps the work
#: linear for graphs that were made to be hard.
MAX_NESTING = 50


def regions(nodes: Iterable[N], edges: Sequence[tuple[N, N, bool]]) -> dict[N, frozenset[N]]:
    """Map each node that lies on a cycle to the loop that a bound on it speaks of.

    An edge is (source, target, labelled `loop`). The loop of a node is the innermost one
    that holds it, widened until it holds the targets of the node's labelled edges too. The
    first node is where a run starts.
    """
    back: dict[N, set[N]] = {}
    for source, target, labelled in edges:
        if labelled:
            back.setdefault(source, set()).add(target)
    found: dict[N, frozenset[N]] = {}
    for loop in _nested(list(nodes), [(source, target) for source, target, _ in edges]):
        for node in loop:
            if node not in found or back.get(node, set()) <= loop:
                found[node] = loop
    return found


def reachable(starts: Iterable[N], edges: Iterable[tuple[N, N]]) -> set[N]:
    """The nodes that ways lead to from any of some nodes, these included."""
    following: dict[N, list[N]] = {}
    for source, target in edges:
        following.setdefault(source, []).append(target)
    waiting = list(starts)
    reached = set(waiting)
    while waiting:
        for node in following.get(waiting.pop(), ()):
            if node not in reached:
                reached.add(node)
                waiting.append(node)
    return reached


def components(nodes: Iterable[N], edges: Iterable[tuple[N, N]]) -> Iterator[frozenset[N]]:
    """Strongly connected components (Tarjan), without recursion: graphs may be long chains."""
    successors: dict[N, list[N]] = {node: [] for node in nodes}
    for source, target in edges:
        successors[source].append(target)
    index: dict[N, int] = {}
    low: dict[N, int] = {}
    stack: list[N] = []
    on_stack: set[N] = set()
    for root, first in successors.items():
        if root in index:
            continue
        work = [(root, iter(first))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, rest = work[-1]
            following = next((n for n in rest if n not in index or n in on_stack), None)
            if following is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    cut = len(stack) - 1
                    while stack[cut] != node:
                        cut -= 1
                    component, stack[cut:] = frozenset(stack[cut:]), []
                    on_stack -= component
                    yield component
            elif following in index:
                low[node] = min(low[node], index[following])
            else:
                index[following] = low[following] = len(index)
                stack.append(following)
                on_stack.add(following)
                work.append((following, iter(successors[following])))


def _nested(nodes: list[N], edges: list[tuple[N, N]]) -> Iterator[frozenset[N]]:
    """Every loop, each before the loops within it."""
    rank = {node: place for place, node in enumerate(nodes)}
    waiting = [(nodes, edges, 1)]
    while waiting:
        members, links, depth = waiting.pop()
        together = {n: loop for loop in components(members, links) for n in loop}
        inside: dict[frozenset[N], list[tuple[N, N]]] = {}
        entered: dict[frozenset[N], set[N]] = {}
        for source, target in links:
            loop = together[target]
            if together[source] is loop:
                inside.setdefault(loop, []).append((source, target))
            else:
                entered.setdefault(loop, set()).add(target)
        for loop, turns in inside.items():
            yield loop
            heads = entered.get(loop) or {min(loop, key=rank.__getitem__)}
            if depth < MAX_NESTING:
                within = [(s, t) for s, t in turns if t not in heads]
                waiting.append((sorted(loop, key=rank.__getitem__), within, depth + 1))
