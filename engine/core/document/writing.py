"""From a graph to its canonical document."""

from __future__ import annotations

from collections.abc import Mapping

from engine.core.expressions import Template
from engine.core.graph import Arrive, Edge, Graph, Limits, Node, Retry, Role
from engine.core.values import Json


def write(graph: Graph) -> dict[str, Json]:
    """The canonical document of a graph: nothing that goes without saying, one way to say it."""
    inputs = graph.inputs.get("properties", {})
    return _filled(
        workflow=graph.workflow,
        version=graph.version,
        start=graph.start,
        inputs=inputs or None,
        variables={name: {"default": value} for name, value in graph.variables.items()} or None,
        outputs=_sources(graph.outputs) or None,
        limits=None if graph.limits == Limits() else {"steps": graph.limits.steps},
        nodes={node.id: _write_node(node) for node in graph.nodes.values()},
        edges=[_write_edge(edge) for edge in graph.edges] or None,
        origin=graph.origin,
    )


def _write_node(node: Node) -> dict[str, Json]:
    usual = Node(id=node.id, kind=node.kind)
    return _filled(
        kind=None if node.kind == "function" else node.kind,
        role=node.role.value if node.role is Role.PLAN else None,
        **{"tool" if node.kind == "tool" else "uses": node.uses},
        **{"with": None if node.inputs is None else node.inputs.source},
        save=_sources(node.save) or None,
        choose=node.choose,
        retry=_write_retry(node.retry) or None,
        timeout=None if node.timeout is None else _number(node.timeout),
        max_iterations=None if node.max_iterations == usual.max_iterations else node.max_iterations,
        queue=node.queue,
        title=node.title,
        notes=node.notes,
    )


def _write_retry(retry: Retry) -> dict[str, Json]:
    usual = Retry()
    return _filled(
        attempts=None if retry.attempts == usual.attempts else retry.attempts,
        **{
            field: _number(getattr(retry, field))
            for field in ("backoff", "factor", "max", "jitter")
            if getattr(retry, field) != getattr(usual, field)
        },
        on=[*sorted(retry.on)] or None,
    )


def _write_edge(edge: Edge) -> dict[str, Json]:
    return _filled(
        **{"from": edge.source, "to": edge.target},
        type=None if edge.arrive is Arrive.START else edge.arrive.value,
        when=None if edge.when is None else edge.when.source,
        ask=edge.ask,
        label=edge.label,
    )


def _sources(templates: Mapping[str, Template]) -> dict[str, Json]:
    return {name: template.source for name, template in templates.items()}


def _number(value: float) -> Json:
    return int(value) if value == int(value) else value


def _filled(**fields: Json) -> dict[str, Json]:
    """The fields that say something."""
    return {name: value for name, value in fields.items() if value is not None}
