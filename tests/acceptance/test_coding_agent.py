"""Seed 001's Coding Agent as it is printed, on real processes, with people who follow a script.

The model is a server on this machine; everything else is what a user would run.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from engine import documents
from engine.core import codec, document
from engine.core import messages as msg
from engine.core.decide import advance
from engine.core.graph import Graph
from engine.core.policy import DEFAULT
from engine.core.state import State
from engine.core.values import Json
from engine.formats import mermaid
from engine.platform import Platform
from engine.runs import answers, doctor, replays, views, waits
from engine.store.ids import RunId
from tests.support import llm, platforms
from tests.support import stack as stacks
from tests.support.fleet import wait_until
from tests.support.llm import Request, Say, Server
from tests.support.services import ROOT, Services

pytestmark = pytest.mark.timeout(180)

EXAMPLES = ROOT / "examples"
GOAL = "Sum the money amounts of a CSV file"
PARTS = ("reader", "total")
READER = "def read(path):\n    return path.split(',')\n"
MENDED = "import csv\n\n\ndef read(path):\n    return list(csv.DictReader(path))\n"
NAMED = "import csv\n\n\ndef rows(path):\n    return list(csv.DictReader(path))\n"
TOTAL = "def total(rows):\n    return sum(row['amount'] for row in rows)\n"


def about(asked: Request) -> str:
    """What the agent wants: `plan`, `write reader`, `review total`."""
    system = asked.text("system")
    if system.startswith("You plan"):
        return "plan"
    part = asked.text("user").partition("## part\n")[2].partition("\n")[0]
    return f"{'write' if system.startswith('You write') else 'review'} {part}"


class Script:
    """What the model says: it asks back once, its first reader is bad, the rest is good."""

    def __init__(self) -> None:
        # Nobody is answered before both parts are asked for: so they are written side by side.
        self._both = threading.Barrier(len(PARTS))
        self._lock = threading.Lock()
        self._asked: Counter[str] = Counter()

    def __call__(self, asked: Request) -> Say:
        name = about(asked)
        with self._lock:
            self._asked[name] += 1
            number = self._asked[name]
        return Say(text=self._said(name, number))

    def _said(self, name: str, number: int) -> str:
        match name, number:
            case "plan", 1:
                return json.dumps({"unclear": True, "question": "Which column holds the amounts?"})
            case "plan", _:
                parts = [{"name": part, "task": f"the {part}"} for part in PARTS]
                return (
                    f"Here it is:\n```json\n{json.dumps({'unclear': False, 'parts': parts})}\n```"
                )
            case (("write reader" | "write total"), 1):
                self._both.wait(30)
                return _fenced(READER if name == "write reader" else TOTAL)
            case "write reader", 2:
                return _fenced(MENDED)
            case "write reader", _:
                return _fenced(NAMED)
            case "write total", _:
                return _fenced(TOTAL)
            case "review reader", 1:
                return json.dumps({"valid": False, "findings": ["it does not use csv"]})
            case _:
                return json.dumps({"valid": True, "findings": []})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The agent on a platform: REST for programs, answers for people."""

    api: httpx2.Client
    platform: Platform

    def submit(self, model: Server) -> RunId:
        inputs = {"goal": GOAL, "base_url": model.url, "model": "stub"}
        answer = self.api.post("/api/v1/runs", json={"workflow": "coding-agent", "inputs": inputs})
        assert answer.status_code == 201, answer.text
        return RunId(platforms.TENANT, answer.json()["run_id"])

    def asked(self, run: RunId, step: str) -> Mapping[str, Any]:
        """What a run shows when it waits for somebody at a step."""
        found: list[waits.Open] = []

        def waiting() -> bool:
            status = views.status(self.platform, run)
            assert not status.terminal, views.run(self.platform, run).message
            found[:] = waits.page(self.platform, run.tenant, run=run.run)
            return [one.step for one in found] == [step]

        wait_until(waiting, seconds=60, what=f"{step} to be asked")
        return asdict(found[0])

    def ended(self, run: RunId) -> Mapping[str, Any]:
        answer = self.api.get(f"/api/v1/runs/{run.run}/wait", params={"seconds": 60})
        assert answer.json()["ended"], answer.text
        found = self.api.get(f"/api/v1/runs/{run.run}").json()
        assert isinstance(found, dict)
        return found


@contextmanager
def staged(shared: Services, folder: Path, **changes: Any) -> Iterator[Stage]:
    """A platform of real processes that has the agent and its functions."""
    with stacks.running(shared, folder, libraries=("examples.coding_agent",), **changes) as stack:
        headers = {"Authorization": f"Bearer {stack.key_file.read_text().strip()}"}
        with (
            httpx2.Client(
                base_url=f"http://{stack.address}", headers=headers, timeout=90
            ) as client,
            platforms.platform(stack.settings) as platform,
        ):
            answer = client.post("/api/v1/workflows", json=document.write(agent()))
            assert answer.status_code == 201, answer.text
            yield Stage(api=client, platform=platform)


