"""The example of an agent as it is printed, on real processes: killed, approved, counted, watched."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from celeriac.client import Client, LogLine, Wait
from celeriac.client import Run as Started
from engine import documents
from engine.runs import doctor
from tests.support import llm, platforms
from tests.support import stack as stacks
from tests.support.fleet import wait_until
from tests.support.llm import Request, Say, Server
from tests.support.services import ROOT, Services
from tests.support.stack import Stack

pytestmark = pytest.mark.timeout(180)

EXAMPLE = ROOT / "examples" / "agent"
PRICE = {"input_usd_per_million": 0.15, "output_usd_per_million": 0.6}
LAST = "Two kettles are on their way to you."
#: The turn in which the worker dies, and that in which the agent orders.
DEATH, ORDER = 7, 9


class Shop:
    """A model that looks six times, is held up in its seventh turn, looks on, orders, and says so."""

    def __init__(self) -> None:
        self.held = threading.Event()

    def __call__(self, asked: Request) -> Say:
        match asked.turn:
            case turn if turn == DEATH and not self.held.is_set():
                self.held.set()
                return Say(text="I am about to", hold=threading.Event())
            case turn if turn < ORDER:
                return Say(text=f"look {turn}", calls=[("find_items", {"words": f"kettle {turn}"})])
            case turn if turn == ORDER:
                return Say(calls=[("order_item", {"item": "kettle", "count": 2})])
            case _:
                return Say(text=LAST)


@contextmanager
def shop(
    shared: Services, folder: Path, script: llm.Script
) -> Iterator[tuple[Stack, Client, Server]]:
    """A platform that has the example, and a model that follows a script."""
    opened = {"private_hosts": ("127.0.0.0/8",), "sweep_seconds": 0.2}
    with (
        llm.serving(script) as server,
        stacks.running(shared, folder, **opened) as stack,
        Client(f"http://{stack.address}", stack.key_file.read_text().strip()) as client,
    ):
        service: Any = documents.read_text((EXAMPLE / "model.yaml").read_text())
        service["config"] |= {
            "url": server.url,
            "models": {"small": PRICE},
            "allow_private": ["127.0.0.1"],
        }
        client.register_service(**service)
        for name in ("find_items", "order_item"):
            terms: Any = documents.read_text((EXAMPLE / f"{name}.terms.yaml").read_text())
            client.register_tool((EXAMPLE / "tools.py").read_text(), name=name, **terms)
        yield stack, client, server


def test_it_goes_on_where_its_worker_died_and_orders_once_when_somebody_allows_it(
    shared_services: Services, tmp_path: Path
) -> None:
    script = Shop()
    with shop(shared_services, tmp_path, script) as (stack, client, server):
        client.publish(EXAMPLE / "workflow.yaml")
        run = client.submit("shop-agent", {"wish": "Two kettles, please"})
        watched, watching = _watched(run)

        assert script.held.wait(60)
        # What it has begun to say is shown while it is held up.
        wait_until(lambda: "I" in _said(watched), what="the first word of turn 7")
        stack.fleet.kill_whole("worker1")
        wait_until(lambda: stack.fleet.deaths["worker1"] == 1, what="the worker to be gone")
        platforms.lose_leases(stack.settings)

        asked = _asked(run)
        assert asked.arguments == {"item": "kettle", "count": 2}
        # Every turn before it was asked for once; the one that it died in, anew.
        assert server.turns == {**dict.fromkeys(range(1, ORDER + 1), 1), DEATH: 2}
        client.answer(run.id, asked.step, "approve", digest=asked.digest)

        ended = run.wait(60)
        watching.join(30)
        assert ended.status == "completed", ended.message
        assert ended.outputs["answer"] == LAST
        assert server.turns == {**dict.fromkeys(range(1, ORDER + 2), 1), DEATH: 2}
        _check_counts(client, run, server, ended.outputs)
        assert LAST in _said(watched)
        calls = [call for call in client.calls(run.id) if call.tool == "order_item"]
        assert [call.value for call in calls] == [{"ordered": "kettle", "count": 2}]
        with platforms.platform(stack.settings) as platform:
            assert doctor.examine(platform.database) == ()


def _check_counts(client: Client, run: Started, server: Server, outputs: Any) -> None:
    """What the server says that it used is what was charged, and what the agent is told."""
    (told,) = client.usage(run=run.id)
    cost = server.cost("0.15", "0.6")
    assert (told.used["tokens_used"], told.used["cost_usd"]) == (server.tokens, cost)
    assert outputs["usage"]["tokens_used"] == server.tokens
    assert outputs["usage"]["cost_usd"] == pytest.approx(float(cost))
    (by_model,) = (one for one in client.usage("model", run=run.id) if one.by["model"] == "small")
    assert by_model.used["tokens_used"] == server.tokens


def _watched(run: Started) -> tuple[list[LogLine], threading.Thread]:
    """The words of the model, as somebody sees them who follows the run."""
    lines: list[LogLine] = []

    def watch() -> None:
        told = (event.told for event in run.events())
        lines.extend(one for one in told if isinstance(one, LogLine) and one.stream == "tokens")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return lines, thread


def _said(lines: list[LogLine]) -> str:
    return "".join(line.text for line in list(lines))


def _asked(run: Started) -> Wait:
    """What somebody is asked before the agent may go on."""
    found: list[Wait] = []

    def waiting() -> bool:
        found[:] = run.waits("permit")
        return bool(found)

    wait_until(waiting, what="somebody to be asked")
    return found[0]
