"""From a graph to its canonical document."""

from __future__ import annotations

from collections.abc import Mapping

from engine.core.document import vocabulary as words
from engine.core.document.steps import TAPE, write_steps, write_workflows
from engine.core.document.waits import default_save
from engine.core.expressions import Template
from engine.core.graph import (
    Arrive,
    Asked,
    Awaited,
    Child,
    Edge,
    Escalation,
    Graph,
    Join,
    Limits,
    Listing,
    Lock,
    Map,
    Node,
    Orphan,
    Retry,
    Role,
    Route,
    Rule,
    Surplus,
    Timer,
    Wait,
)
from engine.core.values import Json


def write(graph: Graph) -> dict[str, Json]:
    """The canonical document of a graph: nothing that goes without saying, one way to say it."""
    inputs = graph.inputs.get("properties", {})
    own = TAPE if graph.listing is not None else {}
    declared = [name for name in graph.variables if name not in own]
    return _filled(
        workflow=graph.workflow,
        version=graph.version,
        strict=graph.strict or None,
        start=graph.start if graph.listing is None else None,
        inputs=inputs or None,
        variables={name: _write_variable(graph, name) for name in declared} or None,
        outputs=_sources(graph.outputs) or None,
        limits=None if graph.limits == Limits() else {"steps": graph.limits.steps},
        **(_write_drawn(graph) if graph.listing is None else _write_list(graph, graph.listing)),
        tests=dict(graph.tests) or None,
        origin=graph.origin,
    )


def _write_drawn(graph: Graph) -> dict[str, Json]:
    return {
        "nodes": {node.id: _write_node(graph, node) for node in graph.nodes.values()},
        "edges": [_write_edge(graph, edge) for edge in graph.edges] or None,
    }


def _write_list(graph: Graph, listing: Listing) -> dict[str, Json]:
    return {
        "steps": write_steps(graph, listing),
        "workflows": write_workflows(graph, listing) or None,
        "return_on_fail": None if listing.return_on_fail else False,
    }


def _write_variable(graph: Graph, name: str) -> dict[str, Json]:
    return _filled(
        type=_write_type(graph.types.get(name)),
        reduce=graph.reducers.get(name),
        shared=name in graph.shared or None,
        default=graph.variables[name],
    )


def _write_type(schema: Json) -> Json:
    """The name of a type, where a schema says nothing else."""
    if isinstance(schema, dict) and schema.keys() == {"type"}:
        return next((name for name in words.TYPES if name == schema["type"]), schema)
    return schema


def _write_node(graph: Graph, node: Node) -> dict[str, Json]:
    usual = Node(id=node.id, kind=node.kind)
    return _filled(
        kind=None if node.kind == "function" or node.rules else node.kind,
        role=node.role.value if node.role is Role.PLAN else None,
        **_write_used(node),
        rules=[_write_rule(rule) for rule in node.rules] or None,
        # Both a milestone and what waits may expire.
        **{"at": node.at, "expires": _time(node.expires), **_write_wait(node.wait)},
        **_write_given(node),
        save=_write_save(node),
        choose=node.choose,
        join=_write_join(node.join),
        cancels=[*node.cancels] or None,
        route="all" if node.route is Route.ALL and not _forks(graph, node) else None,
        retry=_write_retry(node.retry) or None,
        timeout=None if node.timeout is None else _number(node.timeout),
        estimate=_write_estimate(node),
        max_iterations=None if node.max_iterations == usual.max_iterations else node.max_iterations,
        queue=node.queue,
        lock=None if node.lock is None else _write_lock(node.lock),
        compensate=None if node.compensate is None else _write_inner(node.compensate),
        checkpoint=node.checkpoint,
        title=node.title,
        notes=node.notes,
    )


def _write_used(node: Node) -> dict[str, Json]:
    if node.kind in words.SERVICES:
        return {"service": None if node.uses == node.kind else node.uses}
    return {"tool" if node.kind == "tool" else "uses": node.uses}


def _write_given(node: Node) -> dict[str, Json]:
    source = _source(node.inputs)
    return source if not node.given and isinstance(source, dict) else {"with": source}


def _write_save(node: Node) -> Json:
    form = node.wait.form if isinstance(node.wait, Asked) else {}
    if node.save == default_save(node.kind, form):
        return None
    return _sources(node.save) or None


