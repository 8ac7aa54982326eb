"""The client of a platform's API."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx2

from celeriac.client import records, sources, tool_servers, wire
from celeriac.client.errors import ApiError, Blocked, Conflict, NotFound, Unavailable
from celeriac.client.records import (
    Acted,
    Agent,
    Answered,
    AppliedPolicy,
    Approval,
    Budgets,
    Call,
    Came,
    Capability,
    Checkpoint,
    Delegation,
    Draft,
    Effect,
    Event,
    Function,
    Key,
    Line,
    LogLine,
    Me,
    Migration,
    Place,
    Policy,
    Result,
    Secret,
    SentEvent,
    Step,
    Tool,
    Undoable,
    Usage,
    User,
    Version,
    Wait,
    WentBack,
)
from celeriac.client.run import Run
from celeriac.client.sessions import Sessions
from celeriac.client.tool_servers import Synced
from celeriac.client.wire import Wire
from celeriac.sdk.graph import WorkflowGraph
from celeriac.sdk.tools import ToolDefinition, get_global_registry
from engine import tools
from engine.core import document, values
from engine.errors import Invalid
from engine.settings import Settings

DEFAULT_URL = "http://127.0.0.1:8000"
#: How long one request waits for a run to end before it is sent again.
WAIT_SECONDS = 30.0
_PAGE = 500
#: Calls that one run is asked to undo.
_UNDONE_AT_ONCE = 500
_YAML = "application/yaml"

T = TypeVar("T")

#: A document as text (YAML or JSON), file or data, or a graph of Python functions.
Workflow: TypeAlias = str | Path | Mapping[str, Any] | WorkflowGraph
#: A document as text (YAML or JSON), file or data.
Document: TypeAlias = str | Path | Mapping[str, Any]


class Client:
    """Speaks to the platform at `url`.

    Without a `url` that is `CELERIAC_URL`, else this machine's; without an `api_key`
    `CELERIAC_API_KEY`, else, on this machine, the key of the embedded platform. What reads is
    sent again while the platform cannot answer, and so is a submission, under a key that makes
    it one run however often it arrives. Errors are classes of `celeriac.client.errors`.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        found = (url or os.environ.get("CELERIAC_URL") or DEFAULT_URL).rstrip("/")
        self._wire = Wire(found, api_key or _key(found), timeout=timeout, transport=transport)
        #: Runs that are driven step by step.
        self.sessions = Sessions(self._wire)

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- functions, tools, workflows ----------------------------------------------------------

    def register_function(
        self,
        function: Callable[..., Any] | str,
        *,
        name: str | None = None,
        description: str | None = None,
    ) -> Function:
        """Register a function, or source that defines one; runs submitted from now on use it.

        Raises `Invalid`. Registering the same thing again is the same version.
        """
        return self._register("functions", _new(function, name, description))

    def register_tool(
        self,
        function: Callable[..., Any] | str,
        *,
        name: str | None = None,
        description: str | None = None,
        definition: ToolDefinition | None = None,
        **terms: Any,
    ) -> Tool:
        """Register a tool: a function that steps call by name.

        `terms` are further fields of `ToolDefinition`, such as `parameters`, a JSON Schema to which
        arguments are held, `cost_estimate_usd` and `effect`. What a `@tool`, or the definition,
        says of itself holds where nothing else is given. Raises `Invalid`.
        """
        registry = get_global_registry()
        known = next((each for each in registry if registry[each] is function), None)
        if definition is None and known is not None:
            definition = registry.definition(known)
        said = {} if definition is None else definition.told()
        new = _new(function, name or said.get("name"), description or said.get("description"))
        told = {**said, **terms, **new}
        return records.read(Tool, self._wire.post("/api/v1/tools", _sendable(told, "")))

    def register_service(
        self, name: str, kind: str, config: Mapping[str, Any], **terms: Any
    ) -> Tool:
        """Register a service: a tool that reaches outside, such as a host, a database, a model.

        `config` is as its kind has it; what must stay secret stands in it as `$env.NAME`. `terms` are
        as those of tools, and `description` and `effect`. Raises `Invalid`, and `Forbidden`.
        """
        told = {**terms, "name": name, "kind": kind, "config": dict(config)}
        return records.read(Tool, self._wire.post("/api/v1/services", _sendable(told, "")))

    def sync_services(
        self,
        name: str,
        *,
        trust_hints: bool = False,
        dry_run: bool = False,
        timeout: float = tool_servers.SECONDS,
    ) -> Synced:
        """Register the tools of a server as services, `NAME.TOOL`, and say what is different.

        `name` is a service of kind `mcp`. A run asks it for its tools; `timeout` is how long that is
        waited for, in seconds. A call is taken to be made `at_most_once`, unless the server's hints
        are trusted. A `dry_run` registers nothing. Raises `NotFound`, `Invalid`, `Forbidden`,
        `TimeoutError`, and `ApiError` where the server could not be asked.
        """
        return tool_servers.sync(
            self, name, trust_hints=trust_hints, dry_run=dry_run, timeout=timeout
        )

    def stand_tool(
        self,
        name: str,
        *,
        status: str | None = None,
        tags: Sequence[str] | None = None,
        reason: str = "",
    ) -> None:
        """Change how a tool stands in all of its versions, from the next call on.

        `status` is `active`, `deprecated`, `disabled` or `maintenance`; the last two are not
        called. Raises `NotFound`, and `Invalid`.
        """
        change = {"status": status, "tags": None if tags is None else list(tags)}
        given = {field: value for field, value in change.items() if value is not None}
        self._wire.post(f"/api/v1/tools/{_quoted(name)}/standing", {**given, "reason": reason})

    def publish(self, workflow: Workflow, notes: str = "") -> Version:
        """Publish a version of a workflow; `notes` say what is new in it.

        Without a version of its own it gets the next patch, unless nothing has changed. The
        functions of a `WorkflowGraph` are registered first, by their source and under their own
        names, for all of the tenant. Raises `Invalid` with every problem, and `Conflict` where its
        number is another document's.
        """
        place = f"/api/v1/workflows?notes={_quoted(notes)}" if notes else "/api/v1/workflows"
        match workflow:
            case Path():
                body = self._wire.post(place, content=(workflow.read_text("utf-8"), _YAML))
            case str():
                body = self._wire.post(place, content=(workflow, _YAML))
            case WorkflowGraph():
                data = document.write(workflow.lowered())
                new = [_new(function, name, None) for name, function in workflow.functions.items()]
                for each in new:
                    self._register("functions", each)
                body = self._wire.post(place, data)
            case _:
                body = self._wire.post(place, _sendable(dict(workflow), ""))
        return records.read(Version, body)

    def upload(self, bundle: Path, *, strict: bool = False) -> Mapping[str, Any]:
        """Publish a bundle: an archive of a DOT drawing and the code of its nodes.

        What came of it: `status` is `COMPLETED` or `FAILED`, with `errors` and `warnings`.
        `strict` holds it to seed 001's own rules. Raises `Invalid` for what is no archive.
        """
        with bundle.open("rb") as file:
            fields = {"strict": "true" if strict else "false"}
            sent = self._wire.send_file("/api/graph-bundle/upload", bundle.name, file, fields)
        found: Mapping[str, Any] = self._wire.get(
            f"/api/graph-bundle/status/{_quoted(sent['processId'])}"
        )
        return found

    def export(self, run: str, payloads: str = "all") -> str:
        """A run that has ended as a file; `payloads`: `all`, `small` or `none` of users' data.

        Raises `NotFound`, and `Conflict`.
        """
        return self._wire.text(f"/api/v1/runs/{_quoted(run)}/export", payloads=payloads)

    def bring(self, file: str) -> Run:
        """Bring in a run that was exported elsewhere. Raises `Invalid`, and `Conflict`."""
        content = (file, "application/vnd.celeriac.run")
        return self.run(self._wire.post("/api/v1/imports", content=content)["run_id"])

    def workflows(self) -> Iterator[Version]:
        """Workflows by name, each in its latest version."""
        return self._pages(Version, "/api/v1/workflows")

    def workflow(self, name: str, version: str | None = None) -> Version:
        """A version of a workflow with its document, the latest unless one is named."""
        place = f"/api/v1/workflows/{_quoted(name)}"
        found = self._wire.get(place if version is None else f"{place}/versions/{_quoted(version)}")
        return records.read(Version, found)

    def versions(self, name: str) -> Iterator[Version]:
        """The versions of a workflow, newest first. Raises `NotFound`."""
        return self._pages(Version, f"/api/v1/workflows/{_quoted(name)}/versions")

    def retire(self, name: str, version: str, reason: str = "") -> Version:
        """Retire a version: nothing new begins with it.

        Raises `Blocked` with all that uses it: runs that have not ended, and versions that would
        name nothing.
        """
        place = f"/api/v1/workflows/{_quoted(name)}/versions/{_quoted(version)}"
        return records.read(Version, self._wire.send("DELETE", place, {"reason": reason}))

    def drafts(self) -> Iterator[Draft]:
        """Drafts of workflows, by name."""
        return self._pages(Draft, "/api/v1/drafts")

    def draft(self, name: str) -> Draft:
        """A draft, with all that keeps it from being published. Raises `NotFound`."""
        return records.read(Draft, self._wire.get(f"/api/v1/drafts/{_quoted(name)}"))

    def save_draft(self, name: str, text: str, *, revision: int | None = None) -> Draft:
        """Save a draft as it is written, made from a revision; without one, a new draft.

        Raises `Outdated` where somebody has saved it since, and `Conflict` for a new draft where
        there is one.
        """
        sent = (text, _YAML)
        place = f"/api/v1/drafts/{_quoted(name)}"
        return records.read(
            Draft, self._wire.send("PUT", place, content=sent, headers=_if_match(revision))
        )

    def publish_draft(self, name: str, notes: str = "", *, revision: int | None = None) -> Version:
        """Make a version of a draft, which is gone then. Raises as `publish` does, and `Outdated`."""
        place = f"/api/v1/drafts/{_quoted(name)}/publish"
        sent = {"notes": notes}
        return records.read(
            Version, self._wire.send("POST", place, sent, headers=_if_match(revision))
        )

    def discard_draft(self, name: str, reason: str = "", *, revision: int | None = None) -> Draft:
        """Give a draft up. Raises `NotFound`, and `Outdated`."""
        place, sent = f"/api/v1/drafts/{_quoted(name)}", {"reason": reason}
        return records.read(
            Draft, self._wire.send("DELETE", place, sent, headers=_if_match(revision))
        )

    def functions(self) -> Iterator[Function]:
        """Functions by name, each in its newest version."""
        return self._pages(Function, "/api/v1/functions")

    def function(self, name: str, version: int | None = None) -> Function:
        """A version of a function with its source, the newest unless one is named. Raises `NotFound`."""
        place = f"/api/v1/functions/{_quoted(name)}"
        return records.read(
            Function,
            self._wire.get(place if version is None else f"{place}/versions/{version}"),
        )

    def tools(self) -> Iterator[Tool]:
        """Tools by name, each in its newest version."""
        return self._pages(Tool, "/api/v1/tools")

    def tool(self, name: str) -> Tool:
        """The newest version of a tool. Raises `NotFound`."""
        return records.read(Tool, self._wire.get(f"/api/v1/tools/{_quoted(name)}"))

    def get_tools_for_llm(
        self, *, tag: str | None = None, category: str | None = None
    ) -> tuple[dict[str, Any], ...]:
        """The tools that may be called, by name, in the function-calling format of models.

        At most a thousand of them.
        """
        return tuple(self._wire.get("/api/v1/llm/tools", tag=tag, category=category))

    # --- agents ---------------------------------------------------------------------------------

    def enter_agents(self, agents: Mapping[str, Any]) -> tuple[Agent, ...]:
        """Enter the agents of a file of seed 002, `{"agents": {…}}`, all or none; each as it is now.

        What has not changed keeps its version. Raises `Invalid` with every problem.
        """
        found = self._wire.post("/api/v1/agents", _sendable(dict(agents), ""))
        return tuple(records.read(Agent, each) for each in found["items"])

    def agents(self) -> Iterator[Agent]:
        """Agents by name, each in its newest version."""
        return self._pages(Agent, "/api/v1/agents")

    def agent(self, name: str, version: str | None = None) -> Agent:
        """A version of an agent with its definition, the newest unless one is named: `1.2`, or `1`.

        Raises `NotFound`.
        """
        place = f"/api/v1/agents/{_quoted(name)}"
        found = self._wire.get(place if version is None else f"{place}/versions/{_quoted(version)}")
        return records.read(Agent, found)

    def agent_versions(self, name: str) -> tuple[Agent, ...]:
        """The versions of an agent, newest first. Raises `NotFound`."""
        found = self._wire.get(f"/api/v1/agents/{_quoted(name)}/versions")
        return tuple(records.read(Agent, each) for each in found["items"])

    def rename_agent(self, name: str, new: str, *, reason: str = "") -> tuple[Agent, ...]:
        """Call an agent otherwise wherever agents name it; it, and those, as they are now.

        Raises `NotFound`, `Invalid`, and `Conflict`.
        """
        place = f"/api/v1/agents/{_quoted(name)}/rename"
        found = self._wire.post(place, {"name": new, "reason": reason})
        return tuple(records.read(Agent, each) for each in found["items"])

    def remove_agent(self, name: str, *, reason: str = "") -> Agent:
        """Remove an agent; it as it was. Raises `NotFound`, and `Conflict` with what uses it."""
        place = f"/api/v1/agents/{_quoted(name)}"
        return records.read(Agent, self._wire.send("DELETE", place, {"reason": reason}))

    def run_agent(
        self,
        name: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        version: str | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """Start a run of an agent. Bytes among its inputs are sent as what they are.

        Raises `NotFound`, and `Invalid` with every problem.
        """
        given = {
            name: values.of_bytes(value) if isinstance(value, bytes) else value
            for name, value in (inputs or {}).items()
        }
        asked = {"inputs": given, **({} if version is None else {"version": version})}
        place = f"/api/v1/agents/{_quoted(name)}/runs"
        key = idempotency_key or str(uuid4())
        accepted = self._wire.post(place, _sendable(asked, ""), idempotency_key=key)
        return self.run(accepted["run_id"])

    # --- who may do what ----------------------------------------------------------------------

    def me(self) -> Me:
        """Who asks, and what he may do."""
        return records.read(Me, self._wire.get("/api/v1/me"))

    def users(self) -> Iterator[User]:
        """The users of the tenant, by id."""
        return self._pages(User, "/api/v1/users")

    def create_user(
        self, user: str, *, roles: Sequence[str] = (), permissions: Sequence[str] = ()
    ) -> User:
        """Make a user. Raises `Conflict`, and `Forbidden` for what one does not hold oneself."""
        asked = {"id": user, "roles": [*roles], "permissions": [*permissions]}
        return records.read(User, self._wire.post("/api/v1/users", asked))

    def change_user(
        self,
        user: str,
        *,
        roles: Sequence[str] | None = None,
        permissions: Sequence[str] | None = None,
        active: bool | None = None,
        why: str = "",
    ) -> User:
        """Change what a user holds, or whether he is active; what is None stays."""
        given = {"roles": roles, "permissions": permissions, "active": active}
        asked = {name: value for name, value in given.items() if value is not None}
        return records.read(
            User,
            self._wire.send("PATCH", f"/api/v1/users/{_quoted(user)}", {**asked, "why": why}),
        )

    def keys(self, *, user: str | None = None) -> Iterator[Key]:
        """API keys, newest first, with those that are over; of one user, or of all."""
        return self._pages(Key, "/api/v1/keys", user=user)

    def create_key(
        self,
        name: str,
        *,
        user: str | None = None,
        scopes: Sequence[str] | None = None,
        expires_at: datetime | None = None,
    ) -> Key:
        """Make a key, of oneself unless a user is named. Its `token` is told this once."""
        asked = {
            "name": name,
            "scopes": None if scopes is None else [*scopes],
            "expires_at": None if expires_at is None else expires_at.isoformat(),
            **({} if user is None else {"user": user}),
        }
        return records.read(Key, self._wire.post("/api/v1/keys", asked))

    def rotate_key(self, key: str, *, grace_seconds: float = 0.0) -> Key:
        """Make a key in another's place, which ends now or so many seconds later."""
        place = f"/api/v1/keys/{_quoted(key)}/rotate"
        return records.read(Key, self._wire.post(place, {"grace_seconds": grace_seconds}))

    def revoke_key(self, key: str, why: str = "") -> Key:
        """End a key for good."""
        return records.read(
            Key, self._wire.send("DELETE", f"/api/v1/keys/{_quoted(key)}", {"reason": why})
        )

    # --- secrets and capabilities -------------------------------------------------------------

    def put_secret(
        self, name: str, value: str, *, sensitive: bool = True, reason: str = ""
    ) -> Secret:
        """Keep a value as the newest version of a secret; nobody is shown it again.

        One that is `sensitive` is hidden wherever it turns up. Raises `Invalid`.
        """
        asked = {"name": name, "value": value, "sensitive": sensitive, "reason": reason}
        return records.read(Secret, self._wire.post("/api/v1/secrets", asked))

    def secrets(self) -> Iterator[Secret]:
        """The secrets that there are, by name, without their values."""
        return self._pages(Secret, "/api/v1/secrets")

    def secret_versions(self, name: str) -> tuple[Secret, ...]:
        """The versions of a secret, newest first. Raises `NotFound`."""
        found = self._wire.get(f"/api/v1/secrets/{_quoted(name)}/versions")
        return tuple(records.read(Secret, each) for each in found["items"])

    def delete_secret(self, name: str, reason: str = "") -> Secret:
        """Remove what was sealed of a secret, for good. Raises `NotFound`."""
        place = f"/api/v1/secrets/{_quoted(name)}"
        return records.read(Secret, self._wire.send("DELETE", place, {"reason": reason}))

    def rotate_secrets(self, reason: str = "") -> Mapping[str, Any]:
        """Seal with the first key of the ring what others have sealed: `key_id`, and `count`."""
        found: Mapping[str, Any] = self._wire.post("/api/v1/secrets/rotate", {"reason": reason})
        return found

    def grant(self, subject: str, profile: Mapping[str, Any], reason: str = "") -> Capability:
        """Grant a profile to `function:NAME@3`; without a version, to all that come.

        It takes the place of what was granted. Raises `Invalid` with every problem, and `NotFound`.
        """
        asked = {"subject": subject, "profile": dict(profile), "reason": reason}
        return records.read(Capability, self._wire.post("/api/v1/capabilities", asked))

    def capabilities(self) -> Iterator[Capability]:
        """What is granted, by whom it is for."""
        return self._pages(Capability, "/api/v1/capabilities")

    def capability(self, subject: str) -> Capability:
        """The grant that holds: of a version its own, else that for all. Raises `NotFound`."""
        return records.read(Capability, self._wire.get(f"/api/v1/capabilities/{_quoted(subject)}"))

    def revoke_capability(self, subject: str, reason: str = "") -> Capability:
        """Take a grant back. Raises `NotFound`."""
        place = f"/api/v1/capabilities/{_quoted(subject)}"
        return records.read(Capability, self._wire.send("DELETE", place, {"reason": reason}))

    # ------------------------------------------------------------------------------------------

    def apply_policy(self, policy: Document, reason: str = "") -> AppliedPolicy:
        """Put a policy in force, from the next turn of every run on.

        What says the same as the newest version is that version. Raises `Invalid` with every
        problem.
        """
        place = f"/api/v1/policies?reason={_quoted(reason)}" if reason else "/api/v1/policies"
        body = self._wire.post(place, content=_written(policy))
        return records.read(AppliedPolicy, body)

    def lint_policy(self, policy: Document) -> Mapping[str, Any]:
        """What is wrong with a policy: `valid`, `problems`, and `warnings` of what is hardly meant."""
        found: Mapping[str, Any] = self._wire.post(
            "/api/v1/policies/lint", content=_written(policy)
        )
        return found

    def test_policy(
        self, policy: Document, *, facts: Any = None, run: str | None = None
    ) -> Mapping[str, Any]:
        """Which rules of a policy would fire, on facts or on a run as it was recorded."""
        text, _ = _written(policy)
        body = {"policy": text, "facts": facts, "run": run}
        given = {name: value for name, value in body.items() if value is not None}
        found: Mapping[str, Any] = self._wire.post("/api/v1/policies/test", given)
        return found

    def backtest(
        self,
        policy: Document | None = None,
        *,
        version: str | None = None,
        beside: bool = False,
        runs: Sequence[str] = (),
        workflow: str | None = None,
        user: str | None = None,
        status: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Mapping[str, Any]:
        """Hold a policy, or a version of a workflow (`NAME@VERSION`), against recorded runs.

        The runs are the newest of those that everything given holds of. Nothing is carried out or
        changed. Of a policy it says which runs it would have blocked, in place of those in force or
        `beside` them; of a version, which would come to the same end on the same path. Dollars are
        text, every digit of them. Raises `Invalid` and `NotFound`.
        """
        if (policy is None) == (version is None):
            raise ValueError("give a policy or a version")
        chosen = {
            "ids": list(runs),
            "workflow": workflow,
            "user": user,
            "status": list(status),
            "since": since and since.isoformat(),
            "until": until and until.isoformat(),
            "limit": limit,
        }
        which = {name: value for name, value in chosen.items() if value}
        found: Mapping[str, Any]
        if policy is not None:
            text, _ = _written(policy)
            body = {"policy": text, "beside": beside, "runs": which}
            found = self._wire.post("/api/v1/backtests/policy", body)
            return found
        name, _, number = (version or "").partition("@")
        led = {"workflow": name, "version": number or None, "runs": which}
        given = {field: value for field, value in led.items() if value is not None}
        found = self._wire.post("/api/v1/backtests/version", given)
        return found

    def replay(
        self,
        run: str,
        *,
        version: str | None = None,
        policy: Document | None = None,
        beside: bool = False,
    ) -> Mapping[str, Any]:
        """Decide a run once more from what was recorded; nothing is carried out or changed.

        By itself each decision is compared with the one in its history: `divergences` is 0, or the
        `first` is told. Against another version of its workflow, or a policy (in place of those in
        force, or `beside` them), the first place is told at which something else would have
        followed, and what `would` have changed. Raises `Invalid` and `NotFound`.
        """
        if policy is not None and version is not None:
            raise ValueError("give a policy or a version")
        given: dict[str, Any] = {} if version is None else {"version": version}
        if policy is not None:
            text, _ = _written(policy)
            given = {"policy": text, "beside": beside}
        found: Mapping[str, Any] = self._wire.post(f"{_place(run)}/replay", given)
        return found

    def explain(self, run: str, before: int | None = None) -> Mapping[str, Any]:
        """Why a run is where it is: what everything that `waits` waits for, and when it wakes.

        Its last `decisions` tell each edge that was taken or was not, and why; older ones are asked
        for with `before`. Raises `NotFound`.
        """
        found: Mapping[str, Any] = self._wire.get(f"{_place(run)}/explain", before=before)
        return found

    def policies(self) -> Iterator[Policy]:
        """Policies by name: of each the version in force, else the newest."""
        return self._pages(Policy, "/api/v1/policies")

    def policy(self, name: str, version: int | None = None) -> Policy:
        """A version of a policy with its document: that in force, unless one is named."""
        place = f"/api/v1/policies/{_quoted(name)}"
        return records.read(
            Policy, self._wire.get(place if version is None else f"{place}/versions/{version}")
        )

    def policy_versions(self, name: str) -> Iterator[Policy]:
        """The versions of a policy, newest first. Raises `NotFound`."""
        return self._pages(Policy, f"/api/v1/policies/{_quoted(name)}/versions")

    def withdraw_policy(self, name: str, reason: str = "") -> Policy:
        """Take a policy out of force. Raises `Conflict` if it is not."""
        place = f"/api/v1/policies/{_quoted(name)}/withdraw"
        return records.read(Policy, self._wire.post(place, {"reason": reason}))

    # --- what was used ------------------------------------------------------------------------

    def usage(
        self,
        *by: str,
        user: str | None = None,
        workflow: str | None = None,
        run: str | None = None,
        node: str | None = None,
        model: str | None = None,
        tool: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        window: str | None = None,
    ) -> Iterator[Usage]:
        """What was used just now, told apart `by` keys, else as one sum.

        Keys are `user`, `workflow`, `run`, `node`, `model`, `tool`, `hour` and `day`, in the order
        of which it comes. `window` is `hour` or `day`: only the present one, UTC. Raises `Invalid`.
        """
        asked: dict[str, Any] = {
            "by": ",".join(by) or None,
            "user": user,
            "workflow": workflow,
            "run": run,
            "node": node,
            "model": model,
            "tool": tool,
            "since": None if since is None else since.isoformat(),
            "until": None if until is None else until.isoformat(),
            "window": window,
        }
        return self._pages(Usage, "/api/v1/usage", **asked)

    def budgets(
        self, *, user: str | None = None, workflow: str | None = None, run: str | None = None
    ) -> Budgets:
        """How the budgets in force stand: yours or a user's, of a workflow, or of a run alone."""
        body = self._wire.get("/api/v1/usage/budgets", user=user, workflow=workflow, run=run)
        return records.read(Budgets, body)

    # --- runs ---------------------------------------------------------------------------------

    def submit(
        self,
        workflow: str | Version,
        inputs: Mapping[str, Any] | None = None,
        *,
        version: str | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """Submit a run of a workflow by name, or of a version.

        It is accepted for good when this returns. Submissions under one key are one run.
        """
        named: dict[str, Any]
        if isinstance(workflow, Version):
            named = {"version_id": workflow.id}
        else:
            named = {"workflow": workflow, **({} if version is None else {"version": version})}
        accepted = self._wire.post(
            "/api/v1/runs",
            {**named, "inputs": _sendable(dict(inputs or {}), "inputs")},
            idempotency_key=idempotency_key or str(uuid4()),
        )
        return self.run(accepted["run_id"])

    def runs(self, *, status: str | None = None, workflow: str | None = None) -> Iterator[Run]:
        """Runs, newest first. `status` may name several, separated by commas."""
        return self._pages(Run, "/api/v1/runs", status=status, workflow=workflow, client=self)

    def run(self, run: str) -> Run:
        """A run with its variables and live steps. Raises `NotFound`."""
        body = self._wire.get(_place(run))
        return records.read(Run, body, live=body.get("steps"), client=self)

    def wait(self, run: str, timeout: float | None = None) -> Run:
        """A run when it has ended. Raises `TimeoutError` after so many seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = WAIT_SECONDS if deadline is None else deadline - time.monotonic()
            if self._ended(run, max(0.0, min(left, WAIT_SECONDS))):
                return self.run(run)
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"run {run} has not ended within {timeout:g} seconds")

    def cancel(self, run: str, reason: str = "", *, compensate: bool = False) -> Run:
        """Stop a run; it afterwards. Raises `NotFound`, and `Conflict` when it has ended.

        `compensate`: what it has done is undone first, by the handlers of its nodes; until
        they have ended it is still running.
        """
        self._wire.post(f"{_place(run)}/cancel", {"reason": reason, "compensate": compensate})
        return self.run(run)

    def pause(self, run: str, reason: str = "") -> Run:
        """Let nothing new of a run start; it afterwards. Raises as `cancel` does."""
        self._wire.post(f"{_place(run)}/pause", {"reason": reason})
        return self.run(run)

    def resume(self, run: str, reason: str = "") -> Run:
        """Let a paused run go on; it afterwards. Raises as `cancel` does."""
        self._wire.post(f"{_place(run)}/resume", {"reason": reason})
        return self.run(run)

    def terminate(self, run: str, reason: str = "") -> Run:
        """End a run as it stands, undoing nothing; it afterwards. Raises as `cancel` does."""
        self._wire.post(f"{_place(run)}/terminate", {"reason": reason})
        return self.run(run)

    def retry(self, run: str) -> Run:
        """Take the turn of a run that is stuck now; it afterwards. Raises `NotFound`."""
        self._wire.post(f"{_place(run)}/retry")
        return self.run(run)

    def migrate(
        self,
        run: str,
        to: str,
        nodes: Mapping[str, str] | None = None,
        *,
        dry_run: bool = False,
        reason: str = "",
    ) -> Migration:
        """Let a live run go on under another version of its workflow; `nodes` are renamed there.

        A `dry_run` says what would become of it and changes nothing. Raises `Blocked` with all that
        keeps the run where it is, `NotFound`, and `Conflict` for a version that is retired.
        """
        asked = {"to": to, "nodes": dict(nodes or {}), "dry_run": dry_run, "reason": reason}
        return records.read(Migration, self._wire.post(f"{_place(run)}/migrate", asked))

    def skip_step(
        self,
        run: str,
        step: str,
        choice: bool | str | Sequence[str] | None = None,  # noqa: FBT001  # a value
        *,
        reason: str = "",
    ) -> Run:
        """Let a live step count as done, with a choice; its run afterwards.

        Raises as `cancel` does, and `Invalid` when no edge answers to the choice.
        """
        said = choice if choice is None or isinstance(choice, bool | str) else list(choice)
        body = {"reason": reason} if said is None else {"reason": reason, "choice": said}
        self._wire.post(f"{_place(run)}/steps/{_quoted(step)}/skip", body)
        return self.run(run)

    def retry_step(self, run: str, step: str, *, reason: str = "") -> Run:
        """Begin a live step anew, now; its run afterwards. Raises as `cancel` does."""
        self._wire.post(f"{_place(run)}/steps/{_quoted(step)}/retry", {"reason": reason})
        return self.run(run)

    def bulk(
        self,
        action: str,
        *,
        ids: Sequence[str] = (),
        workflow: str | None = None,
        version_id: str | None = None,
        status: Sequence[str] = (),
        before: datetime | None = None,
        after: datetime | None = None,
        reason: str = "",
        event: Mapping[str, Any] | None = None,
        migration: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> tuple[Acted, ...]:
        """Act on every run that everything given holds of, newest first; what came of it for each.

        The action is `cancel, terminate, pause, resume`, `retry` (of those that are stuck),
        `signal`, which sends each the `event`: `{name, payload, match}`, once under one
        key, or `migrate`, which lets each go on as the `migration` says: `{to, nodes, dry_run}`.
        Raises `Invalid` when nothing is given.
        """
        given = {
            "ids": list(ids),
            "workflow": workflow,
            "version_id": version_id,
            "status": list(status),
            "before": before and before.isoformat(),
            "after": after and after.isoformat(),
        }
        which = {name: value for name, value in given.items() if value}
        asked: dict[str, Any] = {"action": action, "filter": which, "reason": reason}
        key = None
        if event is not None:
            asked["event"] = dict(event)
            key = idempotency_key or str(uuid4())
        if migration is not None:
            asked["migration"] = dict(migration)
        found: list[Acted] = []
        while True:
            body = self._wire.post("/api/v1/runs/bulk", asked, idempotency_key=key)
            found += (records.read(Acted, entry) for entry in body["items"])
            if body["next"] is None:
                return tuple(found)
            asked["cursor"] = body["next"]

    def children(self, run: str) -> Iterator[Run]:
        """The runs that steps of a run have started, newest first. Raises `NotFound`."""
        return self._pages(Run, f"{_place(run)}/children", client=self)

    # --- what waits ---------------------------------------------------------------------------

    def waits(
        self,
        *,
        kind: str | None = None,
        run: str | None = None,
        view: str | None = None,
        workflow: str | None = None,
        tool: str | None = None,
    ) -> Iterator[Wait]:
        """Open approvals, inputs and awaited events, those that have waited for longest first.

        `kind` may name several, separated by commas. A `view` is `mine` (I may answer, and have
        not), `team` (a role is asked that I have) or `overdue`.
        """
        return self._pages(
            Wait,
            "/api/v1/waits",
            kind=kind,
            run_id=run,
            view=view,
            workflow=workflow,
            tool=tool,
        )

    def count_waits(
        self,
        *,
        kind: str | None = None,
        run: str | None = None,
        workflow: str | None = None,
        tool: str | None = None,
    ) -> Mapping[str, int]:
        """How many waits each view has: `mine`, `team`, `overdue`, `all`."""
        found: Mapping[str, int] = self._wire.get(
            "/api/v1/waits/counts", kind=kind, run_id=run, workflow=workflow, tool=tool
        )
        return found

    def answer(
        self,
        run: str,
        step: str,
        choice: str | None = None,
        form: Mapping[str, Any] | None = None,
        *,
        reason: str = "",
        behalf: str | None = None,
        digest: str | None = None,
    ) -> Answered:
        """Answer a step that asks people.

        On `behalf` of whoever has handed me his say; bound to the `digest` of what I was shown,
        where that has one. Raises `Forbidden` for whoever is not asked, `Invalid` for what does
        not fit, `Conflict` when it is settled, with what it was, or when something else is asked
        than was shown, and `NotFound`.
        """
        said: dict[str, Any] = {"form": _sendable(dict(form or {}), "form"), "reason": reason}
        optional = {"choice": choice, "behalf": behalf, "digest": digest}
        said |= {name: value for name, value in optional.items() if value is not None}
        body = self._wire.post(f"{_place(run)}/steps/{_quoted(step)}/answer", said)
        return records.read(Answered, body)

    def answer_many(
        self,
        choice: str | None = None,
        *,
        ids: Sequence[str] = (),
        where: Mapping[str, Any] | None = None,
        form: Mapping[str, Any] | None = None,
        reason: str = "",
        digests: Mapping[str, str] | None = None,
        limit: int = 100,
        idempotency_key: str | None = None,
    ) -> list[Came]:
        """Answer many questions, by `ids` or by a filter, with one choice; what came of each.

        The filter has any of `view`, `kind` (a list), `run_id`, `workflow` and `tool`; `digests`
        are those of what was shown, by id. Raises `Invalid`.
        """
        said: dict[str, Any] = {
            "ids": [*ids],
            "form": _sendable(dict(form or {}), "form"),
            "reason": reason,
            "digests": dict(digests or {}),
            "limit": limit,
        }
        optional = {"choice": choice, "filter": None if where is None else dict(where)}
        said |= {name: value for name, value in optional.items() if value is not None}
        body = self._wire.post(
            "/api/v1/waits/answers", said, idempotency_key=idempotency_key or str(uuid4())
        )
        return [records.read(Came, one) for one in body["items"]]

    def answers(self, run: str, step: str) -> list[Approval]:
        """All that a step has asked people, oldest first, with what they said. Raises `NotFound`."""
        body = self._wire.get(f"{_place(run)}/steps/{_quoted(step)}/answers")
        return [records.read(Approval, one) for one in body["items"]]

    def approvals(self, *, status: str | None = None) -> Iterator[Approval]:
        """Requests for approvals, newest first, open ones and those that were settled."""
        return self._pages(Approval, "/api/v1/approvals", status=status)

    def approval(self, request_id: str) -> Approval:
        """A request for an approval, and what came of it. Raises `NotFound`."""
        return records.read(Approval, self._wire.get(f"/api/v1/approvals/{_quoted(request_id)}"))

    def delegate(
        self,
        to: str,
        *,
        reason: str,
        run: str | None = None,
        step: str | None = None,
        until: datetime | None = None,
    ) -> Delegation:
        """Hand my say to another user: in what a step asks, or in all that I am asked `until` then.

        Raises `Invalid`, `Forbidden` where I am not asked, `NotFound`, and `Conflict` where it was
        used, or would go in a circle.
        """
        asked = {
            "to": to,
            "reason": reason,
            "run_id": run,
            "step": step,
            "until": None if until is None else until.isoformat(),
        }
        body = {name: value for name, value in asked.items() if value is not None}
        return records.read(Delegation, self._wire.post("/api/v1/delegations", body))

    def delegations(self) -> Iterator[Delegation]:
        """The says that I have handed to others, and they to me, newest first."""
        return self._pages(Delegation, "/api/v1/delegations")

    def revoke(self, delegation: str, reason: str = "") -> Delegation:
        """Take my say back. Raises `Conflict` for one that was used, `Forbidden`, `NotFound`."""
        place = f"/api/v1/delegations/{_quoted(delegation)}/revoke"
        return records.read(Delegation, self._wire.post(place, {"reason": reason}))

    def add_items(self, run: str, step: str, items: Sequence[Any]) -> int | None:
        """Send a map more items; how many it has then, None while its run is being held up.

        Raises `Conflict` when it waits for no more, and `NotFound`.
        """
        body = _sendable({"items": list(items)}, "")
        found = self._wire.post(f"{_place(run)}/steps/{_quoted(step)}/items", body)
        count: int | None = found["items"]
        return count

    def complete(self, run: str, step: str, reason: str = "") -> Run:
        """Tell a map that it has enough; its run afterwards. Raises `Conflict` and `NotFound`."""
        place = f"{_place(run)}/steps/{_quoted(step)}/complete"
        self._wire.post(place, {"reason": reason})
        return self.run(run)

    def send(
        self,
        name: str,
        payload: Any = None,
        *,
        run: str | None = None,
        match: Mapping[str, Any] | None = None,
        transient: bool = False,
        keep_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> SentEvent:
        """Send an event, to a run or to whoever waits with the same match; what became of it.

        It is kept until a step takes it or its time is over; a `transient` one is dropped if
        nobody waits for it now. What is sent under one key is one event. Raises `Invalid` where
        the step that waits cannot take the payload, `Conflict` for a run that has ended.
        """
        told: dict[str, Any] = {"payload": payload, "match": dict(match or {})}
        keep = {} if keep_seconds is None else {"keep_seconds": keep_seconds}
        found = self._wire.post(
            f"{'/api/v1' if run is None else _place(run)}/events/{_quoted(name)}",
            {**_sendable(told, ""), "transient": transient, **keep},
            idempotency_key=idempotency_key or str(uuid4()),
        )
        return records.read(SentEvent, found)

    def sent(self, *, state: str | None = None, run: str | None = None) -> Iterator[SentEvent]:
        """Events that were sent, newest first. `state` may name several, separated by commas."""
        return self._pages(SentEvent, "/api/v1/events", state=state, run_id=run)

    def sent_event(self, event: str) -> SentEvent:
        """An event by its id, and what became of it. Raises `NotFound`."""
        return records.read(SentEvent, self._wire.get(f"/api/v1/events/{_quoted(event)}"))

    # --- what happened ------------------------------------------------------------------------

    def steps(self, run: str) -> Iterator[Step]:
        """The visits of a run to nodes, in the order they were begun."""
        return self._pages(Step, f"{_place(run)}/steps")

    def result(self, run: str, step: str) -> Result:
        """What a step left, by its key (`increment#1`). Raises `NotFound` while there is none."""
        return records.read(Result, self._wire.get(f"{_place(run)}/steps/{_quoted(step)}/result"))

    def executions(self, run: str) -> Iterator[Mapping[str, Any]]:
        """The attempts of a run as executions of tasks and plans, in the order they were asked for.

        Each has `header`, `policy_telemetry` and `result`, and the ids of its parents.
        """
        return self._items(f"{_place(run)}/executions")

    def execution(self, run: str, exec_id: str) -> Mapping[str, Any]:
        """An execution of a run. Raises `NotFound`."""
        found: Mapping[str, Any] = self._wire.get(f"{_place(run)}/executions/{_quoted(exec_id)}")
        return found

    def timeline(self, run: str) -> Mapping[str, Any]:
        """What was executed for a run, in order: `events`, and where the run stands."""
        found = dict(self._wire.get(f"{_place(run)}/timeline"))
        while found["next"] is not None:
            more = self._wire.get(f"{_place(run)}/timeline", cursor=found["next"])
            found |= {"events": [*found["events"], *more["events"]], "next": more["next"]}
        return found

    def calls(self, run: str, step: str | None = None) -> tuple[Call, ...]:
        """The tool calls of a step, or of all, in order of their start."""
        body = self._wire.get(f"{_place(run)}/calls", step=step)
        return tuple(records.read(Call, entry) for entry in body["items"])

    def history(self, run: str, after: int = 0, *, payloads: bool = False) -> Iterator[Line]:
        """Lines of a run's history after a seq, in order, up to now."""
        wanted = "true" if payloads else None
        following: int | None = after
        while following is not None:
            body = self._wire.get(
                f"{_place(run)}/history", after=following, limit=_PAGE, payloads=wanted
            )
            yield from (records.read(Line, entry) for entry in body["items"])
            following = body["next"]

    def events(
        self,
        run: str,
        after: str | None = None,
        *,
        payloads: bool = False,
        logs: bool = True,
    ) -> Iterator[Event]:
        """Follow a run until it has ended: its history, and what its steps print.

        Begins after the event of an id, else at the beginning, and takes a broken connection up
        again by itself: nothing is missed, nothing comes twice. Raises `Unavailable` when the
        platform stays away.
        """
        query = {"payloads": "true" if payloads else None, "logs": None if logs else "false"}
        failures = 0
        while True:
            try:
                with self._wire.stream(f"{_place(run)}/events", last=after, **query) as stream:
                    for event in stream or ():
                        if event.event == "end":
                            return
                        if (found := _event(event)) is not None:
                            failures, after = 0, found.id
                            yield found
                if stream is None:
                    return
                error = Unavailable("the stream ended before the run")
            except Unavailable as broken:
                error = broken
            failures += 1
            if failures == wire.ATTEMPTS:
                raise error
            wire.pause(failures, error)

    def logs(self, run: str, step: str | None = None) -> Iterator[LogLine]:
        """What the steps of a run, or one of them, have printed so far."""
        return self._pages(LogLine, f"{_place(run)}/logs", step=step)

    def checkpoints(self, run: str) -> Iterator[Checkpoint]:
        """Places that a run can be taken up from, in order."""
        return self._pages(Checkpoint, f"{_place(run)}/checkpoints")

    def checkpoint(self, run: str, seq: int, *, against: int | None = None) -> Place:
        """A run as it was just after a line, and what has changed since another. Raises `NotFound`."""
        found = self._wire.get(f"{_place(run)}/checkpoints/{seq}", against=against)
        return records.read(Place, found)

    def name_checkpoint(self, run: str, seq: int, name: str) -> Place:
        """Name a line of a run's history. Raises `Conflict` when another line has that name."""
        place = f"{_place(run)}/checkpoints/{seq}"
        return records.read(Place, self._wire.send("PUT", place, {"name": name}))

    def fork(
        self,
        run: str,
        seq: int,
        variables: Mapping[str, Any] | None = None,
        *,
        removed: Sequence[str] = (),
        choices: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """Start a run that goes on from a line of another one, perhaps with other variables.

        What was settled there is not done again, what was live begins anew; the other run stays as
        it is. `choices` say what becomes of calls that were made since, by call (`STEP.ORDINAL`) or effect
        class: `reuse`, `skip` or `execute`; or `compensate`, which undoes them first (`undo`), waits for the end
        of that, and goes on only if all is undone. Raises `Conflict` where no run can go on from there, and
        where a choice is missing.
        """
        asked = {
            "variables": _sendable(dict(variables or {}), "variables"),
            "removed": [*removed],
            "choices": dict(choices or {}),
        }
        return self._gone_on(run, seq, "fork", asked, idempotency_key or str(uuid4()))

    def restart(
        self,
        run: str,
        step: str,
        variables: Mapping[str, Any] | None = None,
        *,
        given: Mapping[str, Any] | None = None,
        removed: Sequence[str] = (),
        choices: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """Start a run that goes on from just before a step of another one, which stays as it is.

        The step is carried out anew, unless its `result` (and `choice`) is given. Raises as `fork`.
        """
        edits = _sendable(dict(variables or {}), "variables")
        told = None if given is None else _sendable(dict(given), "given")
        asked = {
            "variables": edits,
            "removed": [*removed],
            "given": told,
            "choices": dict(choices or {}),
        }
        return self._gone_on(run, step, "restart", asked, idempotency_key or str(uuid4()))

    def roll_back(
        self,
        run: str,
        place: int | str,
        variables: Mapping[str, Any] | None = None,
        *,
        removed: Sequence[str] = (),
        choices: Mapping[str, str] | None = None,
        reason: str = "",
    ) -> WentBack | None:
        """Let a run go on from an earlier line of its own, by number or by the name of the place.

        Whatever is live ends, what was live there begins anew. None while the run is held up: it is
        asked for, and happens with its next turn. Raises `NotFound`, `Invalid`, and `Conflict` where it
        cannot go back, or not to there, or where one of the `choices` is missing that `fork` takes. For
        `compensate` the run is paused, goes back, and is resumed when those calls are undone, unless it was paused
        before; where they are not in the end, it stays paused, and the error says so.
        """
        asked = {
            "seq" if isinstance(place, int) else "name": place,
            "variables": _sendable(dict(variables or {}), "variables"),
            "removed": [*removed],
            "choices": dict(choices or {}),
            "reason": reason,
        }
        if "compensate" in (choices or {}).values():
            seq = place if isinstance(place, int) else self.called(run, place)
            if seq is None:
                raise NotFound(f"run {run} has no place that is called {place!r}")
            asked.pop("name", None)
            return self._gone_back(run, seq, {**asked, "seq": seq})
        return self._go_back(run, asked)

    def called(self, run: str, name: str) -> int | None:
        """The line of a run that has a name; None where there is none."""
        return next((one.seq for one in self.checkpoints(run) if one.name == name), None)

    def effects(self, run: str, place: int | str, *, itself: bool = False) -> tuple[Effect, ...]:
        """What a fork from a line, or a restart from a step, would make of the calls of a run.

        `itself`: or what the run would that goes back to a line.
        """
        told = {"itself": itself} if itself else {}
        found = self._wire.get(f"{_at(run, place)}/effects", **told)
        return tuple(records.read(Effect, each) for each in found["items"])

    def undoable(self, run: str) -> tuple[Undoable, ...]:
        """How calls of a run would be undone, and why not. Nothing is carried out.

        Raises `Conflict` where nothing of the run can be undone.
        """
        found = self._wire.get(f"{_place(run)}/undo")
        return tuple(records.read(Undoable, each) for each in found["items"])

    def undo(
        self,
        run: str,
        calls: Sequence[str],
        *,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> Run:
        """Start a run that undoes what calls of one have done that has ended, or gone back over them: the last ones first.

        `calls` are names (`STEP.ORDINAL`), or `compensable` for all that are left. Raises `Invalid` for names of
        no call, and `Conflict` with every one that cannot be undone: then none is.
        """
        accepted = self._wire.post(
            f"{_place(run)}/undo",
            {"calls": [*calls], "reason": reason},
            idempotency_key=idempotency_key or str(uuid4()),
        )
        return self.run(accepted["run_id"])

    def settle_undo(self, run: str, call: str, fate: str, *, reason: str = "") -> None:
        """Say what has become of undoing a call of which nobody knew: it was `undone`, or it `stands`.

        Raises `Conflict` where it is known, or a run is at it.
        """
        asked = {"call": call, "fate": fate, "reason": reason}
        self._wire.post(f"{_place(run)}/undo/settle", asked)

    def _gone_on(
        self, run: str, place: int | str, how: str, asked: Mapping[str, Any], key: str
    ) -> Run:
        """Fork or restart. Where calls are to be undone first, undo them, wait for the end of that, and ask again.

        Doing it again goes on where it was left: what is undone is no question any more, and what somebody is
        undoing already is waited for. What is not undone in the end is refused with what to do.
        """
        chosen: Mapping[str, str] = asked["choices"]
        address = f"{_at(run, place)}/{how}"
        if "compensate" in chosen.values():
            self._await_undoing(self.effects(run, place))
        try:
            accepted = self._wire.post(address, asked, idempotency_key=key)
        except Blocked as blocked:
            first = _to_undo(self.effects(run, place), chosen)
            if not _is_that_alone(blocked, first):
                raise
            self._undo_first(run, first)
            accepted = self._wire.post(address, asked, idempotency_key=key)
        return self.run(accepted["run_id"])

    def _go_back(self, run: str, asked: Mapping[str, Any]) -> WentBack | None:
        went = self._wire.post(f"{_place(run)}/rollback", asked)["rollback"]
        return None if went is None else records.read(WentBack, went)

    def _gone_back(self, run: str, seq: int, asked: Mapping[str, Any]) -> WentBack | None:
        """Roll back, and undo calls behind the run, which is paused as long as they are not all undone.

        Doing it again goes on where it was left, as `_gone_on` does. A run that was paused before stays so.
        """
        paused, stays = False, ""
        try:
            while True:
                self._await_undoing(self.effects(run, seq, itself=True))
                first = _to_undo(self.effects(run, seq, itself=True), asked["choices"])
                try:
                    went = self._go_back(run, _naming(asked, first))
                    break
                except Blocked as blocked:
                    if not paused and _is_that_alone(blocked, first):
                        # What the run does until then is looked at once more.
                        paused = True
                        self.pause(run, asked["reason"])
                    elif _to_undo(self.effects(run, seq, itself=True), asked["choices"]) == first:
                        raise
            if first:
                how = (
                    "is paused, and goes back with its next turn"
                    if went is None
                    else "went back, and is paused"
                )
                stays = (
                    f"run {run} {how}; undo what is to be undone (celeriac undo {run} --plan) and resume it, or roll "
                    "back once more and choose otherwise"
                )
                self._undo_behind(run, seq, first, went)
            if paused:
                self.resume(run, asked["reason"])
        except BaseException as failed:
            if paused and not stays:
                stays = self._resumed(run, asked["reason"])
            if stays and isinstance(failed, ApiError):
                failed.args = (f"{failed.message}; {stays}",)
            elif stays:
                failed.add_note(stays)
            raise
        return went

    def _undo_behind(self, run: str, seq: int, first: Sequence[str], went: WentBack | None) -> None:
        """Undo calls that a run has gone back over. Raises `Conflict` where one is not undone in the end."""
        if went is None:
            raise Conflict("the run is held up, and nothing is undone yet")
        self._undo_first(run, first)
        found = self.effects(run, seq, itself=True)
        left = [one.name for one in found if one.name in first and one.happened != "undone"]
        if left:
            raise Conflict(f"not undone: {', '.join(left)}")

    def _resumed(self, run: str, reason: str) -> str:
        """Let a run go on that did not go back; what is to be said of it if it does not."""
        try:
            self.resume(run, reason)
        except ApiError as failed:
            return f"run {run} did not go back, and is still paused: {failed.message}"
        return ""

    def _await_undoing(self, found: Sequence[Effect]) -> None:
        """Wait for whoever is undoing calls."""
        for by in dict.fromkeys(one.undone_by for one in found if one.happened == "undoing"):
            self.wait(str(by))

    def _undo_first(self, run: str, first: Sequence[str]) -> None:
        """Undo calls, which are told in the order in which they were made, and wait for the end of that."""
        while first:
            # Of those that are undone by one run, and among them, the last ones first.
            first, last = first[:-_UNDONE_AT_ONCE], first[-_UNDONE_AT_ONCE:]
            self.wait(self.undo(run, last).id)

    # ------------------------------------------------------------------------------------------

    def _register(self, plural: str, body: Mapping[str, Any]) -> Function:
        return records.read(Function, self._wire.post(f"/api/v1/{plural}", body))

    def _ended(self, run: str, seconds: float) -> bool:
        """Whether a run has ended, now or within so many seconds."""
        try:
            body = self._wire.get(f"{_place(run)}/wait", patience=seconds, seconds=seconds)
            return bool(body["ended"])
        except Unavailable as error:
            # Too many wait already: then look now and again.
            wire.pause(1, error)
            return self.run(run).ended

    def _pages(
        self, kind: type[T], place: str, /, *, client: Client | None = None, **query: Any
    ) -> Iterator[T]:
        others = {} if client is None else {"client": client}
        for entry in self._items(place, **query):
            yield records.read(kind, entry, **others)

    def _items(self, place: str, **query: Any) -> Iterator[Any]:
        cursor: str | None = None
        while True:
            body = self._wire.get(place, cursor=cursor, limit=_PAGE, **query)
            yield from body["items"]
            cursor = body["next"]
            if cursor is None:
                return


def _new(
    function: Callable[..., Any] | str, name: str | None, description: str | None
) -> dict[str, Any]:
    """A function as it is handed in."""
    code = function if isinstance(function, str) else sources.source_of(function)
    known_as = name or (sources.name_in(code) if isinstance(function, str) else function.__name__)
    return {"name": known_as, "code": code, "description": description}


def _event(event: httpx2.ServerSentEvent) -> Event | None:
    """An event that was read; None for one of a kind that is not known here."""
    kind: type[Line | LogLine] | None = _TOLD.get(event.event)
    if kind is None:
        return None
    return Event(id=event.id, told=records.read(kind, event.json()))


_TOLD: Mapping[str, type[Line | LogLine]] = {"history": Line, "log": LogLine}


def _sendable(data: dict[str, Any], path: str) -> dict[str, Any]:
    """Data that is JSON as it stands. Raises `Invalid` with the place of what is not."""
    if problems := tuple(values.problems(data, path=path)):
        raise Invalid(problems, "this cannot be sent as JSON")
    return data


def _written(given: Document) -> tuple[str, str]:
    """A document as text, and its media type."""
    match given:
        case Path():
            return given.read_text("utf-8"), "application/yaml"
        case str():
            return given, "application/yaml"
        case _:
            return values.canonical(_sendable(dict(given), "")), "application/yaml"


def _at(run: str, place: int | str) -> str:
    """The address of a line of a run, or of a step."""
    below = f"checkpoints/{place}" if isinstance(place, int) else f"steps/{_quoted(place)}"
    return f"{_place(run)}/{below}"


def _to_undo(found: Sequence[Effect], chosen: Mapping[str, str]) -> list[str]:
    """The calls that are to be undone, and can be, in the order in which they were made."""
    return [
        one.name
        for one in found
        if "compensate" in one.choices
        and chosen.get(one.name, chosen.get(one.effect)) == "compensate"
    ]


def _naming(asked: Mapping[str, Any], first: Sequence[str]) -> Mapping[str, Any]:
    """The same request, with each call by its name that is to be undone: others of its class are another question."""
    chosen: Mapping[str, str] = asked["choices"]
    others = {
        name: choice
        for name, choice in chosen.items()
        if choice != "compensate" or name not in tools.EFFECTS
    }
    return {**asked, "choices": {**others, **dict.fromkeys(first, "compensate")}}


def _is_that_alone(blocked: Blocked, first: Sequence[str]) -> bool:
    """Whether nothing stands in the way but that these calls are to be undone first."""
    named = {problem.path.removeprefix("choices.") for problem in blocked.problems}
    return bool(named) and named <= {*first}


def _place(run: str) -> str:
    return f"/api/v1/runs/{_quoted(run)}"


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _if_match(revision: int | None) -> dict[str, str]:
    """The header that says from which revision something was made."""
    return {} if revision is None else {"If-Match": f'"{revision}"'}


def _key(url: str) -> str | None:
    """The credential that is at hand; the embedded platform's is for this machine alone."""
    if given := os.environ.get("CELERIAC_API_KEY"):
        return given
    if not wire.is_loopback(url):
        return None
    where = {
        name: os.environ[name] for name in ("CELERIAC_HOME", "XDG_DATA_HOME") if name in os.environ
    }
    try:
        return (Settings.from_environment(where).home / "admin.key").read_text("utf-8").strip()
    except OSError:
        return None
