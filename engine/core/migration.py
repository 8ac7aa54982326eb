"""A live run that goes on under another version of its workflow.

Every live step, token, scope and join that waits must have an *image* in the other graph: the node of
the same name, or the one that is named for it, doing the same sort of thing; the edge between the images
of its ends. Then the run stands there as it stood: iterations, laps, overlays, locks and times go on. All
that has none is listed, and nothing is changed.

A step that is live keeps its key, and an attempt that is under way the graph that it began with. What it
reports is folded and routed under the new one; so whatever the old node can choose, the new one must answer.

`obstacles` and `migrated` are pure questions to a state at rest, between two events. What follows from
the move is told whole in the event `Migrated`, so folding it needs no graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from engine.core import messages as msg
from engine.core import remembered
from engine.core.graph import Asked, Edge, Graph, NodeId, Role
from engine.core.problem import Problem
from engine.core.records import replace
from engine.core.scopes import Scope
from engine.core.state import Items, State, Step, Token
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import VARIABLES_BYTES, canonical, size

#: Where a step rests between two events.
_AT_REST = frozenset(
    {
        *(StepStatus.READY, StepStatus.WAITING, StepStatus.DEFERRED, StepStatus.RETRYING),
    }
)
#: A name that no edge has.
_ANY = "\0"

Renamed = Mapping[NodeId, NodeId]


def obstacles(
    old: Graph, new: Graph, state: State, renamed: Renamed, *, same: bool = False
) -> tuple[Problem, ...]:
    """All that keeps a run in a state from going on under another graph; `same`: it is under it."""
    if same:
        return (_problem("version", "the run is of that version already", "name another one"),)
    if state.status not in (RunStatus.RUNNING, RunStatus.PAUSED) or state.undoing is not None:
        return (
            _problem("", "the run has not begun, is undoing what it did, or has ended", "let it"),
        )
    if old.listing is not None or new.listing is not None:
        return (_problem("", "a list of steps has no nodes to stand at", "start a new run of it"),)
    if found := tuple(_misnamed(old, new, renamed)):
        return found
    return (
        *_of_steps(old, new, state, renamed),
        *_of_tokens(old, new, state, renamed),
        *_of_scopes(new, state, renamed),
        *_of_variables(old, new, state),
        *_of_size(new, state),
        *_of_results(new, state, renamed),
        *_of_handlers(old, new, state, renamed),
    )


def migrated(
    old: Graph, new: Graph, state: State, asked: msg.MigrateRequested, *, was: str
) -> msg.Migrated:
    """What becomes of a run that nothing keeps from going on under another graph."""
    edges = {
        token.edge: image.id
        for token in state.tokens
        if (image := _edge(new, old.edge(token.edge), asked.nodes)) is not None
        and image.id != token.edge
    }
    uncounted = tuple(
        node for node in sorted(old.nodes) if not new.loop_of(_image(asked.nodes, node))
    )
    hidden = {name: how for name, how in state.reducers.items() if _is_hidden(name)}
    present = _present(state)
    return msg.Migrated(
        at=asked.at,
        by=asked.by,
        request=asked.request,
        version=asked.version,
        was=was,
        pins=asked.pins,
        nodes=asked.nodes,
        edges=edges,
        uncounted=uncounted,
        reducers={**hidden, **remembered.reducers(new)},
        shared=tuple(sorted(new.shared)),
        variables={name: value for name, value in new.variables.items() if name not in present},
    )


def moved(state: State, event: msg.Migrated) -> State:
    """The state of a run that goes on under another graph."""
    nodes, left = event.nodes, frozenset(event.uncounted)
    iterations = dict(state.iterations)
    for before, after in nodes.items():
        if before in iterations:
            # Numbers of the old name stay given out: steps are known by them.
            iterations[after] = max(iterations.get(after, 0), iterations[before])
    return replace(
        state,
        iterations=iterations,
        tokens=tuple(_token(token, event, left) for token in state.tokens),
        scopes={name: _scope(scope, nodes) for name, scope in state.scopes.items()},
        variables={**event.variables, **state.variables},
        reducers=event.reducers,
        shared=event.shared,
        steps={key: _step(step, event, left) for key, step in state.steps.items()},
        maps={key: _items(found, nodes) for key, found in state.maps.items()},
        moved=state.moved + 1,
    )


# --- what keeps it ---------------------------------------------------------------------------------


def _misnamed(old: Graph, new: Graph, renamed: Renamed) -> Iterator[Problem]:
    for before, after in renamed.items():
        path = f"nodes.{before}"
        if before not in old.nodes:
            yield _problem(path, "the run's version has no such node", "name one that it has")
        if after not in new.nodes:
            yield _problem(path, f"the other version has no node {after}", "name one that it has")
        if after in old.nodes or before in new.nodes:
            # Steps are known by the names of their nodes, in the record of the run, too.
            message = f"both versions have a node {after if after in old.nodes else before}"
            yield _problem(path, message, "give what is new a name that neither has had")
        if list(renamed.values()).count(after) > 1:
            yield _problem(path, f"two nodes would be {after}", "let each become one of its own")


def _of_steps(old: Graph, new: Graph, state: State, renamed: Renamed) -> Iterator[Problem]:
    for key, step in state.steps.items():
        path = f"steps.{key}"
        if step.status not in _AT_REST:
            yield _problem(path, f"is {step.status}", "ask again when it rests")
            continue
        image = _image(renamed, step.node)
        if step.of is not None or step.index is not None or key in state.maps:
            node = step.node if step.of is None else state.maps[step.of].node
            if _image(renamed, node) != node or old.nodes[node] != new.nodes.get(node):
                message = f"the map {node} is under way, and is not the same"
                yield _problem(path, message, "let it end, or leave that node as it is")
            continue
        if image not in new.nodes:
            yield _homeless(path, step.node)
            continue
        if _sort(old, step.node) != _sort(new, image):
            message = f"{step.node} is of another kind or role there: {new.nodes[image].kind}"
            yield _problem(path, message, "let it end, or leave its kind as it is")
        if image != step.node and new.nodes[image].compensate is not None:
            message = f"{image} has a handler that undoes it, which would not find this step"
            yield _problem(path, message, "let it end, or leave the name of its node as it is")
        yield from _of_choices(old, new, path, step.node, image)
        yield from _of_locks(new, path, step.holds, renamed)


def _of_choices(
    old: Graph, new: Graph, path: str, node: NodeId, image: NodeId
) -> Iterator[Problem]:
    """What the old node may choose, and the new one has no edge for."""
    plans = old.nodes[node].role is Role.PLAN
    for choice in _choices(old, node):
        asked = (choice,) if plans and isinstance(choice, str) else choice
        if old.answering(node, asked) is not None and new.answering(image, asked) is None:
            told = "anything else" if choice == _ANY else repr(choice)
            yield _problem(
                path,
                f"{node} may choose {told}, which no edge of {image} answers to",
                "let it end, or keep an edge of that label, or to that node",
            )


def _choices(graph: Graph, name: NodeId) -> list[bool | str]:
    """What may be chosen at a node; nothing where no function, nobody, or its conditions alone choose."""
    node, edges = graph.nodes[name], graph.edges_from(name)
    found: list[bool | str] = [*node.wait.choices] if isinstance(node.wait, Asked) else []
    found += [edge.id for edge in edges if edge.ask]
    if node.choose is not None or node.role is Role.PLAN:
        found += [edge.label for edge in edges if edge.label] + [edge.target for edge in edges]
        found += [_ANY] if node.role is Role.PLAN else [_ANY, True, False]
    return list(dict.fromkeys(found))


def _of_tokens(old: Graph, new: Graph, state: State, renamed: Renamed) -> Iterator[Problem]:
    checked: set[NodeId] = set()
    for place, token in enumerate(state.tokens):
        path = f"tokens[{place}]"
        if _edge(new, old.edge(token.edge), renamed) is None:
            message = f"stands on the edge {token.edge}, which has no image"
            yield _problem(path, message, "keep one edge like it between those nodes")
            continue
        if token.waits and token.target not in checked:
            checked.add(token.target)
            yield from _of_join(old, new, state, token.target, renamed)
        yield from _of_locks(new, path, token.holds, renamed)


def _of_join(
    old: Graph, new: Graph, state: State, node: NodeId, renamed: Renamed
) -> Iterator[Problem]:
    """A join at which somebody waits: it must bring the same threads together, as it did."""
    image, path = _image(renamed, node), f"joins.{node}"
    before, after = old.nodes[node].join, new.nodes[image].join
    of = None if before.of is None else _image(renamed, before.of)
    if replace(before, of=of) != after:
        yield _problem(
            path, "threads wait there, and it demands something else", "leave it as it is"
        )
    forks = {scope.fork for scope in state.scopes.values() if scope.fork is not None}
    was = {_image(renamed, fork) for fork in forks if fork in old.ways(node).forks}
    if was != {
        found for fork in forks if (found := _image(renamed, fork)) in new.ways(image).forks
    }:
        message = "threads wait there, and it brings those of another fork together"
        yield _problem(path, message, "leave the ways from the fork to it as they are")
    if before.all and len(old.joining(node)) != len(new.joining(image)):
        message = "threads wait there for all of its edges, which are others now"
        yield _problem(path, message, "leave its join edges as they are")


def _of_scopes(new: Graph, state: State, renamed: Renamed) -> Iterator[Problem]:
    for name, scope in state.scopes.items():
        for node in sorted({*filter(None, (scope.fork,)), *scope.fired}):
            if _image(renamed, node) not in new.nodes:
                yield _homeless(f"scopes.{name}", node)


def _of_locks(new: Graph, path: str, holds: msg.Holds, renamed: Renamed) -> Iterator[Problem]:
    for name, until in holds:
        if not new.locks or (until is not None and _image(renamed, until) not in new.nodes):
            message = f"holds the lock {name.partition(':')[2]}, which nothing gives back there"
            yield _problem(path, message, "let it be given back, or keep the nodes of the lock")


def _of_variables(old: Graph, new: Graph, state: State) -> Iterator[Problem]:
    reducers = remembered.reducers(new)
    for name in sorted(_present(state)):
        path = f"variables.{name}"
        if _is_hidden(name):
            continue
        if canonical(old.types.get(name)) != canonical(new.types.get(name)):
            yield _problem(path, "is declared with another type", "leave its type as it is")
        if state.reducers.get(name) != reducers.get(name):
            yield _problem(path, "is added to in another way", "leave its reducer as it is")
        if (name in state.shared) != (name in new.shared):
            yield _problem(path, "is shared in one version alone", "leave `shared` as it is")


def _of_size(new: Graph, state: State) -> Iterator[Problem]:
    if size({**new.variables, **state.variables}) > VARIABLES_BYTES:
        message = f"with what is declared there they take more than {VARIABLES_BYTES} bytes"
        yield _problem("variables", message, "declare smaller defaults")


def _of_results(new: Graph, state: State, renamed: Renamed) -> Iterator[Problem]:
    """Results that the other graph recalls and that were not kept."""
    for node in sorted(state.iterations):
        image = _image(renamed, node)
        kept = image == node and remembered.PREFIX + node in state.reducers
        if image in new.remembered and not kept:
            message = f"$steps.{image} is asked for there, and what {node} gave was not kept"
            yield _problem(f"nodes.{node}", message, "save what is needed in a variable")


def _of_handlers(old: Graph, new: Graph, state: State, renamed: Renamed) -> Iterator[Problem]:
    """What was done, and could not be undone any more as it was said, or by something else."""
    for node in sorted(state.iterations):
        was = old.nodes.get(node)
        handled = was is not None and was.compensate is not None
        there = new.nodes.get(node)
        handles = there is not None and there.compensate is not None
        if handled and not (handles and _image(renamed, node) == node):
            message = "has been done, and what undoes it has gone, or is of another name"
            yield _problem(f"nodes.{node}", message, "keep the node, its name and its handler")


def _homeless(path: str, node: NodeId) -> Problem:
    message = f"stands at {node}, which the other version does not have"
    return _problem(path, message, f"map it, {node}=NODE, or let the run pass it first")


def _problem(path: str, message: str, remedy: str) -> Problem:
    return Problem(path=path, message=message, remedy=remedy)


# --- images ----------------------------------------------------------------------------------------


def _image(renamed: Renamed, node: NodeId) -> NodeId:
    return renamed.get(node, node)


def _sort(graph: Graph, name: NodeId) -> tuple[object, ...]:
    """What must stay of a node at which something is live."""
    node = graph.nodes[name]
    return node.kind, node.role, type(node.wait), node.passes


def _edge(new: Graph, edge: Edge, renamed: Renamed) -> Edge | None:
    """The edge that stands for another; of several the one that is called the same."""
    ends = (_image(renamed, edge.source), _image(renamed, edge.target))
    found = [
        other
        for other in new.edges
        if (other.source, other.target) == ends
        and (other.arrive, other.on) == (edge.arrive, edge.on)
    ]
    same = [other for other in found if other.id == edge.id] or found
    return same[0] if len(same) == 1 else None


def _present(state: State) -> frozenset[str]:
    """The names of all that the run, or a thread of it, has written."""
    own = (own for scope in state.scopes.values() for own in scope.overlays.values())
    return frozenset(state.variables).union(*own)


def _is_hidden(name: str) -> bool:
    return name.startswith(remembered.PREFIX)


# --- the state as it is then -----------------------------------------------------------------------


def _token(token: Token, event: msg.Migrated, left: frozenset[NodeId]) -> Token:
    return replace(
        token,
        edge=event.edges.get(token.edge, token.edge),
        target=_image(event.nodes, token.target),
        visits=_counts(token.visits, event.nodes, left),
        holds=_holds(token.holds, event.nodes),
    )


def _step(step: Step, event: msg.Migrated, left: frozenset[NodeId]) -> Step:
    return replace(
        step,
        node=_image(event.nodes, step.node),
        visits=_counts(step.visits, event.nodes, left),
        holds=_holds(step.holds, event.nodes),
    )


def _scope(scope: Scope, nodes: Renamed) -> Scope:
    return replace(
        scope,
        fork=None if scope.fork is None else _image(nodes, scope.fork),
        live={_image(nodes, node): count for node, count in scope.live.items()},
        fired={_image(nodes, node): branch for node, branch in scope.fired.items()},
    )


def _items(found: Items, nodes: Renamed) -> Items:
    return replace(found, node=_image(nodes, found.node))


def _counts(visits: msg.Visits, nodes: Renamed, left: frozenset[NodeId]) -> msg.Visits:
    """How often each loop was gone round; of nodes that turn in none any more nothing is counted."""
    return {_image(nodes, node): count for node, count in visits.items() if node not in left}


def _holds(holds: msg.Holds, nodes: Renamed) -> msg.Holds:
    return tuple((name, None if to is None else _image(nodes, to)) for name, to in holds)
