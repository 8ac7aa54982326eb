"""What a platform tells, as frozen records. Fields that are not known here are left out."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from engine.core.problem import Problem

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A published version of a workflow."""

    id: str
    workflow: str
    version: str
    checksum: str
    created_by: str
    created_at: datetime
    #: What whoever published it said of it.
    notes: str = ""
    #: Since when no run of it is started, and by whom; None: it may be run.
    retired_at: datetime | None = None
    retired_by: str | None = None
    # None in a list:
    document: Mapping[str, Any] | None = None
    #: The step of a run that has written it; None where a person published it.
    written_by: WrittenBy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A live step, where it stands, and where it would stand under another version."""

    step: str
    node: str
    becomes: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """What would become of a run under another version of its workflow, or has."""

    run_id: str
    workflow: str
    #: The version that it was under, and the other one.
    version: str
    to: str
    to_id: str
    status: str
    #: Whether it is under the other one; else that was only asked, or waits for its turn.
    migrated: bool
    steps: tuple[Move, ...]
    #: What keeps it where it is.
    problems: tuple[Problem, ...]
    #: What is pinned to other versions then.
    pins: Mapping[str, int | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A workflow as somebody is writing it."""

    workflow: str
    #: One more each time it is saved.
    revision: int
    created_by: str
    created_at: datetime
    saved_by: str
    saved_at: datetime
    #: As it was written; None in a list, as `problems`.
    text: str | None = None
    #: All that keeps it from being published.
    problems: tuple[Problem, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A version of a function or tool."""

    name: str
    version: int
    description: str
    #: Annotation, default and whether it is required, by name.
    parameters: Mapping[str, Mapping[str, Any]]
    #: What a call leaves in the world: `pure, idempotent, at_most_once, compensable`.
    effect: str
    checksum: str
    created_by: str
    created_at: datetime
    #: Where installed library code has it.
    library: str | None = None
    #: None in a list, and for library code.
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenBy:
    """The step of a run that has written a version."""

    run_id: str
    step: str
    #: The run that this one was started for in the end, if not for itself.
    root: str
    workflow: str
    #: The version before it; None: it is the first.
    parent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A version of an agent, as seed 002 has them."""

    name: str
    #: `MAJOR.MINOR`.
    version: str
    #: `proc, template, workflow, txt2txt`
    type: str
    help: str
    inputs: tuple[str, ...]
    #: With `dryrun`, where it knows dry runs.
    optional_inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    #: The workflow that it runs as, and the version of that.
    workflow: str
    version_id: str
    checksum: str
    created_by: str
    created_at: datetime
    #: What steps call, and what is granted something; None where it is a workflow.
    function: str | None = None
    #: None: a person has entered it.
    written_by: WrittenBy | None = None
    #: Of an agent that was handed in: whether that made it another version.
    changed: bool | None = None
    # None in a list:
    definition: Mapping[str, Any] | None = None
    #: What its steps call, by the text that names it.
    uses: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Me:
    """Who asks, and what he may do."""

    tenant: str
    user: str
    roles: tuple[str, ...]
    #: All that he holds: what his roles bring, and what is his beside.
    permissions: tuple[str, ...]
    #: What of it his credential lets him use; None for all.
    scopes: tuple[str, ...] | None
    credential: str


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user of the tenant."""

    id: str
    roles: tuple[str, ...]
    permissions: tuple[str, ...]
    active: bool
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An API key."""

    id: str
    name: str
    user: str
    scopes: tuple[str, ...] | None
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    #: When it has just been made, and never again.
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A version of a secret. Its value is told to nobody."""

    name: str
    version: int
    #: Whether it is hidden wherever it turns up.
    sensitive: bool
    created_by: str
    created_at: datetime
    #: What it is sealed with; None: what was sealed is gone.
    key_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """What is granted to a function, a tool or a workflow."""

    #: `function:NAME@3`, or without a version for all of them.
    subject: str
    profile: Mapping[str, Any]
    granted_by: str
    granted_at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A version of a policy."""

    name: str
    version: int
    #: Whether it is in force.
    active: bool
    checksum: str
    created_by: str
    created_at: datetime
    #: As it was written. None in a list.
    document: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedPolicy:
    """A policy that is in force."""

    policy: Policy
    #: False: it was in force before.
    changed: bool
    #: What is most likely not meant: `path`, `message`, `remedy`.
    warnings: tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was used, by unit."""

    tenant: str
    #: Of whom and what: the keys that were asked for. Windows by their beginnings, as text.
    by: Mapping[str, str | None]
    used: Mapping[str, Decimal]
    #: As much of it as was assumed, because nobody reported it.
    assumed: Mapping[str, Decimal]
    #: What is set aside beside it for what is under way.
    reserved: Mapping[str, Decimal]
    #: How many attempts and calls were charged.
    attempts: int
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A budget that is in force, and how it stands."""

    policy: str
    version: int
    name: str
    #: `execution`, `run`, `workflow`, `user` or `tenant`, and which of them; None: none was named.
    scope: str
    subject: str | None
    metric: str
    window: str
    #: The present window; None: it has no beginning, no end.
    begins: datetime | None
    ends: datetime | None
    limit: Decimal
    #: What people have allowed beside the limit.
    extra: Decimal
    #: None where nobody counts them, or no subject was named.
    spent: Decimal | None
    reserved: Decimal | None
    left: Decimal | None
    #: False: what passes it is only noted.
    enforced: bool
    #: `deny`, `pause` or `ask`.
    on_shortfall: str
    #: The share of the limit above which people are asked.
    ask_above: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """The budgets that apply to somebody's runs, at one moment."""

    tenant: str
    user: str
    workflow: str | None
    run: str | None
    at: datetime
    budgets: tuple[Budget, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool(Function):
    """A version of a tool, and how the tool stands."""

    #: What its code takes: annotation, default and whether it is required, by name.
    takes: Mapping[str, Mapping[str, Any]]
    #: The JSON Schema of its arguments, declared or derived from the code.
    schema: Mapping[str, Any]
    required_permissions: tuple[str, ...]
    #: USD that a call is taken to cost, and tokens that it is taken to use.
    cost_estimate_usd: float
    tokens_estimate: int
    timeout_seconds: float
    #: Calls of one user.
    rate_per_minute: int | None
    rate_per_hour: int | None
    requires_approval: bool
    category: str | None
    #: What undoes a call: `{tool, with}`.
    undo: Mapping[str, Any] | None
    #: `active, deprecated, disabled, maintenance`.
    status: str
    tags: tuple[str, ...]
    #: Of a service: its `kind` and `config`.
    service: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStep:
    """A step that is not settled, and whom it waits for."""

    key: str
    node: str
    iteration: int
    status: str
    attempt: int
    errors: int
    lost: int
    queue: str | None
    worker: str | None
    lease_until: datetime | None
    begun: bool
    #: Of one that waits: when it stops waiting.
    wake_at: datetime | None
    #: What it waits for: `timer`, `event`, `approval`, `input`, `workflow`, `map`.
    wait: str | None = None
    #: The name of the event that it waits for.
    event: str | None = None
    #: What people are shown and asked, or what the event must match and fit.
    asks: Mapping[str, Any] | None = None
    #: The run that it waits for.
    child: str | None = None
    #: The lock that somebody else holds.
    awaits: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The step that started a run."""

    run_id: str
    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The place of another run that a run goes on from."""

    run_id: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What somebody has said to a step that asks."""

    by: str
    #: Whose say he used, if not his own.
    behalf: str | None
    choice: str | None
    form: Any
    reason: str
    #: Of what he was shown.
    digest: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A step that waits for people or for an event."""

    run_id: str
    workflow: str
    step: str
    node: str
    #: `approval`, `input`, `event`
    kind: str
    #: Of an event; what it must match, and the schema that its payload must fit.
    name: str
    match: Any
    schema: Any
    title: str | None
    #: What people are shown.
    show: Any
    choices: tuple[str, ...]
    #: The JSON Schema of what they fill in.
    form: Any
    #: Who may answer: `role:NAME`, `user:NAME`; anybody where it is empty.
    who: tuple[str, ...]
    #: How many must say the same.
    quorum: int | None
    opened_at: datetime
    expires_at: datetime | None
    #: The name of what people are asked; None of an event.
    request_id: str | None = None
    attempt: int = 1
    #: How many must make each choice, where that differs.
    quorums: Mapping[str, int] | None = None
    #: `required`: whoever denies it must say why.
    reason: str | None = None
    #: Whoever submitted the run may not answer.
    four_eyes: bool = False
    submitted_by: str = ""
    #: The tool whose call is asked about, with what, and the digest of all that an answer is for.
    tool: str | None = None
    arguments: Any = None
    digest: str | None = None
    #: Where the arguments differ from those of the last approved call of the tool.
    differs: tuple[str, ...] | None = None
    #: What has been said so far.
    said: tuple[Heard, ...] = ()
    #: When others are asked, too, and since when they are.
    escalates_at: datetime | None = None
    escalated_at: datetime | None = None
    overdue: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What an answer came to: whether the question is settled, and how many said the same."""

    settled: bool
    said: int
    quorum: int
    #: What it is settled with.
    verdict: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """What came of an answer to one of many questions."""

    request_id: str
    run_id: str | None
    step: str | None
    #: `done`: it counts; `refused`: nothing was changed.
    outcome: str
    settled: bool
    said: int | None = None
    quorum: int | None = None
    verdict: str | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A request for an approval, from its beginning to its end."""

    request_id: str
    #: None: the workflow itself asks.
    policy_id: str | None
    requested_by: str
    #: `pending`, `approved`, `denied`, `expired`, `cancelled`.
    status: str
    approved_by: tuple[str, ...]
    approved_at: datetime | None
    expiry_hours: float | None
    #: What was said for the verdict; while it is pending, why it is asked.
    reason: str
    run_id: str
    workflow: str
    step: str
    attempt: int
    kind: str
    title: str | None
    show: Any
    choices: tuple[str, ...]
    tool: str | None
    arguments: Any
    digest: str | None
    who: tuple[str, ...]
    requested_at: datetime
    expires_at: datetime | None
    escalated_at: datetime | None
    #: `user:NAME` or `clock`, with which choice, when, and by which rule.
    settled_by: str | None
    choice: str | None
    settled_at: datetime | None
    message: str
    answers: tuple[Heard, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """A say in another's hands."""

    id: str
    giver: str
    taker: str
    #: The question that it is for; None: all that the giver is asked `until` then.
    request_id: str | None
    run_id: str | None
    step: str | None
    until: datetime | None
    reason: str
    at: datetime
    #: `open`, `used`, `over`, `revoked`.
    status: str
    revoked_by: str | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentEvent:
    """An event that was sent, and what became of it."""

    id: str
    name: str
    #: The run that it was sent to; None: whoever waits with the same match.
    run_id: str | None
    match: Any
    payload: Any
    sent_by: str
    #: `kept`, `claimed`, `dropped` (nobody waited), `refused` (no step can take its payload).
    state: str
    detail: str
    claimed_run: str | None
    claimed_step: str | None
    received_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a step."""

    step: str
    attempt: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    #: `succeeded`, `failed`, `lost`; None while it is under way.
    outcome: str | None
    reason: str | None
    message: str | None
    usage: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One visit of a run to a node."""

    key: str
    node: str
    iteration: int
    status: str
    #: The line of history that began it.
    seq: int
    requested_at: datetime
    settled_at: datetime | None
    #: The edge that led to it.
    via: str | None
    choice: bool | str | None
    taken: tuple[Mapping[str, Any], ...]
    #: Edges that were not taken, each with the reason.
    untaken: tuple[Mapping[str, Any], ...]
    attempts: tuple[Attempt, ...]
    live: LiveStep | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the accepted attempt of a step left."""

    result: Any
    patch: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One tool call of a running step."""

    step: str
    ordinal: int
    attempt: int
    tool: str
    version: int
    effect: str
    arguments: Any
    started_at: datetime
    ended_at: datetime | None
    #: `succeeded`, `failed`, or `open`.
    outcome: str
    reason: str | None
    message: str | None
    value: Any
    #: What has become of undoing it, and in which run: `undone`, `undoing`, `unknown`, or `stands`.
    undone: str | None = None
    undone_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Undoable:
    """A call of a run, and how it would be undone, or why it cannot be."""

    #: By which it is asked for.
    name: str
    run: str
    step: str
    ordinal: int
    tool: str
    version: int
    effect: str
    #: Whether it was made: `yes`, `no`, `unknown`; `served`: another one was, and its result was given again.
    happened: str
    #: As of `Call`, with the run.
    undone: str | None
    by: str | None
    #: The tool that undoes it, and its arguments.
    undo: str | None
    arguments: Mapping[str, Any] | None
    #: Why it cannot be undone, and what to do; None: it can be.
    why: str | None
    remedy: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted:
    """What came of an act on many runs for one of them."""

    run_id: str
    #: `done`; `accepted`: its next turn will see to it; `refused`: nothing was changed.
    outcome: str
    #: Where it stands now; None: there is no such run.
    status: str | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a run's history: what was reported, or what was decided."""

    seq: int
    at: datetime
    kind: str
    format: int
    body: Mapping[str, Any]
    hash: str
    #: The users' data that the line points to, where it was asked for.
    payload: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line that a step printed; or some words of a model (`tokens`), as they came."""

    step: str
    attempt: int
    line: int
    #: `stdout`, `stderr`; `tokens`: text that goes on where the one before ended, no line of its own.
    stream: str
    text: str
    at: datetime
    #: Of tokens: the call of the step that they are said in.
    call: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A place in history that a run can be taken up from."""

    seq: int
    at: datetime
    step: str | None
    snapshot: bool
    name: str | None = None
    named_by: str | None = None
    #: The run has gone back to before it.
    rolled_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WentBack:
    """What became of a run that went back to a line of its history."""

    #: The line that it went back to, and the line that says so.
    to: int
    seq: int
    #: Steps that were live until then, and have ended.
    ended: tuple[str, ...]
    #: Steps that were live there, each with the name under which it begins anew.
    anew: Mapping[str, str]
    #: What its attempts had used by the line that it went back to, and what they really have.
    spent_there: Mapping[str, float]
    spent: Mapping[str, float]
    #: What was charged for the run so far, with what is assumed of attempts that were cut off.
    charged: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A call of a run, and what would become of it in one that goes on from a place."""

    #: What it is called in choices.
    name: str
    run: str
    step: str
    ordinal: int
    tool: str
    version: int
    #: `pure`, `idempotent`, `at_most_once`, `compensable`.
    effect: str
    #: Whether it was made: `yes`, `no`, `unknown`; `undone`, or `undoing` while a run is at that.
    happened: str
    #: `served`, `asked`, `repeated`, `undecided`.
    becomes: str
    #: It was made after the place: what becomes of it can be chosen.
    later: bool
    #: It is of a run within, which is started anew and makes its own calls.
    anew: bool
    #: What can be chosen for it.
    choices: tuple[str, ...] = ()
    #: The run that undoes it, or was to.
    undone_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A run just after a line of its history."""

    seq: int
    name: str | None
    named_by: str | None
    #: Where its threads stand: `steps` that are live, `tokens` on edges.
    frontier: Mapping[str, Any]
    #: What its attempts had used by then.
    spent: Mapping[str, float]
    state: Mapping[str, Any]
    against: int | None
    #: What has changed since the line that it was held against.
    difference: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a run, as a stream tells it."""

    #: How far a reader has come that has read this: where a stream can be taken up.
    id: str
    told: Line | LogLine


def read(kind: type[T], data: Any, **others: Any) -> T:
    """A record of an answer's JSON."""
    reader: Callable[[Any], T] = _reader(typing.cast("Any", kind))
    return reader({**data, **others})


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """A function that reads JSON data as the annotated type. Built once per type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is datetime:
        return datetime.fromisoformat
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if kind is Decimal:
        # As it was written: the float that it became has no fewer digits.
        return lambda data: Decimal(str(data))
    if is_dataclass(kind):
        return _record_reader(kind)
    if origin in (typing.Union, types.UnionType):
        return _optional_reader(arguments)
    if origin is tuple:
        entry = _reader(arguments[0])
        return lambda data: tuple(entry(value) for value in data)
    if origin is Mapping and arguments[1] is Decimal:
        return lambda data: {name: Decimal(str(value)) for name, value in data.items()}
    return lambda data: data


#: What records name and cannot import: it reads them itself.
_ELSEWHERE = {"Client": object}


def _record_reader(kind: Any) -> Callable[[Any], Any]:
    readers: dict[str, Callable[[Any], Any]] = {}

    def read(data: Any) -> Any:
        if not readers:
            # Not before it is needed: a record may hold others of its own kind.
            hints = typing.get_type_hints(kind, localns=_ELSEWHERE)
            readers.update({item.name: _reader(hints[item.name]) for item in fields(kind)})
        return kind(**{name: each(data[name]) for name, each in readers.items() if name in data})

    return read


def _optional_reader(arguments: tuple[Any, ...]) -> Callable[[Any], Any]:
    others = [argument for argument in arguments if argument is not type(None)]
    if len(others) != 1:
        return lambda data: data
    reader = _reader(others[0])
    return lambda data: None if data is None else reader(data)
