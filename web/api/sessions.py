"""Sessions: runs that a client drives step by step, in the words of seed 003."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import request

from engine.core.principal import EVERYTHING
from engine.errors import NotFound
from engine.runs import control, sessions
from engine.sessions import graph, story
from engine.sessions.steps import Child, Wanted
from engine.sessions.words import Checkpoint, Workflow, WorkflowStep
from engine.store.ids import RunId
from web import body, pagination, principal, site
from web.routing import Routes
from web.schemas.pages import PageArguments, page_of
from web.schemas.runs import ReasonSchema
from web.schemas.sessions import (
    GivenSchema,
    NewCheckpointSchema,
    NewSessionSchema,
    NewStepSchema,
    RollbackToSchema,
    SessionAnswerSchema,
    SessionBriefSchema,
    SessionCheckpointSchema,
    SessionCheckpointsSchema,
    SessionSchema,
    SessionStepSchema,
)

routes = Routes(
    "sessions",
    __name__,
    url_prefix="/api/v1/sessions",
    description="Runs that a client drives step by step.",
)

_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "description": "What is asked for under one key is one session",
    "schema": {"type": "string", "maxLength": body.IDEMPOTENCY_KEY_CHARACTERS},
}


@routes.on("POST", "", needs="run:start")
@routes.described(parameters=[_KEY])
@routes.takes(NewSessionSchema)
@routes.gives(SessionSchema, HTTPStatus.CREATED)
def begin(asked: dict[str, Any]) -> tuple[Workflow, int, dict[str, str]]:
    """Begin a session."""
    here, who = site.current(), principal.current()
    found = sessions.begin(
        here.platform,
        who.tenant,
        asked["name"],
        description=asked["description"],
        user_id=asked["user_id"],
        settings=asked["config"],
        context=asked["context"],
        by=who.user,
        scopes=who.scopes,
        idempotency_key=body.idempotency_key(request),
    )
    place = f"/api/v1/sessions/{found.workflow_id}"
    return found, HTTPStatus.CREATED, {"Location": place}


@routes.on("GET", "", needs="run:read")
@routes.query(PageArguments)
@routes.gives(page_of(SessionBriefSchema))
def list_sessions(arguments: dict[str, Any]) -> dict[str, Any]:
    """List sessions, newest first."""
    limit = arguments["limit"]
    found = sessions.page(
        site.current().platform,
        principal.current().tenant,
        before=pagination.id_of(arguments.get("cursor")),
        limit=limit + 1,
    )
    return pagination.page(found, limit=limit, key=lambda session: session.run_id)


@routes.on("GET", "/<session_id>", needs="run:read")
@routes.gives(SessionSchema)
def show(session_id: str) -> Workflow:
    """Get a session as far as it has come."""
    return sessions.read(site.current().platform, _named(session_id))


@routes.on("POST", "/<session_id>/steps", needs="event:send")
@routes.takes(NewStepSchema)
@routes.gives(SessionStepSchema, HTTPStatus.CREATED)
def step(asked: dict[str, Any], session_id: str) -> tuple[WorkflowStep, int, dict[str, str]]:
    """Send the next step. What needs a worker goes on behind; ask for it until it is over."""
    run, who = _named(session_id), principal.current()
    calls = [Child(**each) for each in asked["child_steps"]]
    found = sessions.step(
        site.current().platform,
        run,
        Wanted(**{**asked, "child_steps": calls}),
        by=who.user,
        scopes=who.scopes,
        anyway=who.may(EVERYTHING),
    )
    _nudge(run)
    place = f"/api/v1/sessions/{story.workflow_id(run.run)}/steps/{found.step_id}"
    return found, HTTPStatus.CREATED, {"Location": place}


@routes.on("GET", "/<session_id>/steps/<step_id>", needs="run:read")
@routes.gives(SessionStepSchema)
def show_step(session_id: str, step_id: str) -> WorkflowStep:
    """Get a step as far as it has come."""
    return sessions.show(site.current().platform, _named(session_id), step_id)


@routes.on("POST", "/<session_id>/steps/<step_id>/approve", needs="approval:answer")
@routes.takes(SessionAnswerSchema, required=False)
@routes.gives(SessionStepSchema)
def approve(asked: dict[str, Any], session_id: str, step_id: str) -> WorkflowStep:
    """Allow a step that waits for it: then its tool is called."""
    return _answer(session_id, step_id, graph.APPROVE, **asked)


@routes.on("POST", "/<session_id>/steps/<step_id>/deny", needs="approval:answer")
@routes.takes(SessionAnswerSchema, required=False)
@routes.gives(SessionStepSchema)
def deny(asked: dict[str, Any], session_id: str, step_id: str) -> WorkflowStep:
    """Do not allow a step that waits for it: it has failed."""
    return _answer(session_id, step_id, graph.DENY, **asked)


@routes.on("POST", "/<session_id>/steps/<step_id>/input", needs="approval:answer")
@routes.takes(GivenSchema)
@routes.gives(SessionStepSchema)
def give(asked: dict[str, Any], session_id: str, step_id: str) -> WorkflowStep:
    """Give a step what it waits for."""
    return _answer(session_id, step_id, None, given=asked["input"])


@routes.on("GET", "/<session_id>/checkpoints", needs="run:read")
@routes.gives(SessionCheckpointsSchema)
def checkpoints(session_id: str) -> dict[str, Any]:
    """List the checkpoints of a session, in their order."""
    found = sessions.read(site.current().platform, _named(session_id))
    return {"items": found.checkpoints}


@routes.on("POST", "/<session_id>/checkpoints", needs="event:send")
@routes.takes(NewCheckpointSchema, required=False)
@routes.gives(SessionCheckpointSchema, HTTPStatus.CREATED)
def checkpoint(asked: dict[str, Any], session_id: str) -> Checkpoint:
    """Keep a place to go back to, now. It is a step like any other."""
    who = principal.current()
    return sessions.checkpoint(
        site.current().platform,
        _named(session_id),
        asked["name"],
        by=who.user,
        anyway=who.may(EVERYTHING),
    )


@routes.on("POST", "/<session_id>/rollback", needs="run:control")
@routes.takes(RollbackToSchema)
@routes.gives(SessionSchema)
def rollback(asked: dict[str, Any], session_id: str) -> Workflow:
    """Set a session back to a checkpoint. Later steps are marked; what was spent stays spent."""
    who = principal.current()
    return sessions.rollback(
        site.current().platform,
        _named(session_id),
        asked["checkpoint_id"],
        by=who.user,
        anyway=who.may(EVERYTHING),
    )


@routes.on("POST", "/<session_id>/complete", needs="run:control")
@routes.gives(SessionSchema)
def complete(session_id: str) -> Workflow:
    """End a session as done; it takes no more steps."""
    who = principal.current()
    return sessions.complete(
        site.current().platform,
        _named(session_id),
        by=who.user,
        anyway=who.may(EVERYTHING),
    )


@routes.on("POST", "/<session_id>/cancel", needs="run:control")
@routes.takes(ReasonSchema, required=False)
@routes.gives(SessionSchema)
def cancel(asked: dict[str, Any], session_id: str) -> Workflow:
    """Stop a session, whatever it is at."""
    run = _found(session_id)
    control.cancel(
        site.current().platform, run, by=principal.current().user, reason=asked["reason"]
    )
    return sessions.read(site.current().platform, run)


@routes.on("POST", "/<session_id>/pause", needs="run:control")
@routes.takes(ReasonSchema, required=False)
@routes.gives(SessionSchema)
def pause(asked: dict[str, Any], session_id: str) -> Workflow:
    """Let nothing new of a session start."""
    run = _found(session_id)
    control.pause(site.current().platform, run, by=principal.current().user, reason=asked["reason"])
    return sessions.read(site.current().platform, run)


@routes.on("POST", "/<session_id>/resume", needs="run:control")
@routes.takes(ReasonSchema, required=False)
@routes.gives(SessionSchema)
def resume(asked: dict[str, Any], session_id: str) -> Workflow:
    """Let a paused session go on."""
    run = _found(session_id)
    control.resume(
        site.current().platform, run, by=principal.current().user, reason=asked["reason"]
    )
    _nudge(run)
    return sessions.read(site.current().platform, run)


def _answer(
    session_id: str,
    step_id: str,
    choice: str | None,
    *,
    reason: str = "",
    given: Any = None,
    digest: str | None = None,
) -> WorkflowStep:
    who, run = principal.current(), _named(session_id)
    found = sessions.answer(
        site.current().platform,
        run,
        step_id,
        choice,
        reason=reason,
        given=given,
        digest=digest,
        by=who.user,
        roles=sorted(who.roles),
    )
    _nudge(run)
    return found


def _nudge(run: RunId) -> None:
    """Let a coordinator look, too: the turn that was taken here may have been somebody else's."""
    site.current().nudger.nudge(run)


def _found(session_id: str) -> RunId:
    """The run of a session that there is. Raises `NotFound`."""
    run = _named(session_id)
    sessions.read(site.current().platform, run)
    return run


def _named(session_id: str) -> RunId:
    """The run of an address, of whoever asks. Raises `NotFound` for what is no id."""
    found = body.uuid(story.run_of(session_id))
    if found is None:
        raise NotFound(f"Session not found: {session_id}")
    return RunId(principal.current().tenant, found)
