"""Reading the nodes of a document."""

from __future__ import annotations

from dataclasses import fields, replace

from engine.core import expressions
from engine.core.document import vocabulary as words
from engine.core.document import waits
from engine.core.document.names import is_expression, reference, templates, tool
from engine.core.graph import (
    DEFAULT_ITERATIONS,
    Asked,
    Join,
    Lock,
    Node,
    NodeId,
    Retry,
    Role,
    Route,
    Rule,
    Surplus,
)
from engine.core.problem import Problem
from engine.core.section import UNREAD, Section, short


def nodes(top: Section) -> dict[NodeId, Node] | None:
    """The nodes by name; None if there are none to speak of."""
    if "nodes" not in top.fields:
        top.fail(
            "nodes",
            "the workflow has no nodes",
            "write nodes: {NAME: {uses: FUNCTION}}, or steps: [{agent: FUNCTION}]",
        )
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


def _node(name: NodeId, section: Section) -> Node:
    if "rules" in section.fields:
        return _ruled(name, section)
    kind = _kind(section)
    if kind is None and "kind" in section.fields:
        # What else it has belongs to a kind that is not known here.
        return Node(id=name, kind="function", uses="?", join=join(section))
    kind = kind or "function"
    own = words.OWN.get(kind, words.WORK)
    section.known((*words.NODE, *own), later=words.LATER_NODE, elsewhere=_ELSEWHERE)
    working = kind in _WORKING or kind not in words.KINDS
    every = Node(
        id=name,
        kind=kind,
        role=Role.TASK if working or kind in words.WAITING else Role.CONTROL,
        max_iterations=_max_iterations(section),
        route=_route(section),
        join=join(section),
        cancels=_cancels(section),
        checkpoint=_checkpoint(section),
        title=_title(section),
        notes=_notes(section),
    )
    if kind in words.WAITING:
        return _waiting(every, section)
    if kind == "milestone":
        return _milestone(every, section)
    return _working(every, section) if working else every


def _kind(section: Section) -> str | None:
    """The kind of a node: one of the language's, or the name of one that is installed."""
    given = section.fields.get("kind")
    if isinstance(given, str) and words.matches(words.FOREIGN_KIND, given):
        return given
    if given == "mcp":
        message = "the tools of a server are tools like any other"
        section.fail("kind", message, "write kind: tool, tool: SERVER.TOOL")
        return None
    return section.option("kind", words.KINDS, words.LATER_KINDS)


#: Fields that nodes of some kind have, so that others can be told that they have them not.
_ELSEWHERE = frozenset(words.PLAN).union(words.NODE, *words.OWN.values())
#: Kinds that a worker carries out.
_WORKING = frozenset(words.INNER_KINDS)


def _working(node: Node, section: Section) -> Node:
    """A node with what a worker needs to know."""
    role, choose = Role.TASK, None
    if node.kind == "function":
        role = Role(section.option("role", words.ROLES, ()) or "task")
        choose = reference(section, "choose")
    if role is Role.PLAN and choose is not None:
        section.fail("choose", "a plan chooses by what its own function answers", "write `uses`")
    elif role is Role.PLAN and "uses" not in section.fields:
        section.fail(
            "rules",
            "a plan chooses, and this one has nothing to choose by",
            "write rules: [{when: EXPRESSION, next: [NODE]}], or uses: FUNCTION",
        )
    uses, called = _used(node.kind, section)
    return replace(
        node,
        role=role,
        uses=uses,
        called=called,
        choose=choose,
        inputs=_inputs(node.kind, section),
        save=templates(section, "save"),
        retry=_retry(section),
        timeout=section.duration("timeout", 0.001, words.MAX_SECONDS),
        estimate=_estimate(section),
        queue=_queue(section),
        lock=_lock(section),
        compensate=_compensate(node.id, section),
    )


def _used(kind: str, section: Section) -> tuple[str | None, expressions.Template | None]:
    """What a node runs, by name; or the expression of the name, too."""
    if kind == "tool":
        if "tool" not in section.fields:
            section.fail("tool", "the node names no tool", "write tool: NAME")
        return tool(section)
    if kind in words.SERVICES:
        return reference(section, "service") or kind, None
    return (reference(section, "uses") if kind == "function" else None), None


def _inputs(kind: str, section: Section) -> expressions.Template | None:
    """What a node is given: `with`, or the fields that its kind has for it."""
    if kind not in words.GIVEN:
        return _with(section, whole=kind in {"tool", "workflow"})
    needed = words.NEEDED[kind]
    if not any(name in section.fields for name in needed):
        section.fail(
            needed[0],
            f"the {kind} has no {' and no '.join(needed)}",
            f"write {needed[0]}: …",
        )
    if "with" in section.fields:
        _with(section)
    given = {name: section.fields[name] for name in words.GIVEN[kind] if name in section.fields}
    return section.whole(given)