def _write_wait(wait: Wait | None) -> dict[str, Json]:
    """What a node waits for."""
    match wait:
        case Timer(seconds=seconds, until=until):
            return _filled(**{"for": _source(seconds), "until": _source(until)})
        case Awaited():
            return _filled(
                name=wait.name.source,
                match=_source(wait.match),
                schema=wait.schema,
                transient=wait.transient or None,
                expires=_time(wait.expires),
            )
        case Asked():
            usual = () if not wait.choices else words.CHOICES
            return _filled(
                show=_source(wait.show),
                choices=None if wait.choices == usual else [*wait.choices],
                form=dict(wait.form) or None,
                **{"from": list[Json](wait.who) or None},
                quorum=_write_quorum(wait),
                reason="required" if wait.reason else None,
                four_eyes=wait.four_eyes or None,
                escalate=None if wait.escalate is None else _write_escalation(wait.escalate),
                expires=_time(wait.expires),
            )
        case Child():
            return _filled(
                workflow=wait.workflow,
                orphan=None if wait.orphan is Orphan.CANCEL else wait.orphan.value,
                expires=_time(wait.expires),
            )
        case Map():
            return _write_map(wait)
        case _:
            return {}


def _write_quorum(wait: Asked) -> Json:
    if wait.quorums:
        return dict[str, Json](wait.quorums)
    return None if wait.quorum == 1 else wait.quorum


def _write_escalation(escalation: Escalation) -> Json:
    return {"after": _number(escalation.after), "to": [*escalation.to]}


def _write_map(wait: Map) -> dict[str, Json]:
    usual = Map(over=wait.over, do=wait.do)
    stop = _filled(
        failed=None if wait.most_failed == usual.most_failed else wait.most_failed,
        succeeded=_source(wait.enough),
    )
    return {
        "over": wait.over.source,
        **_filled(
            **{"as": None if wait.name == usual.name else wait.name},
            do=_write_inner(wait.do),
            at_once=None if wait.at_once == usual.at_once else wait.at_once,
            stop_when=stop or None,
        ),
    }


def _write_inner(node: Node) -> Json:
    """A node that stands within another; a function that says nothing else is its name."""
    written = _filled(
        kind=None if node.kind == "function" else node.kind,
        **_write_used(node),
        **_write_wait(node.wait),
        **_write_given(node),
        retry=_write_retry(node.retry) or None,
        timeout=_time(node.timeout),
        estimate=_write_estimate(node),
        queue=node.queue,
    )
    return written["uses"] if written.keys() == {"uses"} else written


def _write_estimate(node: Node) -> Json:
    return {name: _number(value) for name, value in node.estimate.items()} or None


def _write_lock(lock: Lock) -> Json:
    if lock.until is None and not lock.tenant:
        return lock.name.source
    return _filled(name=lock.name.source, until=lock.until, of="tenant" if lock.tenant else None)


def _source(template: Template | None) -> Json:
    return None if template is None else template.source


def _time(seconds: float | None) -> Json:
    return None if seconds is None else _number(seconds)


def _forks(graph: Graph, node: Node) -> bool:
    """Whether its edges say that all of them are taken."""
    return any(edge.arrive is Arrive.START for edge in graph.edges_from(node.id))


def _write_rule(rule: Rule) -> dict[str, Json]:
    when = None if rule.when is None else rule.when.source
    return _filled(when=when) | {"next": [*rule.next]}


def _write_join(join: Join) -> Json:
    for word, meant in words.JOINS.items():
        if join == meant:
            return word
    written = _filled(
        of=join.of,
        all=join.all or None,
        first=join.count,
        share=None if join.share is None else _number(join.share),
        surplus=join.surplus.value if join.surplus is not Surplus.CANCEL else None,
        timeout=None if join.timeout is None else _number(join.timeout),
    )
    return written or None


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


def _write_edge(graph: Graph, edge: Edge) -> dict[str, Json]:
    return _filled(
        **{"from": edge.source, "to": edge.target},
        type=_type(graph, edge),
        on=edge.on,
        reason=[*sorted(edge.reasons)] or None,
        when=None if edge.when is None else edge.when.source,
        ask=edge.ask,
        label=edge.label,
        title=edge.title,
    )


def _type(graph: Graph, edge: Edge) -> str | None:
    if edge.arrive is not Arrive.START:
        return edge.arrive.value
    all_hold = edge.on is None and graph.nodes[edge.source].route is Route.ALL
    return "parallel" if all_hold else None


def _sources(templates: Mapping[str, Template]) -> dict[str, Json]:
    return {name: template.source for name, template in templates.items()}


def _number(value: float) -> Json:
    return int(value) if value == int(value) else value


def _filled(**fields: Json) -> dict[str, Json]:
    """The fields that say something."""
    return {name: value for name, value in fields.items() if value is not None}
