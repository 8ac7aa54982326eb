"""Runs that write agents and workflows: checked, bounded, asked about, and known as their authors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from engine import documents
from engine.capabilities import subject
from engine.core.permits import permit
from engine.core.principal import ADMIN, Principal
from engine.core.values import Json
from engine.errors import Conflict
from engine.platform import DatabaseRole, Platform
from engine.runs import (
    agents,
    answers,
    approvals,
    authorship,
    capabilities,
    catalogue,
    drafts,
    launch,
    policies,
    sweep,
    users,
)
from engine.runs.approvals import Approval
from engine.runs.views import Detail
from engine.services.catalogue import Config
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.hands import through
from tests.support.llm import Request, Say, Script, Server, scripted, serving
from tests.support.platforms import TENANT, chain, publish, sql, submit, take, wake
from tests.support.services import ROOT
from workers.execution import Worker

pytestmark = pytest.mark.usefixtures("sound")

EXAMPLE = ROOT / "examples" / "writing-agents"
PRICE = {"input_usd_per_million": 1, "output_usd_per_million": 1}
WHO = Principal(tenant=TENANT, user="root", roles=frozenset({ADMIN}))
GREETER: dict[str, Json] = {
    "type": "template",
    "help": "Greets somebody.",
    "prompt": "Dear {name}, welcome.",
    "inputs": ["name"],
    "outputs": ["text"],
}


def proc(code: str, *inputs: str) -> dict[str, Json]:
    given: dict[str, Json] = {"type": "proc", "function": "f", "function_def": code}
    return {**given, "inputs": list[Json](inputs), "outputs": ["text"]}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Models may be on this machine, and little may be written."""
    return replace(settings, private_hosts=("127.0.0.0/8",), written_per_run=3)


@pytest.fixture(autouse=True)
def tools(main: Platform) -> None:
    """The services of the example, and somebody who may publish."""
    for path in sorted(EXAMPLE.glob("*s.*.yaml")):
        service: Any = documents.read_text(path.read_text())
        catalogue.register_service(main, TENANT, **service, by="root")
    users.create(main, WHO, "ada", roles=["editor"])
    users.create(main, WHO, "eve", roles=["approver"])


@contextmanager
def model(main: Platform, script: Script) -> Iterator[Server]:
    """A server that follows a script, as the service `llm`."""
    with serving(script) as server:
        config = {"url": server.url, "models": {"small": PRICE}, "allow_private": ["127.0.0.1"]}
        catalogue.register_service(main, TENANT, "llm", "llm", config, by="root")
        yield server


def writes(name: str, definition: Json, tool: str = "agents.publish") -> dict[str, Json]:
    """A workflow of one node, which publishes an agent."""
    given: Json = {"name": name, "definition": "$definition"}
    node: dict[str, Json] = {"kind": "tool", "tool": tool, "with": given}
    node["save"] = {"written": "$result"}
    return {
        **chain(write=node),
        "variables": {"definition": {"default": definition}, "written": {"default": None}},
    }


def ran(main: Platform, worker: Worker, document: Json, **inputs: Json) -> Detail:
    return through(main, worker, submit(main, publish(main, document), **inputs))


def wrote(main: Platform, worker: Worker, name: str, definition: Json) -> Mapping[str, Any]:
    """What publishing an agent has come to."""
    found = ran(main, worker, writes(name, definition))
    assert found.status == "completed", found.message
    written = found.variables["written"]
    assert isinstance(written, dict)
    return written


def again(main: Platform, worker: Worker, run: RunId) -> Detail:
    wake(main.settings)
    sweep.sweep(main)
    return through(main, worker, run)


def asked(main: Platform, run: RunId) -> Approval:
    """What people are asked of a run."""
    (found,) = approvals.page(main, TENANT, status="pending")
    assert found.run_id == run.run
    return found


def answer(main: Platform, run: RunId, choice: str) -> None:
    found = asked(main, run)
    answers.answer(main, run, found.step, by="eve", choice=choice, digest=found.digest)


