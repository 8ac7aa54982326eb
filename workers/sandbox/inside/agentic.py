"""`agentic_common` for code of bundles: seed 001's messages, and how its functions are called.

A bundle's code is `def plan(plan_input)` or `def task(task_input)`. What it gets is put together
from `context.previous`; what it returns may be one of the messages here, a dict with their
fields, or, of a task, any JSON value. Beside the seed's fields every input has `variables`, the
state of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar, TypeAlias, TypeVar

from .records import Record

#: Fields of a message by name, and what makes their defaults.
Fields: TypeAlias = Mapping[str, Callable[[], Any]]

PENDING, RUNNING, SUCCEEDED, FAILED = "PENDING", "RUNNING", "SUCCEEDED", "FAILED"

#: Fields by which a dict is known for the result of a task.
_OF_TASK_RESULTS = frozenset({"id", "inline_data", "external_data", "error_message"})
_DATA = frozenset({"inline_data", "external_data"})


class Declined(Exception):
    """A plan or a task says in its result that it could not do its part."""


class Detached:
    """A result that leaves the variables of the run alone."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Message(Record):
    """A record with fields of its own, each with a default; another field is an error."""

    __slots__ = ()
    FIELDS: ClassVar[Fields] = {}

    def __init__(self, **given: Any) -> None:
        for name in given:
            self._check(name)
        super().__init__({name: given.get(name, new()) for name, new in self.FIELDS.items()})

    def __getattr__(self, name: str) -> Any:
        self._check(name)
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self._check(name)
        self[name] = value

    def _check(self, name: str) -> None:
        if name not in self.FIELDS:
            kind = type(self).__name__
            raise AttributeError(f"{kind} has no {name}; it has {', '.join(self.FIELDS)}")


M = TypeVar("M", bound=Message)


def _nothing() -> None:
    return None


class StoredData(Message):
    """Where a large result lies."""

    FIELDS: ClassVar[Fields] = {"uri": str, "metadata": dict}


class TaskResult(Message):
    """What a task left, or where it lies."""

    FIELDS: ClassVar[Fields] = {
        "id": str,
        "inline_data": _nothing,
        "external_data": _nothing,
        "error_message": str,
    }


class PlanResult(Message):
    """What a plan chose."""

    FIELDS: ClassVar[Fields] = {
        "upstream_tasks_results": list,
        "next_task_names": list,
        "error_message": str,
    }


class ExecutionHeader(Message):
    """Who, when and how."""

    FIELDS: ClassVar[Fields] = {
        **dict.fromkeys(("name", "exec_id", "graph_id", "lifetime_id", "tenant_id"), str),
        **dict.fromkeys(("attempt", "iteration_idx"), int),
        **dict.fromkeys(("created_at", "started_at", "ended_at"), str),
        **dict.fromkeys(("status", "edge_taken"), str),
    }


class TaskExecution(Message):
    """One attempt of a task."""

    FIELDS: ClassVar[Fields] = {
        "header": ExecutionHeader,
        "parent_plan_exec_id": str,
        "result": TaskResult,
        "parent_plan_name": str,
        "policy_telemetry": Record,
    }


class PlanExecution(Message):
    """One attempt of a plan."""

    FIELDS: ClassVar[Fields] = {
        "header": ExecutionHeader,
        "parent_task_exec_ids": list,
        "result": PlanResult,
        "parent_task_names": list,
        "policy_telemetry": Record,
        "implicit": bool,
    }


class PlanInput(Message):
    """What a plan is called with."""

    FIELDS: ClassVar[Fields] = {
        **dict.fromkeys(("input_id", "plan_name"), str),
        "task_executions": list,
        **dict.fromkeys(("graph_id", "lifetime_id"), str),
        "variables": dict,
    }


class TaskInput(Message):
    """What a task is called with."""

    FIELDS: ClassVar[Fields] = {
        **dict.fromkeys(("input_id", "task_name"), str),
        "plan_execution": PlanExecution,
        **dict.fromkeys(("graph_id", "lifetime_id"), str),
        "variables": dict,
    }


