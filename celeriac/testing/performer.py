"""Carrying attempts out in this process, as the kinds of node do it in a worker's sandbox.

Functions get the state they would get there and leave what they would leave, values cross
by copy, and conditions are asked in the same order. What is missing are the walls: a function
can read, import and break whatever this process can.
"""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias, cast

from celeriac.sdk import tools as registry
from celeriac.testing import calling, previous, workflow
from celeriac.testing.calling import Died
from celeriac.testing.calls import Call, Caller
from celeriac.testing.fault import Fault, hitting
from celeriac.testing.runner import Attempt, Report
from engine import waiting
from engine.core import codec, expressions, overlays, references, remembered, tape
from engine.core import messages as msg
from engine.core.graph import Role
from engine.core.references import Sought
from engine.core.values import Inline, Json, plain
from workers.sandbox.inside import procs, templates
from workers.sandbox.inside.calls import Calls, ToolError, Tools
from workers.sandbox.inside.state import Changes, Context, WorkflowState

#: Fills in a text with names, given what is known of the step. Raises `Died`.
Render: TypeAlias = Callable[[str, Mapping[str, Json], Mapping[str, Any]], Json]

#: A choice is the name of a node or a label.
CHOICE_BYTES = 1024


class Performer:
    """Calls given functions and tools, and makes given attempts fail."""

    def __init__(
        self,
        *,
        functions: Mapping[str, Callable[..., object]],
        tools: Mapping[str, Callable[..., object]],
        nodes: Mapping[str, Callable[..., object]] | None = None,
        faults: Sequence[Fault] = (),
        secrets: Mapping[str, str] | None = None,
        render: Render | None = None,
    ) -> None:
        self._render = render or rendered
        self._nodes = nodes or {}
        self._functions = functions
        self._tools = tools
        self._faults = faults
        self._secrets = {} if secrets is None else secrets
        #: Every tool call that was carried out, in order, by its run.
        self.calls: defaultdict[str, list[Call]] = defaultdict(list)

    async def perform(self, attempt: Attempt) -> Report:
        """Carry an attempt out, and say how it ended."""
        attempt = replace(attempt, secrets=self._secrets)
        fault = hitting(self._faults, attempt)
        if fault is not None and not fault.after:
            return _struck(attempt, fault)
        report: Report
        used: Counter[str] = Counter()
        try:
            report = _fitting(attempt, await self._carry_out(attempt, used))
        except Died as death:
            report = _failed(attempt, death)
        report = report if fault is None else _struck(attempt, fault)
        return replace(report, usage=dict(used))

    async def _carry_out(self, attempt: Attempt, used: Counter[str]) -> msg.AttemptSucceeded:
        if attempt.gathered is not None:
            return _saved(attempt, _succeeded(attempt, result=[*attempt.gathered]))
        facts = _facts(attempt)
        made = self.calls[attempt.run]

        def use(amounts: dict[str, float], _model: str) -> None:
            used.update(amounts)

        caller = Caller(
            self._tools, made, step=attempt.step, attempt=attempt.attempt, facts=facts, use=use
        )
        context = Context(
            facts,
            invoke=caller.invoke,
            tools=Tools(cast("Calls", caller)),
            previous=partial(
                previous.of, attempt.graph, attempt.run, attempt.history, attempt.step
            ),
            use=use,
        )
        try:
            with registry.calling(caller.invoke):
                if attempt.node.id in self._nodes:
                    report = await self._stood_for(attempt, context)
                    return await self._followed(attempt, context, report, caller)
                if attempt.node.calls or workflow.is_foreign(attempt.node):
                    return _tool(attempt, caller)
                if attempt.node.kind == "template":
                    return _template(attempt, self._render)
                is_proc = attempt.node.kind == "proc"
                carry_out = self._proc if is_proc else self._function
                report = await carry_out(attempt, context)
                return await self._followed(attempt, context, report, caller)
        except Died as death:
            raise (caller.doomed or death) from None

    async def _followed(
        self, attempt: Attempt, context: Context, report: msg.AttemptSucceeded, caller: Caller
    ) -> msg.AttemptSucceeded:
        """The report with what is chosen."""
        if caller.doomed is not None:
            raise caller.doomed
        if attempt.node.id not in attempt.graph.nodes:
            return report
        if attempt.node.role is Role.PLAN:
            return _planned(attempt, report)
        return await self._choose(attempt, context, report)

    async def _stood_for(self, attempt: Attempt, context: Context) -> msg.AttemptSucceeded:
        """Call what stands in the node's place on the state; its answer is what the node comes to."""
        function = self._nodes[attempt.node.id]
        if attempt.node.kind == "function":
            return await self._function(attempt, context, function)
        state = WorkflowState(copy.deepcopy(dict(remembered.visible(attempt.variables))))
        answer = await calling.on_state(function, state, context, seconds=attempt.node.timeout)
        try:
            value, status = procs.answered(answer)
            result = calling.plain(value, what="result")
            said = calling.plain(status, what="status")
        except ValueError as error:
            raise calling.died(error, function) from error
        is_proc = attempt.node.kind == "proc"
        patch = tape.left(attempt.node.output, result, said) if is_proc else {}
        return _saved(attempt, _succeeded(attempt, result=result, patch=patch))

    async def _function(
        self,
        attempt: Attempt,
        context: Context,
        function: Callable[..., object] | None = None,
    ) -> msg.AttemptSucceeded:
        """Call the node's function, if it has one, on the state, or what stands in its place."""
        node = attempt.node
        if function is None:
            if node.uses is None:
                return _succeeded(attempt)
            function = self._named(node.uses)
        given = _given(attempt)
        undone = {} if attempt.undone is None else {"result": attempt.undone}
        seen = {**remembered.visible(attempt.variables), **undone, **given}
        state = WorkflowState(copy.deepcopy(seen))
        changes = Changes(state)
        value = await calling.on_state(function, state, context, seconds=node.timeout)
        try:
            if isinstance(value, Mapping) and value is not state:
                changes.absorb(value)
            result = None if value is state else calling.plain(value, what="result")
            patch = calling.plain(changes.patch(), what="state")
        except ValueError as error:
            raise calling.died(error, function) from error
        return _saved(
            attempt,
            _succeeded(
                attempt,
                result=patch if value is state else result,
                patch=patch,
                removed=tuple(changes.removed()),
            ),
        )

    async def _proc(self, attempt: Attempt, context: Context) -> msg.AttemptSucceeded:
        """Call a step's agent; what it answers, and how it says that it ended, is its patch."""
        node = attempt.node
        assert node.uses is not None
        assert node.inputs is not None
        function = self._named(node.uses)
        try:
            given = tape.given(node.inputs, _scope(attempt))
        except expressions.EvaluationError as error:
            message = f"step {node.id}, params.{error.path}: {error}"
            raise Died("input_failed", message, terminal=True) from error
        answer = await calling.as_proc(
            function, copy.deepcopy(given), node.output, context, seconds=node.timeout
        )
        try:
            value, status = procs.answered(answer)
            result = calling.plain(value, what="result")
            said = calling.plain(status, what="status")
        except ValueError as error:
            raise calling.died(error, function) from error
        patch = tape.left(node.output, result, said)
        return _saved(attempt, _succeeded(attempt, result=result, patch=patch))

    async def _choose(
        self, attempt: Attempt, context: Context, report: msg.AttemptSucceeded
    ) -> msg.AttemptSucceeded:
        """Ask in order, until an answer makes the choice."""
        node = attempt.node
        spent = attempt.visits.get(node.id, 0) >= node.max_iterations
        said: bool | str | None = None
        for question in attempt.graph.questions(node.id, spent=spent):
            function = self._named(question.function)
            state = WorkflowState(copy.deepcopy(_left(attempt, report)))
            answer = await calling.on_state(function, state, context, seconds=node.timeout)
            found = _choice(function, answer)
            if question.take is None:
                said = found
                if said is not False:
                    break
            elif found:
                return replace(report, choice=question.take)
        return replace(report, choice=said)

    def _named(self, uses: str) -> Callable[..., object]:
        """The function of a name, of that version if it is known, else the tool of that name."""
        name = uses.partition("@")[0]
        known = next((each for each in (uses, name) if each in self._functions), None)
        return self._tools[name] if known is None else self._functions[known]