def grant(main: Platform, whom: str, profile: dict[str, Json]) -> None:
    with platforms.platform(main.settings, DatabaseRole.API) as built:
        api = built.of(TENANT)
        capabilities.grant(api, TENANT, subject(whom), profile, by="root")


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (proc("import os\ndef f(): return os.getcwd()"), "There is no module os here"),
        (proc("def f(): return __import__('os')"), "__import__"),
        ({**GREETER, "prompt": "Dear {nmae}"}, "{nmae} stands for no input"),
        ({**GREETER, "prompt": "Hello"}, "the input name stands nowhere in it"),
        ({**GREETER, "type": "macro"}, "macro"),
    ],
)
def test_what_is_wrong_is_not_published_and_all_of_it_is_told(
    main: Platform, worker: Worker, definition: dict[str, Json], message: str
) -> None:
    found = ran(main, worker, writes("greeter", definition))
    assert (found.status, found.reason) == ("failed", "invalid")
    assert message in str(found.message)
    assert agents.page(main, TENANT) == ()


def test_who_may_not_publish_has_no_run_publish_for_him(main: Platform, worker: Worker) -> None:
    users.create(main, WHO, "bob", roles=["operator"])
    version = publish(main, writes("greeter", GREETER))
    run = launch.submit(main, TENANT, version, {}, by="bob").run
    found = through(main, worker, run)
    assert (found.status, found.reason) == ("failed", "forbidden")
    assert "definition:write, which bob lacks" in str(found.message)
    assert agents.page(main, TENANT) == ()


def test_a_policy_denies_what_it_is_told_to(main: Platform, worker: Worker) -> None:
    policy = """
policy: no-authors
rules:
  - name: nobody writes
    tool: agents.publish
    arguments: {path: name, regex: "^gre"}
    action: reject
    message: greeters are written by people
"""
    policies.apply(main, TENANT, policy, by="root")
    found = ran(main, worker, writes("greeter", GREETER))
    assert (found.status, found.reason) == ("failed", "rejected")
    assert "greeters are written by people" in str(found.message)


def test_what_runs_work_out_must_be_there(main: Platform, worker: Worker) -> None:
    for name, reason in (("nobody", "no_such_workflow"), (7, "input_failed")):
        node: dict[str, Json] = {"kind": "workflow", "workflow": "$name"}
        document = {**chain(call=node), "inputs": {"name": {}}}
        found = ran(main, worker, document, name=name)
        assert (found.status, found.reason) == ("failed", reason)


# --- what is asked about ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        (proc("import csv\ndef f(): return 1"), "it imports csv, which written was not granted"),
        (
            {**GREETER, "type": "txt2txt", "service": "llm"},
            "it uses tool llm, which written does not",
        ),
        (
            {
                "type": "workflow",
                "inputs": [],
                "outputs": ["text"],
                "steps": [{"agent": "pay", "params": {}, "output": ["text"]}],
            },
            "it uses function pay, which written does not",
        ),
    ],
)
def test_what_is_wider_than_its_writer_waits_until_somebody_allows_it(
    main: Platform, worker: Worker, definition: dict[str, Json], reason: str
) -> None:
    catalogue.register(main, TENANT, "function", "pay", "def pay(): return 1", by="root")
    with model(main, scripted(Say(text="hello"))):
        run = submit(main, publish(main, {**writes("greeter", definition), "workflow": "written"}))
        through(main, worker, run)
        assert reason in asked(main, run).reason
        assert agents.page(main, TENANT) == ()
        answer(main, run, "approve")
        found = again(main, worker, run)
    assert found.status == "completed", found.message
    assert agents.find(main, TENANT, "greeter").version == "1.0"


def test_a_workflow_that_goes_elsewhere_than_its_writer_waits_until_somebody_allows_it(
    main: Platform, worker: Worker
) -> None:
    catalogue.register(main, TENANT, "function", "pay", "def pay(state): return state", by="root")
    nodes: dict[str, Json] = {
        "a": {"uses": "pay", "queue": "vault", "lock": {"name": "payroll", "of": "tenant"}},
        "b": {"kind": "workflow", "workflow": "$which"},
        "c": {"kind": "tool", "tool": "$which"},
        "d": {"kind": "map", "over": [1], "do": {"kind": "llm", "prompt": "x", "tools": "$which"}},
    }
    definition: Json = {**chain(**nodes), "workflow": "wide", "inputs": {"which": {}}}
    given: Json = {"definition": "$definition"}
    node: dict[str, Json] = {"kind": "tool", "tool": "workflows.publish", "with": given}
    written = {**chain(write=node), "variables": {"definition": {"default": definition}}}
    with model(main, scripted(Say(text="hello"))):
        run = submit(main, publish(main, {**written, "workflow": "written"}))
        through(main, worker, run)
    assert asked(main, run).reason == (
        "it uses queue vault, lock of the tenant payroll, workflows whose names it works out, "
        "tools whose names it works out, function pay, tool llm, which written does not"
    )


