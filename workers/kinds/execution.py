"""What a kind of node has at hand while it carries out one attempt."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from typing import Any

from engine import waiting
from engine.capabilities import NOTHING, Profile, Subject
from engine.core import overlays, remembered
from engine.core.fold.guard import added
from engine.core.graph import Node, NodeId
from engine.core.values import Json
from engine.errors import NotFound, Unavailable
from engine.platform import Platform
from engine.redaction import restored
from engine.runs import budgets, calls, definitions, executions, ledgers, overdraft
from engine.runs import capabilities as granted
from engine.runs.attempts import Failed, Leased, Outcome, Succeeded, Suspended
from engine.runs.definitions import Definition
from engine.runs.logs import Log
from engine.store import session, workflows
from engine.store.functions import Namespace
from workers import capabilities, services
from workers.sandbox import CallAnswer, Choose, Job, Limits, Mode, Sandbox
from workers.sandbox import Outcome as Ended
from workers.secrets import Secrets, Withheld
from workers.services.service import Asked

#: An attempt whose time is over is told so by the sandbox, not by an error of ours.
_LEAST_SECONDS = 0.05
#: Calls that an attempt may be denied. Each is told to history: code that asks on and on, whatever
#: it is told, would fill that without using anything that a budget counts.
MOST_DENIED = 100
#: The kinds of services that can be tried, by their argument `dry_run`.
_TRIES = frozenset({"http", "sql"})


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
    #: Calls that it was denied, those left out that an earlier attempt was.
    denied: int = 0
    #: Monotonic seconds: when the attempt began.
    began: float = field(default_factory=time.monotonic)
    #: Set by a call that ended the attempt: it cannot succeed, or has to wait for people.
    ended: Failed | Suspended | None = None
    #: What it told that it used, the tools it called left out.
    told: Mapping[str, float] = field(default_factory=dict)
    #: What of that it is charged, should it be lost; another object whenever it tells more.
    known: Mapping[str, float] = field(default_factory=dict)
    #: The model that its own use is charged under.
    model: str = ""
    #: What was set aside for it beyond what was at its start.
    more: dict[str, Decimal] = field(default_factory=dict)
    #: What the sandbox measured.
    measured: dict[str, float] = field(default_factory=dict)
    #: What its calls used.
    called: Mapping[str, float] = field(default_factory=dict)
    #: Whether all code that ran in it is installed; what strangers' code tells is not believed.
    trusted: bool = True
    #: What its node's own function may use in all, where that is not the usual.
    bounds: Limits | None = None
    #: What was granted to the code that it runs.
    profiles: dict[Subject, Profile] = field(default_factory=dict)
    #: Whether it is only tried: nothing that it calls leaves anything in the world, or reaches outside.
    dry: bool = False
    #: What bounds the calls that are made just now: those of the code that runs; None for the node's own.
    reach: Profile | None = None
    #: The tools that were looked up for it, by the names that they are called by.
    tools: dict[str, Definition] = field(default_factory=dict)
    #: The names of tools whose secrets were opened.
    opened: set[str] = field(default_factory=set)
    #: What was opened for it.
    secrets: Secrets = field(init=False)

    def __post_init__(self) -> None:
        self.secrets = Secrets(self.platform, self.lease.step.tenant, self.lease.node)

    @property
    def node(self) -> Node:
        return self.lease.graph.node(NodeId(self.lease.node))

    @property
    def whole(self) -> Limits:
        """What the attempt may use in all.

        What it says is held here as it was held there, so its memory bounds that, too.
        """
        if self.bounds is not None:
            return self.bounds
        settings, timeout = self.platform.settings, self.node.timeout
        memory = settings.sandbox_bytes
        most = Limits(memory_bytes=memory, result_bytes=min(settings.value_bytes, memory // 2))
        return most if timeout is None else replace(most, seconds=timeout)

    @property
    def limits(self) -> Limits:
        """What is left of the attempt's time for whatever it runs next."""
        left = self.whole.seconds - (time.monotonic() - self.began)
        return replace(self.whole, seconds=max(left, _LEAST_SECONDS))

    def bound(self, definition: Definition, job: Job) -> Job:
        """The job of the node's own function, within what was granted to that."""
        if job.trusted:
            return job
        profile, timed = self.profile(definition), self.node.timeout is not None
        self.bounds = capabilities.within(profile, self.whole, self.platform.settings, timed=timed)
        return capabilities.opened(profile, replace(job, limits=self.limits))

    def profile(self, definition: Definition) -> Profile:
        """What a function or tool may reach; of installed code nobody asks."""
        if definition.source is None:
            return NOTHING
        whose = _subject(definition)
        if whose not in self.profiles:
            with session.transaction(self.platform.database) as connection:
                self.profiles[whose] = granted.of(connection, self.lease.step.tenant, whose)
        return self.profiles[whose]

    @property
    def own(self) -> dict[str, float]:
        """What the attempt itself used: what was measured, and what it is charged."""
        if not self.measured:
            return dict(self.told)
        # Of what is measured nothing is believed.
        return {**self._believed, **self.measured}

    @property
    def _believed(self) -> dict[str, float]:
        """What it is charged of what it told."""
        # An attempt that gives way is made anew: what it was said to use is charged then.
        unsaid = self.node.calls or isinstance(self.ended, Suspended)
        estimate = {} if unsaid else self.node.estimate
        return ledgers.believed(self.told, estimate, trusted=self.trusted)

    @property
    def usage(self) -> dict[str, float]:
        """What it used in all, its calls included."""
        return added(self.own, self.called)

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
        found = variables.over({**names, "result": known, "run": run})
        return found.beside({"env": self.secrets.env(lambda: self._whose(found))})

    def _whose(self, scope: Mapping[str, Json]) -> Subject:
        """Whom what the node reads must be granted to.

        That a service was granted something is for its configuration, which an admin has written; the
        fields of the node were written by whoever wrote the workflow.
        """
        node = self.node
        definition = None
        if node.uses is not None:
            namespace: Namespace = "tool" if node.calls else "function"
            name = waiting.tool(node, scope)
            definition = self.definition(namespace, name)
            if definition is None:
                message = f"node {node.id}: {namespace} {name!r} is not registered"
                raise Withheld(f"no_such_{namespace}", message)
        if definition is None or definition.service is not None:
            return self.workflow
        return _subject(definition)

    @property
    def workflow(self) -> Subject:
        """The version of the workflow that the step is of."""
        with session.transaction(self.platform.database) as connection:
            found = workflows.get(connection, self.lease.step.tenant, self.lease.version)
        assert found is not None
        return Subject(kind="workflow", name=found.workflow, version=found.version)

    def definition(self, namespace: Namespace, uses: str) -> Definition | None:
        """The version of a function or tool that this run uses."""
        step, database = self.lease.step, self.platform.database
        if namespace == "function":
            known = definitions.installed(database, step.tenant, self.lease.pins, uses)
            if known is not None:
                return known
        with session.transaction(database) as connection:
            found = definitions.of_run(connection, step, self.lease.pins, namespace, uses)
            if found is not None and found.source is not None:
                whose = _subject(found)
                self.profiles[whose] = granted.of(connection, step.tenant, whose)
        if found is not None and namespace == "tool":
            self.tools[uses] = found
        return found

    def open(self, uses: str) -> None:
        """Open the secrets of a service before it is first called, or offered to a model.

        What is hidden must not depend on how far an attempt has come: an attempt that is served what
        an earlier one recorded opens nothing on the way. Raises `Unavailable`.
        """
        if uses in self.opened:
            return
        definition = self.tools.get(uses) or self.definition("tool", uses)
        if definition is None:
            return
        self.opened.add(uses)
        if definition.service is not None:
            self.secrets.open(_subject(definition), definition.service["config"])

    def run(self, job: Job, profile: Profile = NOTHING, *, alone: bool = False) -> Ended:
        """Run user-supplied code in a child; its calls come back here.

        `profile` is what was granted to it. Of installed code nothing is asked. `alone`: it can call no
        tool, and is told of nothing that led to it.
        """
        before = self.told

        def use(used: Mapping[str, float]) -> str | None:
            hidden = self.secrets.redaction.hide_text
            self.told = added(before, {hidden(name): amount for name, amount in used.items()})
            self.known = self._believed
            return self._use()

        self.trusted = self.trusted and job.trusted
        self.reach = None if job.trusted else profile
        ended = self.sandbox.run(
            replace(job, context=self.context, whose=self.lease.step.tenant),
            on_log=self._printed,
            on_call=_alone if alone else self.call,
            on_previous=_nothing_before if alone else self.previous,
            on_use=use,
            cancelled=self.stopped,
        )
        self.reach = None
        ended = self.secrets.ended(ended)
        self.model = ended.model or self.model
        self._measure(measured(ended))
        return ended

    def _measure(self, found: Mapping[str, float]) -> None:
        """Add to what was measured of the attempt."""
        most = max(each.get("max_rss", 0.0) for each in (self.measured, found))
        self.measured = {**added(self.measured, found), "max_rss": most}

    def call(
        self, tool: str, args: list[Json], kwargs: dict[str, Json], *, settled: bool = False
    ) -> CallAnswer:
        """Make a tool call on behalf of running code, by the durable path.

        What is asked about, recorded and answered holds no secret; what is carried out does.
        `settled`: whatever comes of it is what the step goes on from (`calls.authorise`).
        """
        if self.dry and (refused := self._tried(tool, kwargs)) is not None:
            return refused
        real: Json = {"args": args, "kwargs": kwargs}
        self.open(tool)
        arguments = self.secrets.redaction.hide(real)
        self.made += 1
        allowed = calls.authorise(
            self.platform,
            self.lease,
            self.made,
            tool,
            arguments,
            settled=settled,
            profile=self.reach,
        )
        match allowed:
            case calls.Recorded(value=value, reason=reason, message=message):
                # Nobody was asked: however often it failed, no more is told to history.
                return CallAnswer(
                    ok=reason is None, value=value, reason=reason or "", message=message
                )
            case calls.Denied():
                return self._denied(allowed)
            case Suspended():
                self.ended = allowed
                return CallAnswer(ok=False, suspend=True)
            case _:
                given = restored(allowed.arguments, arguments, real)
                return self._made(allowed, replace(allowed, arguments=given))

    def _tried(self, tool: str, kwargs: dict[str, Json]) -> CallAnswer | None:
        """Let a call be tried only; why it is not made where its tool knows no such thing."""
        definition = self.tools.get(tool) or self.definition("tool", tool)
        if definition is None:
            return None
        service = None if definition.service is None else definition.service["kind"]
        if service in _TRIES:
            kwargs["dry_run"] = True
        elif service is not None or definition.effect != "pure":
            message = f"{tool} is not called in a dry run: it knows none"
            return CallAnswer(ok=False, reason="dry_run", message=message)
        return None

    def _made(self, allowed: calls.Authorised, real: calls.Authorised) -> CallAnswer:
        """Carry out a call that may be made, and record how it ended."""
        answer = self.secrets.answer(self._carry_out(real))
        charged = {**ledgers.charges(answer.usage), budgets.CALLS: 1.0}
        self.called = added(self.called, charged)
        given = session.insist(
            partial(calls.settle, self.platform, self.lease, allowed, answer),
            seconds=self.platform.settings.lease_seconds,
        )
        if isinstance(given, Suspended):
            self.ended = given
            return CallAnswer(ok=False, suspend=True)
        return CallAnswer(
            ok=given.reason is None,
            value=given.value,
            reason=given.reason or "",
            message=given.message or "",
        )

    def _use(self) -> str | None:
        """Set aside what was used beyond what is; why the attempt must not go on, if it must not."""
        reserved = self.lease.reserved
        if reserved is None:
            return None
        aside = {**reserved}
        for name, amount in self.more.items():
            aside[name] = aside.get(name, Decimal(0)) + amount
        beyond = ledgers.more(self.told, aside)
        if not beyond:
            return None
        why = session.insist(
            partial(overdraft.take, self.platform, self.lease, aside, beyond),
            seconds=self.platform.settings.lease_seconds,
        )
        if why is None:
            for name, amount in beyond.items():
                self.more[name] = self.more.get(name, Decimal(0)) + amount
        return why

    def _printed(self, stream: str, line: str) -> None:
        self.log.add(stream, self.secrets.line(line))

    def previous(self) -> CallAnswer:
        """The executions that led to the step, for code that asks for them."""
        lease = self.lease
        try:
            found = executions.previous(self.platform, lease.step, lease.graph, lease.version)
        except (executions.TooMuch, NotFound) as error:
            return CallAnswer(ok=False, message=error.message)
        return CallAnswer(ok=True, value=list(found))

    def _carry_out(self, allowed: calls.Authorised) -> calls.Answer:
        """Run a tool outside the code that called it, in a child of its own; or ask a service."""
        definition = allowed.definition
        assert isinstance(allowed.arguments, dict)
        if definition.service is not None:
            return self._served(allowed, definition.service)
        mode: Mode = "tool" if definition.source is not None else "library-tool"
        limits = self._limits_of(definition)
        job = Job(
            mode=mode,
            name=definition.name,
            source=definition.source,
            library=definition.library,
            arguments=allowed.arguments,
            context={**self.context, "idempotency_key": allowed.idempotency_key},
            limits=limits,
            whose=self.lease.step.tenant,
        )
        if not job.trusted:
            job = capabilities.opened(self.profile(definition), job)
        outcome = self.sandbox.run(
            job, on_log=self._printed, on_call=_no_calls, cancelled=self.stopped
        )
        if self.node.calls:
            # There is nothing else that takes its time.
            self._measure(measured(outcome))
        estimate = definition.terms.estimate
        told = ledgers.believed(outcome.used, estimate, trusted=job.trusted)
        used = {**told, **measured(outcome)}
        if outcome.ok:
            return calls.Answer(value=outcome.value, usage=used, model=outcome.model)
        message = outcome.message
        if outcome.reason == "timeout":
            message = f"timed out after {limits.seconds:g}s"
        return calls.Answer(
            reason=outcome.reason or "error", message=message, usage=used, model=outcome.model
        )

    def _served(self, allowed: calls.Authorised, service: Mapping[str, Any]) -> calls.Answer:
        """Have a service asked, within the time that is left."""
        definition = allowed.definition
        assert isinstance(allowed.arguments, dict)
        began = time.monotonic()
        try:
            config = self.secrets.put_in(_subject(definition), service["config"])
        except Withheld as withheld:
            return calls.Answer(reason=withheld.reason, message=withheld.message)
        except Unavailable as error:
            return calls.Answer(reason="unreachable", message=str(error))
        assert isinstance(config, dict)
        words = self.secrets.redaction.stream()
        asked = Asked(
            config=config,
            arguments=definition.bound(allowed.arguments).arguments,
            idempotency_key=allowed.idempotency_key,
            seconds=self._limits_of(definition).seconds,
            stopped=self.stopped,
            private=self.platform.settings.private_hosts,
            own=self.platform.settings.own_servers,
            hosts=None if self.reach is None else self.reach.hosts,
            platform=self.platform,
            lease=self.lease,
            say=lambda text: self.log.say(allowed.ordinal, words.feed(text)),
        )
        answer = services.carry(service["kind"], asked)
        self.log.say(allowed.ordinal, words.close())
        spent = {"seconds": round(time.monotonic() - began, 6)}
        if self.node.calls:
            # There is nothing else that takes its time.
            self._measure(spent)
        self.log.flush()
        # What it does not speak of it is taken to have used.
        return replace(answer, usage={**definition.terms.estimate, **answer.usage, **spent})

    def _limits_of(self, definition: Definition) -> Limits:
        """What a call may use: the tool's own time, but no more than is left of the attempt.

        Of an attempt that is nothing but the call, and whose node sets no time, all of it.
        """
        own = definition.terms.timeout_seconds
        alone = self.node.calls and self.node.timeout is None
        found = replace(self.limits, seconds=own if alone else min(own, self.limits.seconds))
        if definition.source is None:
            return found
        profile, settings = self.profile(definition), self.platform.settings
        return capabilities.within(profile, found, settings, timed=True)

    def _denied(self, denied: calls.Denied) -> CallAnswer:
        self.denied += 1
        if self.denied >= MOST_DENIED and not denied.terminal:
            message = f"{self.denied} calls were denied, the last: {denied.message}"
            self.ended = Failed(reason=denied.reason, message=message, terminal=True)
            # It is not heard any more.
            return CallAnswer(ok=False, suspend=True)
        if denied.terminal:
            self.ended = Failed(reason=denied.reason, message=denied.message, terminal=True)
        return CallAnswer(ok=False, reason=denied.reason, message=denied.message)


