"""The template of a run: nodes, edges and the loops they form. Immutable; lookup only.

An edge has two facets. *Route* is how its source chooses (`first`: the first edge, in
declared order, whose condition holds; `all`: every one that holds). *Arrive* is what a
token on it does at the target (`start` it, wait to `join`, or be `final` and end the run).

What a source chooses by is of three kinds: a `when` expression, which the core evaluates; a
`choose` function of the node, whose answer names edges by label or target; and an `ask`
function of an edge. Functions run on the worker, in the attempt that they follow, so that
the core only ever sees the one choice that came of them (`questions`, `answering`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import NewType, TypeAlias

from engine.core import expressions, loops, ways
from engine.core.values import Json
from engine.core.ways import Ways

NodeId = NewType("NodeId", str)
EdgeId = NewType("EdgeId", str)

#: The label of a way back.
LOOP = "loop"

#: The bound of a loop that declares none.
DEFAULT_ITERATIONS = 100
#: The step budget of a run whose graph declares none.
DEFAULT_STEPS = 10_000


class Role(StrEnum):
    """What a node is for."""

    TASK = "task"  #: it does
    PLAN = "plan"  #: it chooses
    CONTROL = "control"  #: the coordinator passes it by itself: no lease, no message


class Route(StrEnum):
    """How a source chooses among its edges."""

    FIRST = "first"
    ALL = "all"


class Arrive(StrEnum):
    """What a token does at the target of an edge."""

    START = "start"
    JOIN = "join"
    FINAL = "final"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When a failed attempt is tried again. Seconds throughout."""

    #: Attempts in all that may end in an error; 1 means no retry.
    attempts: int = 1
    backoff: float = 1.0
    factor: float = 2.0
    max: float = 60.0
    #: Share of the delay that varies, derived from the step so that replay agrees.
    jitter: float = 0.1
    #: Reasons that are retried; empty means every reason that is not terminal.
    on: frozenset[str] = frozenset()


class Surplus(StrEnum):
    """What becomes of the threads that a join did not wait for."""

    CANCEL = "cancel"
    FINISH = "finish"  #: they go on, and are absorbed when they arrive
    KEEP = "keep"  #: they go on, and wait for the next time when they arrive


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """What a node demands of the threads it brings together.

    Without a demand it waits for every thread that can still come, however many that are.
    """

    #: The node whose fork it joins; by default the nearest one that can be.
    of: NodeId | None = None
    #: One token on each of its join edges.
    all: bool = False
    #: So many tokens.
    count: int | None = None
    #: Such a share of the threads that were forked, over 0 to 1.
    share: float | None = None
    surplus: Surplus = Surplus.CANCEL
    #: Seconds that the first of them waits for the others; None is as long as it takes.
    timeout: float | None = None

    @property
    def demands(self) -> bool:
        return self.all or self.count is not None or self.share is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a plan: if it holds, the plan chooses these nodes."""

    next: tuple[NodeId, ...]
    when: expressions.Expression | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """A node that waits for a time."""

    #: Seconds, or a text such as `10m`, from when it starts.
    seconds: expressions.Template | None = None
    #: An instant, as ISO 8601.
    until: expressions.Template | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """A node that waits for an event."""

    name: expressions.Template
    #: What the event must have been sent for, exactly.
    match: expressions.Template | None = None
    #: JSON Schema of its payload.
    schema: Json = None
    #: What came before it waited does not count.
    transient: bool = False
    #: Seconds; None: it waits for as long as it takes.
    expires: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """Who is asked, too, when nobody has settled a question in time."""

    #: Seconds from when it was asked.
    after: float
    #: `role:NAME`, `user:NAME`.
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A node that waits for what people say."""

    #: What they choose among; empty: they only fill in the form.
    choices: tuple[str, ...] = ()
    #: JSON Schemas of the fields that they fill in.
    form: Mapping[str, Json] = field(default_factory=dict)
    #: What they are shown.
    show: expressions.Template | None = None
    #: Who may answer: `role:NAME`, `user:NAME`; empty: whoever may see the run.
    who: tuple[str, ...] = ()
    #: How many must choose the same.
    quorum: int = 1
    #: How many must choose each, where that differs: every choice has its number then.
    quorums: Mapping[str, int] = field(default_factory=dict)
    #: Whoever denies it must say why.
    reason: bool = False
    #: Whoever submitted the run may not answer.
    four_eyes: bool = False
    escalate: Escalation | None = None
    expires: float | None = None