def test_what_is_denied_is_not_published(main: Platform, worker: Worker) -> None:
    run = submit(main, publish(main, writes("greeter", proc("import csv\ndef f(): return 1"))))
    through(main, worker, run)
    answer(main, run, "deny")
    found = again(main, worker, run)
    assert (found.status, found.reason) == ("failed", "denied")
    assert agents.page(main, TENANT) == ()


def test_a_writer_that_was_granted_a_module_may_write_what_imports_it(
    main: Platform, worker: Worker
) -> None:
    version = publish(main, writes("greeter", proc("import csv\ndef f(): return 1")))
    named = catalogue.version(main, TENANT, version).workflow
    grant(main, f"workflow:{named}", {"modules": ["csv"]})
    assert through(main, worker, submit(main, version)).status == "completed"


def test_what_a_person_has_entered_is_not_replaced_without_one(
    main: Platform, worker: Worker
) -> None:
    agents.enter(main, TENANT, {"agents": {"greeter": GREETER}}, by="root")
    changed = {**GREETER, "prompt": "Hello {name}"}
    run = submit(main, publish(main, writes("greeter", changed)))
    through(main, worker, run)
    assert "another version of agent greeter, which root has entered" in asked(main, run).reason
    assert agents.find(main, TENANT, "greeter").version == "1.0"


def test_what_is_granted_to_all_versions_is_not_inherited_without_a_person(
    main: Platform, worker: Worker
) -> None:
    wrote(main, worker, "greeter", GREETER)
    grant(main, "function:agent.greeter", {"hosts": ["https://a.example"]})
    changed = {**GREETER, "prompt": "Hello {name}"}
    run = submit(main, publish(main, writes("greeter", changed)))
    through(main, worker, run)
    wanted = "it would have what is granted to all versions of function agent.greeter"
    assert wanted in asked(main, run).reason


# --- what is bounded --------------------------------------------------------------------------


def copying(**changed: Json) -> Any:
    """A workflow that publishes what it was given of itself, and runs that."""
    definition = {"workflow": "copy", **{name: f"$self.{name}" for name in ("inputs", "variables")}}
    definition |= {name: f"$self.{name}" for name in ("nodes", "edges")}
    document: Any = documents.read_text(
        """
workflow: copy
inputs:
  self: {type: object}
  number: {type: integer}
variables: {written: {default: null}}
nodes:
  begin: {kind: start}
  write: {kind: tool, tool: workflows.publish, save: {written: $result}}
  call: {kind: workflow, workflow: $written.workflow, with: {self: $self, number: $number + 1}}
edges: [begin -> write -> call -> end]
"""
    )
    document["nodes"]["write"]["with"] = {"definition": {**definition, **changed}}
    return document


def test_a_copy_that_runs_a_copy_of_itself_ends_where_runs_are_too_deep(
    main: Platform, worker: Worker
) -> None:
    document = copying()
    found = ran(main, worker, document, self=document, number=1)
    assert (found.status, found.reason) == ("failed", "child_failed")
    assert "too_deep: node call would start a run 21 runs deep" in str(found.message)


def test_a_copy_that_writes_another_copy_of_itself_waits_until_somebody_allows_it(
    main: Platform, worker: Worker
) -> None:
    """Whatever it would run is not known before."""
    numbered: Json = {"written": {"default": None}, "mark": {"default": "$number"}}
    document = copying(workflow="copies", variables=numbered)
    ran(main, worker, document, self=document, number=1)
    (found,) = approvals.page(main, TENANT, status="pending")
    assert "it uses workflows whose names it works out" in found.reason


def test_a_run_writes_so_many_versions_and_no_more(main: Platform, worker: Worker) -> None:
    given: Json = {"name": "$each", "definition": "$definition"}
    publishing: Json = {"kind": "tool", "tool": "agents.publish", "with": given}
    node: Json = {
        "kind": "map",
        "over": ["a", "b", "c", "d"],
        "as": "each",
        "at_once": 1,
        "do": publishing,
    }
    document = {**chain(write=node), "variables": {"definition": {"default": GREETER}}}
    found = ran(main, worker, document)
    assert (found.status, found.reason) == ("failed", "items_failed")
    assert "written 3 versions, and may write 3 (CELERIAC_WRITTEN_PER_RUN)" in str(found.message)
    assert len(sql(main, "SELECT FROM authorship")) == 3


