"""A function leaves in memory what it leaves in a worker's sandbox."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celeriac.testing import calling, run
from engine.core import messages as msg
from engine.core import tape
from workers.sandbox.inside import failures, perform
from workers.sandbox.inside.calls import Calls

#: Bodies of `def f(state…)`.
FUNCTIONS = {
    "state is returned": "def f(state):\n state.set('n', 2)\n return state",
    "nothing is returned": "def f(state):\n state['list'].append(1)",
    "a mapping is returned": "def f(state):\n state['a'] = 1\n return {'n': 5}",
    "the whole state is returned as a dict": "def f(state):\n return {**state, 'n': 5}",
    "a value is returned": "def f(state):\n return [1, 'two', None]",
    "a key is deleted": "def f(state):\n del state['n']\n state['m'] = 1",
    "a key is popped and set again": "def f(state):\n state['n'] = state.pop('n') + 1",
    "without parameters": "def f():\n return {'n': 9}",
    "with the context": "def f(state, context):\n return [context.node, context.attempt]",
    "with the context by name": "def f(state, *, context):\n return context.step",
    "with a default": "def f(state, more=3):\n return more",
    "with star arguments": "def f(*args):\n return len(args)",
    "tuples become lists": "def f(state):\n state['t'] = (1, (2,))",
    "a set is refused": "def f(state):\n state['s'] = {1}",
    "deep in a list": "def f(state):\n return {'a': [1, {'b': float('inf')}]}",
    "it raises": "def f(state):\n raise KeyError('x')",
    "it exits": "def f(state):\n raise SystemExit(3)",
    "too much": "def f(state):\n return 'x' * 2_000_000",
}
CONDITIONS = {
    "true": "def judge(state):\n return state['n'] == 1",
    "a name": "def judge(state):\n return 'end'",
    "what it sets is lost": "def judge(state):\n state['n'] = 7\n return False",
    "too long a name": "def judge(state):\n return 'x' * 2000",
    "the state": "def judge(state):\n return state",
    "nothing": "def judge(state):\n pass",
}
#: Bodies of an agent of a step list, with its params and the names of its output.
PROCS = {
    "an object": "def f(a, b):\n return {'a': b, 'c': a}",
    "a value": "def f(a, b):\n return a",
    "nothing": "def f(**more):\n pass",
    "with its output": "def f(a, b, output):\n return {output[1]: a}",
    "with anything": "def f(**params):\n return sorted(params)",
    "with the context": "def f(a, b, context):\n return [context.node, context.step]",
    "with a status": "def f(a, b):\n return a, {'status': {'value': 0, 'reason': 'fine'}}",
    "with a failure": "def f(a, b):\n return None, {'status': {'value': 1}}",
    "with more to its status": "def f(a, b):\n return {}, {'status': {'value': 2, 'at': [1]}}",
    "a list that looks like one": "def f(a, b):\n return [a, {'status': {'value': 1}}]",
    "another tuple": "def f(a, b):\n return a, b, {'status': {'value': 1}}",
    "a tuple of two": "def f(a, b):\n return a, {'state': 3}",
    "a status that is none": "def f(a, b):\n return a, {'status': 'failed'}",
    "a status without a value": "def f(a, b):\n return a, {'status': {'reason': 'x'}}",
    "a reason that is no text": "def f(a, b):\n return a, {'status': {'value': 1, 'reason': 3}}",
    "more than a status": "def f(a, b):\n return a, {'status': {'value': 1}, 'b': 2}",
    "a status that cannot be kept": "def f(a, b):\n return a, {'status': {'value': 1, 'x': {1}}}",
    "a param that is missing": "def f(a, b, c):\n return 1",
    "a param that is not taken": "def f(a):\n return 1",
    "it raises": "def f(a, b):\n raise KeyError('x')",
    "what it is given is its own": "def f(a, b):\n b.append(1)\n return {'x': b}",
}
PARAMS: dict[str, Any] = {"a": 1, "b": []}
OUTPUT = ["one", "two"]
STATE: dict[str, Any] = {"n": 1, "list": []}
#: What a call may return here: less than elsewhere, for the sake of the machine.
MOST = 1_048_576


@pytest.fixture(autouse=True)
def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "MOST_BYTES", MOST)


@pytest.mark.parametrize("source", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_leaves_the_same(source: str) -> None:
    assert memory(source) == sandbox(source)


@pytest.mark.parametrize("judge", CONDITIONS.values(), ids=CONDITIONS)
def test_a_condition_answers_the_same(judge: str) -> None:
    source = FUNCTIONS["nothing is returned"]
    assert memory(source, judge) == sandbox(source, judge)


@pytest.mark.parametrize("source", PROCS.values(), ids=PROCS)
def test_an_agent_of_a_list_leaves_the_same(source: str) -> None:
    found: dict[str, Any] = {}
    exec(source, found)
    step = {"agent": "f", "params": PARAMS, "output": OUTPUT}
    document = {"workflow": "w", "steps": [step], "return_on_fail": False}
    (tried,) = run(document, functions={"f": found["f"]}).visits("0 f")[0].attempts
    arguments = {"params": json.loads(json.dumps(PARAMS)), "output": OUTPUT}
    told = sandboxed(source, arguments, {"node": "0 f", "step": "0 f#1", "attempt": 1})
    if isinstance(told, dict):
        assert {"reason": tried.reason, "message": _without_place(tried.message)} == told
        return
    value, status = told
    assert tried.result == value
    assert tried.patch == tape.left(OUTPUT, value, status)


def sandboxed(
    source: str, arguments: dict[str, Any], context: dict[str, Any]
) -> list[Any] | dict[str, Any]:
    """What a child reports beside the head, or why it failed."""
    job = {
        "name": "f",
        "source": source,
        "library": None,
        "arguments": arguments,
        "choose": None,
        "context": context,
        "limits": {"result_bytes": 1_048_576},
    }
    stage = perform.Stage()
    try:
        _, *parts = perform.perform(job, Calls(-1, limit=1_048_576), stage)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # as a child does
        reason, message = failures.told(error, stage)
        return {"reason": reason, "message": _without_place(message)}
    return [json.loads(part) for part in parts]


def memory(source: str, judge: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"WorkflowState": dict}
    exec(source, found)
    exec(judge or "", found)
    node = {"uses": "f", **({"choose": "judge"} if judge else {})}
    edges = [{"from": "work", "to": "work", "label": "loop"}] if judge else []
    document = {"workflow": "w", "nodes": {"work": node}, "edges": [*edges, "work -> end"]}
    functions = {name: found[name] for name in ("f", "judge") if name in found}
    record = run(document, STATE, functions=functions)
    step = record.visits("work")[0]
    (tried,) = step.attempts
    if tried.outcome == "failed":
        return {"reason": tried.reason, "message": _without_place(tried.message)}
    return {
        "value": tried.result,
        "patch": tried.patch,
        "removed": list(record.records(msg.AttemptSucceeded)[0].removed),
        "choice": step.choice,
    }


def sandbox(source: str, judge: str | None = None) -> dict[str, Any]:
    job = {
        "name": "f",
        "source": source,
        "library": None,
        "arguments": {"state": json.loads(json.dumps(STATE))},
        "choose": {"name": "judge", "source": judge, "library": None} if judge else None,
        "context": {"node": "work", "step": "work#1", "attempt": 1},
        "limits": {"result_bytes": MOST},
    }
    stage = perform.Stage()
    try:
        parts = perform.perform(job, Calls(-1, limit=MOST), stage)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # as a child does
        reason, message = failures.told(error, stage)
        return {"reason": reason, "message": _without_place(message)}
    told, result, patch, removed, *choice = map(json.loads, parts)
    return {
        "value": patch if told["returned_state"] else result,
        "patch": patch,
        "removed": removed,
        "choice": choice[0] if choice else None,
    }


def _without_place(message: str | None) -> str:
    return str(message).partition(" (")[0]
