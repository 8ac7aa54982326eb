"""Running a graph in this process: the platform's decisions without the platform.

A run lives as long as the call that runs it. Functions are called here, without walls, one
after the other; a timeout is noticed when a function that is not asynchronous returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict
from uuid import uuid4

from celeriac.sdk.graph import WorkflowGraph
from celeriac.sdk.tools import get_global_registry
from celeriac.testing.clock import Clock
from celeriac.testing.drive import drive
from celeriac.testing.record import Record
from celeriac.testing.workflow import missing
from engine.core.graph import Graph
from engine.core.transitions import RunStatus
from engine.errors import Invalid, NotFound
from web.seed000 import shape


class LogStep(TypedDict):
    """One line of an execution log."""

    seq: int
    timestamp: str
    #: `workflow` where the line is about the run as a whole.
    node: str
    iteration: int
    #: `started, executing, completed, transition, end_reached, max_iterations, timeout, error`
    status: str
    message: str | None
    data: dict[str, Any] | None


class ExecutionLog(TypedDict):
    """What a run did, line by line."""

    run_id: str
    graph_id: str
    started_at: str
    completed_at: str | None
    steps: list[LogStep]


class Snapshot(TypedDict):
    """The state before and after one node."""

    node: str
    iteration: int
    timestamp: str
    input: dict[str, Any]
    output: dict[str, Any]


class FinalState(TypedDict):
    """Where a run ended."""

    run_id: str
    graph_id: str
    final_node: str | None
    iterations: int
    #: The shared state.
    data: dict[str, Any]
    started_at: str
    completed_at: str | None
    error: str | None
    execution_log: list[Snapshot]


class RunResult(TypedDict):
    """What a run came to, as `POST /graph/run` answers."""

    run_id: str
    graph_id: str
    #: `completed` or `error`
    status: str
    final_state: FinalState
    execution_log: ExecutionLog


class WorkflowEngine:
    """Runs graphs in this process. Their functions find tools in the global registry."""

    def __init__(self) -> None:
        self._graphs: dict[str, tuple[Graph, Mapping[str, Callable[..., object]]]] = {}

    def register_graph(self, graph: WorkflowGraph) -> str:
        """Make a graph known as it is now, and return its id.

        Raises `Invalid` with everything that is wrong with it, functions included that it
        names and nobody has registered.
        """
        lowered, functions = graph.lowered(), graph.functions
        if problems := missing(lowered, functions, get_global_registry()):
            raise Invalid(problems, f"the graph {graph.name!r} is not valid")
        self._graphs[graph.graph_id] = (lowered, functions)
        return graph.graph_id

    async def run(self, graph_id: str, initial_state: Mapping[str, Any] | None = None) -> RunResult:
        """Run a registered graph to its end.

        A node that fails ends the run with status `error`; it does not raise. Raises
        `NotFound`, and `Invalid` for a state that is not JSON.
        """
        known = self._graphs.get(graph_id)
        if known is None:
            raise NotFound(f"Graph not found: {graph_id}")
        graph, functions = known
        record = await drive(
            graph,
            dict(initial_state or {}),
            run=str(uuid4()),
            functions=functions,
            tools=get_global_registry(),
            clock=Clock.of_the_day(),
        )
        return _result(graph_id, record)


def _result(graph_id: str, record: Record) -> RunResult:
    run_id = record.state.run
    told = shape.tell(
        shape.Entry(seq=seq, at=entry.at, record=entry.record)
        for seq, entry in enumerate(record.history, start=1)
    )
    began, ended = record.history[0].at.isoformat(), record.history[-1].at.isoformat()
    failed = record.status is RunStatus.FAILED
    log: Any = told.steps
    snapshots: Any = told.snapshots
    return RunResult(
        run_id=run_id,
        graph_id=graph_id,
        status=shape.status(record.status),
        final_state=FinalState(
            run_id=run_id,
            graph_id=graph_id,
            final_node=told.final_node,
            iterations=told.transitions,
            data=dict(record.variables),
            started_at=began,
            completed_at=ended,
            error=(record.message or record.reason) if failed else None,
            execution_log=list(snapshots),
        ),
        execution_log=ExecutionLog(
            run_id=run_id,
            graph_id=graph_id,
            started_at=began,
            completed_at=ended,
            steps=list(log),
        ),
    )
