"""Sessions on a platform, over its client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.errors import NotFound
from engine.sessions.config import Config
from engine.sessions.steps import Wanted
from engine.sessions.words import SETTLED, AgentState, StepStatus, Workflow

if TYPE_CHECKING:
    from celeriac.client import Client

#: How long is waited before it is looked again, at first and at most.
_GLANCE, _LONGEST = 0.02, 0.5
#: How long a step that was accepted may be nowhere to be found.
_PATIENCE = 30.0
_LISTED = 100


class Remote:
    """Sessions by id, as the platform tells of them."""

    def __init__(self, client: Client) -> None:
        self._sessions = client.sessions
        #: What each step was last shown to ask about, by its digest: an answer is for that alone.
        self._seen: dict[tuple[str, str], str] = {}

    async def begin(
        self,
        name: str,
        description: str,
        user_id: str,
        config: Config,
        context: Mapping[str, Any],
    ) -> Workflow:
        return await asyncio.to_thread(
            self._sessions.begin,
            name,
            description=description,
            user_id=user_id,
            config=config.told(),
            context=context,
        )

    async def read(self, workflow_id: str) -> Workflow:
        workflow = await asyncio.to_thread(self._sessions.get, workflow_id)
        for step in workflow.steps:
            if step.approval is not None and step.approval.digest is not None:
                self._seen[workflow_id, step.step_id] = step.approval.digest
        return workflow

    async def workflows(self) -> tuple[Workflow, ...]:
        found = await asyncio.to_thread(self._sessions.ids, _LISTED)
        return tuple([await self.read(each) for each in found])

    async def step(self, workflow_id: str, wanted: Wanted) -> Workflow:
        await asyncio.to_thread(self._sessions.step, workflow_id, wanted)
        return await self._over(workflow_id, wanted.step_id)

    async def rollback(self, workflow_id: str, checkpoint_id: str) -> Workflow:
        return await asyncio.to_thread(self._sessions.rollback, workflow_id, checkpoint_id)

    async def complete(self, workflow_id: str) -> Workflow:
        return await asyncio.to_thread(self._sessions.complete, workflow_id)

    async def answer(
        self,
        workflow_id: str,
        step_id: str,
        choice: str | None,
        *,
        reason: str = "",
        given: Any = None,
        by: str,  # noqa: ARG002  # the credential says who it is
    ) -> Workflow:
        await asyncio.to_thread(
            self._sessions.answer,
            workflow_id,
            step_id,
            choice,
            reason=reason,
            given=given,
            digest=self._seen.get((workflow_id, step_id)),
        )
        return await self._over(workflow_id, step_id, asked=True)

    async def control(self, workflow_id: str, action: str, reason: str) -> Workflow:
        return await asyncio.to_thread(self._sessions.control, workflow_id, action, reason)

    async def _over(self, workflow_id: str, step_id: str, *, asked: bool = False) -> Workflow:
        """A session once a step of it is over, waits for somebody, or may not go on.

        `asked`: somebody has answered, so that what it waited for may be shown a moment longer.
        """
        pause, looks, began = _GLANCE, 0, time.monotonic()
        while True:
            workflow = await self.read(workflow_id)
            step = workflow.step(step_id)
            if step is None:
                await self._late(workflow_id, step_id, since=began)
            elif (
                step.status in SETTLED
                or workflow.ended
                or workflow.state is AgentState.PAUSED
                or (step.status is StepStatus.WAITING_APPROVAL and (not asked or looks > 0))
            ):
                return workflow
            await asyncio.sleep(pause)
            pause, looks = min(pause * 1.5, _LONGEST), looks + 1

    async def _late(self, workflow_id: str, step_id: str, *, since: float) -> None:
        """Raise for a step that will not come: another came first, or it is nowhere to be found."""
        try:
            await asyncio.to_thread(self._sessions.show, workflow_id, step_id)
        except NotFound:
            # It was accepted, and is folded as soon as whoever holds the run looks again.
            if time.monotonic() - since > _PATIENCE:
                raise