def _planned(attempt: Attempt, report: msg.AttemptSucceeded) -> msg.AttemptSucceeded:
    """A plan's answer is the list of the nodes that come next, alone or as `next_task_names`."""
    answer = plain(report.result)
    names = answer.get("next_task_names") if isinstance(answer, dict) else answer
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        message = (
            f"plan {attempt.node.id} answered with no list of nodes; return a list of names, or "
            '{"next_task_names": [...]}'
        )
        raise Died("no_plan", message, terminal=True)
    return replace(report, choice=tuple(str(name) for name in names))


def _choice(function: Callable[..., object], answer: object) -> bool | str:
    """The answer of a condition, if it is one."""
    if not isinstance(answer, bool | str):
        what = "the state" if isinstance(answer, WorkflowState) else repr(answer)[:100]
        raise Died(
            "error",
            f"{calling.name_of(function)}: a condition returns True, False or the name of a node; "
            f"this one gave {what}",
        )
    try:
        calling.plain(answer, what="the condition's answer", limit=CHOICE_BYTES)
    except ValueError as error:
        raise calling.died(error, function) from error
    return answer


def _tool(attempt: Attempt, caller: Caller) -> msg.AttemptSucceeded:
    """Call the node's tool with its inputs as named arguments; its answer is the result.

    What a package's kind does nobody knows here: a tool of its name stands for it.
    """
    node = attempt.node
    try:
        scope = _scope(attempt)
        name = node.kind if workflow.is_foreign(node) else waiting.tool(node, scope)
        given = waiting.arguments(node, scope)
    except waiting.Unfit as unfit:
        raise Died(unfit.reason, unfit.message, terminal=True) from unfit
    try:
        value = caller.invoke(name.partition("@")[0], **given)
    except ToolError as error:
        message = str(error).removeprefix(f"{error.tool}: ")
        raise Died(error.reason, message) from error
    return _saved(attempt, _succeeded(attempt, result=value))


