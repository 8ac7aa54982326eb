"""Agents of seed 002, entered as they are, by the worker's own code, a real sandbox and database."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from engine.capabilities import subject
from engine.core.values import Json
from engine.errors import Conflict, Invalid, NotFound
from engine.platform import DatabaseRole, Platform
from engine.runs import agents, capabilities, catalogue, launch, secrets, views
from engine.runs.agents import Entered
from engine.runs.views import Detail
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.hands import through
from tests.support.llm import Say, scripted, serving
from tests.support.platforms import TENANT, publish, seen_by_owner, sql
from tests.support.services import ROOT
from tests.unit.services import outside
from workers.execution import Worker

pytestmark = pytest.mark.usefixtures("sound")

LIBRARY: Mapping[str, Any] = json.loads((ROOT / "examples/agents/library.json").read_bytes())
OK = {"value": 0, "reason": ""}


def enter(main: Platform, **definitions: Any) -> Mapping[str, Entered]:
    """What became of agents, by name."""
    found = agents.enter(main, TENANT, {"agents": definitions}, by="ada")
    return {each.version.name: each for each in found}


def template(prompt: str, *inputs: str, **more: Any) -> dict[str, Any]:
    return {"type": "template", "prompt": prompt, "inputs": [*inputs], "outputs": ["out"], **more}


def proc(code: str, *inputs: str, **more: Any) -> dict[str, Any]:
    given = {"type": "proc", "function": "f", "function_def": code}
    return {**given, "inputs": [*inputs], "outputs": ["out"], **more}


def workflow(*steps: Any, inputs: Any = (), **more: Any) -> dict[str, Any]:
    return {"type": "workflow", "inputs": [*inputs], "outputs": ["out"], "steps": [*steps], **more}


def step(agent: str, *output: str, **params: Any) -> dict[str, Any]:
    return {"agent": agent, "params": params, "output": [*output]}


def version(main: Platform, name: str) -> str:
    return agents.find(main, TENANT, name).version


def ran(
    main: Platform, worker: Worker, name: str, at: str | None = None, /, **given: Json
) -> Detail:
    """A run of an agent, when it has ended."""
    found = agents.find(main, TENANT, name, at)
    started = launch.submit(main, TENANT, found.version_id, agents.inputs(given), by="ada")
    return through(main, worker, started.run)


# --- what is not entered ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definitions", "path", "message"),
    [
        ({}, "agents.a.type", "has no type"),
        ({"type": "macro"}, "agents.a.type", "macro"),
        ({**template("x"), "inputs": "x"}, "agents.a.inputs", "text stands here"),
        ({**template("x"), "inputs": ["a b"]}, "agents.a.inputs[0]", "is not a name"),
        ({**template("x"), "outputs": ["run"]}, "agents.a.outputs[0]", "something else"),
        (workflow(step("echo", input=1), inputs=["item"]), "agents.a.inputs[0]", "something else"),
        ({**template("x", "x"), "optional_inputs": ["x"]}, "agents.a.optional_inputs", "already"),
        ({**template("x"), "inputs": ["output"]}, "agents.a.inputs", "platform's own"),
        (proc("def g():\n    pass"), "agents.a.function_def", "no function 'f'"),
        (proc("def f(:"), "agents.a.function_def", "Syntax error"),
        (proc("import os\ndef f(): pass"), "agents.a.function_def", "no module os"),
        (proc("import subprocess\ndef f(): pass"), "agents.a.function_def", "subprocess"),
        (workflow(), "agents.a.steps", "a list stands here"),
        (workflow({"agent": "echo", "parms": {}}), "agents.a.steps[0].parms", "no field"),
        (workflow(step("nobody")), "agents.a.steps[0].agent", "Agent not found: nobody"),
        (workflow(step("echo@7")), "agents.a.steps[0].agent", "Agent not found: echo@7"),
        (workflow(step("echo")), "agents.a.steps[0].params.input", "nothing gives it"),
        (workflow(step("echo", input=1, x=2)), "agents.a.steps[0].params.x", "takes no x"),
        (
            workflow(step("echo", input="$gone"), outputs=[]),
            "agents.a.steps[0].params.input",
            "gone",
        ),
        (
            workflow(step("echo", input="$x >"), outputs=[]),
            "agents.a.steps[0].params.input",
            "breaks off",
        ),
        (workflow(step("echo", input=1), inputs=["status"]), "agents.a.inputs", "own"),
        ({**template("x"), "type": "txt2txt"}, "agents.a.nodes.ask.service", "Tool not found: llm"),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_nothing_is_entered(
    main: Platform, definitions: Any, path: str, message: str
) -> None:
    echo = LIBRARY["agents"]["echo"]
    with pytest.raises(Invalid) as caught:
        enter(main, a=definitions, echo=echo)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert message in problem.message
    assert agents.page(main, TENANT) == ()
    assert sql(main, "SELECT 1 FROM function WHERE name LIKE 'agent.%'") == []


def test_what_an_agent_does_not_import_it_is_told(main: Platform, worker: Worker) -> None:
    enter(main, a=proc("import csv\n\ndef f():\n    return 1"))
    ended = ran(main, worker, "a")
    assert ended.status == "failed"
    assert "modules: [csv]" in (ended.message or "")


# --- the seed's own ---------------------------------------------------------------------------


def test_the_agents_of_the_seed_are_entered_as_they_are(main: Platform) -> None:
    entered = agents.enter(main, TENANT, LIBRARY, by="ada")
    assert {each.version.name for each in entered} == LIBRARY["agents"].keys()
    assert {each.version.version for each in entered} == {"1.0"}
    kept = {each.version.name: each.version.definition for each in entered}
    assert kept == LIBRARY["agents"]
    again = agents.enter(main, TENANT, LIBRARY, by="ada")
    assert not any(each.changed for each in again)


def test_the_published_loop_gives_the_published_output(main: Platform, worker: Worker) -> None:
    agents.enter(main, TENANT, LIBRARY, by="ada")
    for laps in (1, 3, "3"):
        ended = ran(main, worker, "loop_test", loop_max=laps)
        assert ended.outputs == {"loop_idx_1": int(laps)}, ended.message
    assert ended.variables["said"] == "2"
    assert ended.variables["loop_start_1"] == 0


def test_templates_are_filled_in_and_other_braces_stay(main: Platform, worker: Worker) -> None:
    agents.enter(main, TENANT, LIBRARY, by="ada")
    said = ran(main, worker, "greet", name="Ada", greeting="Hello").outputs
    assert said == {"greeting_text": 'Hello Ada, {"and": "{nobody}"}'}
    assert ran(main, worker, "greet", name=[1, "é"]).outputs == {
        "greeting_text": ' [1, "é"], {"and": "{nobody}"}'
    }
    assert ran(main, worker, "echo", input="hello").outputs == {"output": "hello"}


def test_what_nobody_gives_is_left_to_the_functions_own_default(
    main: Platform, worker: Worker
) -> None:
    calls = step("shout", "out", word="$word", times="$times")
    around = workflow(calls, inputs=["word"], optional_inputs=["times"])
    enter(main, shout=LIBRARY["agents"]["shout"], around=around)
    assert ran(main, worker, "shout", word="hi").outputs == {"loud": "HI"}
    assert ran(main, worker, "shout", word=7, times=2).outputs == {"loud": "7 7"}
    assert ran(main, worker, "around", word="hi").outputs == {"out": "HI"}
    assert ran(main, worker, "around", word="hi", times=2).outputs == {"out": "HI HI"}


def test_bytes_pass_through_as_they_are(main: Platform, worker: Worker) -> None:
    agents.enter(main, TENANT, LIBRARY, by="ada")
    given = bytes(range(256))
    coded = ran(main, worker, "encode_base64", data=written(given)).outputs
    assert coded == {"encoded_data": written(base64.b64encode(given))}
    back = ran(main, worker, "decode_base64", data=base64.b64encode(given).decode()).outputs
    assert back == {"decoded_data": written(given)}
    assert ran(main, worker, "echo", input=written(b"plain")).outputs == {"output": "plain"}


def written(data: bytes) -> dict[str, Json]:
    return {"$bytes": base64.b64encode(data).decode()}


def test_an_agent_that_fails_gives_its_reason(main: Platform, worker: Worker) -> None:
    agents.enter(main, TENANT, LIBRARY, by="ada")
    ended = ran(main, worker, "fail", reason="disk full")
    assert (ended.status, ended.reason, ended.message) == ("failed", "status", "disk full")


def test_return_on_fail_0_goes_on(main: Platform, worker: Worker) -> None:
    steps = [step("fail", reason="no"), step("echo", "out", input="$status.reason")]
    found = {name: LIBRARY["agents"][name] for name in ("fail", "echo")}
    enter(main, **found, on=workflow(*steps, return_on_fail=0), off=workflow(*steps))
    assert ran(main, worker, "on").outputs == {"out": "no"}
    assert ran(main, worker, "off").status == "failed"


def test_a_name_of_the_tape_can_be_an_input_of_a_function(main: Platform, worker: Worker) -> None:
    agents.enter(main, TENANT, LIBRARY, by="ada")
    ended = ran(main, worker, "loop_start", step_index=4, loop_max=2)
    assert ended.outputs == {"loop_start_1": 4, "loop_max_1": 2, "loop_idx_1": 0}
    enter(main, a=template("{result} {index} {env}", "result", "index", "env"))
    enter(main, w=workflow(step("a", "out", result=1, index="$x", env=3), inputs=["x"]))
    assert ran(main, worker, "a", result=1, index=2, env=3).outputs == {"out": "1 2 3"}
    assert ran(main, worker, "w", x=2).outputs == {"out": "1 2 3"}


def test_an_input_that_a_step_leaves_out_is_taken_off_the_tape(
    main: Platform, worker: Worker
) -> None:
    inner = step("echo", "out")
    enter(main, echo=LIBRARY["agents"]["echo"], a=workflow(inner, inputs=["input"]))
    assert ran(main, worker, "a", input="here").outputs == {"out": "here"}


def test_a_dollar_is_written_twice(main: Platform, worker: Worker) -> None:
    calls = [step("echo", "out", input="$$5"), step("echo", "two", input="${x}")]
    echo = LIBRARY["agents"]["echo"]
    enter(main, echo=echo, a=workflow(calls[0]))
    assert ran(main, worker, "a").outputs == {"out": "$5"}
    with pytest.raises(Invalid, match=r"write \$\$ for a literal dollar"):
        enter(main, a=workflow(calls[1]))


def test_an_expression_in_a_param_is_worked_out(main: Platform, worker: Worker) -> None:
    enter(
        main,
        echo=LIBRARY["agents"]["echo"],
        a=workflow(step("echo", "out", input="$variable > 5"), inputs=["variable"]),
    )
    assert ran(main, worker, "a", variable=7).outputs == {"out": "true"}
    assert ran(main, worker, "a", variable=5).outputs == {"out": "false"}


# --- secrets, dry runs, models ----------------------------------------------------------------


@pytest.fixture
def api(main: Platform) -> Iterator[Platform]:
    """A platform as processes of the API have it, which alone puts secrets."""
    with platforms.platform(main.settings, DatabaseRole.API) as built:
        yield built.of(TENANT)


def test_a_secret_is_opened_for_the_call_alone(
    main: Platform, worker: Worker, api: Platform
) -> None:
    value = "correct-horse-battery-staple"
    code = "def f(key):\n    print(key)\n    return [len(key), key]"
    enter(main, a=proc(code, "key"), w=workflow(step("a", "out", key="ENV_API_KEY")))
    secrets.put(api, TENANT, "API_KEY", value, by="ada")
    ended = ran(main, worker, "w")
    assert (ended.status, ended.reason) == ("failed", "not_granted")
    whom = subject("function:agent.a")
    capabilities.grant(api, TENANT, whom, {"secrets": ["API_KEY"]}, by="ada")
    assert ran(main, worker, "w").outputs == {"out": [len(value), "[secret:API_KEY]"]}
    for table in ("history", "payload", "result", "log", "run", "agent_version"):
        told = seen_by_owner(main.settings, f"SELECT t::text AS row FROM {table} t")
        assert not any(value in row.row for row in told), table


ASKS = "def f(url, dryrun=None):\n    found = {call}\n    return 'dry' if found.get('dry_run') else found"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A platform whose operator lets services into this machine."""
    return replace(settings, private_hosts=("127.0.0.1",))


