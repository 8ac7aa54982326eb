"""Tool calls made by running steps: authorised before, recorded after, never doubled blindly.

The child asks its parent over the pipe; the parent asks `authorise` in one short
transaction, carries the call out outside the child, records it with `settle`, then answers.
`authorise` is where policy, permission, budget, approval and effect class will be asked in
turn; for now it checks that the tool exists, pins its version, and decides by what earlier
attempts of the step left:

- recorded with a result: the result is served, nothing runs;
- a different call at this ordinal: the step is not deterministic, and fails for good;
- begun, and its outcome never recorded: `unknown`. A tool that may be repeated is called
  again under the same idempotency key; one that may not is left to a person.

Large arguments and values are kept as blobs (`engine.runs.large`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import orjson

from engine.core.values import Json, canonical, plain
from engine.platform import Platform
from engine.runs import definitions, large
from engine.runs.attempts import Leased
from engine.runs.definitions import Definition
from engine.store import calls, session

#: Effect classes that a crash in the middle may repeat.
_REPEATABLE = frozenset({"pure", "idempotent"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorised:
    """The call may be made, and its start is recorded."""

    definition: Definition
    #: The same in every attempt: what an idempotent receiver tells repeats by.
    idempotency_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An earlier attempt made this call; this is what it got."""

    value: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """The call may not be made. `terminal`: the step cannot succeed any more."""

    reason: str
    message: str
    terminal: bool = False


def authorise(
    platform: Platform, lease: Leased, ordinal: int, tool: str, arguments: Json
) -> Authorised | Recorded | Denied:
    """Ask whether a running step may make a call; if so, its start is recorded."""
    tenant = lease.step.tenant
    try:
        given = plain(large.kept(platform, tenant, arguments))
    except large.ValueTooLarge as error:
        message = f"arguments of {tool}: {error.message}"
        return Denied(reason="arguments_too_large", message=message)
    answer = _asked(platform, lease, ordinal, tool, arguments, given=given)
    if isinstance(answer, Recorded):
        return replace(answer, value=large.shown(platform, tenant, answer.value))
    return answer


def _asked(
    platform: Platform, lease: Leased, ordinal: int, tool: str, arguments: Json, *, given: Json
) -> Authorised | Recorded | Denied:
    """The answer, a recorded value as it is kept. `given` are the arguments as they are kept."""
    with session.transaction(platform.database) as connection:
        definition = definitions.of_run(connection, lease.step, lease.pins, "tool", tool)
        if definition is None:
            return Denied(reason="no_such_tool", message=f"tool {tool!r} is not registered")
        digest = _digest(definition, arguments)
        for earlier in calls.known(connection, lease.step, ordinal):
            if earlier.digest != digest:
                return Denied(
                    reason="nondeterministic_call",
                    message=(
                        f"call {ordinal} was {earlier.tool} in attempt {earlier.attempt} and is "
                        f"{tool} with other arguments now; make the same calls in every attempt"
                    ),
                    terminal=True,
                )
            if earlier.ended and earlier.reason is None:
                return Recorded(value=orjson.loads(earlier.value))
            if earlier.effect not in _REPEATABLE:
                return Denied(
                    reason="unknown_outcome",
                    message=(
                        f"call {ordinal} of {tool} began in attempt {earlier.attempt} and "
                        + (
                            f"ended as {earlier.reason}"
                            if earlier.ended
                            else "its outcome was never recorded"
                        )
                        + "; it may have happened"
                    ),
                    terminal=True,
                )
        if unmet := _unmet(definition):
            return Denied(reason="forbidden", message=unmet, terminal=True)
        started = calls.start(
            connection,
            lease.held,
            ordinal,
            tool=tool,
            version=definition.version,
            effect=definition.effect,
            digest=digest,
            arguments=canonical(given),
        )
        if started:
            large.refer(connection, lease.step.run_id, {"arguments": given})
    if not started:
        return Denied(reason="lost", message="the lease of this step has ended", terminal=True)
    key = hashlib.sha256(f"{lease.step.run}|{lease.step.key}|{ordinal}".encode()).hexdigest()
    return Authorised(definition=definition, idempotency_key=key)


def _unmet(definition: Definition) -> str:
    """Why a call may not be made whose terms cannot be kept yet; empty where there are none.

    Nobody is asked at a call, and no permission is looked at: what asks for either is not called.
    """
    terms = definition.terms
    if terms.requires_approval:
        wanted = "a person's approval"
    elif terms.required_permissions:
        wanted = f"the permission {', '.join(terms.required_permissions)}"
    else:
        return ""
    return (
        f"tool {definition.name} asks for {wanted} at each call, which is not looked at yet, so it is"
        " not called; put an approval node before it and register it without that"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a call ended; `reason` None means that it succeeded."""

    value: Json = None
    reason: str | None = None
    message: str | None = None
    usage: Mapping[str, float] = field(default_factory=dict)


def settle(platform: Platform, lease: Leased, ordinal: int, answer: Answer) -> None:
    """Record how an authorised call ended. Call it before the child is answered."""
    value = plain(large.kept(platform, lease.step.tenant, answer.value))
    with session.transaction(platform.database) as connection:
        calls.end(
            connection,
            lease.step,
            ordinal,
            lease.attempt,
            reason=answer.reason,
            message=answer.message,
            value=canonical(value) if answer.reason is None else None,
            usage=canonical(dict(answer.usage)),
        )
        large.refer(connection, lease.step.run_id, {"value": value})


def _digest(definition: Definition, arguments: Json) -> str:
    named: Sequence[Json] = [definition.name, definition.version, arguments]
    return hashlib.sha256(canonical(named).encode()).hexdigest()