def _template(attempt: Attempt, render: Render) -> msg.AttemptSucceeded:
    """Fill in the node's text."""
    try:
        given = waiting.arguments(attempt.node, _scope(attempt))
    except waiting.Unfit as unfit:
        raise Died(unfit.reason, unfit.message, terminal=True) from unfit
    text, names = given["template"], given.get("with")
    if not isinstance(text, str):
        message = f"node {attempt.node.id}, template: a text is filled in, and this is none"
        raise Died("input_failed", message, terminal=True)
    if names is None:
        names = dict(remembered.visible(attempt.variables))
    assert isinstance(names, dict)
    result = render(text, copy.deepcopy(names), _facts(attempt))
    return _saved(attempt, _succeeded(attempt, result=result))


def rendered(text: str, names: Mapping[str, Json], facts: Mapping[str, Any]) -> Json:
    """A text with its holes filled in, in this process. Raises `Died`."""
    templates.warm(())
    node = facts["node"]
    try:
        result = templates.render(text, names, f"{facts['run_id']}/{facts['step']}/{node}")
        filled: Json = calling.plain(result, what="result")
    except Exception as error:
        said = templates.complaint(error, node)
        raise Died("error", said or f"{type(error).__name__}: {error}") from error
    return filled


def _given(attempt: Attempt) -> dict[str, Json]:
    """What the node's `with` gives it."""
    if attempt.node.inputs is None:
        return {}
    try:
        given = attempt.node.inputs.evaluate(_scope(attempt))
    except expressions.EvaluationError as error:
        message = f"node {attempt.node.id}, with: {error}"
        raise Died("input_failed", message, terminal=True) from error
    assert isinstance(given, dict)
    return given