def finished(execution: Execution, outcome: Ended) -> Outcome:
    """What an execution's end in the sandbox means for the attempt."""
    if execution.ended is not None:
        return execution.ended
    if not outcome.ok:
        message = outcome.message
        if outcome.reason == "timeout":
            message = f"node {execution.node.id} ran longer than its {execution.whole.seconds:g} s"
        return Failed(reason=outcome.reason or "error", message=message)
    return Succeeded(result=outcome.value, patch=outcome.patch or {}, removed=outcome.removed)


def saved(execution: Execution, outcome: Outcome) -> Outcome:
    """The outcome with what the node's `save` makes of its result, if the variables may hold it."""
    if not isinstance(outcome, Succeeded):
        return outcome
    graph, node = execution.lease.graph, execution.node
    try:
        if node.save:
            patch = waiting.patch(graph, node, execution.scope(outcome.result))
            outcome = replace(outcome, patch=patch, removed=())
        waiting.check(graph, node, outcome.patch, outcome.removed)
    except waiting.Unfit as unfit:
        return Failed(reason=unfit.reason, message=unfit.message, terminal=True)
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
    job = Job(
        mode=mode,
        name=definition.name,
        arguments={"state": dict(state)},
        choose=Choose(name=definition.name, source=definition.source, library=definition.library),
        limits=execution.limits,
    )
    return job if job.trusted else capabilities.opened(execution.profile(definition), job)


def measured(outcome: Ended) -> dict[str, float]:
    """What the sandbox measured, in seconds and bytes."""
    return {
        "seconds": round(outcome.seconds, 6),
        "cpu_seconds": round(outcome.cpu_seconds, 6),
        "max_rss": float(outcome.max_rss),
    }


def _subject(definition: Definition) -> Subject:
    """Whom something is granted to."""
    version = str(definition.version)
    return Subject(kind=definition.namespace, name=definition.name, version=version)


def _alone(tool: str, _args: list[Json], _kwargs: dict[str, Json]) -> CallAnswer:
    return CallAnswer(
        ok=False, reason="no_calls", message=f"code that is tried alone calls no tools ({tool})"
    )


def _nothing_before() -> CallAnswer:
    return CallAnswer(ok=True, value=[])


def _no_calls(tool: str, _args: list[Json], _kwargs: dict[str, Json]) -> CallAnswer:
    return CallAnswer(
        ok=False, reason="no_calls", message=f"a tool cannot call another tool ({tool})"
    )