def test_a_tenant_may_have_so_many_written_within_a_day(main: Platform, worker: Worker) -> None:
    few = replace(worker.platform.settings, written_per_day=1)
    bounded = replace(worker, platform=replace(worker.platform, settings=few))
    wrote(main, bounded, "greeter", GREETER)
    found = ran(main, bounded, writes("other", GREETER))
    assert (found.status, found.reason) == ("failed", "over_quota")
    assert "CELERIAC_WRITTEN_PER_DAY" in str(found.message)


# --- what is written --------------------------------------------------------------------------


def test_a_version_knows_the_step_that_has_written_it_and_the_one_before(
    main: Platform, worker: Worker
) -> None:
    wrote(main, worker, "greeter", GREETER)
    written = wrote(main, worker, "greeter", {**GREETER, "prompt": "Hello {name}"})
    assert (written["version"], written["parent"]) == ("1.1", "1.0")
    (first, second) = sql(main, "SELECT * FROM authorship ORDER BY version")
    assert (first.parent, second.parent) == (None, "1.0")
    assert second.step == "write#1"
    (act,) = sql(
        main,
        "SELECT * FROM admin_act WHERE subject = 'agent:greeter@1.1' AND action = 'agent.write'",
    )
    assert (act.by, act.detail["run"]) == ("ada", str(second.run_id))


def test_a_call_that_comes_again_publishes_nothing_anew(main: Platform, worker: Worker) -> None:
    run = submit(main, publish(main, writes("greeter", GREETER)))
    lease = take(worker.platform, run, "write#1")
    config = Config(definitions="agents", action="publish")
    given = {"name": "greeter", "definition": GREETER}
    first = authorship.answer(worker.platform, lease, config, given)
    agents.enter(
        main, TENANT, {"agents": {"greeter": {**GREETER, "prompt": "Hi {name}"}}}, by="root"
    )
    assert authorship.answer(worker.platform, lease, config, given) == first
    assert agents.find(main, TENANT, "greeter").version == "1.1"


def test_what_has_become_wider_since_it_was_asked_for_is_not_published(
    main: Platform, worker: Worker
) -> None:
    run = submit(main, publish(main, writes("greeter", GREETER)))
    lease = take(worker.platform, run, "write#1")
    agents.enter(main, TENANT, {"agents": {"greeter": GREETER}}, by="root")
    given: dict[str, Json] = {"name": "greeter", "definition": {**GREETER, "prompt": "Hi {name}"}}
    config = Config(definitions="agents", action="publish")
    with pytest.raises(Conflict, match="were not asked: it would be another version of agent"):
        authorship.answer(worker.platform, lease, config, given)
    assert agents.find(main, TENANT, "greeter").version == "1.0"


def test_what_is_validated_is_not_published(main: Platform, worker: Worker) -> None:
    found = ran(main, worker, writes("greeter", GREETER, "agents.validate"))
    assert found.variables["written"] == {"valid": True, "problems": [], "asks": []}
    wrong = proc("import csv\ndef f(): return 1")
    found = ran(main, worker, writes("greeter", wrong, "agents.validate"))
    (why,) = found.variables["written"]["asks"]
    assert "imports csv" in why
    found = ran(main, worker, writes("greeter", {**GREETER, "prompt": ""}, "agents.validate"))
    assert not found.variables["written"]["valid"]
    assert agents.page(main, TENANT) == ()


def test_a_model_is_told_what_was_refused_and_publishes_what_is_right(
    main: Platform, worker: Worker
) -> None:
    wrong = {"name": "greeter", "definition": {**GREETER, "prompt": "Dear {nmae}"}}
    right = {"name": "greeter", "definition": GREETER}

    def script(request: Request) -> Say:
        match request.turn:
            case 1:
                return Say(calls=[("agents_publish", wrong)])
            case 2:
                return Say(calls=[("agents_publish", right)])
            case _:
                return Say(text=request.text("tool"))

    ask: dict[str, Json] = {"kind": "llm", "prompt": "Write.", "tools": ["agents.publish"]}
    with model(main, script) as server:
        found = ran(main, worker, chain(ask={**ask, "save": {"said": "$result.content"}}))
    assert found.status == "completed", found.message
    assert "{nmae} stands for no input" in server.requests[1].text("tool")
    assert json.loads(str(found.variables["said"]))["workflow"] == "agent.greeter@1.0.0"


