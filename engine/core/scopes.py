"""Scopes: the threads that one fork opened, what they write, and how they end.

A thread is the path of the branches it took: `((scope, branch), …)`, outermost first. A
scope knows where it was opened, counts its live steps per node (those of the scopes within
it, too: whether a join may still be reached is then a question to nodes, not to threads),
and holds what its threads have written since the fork.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from engine.core import overlays
from engine.core.graph import NodeId
from engine.core.messages import ROOT, Thread
from engine.core.overlays import Overlay, Reducers
from engine.core.records import replace
from engine.core.values import Json

#: The scope that every run opens with. Its one thread is the root.
ROOT_SCOPE = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The threads of one fork."""

    #: The thread that forked.
    parent: Thread = ROOT
    fork: NodeId | None = None
    #: Branches given out so far; they are never given out again.
    branches: int = 0
    #: Live steps at each node, here and in the scopes within.
    live: Mapping[NodeId, int] = field(default_factory=dict)
    #: What each branch has written since the fork; branches by their number as text.
    overlays: Mapping[str, Overlay] = field(default_factory=dict)
    #: Joins that did not wait for all: threads on branches below the number are surplus there.
    fired: Mapping[NodeId, int] = field(default_factory=dict)

    @property
    def alive(self) -> int:
        return sum(self.live.values())


Scopes: TypeAlias = Mapping[str, Scope]
Variables: TypeAlias = Mapping[str, Json]


def around(thread: Thread) -> tuple[str, ...]:
    """The scopes that a thread runs in, outermost first."""
    return (ROOT_SCOPE, *(scope for scope, _ in thread))


def branch_in(thread: Thread, scope: str) -> int:
    """The branch of a scope that a thread runs on; the root has one, 0."""
    return next((branch for name, branch in thread if name == scope), 0)


def path_to(thread: Thread, scope: str) -> Thread:
    """The part of a thread that lies around a scope."""
    names = [name for name, _ in thread]
    return thread[: names.index(scope)] if scope in names else ROOT


def counted(scopes: Scopes, thread: Thread, node: NodeId, change: int) -> dict[str, Scope]:
    """One live step more, or less, at a node of a thread."""
    found = dict(scopes)
    for name in around(thread):
        live = {**found[name].live, node: found[name].live.get(node, 0) + change}
        found[name] = replace(found[name], live={at: count for at, count in live.items() if count})
    return found


def inside(scopes: Scopes, scope: str) -> list[str]:
    """The scopes within a scope."""
    return [
        name
        for name, inner in scopes.items()
        if name != scope and scope in around(inner.parent) and name != ROOT_SCOPE
    ]


def written(
    scopes: Scopes, variables: Variables, thread: Thread, patch: Overlay, reducers: Reducers
) -> tuple[dict[str, Scope], Variables]:
    """What a thread writes: to the variables at the root, to its own overlay elsewhere."""
    if not patch:
        return dict(scopes), variables
    if thread == ROOT:
        return dict(scopes), overlays.written(variables, patch, reducers)
    name, branch = thread[-1]
    scope = scopes[name]
    own = overlays.written(scope.overlays.get(str(branch), {}), patch, reducers)
    changed = replace(scope, overlays={**scope.overlays, str(branch): own})
    return {**scopes, name: changed}, variables


def view(scopes: Scopes, variables: Variables, thread: Thread, reducers: Reducers) -> Variables:
    """The variables as a thread sees them: everything from before its forks, and its own."""
    for name, branch in thread:
        own = scopes[name].overlays.get(str(branch), {})
        variables = overlays.written(variables, own, reducers)
    return variables


def closed(
    scopes: Scopes, variables: Variables, scope: str, reducers: Reducers
) -> tuple[dict[str, Scope], Variables]:
    """A scope is over: what its threads wrote is what the thread that forked has written.

    Raises `Contradiction`.
    """
    over = scopes[scope]
    patch = _collapsed(scopes, scope, reducers)
    gone = {scope, *inside(scopes, scope)}
    left = {name: other for name, other in scopes.items() if name not in gone}
    return written(left, variables, over.parent, patch, reducers)


def gathered(
    scopes: Scopes, scope: str, threads: Sequence[Thread], reducers: Reducers
) -> tuple[dict[str, Scope], Overlay]:
    """Take out of a scope that goes on what some of its threads have written, as one overlay.

    Raises `Contradiction`.
    """
    found = dict(scopes)
    pieces: list[Overlay] = []
    for branch in sorted({branch_in(thread, scope) for thread in threads}):
        mine = [thread for thread in threads if branch_in(thread, scope) == branch]
        deeper = [_chain(found, thread, scope, reducers) for thread in mine]
        for thread in mine:
            for name, inner in _beyond(thread, scope):
                found[name] = _without(found[name], inner)
        piece = overlays.merged(deeper, reducers)
        still = any(
            scopes[name].alive
            for name in inside(scopes, scope)
            if (scope, branch) in scopes[name].parent
        )
        if not still and scope != ROOT_SCOPE:
            own = found[scope].overlays.get(str(branch), {})
            piece = overlays.written(own, piece, reducers)
            found[scope] = _without(found[scope], branch)
        pieces.append(piece)
    return found, overlays.merged(pieces, reducers)


def cancelled(scopes: Scopes, scope: str) -> dict[str, Scope]:
    """Nothing is left of a scope, and what its threads wrote since counts for nothing."""
    if scope == ROOT_SCOPE:
        return {ROOT_SCOPE: Scope()}
    gone = {scope, *inside(scopes, scope)}
    found = {name: other for name, other in scopes.items() if name not in gone}
    for name in around(scopes[scope].parent):
        live = dict(found[name].live)
        for node, count in scopes[scope].live.items():
            live[node] = live.get(node, 0) - count
        found[name] = replace(found[name], live={at: count for at, count in live.items() if count})
    return found


def withdrawn(scopes: Scopes, nodes: Collection[NodeId]) -> dict[str, Scope]:
    """No step is live at some nodes any more. What their threads wrote stays, as when they end."""
    found = {}
    for name, scope in scopes.items():
        live = {at: count for at, count in scope.live.items() if at not in nodes}
        found[name] = replace(scope, live=live)
    return found


def _collapsed(scopes: Scopes, scope: str, reducers: Reducers) -> Overlay:
    """All that a scope and those within it hold, as one overlay."""
    over = scopes[scope]
    children: dict[int, list[str]] = {}
    for name in inside(scopes, scope):
        if scopes[name].parent[-1][0] == scope:
            children.setdefault(scopes[name].parent[-1][1], []).append(name)
    pieces = []
    for branch in range(over.branches):
        piece = over.overlays.get(str(branch), {})
        for child in sorted(children.get(branch, [])):
            piece = overlays.written(piece, _collapsed(scopes, child, reducers), reducers)
        pieces.append(piece)
    return overlays.merged(pieces, reducers)


def _chain(scopes: Scopes, thread: Thread, scope: str, reducers: Reducers) -> Overlay:
    """What a thread has written in the scopes within a scope."""
    found: Overlay = {}
    for name, branch in _beyond(thread, scope):
        found = overlays.written(found, scopes[name].overlays.get(str(branch), {}), reducers)
    return found


def _beyond(thread: Thread, scope: str) -> Thread:
    """The part of a thread that lies within a scope."""
    return thread[len(path_to(thread, scope)) + (scope != ROOT_SCOPE) :]


def _without(scope: Scope, branch: int) -> Scope:
    left = {name: own for name, own in scope.overlays.items() if name != str(branch)}
    return replace(scope, overlays=left)