def agent() -> Graph:
    sidecar = documents.read_text((EXAMPLES / "coding-agent.sidecar.yaml").read_bytes())
    found = mermaid.read_graph((EXAMPLES / "coding-agent.mmd").read_text(), sidecar)
    assert isinstance(found, Graph), found
    return found


def test_it_asks_back_refines_is_rejected_and_accepted(
    shared_services: Services, tmp_path: Path
) -> None:
    with (
        llm.serving(Script()) as model,
        staged(shared_services, tmp_path, concurrency=2) as stage,
    ):
        run = stage.submit(model)
        said = Said(stage, run)

        first = stage.asked(run, "TaskHITL#1")
        said.answers("TaskHITL#1", answer="for the accountants")
        second = stage.asked(run, "TaskHITL#2")
        said.answers("TaskHITL#2", answer="the column is called amount")
        shown = stage.asked(run, "HumanAcceptReject1#1")
        said.chooses("HumanAcceptReject1#1", "reject", remarks="call it rows")
        again = stage.asked(run, "HumanAcceptReject1#2")
        said.chooses("HumanAcceptReject1#2", "accept")
        ended = stage.ended(run)

        assert ended["status"] == "completed", ended
        assert first["show"] == {"goal": GOAL, "question": "What must I know before I begin?"}
        assert second["show"] == {"goal": GOAL, "question": "Which column holds the amounts?"}
        assert _codes(shown["show"]) == (MENDED.strip("\n"), TOTAL.strip("\n"))
        assert _codes(again["show"]) == (NAMED.strip("\n"), TOTAL.strip("\n"))
        _check_questions(model)
        _check_telemetry(stage, run, model)
        lines = _history(stage, run)
        _check_visits(lines)
        _check_overlap(stage, run)
        _check_provenance(lines)
        _check_replay(stage.platform, run, lines)
        _check_nothing_is_asked(stage.platform, run, lines, model)
        assert doctor.examine(stage.platform.database) == ()


