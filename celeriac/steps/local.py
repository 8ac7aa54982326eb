"""Sessions in this process: the real core over lists, real handlers, real time.

What a session has come to is folded from its history, as on the platform. It lives as long as the
engine does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from celeriac.sdk.tools import ToolRegistry
from celeriac.steps import handlers, policies
from celeriac.testing import outside, runner, turns
from celeriac.testing.acts import Act, Answered, Cancelled, Paused, Resumed, Sent
from celeriac.testing.calling import Died
from celeriac.testing.clock import Clock
from celeriac.testing.memory import Memory, Run
from celeriac.testing.runner import Attempt, Report
from engine import documents, waiting
from engine.core import codec
from engine.core import messages as msg
from engine.core.policy import DEFAULT
from engine.core.principal import covers
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import Inline
from engine.errors import Conflict, Invalid, NotFound
from engine.sessions import graph, steps, story
from engine.sessions.config import Config
from engine.sessions.steps import Offer, Sender, Wanted
from engine.sessions.story import Story
from engine.sessions.words import StepStatus as Told
from engine.sessions.words import Workflow
from engine.tools import Terms

#: Nodes at which a session stands still until somebody comes.
_STILL = frozenset({graph.NEXT, graph.ASK, graph.INPUT, graph.DEADLINE})


#: Effects that may happen twice.
_REPEATABLE = frozenset({"pure", "idempotent"})
_MINUTE, _HOUR = 60.0, 3600.0


class Local:
    """Sessions by id, each carried on by whoever asks something of it."""

    def __init__(
        self, registry: ToolRegistry, permissions: Mapping[str, Sequence[str]] | None
    ) -> None:
        self._registry = registry
        self._permissions = permissions
        self._sessions: dict[str, _Session] = {}
        self.policies: list[policies.Policy] = []
        #: When users called tools, by both.
        self._calls: dict[tuple[str, str], list[float]] = {}

    async def begin(
        self,
        name: str,
        description: str,
        user_id: str,
        config: Config,
        context: Mapping[str, Any],
    ) -> Workflow:
        session = _Session(self._registry, config)
        inputs = {
            "name": name,
            "description": description,
            "user_id": user_id,
            "config": config.told(),
            "context": dict(context),
        }
        session.begin(inputs, user_id)
        told = await session.settle()
        self._sessions[told.workflow.workflow_id] = session
        return told.workflow

    async def read(self, workflow_id: str) -> Workflow:
        session = self._session(workflow_id)
        if session.busy.locked():
            return session.told().workflow
        async with session.busy:
            return (await session.settle()).workflow

    async def workflows(self) -> tuple[Workflow, ...]:
        return tuple([await self.read(workflow_id) for workflow_id in self._sessions])

    async def step(self, workflow_id: str, wanted: Wanted) -> Workflow:
        session = self._session(workflow_id)
        async with session.busy:
            known = await session.settle()
            if known.workflow.step(wanted.step_id) is not None:
                return known.workflow
            event = steps.event(known, wanted, self._sender(known))
            return await session.send(event)

    async def rollback(self, workflow_id: str, checkpoint_id: str) -> Workflow:
        session = self._session(workflow_id)
        async with session.busy:
            known = await session.settle()
            return await session.send(steps.rollback(known, checkpoint_id, known.workflow.user_id))

    async def complete(self, workflow_id: str) -> Workflow:
        session = self._session(workflow_id)
        async with session.busy:
            known = await session.settle()
            return await session.send(steps.completion(known, known.workflow.user_id))

    async def answer(
        self,
        workflow_id: str,
        step_id: str,
        choice: str | None,
        *,
        reason: str = "",
        given: Any = None,
        by: str,
    ) -> Workflow:
        session = self._session(workflow_id)
        async with session.busy:
            known = await session.settle()
            found = known.workflow.step(step_id)
            if found is None:
                raise NotFound(f"Step not found: {step_id} of {workflow_id}")
            node = graph.INPUT if choice is None else graph.ASK
            if found.status is not Told.WAITING_APPROVAL or session.run.live(node) is None:
                raise Conflict(f"step {step_id} is {found.status}; nobody is asked for that")
            form = {"input": given} if choice is None else {"reason": reason}
            return await session.act(Answered(node, choice, form, by=by))

    async def control(self, workflow_id: str, action: str, reason: str) -> Workflow:
        """Cancel, pause or resume, whatever the session is at."""
        session = self._session(workflow_id)
        if session.told().workflow.ended:
            raise Conflict(f"workflow {workflow_id} has ended")
        acts: Mapping[str, Act] = {
            "cancel": Cancelled(reason=reason),
            "pause": Paused(),
            "resume": Resumed(),
        }
        return await session.interrupt(acts[action])

    def _session(self, workflow_id: str) -> _Session:
        try:
            return self._sessions[workflow_id]
        except KeyError:
            raise NotFound(f"Workflow not found: {workflow_id}") from None

    def _sender(self, known: Story) -> Sender:
        workflow = known.workflow
        context = {
            "workflow_id": workflow.workflow_id,
            "user_id": workflow.user_id,
            "step_count": workflow.step_count,
            "total_cost_usd": workflow.total_cost_usd,
            "context": workflow.context,
        }
        return Sender(
            by=workflow.user_id,
            now=datetime.now(UTC),
            offer=self._offer,
            forbids=lambda name, terms: (
                self._missing(workflow.user_id, terms)
                or self._too_often(workflow.user_id, name, terms)
            ),
            asks=True,
            judge=policies.judge(self.policies, context),
        )

    def _offer(self, name: str) -> Offer | None:
        if name not in self._registry:
            return None
        definition = self._registry.definition(name)
        return Offer(terms=definition.terms, standing=definition.standing)

    def _missing(self, user: str, terms: Terms) -> str | None:
        """Why a user may not use a tool. Where nobody said who may what, everybody may all."""
        if self._permissions is None:
            return None
        has = {*self._permissions.get(user, ())}
        lacking = [each for each in terms.required_permissions if not covers(has, each)]
        return f"{user} lacks {', '.join(lacking)}" if lacking else None

    def _too_often(self, user: str, tool: str, terms: Terms) -> str | None:
        """Why a user may not call a tool once more by now; if he may, that is counted."""
        calls, now = self._calls.setdefault((user, tool), []), time.monotonic()
        calls[:] = [moment for moment in calls if now - moment < _HOUR]
        lately = sum(now - moment < _MINUTE for moment in calls)
        for most, made, unit in (
            (terms.rate_per_minute, lately, "minute"),
            (terms.rate_per_hour, len(calls), "hour"),
        ):
            if most is not None and made >= most:
                return f"{tool} may be called {most} times a {unit}; {user} has"
        calls.append(now)
        return None


class _Session:
    """One session: its run, and what is being carried out for it."""

    def __init__(self, registry: ToolRegistry, config: Config) -> None:
        self._registry = registry
        self._graph = documents.graph(graph.document(config))
        self._memory = Memory(
            clock=Clock(datetime.now(UTC), running=True), policy=DEFAULT, workflows={}
        )
        self._id = str(uuid4())
        #: Attempts that are under way.
        self._tasks: dict[asyncio.Task[Report], Attempt] = {}
        #: Set when somebody has done something to the run meanwhile.
        self._rung = asyncio.Event()
        #: Held by whoever carries it on.
        self.busy = asyncio.Lock()

    @property
    def run(self) -> Run:
        return self._memory.runs[self._id]

    def begin(self, inputs: Mapping[str, Any], by: str) -> None:
        self._memory.submit(self._id, self._graph, inputs, by=by)

    def told(self) -> Story:
        """What it has come to."""
        return story.tell(self._id, self.run.history)

    async def send(self, event: Mapping[str, Any]) -> Workflow:
        """Bring an event, and carry on."""
        return await self.act(Sent(graph.EVENT, dict(event), to_run=True, by=str(event["by"])))

    async def act(self, act: Act) -> Workflow:
        """Do something to the run, and carry on as far as that goes."""
        outside.do(self._memory, act)
        return (await self.settle()).workflow

    async def interrupt(self, act: Act) -> Workflow:
        """Do something to the run while somebody else may be carrying it on."""
        outside.do(self._memory, act)
        self._rung.set()
        async with self.busy:
            return (await self.settle()).workflow

    async def settle(self) -> Story:
        """Carry the run on until it waits for somebody, or has ended."""
        while True:
            self._turn()
            self._start()
            if not self._tasks and self._is_still():
                return self.told()
            await self._something()

    def _turn(self) -> None:
        """Fold whatever has come, moments that have passed included."""
        now = self._memory.clock.now()
        if any(moment <= now for moment in runner.moments(self.run)):
            runner.strike(self._memory, now)
        while self.run.inbox:
            turns.take(self._memory, self.run)

    def _start(self) -> None:
        """Begin the attempts that may begin, and end those that count no more."""
        under_way = {(one.step, one.attempt) for one in self._tasks.values()}
        for attempt in runner.ready(self._memory):
            if (attempt.step, attempt.attempt) not in under_way:
                self._tasks[asyncio.create_task(self._perform(attempt))] = attempt
        for task, attempt in [*self._tasks.items()]:
            step = self.run.state.steps.get(attempt.step)
            if step is None or step.attempt != attempt.attempt:
                task.cancel()
                del self._tasks[task]

    def _is_still(self) -> bool:
        """Whether nothing goes on by itself: it waits at one of a few nodes, or not at all."""
        if self.run.state.status is not RunStatus.RUNNING:
            return True
        return all(
            step.status is StepStatus.WAITING and step.node in _STILL
            for step in self.run.state.steps.values()
        )

    async def _something(self) -> None:
        """Wait until something happens: a report, a moment that was waited for, somebody's act."""
        now = self._memory.clock.now()
        moments = [*runner.moments(self.run)]
        seconds = max((min(moments) - now).total_seconds(), 0.0) if moments else None
        rung = asyncio.create_task(self._rung.wait())
        try:
            done, _ = await asyncio.wait(
                {rung, *self._tasks}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        except asyncio.CancelledError:
            # Whoever waited has gone, and with them what is being carried out for them.
            self._forsake()
            raise
        finally:
            rung.cancel()
        self._rung.clear()
        for task in done - {rung}:
            attempt = self._tasks.pop(task)  # type: ignore[arg-type]  # the other kind is taken out
            runner.deliver(self._memory, attempt, task.result())  # type: ignore[arg-type]  # see above

    def _forsake(self) -> None:
        """Report whatever is under way as lost: it may have happened, and is tried again.

        A call that must not be made twice has failed instead: nobody knows what came of it.
        """
        for task, attempt in self._tasks.items():
            task.cancel()
            report: Report
            if self._may_repeat(attempt):
                report = msg.AttemptLost(
                    at=codec.UNTIMED,
                    step=attempt.step,
                    attempt=attempt.attempt,
                    fence=attempt.attempt,
                    worker="of a client that went away",
                )
            else:
                why = "it was called when its client went away; it may have happened"
                report = _failed(attempt, Died("unknown_outcome", why, terminal=True))
            runner.deliver(self._memory, attempt, report)
        self._tasks.clear()

    def _may_repeat(self, attempt: Attempt) -> bool:
        try:
            name = waiting.tool(attempt.node, attempt.variables)
        except waiting.Unfit:
            return True
        return name not in self._registry or self._registry.definition(name).effect in _REPEATABLE

    async def _perform(self, attempt: Attempt) -> Report:
        """Carry an attempt out, and say how it ended."""
        try:
            value = await self._call(attempt) if attempt.gathered is None else [*attempt.gathered]
        except Died as death:
            return _failed(attempt, death)
        return msg.AttemptSucceeded(
            at=codec.UNTIMED,
            step=attempt.step,
            attempt=attempt.attempt,
            fence=attempt.attempt,
            result=Inline(value=value),
        )

    async def _call(self, attempt: Attempt) -> Any:
        """Call the handler of the tool that the step names. Raises `Died`."""
        try:
            name = waiting.tool(attempt.node, attempt.variables)
            given = waiting.arguments(attempt.node, attempt.variables)
        except waiting.Unfit as unfit:
            raise Died(unfit.reason, unfit.message, terminal=True) from unfit
        if name not in self._registry:
            raise Died("no_such_tool", f"tool {name!r} is not registered", terminal=True)
        bound = self._registry.bound(name, {"args": [], "kwargs": given})
        if bound.problems:
            wrong = Invalid(bound.problems, f"arguments of {name}")
            raise Died("arguments_refused", str(wrong), terminal=True)
        seconds = self._registry.definition(name).timeout_seconds
        return await handlers.call(self._registry[name], bound.arguments, seconds)


def _failed(attempt: Attempt, death: Died) -> Report:
    return msg.AttemptFailed(
        at=codec.UNTIMED,
        step=attempt.step,
        attempt=attempt.attempt,
        fence=attempt.attempt,
        reason=death.reason,
        message=str(death)[:2000],
        terminal=death.terminal,
    )
