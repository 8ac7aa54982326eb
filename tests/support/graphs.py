"""Any graph at all, for what must hold of all of them."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st

from engine.core import expressions
from engine.core.graph import (
    END,
    Arrive,
    Asked,
    Awaited,
    Child,
    Edge,
    EdgeId,
    Escalation,
    Graph,
    Join,
    Limits,
    Lock,
    Map,
    Node,
    NodeId,
    Orphan,
    Retry,
    Role,
    Route,
    Rule,
    Surplus,
    Timer,
    Wait,
)

#: Names that some notation or other takes for something else.
AWKWARD = (
    *("end", "End", "end_", "graph", "subgraph", "style", "class", "click", "call", "default"),
    *("node", "edge", "digraph", "strict", "start", "direction", "_blank", "x", "o", "1", "2.5"),
    *("a b", "a  b", "a_b_", "a_b_2", "a-b", "a--b", "a.b", "n" * 64),
)
#: Text that means something somewhere.
SIGNS = st.sampled_from(
    [
        *("end", "<br>", "#35;", "&amp;", "&#0;", '"', "\\", "\\N", "\\n", "`x`", "|", "]]", "))"),
        *("-->", "->", "%%", ";", "{{", "}}", "//", "/*", "@{", "title:", "---", "$x > 3", "]]>"),
        *("</svg>", "<script>", "\u00d73", "\u202e", "\u2028", "\x85", "\uffff", " ", "  "),
        *("日本語", "é", "🙂"),
    ]
)
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30),
    st.lists(SIGNS, min_size=1, max_size=6).map("".join),
).filter(lambda text: len(text) <= 100 and not any(ord(c) < 32 or ord(c) == 127 for c in text))
NAMES = st.one_of(
    st.sampled_from(AWKWARD),
    st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_. -]{0,8}[A-Za-z0-9_.-])?", fullmatch=True),
)
WORKFLOWS = st.one_of(
    st.just("w"),
    st.from_regex(
        r"[^\s@/\x00-\x1f\x7f\ud800-\udfff][^@/\x00-\x1f\x7f\ud800-\udfff]{0,8}[^\s@/\x00-\x1f\x7f\ud800-\udfff]",
        fullmatch=True,
    ),
)
REFERENCES = st.sampled_from(["f", "write.draft@3", "start", "a_b", "x", "end"])
WHENS = st.sampled_from(["$x > 3", '$x == "a\\\\b"', "$y", '$s == "<br>"']).map(expressions.compile)
REASONS = st.frozensets(st.sampled_from(["error", "timeout", "memory"]))
TITLES = st.none() | TEXTS


WAITS = ("timer", "event", "approval", "input", "workflow", "map")
LOCKS = (
    None,
    Lock(name=expressions.template("l")),
    Lock(name=expressions.template("$x"), tenant=True),
)


def _inner(name: str, part: str, **options: object) -> Node:
    inner = Node(id=NodeId(f"{name}/{part}"), kind="function", uses="f")
    return replace(inner, **options)  # type: ignore[arg-type]


def _wait(kind: str, name: str) -> st.SearchStrategy[Wait]:
    """What a node of a kind waits for, with anything that it may have."""
    text, expires = expressions.template, st.sampled_from([None, 90.0, 0.25])
    form = st.sampled_from([{"size": {"type": "integer"}}, {"a": {"default": "<br>"}, "b": {}}])
    found: dict[str, st.SearchStrategy[Wait]] = {
        "timer": st.sampled_from([Timer(seconds=text("10m")), Timer(until=text("$x"))]),
        "event": st.builds(
            Awaited,
            name=st.sampled_from([text("paid"), text("$s")]),
            match=st.sampled_from([None, text({"order": "$x"})]),
            schema=st.sampled_from([None, {"type": "object"}]),
            transient=st.booleans(),
            expires=expires,
        ),
        "approval": st.builds(
            Asked,
            choices=st.just(("approve", "reject")),
            form=st.just({}) | form,
            show=st.sampled_from([None, text("$x")]),
            who=st.sampled_from([(), ("role:a", "user:b")]),
            quorum=st.integers(1, 3),
            reason=st.booleans(),
            four_eyes=st.booleans(),
            escalate=st.sampled_from([None, Escalation(after=60.0, to=("role:z", "user:y"))]),
            expires=expires,
        )
        | st.builds(
            Asked,
            choices=st.just(("approve", "reject")),
            quorums=st.fixed_dictionaries({"approve": st.integers(1, 3), "reject": st.just(1)}),
        ),
        "input": st.builds(Asked, form=form, four_eyes=st.booleans(), expires=expires),
        "workflow": st.builds(
            Child, workflow=st.just("w@1"), orphan=st.sampled_from(Orphan), expires=expires
        ),
        "map": st.builds(
            Map,
            over=st.sampled_from([text("$x"), text([1, "$y"])]),
            do=st.sampled_from(
                [
                    _inner(name, "item"),
                    _inner(
                        name,
                        "item",
                        kind="workflow",
                        uses=None,
                        wait=Child(workflow="w"),
                        timeout=9.0,
                    ),
                ]
            ),
            name=st.sampled_from(["item", "one"]),
            at_once=st.integers(1, 20),
            most_failed=st.integers(1, 3),
            enough=st.sampled_from([None, text(2), text("$x")]),
        ),
    }
    return found[kind]


@st.composite
def nodes(draw: st.DrawFn, name: str) -> Node:
    """A node of any kind, with anything that its kind may have."""
    kinds = ["function", "function", "tool", "plan", "start", "end", "pass", "milestone"]
    kind = draw(st.sampled_from([*kinds, *WAITS]))
    common = {
        "id": NodeId(name),
        "title": draw(TITLES),
        "notes": draw(st.none() | st.just("Two\nlines.")),
        "max_iterations": draw(st.sampled_from([100, 100, 3])),
        "join": draw(
            st.sampled_from(
                [
                    *(Join(), Join(all=True), Join(count=2, surplus=Surplus.FINISH)),
                    Join(timeout=90.0, surplus=Surplus.KEEP),
                ]
            )
        ),
        "cancels": draw(st.sampled_from([(), (), (NodeId("a"), NodeId("b c"))])),
    }
    if kind in {"start", "end", "pass"}:
        return Node(kind=kind, role=Role.CONTROL, **common)  # type: ignore[arg-type]
    if kind == "milestone":
        until = draw(st.sampled_from([None, 90.0, 0.25]))
        return Node(kind=kind, role=Role.CONTROL, at=NodeId("a"), expires=until, **common)  # type: ignore[arg-type]
    if kind == "plan":
        rules = (Rule(next=(NodeId("a"),), when=draw(WHENS)), Rule(next=()))
        return Node(kind=kind, role=Role.PLAN, rules=rules, **common)  # type: ignore[arg-type]
    if kind in WAITS:
        around = {
            "save": draw(st.sampled_from([{}, {"v": expressions.template("$result")}])),
            "lock": draw(st.sampled_from(LOCKS)),
            "compensate": draw(st.none() | st.just(_inner(name, "undo"))),
        }
        if kind == "timer":
            around = {"lock": around["lock"]}
        return Node(kind=kind, wait=draw(_wait(kind, name)), **around, **common)  # type: ignore[arg-type]
    plan = kind == "function" and draw(st.booleans())
    return Node(
        kind=kind,
        role=Role.PLAN if plan else Role.TASK,
        uses=draw(st.just(name) | REFERENCES | (st.none() if kind == "function" else REFERENCES)),
        choose=None if plan or kind == "tool" else draw(st.none() | REFERENCES),
        inputs=draw(st.none() | st.just(expressions.template({"x": "$x", "deep": [{"y": 1}]}))),
        save=draw(st.sampled_from([{}, {"v": expressions.template("$result")}])),
        retry=draw(st.sampled_from([Retry(), Retry(attempts=3, on=frozenset({"timeout"}))])),
        timeout=draw(st.sampled_from([None, 90.0, 0.25])),
        queue=draw(st.sampled_from([None, "slow"])),
        route=draw(st.sampled_from(Route)),
        **common,  # type: ignore[arg-type]
    )


@st.composite
def arrows(draw: st.DrawFn, number: int, source: NodeId, target: NodeId) -> Edge:
    """An edge with anything that edges may have."""
    on = draw(st.sampled_from([None, None, None, "error", "short"]))
    return Edge(
        id=EdgeId(f"{source}->{target}#{number}"),
        source=source,
        target=target,
        on=on,
        reasons=draw(REASONS) if on == "error" else frozenset(),
        arrive=draw(st.sampled_from(Arrive)),
        when=draw(st.none() | WHENS),
        ask=draw(st.none() | REFERENCES),
        label=draw(TITLES),
        title=draw(TITLES),
    )


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any nodes, and edges that lead to all of them, whether or not they make sense together."""
    names = draw(st.lists(NAMES, min_size=1, max_size=7, unique=True))
    found = {NodeId(name): draw(nodes(name)) for name in names}
    if draw(st.booleans()):
        found.setdefault(END.id, END)
    start = draw(st.sampled_from([*found]))
    ends = draw(st.lists(st.tuples(*[st.sampled_from([*found])] * 2), max_size=9))
    reached = {start}
    while more := {target for source, target in ends if source in reached} - reached:
        reached |= more
    ends += [(start, name) for name in found if name not in reached]
    edges = [draw(arrows(index, *pair)) for index, pair in enumerate(ends)]
    return Graph(
        workflow=draw(WORKFLOWS),
        version=draw(st.sampled_from([None, "1.2.0"])),
        start=start,
        nodes=found,
        edges=tuple(edges),
        variables=draw(st.sampled_from([{}, {"x": 1, "y": None}])),
        outputs=draw(st.sampled_from([{}, {"x": expressions.template("$x")}])),
        limits=draw(st.sampled_from([Limits(), Limits(steps=7)])),
        origin=draw(st.sampled_from([None, {"language": "other"}])),
    )