class Orphan(StrEnum):
    """What becomes of a child run when the step that waits for it is gone."""

    CANCEL = "cancel"
    FINISH = "finish"  #: it goes on by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A node that runs a workflow, and waits for its end."""

    #: `NAME`, `NAME@1.2.0`, or a range: `NAME@^1.2`; or the expression of one, as text.
    workflow: str
    #: What the name is worked out by, when the step begins; None: it is known before.
    named: expressions.Template | None = None
    orphan: Orphan = Orphan.CANCEL
    expires: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """A node that does the same with every item of a list."""

    over: expressions.Template
    do: Node
    #: The variable that an item is, to what is done with it.
    name: str = "item"
    at_once: int = 10
    #: So many may not fail; the map fails with the last of them.
    most_failed: int = 1
    #: So many are enough; None: all.
    enough: expressions.Template | None = None


Wait: TypeAlias = Timer | Awaited | Asked | Child | Map


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A name that one thread holds at a time, in its run or in all runs of the tenant."""

    #: Text, or an expression.
    name: expressions.Template
    #: The thread keeps it up to and with this node; None: while the step lives.
    until: NodeId | None = None
    #: For every run of the tenant, rather than for the threads of this one.
    tenant: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One place of a graph: what runs there, and within what bounds."""

    id: NodeId
    #: How it runs: `function`, `tool`, `template`, `llm`, `http`, `sql`, `proc` (a step of a list),
    #: `PACKAGE.NAME` (a kind that is installed), a kind that waits, or a control kind (`start`,
    #: `end`, `pass`, `milestone`, `index`).
    kind: str
    role: Role = Role.TASK
    #: Name of the function, tool or service that runs here, with its version if one is fixed:
    #: `increment`, `increment@3`. A function node may have none and only choose.
    uses: str | None = None
    #: Of a tool whose name is worked out when its step runs: the expression that `uses` is.
    called: expressions.Template | None = None
    #: Name of the function that runs after it, on its outcome; its answer is the choice.
    choose: str | None = None
    #: Inputs: a JSON template whose `$…` strings are expressions. Of the kinds that say in fields of
    #: their own what they are given, these fields.
    inputs: expressions.Template | None = None
    #: What the result leaves in the variables: name to template.
    save: Mapping[str, expressions.Template] = field(default_factory=dict)
    retry: Retry = field(default_factory=Retry)
    #: Wall-clock seconds of one attempt.
    timeout: float | None = None
    #: What one attempt may use, by name (`cost_usd`, `tokens_used`): set aside before it starts.
    estimate: Mapping[str, float] = field(default_factory=dict)
    max_iterations: int = DEFAULT_ITERATIONS
    route: Route = Route.FIRST
    join: Join = field(default_factory=Join)
    #: Names by which a step of a list leaves on the tape what it answers.
    output: tuple[str, ...] = ()
    #: Nodes at which everything ends when a step succeeds here.
    cancels: tuple[NodeId, ...] = ()
    #: What the place after each of its steps is called.
    checkpoint: str | None = None
    #: A milestone: where another thread must be for it to be passed.
    at: NodeId | None = None
    #: Seconds that it waits for that; None is as long as it takes.
    expires: float | None = None
    #: How a plan chooses without running anything, in order.
    rules: tuple[Rule, ...] = ()
    #: What it waits for, rather than work.
    wait: Wait | None = None
    #: What must be its thread's alone before it starts.
    lock: Lock | None = None
    #: What undoes it, when its run ends otherwise than it should.
    compensate: Node | None = None
    #: Celery queue; None is the platform's own.
    queue: str | None = None
    title: str | None = None
    notes: str | None = None

    @property
    def passes(self) -> bool:
        """Whether the coordinator passes it by itself, at once."""
        return self.role is Role.CONTROL or bool(self.rules)

    @property
    def chooses(self) -> bool:
        """Whether what comes of it names the edge to take."""
        people = isinstance(self.wait, Asked) and bool(self.wait.choices)
        return self.choose is not None or people

    @property
    def calls(self) -> bool:
        """Whether it does nothing but call tools: what it uses, its calls use."""
        return self.kind in _CALLING

    @property
    def given(self) -> str:
        """The field in which its inputs stand; empty where they are fields of its own."""
        return "" if self.kind in _SPELT else "with"

    @property
    def works(self) -> bool:
        """Whether a worker carries it out: the others are passed, or wait."""
        return not self.passes and self.wait is None


