"""The names in expressions: each must be given a value by something."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from engine.core import tape
from engine.core.expressions import Expression, Template
from engine.core.graph import Asked, Awaited, Child, Graph, Map, Node, NodeId, Timer
from engine.core.problem import Problem
from engine.core.section import below, short, suggestion

#: Names that are not variables. The second half belongs to the language and not yet to us.
AVAILABLE = frozenset({"result", "run", "steps", "env"})
RESERVED = AVAILABLE | {"item", "index"}

_SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
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
        if own >= _SECRETS:
            yield from _secrets(path, expression)
        for name in sorted(expression.names - own):
            if name == "env":
                yield Problem(
                    path=path,
                    message="$env is not known here: secrets are given to workers alone",
                    remedy="name the secret in the `with` of the node that needs it",
                )
            elif name == "result":
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


def _secrets(path: str, expression: Expression) -> Iterator[Problem]:
    """What is wrong with the secrets that an expression reads, and with what it does to them."""
    if not expression.keeps:
        yield Problem(
            path=path,
            message="a secret may be handed on as it is, or put together with text by +, and no more",
            remedy="write $env.NAME, or 'Bearer ' + $env.NAME; let a function do the rest",
        )
    for name in sorted(expression.secrets, key=str):
        if name is None:
            yield Problem(
                path=path,
                message="$env does not say which secret",
                remedy="write $env.NAME",
            )
        elif not _SECRET_NAME.fullmatch(name):
            yield Problem(
                path=path,
                message=f"{short(name)} is not the name of a secret",
                remedy="use letters, digits and _, up to 64 of them",
            )


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
#: Where a worker evaluates, and has secrets at hand. The second is no name: it tells `$env` from a
#: param of a step that is called so.
_SECRETS = frozenset({"env", "$env"})


def _leave(graph: Graph) -> str:
    return "`save` it" if graph.listing is None else "name it in the `output` of a step"


def _expressions(graph: Graph) -> Iterator[Named]:
    """Every expression of a graph, with its path and the reserved names that mean something there."""
    for node in graph.nodes.values():
        place = graph.place(node.id)
        if node.inputs is not None and graph.listing is not None:
            yield from _params(node, node.inputs, f"{place}.params")
        else:
            for field, template, own in _inside(node):
                yield from _within(below(place, field), template, own)
        for name, template in node.save.items():
            yield from _within(f"{place}.save.{name}", template, _RESULT)
        for number, rule in enumerate(node.rules):
            if rule.when is not None:
                yield f"{place}.rules[{number}].when", rule.when, _NONE
        if node.lock is not None:
            yield from _within(f"{place}.lock", node.lock.name, _NONE)
        if node.compensate is not None:
            for field, template, own in _inside(node.compensate):
                yield from _within(below(f"{place}.compensate", field), template, own | _RESULT)
        yield from _of_wait(node, place)
    for edge in graph.edges:
        if edge.when is not None:
            own = _NONE if graph.nodes[edge.source].passes else _RESULT
            yield below(graph.place(edge.id), "when"), edge.when, own
    for name, template in graph.outputs.items():
        yield from _within(f"outputs.{name}", template, _NONE)


def _params(step: Node, params: Template, path: str) -> Iterator[Named]:
    """The params of a step of a list, which know one another."""
    for inner, expression in params.expressions.items():
        own = tape.beside(params, inner)
        if step.works and "env" not in own:
            own |= _SECRETS
        yield below(path, inner), expression, own


def _inside(node: Node) -> Iterator[tuple[str, Template, frozenset[str]]]:
    """The templates of what a node runs and of what that is given, with the names of their own."""
    if node.inputs is not None:
        yield node.given, node.inputs, _SECRETS if node.works else _NONE
    if node.called is not None:
        yield "tool", node.called, _NONE
    if isinstance(node.wait, Child) and node.wait.named is not None:
        yield "workflow", node.wait.named, _NONE


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
            for field, inner, own in _inside(do):
                yield from _within(below(f"{place}.do", field), inner, own | {"index", item})
        case _:
            pass
    for field, template in fields.items():
        if template is not None:
            yield from _within(f"{place}.{field}", template, _NONE)


def _within(path: str, template: Template, own: frozenset[str]) -> Iterator[Named]:
    for inner, expression in template.expressions.items():
        yield below(path, inner), expression, own