def test_agents_and_workflows_are_read(main: Platform, worker: Worker) -> None:
    wrote(main, worker, "greeter", GREETER)
    node: dict[str, Json] = {"kind": "tool", "tool": "agents.read", "save": {"all": "$result"}}
    one = {**node, "with": {"name": "greeter"}, "save": {"one": "$result"}}
    flows = {"kind": "tool", "tool": "workflows.read", "save": {"flows": "$result"}}
    found = ran(main, worker, chain(node=node, one=one, flows=flows)).variables
    assert [each["name"] for each in found["all"]["agents"]] == ["greeter"]
    assert found["one"]["definition"] == GREETER
    assert "agent.greeter" in [each["name"] for each in found["flows"]["workflows"]]


def test_a_draft_is_kept_for_people_and_told_with_its_problems(
    main: Platform, worker: Worker
) -> None:
    definition: Json = {"workflow": "idea", "nodes": {"a": {"uses": "nothing"}}}
    found = ran(
        main,
        worker,
        {
            **chain(
                write={
                    "kind": "tool",
                    "tool": "workflows.draft",
                    "with": {"definition": "$d"},
                    "save": {"told": "$result"},
                }
            ),
            "variables": {"d": {"default": definition}},
        },
    )
    assert found.variables["told"]["revision"] == 1
    assert found.variables["told"]["problems"]
    assert drafts.show(main, TENANT, "idea").draft.saved_by == f"run:{found.id}"


def test_a_draft_of_a_person_is_left_alone(main: Platform, worker: Worker) -> None:
    drafts.save(main, TENANT, "idea", b"workflow: idea", by="root")
    definition: Json = {"workflow": "idea", "nodes": {"a": {"kind": "pass"}}}
    given: Json = {"definition": "$d", "revision": 1}
    node: Json = {"kind": "tool", "tool": "workflows.draft", "with": given}
    found = ran(main, worker, {**chain(write=node), "variables": {"d": {"default": definition}}})
    assert (found.status, found.reason) == ("failed", "conflict")
    assert "root is writing a draft of idea" in str(found.message)
    assert drafts.show(main, TENANT, "idea").draft.text == "workflow: idea"


# --- what looks like something else -------------------------------------------------------------------


def publishes(definition: Json, **more: Json) -> dict[str, Json]:
    """A workflow `writer` of which a node publishes a workflow."""
    node: Json = {
        "kind": "tool",
        "tool": "workflows.publish",
        "with": {"definition": "$definition"},
        "save": {"written": "$result"},
    }
    variables: Json = {"definition": {"default": definition}, "written": {"default": None}}
    return {**chain(write=node, **more), "workflow": "writer", "variables": variables}


def why(main: Platform, worker: Worker, document: Json) -> str:
    """Why people are asked of a run of a document; empty: nobody is."""
    run = submit(main, publish(main, document))
    through(main, worker, run)
    found = [
        each.reason
        for each in approvals.page(main, TENANT, status="pending")
        if each.run_id == run.run
    ]
    return found[0] if found else ""


def code(main: Platform, name: str, *bodies: str) -> None:
    for body in bodies or ("return state",):
        source = f"def {name}(state=None): {body}"
        catalogue.register(main, TENANT, "function", name, source, by="root")


def test_a_workflow_is_not_the_function_of_its_name(main: Platform, worker: Worker) -> None:
    code(main, "pay")
    kid: Json = {**chain(a={"uses": "pay"}), "workflow": "pay"}
    assert "it uses function pay" in why(main, worker, publishes(kid))


def test_an_agent_by_its_path_is_that_agent(main: Platform, worker: Worker) -> None:
    agents.enter(main, TENANT, {"agents": {"team.pay": GREETER}}, by="root")
    asks = why(main, worker, writes("team/pay", {**GREETER, "prompt": "Pay {name}"}))
    assert "another version of agent team.pay, which root has entered" in asks


def test_a_name_that_is_worked_out_may_be_any(main: Platform, worker: Worker) -> None:
    kid: Json = {**chain(c={"kind": "workflow", "workflow": "$which"}), "workflow": "kid"}
    kid = {**kid, "inputs": {"which": {}}}  # type: ignore[dict-item]
    asks = why(
        main, worker, publishes(kid, call={"kind": "workflow", "workflow": "$written.workflow"})
    )
    assert "it uses workflows whose names it works out" in asks


