"""The ways to a join: what a graph says about it before anything runs.

For a join J: which nodes can still bring a token to one of its join edges without passing
J, and which nodes can be the fork whose threads J brings together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

N = TypeVar("N", bound=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """How a join can be reached."""

    #: Nodes from which a token may still come.
    before: frozenset[str]
    #: Nodes that can reach every one of its join edges: whoever forks there, J can bring together.
    forks: frozenset[str]
    #: The nearest of them that may leave several tokens; its scope is opened even for one.
    fork: str | None


def ways(
    join: N, inbound: Sequence[N], edges: Iterable[tuple[N, N]], splitting: Iterable[N]
) -> Ways:
    """The ways to a join.

    `inbound` are the sources of its join edges, `splitting` the nodes that may leave more
    than one token.
    """
    leading: dict[N, list[N]] = {}
    for source, target in edges:
        leading.setdefault(target, []).append(source)
    sets = [_backward(source, leading, join) for source in inbound]
    before = frozenset().union(*sets)
    forks = frozenset.intersection(*(frozenset(found) for found in sets)) if sets else frozenset()
    candidates = forks & frozenset(splitting)
    distance = _distances(inbound, leading, join)
    nearest = min(candidates, key=lambda node: (distance[node], node), default=None)
    return Ways(before=before, forks=forks, fork=nearest)


def _backward(start: N, leading: Mapping[N, Sequence[N]], join: N) -> frozenset[N]:
    return frozenset(_distances([start], leading, join))


def _distances(starts: Sequence[N], leading: Mapping[N, Sequence[N]], join: N) -> dict[N, int]:
    """Nodes that lead to any of some, with how far they are; ways through the join are none."""
    found = dict.fromkeys(starts, 0)
    waiting = list(found)
    for node in waiting:
        if node == join:
            continue
        for source in leading.get(node, ()):
            if source not in found:
                found[source] = found[node] + 1
                waiting.append(source)
    return found