def _waiting(node: Node, section: Section) -> Node:
    """A node with what it waits for."""
    wait = waits.wait(node.id, node.kind, section, _inner)
    form = wait.form if isinstance(wait, Asked) else {}
    return replace(
        node,
        wait=wait,
        inputs=_inputs(node.kind, section),
        save=templates(section, "save") or waits.default_save(node.kind, form),
        retry=_retry(section, words.CHILD_REASONS),
        timeout=section.duration("timeout", 0.001, words.MAX_SECONDS),
        queue=_queue(section),
        lock=_lock(section),
        compensate=_compensate(node.id, section),
    )


def _inner(outer: Section, field: str, name: NodeId, kinds: tuple[str, ...]) -> Node:
    """A node that stands within another; a text is the function that it is."""
    given = outer.fields[field]
    if isinstance(given, str):
        return Node(id=name, kind="function", uses=reference(outer, field))
    section = outer.section(field)
    kind = section.option("kind", kinds, ()) or "function"
    known = {name: words.OWN[name] for name in words.GIVEN} | {
        "function": ("uses", "with"),
        "tool": ("tool", "with"),
        "workflow": ("workflow", "orphan", "with"),
    }
    around = ("save", "lock", "compensate")
    own = [field for field in known[kind] if field not in around]
    spends = () if kind == "workflow" else ("estimate",)
    section.known(
        dict.fromkeys(("kind", *own, "retry", "timeout", "queue", *spends)), elsewhere=words.INNER
    )
    if kind == "function" and "uses" not in section.fields:
        section.fail("uses", "the function has no name", "write uses: NAME")
    uses, called = _used(kind, section)
    return Node(
        id=name,
        kind=kind,
        uses=uses,
        called=called,
        wait=waits.child(section) if kind == "workflow" else None,
        inputs=_inputs(kind, section),
        retry=_retry(section, words.CHILD_REASONS if kind == "workflow" else words.REASONS),
        timeout=section.duration("timeout", 0.001, words.MAX_SECONDS),
        estimate=_estimate(section),
        queue=_queue(section),
    )


def _compensate(name: NodeId, section: Section) -> Node | None:
    if "compensate" not in section.fields:
        return None
    return _inner(section, "compensate", NodeId(f"{name}/undo"), words.INNER_KINDS)


def _lock(node: Section) -> Lock | None:
    """A text is the name of a lock of the run, held while the step lives."""
    if "lock" not in node.fields:
        return None
    if isinstance(node.fields["lock"], str):
        return Lock(name=waits.name(node, "lock", "the name of a lock"))
    section = node.section("lock")
    section.known(words.LOCK)
    until = section.text("until", words.NODE_NAME, "the name of a node")
    return Lock(
        name=waits.name(section, "name", "the name of the lock"),
        until=None if until is None else NodeId(until),
        tenant=section.option("of", words.LOCKS, ()) == "tenant",
    )


def _estimate(node: Section) -> dict[str, float]:
    """What an attempt may use, by name."""
    if "estimate" not in node.fields:
        return {}
    section = node.section("estimate")
    if len(section.fields) > words.MAX_USAGES:
        node.fail(
            "estimate", f"{len(section.fields)} names", f"write at most {words.MAX_USAGES} of them"
        )
        return {}
    for name in section.fields:
        if not words.matches(words.USAGE, name):
            section.fail(
                name, f"{short(name)} is no name of a usage", "write cost_usd, tokens_used, …"
            )
    return {name: section.number(name, 0, words.MAX_USAGE, 0) for name in section.fields}


def _queue(section: Section) -> str | None:
    return section.text("queue", words.QUEUE, "a name of letters, digits, _ . and -")


def _milestone(node: Node, section: Section) -> Node:
    """A node that is passed while another thread is at a third."""
    if "at" not in section.fields:
        section.fail("at", "the milestone does not say where somebody must be", "write at: NODE")
    at = section.text("at", words.NODE_NAME, "the name of a node")
    return replace(
        node,
        # Of a milestone that says nothing more is said about where it is.
        at=None if at is None else NodeId(at),
        expires=section.duration("expires", 0.001, words.MAX_SECONDS),
    )


def _ruled(name: NodeId, section: Section) -> Node:
    """A plan that chooses by rules, without running anything."""
    section.known(words.PLAN, later=words.LATER_NODE, elsewhere=_ELSEWHERE)
    role = section.option("role", words.ROLES, ())
    if role == "task" or "role" not in section.fields:
        section.fail("role", "rules are for a plan", "write role: plan")
    return Node(
        id=name,
        kind="plan",
        role=Role.PLAN,
        rules=_rules(section),
        max_iterations=_max_iterations(section),
        join=join(section),
        cancels=_cancels(section),
        checkpoint=_checkpoint(section),
        title=_title(section),
        notes=_notes(section),
    )