def test_another_version_is_something_else(main: Platform, worker: Worker) -> None:
    code(main, "f", "return 1", "return 2")
    old: Json = {**chain(a={"uses": "f@1"}), "workflow": "kid"}
    new: Json = {**chain(a={"uses": "f"}), "workflow": "other"}
    assert "it uses function f" in why(main, worker, publishes(old, use={"uses": "f@2"}))
    assert not why(main, worker, publishes(new, use={"uses": "f@2"}))


def test_what_a_person_has_entered_stays_a_persons_whoever_wrote_it_since(
    main: Platform, worker: Worker
) -> None:
    agents.enter(main, TENANT, {"agents": {"greeter": GREETER}}, by="root")
    run = submit(main, publish(main, writes("greeter", {**GREETER, "prompt": "Hello {name}"})))
    through(main, worker, run)
    answer(main, run, "approve")
    assert again(main, worker, run).status == "completed"
    asks = why(main, worker, writes("greeter", {**GREETER, "prompt": "Hey {name}"}))
    assert "which root has entered" in asks


def test_who_writes_a_workflow_does_not_get_rid_of_a_policy(main: Platform, worker: Worker) -> None:
    policy = """
policy: no-authors
applies_to: {workflows: [writer]}
rules:
  - {name: nobody writes, tool: agents.publish, action: reject, message: writers publish no agents}
"""
    policies.apply(main, TENANT, policy, by="root")
    kid: Json = {**writes("greeter", GREETER), "workflow": "kid"}
    never: Json = {
        "kind": "tool",
        "tool": "agents.publish",
        "with": {"name": "x", "definition": {}},
    }
    asks = why(main, worker, publishes(kid, never=never))
    assert asks == "policy no-authors holds for writer, and would not for kid"


def test_a_permit_of_another_call_is_none_for_this_one(main: Platform, worker: Worker) -> None:
    run = submit(main, publish(main, writes("greeter", GREETER)))
    lease = take(worker.platform, run, "write#1")
    code(main, "pay")
    steps: Json = [{"agent": "pay", "params": {}, "output": ["text"]}]
    given: dict[str, Json] = {
        "name": "greeter",
        "definition": {"type": "workflow", "inputs": [], "outputs": ["text"], "steps": steps},
    }
    config = Config(definitions="agents", action="publish")
    for rule in ("tool:other", "reach:agents.publish:" + "0" * 32):
        allowed = replace(lease, permits=(permit("call", rule, "0" * 64),))
        with pytest.raises(Conflict, match="were not asked"):
            authorship.answer(worker.platform, allowed, config, given)


def test_what_nobody_can_judge_is_not_put_to_anybody(main: Platform, worker: Worker) -> None:
    code(main, "pay")
    kid: Json = {**chain(a={"uses": "pay", "notes": "x" * 2000}), "workflow": "kid"}
    many: Json = {f"n{n}": {"uses": "pay", "notes": "x" * 4000} for n in range(20)}
    large: Json = {**chain(**many), "workflow": "large"}  # type: ignore[arg-type]
    assert "it uses function pay" in why(main, worker, publishes(kid))
    found = ran(main, worker, publishes(large))
    assert (found.status, found.reason) == ("failed", "conflict")
    assert "too large for people to judge" in str(found.message)


def test_names_of_agents_are_not_taken_by_workflows(main: Platform, worker: Worker) -> None:
    kid: Json = {**chain(a={"kind": "pass"}), "workflow": "agent.zed"}
    found = ran(main, worker, publishes(kid))
    assert (found.status, found.reason) == ("failed", "invalid")
    assert agents.enter(main, TENANT, {"agents": {"zed": GREETER}}, by="root")


def test_a_last_version_has_none_after_it(main: Platform, worker: Worker) -> None:
    last: Json = {
        **chain(a={"kind": "pass"}),
        "workflow": "v",
        "version": "999999999.999999999.999999999",
    }
    assert ran(main, worker, publishes(last)).status == "completed"
    found = ran(main, worker, publishes({**chain(b={"kind": "pass"}), "workflow": "v"}))
    assert (found.status, found.reason) == ("failed", "conflict")
    assert "give the next one a number" in str(found.message)
