"""What a tenant has: one of everything that an address can name, and what routes take of it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from engine.core import values
from engine.core.principal import ADMIN, Principal
from engine.platform import Platform
from engine.runs import access, agents, catalogue, identity, policies, sessions
from engine.sessions import story
from engine.sessions.steps import Wanted
from engine.sessions.words import StepType
from engine.store.ids import QuestionId, RunId
from tests.support import platforms, recorded, site
from tests.support.platforms import LINE, TENANT, finish, take
from tests.support.waiting import waits_at
from tests.unit.formats.test_bundle import FILES, tarred

SHA256 = "0" * 64
LARGE = "y" * 300_000
SOURCE = "def thing(state):\n    return state"
AGENT = {"type": "template", "prompt": "{input}", "inputs": ["input"], "outputs": ["output"]}
#: Nothing comes of it.
POLICY = {"policy": "thing", "rules": ["steps > 1000000 → warn"]}
SERVICE = {"name": "served", "kind": "http", "config": {"hosts": ["https://api.example.com"]}}


def of(control: Platform, worker: Platform) -> dict[str, str]:
    """One of everything that an address can name, of the tenant."""
    for namespace in ("function", "tool"):
        catalogue.register(control, TENANT, namespace, "thing", SOURCE, by="ada")
    agent(control, "thing")
    platforms.register(control, "noop")
    begun = run(control, worker)
    policy(control)
    asking = waiting(control)["run_id"]
    ada = key(control, "ada", {ADMIN})
    target = key(control, "target", {"viewer"})
    with site.served(control) as app:
        api = site.Api(client=app.test_client(), token=ada)
        event = api.post("/api/v1/events/paid", json={}).json["id"]
        process = api.post("/api/graph-bundle/upload", data={"file": archive()}).json["processId"]
        given = delegation(api, asking)
        put(api)
        api.send("PUT", "/api/v1/drafts/thing", json={**LINE, "workflow": "thing"})
    return {
        "api_key": key_id(target),
        **begun,
        "process_id": process,
        "event": event,
        **given,
        "asking": asking,
        "request_id": request(asking),
        "sha256": SHA256,
        "name": "thing",
        "user": "target",
        "subject": "function:thing",
        "version": "1.0.0",
        "seq": "1",
        **session(control, "ada", waits=True),
    }


def run(control: Platform, worker: Platform, *, ended: bool = False) -> dict[str, str]:
    """A run whose first step is done; or all of it."""
    version = platforms.publish(control, {**LINE, "workflow": "thing"})
    submitted = platforms.submit(control, version)
    for step in ("a#1", "b#1") if ended else ("a#1",):
        finish(control, worker, take(worker, submitted, step))
    return {
        "run_id": submitted.run,
        "graph_id": version,
        "version_id": version,
        "exec_id": f"{submitted.run}:a:1:1",
        "key": "a#1",
    }


def agent(control: Platform, name: str) -> None:
    """An agent of that name."""
    agents.enter(control, TENANT, {"agents": {name: AGENT}}, by="ada")


def policy(control: Platform) -> None:
    """A policy that is in force."""
    policies.apply(control, TENANT, json.dumps(POLICY), by="ada")


def blob(control: Platform) -> dict[str, str]:
    """A value that is too large for a row."""
    version = platforms.publish(control, {**LINE, "workflow": "thing"})
    platforms.submit(control, version, text=LARGE)
    return {"sha256": values.digest(LARGE)}


def waiting(control: Platform, kind: str = "approval", **fields: Any) -> dict[str, str]:
    """A run with a step that waits."""
    document = waits_at(kind, **fields)
    submitted = platforms.submit(control, platforms.publish(control, document))
    return {"run_id": submitted.run, "key": "w#1"}


def delegation(api: site.Api, asking: str) -> dict[str, str]:
    """What was handed over."""
    hand = {"to": "target", "reason": "x", "run_id": asking, "step": "w#1"}
    return {"delegation": api.post("/api/v1/delegations", json=hand).json["id"]}


def put(api: site.Api) -> None:
    """A secret and a grant, of which deleting leaves nothing."""
    api.post("/api/v1/secrets", json={"name": "thing", "value": "of nobody's business"})
    api.post("/api/v1/capabilities", json={"subject": "function:thing", "profile": {}})


def session(
    control: Platform, user: str, *, waits: bool = False, asks: bool = False
) -> dict[str, str]:
    """A session of somebody's, with a checkpoint; and with a step that waits for people, or asks them."""
    begun = sessions.begin(control, TENANT, "thing", by=user)
    driven = RunId(TENANT, story.run_of(begun.workflow_id))
    kept = sessions.checkpoint(control, driven, "here", by=user)
    assert kept.step_id is not None
    found = {
        "session_id": begun.workflow_id,
        "step_id": kept.step_id,
        "checkpoint_id": kept.checkpoint_id,
    }
    if not waits and not asks:
        return found
    asked = Wanted(step_type=StepType.HUMAN_INPUT, name="ask")
    if asks:
        source = SOURCE.replace("thing", "send_email")
        catalogue.register(control, TENANT, "tool", "send_email", source, by="ada")
        asked = Wanted(step_type=StepType.TOOL_CALL, name="ask", tool_name="send_email")
    return {**found, "step_id": sessions.step(control, driven, asked, by=user).step_id}