#: Kinds that have fields of their own for what they are given.
_SPELT = frozenset({"template", "llm", "http", "sql"})
#: Kinds that call tools and services.
_CALLING = frozenset({"tool", "llm", "http", "sql"})
#: The end that need not be declared.
END = Node(id=NodeId("end"), kind="end", role=Role.CONTROL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A directed link between two nodes."""

    id: EdgeId
    source: NodeId
    target: NodeId
    arrive: Arrive = Arrive.START
    when: expressions.Expression | None = None
    #: Name of the function that must answer true for this edge to be taken.
    ask: str | None = None
    #: The choice that takes this edge; `loop` marks the way back.
    label: str | None = None
    #: What it is taken on: `error` (the step failed) or `short` (the join starved, or has waited
    #: long enough; the milestone was missed).
    on: str | None = None
    #: The reasons of failure that it is for; empty means all.
    reasons: frozenset[str] = frozenset()
    #: What people call it. It routes nothing.
    title: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A function that a worker calls when a node's own work is done, to learn the choice."""

    function: str
    #: The choice if it answers true; None: its answer is the choice, unless it is false.
    take: EdgeId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The run's own bounds."""

    steps: int = DEFAULT_STEPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A list of steps that a graph was made from. It has an edge to each of them and back."""

    #: The node that leads to whichever of them comes next.
    index: NodeId
    #: The steps, by their index.
    steps: tuple[NodeId, ...]
    #: Whether a step that fails ends the run.
    return_on_fail: bool = True


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A validated graph. Build it with `engine.core.document.read`."""

    workflow: str
    version: str | None
    start: NodeId
    nodes: Mapping[NodeId, Node]
    edges: tuple[Edge, ...]
    variables: Mapping[str, Json] = field(default_factory=dict)
    #: JSON Schemas of the variables that have one.
    types: Mapping[str, Json] = field(default_factory=dict)
    #: How contributions to a variable add up, for those that say so.
    reducers: Mapping[str, str] = field(default_factory=dict)
    #: Variables that every thread writes at once; each has a reducer that commutes.
    shared: frozenset[str] = frozenset()
    #: JSON Schema of the inputs, as an object schema.
    inputs: Mapping[str, Json] = field(default_factory=dict)
    outputs: Mapping[str, expressions.Template] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    #: Tasks and plans alternate: what seed 001 asks of a graph holds of this one.
    strict: bool = False
    #: The nodes whose newest result some expression asks for: `$steps.NODE`.
    remembered: frozenset[NodeId] = frozenset()
    #: The step list that it was made from, if it was.
    listing: Listing | None = None

    #: What the document was made from, in the words of the language it was written in.
    origin: Json = None
    #: What runs of it must come to, as its document says it (`engine.cases`); no run looks at it.
    tests: Mapping[str, Json] = field(default_factory=dict)
    #: Where in that document each node and edge stands, for messages.
    places: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def place(self, part: str) -> str:
        """Where a node or an edge stands in the document, for messages."""
        return self.places.get(part, f"nodes.{part}")

    def node(self, name: NodeId) -> Node:
        """The node of that name: of the graph, or within one of its nodes."""
        return self.nodes.get(name) or self._within[name]

    def saves(self, name: NodeId) -> bool:
        """Whether the result of a node that has waited leaves something in the variables."""
        listed = self.listing is not None
        return listed or bool(self.node(name).save) or name in self.remembered

    @cached_property
    def undoes(self) -> bool:
        """Whether some node has a handler that undoes it."""
        return any(node.compensate for node in self.nodes.values())

    @cached_property
    def locks(self) -> bool:
        """Whether some node asks for a lock."""
        return any(node.lock for node in self.nodes.values())

    @cached_property
    def children(self) -> bool:
        """Whether some node starts runs."""
        nodes = (*self.nodes.values(), *self._within.values())
        return any(isinstance(node.wait, Child) for node in nodes)

    def edge(self, edge: EdgeId) -> Edge:
        """The edge of that id."""
        return self._by_id[edge]

    def edges_from(self, node: NodeId, *, on: str | None = None) -> tuple[Edge, ...]:
        """The edges that leave a node, in declared order: when it succeeds, or on something else."""
        return self._outgoing[node].get(on, ())

    def short(self, node: NodeId) -> Edge | None:
        """The way of those who came to a node in vain: too few for its join, or never passed."""
        return next(iter(self.edges_from(node, on="short")), None)

    def loop_of(self, node: NodeId) -> frozenset[NodeId]:
        """The nodes of the innermost loop that `node` turns in; empty when it is in none."""
        return self._regions.get(node, frozenset())

    def leads_back(self, edge: Edge) -> bool:
        """Whether taking `edge` stays in its source's loop and turns it once more."""
        siblings = self.edges_from(edge.source)
        if any(sibling.label == LOOP for sibling in siblings):
            return edge.label == LOOP
        return edge.target in self.loop_of(edge.source)

    def questions(self, node: NodeId, *, spent: bool = False) -> tuple[Question, ...]:
        """What a worker asks, in order, until an answer makes the choice.

        The choice is the answer of the node's `choose` function unless that is false, then
        the id of the first edge whose `ask` function says true, then what `choose` said.
        `spent`: the node has reached its bound, so the ways back are closed; whether to take
        one is then not asked where other edges have questions of their own.
        """
        choose, edges = self.nodes[node].choose, self.edges_from(node)
        closed = spent and any(edge.label == LOOP for edge in edges)
        found = []
        if choose is not None and not (closed and any(edge.ask for edge in edges)):
            found.append(Question(function=choose))
        for edge in edges:
            if (spent and self.leads_back(edge)) or (choose and edge.label == LOOP):
                continue
            if edge.ask is not None:
                found.append(Question(function=edge.ask, take=edge.id))
            elif edge.when is None:
                break
        return tuple(found)

    def answering(
        self,
        node: NodeId,
        choice: bool | str | tuple[str, ...] | None,  # noqa: FBT001  # a value
    ) -> tuple[Edge, ...] | None:
        """The edges that a choice leaves open, in declared order; None: it names none there is.

        The id of an edge with an `ask` function leaves that edge alone open; otherwise those
        are closed. True takes the edges labelled `true` or `loop`, else the first that is not
        labelled `false`; false takes those labelled `false`, else all that true does not take.
        A name is a label first, then a target; beside labelled edges, those without a label
        stand for every other name. No choice leaves all open.
        """
        edges = self.edges_from(node)
        if isinstance(choice, tuple):
            return _planned(edges, choice)
        if asked := tuple(edge for edge in edges if edge.ask and edge.id == choice):
            return asked
        edges = tuple(edge for edge in edges if edge.ask is None)
        if choice is None or not edges:
            return edges
        if isinstance(choice, bool):
            no = tuple(edge for edge in edges if edge.label == "false")
            rest = tuple(edge for edge in edges if edge.label != "false")
            yes = tuple(edge for edge in rest if edge.label in {"true", LOOP}) or rest[:1]
            return yes if choice else no or tuple(edge for edge in rest if edge not in yes)
        others = tuple(edge for edge in edges if edge.label is None)
        return (
            tuple(edge for edge in edges if edge.label == choice)
            or tuple(edge for edge in edges if edge.target == choice)
            or (others if len(others) < len(edges) else ())
            or None
        )

    def ways(self, join: NodeId) -> Ways:
        """How a node can be reached over its join edges."""
        return self._ways[join]

    def joining(self, node: NodeId) -> tuple[Edge, ...]:
        """The join edges into a node."""
        return tuple(
            edge for edge in self.edges if edge.target == node and edge.arrive is Arrive.JOIN
        )

    @property
    def joins(self) -> Mapping[NodeId, NodeId | None]:
        """The nodes with join edges, each with the node whose fork it joins; None: the run's."""
        found = ((node, self._ways[node].fork) for node in self.nodes if node in self._ways)
        return {node: None if fork is None else NodeId(fork) for node, fork in found}

    @cached_property
    def forks(self) -> frozenset[NodeId]:
        """The nodes whose threads some join brings together."""
        return frozenset(NodeId(to.fork) for to in self._ways.values() if to.fork)

    @cached_property
    def _within(self) -> dict[NodeId, Node]:
        """Nodes that stand within others: what a map does with an item, what undoes a node."""
        found = [node.wait.do for node in self.nodes.values() if isinstance(node.wait, Map)]
        found += [node.compensate for node in self.nodes.values() if node.compensate]
        return {node.id: node for node in found}

    @cached_property
    def _ways(self) -> dict[NodeId, Ways]:
        splitting = [
            node.id
            for node in self.nodes.values()
            if node.route is Route.ALL or node.role is Role.PLAN
        ]
        edges = [(edge.source, edge.target) for edge in self.edges]
        found = {}
        for join in {edge.target for edge in self.edges if edge.arrive is Arrive.JOIN}:
            sources = [edge.source for edge in self.joining(join)]
            of = self.nodes[join].join.of
            to_it = ways.ways(join, sources, edges, splitting)
            found[join] = to_it if of is None else replace(to_it, forks=frozenset({of}), fork=of)
        return found

    @cached_property
    def _outgoing(self) -> dict[NodeId, dict[str | None, tuple[Edge, ...]]]:
        leaving: dict[NodeId, dict[str | None, list[Edge]]] = {node: {} for node in self.nodes}
        for edge in self.edges:
            leaving[edge.source].setdefault(edge.on, []).append(edge)
        return {
            node: {on: tuple(edges) for on, edges in ways_out.items()}
            for node, ways_out in leaving.items()
        }

    @cached_property
    def _by_id(self) -> dict[EdgeId, Edge]:
        return {edge.id: edge for edge in self.edges}

    @cached_property
    def _regions(self) -> dict[NodeId, frozenset[NodeId]]:
        if self.listing is not None:
            # What turns there is known to the steps alone; the step budget bounds it.
            return {}
        # The start first and the others by name: objects in JSON have no order.
        nodes = sorted(self.nodes, key=lambda node: (node != self.start, node))
        return loops.regions(
            nodes, [(edge.source, edge.target, edge.label == LOOP) for edge in self.edges]
        )


def _planned(edges: tuple[Edge, ...], names: tuple[str, ...]) -> tuple[Edge, ...] | None:
    """The edges to the nodes that a plan names; None when one of them leads nowhere it may go."""
    found = []
    for name in names:
        edge = next((edge for edge in edges if name in (edge.target, edge.label)), None)
        if edge is None:
            return None
        found.append(edge)
    return tuple(found)