@pytest.mark.parametrize("told", [True, False])
def test_a_dry_run_opens_no_socket_three_levels_down(
    main: Platform, worker: Worker, api: Platform, told: bool
) -> None:
    """Whether the agent that reaches outside knows of dry runs, or nobody has told it."""
    connections: list[object] = []

    def answer(sock: socket.socket) -> None:
        connections.append(sock)
        sock.recv(65_536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with outside.raw(answer) as server:
        config: dict[str, Json] = {"hosts": [server.url], "base": server.url}
        catalogue.register_service(
            main, TENANT, "web", "http", {**config, "allow_private": ["127.0.0.1"]}, by="ada"
        )
        code = ASKS.format(call="tools.web(url=url)")
        more = {"optional_inputs": ["dryrun"]} if told else {}
        enter(
            main,
            get=proc(code, "url", **more),
            low=workflow(step("get", "out", url="$url"), inputs=["url"]),
            middle=workflow(step("low", "out", url="$url"), inputs=["url"]),
            top=workflow(step("middle", "out", url="$url"), inputs=["url"]),
        )
        granted = {"services": ["web"], "hosts": [server.url]}
        capabilities.grant(api, TENANT, subject("function:agent.get"), granted, by="ada")
        assert ran(main, worker, "top", url="/x", dryrun=True).outputs == {"out": "dry"}
        assert connections == []
        ended = ran(main, worker, "top", url="/x", dryrun=False)
        assert ended.status == "completed", ended.message
        assert len(connections) == 1


def test_a_dry_run_calls_no_tool_that_leaves_something(main: Platform, worker: Worker) -> None:
    code = "def {}(x):\n    return x"
    for name, effect in (("look", "pure"), ("send", "at_most_once")):
        catalogue.register(main, TENANT, "tool", name, code.format(name), effect=effect, by="ada")
    enter(
        main, **{name: proc(f"def f():\n    return tools.{name}(1)") for name in ("look", "send")}
    )
    enter(main, w=workflow(step("look", "out"), step("send", "out")))
    ended = ran(main, worker, "w", dryrun=True)
    assert ended.status == "failed"
    assert "send is not called in a dry run" in (ended.message or "")
    assert [call.tool for call in views.calls(main, RunId(TENANT, ended.id))] == ["look"]
    assert ran(main, worker, "w").status == "completed"


def test_a_text_that_a_model_answers_is_an_agent_too(main: Platform, worker: Worker) -> None:
    price = {"input_usd_per_million": 1, "output_usd_per_million": 1}
    asks = template('Say {input_text} {tone}: {"x"} {{ 1 }}', "input_text", type="txt2txt")
    asks |= {"optional_inputs": ["tone"], "outputs": ["enhanced_vocabulary"]}
    with serving(scripted(Say(text="Greetings"))) as server:
        config: dict[str, Json] = {
            "url": server.url,
            "model": "m",
            "models": {"m": price},
            "allow_private": ["127.0.0.1"],
        }
        catalogue.register_service(main, TENANT, "llm", "llm", config, by="ada")
        enter(main, vocabulary_agent=asks)
        dry = ran(main, worker, "vocabulary_agent", input_text="hello", tone="formal", dryrun=True)
        assert dry.outputs == {
            "enhanced_vocabulary": 'dry run: llm is not asked: Say hello formal: {"x"} {{ 1 }}'
        }
        assert server.requests == []
        ended = ran(main, worker, "vocabulary_agent", input_text="{{ 7 * 7 }}")
        assert ended.outputs == {"enhanced_vocabulary": "Greetings"}, ended.message
        (asked,) = server.requests
        assert asked.text("user") == 'Say {{ 7 * 7 }} : {"x"} {{ 1 }}'


# --- agents within agents ---------------------------------------------------------------------


def test_a_workflow_is_an_agent_like_any_other(main: Platform, worker: Worker) -> None:
    """Swapped for a function with the same interface, its caller stays as it is."""
    outer = workflow(step("inner", "out", word="$word"), inputs=["word"])
    louder = proc("def f(word):\n    return word.upper()", "word")
    enter(main, inner=louder, outer=outer)
    assert ran(main, worker, "outer", word="hi").outputs == {"out": "HI"}
    deep = workflow(step("low", "loud", word="$word"), inputs=["word"], outputs=["loud"])
    found = enter(main, low=louder, inner=deep, outer=outer)
    assert found["inner"].version.version == "2.0"
    ended = ran(main, worker, "outer", word="hi")
    assert ended.outputs == {"out": "HI"}
    assert ended.variables.keys() == {"word", "out", "dryrun", "status", "step_index"}


def test_agents_that_call_one_another_for_ever_end_where_runs_lie_too_deep(
    main: Platform, worker: Worker
) -> None:
    enter(main, a=workflow(step("b", "out")), b=workflow(step("a", "out")))
    ended = ran(main, worker, "a")
    assert ended.status == "failed"
    assert "child_failed" in (ended.message or ended.reason or "")
    reasons = [row.reason for row in sql(main, "SELECT reason FROM run ORDER BY depth DESC")]
    assert reasons[0] == "too_deep"
    assert len(reasons) == 21


def test_an_agent_that_calls_itself_ends_where_it_says(main: Platform, worker: Worker) -> None:
    code = "def f(n):\n    return {'left': n - 1, 'step_index': 9 if n < 2 else 0}"
    steps = [step("down", n="$n"), step("self", "out", n="$left")]
    down = proc(code, "n", outputs=["left"])
    steps[0]["output"] = ["left"]
    enter(main, down=down, self=workflow(*steps, inputs=["n"]))
    assert ran(main, worker, "self", n=3).status == "completed"


def test_a_jump_back_for_ever_ends_at_the_step_budget(main: Platform, worker: Worker) -> None:
    back = proc("def f():\n    return {'step_index': -1}", outputs=[])
    enter(main, back=back, a=workflow(step("back"), limits={"steps": 7}, outputs=[]))
    ended = ran(main, worker, "a")
    assert (ended.status, ended.reason) == ("failed", "step_budget")


# --- versions ---------------------------------------------------------------------------------


def test_a_change_of_the_interface_is_a_major_and_anything_else_a_minor(main: Platform) -> None:
    enter(main, a=template("{x}", "x"))
    changes = [
        (template("{x}!", "x"), "1.1"),
        (template("{x}!", "x", optional_inputs=["y"]), "1.2"),
        (template("{x}!", "x"), "2.0"),
        (template("{z}!", "z"), "3.0"),
        (template("{z}!", "z", help="?"), "3.1"),
        (template("{z}!", "z", help="?", outputs=["other"]), "4.0"),
        (template("{z}!", "z", help="?", outputs=["other"]), "4.0"),
    ]
    for definition, expected in changes:
        assert enter(main, a=definition)["a"].version.version == expected
    assert [each.version for each in agents.versions(main, TENANT, "a")][-1] == "1.0"


def test_what_was_entered_before_runs_what_it_was_entered_with(
    main: Platform, worker: Worker
) -> None:
    calls = workflow(step("a", "out", x="$x"), inputs=["x"])
    enter(main, a=template("old {x}", "x"), w=calls)
    enter(main, a=template("new {x}", "x"))
    assert ran(main, worker, "w", x=1).outputs == {"out": "old 1"}
    assert enter(main, w=calls)["w"].version.version == "1.1"
    assert ran(main, worker, "w", x=1).outputs == {"out": "new 1"}
    assert ran(main, worker, "w", "1.0", x=1).outputs == {"out": "old 1"}


def test_a_step_may_name_the_version_that_it_calls(main: Platform, worker: Worker) -> None:
    enter(main, a=template("one {x}", "x"))
    enter(main, a=template("one and a half {x}", "x"))
    enter(main, a=template("two {y}", "y"))
    for text, said in {"a@1": "one and a half", "/a/v1.0": "one", "a": "two"}.items():
        given = {"y": 1} if text == "a" else {"x": 1}
        enter(main, w=workflow(step(text, "out", **given)))
        assert ran(main, worker, "w").outputs == {"out": f"{said} 1"}
    with pytest.raises(Invalid, match="Agent not found: a@3"):
        enter(main, w=workflow(step("a@3", "out", x=1)))


def test_the_spaces_of_names_are_dots_here(main: Platform, worker: Worker) -> None:
    enter(main, **{"/home/tools/a": template("in a space")})
    enter(main, w=workflow(step("/home/tools/a/v1.0", "out")))
    assert ran(main, worker, "w").outputs == {"out": "in a space"}


# --- removing, renaming -----------------------------------------------------------------------


def test_what_is_used_is_not_removed(main: Platform) -> None:
    enter(main, a=template("x"), w=workflow(step("a", "out")), v=workflow(step("w", "out")))
    publish(main, {"workflow": "plain", "steps": [{"agent": "agent.v"}]})
    for name, users in {"a": "w", "w": "v", "v": "workflow plain"}.items():
        with pytest.raises(Conflict, match=f"{name} is used by {users};"):
            agents.remove(main, TENANT, name, by="ada")
    publish(main, {"workflow": "plain", "steps": [{"agent": "agent.v@1", "params": {}}]})
    with pytest.raises(Conflict, match="workflow plain"):
        agents.remove(main, TENANT, "v", by="ada")


def test_what_was_removed_is_gone_and_its_versions_run_on(main: Platform, worker: Worker) -> None:
    enter(main, a=template("x"), w=workflow(step("a", "out")))
    old = agents.find(main, TENANT, "w")
    enter(main, w=workflow(step("echo", "out", input=1)), echo=LIBRARY["agents"]["echo"])
    agents.remove(main, TENANT, "a", by="ada", why="tidying")
    with pytest.raises(NotFound):
        agents.find(main, TENANT, "a")
    with pytest.raises(NotFound):
        agents.remove(main, TENANT, "a", by="ada")
    with pytest.raises(Invalid, match="Agent not found: a"):
        enter(main, z=workflow(step("a", "out")))
    assert [each.name for each in agents.page(main, TENANT)] == ["echo", "w"]
    assert ran(main, worker, "w", old.version).outputs == {"out": "x"}
    assert enter(main, a=template("x"))["a"].version.version == "1.1"
    told = sql(main, "SELECT action, why FROM admin_act WHERE subject = 'agent:a@1.0' ORDER BY id")
    assert [(row.action, row.why) for row in told] == [
        ("agent.enter", ""),
        ("agent.remove", "tidying"),
    ]


def test_a_new_name_holds_wherever_the_old_one_stood(main: Platform, worker: Worker) -> None:
    enter(main, a=template("old {x}", "x"))
    enter(main, a=template("new {x}", "x"))
    enter(
        main,
        w=workflow(step("a", "one", x=1), step("a@1.0", "out", x=2)),
        self=workflow(step("w", "out")),
    )
    before = agents.find(main, TENANT, "w")
    found = agents.rename(main, TENANT, "a", "b", by="ada")
    assert [(each.version.name, each.version.version) for each in found] == [
        ("b", "1.1"),
        ("w", "1.1"),
    ]
    with pytest.raises(NotFound):
        agents.find(main, TENANT, "a")
    now = agents.find(main, TENANT, "w")
    assert [each["agent"] for each in now.definition["steps"]] == ["b", "b@1.0"]  # type: ignore[index, union-attr]
    assert now.uses == {"b": "agent:b@1.1", "b@1.0": "agent:b@1.0"}
    for which in (before.version, now.version):
        ended = ran(main, worker, "w", which)
        assert (ended.variables["one"], ended.variables["out"]) == ("new 1", "old 2")
    assert [each.version for each in agents.versions(main, TENANT, "b")] == ["1.1", "1.0"]


def test_a_name_that_is_taken_is_not_given_again(main: Platform) -> None:
    enter(main, a=template("x"), b=template("y"))
    for new, error in {"b": Conflict, "a": Conflict, "no name": Invalid, "x@1": Invalid}.items():
        with pytest.raises(error):
            agents.rename(main, TENANT, "a", new, by="ada")
    with pytest.raises(NotFound):
        agents.rename(main, TENANT, "nobody", "c", by="ada")
    publish(main, {"workflow": "plain", "steps": [{"agent": "agent.a"}]})
    with pytest.raises(Conflict, match="workflow plain"):
        agents.rename(main, TENANT, "a", "c", by="ada")
    assert version(main, "a") == "1.0"
