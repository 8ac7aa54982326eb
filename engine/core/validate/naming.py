"""The names in expressions: each must be given a value by something."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from engine.core import tape
from engine.core.expressions import Expression, Template
from engine.core.graph import Graph
from engine.core.problem import Problem
from engine.core.section import below, suggestion

#: Names that are not variables. The second half belongs to the language and not yet to us.
AVAILABLE = frozenset({"result", "run"})
RESERVED = AVAILABLE | {"steps", "item", "index", "env"}

_OF_A_STEP = "it is the result of a step that a worker carries out, for its `save` and its edges"


def problems(graph: Graph) -> Iterator[Problem]:
    """Names that nothing gives a value, or that stand where they have none."""
    inputs = graph.inputs.get("properties")
    declared = {*graph.variables, *(inputs if isinstance(inputs, dict) else ())}
    saved = {name for node in graph.nodes.values() for name in (*node.save, *node.output)}
    if graph.listing is not None:
        declared -= tape.NAMES
        saved |= tape.NAMES
    # Without declarations the variables are whatever a run is given and its functions set.
    known = declared | saved if declared else None
    for path, expression, result, beside in _expressions(graph):
        for name in sorted(expression.names - beside):
            if name == "result" and not result:
                yield Problem(
                    path=path,
                    message="$result is not known here",
                    remedy=f"{_OF_A_STEP}; `save` what others need in a variable",
                )
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


def _leave(graph: Graph) -> str:
    return "`save` it" if graph.listing is None else "name it in the `output` of a step"


#: An expression, its path, whether there is a result to speak of, and names with a value there.
_Found: TypeAlias = tuple[str, Expression, bool, frozenset[str]]


def _expressions(graph: Graph) -> Iterator[_Found]:
    """Every expression of a graph."""
    for node in graph.nodes.values():
        place = graph.place(node.id)
        if node.inputs is not None and graph.listing is not None:
            for inner, expression in node.inputs.expressions.items():
                beside = tape.beside(node.inputs, inner)
                yield below(f"{place}.params", inner), expression, False, beside
        elif node.inputs is not None:
            yield from _within(f"{place}.with", node.inputs, result=False)
        for name, template in node.save.items():
            yield from _within(f"{place}.save.{name}", template, result=True)
        for number, rule in enumerate(node.rules):
            if rule.when is not None:
                yield f"{place}.rules[{number}].when", rule.when, False, frozenset()
    for edge in graph.edges:
        if edge.when is not None:
            works = graph.nodes[edge.source].works
            yield below(graph.place(edge.id), "when"), edge.when, works, frozenset()
    for name, template in graph.outputs.items():
        yield from _within(f"outputs.{name}", template, result=False)


def _within(path: str, template: Template, *, result: bool) -> Iterator[_Found]:
    for inner, expression in template.expressions.items():
        yield below(path, inner), expression, result, frozenset()