def _rules(node: Section) -> tuple[Rule, ...]:
    given = node.fields["rules"]
    if not (isinstance(given, list) and 0 < len(given) <= words.MAX_RULES):
        node.wrong(node.at("rules"), given, f"1 to {words.MAX_RULES} rules: [{{next: [NODE]}}]")
        # Where rules are unread, nothing is said about where they lead.
        return (Rule(next=(), when=UNREAD),)
    found: list[Rule] = []
    for index, entry in enumerate(given):
        section = Section(entry, f"{node.at('rules')}[{index}]", node.problems)
        section.known(words.RULE)
        if found and found[-1].when is None:
            problem = Problem(
                path=section.path,
                message="the rule is never looked at: the one before it always holds",
                remedy="give that one a `when`, or remove this one",
            )
            node.problems.append(problem)
        when, chosen = section.expression("when"), _next(section)
        # Of a rule without its nodes nothing is said further on.
        found.append(Rule(next=chosen or (), when=when if chosen is not None else UNREAD))
    return tuple(found)


def _next(rule: Section) -> tuple[NodeId, ...] | None:
    """The nodes that a rule chooses; a node that stands there twice is started twice."""
    if "next" not in rule.fields:
        rule.fail("next", "the rule chooses nothing", "write next: [NODE], or next: [] to end here")
        return None
    given = rule.fields["next"]
    if not (
        isinstance(given, list)
        and len(given) <= words.MAX_THREADS
        and all(isinstance(name, str) for name in given)
    ):
        rule.wrong(rule.at("next"), given, f"a list of up to {words.MAX_THREADS} nodes")
        return None
    return tuple(NodeId(str(name)) for name in given)


def join(node: Section) -> Join:
    """What a node demands of the threads it brings together."""
    given = node.fields.get("join", {})
    if isinstance(given, str):
        word = node.option("join", words.JOINS, ())
        return Join() if word is None else words.JOINS[word]
    section = node.section("join")
    section.known(words.JOIN)
    demands = [field for field in ("all", "first", "share") if field in section.fields]
    if isinstance(given, dict) and "join" in node.fields and not given:
        node.fail("join", "it says nothing", "leave it out: whoever can still come is waited for")
    for more in demands[1:]:
        section.fail(more, f"`{demands[0]}` says already what is demanded", "keep one of them")
    if "surplus" in section.fields and not demands and "timeout" not in section.fields:
        section.fail(
            "surplus",
            "a join that demands nothing waits for whoever can come, and nobody is left over",
            "demand `all`, `first` or a `share`, add a `timeout`, or leave it out",
        )
    every = section.flag("all")
    if "all" in demands and not every:
        section.fail("all", "a demand that is none", "write all: true, or leave it out")
    surplus = section.option("surplus", words.SURPLUS, ())
    if surplus == "keep" and "share" in demands:
        section.fail(
            "surplus",
            "a share is of the threads of one fork, and there is no next time for it",
            "demand `all` or `first`, or write surplus: finish",
        )
    of = section.text("of", words.NODE_NAME, "the name of a node")
    return Join(
        of=None if of is None else NodeId(of),
        all=every,
        count=section.integer("first", 1, words.MAX_THREADS, 1) if "first" in demands else None,
        share=section.number("share", words.MIN_SHARE, 1, 1) if "share" in demands else None,
        surplus=Surplus(surplus or "cancel"),
        timeout=section.duration("timeout", 0.001, words.MAX_SECONDS),
    )


def _cancels(section: Section) -> tuple[NodeId, ...]:
    """The nodes at which everything ends when a step succeeds here."""
    if "cancels" not in section.fields:
        return ()
    given = section.fields["cancels"]
    if not (
        isinstance(given, list)
        and 0 < len(given) <= words.MAX_NODES
        and all(isinstance(name, str) for name in given)
    ):
        section.wrong(section.at("cancels"), given, "a list of nodes: [NODE]")
        return ()
    return tuple(NodeId(str(name)) for name in given)


def _route(section: Section) -> Route:
    return Route(section.option("route", words.ROUTES, ()) or Route.FIRST)


def _max_iterations(section: Section) -> int:
    return section.integer("max_iterations", 1, words.MAX_ITERATIONS, DEFAULT_ITERATIONS)


def _checkpoint(section: Section) -> str | None:
    expected = "a name of up to 100 characters that begins with no digit and holds no #"
    return section.text("checkpoint", words.CHECKPOINT, expected)


def _title(section: Section) -> str | None:
    return section.text("title", words.TITLE, "a title of one line, up to 200 characters")


def _notes(section: Section) -> str | None:
    return section.text("notes", words.NOTES, "up to 4000 characters")


def _with(section: Section, *, whole: bool = False) -> expressions.Template | None:
    """What a node is given. `whole`: an expression of all of it will do."""
    if "with" not in section.fields:
        return None
    if whole and is_expression(section.fields["with"]):
        return section.template("with")
    if not isinstance(section.fields["with"], dict):
        section.wrong(section.at("with"), section.fields["with"], "an object: input to value")
        return None
    return section.template("with")


def _retry(node: Section, reasons: tuple[str, ...] = words.REASONS) -> Retry:
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
        on=frozenset(section.options("on", reasons)),
    )
