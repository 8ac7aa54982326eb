"""The names in expressions: each must be given a value by something."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from engine.core import tape
from engine.core.expressions import Expression, Template
from engine.core.graph import Asked, Awaited, Graph, Map, Node, NodeId, Timer
from engine.core.problem import Problem
from engine.core.section import below, short, suggestion

#: Names that are not variables. The second half belongs to the language and not yet to us.
AVAILABLE = frozenset({"result", "run", "steps"})
RESERVED = AVAILABLE | {"item", "index", "env"}

_OF_A_STEP = "it is the result of a step that a worker carries out, for its `save` and its edges"


def problems(graph: Graph) -> Iterator[Problem]:
    """Names that nothing gives a value, or that stand where they have none."""
    inputs = graph.inputs.get("properties")
    declared = {*graph.variables, *(inputs if isinstance(inputs, dict) else ())}
    saved = {name for node in graph.nodes.values() for name in (*node.save, *node.output)}
    if graph.listing is not None:
        declared -= tape.NAMES
        saved |= tape.NAMES
    for node in graph.nodes.values():
        if isinstance(node.wait, Map) and node.wait.name in declared | saved:
            yield Problem(
                path=f"{graph.place(node.id)}.as",
                message=f"${node.wait.name} is a variable already, and an item would hide it",
                remedy="call the item something else",
            )
    # Without declarations the variables are whatever a run is given and its functions set.
    known = declared | saved if declared else None
    for path, expression, own in _expressions(graph):
        for name in sorted(expression.names - own):
            if name == "result":
                yield Problem(
                    path=path,
                    message="$result is not known here",
                    remedy=f"{_OF_A_STEP}; `save` what others need in a variable",
                )
            elif name == "steps":
                yield from _recalled(graph, path, expression)
            elif name in RESERVED - AVAILABLE:
                yield Problem(
                    path=path,
                    message=f"${name} is not available in this version",
                    remedy="`save` what later steps need in a variable",
                )
            elif known is not None and name not in known | RESERVED:
                yield Problem(
                    path=path,
                    message=f"nothing gives ${name} a value",
                    remedy=suggestion(name, known, sign="$")
                    or f"declare {name} in `inputs` or `variables`, or {_leave(graph)}",
                )


def remembered(graph: Graph) -> frozenset[NodeId]:
    """The nodes whose results expressions of a graph recall."""
    named = (expression.steps for _, expression, own in _expressions(graph) if "steps" not in own)
    return frozenset(NodeId(name) for names in named for name in names if name is not None)


def _recalled(graph: Graph, path: str, expression: Expression) -> Iterator[Problem]:
    """What is wrong with the nodes whose results an expression recalls."""
    if graph.listing is not None:
        message = "$steps is not known in a list of steps"
        remedy = "name what later steps need in the `output` of a step"
        yield Problem(path=path, message=message, remedy=remedy)
        return
    for name in sorted(expression.steps, key=str):
        node = None if name is None else graph.nodes.get(NodeId(name))
        if name is None:
            yield Problem(
                path=path,
                message="$steps does not say which node",
                remedy='write $steps.NODE, or $steps["a node"]',
            )
        elif node is None:
            yield Problem(
                path=path,
                message=f"there is no node {short(name)}",
                remedy=suggestion(name, graph.nodes) or "name one of the nodes",
            )
        elif node.passes or isinstance(node.wait, Timer):
            yield Problem(
                path=path,
                message=f"{name} gives no result",
                remedy="name a node that is carried out, or waits for something with a result",
            )


#: An expression, its path, and the names that have a value there alone.
Named: TypeAlias = tuple[str, Expression, frozenset[str]]

_NONE: frozenset[str] = frozenset()
_RESULT = frozenset({"result"})


def _leave(graph: Graph) -> str:
    return "`save` it" if graph.listing is None else "name it in the `output` of a step"


def _expressions(graph: Graph) -> Iterator[Named]:
    """Every expression of a graph, with its path and the reserved names that mean something there."""
    for node in graph.nodes.values():
        place = graph.place(node.id)
        if node.inputs is not None and graph.listing is not None:
            for inner, expression in node.inputs.expressions.items():
                beside = tape.beside(node.inputs, inner)
                yield below(f"{place}.params", inner), expression, beside
        else:
            for field, template in _inside(node):
                yield from _within(f"{place}.{field}", template, _NONE)
        for name, template in node.save.items():
            yield from _within(f"{place}.save.{name}", template, _RESULT)
        for number, rule in enumerate(node.rules):
            if rule.when is not None:
                yield f"{place}.rules[{number}].when", rule.when, _NONE
        if node.lock is not None:
            yield from _within(f"{place}.lock", node.lock.name, _NONE)
        if node.compensate is not None:
            for field, template in _inside(node.compensate):
                yield from _within(f"{place}.compensate.{field}", template, _RESULT)
        yield from _of_wait(node, place)
    for edge in graph.edges:
        if edge.when is not None:
            own = _NONE if graph.nodes[edge.source].passes else _RESULT
            yield below(graph.place(edge.id), "when"), edge.when, own
    for name, template in graph.outputs.items():
        yield from _within(f"outputs.{name}", template, _NONE)


def _inside(node: Node) -> Iterator[tuple[str, Template]]:
    """The templates of what a node runs and of what that is given."""
    for field, template in (("with", node.inputs), ("tool", node.called)):
        if template is not None:
            yield field, template


def _of_wait(node: Node, place: str) -> Iterator[Named]:
    """The expressions that say what a node waits for."""
    fields: Mapping[str, Template | None] = {}
    match node.wait:
        case Timer(seconds=seconds, until=until):
            fields = {"for": seconds, "until": until}
        case Awaited(name=name, match=match):
            fields = {"name": name, "match": match}
        case Asked(show=show):
            fields = {"show": show}
        case Map(over=over, enough=enough, do=do, name=item):
            fields = {"over": over, "stop_when.succeeded": enough}
            for field, inner in _inside(do):
                yield from _within(f"{place}.do.{field}", inner, frozenset({"index", item}))
        case _:
            pass
    for field, template in fields.items():
        if template is not None:
            yield from _within(f"{place}.{field}", template, _NONE)


def _within(path: str, template: Template, own: frozenset[str]) -> Iterator[Named]:
    for inner, expression in template.expressions.items():
        yield below(path, inner), expression, own