def _saved(attempt: Attempt, report: msg.AttemptSucceeded) -> msg.AttemptSucceeded:
    """The report with what the node's `save` makes of its result, if the variables can take it."""
    graph, node, result = attempt.graph, attempt.node, plain(report.result)
    try:
        if node.save:
            patch = waiting.patch(graph, node, _scope(attempt, result))
            report = replace(report, patch=patch, removed=())
        waiting.check(graph, node, report.patch, report.removed)
    except waiting.Unfit as unfit:
        raise Died(unfit.reason, unfit.message, terminal=True) from unfit
    return report


def _fitting(attempt: Attempt, report: msg.AttemptSucceeded) -> msg.AttemptSucceeded:
    """The report, if the platform's variables could take it.

    In memory nothing lies elsewhere; what could, there, is let pass.
    """
    before, result = attempt.variables, plain(report.result)
    try:
        waiting.fitting(
            attempt.graph, attempt.node, before, report.patch, report.removed, result=result
        )
    except waiting.Unfit as unfit:
        raise Died(unfit.reason, unfit.message, terminal=True) from unfit
    return report


def _scope(attempt: Attempt, result: Json = None) -> Mapping[str, Json]:
    known = attempt.undone if result is None else result
    return {
        **remembered.names(attempt.variables, references.unread),
        "result": known,
        "run": {"id": attempt.run},
        "env": Sought(partial(_secret, attempt)),
    }


def _secret(attempt: Attempt, name: str) -> str:
    if name not in attempt.secrets:
        message = f"node {attempt.node.id}: there is no secret {name}; pass it in secrets="
        raise Died("no_such_secret", message, terminal=True)
    return attempt.secrets[name]


def _left(attempt: Attempt, report: msg.AttemptSucceeded) -> dict[str, Any]:
    """The state as the node left it."""
    seen = remembered.visible(attempt.variables)
    kept = {name: value for name, value in seen.items() if name not in report.removed}
    return dict(overlays.written(kept, report.patch, attempt.graph.reducers))


def _facts(attempt: Attempt) -> dict[str, Any]:
    return {
        "run_id": attempt.run,
        "version_id": previous.VERSION,
        "step": attempt.step,
        "node": attempt.node.id,
        "iteration": attempt.iteration,
        "attempt": attempt.attempt,
        "idempotency_key": f"{attempt.run}/{attempt.step}",
    }


def _succeeded(
    attempt: Attempt,
    *,
    result: Json = None,
    patch: Mapping[str, Json] | None = None,
    removed: tuple[str, ...] = (),
) -> msg.AttemptSucceeded:
    return msg.AttemptSucceeded(
        at=codec.UNTIMED,
        step=attempt.step,
        attempt=attempt.attempt,
        fence=attempt.attempt,
        result=Inline(value=result),
        patch=patch or {},
        removed=removed,
    )


def _failed(attempt: Attempt, death: Died) -> msg.AttemptFailed | msg.AttemptLost:
    if death.reason == "lost":
        return msg.AttemptLost(
            at=codec.UNTIMED,
            step=attempt.step,
            attempt=attempt.attempt,
            fence=attempt.attempt,
            worker="memory",
        )
    return msg.AttemptFailed(
        at=codec.UNTIMED,
        step=attempt.step,
        attempt=attempt.attempt,
        fence=attempt.attempt,
        reason=death.reason,
        message=str(death)[:2000],
        terminal=death.terminal,
    )


def _struck(attempt: Attempt, fault: Fault) -> Report:
    return _failed(attempt, Died(fault.reason, fault.message, terminal=fault.terminal))
