"""LangGraph with its Postgres saver: graphs run in the process that submits them.

A checkpoint is committed after each step; there is no broker and no other process.
"""

from __future__ import annotations

import itertools
import operator
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from benchmarks import peers, steps
from benchmarks.workloads import Fan, Run

#: Steps carried out; an append is one operation, whichever thread it comes from.
_EXECUTED: list[None] = []

Sent = tuple[float, "Future[Any]"]


class Chained(TypedDict):
    """What a chain hands on."""

    state: dict[str, Any]


class Looped(Chained):
    """What a loop hands on."""

    laps: int


class Fanned(TypedDict):
    """What a fan-out hands on."""

    found: Annotated[list[int], operator.add]
    branches: int
    total: int


class LangGraph:
    """Graphs, and threads that run them."""

    #: The nodes before and after the branches.
    joins = 2

    def __init__(self, saver: PostgresSaver, *, threads: int, durability: str) -> None:
        self._saver = saver
        self._threads = ThreadPoolExecutor(threads)
        self._durability = durability
        self._graphs: dict[tuple[object, ...], Any] = {}

    def submit(self, count: int, body: str = "noop") -> Sent:
        graph = self._graph(_chain, count, body)
        since = time.time()
        return since, self._threads.submit(self._invoke, graph, {"state": steps.START})

    def ended(self, submitted: Sent) -> Run:
        since, result = submitted
        state = result.result()["state"]
        return Run(
            submitted=since,
            first=state["first"],
            last=state["last"],
            seen=time.time(),
            steps=state["n"],
        )

    def fan_out(self, branches: int) -> Fan:
        graph = self._graph(_fan)
        since = time.time()
        found = self._invoke(graph, {"found": [], "branches": branches, "total": 0})
        return Fan(submitted=since, seen=time.time(), total=found["total"])

    def loop(self, laps: int) -> Run:
        graph = self._graph(_loop)
        started = {"state": steps.START, "laps": laps}
        since = time.time()
        return self.ended((since, self._threads.submit(self._invoke, graph, started)))

    def executed(self) -> int:
        """Nodes that have run so far."""
        return len(_EXECUTED)

    def pids(self) -> Mapping[str, Sequence[int]]:
        return {"process": [os.getpid()]}

    def _graph(self, make: Any, *arguments: object) -> Any:
        key = (make, *arguments)
        if key not in self._graphs:
            self._graphs[key] = make(*arguments).compile(checkpointer=self._saver)
        return self._graphs[key]

    def _invoke(self, graph: Any, state: Any) -> Any:
        return graph.invoke(
            state,
            {"configurable": {"thread_id": str(uuid.uuid4())}, "recursion_limit": 1000},
            durability=self._durability,
        )


def _stepping(body: str) -> Any:
    def node(given: Any) -> Any:
        _EXECUTED.append(None)
        return {"state": steps.BODIES[body](given["state"])}

    return node


def _chain(count: int, body: str) -> Any:
    graph = StateGraph(Chained)
    names = [f"step{number}" for number in range(count)]
    for name in names:
        graph.add_node(name, _stepping(body))
    for source, target in itertools.pairwise([START, *names, END]):
        graph.add_edge(source, target)
    return graph


def _loop() -> Any:
    graph = StateGraph(Looped)
    graph.add_node("lap", _stepping("noop"))
    graph.add_edge(START, "lap")
    graph.add_conditional_edges(
        "lap", lambda given: "lap" if given["state"]["n"] < given["laps"] else END, ["lap", END]
    )
    return graph


def _fan() -> Any:
    def fork(_: Any) -> Any:
        _EXECUTED.append(None)
        return {}

    def branch(given: Any) -> Any:
        _EXECUTED.append(None)
        return {"found": [given["item"] + 1]}

    def join(given: Any) -> Any:
        _EXECUTED.append(None)
        return {"total": sum(given["found"])}

    graph = StateGraph(Fanned)
    for node in (fork, branch, join):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "fork")
    graph.add_conditional_edges(
        "fork",
        lambda given: [Send("branch", {"item": item}) for item in range(given["branches"])],
        ["branch"],
    )
    graph.add_edge("branch", "join")
    graph.add_edge("join", END)
    return graph


def main() -> None:
    """Make the tables, and measure."""
    task = peers.asked()
    settings = task.settings
    pool = ConnectionPool(
        task.url(),
        min_size=4,
        max_size=settings["pool"],
        kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
        open=True,
    )
    saver = PostgresSaver(pool)
    saver.setup()
    system = LangGraph(saver, threads=settings["threads"], durability=settings["durability"])
    peers.answer(task, system)
    # Threads of the pool would wait for work.
    os._exit(0)


if __name__ == "__main__":
    main()
