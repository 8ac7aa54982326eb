"""What a kind of node has at hand while it carries out one attempt."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from engine import waiting
from engine.core import overlays, remembered
from engine.core.graph import Node, NodeId
from engine.core.values import Json
from engine.errors import NotFound
from engine.platform import Platform
from engine.runs import calls, definitions, executions
from engine.runs.attempts import Failed, Leased, Outcome, Succeeded
from engine.runs.definitions import Definition
from engine.runs.logs import Log
from engine.store import session
from engine.store.functions import Namespace
from workers.sandbox import CallAnswer, Choose, Job, Limits, Mode, Sandbox
from workers.sandbox import Outcome as Ended

#: An attempt whose time is over is told so by the sandbox, not by an error of ours.
_LEAST_SECONDS = 0.05


@dataclass(kw_only=True)
class Execution:
    """One attempt under way."""

    platform: Platform
    sandbox: Sandbox
    lease: Leased
    log: Log
    #: Set when the lease is gone: stop at once, nothing that follows would count.
    stopped: threading.Event = field(default_factory=threading.Event)
    #: Calls made so far; the next one's ordinal is one more.
    made: int = 0
    #: Monotonic seconds: when the attempt began.
    began: float = field(default_factory=time.monotonic)
    #: Set by a call that left the attempt no way to succeed.
    doomed: Failed | None = None

    @property
    def node(self) -> Node:
        return self.lease.graph.node(NodeId(self.lease.node))

    @property
    def whole(self) -> Limits:
        """What the attempt may use in all.

        What it says is held here as it was held there, so its memory bounds that, too.
        """
        settings, timeout = self.platform.settings, self.node.timeout
        memory = settings.sandbox_bytes
        most = Limits(memory_bytes=memory, result_bytes=min(settings.value_bytes, memory // 2))
        return most if timeout is None else replace(most, seconds=timeout)

    @property
    def limits(self) -> Limits:
        """What is left of the attempt's time for whatever it runs next."""
        left = self.whole.seconds - (time.monotonic() - self.began)
        return replace(self.whole, seconds=max(left, _LEAST_SECONDS))

    @property
    def context(self) -> dict[str, Json]:
        """What code may know of the attempt it runs in."""
        step = self.lease.step
        return {
            "run_id": step.run,
            "version_id": self.lease.version,
            "step": step.key,
            "node": self.lease.node,
            "iteration": self.lease.iteration,
            "attempt": self.lease.attempt,
            "idempotency_key": f"{step.run}/{step.key}",
        }

    def scope(self, result: Json = None) -> Mapping[str, Json]:
        """What the names of an expression stand for at this step."""
        run: dict[str, Json] = {"id": self.lease.step.run}
        known = self.lease.undone if result is None else result
        variables = self.lease.variables
        names = remembered.names(variables.kept, variables.read)
        return variables.over({**names, "result": known, "run": run})

    def definition(self, namespace: Namespace, uses: str) -> Definition | None:
        """The version of a function or tool that this run uses."""
        with session.transaction(self.platform.database) as connection:
            return definitions.of_run(connection, self.lease.step, self.lease.pins, namespace, uses)

    def run(self, job: Job) -> Ended:
        """Run user-supplied code in a child; its calls come back here."""
        return self.sandbox.run(
            replace(job, context=self.context),
            on_log=self.log.add,
            on_call=self.call,
            on_previous=self.previous,
            cancelled=self.stopped,
        )

    def call(self, tool: str, args: list[Json], kwargs: dict[str, Json]) -> CallAnswer:
        """Make a tool call on behalf of running code, by the durable path."""
        arguments: dict[str, Json] = {"args": args, "kwargs": kwargs}
        self.made += 1
        ordinal = self.made
        allowed = calls.authorise(self.platform, self.lease, ordinal, tool, arguments)
        match allowed:
            case calls.Recorded(value=value):
                return CallAnswer(ok=True, value=value)
            case calls.Denied():
                return self._denied(allowed)
            case calls.Authorised(definition=definition, idempotency_key=key):
                answer = self._carry_out(definition, arguments, key)
                session.insist(
                    partial(calls.settle, self.platform, self.lease, ordinal, answer),
                    seconds=self.platform.settings.lease_seconds,
                )
                return CallAnswer(
                    ok=answer.reason is None,
                    value=answer.value,
                    reason=answer.reason or "",
                    message=answer.message or "",
                )

    def previous(self) -> CallAnswer:
        """The executions that led to the step, for code that asks for them."""
        lease = self.lease
        try:
            found = executions.previous(self.platform, lease.step, lease.graph, lease.version)
        except (executions.TooMuch, NotFound) as error:
            return CallAnswer(ok=False, message=error.message)
        return CallAnswer(ok=True, value=list(found))

    def _carry_out(
        self, definition: Definition, arguments: dict[str, Json], key: str
    ) -> calls.Answer:
        """Run a tool outside the code that called it, in a child of its own."""
        mode: Mode = "tool" if definition.source is not None else "library-tool"
        limits = self._limits_of(definition)
        outcome = self.sandbox.run(
            Job(
                mode=mode,
                name=definition.name,
                source=definition.source,
                library=definition.library,
                arguments=arguments,
                context={**self.context, "idempotency_key": key},
                limits=limits,
            ),
            on_log=self.log.add,
            on_call=_no_calls,
            cancelled=self.stopped,
        )
        if outcome.ok:
            return calls.Answer(value=outcome.value, usage=usage(outcome))
        message = outcome.message
        if outcome.reason == "timeout":
            message = f"timed out after {limits.seconds:g}s"
        return calls.Answer(reason=outcome.reason or "error", message=message, usage=usage(outcome))

    def _limits_of(self, definition: Definition) -> Limits:
        """What a call may use: the tool's own time, but no more than is left of the attempt.

        Of an attempt that is nothing but the call, and whose node sets no time, all of it.
        """
        own = definition.terms.timeout_seconds
        if self.node.kind == "tool" and self.node.timeout is None:
            return replace(self.limits, seconds=own)
        return replace(self.limits, seconds=min(own, self.limits.seconds))

    def _denied(self, denied: calls.Denied) -> CallAnswer:
        if denied.terminal:
            self.doomed = Failed(reason=denied.reason, message=denied.message, terminal=True)
        return CallAnswer(ok=False, reason=denied.reason, message=denied.message)