def request(run: str) -> str:
    """The name of what a step of a run asks."""
    return identity.question(QuestionId(TENANT, run, "w#1", 1, 1))


def key(control: Platform, user: str, roles: set[str], **given: Any) -> str:
    who = Principal(tenant=TENANT, user=user, roles=frozenset(roles))
    return access.create_key(control.database, who, **given)


def key_id(token: str) -> str:
    return token.partition(".")[0].removeprefix("clr_")


def archive() -> tuple[io.BytesIO, str]:
    return io.BytesIO(tarred(FILES)), "b.tar"


def bodies(things: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What is sent to the routes that take something that must be there, by endpoint."""
    graph = {
        "nodes": [{"name": "thing", "function": "thing"}, {"name": "end", "type": "end"}],
        "edges": [{"source": "thing", "target": "end"}],
    }
    return {
        "workflows.publish": {"json": LINE},
        "drafts.save": {"json": LINE},
        "runs.submit": {"json": {"version_id": things["version_id"]}},
        "runs.migrate": {"json": {"to": "1.0.0"}},
        "runs.roll_back": {"json": {"seq": 3}},
        "runs.undo": {"json": {"calls": ["compensable"]}},
        "runs.settle_undo": {"json": {"call": "b#1.1", "fate": "stands"}},
        "runs.act_on_many": {
            "json": {"action": "pause", "filter": {"ids": [things["run_id"]]}, "limit": 1}
        },
        "checkpoints.name": {"json": {"name": "here"}},
        "functions.register": {"json": {"name": "g", "code": SOURCE.replace("thing", "g")}},
        "tools.register": {"json": {"name": "g", "code": SOURCE.replace("thing", "g")}},
        "agents.enter": {"json": {"agents": {"g": AGENT}}},
        "agents.rename": {"json": {"name": f"n{uuid4().hex}"}},
        "agents.run": {"json": {"inputs": {"input": "x"}}},
        "tools.stand": {"json": {"tags": ["tried"]}},
        "services.register_service": {"json": SERVICE},
        "bundles.upload": {"data": {"file": archive()}},
        "recordings.bring": {"data": recorded.text().encode(), "content_type": recorded.CONTENT},
        "validation.check_graph": {"json": {"name": "x"}},
        "validation.check_node_name": {"json": {"nodeName": "x", "graphId": things["version_id"]}},
        "waits.answer": {"json": {"choice": "approve"}},
        "waits.add_items": {"json": {"items": [1]}},
        "waits.answer_many": {"json": {"ids": [things["request_id"]], "choice": "approve"}},
        "delegations.delegate": {
            "json": {
                "to": things["user"],
                "reason": "x",
                "run_id": things["asking"],
                "step": "w#1",
            }
        },
        "secrets.put": {"json": {"name": "G", "value": "whatever"}},
        "capabilities.grant": {"json": {"subject": things["subject"], "profile": {}}},
        "users.create": {"json": {"id": str(uuid4())}},
        "keys.create": {"json": {"name": "k", "user": things["user"]}},
        "policies.apply": {"json": {**POLICY, "policy": "g"}},
        "policies.lint": {"json": POLICY},
        "policies.test": {"json": {"policy": POLICY, "run": things["run_id"]}},
        "backtests.policy": {"json": {"policy": POLICY, "runs": {"ids": [things["run_id"]]}}},
        "backtests.version": {
            "json": {"workflow": things["name"], "runs": {"ids": [things["run_id"]]}}
        },
        "replays.replay": {"json": {}},
        "sessions.begin": {"json": {"name": "g"}},
        "sessions.step": {"json": {"step_type": "reasoning", "name": "g"}},
        "sessions.give": {"json": {"input": 1}},
        "sessions.rollback": {"json": {"checkpoint_id": things["checkpoint_id"]}},
        "graph.create": {"json": graph},
        "graph-runs.run": {"json": {"graph_id": things["graph_id"]}},
        "graph-runs.run_async": {"json": {"graph_id": things["graph_id"]}},
        "nodes.register_node": {"json": {"name": "g", "code": SOURCE.replace("thing", "g")}},
        "tool-registry.register_tool": {"json": {"name": "g", "code": SOURCE}},
    }
