"""The examples of agents that write agents, as they are printed, on real processes and with a local model."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from celeriac.client import Client, Run, Wait
from engine import documents
from engine.core.values import Json
from engine.runs import doctor
from tests.support import llm, platforms
from tests.support import stack as stacks
from tests.support.fleet import wait_until
from tests.support.llm import Request, Say
from tests.support.services import ROOT, Services

pytestmark = pytest.mark.timeout(180)

EXAMPLE = ROOT / "examples" / "writing-agents"
PRICE = {"input_usd_per_million": 0, "output_usd_per_million": 0}
GREETER: dict[str, Json] = {
    "type": "template",
    "prompt": "Dear {name}, welcome.",
    "inputs": ["name"],
    "outputs": ["text"],
}


def proc(body: str, *, imports: str = "") -> dict[str, Json]:
    """The definition of an agent that is code of one line."""
    code = f"{imports}\ndef f(word):\n    {body}\n"
    given: dict[str, Json] = {"type": "proc", "function": "f", "function_def": code}
    return {**given, "inputs": ["word"], "outputs": ["text"]}


#: What the model answers, by what it is asked: the agent's name, and the round or lap.
WRITES: dict[str, list[dict[str, Json]]] = {
    "greeter": [{**GREETER, "prompt": "Dear {nmae}, welcome."}, GREETER],
    "spy": [proc("return os.environ", imports="import os")],
    "reader": [proc("return csv.field_size_limit()", imports="import csv")],
    "shouter": [
        proc("return word.title()"),
        proc("return word.upper(", imports=""),
        proc("return word.upper()"),
        proc("return word"),
    ],
    "broken": [proc("return word.uper()"), proc("return word.upper()")],
}


def model(asked: Request) -> Say:
    """Answers with the definition that comes next: it has been told of the laps and rounds before."""
    said = asked.text("user")
    name = said.partition(":")[0].split("agent ")[1].split()[0]
    answers = WRITES[name]
    before = said.count('"round"') or said.count("refused") + said.count("it failed")
    return Say(text=json.dumps(answers[min(before, len(answers) - 1)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A platform that has the examples."""

    client: Client
    server: llm.Server

    def write(self, name: str, /, **given: Json) -> Run:
        inputs = {"name": name, "wish": "something", "given": given}
        return self.client.submit("write-agent", inputs)

    def asked(self, run: Run) -> Wait:
        found: list[Wait] = []

        def waiting() -> bool:
            found[:] = run.waits("permit")
            return bool(found)

        wait_until(waiting, what="somebody to be asked")
        return found[0]


@pytest.fixture(scope="module")
def stage(shared_services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("writing")
    with (
        llm.serving(model) as server,
        stacks.running(shared_services, folder, private_hosts=("127.0.0.0/8",)) as stack,
        Client(f"http://{stack.address}", stack.key_file.read_text().strip()) as client,
    ):
        reached = {"url": server.url, "models": {"small": PRICE}, "allow_private": ["127.0.0.1"]}
        client.register_service("llm", "llm", reached)
        for path in sorted(EXAMPLE.glob("*s.*.yaml")):
            service: Any = documents.read_text(path.read_text())
            client.register_service(**service)
        client.register_function((EXAMPLE / "scoring.py").read_text(), name="score_answers")
        for name in ("write", "evolve", "mend"):
            client.publish(EXAMPLE / f"{name}-agent.yaml")
        yield Stage(client=client, server=server)
        with platforms.platform(stack.settings) as platform:
            assert doctor.examine(platform.database) == ()


def test_what_imports_os_is_never_published(stage: Stage) -> None:
    ended = stage.write("spy", word="x").wait(60)
    assert (ended.status, ended.reason) == ("failed", "invalid")
    assert "There is no module os here" in str(ended.message)
    assert "spy" not in {each.name for each in stage.client.agents()}


def test_what_wants_more_than_its_writer_has_waits_for_a_person(stage: Stage) -> None:
    run = stage.write("reader", word="x")
    asked = stage.asked(run)
    assert asked.tool == "agents.publish"
    approval = stage.client.approval(str(asked.request_id))
    assert "it imports csv, which write-agent was not granted" in approval.reason
    assert "reader" not in {each.name for each in stage.client.agents()}
    stage.client.answer(run.id, asked.step, "deny", digest=asked.digest, reason="no files")
    ended = run.wait(60)
    assert (ended.status, ended.reason) == ("failed", "denied")


def test_an_agent_writes_an_agent_mends_it_publishes_it_and_calls_it(stage: Stage) -> None:
    run = stage.write("greeter", name="Ada")
    ended = run.wait(60)
    assert ended.status == "completed", ended.message
    assert ended.outputs == {"version": "1.0", "answer": {"text": "Dear Ada, welcome."}}
    # The first lap had a placeholder that was no input; it was told so, and what to do.
    assert [step.key for step in run.steps() if step.node == "check"] == ["check#1", "check#2"]
    told = [one.text("user") for one in stage.server.requests if "greeter" in one.text("user")]
    assert "{nmae} stands for no input" in told[1]
    written = stage.client.agent("greeter").written_by
    assert written is not None
    assert (written.run_id, written.step) == (run.id, "publish#1")
    assert (written.workflow, written.parent) == ("write-agent", None)
    # The workflow that it runs as says the same; that of the writer, that a person has entered it.
    assert stage.client.workflow("agent.greeter").written_by == written
    assert stage.client.workflow("write-agent").written_by is None


def test_the_best_of_several_rounds_remains(stage: Stage) -> None:
    examples = [{"given": {"word": word}, "wanted": {"text": word.upper()}} for word in ("ab", "c")]
    wish = {"name": "shouter", "wish": "capitals", "examples": examples, "rounds": 4}
    ended = stage.client.submit("evolve-agent", wish).wait(90)
    assert ended.status == "completed", ended.message
    told = ended.outputs["rounds"]
    assert [(each["score"], each["version"]) for each in told] == [
        (0.5, "1.0"),
        (0, None),
        (1, "1.1"),
        (0, "1.2"),
    ]
    assert ended.outputs["best"]["version"] == "1.1"
    versions = stage.client.agent_versions("shouter")
    parents = [each.written_by.parent for each in versions if each.written_by]
    assert parents == ["1.1", "1.0", None]


def test_a_run_that_fails_has_its_agent_mended(stage: Stage) -> None:
    failing = stage.write("broken", word="hello")
    mending = watch().mended(stage.client, failing, "broken", {"word": "hello"})
    assert mending is not None
    assert failing.refresh().reason == "child_failed"
    ended = mending.wait(60)
    assert ended.status == "completed", ended.message
    assert ended.outputs == {"version": "1.1", "answer": {"text": "HELLO"}}
    # Asked once more, it is the same mending run.
    assert watch().mended(stage.client, failing, "broken", {"word": "hello"}).id == mending.id
    assert watch().mended(stage.client, ended, "broken", {}) is None


def watch() -> Any:
    """The script of the example."""
    spec = importlib.util.spec_from_file_location("watch", EXAMPLE / "watch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
