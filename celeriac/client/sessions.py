"""Sessions of a platform: runs that a client drives step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from celeriac.client import records
from celeriac.client.wire import Wire
from engine.sessions.steps import Wanted
from engine.sessions.words import Checkpoint, Workflow, WorkflowStep

_PLACE = "/api/v1/sessions"


class Sessions:
    """What can be asked of sessions. Raises as `Client` does."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def begin(
        self,
        name: str,
        *,
        description: str = "",
        user_id: str | None = None,
        config: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Workflow:
        """Begin a session."""
        body = {
            "name": name,
            "description": description,
            "user_id": user_id,
            "config": dict(config or {}),
            "context": dict(context or {}),
        }
        key = idempotency_key or str(uuid4())
        return records.read(Workflow, self._wire.post(_PLACE, body, idempotency_key=key))

    def ids(self, limit: int = 100) -> tuple[str, ...]:
        """The newest sessions, by their ids."""
        found = self._wire.get(_PLACE, limit=limit)["items"]
        return tuple(each["workflow_id"] for each in found)

    def get(self, session: str) -> Workflow:
        """A session as far as it has come."""
        return records.read(Workflow, self._wire.get(_place(session)))

    def step(self, session: str, wanted: Wanted) -> WorkflowStep:
        """Send a step; how far it has come. Sent again, it is the same step."""
        body = {
            "step_id": wanted.step_id,
            "step_type": str(wanted.step_type),
            "name": wanted.name,
            "description": wanted.description,
            "input_data": dict(wanted.input_data),
            "tool_name": wanted.tool_name,
            "on_failure": wanted.on_failure,
            "condition": wanted.condition,
            "child_steps": [
                {
                    "name": each.name,
                    "tool_name": each.tool_name,
                    "input_data": dict(each.input_data),
                }
                for each in wanted.child_steps
            ],
        }
        found = self._wire.post(
            f"{_place(session)}/steps", body, idempotency_key=f"{session}/{wanted.step_id}"
        )
        return records.read(WorkflowStep, found)

    def show(self, session: str, step: str) -> WorkflowStep:
        """A step, as far as it has come."""
        return records.read(
            WorkflowStep, self._wire.get(f"{_place(session)}/steps/{_quoted(step)}")
        )

    def answer(
        self,
        session: str,
        step: str,
        choice: str | None,
        *,
        reason: str = "",
        given: Any = None,
        digest: str | None = None,
    ) -> WorkflowStep:
        """Answer for a step: `approve`, `deny`, or, without a choice, what it is `given`.

        `digest` is that of its approval as it was shown: if something else is asked by now, it is
        refused. Without it the answer is for whatever the session asks.
        """
        body = {"input": given} if choice is None else {"reason": reason, "digest": digest}
        place = f"{_place(session)}/steps/{_quoted(step)}/{choice or 'input'}"
        return records.read(WorkflowStep, self._wire.post(place, body))

    def checkpoint(self, session: str, name: str = "checkpoint") -> Checkpoint:
        """Keep a place to go back to, now."""
        found = self._wire.post(f"{_place(session)}/checkpoints", {"name": name})
        return records.read(Checkpoint, found)

    def rollback(self, session: str, checkpoint: str) -> Workflow:
        """Set a session back to a checkpoint; it afterwards."""
        body = {"checkpoint_id": checkpoint}
        return records.read(Workflow, self._wire.post(f"{_place(session)}/rollback", body))

    def complete(self, session: str) -> Workflow:
        """End a session as done; it afterwards."""
        return records.read(Workflow, self._wire.post(f"{_place(session)}/complete", {}))

    def control(self, session: str, action: str, reason: str = "") -> Workflow:
        """`cancel`, `pause` or `resume` a session; it afterwards."""
        found = self._wire.post(f"{_place(session)}/{action}", {"reason": reason})
        return records.read(Workflow, found)


def _place(session: str) -> str:
    return f"{_PLACE}/{_quoted(session)}"


def _quoted(name: str) -> str:
    return quote(name, safe="")
