"""The face of the step API: one class, whether its workflows run here or on a platform."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from celeriac.sdk.tools import ToolDefinition, ToolRegistry
from celeriac.steps.local import Local
from celeriac.steps.policies import Policy
from celeriac.steps.remote import Remote
from engine.errors import NotFound
from engine.sessions import config as configs
from engine.sessions import graph
from engine.sessions.config import Config
from engine.sessions.steps import Child, Wanted
from engine.sessions.words import Checkpoint, StepStatus, StepType, Workflow, WorkflowStep

if TYPE_CHECKING:
    from celeriac.client import Client


class AgenticWorkflowEngine:
    """Workflows that are driven step by step, in this process or on a platform.

    `permissions` are what users may, by their ids, in this process; without it, everybody may use
    every tool, for who can run this can call its handlers. On a platform they, and policies and
    budgets, are the platform's: what a step may is a matter of the credential of `client`.
    """

    def __init__(
        self,
        config: Config | Mapping[str, Any] | None = None,
        *,
        client: Client | None = None,
        tool_registry: ToolRegistry | None = None,
        permissions: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        if client is not None and permissions is not None:
            raise ValueError("on a platform permissions are given to users there")
        self.config = _config(config)
        self.tool_registry: ToolRegistry
        self._home: Local | Remote
        if client is None:
            self.tool_registry = tool_registry or ToolRegistry()
            self._home = Local(self.tool_registry, permissions)
        else:
            self.tool_registry = _Published(client)
            for name in tool_registry or ():
                assert tool_registry is not None
                self.tool_registry.register(tool_registry.definition(name), tool_registry[name])
            self._home = Remote(client)
        #: What was handed out; it is kept up to date.
        self._workflows: dict[str, Workflow] = {}

    def add_policy(self, policy: Policy) -> None:
        """Ask a policy before each call: an object with `evaluate(action, context)`.

        It answers ALLOW, DENY, REQUIRE_APPROVAL or MODIFY (`PolicyDecision`, a text, or a pair with
        a reason); to modify, it changes `action["arguments"]`. For this process alone: on a platform,
        policies are applied there.
        """
        if not isinstance(self._home, Local):
            raise TypeError("on a platform policies are applied there: celeriac policy apply")
        self._home.policies.append(policy)

    async def create_workflow(
        self,
        name: str,
        description: str = "",
        user_id: str = "local",
        *,
        config: Config | Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Workflow:
        """Begin a workflow. It is kept up to date as this engine carries it on. Raises `Invalid`."""
        settings = self.config if config is None else _config(config)
        return self._known(
            await self._home.begin(name, description, user_id, settings, context or {})
        )

    async def get_workflow(self, workflow_id: str) -> Workflow:
        """A workflow as far as it has come. Raises `NotFound`."""
        return self._known(await self._home.read(workflow_id))

    async def list_workflows(self) -> tuple[Workflow, ...]:
        """The workflows of this engine, or, on a platform, the hundred newest."""
        return tuple([self._known(each) for each in await self._home.workflows()])

    async def execute_step(
        self,
        workflow_id: str,
        step_type: StepType | str,
        name: str,
        description: str = "",
        input_data: Mapping[str, Any] | None = None,
        *,
        tool_name: str | None = None,
        on_failure: str | None = None,
        condition: str | None = None,
        child_steps: Sequence[Child | Mapping[str, Any]] = (),
        step_id: str | None = None,
    ) -> WorkflowStep:
        """Carry out a step; how it ended, or that it waits for somebody.

        In `input_data` a text such as `$context.Search.result` stands for what the step of that name
        left; what else begins with a dollar is itself. `on_failure` is `stop` (the workflow fails
        with it), `skip` (it counts as skipped) or `retry` (as often as the configuration says, then
        as `stop`); without it the step is failed and the workflow goes on. `condition` is an
        expression: if it does not hold the step is skipped. A step of type `parallel` makes the
        calls of its `child_steps` side by side. The same `step_id` is one step.

        Raises `Invalid` for a step that is wrong in itself, `NotFound`, and `Conflict` where the
        workflow has ended or is at another step.
        """
        more = {} if step_id is None else {"step_id": step_id}
        wanted = Wanted(
            step_type=StepType(step_type),
            name=name,
            description=description,
            input_data=dict(input_data or {}),
            tool_name=tool_name,
            on_failure=on_failure,
            condition=condition,
            child_steps=[
                each if isinstance(each, Child) else Child(**each) for each in child_steps
            ],
            **more,
        )
        return self._step(await self._home.step(workflow_id, wanted), wanted.step_id)

    async def approve_step(
        self, workflow_id: str, step_id: str, approved_by: str = "local", reason: str = ""
    ) -> WorkflowStep:
        """Allow a step that waits for it: its tool is called; the step afterwards.

        On a platform whoever the credential stands for has allowed it. Raises `Conflict` where
        nobody is asked, or any more.
        """
        return await self._answered(workflow_id, step_id, graph.APPROVE, approved_by, reason)

    async def deny_step(
        self, workflow_id: str, step_id: str, denied_by: str = "local", reason: str = ""
    ) -> WorkflowStep:
        """Do not allow a step that waits for it: it has failed. Raises as `approve_step` does."""
        return await self._answered(workflow_id, step_id, graph.DENY, denied_by, reason)

    async def provide_input(
        self, workflow_id: str, step_id: str, data: Any, provided_by: str = "local"
    ) -> WorkflowStep:
        """Give a step of type `human_input` what it waits for. Raises as `approve_step` does."""
        workflow = await self._home.answer(workflow_id, step_id, None, given=data, by=provided_by)
        return self._step(workflow, step_id)

    async def create_checkpoint(self, workflow_id: str, name: str = "checkpoint") -> Checkpoint:
        """Keep a place to go back to. It is a step like any other. Raises as `execute_step` does."""
        step = await self.execute_step(workflow_id, StepType.CHECKPOINT, name)
        workflow = self._workflows[workflow_id]
        if step.status is not StepStatus.COMPLETED or step.output_data is None:
            raise NotFound(f"no checkpoint was made: {step.error}")
        wanted = step.output_data["checkpoint_id"]
        return next(each for each in workflow.checkpoints if each.checkpoint_id == wanted)

    async def rollback(self, workflow_id: str, checkpoint_id: str) -> Workflow:
        """Set a workflow back to a checkpoint; it afterwards.

        Context, count and total are those of the checkpoint again; later steps are marked, none is
        deleted; what was spent stays spent (`spent_usd`). Raises `NotFound` and `Conflict`.
        """
        return self._known(await self._home.rollback(workflow_id, checkpoint_id))

    async def complete_workflow(self, workflow_id: str) -> Workflow:
        """End a workflow as done; it takes no more steps. Raises `NotFound` and `Conflict`."""
        return self._known(await self._home.complete(workflow_id))

    async def cancel_workflow(self, workflow_id: str, reason: str = "") -> Workflow:
        """Stop a workflow, whatever it is at. Raises `NotFound` and `Conflict`."""
        return self._known(await self._home.control(workflow_id, "cancel", reason))

    async def pause_workflow(self, workflow_id: str, reason: str = "") -> Workflow:
        """Let nothing new of a workflow start. Raises `NotFound` and `Conflict`."""
        return self._known(await self._home.control(workflow_id, "pause", reason))

    async def resume_workflow(self, workflow_id: str, reason: str = "") -> Workflow:
        """Let a paused workflow go on. Raises `NotFound` and `Conflict`."""
        return self._known(await self._home.control(workflow_id, "resume", reason))

    async def _answered(
        self, workflow_id: str, step_id: str, choice: str, by: str, reason: str
    ) -> WorkflowStep:
        workflow = await self._home.answer(workflow_id, step_id, choice, reason=reason, by=by)
        return self._step(workflow, step_id)

    def _step(self, workflow: Workflow, step_id: str) -> WorkflowStep:
        found = self._known(workflow).step(step_id)
        assert found is not None, "it was carried out"
        return found

    def _known(self, fresh: Workflow) -> Workflow:
        """The workflow that was handed out before, as it is now."""
        known = self._workflows.setdefault(fresh.workflow_id, fresh)
        for each in fields(Workflow):
            setattr(known, each.name, getattr(fresh, each.name))
        return known


class _Published(ToolRegistry):
    """Tools that a platform is told of as soon as they are registered here."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    def register(self, definition: ToolDefinition, handler: Callable[..., Any]) -> None:
        """Register a tool by the source of its handler. Raises `Invalid`, as `Client` does."""
        self._client.register_tool(handler, definition=definition)
        super().register(definition, handler)


def _config(given: Config | Mapping[str, Any] | None) -> Config:
    if isinstance(given, Config):
        return configs.read(given.told())
    return configs.read(given or {})