def test_while_it_waits_it_takes_up_no_place_in_a_pool_of_one(
    shared_services: Services, tmp_path: Path
) -> None:
    with (
        llm.serving(Script()) as model,
        staged(shared_services, tmp_path, concurrency=1) as stage,
    ):
        looking: Json = {
            "workflow": "looking",
            "inputs": {"query": {"type": "string"}},
            "nodes": {"look": {"uses": "look_up", "save": {"found": "$result"}}},
            "edges": ["look -> end"],
        }
        assert stage.api.post("/api/v1/workflows", json=looking).status_code == 201
        waiting = stage.submit(model)
        stage.asked(waiting, "TaskHITL#1")

        others = [
            stage.api.post(
                "/api/v1/runs", json={"workflow": "looking", "inputs": {"query": "money"}}
            ).json()["run_id"]
            for _ in range(3)
        ]
        for other in others:
            ended = stage.ended(RunId(platforms.TENANT, other))
            assert ended["status"] == "completed", ended
            assert ended["variables"]["found"][0]["title"] == "Money"

        (step,) = views.run(stage.platform, waiting).steps
        assert (step.key, step.status, step.worker, step.lease_until) == (
            *("TaskHITL#1", "waiting"),
            *(None, None),
        )
        Said(stage, waiting).answers("TaskHITL#1", answer="for the accountants")
        stage.asked(waiting, "TaskHITL#2")
        assert doctor.examine(stage.platform.database) == ()


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody answers to a run."""

    stage: Stage
    run: RunId

    def answers(self, step: str, **form: Json) -> None:
        done = answers.answer(self.stage.platform, self.run, step, by="ada", form=form)
        assert done.settled

    def chooses(self, step: str, choice: str, **form: Json) -> None:
        done = answers.answer(
            self.stage.platform, self.run, step, by="ada", choice=choice, form=form
        )
        assert done.settled


def _fenced(code: str) -> str:
    return f"```python\n{code}```"


def _codes(shown: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(shown[part]["code"] for part in ("part_1", "part_2"))


def _check_telemetry(stage: Stage, run: RunId, model: Server) -> None:
    """What the model said that it used is what executions and the usage of the run tell."""
    told: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"cursor": cursor} if cursor else {}
        page = stage.api.get(f"/api/v1/runs/{run.run}/executions", params=query).json()
        told += page["items"]
        cursor = page["next"]
    telemetry = [one["policy_telemetry"] for one in told]
    for one in telemetry:
        amounts = [amount for name, amount in one.items() if name != "custom_metrics"]
        assert all(isinstance(amount, int | float) for amount in amounts), one
    worked = [one for one in telemetry if one["memory_bytes"]]
    assert len(worked) > 10
    assert all(one["latency_ms"] > 0 for one in worked)
    assert model.tokens > 0
    assert sum(one["tokens_used"] for one in telemetry) == model.tokens
    (used,) = stage.api.get("/api/v1/usage", params={"run": run.run}).json()["items"]
    assert used["used"]["tokens_used"] == model.tokens


def _prompts(model: Server, name: str) -> list[str]:
    return [asked.text("user") for asked in model.requests if about(asked) == name]


def _check_questions(model: Server) -> None:
    """The model was asked for each thing as often as the story has it, and told what it must know."""
    assert Counter(map(about, model.requests)) == {
        "plan": 2,
        "write reader": 3,
        "write total": 2,
        "review reader": 3,
        "review total": 2,
    }
    plans = _prompts(model, "plan")
    assert "for the accountants" in plans[0]
    assert "the column is called amount" in plans[1]
    assert "Amounts are decimal.Decimal" in plans[0], "what was looked up is told"
    first, mending, renaming = _prompts(model, "write reader")
    assert "## findings" not in first
    assert READER.strip() in mending
    assert "it does not use csv" in mending
    assert "call it rows" in renaming
    assert "call it rows" in _prompts(model, "write total")[1]


def _history(stage: Stage, run: RunId) -> list[views.Line]:
    lines: list[views.Line] = []
    while found := views.history(
        stage.platform, run, after=lines[-1].seq if lines else 0, payloads=True
    ):
        lines += found
    return lines


def _check_visits(lines: list[views.Line]) -> None:
    begun = [
        line.body for line in lines if line.kind == "RequestStart" and line.body["attempt"] == 1
    ]
    visits = {
        node: sum(one["node"] == node for one in begun) for node in {o["node"] for o in begun}
    }
    assert visits == {
        "TaskHITL": 2,
        "TaskCallRAG": 2,
        "TaskLLMSubmit": 2,
        "CodeLLM1": 3,
        "CheckCodeLLM1": 3,
        "CodeLLM2": 2,
        "CheckCodeLLM2": 2,
        "HumanAcceptReject1": 2,
    }
    # Once per lap, and with both branches: not once per branch.
    accepting = [one["parents"] for one in begun if one["node"] == "HumanAcceptReject1"]
    assert [sorted(parents) for parents in accepting] == [
        ["PlanAccept1#2", "PlanAccept2#1"],
        ["PlanAccept1#3", "PlanAccept2#2"],
    ]


def _check_overlap(stage: Stage, run: RunId) -> None:
    answer = stage.api.get(f"/api/v1/runs/{run.run}/attempts").json()["items"]
    one, other = (
        next(each for each in answer if each["step"] == key) for key in ("CodeLLM1#1", "CodeLLM2#1")
    )
    assert max(one["started_at"], other["started_at"]) < min(one["ended_at"], other["ended_at"])


def _check_provenance(lines: list[views.Line]) -> None:
    """From the step that ended the run, parents lead back to its start, without a gap."""
    parents = {
        line.body["step"]: line.body.get("parents", [])
        for line in lines
        if line.kind in {"RequestStart", "PassNode"}
    }
    assert lines[-1].kind == "FinishRun"
    last = next(line.body["step"] for line in reversed(lines) if line.kind == "TakeEdges")
    assert last == "HumanAcceptReject1#2"
    seen, going = set(), [last]
    while going:
        step = going.pop()
        assert step in parents, f"{step} has no line"
        if step not in seen:
            seen.add(step)
            assert parents[step] or step == "Start#1", f"{step} comes from nowhere"
            going += parents[step]
    assert "Start#1" in seen
    # Nothing that was done led nowhere.
    assert seen == set(parents)


def _check_replay(platform: Platform, run: RunId, lines: list[views.Line]) -> None:
    """The recorded events alone decide the same again."""
    records = [
        codec.read(line.kind, line.body, line.payload or {}, at=line.at, number=line.format)
        for line in lines
    ]
    events = [record for record in records if isinstance(record, msg.Event)]
    again = advance(agent(), DEFAULT, State(run=run.run), events)  # type: ignore[arg-type]
    assert [entry.record for entry in again.entries] == records
    assert again.state.variables == views.run(platform, run).variables


def _check_nothing_is_asked(
    platform: Platform, run: RunId, lines: list[views.Line], model: Server
) -> None:
    """A replay comes to every decision again, and neither the model nor the run hears of it."""
    asked, attempts = len(model.requests), len(views.attempts(platform, run))
    found = replays.of_itself(platform, run)
    assert (found.outcome, found.divergences, found.untold) == ("same", 0, 0), found.first
    commands = {kind.__name__ for kind in msg.Command.__subclasses__()}
    assert found.decisions == sum(line.kind in commands for line in lines)
    assert (len(model.requests), len(views.attempts(platform, run))) == (asked, attempts)
    assert views.status(platform, run).seq == lines[-1].seq
