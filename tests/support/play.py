"""Small graphs and a coordinator without a database: what tests of the core stand on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from engine.core import expressions
from engine.core import messages as msg
from engine.core.decide import Turn, advance
from engine.core.fold import evolve
from engine.core.graph import Arrive, Edge, EdgeId, Graph, Limits, Node, NodeId, Retry, Role
from engine.core.policy import DEFAULT, Policy
from engine.core.replay import Recorded
from engine.core.state import State
from engine.core.transitions import StepStatus
from engine.core.values import Inline, Json

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONTROL = frozenset({"start", "end", "pass"})


def node(name: str, **options: object) -> Node:
    """A function node, or a control node when it is named like one."""
    kind = name if name in CONTROL else str(options.pop("kind", "function"))
    role = Role.CONTROL if kind in CONTROL else Role.TASK
    return replace(Node(id=NodeId(name), kind=kind, role=role), **options)  # type: ignore[arg-type]


def edge(
    text: str,
    *,
    when: str | None = None,
    label: str | None = None,
    final: bool = False,
    join: bool = False,
    on: str | None = None,
    reasons: Iterable[str] = (),
) -> Edge:
    """`a -> b`, with a condition, a label, an arrival."""
    source, target = (NodeId(part.strip()) for part in text.split("->"))
    arrive = Arrive.FINAL if final else Arrive.JOIN if join else Arrive.START
    return Edge(
        id=EdgeId(f"{source}->{target}" + (f":{label}" if label else "")),
        source=source,
        target=target,
        when=expressions.compile(when) if when else None,
        label=label,
        arrive=arrive,
        on=on,
        reasons=frozenset(reasons),
    )


def fork(source: str, *targets: str) -> list[Edge]:
    """Edges that are all taken, if the source's node says so."""
    return [edge(f"{source} -> {target}") for target in targets]


def meet(target: str, *sources: str) -> list[Edge]:
    """Edges whose tokens wait at the target."""
    return [edge(f"{source} -> {target}", join=True) for source in sources]


def graph(
    *edges: Edge,
    nodes: Iterable[Node] = (),
    steps: int = 10_000,
    reducers: Mapping[str, str] | None = None,
) -> Graph:
    """A graph of the nodes that its edges name; it starts at the first edge's source."""
    given = {item.id: item for item in nodes}
    names = dict.fromkeys([name for e in edges for name in (e.source, e.target)])
    names |= dict.fromkeys(given)
    return Graph(
        workflow="test",
        version=None,
        start=next(iter(names)),
        nodes={name: given.get(name) or node(name) for name in names},
        edges=edges,
        limits=Limits(steps=steps),
        reducers=reducers or {},
    )


LINE = graph(edge("start -> a"), edge("a -> b"), edge("b -> end"))
#: `work` goes round while `$n < 3`.
LOOP = graph(
    edge("start -> work"),
    edge("work -> work", label="loop", when="$n < 3"),
    edge("work -> end"),
)
#: An inner loop within an outer one, both by choice, each bounded.
NESTED = graph(
    edge("start -> outer"),
    edge("outer -> inner"),
    edge("inner -> inner", label="loop"),
    edge("inner -> check", label="false"),
    edge("check -> outer", label="loop"),
    edge("check -> end", label="false"),
    nodes=[node("inner", max_iterations=2), node("check", max_iterations=3)],
)
RETRYING = graph(
    edge("start -> a"),
    edge("a -> end"),
    nodes=[node("a", retry=Retry(attempts=3, backoff=10, jitter=0.0))],
)
FINAL = graph(
    edge("start -> judge"),
    edge("judge -> start", when="$result.again"),
    edge("judge -> end", final=True),
)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def submitted(*, reducers: Mapping[str, str] | None = None, **inputs: Json) -> msg.RunSubmitted:
    return msg.RunSubmitted(at=NOW, by="ada", inputs=inputs, reducers=reducers or {})


def succeeded(
    key: str,
    *,
    attempt: int = 1,
    result: Json = None,
    patch: Mapping[str, Json] | None = None,
    choice: bool | str | None = None,
    seconds: float = 0,
) -> msg.AttemptSucceeded:
    return msg.AttemptSucceeded(
        at=at(seconds),
        step=msg.StepKey(key),
        attempt=attempt,
        fence=1,
        result=Inline(value=result),
        patch=patch or {},
        choice=choice,
    )


def failed(
    key: str, *, attempt: int = 1, reason: str = "error", terminal: bool = False, seconds: float = 0
) -> msg.AttemptFailed:
    return msg.AttemptFailed(
        at=at(seconds),
        step=msg.StepKey(key),
        attempt=attempt,
        fence=1,
        reason=reason,
        message="boom",
        terminal=terminal,
    )


def lost(key: str, *, attempt: int = 1) -> msg.AttemptLost:
    return msg.AttemptLost(at=NOW, step=msg.StepKey(key), attempt=attempt, fence=1, worker="w1")


def woke(key: str, *, seconds: float = 0) -> msg.Woke:
    return msg.Woke(at=at(seconds), step=msg.StepKey(key))


def ticked(*, seconds: float = 0) -> msg.Ticked:
    return msg.Ticked(at=at(seconds))


def turn(template: Graph, state: State, *events: msg.AnyEvent, policy: Policy = DEFAULT) -> Turn:
    """One turn in which the admission lets everything start."""
    taken = advance(template, policy, state, events)
    entries = taken.entries
    while asked := [s for s in taken.state.steps.values() if s.status is StepStatus.REQUESTED]:
        now = entries[-1].at
        taken = advance(
            template, policy, taken.state, [msg.Admitted(at=now, step=s.key) for s in asked]
        )
        entries += taken.entries
    return Turn(state=taken.state, entries=entries)


def play(template: Graph, *events: msg.AnyEvent, policy: Policy = DEFAULT) -> Turn:
    """A run from its submission, one turn for each event."""
    state = State(run="r1")
    entries: tuple[msg.Entry, ...] = ()
    first: tuple[msg.AnyEvent, ...] = () if _submits(events) else (submitted(),)
    for event in (*first, *events):
        taken = turn(template, state, event, policy=policy)
        state, entries = taken.state, entries + taken.entries
    return Turn(state=state, entries=entries)


def fold(entries: Iterable[msg.Entry]) -> State:
    """The state that a history tells."""
    state = State(run="r1")
    for entry in entries:
        state = evolve(state, entry.record)
    return state


def lines(entries: Iterable[msg.Entry]) -> list[Recorded]:
    """A history as it is read again."""
    return [
        Recorded(seq=seq, at=entry.at, record=entry.record)
        for seq, entry in enumerate(entries, start=1)
    ]


def commands(taken: Turn) -> list[msg.AnyCommand]:
    return [e.record for e in taken.entries if isinstance(e.record, msg.Command)]  # type: ignore[misc]


def visited(taken: Turn) -> list[str]:
    """The keys of the visits, in order."""
    return [
        c.step
        for c in commands(taken)
        if isinstance(c, msg.PassNode) or (isinstance(c, msg.RequestStart) and c.attempt == 1)
    ]


def _submits(events: tuple[msg.AnyEvent, ...]) -> bool:
    return bool(events) and isinstance(events[0], msg.RunSubmitted)