def finished(execution: Execution, outcome: Ended) -> Outcome:
    """What an execution's end in the sandbox means for the attempt."""
    if execution.doomed is not None:
        return replace(execution.doomed, usage=usage(outcome))
    if not outcome.ok:
        message = outcome.message
        if outcome.reason == "timeout":
            message = f"node {execution.node.id} ran longer than its {execution.whole.seconds:g} s"
        return Failed(reason=outcome.reason or "error", message=message, usage=usage(outcome))
    return Succeeded(
        result=outcome.value,
        patch=outcome.patch or {},
        removed=outcome.removed,
        usage=usage(outcome),
    )


def saved(execution: Execution, outcome: Outcome) -> Outcome:
    """The outcome with what the node's `save` makes of its result, if the variables may hold it."""
    if isinstance(outcome, Failed):
        return outcome
    graph, node = execution.lease.graph, execution.node
    try:
        if node.save:
            patch = waiting.patch(graph, node, execution.scope(outcome.result))
            outcome = replace(outcome, patch=patch, removed=())
        waiting.check(graph, node, outcome.patch, outcome.removed)
    except waiting.Unfit as unfit:
        return Failed(
            reason=unfit.reason, message=unfit.message, terminal=True, usage=outcome.usage
        )
    return outcome


def left(execution: Execution, outcome: Succeeded) -> dict[str, Json]:
    """The variables as a step leaves them, all of them read."""
    variables = execution.lease.variables
    before = variables.over(remembered.visible(variables.kept))
    kept = {name: value for name, value in before.items() if name not in outcome.removed}
    return dict(overlays.written(kept, outcome.patch, execution.lease.graph.reducers))


def choose_job(execution: Execution, definition: Definition, state: Mapping[str, Json]) -> Job:
    """A job that only asks a condition about a state."""
    mode: Mode = "node" if definition.source is not None else "library-node"
    return Job(
        mode=mode,
        name=definition.name,
        arguments={"state": dict(state)},
        choose=Choose(name=definition.name, source=definition.source, library=definition.library),
        limits=execution.limits,
    )


def usage(outcome: Ended) -> dict[str, float]:
    """What the sandbox measured, in seconds and bytes."""
    return {
        "seconds": round(outcome.seconds, 6),
        "cpu_seconds": round(outcome.cpu_seconds, 6),
        "max_rss": float(outcome.max_rss),
    }


def _no_calls(tool: str, _args: list[Json], _kwargs: dict[str, Json]) -> CallAnswer:
    return CallAnswer(
        ok=False, reason="no_calls", message=f"a tool cannot call another tool ({tool})"
    )
