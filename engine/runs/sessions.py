"""Sessions: runs that a client drives step by step. What they are is told in `engine.sessions`.

Each function reads the history of the run, works out the event that follows from it, sends it, and
takes the turn, so that what needs no worker is done when it returns. Whoever finds that another
step came first is told so by a `Conflict`, and nothing has happened.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.core import codec
from engine.core import messages as msg
from engine.core.principal import EVERYTHING, covers
from engine.core.values import Inline, Json, Value
from engine.errors import Conflict, Forbidden, NotFound
from engine.platform import Platform
from engine.runs import answers, catalogue, control, events, large, launch, views, waits
from engine.runs.waits import PEOPLE, Open
from engine.sessions import config, graph, steps, story
from engine.sessions.steps import Offer, Sender, Wanted
from engine.sessions.story import Story
from engine.sessions.words import (
    Checkpoint,
    StepStatus,
    StepType,
    Workflow,
    WorkflowStep,
)
from engine.store import runs, session
from engine.store.ids import RunId

#: Lines of history that are read at a time.
_BATCH = 1000
#: What the act of an event tells of it: nothing that may have to be shredded.
_TOLD = ("step_id", "step_type", "tool_name", "checkpoint_id")
#: Kinds of waits that a person ends.
_ASKED = PEOPLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """A session in a list."""

    workflow_id: str
    run_id: str
    status: str
    created_by: str
    created_at: Any
    completed_at: Any


def begin(
    platform: Platform,
    tenant: str,
    name: str,
    *,
    description: str = "",
    user_id: str | None = None,
    settings: Mapping[str, Any] | None = None,
    context: Mapping[str, Json] | None = None,
    by: str,
    scopes: Collection[str] | None = None,
    idempotency_key: str | None = None,
) -> Workflow:
    """Begin a session. Raises `Invalid` with every problem of its configuration.

    `user_id` is for whom it is, as its client says; what it may do is a matter of who asks.
    """
    found = config.read(settings or {})
    version = catalogue.publish_own(platform, tenant, graph.document(found), by=by)
    inputs: dict[str, Json] = {
        "name": name,
        "description": description,
        "user_id": user_id or by,
        "config": found.told(),
        "context": dict(context or {}),
    }
    run = launch.submit(
        platform,
        tenant,
        version.id,
        inputs,
        by=by,
        scopes=scopes,
        idempotency_key=idempotency_key,
    ).run
    control.fold(platform, run)
    return read(platform, run)


def read(platform: Platform, run: RunId) -> Workflow:
    """A session as far as it has come. Raises `NotFound`."""
    return _story(platform, run).workflow


def page(
    platform: Platform, tenant: str, *, before: str | None = None, limit: int = 100
) -> tuple[Brief, ...]:
    """The sessions of a tenant, newest first, older than the run of an id."""
    found = views.runs(platform, tenant, workflow=graph.NAME, before=before, limit=limit)
    return tuple(
        Brief(
            workflow_id=story.workflow_id(run.id),
            run_id=run.id,
            status=run.status,
            created_by=run.submitted_by,
            created_at=run.created_at,
            completed_at=run.finished_at,
        )
        for run in found
    )


def step(
    platform: Platform,
    run: RunId,
    wanted: Wanted,
    *,
    by: str,
    scopes: Collection[str] | None = None,
    anyway: bool = False,
) -> WorkflowStep:
    """Send a step; how far it has come. The same step, sent again, is one.

    Raises `NotFound`, `Invalid` for a step that is wrong in itself, `Forbidden` for who has not begun
    the session (unless `anyway`: who may everything) or whose credential is a narrower one, and `Conflict` when it has ended, is paused or
    at another step, or another came first.
    """
    _check_own(platform, run, by, anyway=anyway)
    _check_scopes(platform, run, scopes)
    known = _story(platform, run)
    if (found := known.workflow.step(wanted.step_id)) is not None:
        return found
    offers: dict[str, Offer | None] = {}

    def offer(name: str) -> Offer | None:
        if name not in offers:
            offers[name] = _offer(platform, run.tenant, name)
        return offers[name]

    with session.transaction(platform.database) as connection:
        now = session.now(connection)
    event = steps.event(known, wanted, Sender(by=by, now=now, offer=offer))
    after = _send(platform, run, event, by=by)
    # It may not be folded yet, where somebody else holds the run.
    return after.workflow.step(wanted.step_id) or WorkflowStep(
        step_id=wanted.step_id,
        step_type=wanted.step_type,
        name=wanted.name,
        description=wanted.description,
        input_data=dict(wanted.input_data),
    )


def show(platform: Platform, run: RunId, step_id: str) -> WorkflowStep:
    """A step of a session. Raises `NotFound`, and `Conflict` for one that came too late to count."""
    found = _story(platform, run)
    return _shown(found, step_id)


def checkpoint(
    platform: Platform, run: RunId, name: str, *, by: str, anyway: bool = False
) -> Checkpoint:
    """Keep a place to go back to, now. Raises as `step` does."""
    wanted = Wanted(step_type=StepType.CHECKPOINT, name=name)
    made = step(platform, run, wanted, by=by, anyway=anyway)
    if made.status is not StepStatus.COMPLETED:
        raise Conflict(made.error or "the checkpoint is still to be made; look again")
    return next(
        each
        for each in read(platform, run).checkpoints
        if made.output_data is not None
        and each.checkpoint_id == made.output_data.get("checkpoint_id")
    )


def rollback(
    platform: Platform, run: RunId, checkpoint_id: str, *, by: str, anyway: bool = False
) -> Workflow:
    """Set a session back to a checkpoint; it afterwards. Raises as `step` does."""
    _check_own(platform, run, by, anyway=anyway)
    event = steps.rollback(_story(platform, run), checkpoint_id, by)
    return _send(platform, run, event, by=by).workflow


def complete(platform: Platform, run: RunId, *, by: str, anyway: bool = False) -> Workflow:
    """End a session as done; it afterwards. Raises as `step` does."""
    _check_own(platform, run, by, anyway=anyway)
    event = steps.completion(_story(platform, run), by)
    return _send(platform, run, event, by=by).workflow


def answer(
    platform: Platform,
    run: RunId,
    step_id: str,
    choice: str | None = None,
    *,
    reason: str = "",
    given: Json = None,
    digest: str | None = None,
    by: str,
    roles: Sequence[str] = (),
) -> WorkflowStep:
    """Answer for a step that waits for somebody: `approve` or `deny`, or what it is `given`.

    Where the answer is bound to a call, `digest` is that of what was shown with the step; without it
    a call that the platform's own rules ask about is allowed as its step shows it. Raises `NotFound`;
    `Conflict` when nobody is asked for it, or any more, and where what would be called is not what
    was shown; `Forbidden` for whoever is not asked.
    """
    known = _story(platform, run)
    found = _shown(known, step_id)
    wait = _asked(platform, run, known.workflow.place(step_id))
    if wait is None or found.status is not StepStatus.WAITING_APPROVAL:
        of = " as a whole: answer for its child_steps" if found.child_steps else ""
        raise Conflict(f"step {step_id} is {found.status}; nobody is asked for it{of}")
    if choice == graph.APPROVE and not _shows(found, wait):
        raise Conflict(
            f"more is asked than step {step_id} shows; look at {wait.request_id} among what people"
            " are asked, and answer it there"
        )
    asks_choice = bool(wait.choices)
    if asks_choice is (choice is None):
        what = "to be allowed or denied" if asks_choice else "for an input"
        raise Conflict(f"step {step_id} waits {what}")
    form: dict[str, Json] = {"input": given}
    if choice is not None:
        fields: Any = (wait.form or {}).get("properties", {}) if isinstance(wait.form, dict) else {}
        form = {"reason": reason} if "reason" in fields else {}
    answers.answer(
        platform,
        run,
        wait.step,
        by=by,
        roles=roles,
        choice=choice,
        form=form,
        reason=reason,
        digest=digest or wait.digest,
    )
    return show(platform, run, step_id)


def _check_own(platform: Platform, run: RunId, by: str, *, anyway: bool) -> None:
    """A session does what its steps say in the name of who began it: nobody else may say it."""
    owner = views.summary(platform, run).submitted_by
    if by != owner and not anyway:
        raise Forbidden(f"the session belongs to {owner}; begin one of your own")


def _check_scopes(platform: Platform, run: RunId, scopes: Collection[str] | None) -> None:
    """A credential that was narrowed does nothing by a session of a wider one."""
    with session.transaction(platform.database) as connection:
        held = runs.glance(connection, run).scopes
    wider = (EVERYTHING,) if held is None else held
    if scopes is not None and not all(covers(scopes, one) for one in wider):
        raise Forbidden(
            "the session was begun with a credential that may do more; begin one of your own"
        )


def _shown(found: Story, step_id: str) -> WorkflowStep:
    known = found.workflow.step(step_id)
    if known is not None:
        return known
    if step_id in found.stale:
        raise Conflict(f"another step came before {step_id}; send it again as a new one")
    raise NotFound(f"Step not found: {step_id} of {found.workflow.workflow_id}")


def _send(platform: Platform, run: RunId, event: Mapping[str, Json], *, by: str) -> Story:
    """Send an event and take the turn; the session afterwards. Raises `Conflict` if it came late."""
    step_id = str(event["step_id"])
    key = f"session:{run.run}:{step_id}"
    told = {name: event[name] for name in _TOLD if event.get(name) is not None}
    own = events.Own(action=f"session.{event['kind']}", detail=told)
    events.send(
        platform, run.tenant, graph.EVENT, dict(event), by=by, run=run.run, key=key, own=own
    )
    control.fold(platform, run)
    after = _story(platform, run)
    if step_id in after.stale:
        raise Conflict(f"another step came before {step_id}; read the session again, then decide")
    return after


def _offer(platform: Platform, tenant: str, name: str) -> Offer | None:
    """A tool as it would be called now, if this run has not pinned an older one."""
    plain, _, version = name.partition("@")
    number = int(version) if version.isdecimal() and len(version) < 10 else None  # noqa: PLR2004  # digits of a version
    try:
        found = catalogue.function(platform, tenant, "tool", plain, number)
    except NotFound:
        return None
    return Offer(terms=found.terms, standing=found.standing, takes=tuple(found.parameters))


def _asked(platform: Platform, run: RunId, place: int | None) -> Open | None:
    """What people are asked for the step under way; for one of its calls side by side, of that."""
    found = waits.page(platform, run.tenant, kinds=_ASKED, run=run.run, limit=config.MAX_STEPS)
    if place is None:
        return next((wait for wait in found if "." not in wait.step), None)
    return next((wait for wait in found if wait.step.endswith(f".{place}")), None)


def _shows(step: WorkflowStep, wait: Open) -> bool:
    """Whether a step shows all that somebody allows by it.

    A policy may have changed the arguments of a call, or ask about its result.
    """
    if wait.digest is None:
        return True
    if wait.tool is None:
        return isinstance(wait.show, dict) and "result" not in wait.show
    return wait.arguments == step.input_data


def _story(platform: Platform, run: RunId) -> Story:
    head = views.summary(platform, run)
    if head.workflow != graph.NAME:
        raise NotFound(f"Session not found: {story.workflow_id(run.run)}")
    look = large.reader(platform, run.tenant)

    def looked(value: Value) -> Json:
        return value.value if isinstance(value, Inline) else look(value)

    return story.tell(run.run, _entries(platform, run, head), looked)


def _entries(platform: Platform, run: RunId, head: views.Summary) -> Iterator[msg.Entry]:
    """The history of a run; of one whose first turn is still to come, what it was submitted with."""
    after = 0
    while lines := views.history(platform, run, after=after, limit=_BATCH, payloads=True):
        for line in lines:
            record = codec.read(
                line.kind, line.body, line.payload or {}, at=line.at, number=line.format
            )
            yield msg.Entry(at=line.at, record=record)
        after = lines[-1].seq
    if after == 0:
        inputs = views.inputs(platform, run)
        submitted = msg.RunSubmitted(at=head.created_at, by=head.submitted_by, inputs=inputs)
        yield msg.Entry(at=head.created_at, record=submitted)
