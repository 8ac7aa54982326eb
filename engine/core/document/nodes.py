"""Reading the nodes of a document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from engine.core import expressions
from engine.core.document import vocabulary as words
from engine.core.document.names import reference, templates
from engine.core.graph import DEFAULT_ITERATIONS, Node, NodeId, Retry, Role
from engine.core.section import Section, short


def nodes(top: Section) -> dict[NodeId, Node] | None:
    """The nodes by name; None if there are none to speak of."""
    if "nodes" not in top.fields:
        top.fail("nodes", "the workflow has no nodes", "write nodes: {NAME: {uses: FUNCTION}}")
        return None
    section = top.section("nodes")
    if not 0 < len(section.fields) <= words.MAX_NODES:
        if isinstance(top.fields["nodes"], dict):
            top.fail("nodes", f"{len(section.fields)} nodes", f"write 1 to {words.MAX_NODES}")
        return None
    found: dict[NodeId, Node] = {}
    for name in section.fields:
        if not words.matches(words.NODE_NAME, name):
            section.fail(
                name,
                f"{short(name)} is not a name for a node",
                "use up to 64 letters, digits, _ . - and spaces",
            )
        found[NodeId(name)] = _node(NodeId(name), section.section(name))
    return found


_OWN: Mapping[str, tuple[str, ...]] = {
    "function": ("uses", *words.WORK),
    "tool": ("tool", *words.WORK),
    "start": (),
    "pass": (),
    "end": (),
}


def _node(name: NodeId, section: Section) -> Node:
    kind = section.option("kind", words.KINDS, words.LATER_KINDS)
    if kind is None and "kind" in section.fields:
        # What else it has belongs to a kind that is not known here.
        return Node(id=name, kind="function", uses="?")
    kind = kind or "function"
    section.known(
        (*words.NODE, *_OWN[kind]), later=words.LATER_NODE, elsewhere={"uses", "tool", *words.WORK}
    )
    max_iterations = section.integer("max_iterations", 1, words.MAX_ITERATIONS, DEFAULT_ITERATIONS)
    title = section.text("title", words.TITLE, "a title of one line, up to 200 characters")
    notes = section.text("notes", words.NOTES, "up to 4000 characters")
    if kind not in {"function", "tool"}:
        return Node(
            id=name,
            kind=kind,
            role=Role.CONTROL,
            max_iterations=max_iterations,
            title=title,
            notes=notes,
        )
    role = Role(section.option("role", ("task", "plan"), ()) or "task")
    field = "tool" if kind == "tool" else "uses"
    uses = reference(section, field)
    choose = reference(section, "choose")
    if kind == "tool" and "tool" not in section.fields:
        section.fail("tool", "the node names no tool", "write tool: NAME")
    if role is Role.PLAN and "choose" not in section.fields and "rules" not in section.fields:
        section.fail("choose", "a plan chooses, and this one has no `choose`", "name a function")
    return Node(
        id=name,
        kind=kind,
        role=role,
        uses=uses,
        choose=choose,
        inputs=_with(section),
        save=templates(section, "save"),
        retry=_retry(section),
        timeout=section.duration("timeout", 0.001, words.MAX_SECONDS),
        max_iterations=max_iterations,
        queue=section.text("queue", words.QUEUE, "a name of letters, digits, _ . and -"),
        title=title,
        notes=notes,
    )


def _with(section: Section) -> expressions.Template | None:
    if "with" not in section.fields:
        return None
    if not isinstance(section.fields["with"], dict):
        section.wrong(section.at("with"), section.fields["with"], "an object: input to value")
        return None
    return section.template("with")


def _retry(node: Section) -> Retry:
    section, usual = node.section("retry"), Retry()
    section.known([field.name for field in fields(Retry)])
    backoff = section.duration("backoff", 0, words.MAX_SECONDS)
    most = section.duration("max", 0, words.MAX_SECONDS)
    return Retry(
        attempts=section.integer("attempts", 1, words.MAX_ATTEMPTS, usual.attempts),
        backoff=usual.backoff if backoff is None else backoff,
        factor=section.number("factor", 1, 100, usual.factor),
        max=usual.max if most is None else most,
        jitter=section.number("jitter", 0, 1, usual.jitter),
        on=frozenset(section.options("on", words.REASONS)),
    )