def run_plan(function: Callable[[PlanInput], Any], state: Any, context: Any) -> Detached:
    """Call a bundle's plan: its answer names the tasks that come next."""
    given = PlanInput(
        input_id=context.idempotency_key,
        plan_name=context.node,
        task_executions=[task for each in context.previous for task in _tasks(each)],
        graph_id=context.version_id,
        lifetime_id=context.run_id,
        variables=state,
    )
    answer = function(given)
    if not isinstance(answer, Mapping):
        answer = PlanResult(next_task_names=answer)
    _check_error(answer)
    names = answer.get("next_task_names")
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"plan {context.node} answered with no list of names; return "
            "PlanResult(next_task_names=[...])"
        )
    passed = ("upstream_tasks_results", "error_message")
    rest = {name: value for name, value in answer.items() if name not in passed}
    return Detached({**rest, "next_task_names": list(names)})


def run_task(function: Callable[[TaskInput], Any], state: Any, context: Any) -> Detached:
    """Call a bundle's task: its answer is the result."""
    plans = [each for each in context.previous if "parent_task_exec_ids" in each]
    given = TaskInput(
        input_id=context.idempotency_key,
        task_name=context.node,
        plan_execution=_plan(plans[0]) if plans else PlanExecution(),
        graph_id=context.version_id,
        lifetime_id=context.run_id,
        variables=state,
    )
    answer = function(given)
    if not isinstance(answer, Mapping):
        return Detached(answer)
    _check_error(answer)
    if isinstance(answer, TaskResult) or (
        _DATA & answer.keys() and answer.keys() <= _OF_TASK_RESULTS
    ):
        inline, external = answer.get("inline_data"), answer.get("external_data")
        return Detached(inline if external is None else external)
    return Detached(dict(answer))


def _check_error(answer: Mapping[str, Any]) -> None:
    if message := answer.get("error_message"):
        raise Declined(str(message))


def _tasks(execution: Record) -> list[TaskExecution]:
    """The tasks that an execution stands for: itself, or those whose results a plan passed on."""
    if "parent_plan_exec_id" in execution:
        return [_message(TaskExecution, execution, result=_result(execution.result))]
    header = execution.header
    return [
        TaskExecution(
            header=ExecutionHeader(
                name=_named(result.id),
                exec_id=result.id,
                graph_id=header.graph_id,
                lifetime_id=header.lifetime_id,
                tenant_id=header.tenant_id,
                status=FAILED if result.error_message else SUCCEEDED,
            ),
            result=_result(result),
        )
        for result in execution.result.upstream_tasks_results
    ]


def _plan(execution: Record) -> PlanExecution:
    result = execution.result
    told = PlanResult(
        upstream_tasks_results=[_result(each) for each in result.upstream_tasks_results],
        next_task_names=list(result.next_task_names),
        error_message=result.error_message,
    )
    return _message(PlanExecution, execution, result=told)


def _message(kind: type[M], execution: Record, *, result: Message) -> M:
    given = {name: execution[name] for name in kind.FIELDS if name in execution}
    header = ExecutionHeader(**execution.header)
    return kind(**{**given, "header": header, "result": result})


def _result(result: Record) -> TaskResult:
    elsewhere = None
    if result.uri is not None:
        elsewhere = StoredData(uri=result.uri, metadata={"size_bytes": result.size_bytes})
    return TaskResult(
        id=result.id,
        inline_data=result.inline,
        external_data=elsewhere,
        error_message=result.error_message or "",
    )


def _named(exec_id: str) -> str:
    """The node of an execution's id, `run:node:iteration:attempt`."""
    return exec_id.partition(":")[2].rsplit(":", 2)[0]


pb = SimpleNamespace(
    ExecutionHeader=ExecutionHeader,
    PlanExecution=PlanExecution,
    PlanInput=PlanInput,
    PlanResult=PlanResult,
    StoredData=StoredData,
    TaskExecution=TaskExecution,
    TaskInput=TaskInput,
    TaskResult=TaskResult,
    EXECUTION_STATUS_PENDING=PENDING,
    EXECUTION_STATUS_RUNNING=RUNNING,
    EXECUTION_STATUS_SUCCEEDED=SUCCEEDED,
    EXECUTION_STATUS_FAILED=FAILED,
)
package = SimpleNamespace(pb=pb, run_plan=run_plan, run_task=run_task)
