"""Sessions on a platform, over its client."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.sessions.config import Config
from engine.sessions.steps import Wanted
from engine.sessions.words import SETTLED, StepStatus, Workflow

if TYPE_CHECKING:
    from celeriac.client import Client

#: How long is waited before it is looked again, at first and at most.
_GLANCE, _LONGEST = 0.02, 0.5
_LISTED = 100


class Remote:
    """Sessions by id, as the platform tells of them."""

    def __init__(self, client: Client) -> None:
        self._sessions = client.sessions

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
        return await asyncio.to_thread(self._sessions.get, workflow_id)

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
            self._sessions.answer, workflow_id, step_id, choice, reason=reason, given=given
        )
        return await self._over(workflow_id, step_id, asked=True)

    async def control(self, workflow_id: str, action: str, reason: str) -> Workflow:
        return await asyncio.to_thread(self._sessions.control, workflow_id, action, reason)

    async def _over(self, workflow_id: str, step_id: str, *, asked: bool = False) -> Workflow:
        """A session once a step of it is over, or waits for somebody.

        `asked`: somebody has answered, so that what it waited for may be shown a moment longer.
        """
        pause, looks = _GLANCE, 0
        while True:
            step = await asyncio.to_thread(self._sessions.show, workflow_id, step_id)
            waits = step.status is StepStatus.WAITING_APPROVAL and (not asked or looks > 0)
            if step.status in SETTLED or waits:
                return await self.read(workflow_id)
            await asyncio.sleep(pause)
            pause, looks = min(pause * 1.5, _LONGEST), looks + 1
