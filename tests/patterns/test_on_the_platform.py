"""Every pattern on the real engine: published and submitted over the API, carried out in sandboxes.

What people and the outside do is what they do in memory, by the functions behind the API, and
the history that comes of it tells the same visits and edges.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from celeriac.testing import Act, Added, Answered, Completed, Record, Sent
from celeriac.testing import run as run_in_memory
from engine.core import messages as msg
from engine.platform import DatabaseRole, Platform
from engine.runs import answers, events, sweep, turns, views, waits
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import platforms, site
from tests.support.patterns import ACTS, FUNCTIONS, GRAPHS, INPUTS, RACES, SOURCES, WORKFLOWS, text
from tests.support.patterns import read as graph_of
from tests.support.platforms import TENANT
from tests.support.platforms import Sent as Kept
from tests.support.services import Services
from tests.support.site import Api
from workers.execution import Worker, execute
from workers.keeper import Keeper
from workers.sandbox import Sandbox

#: Far more than any of them needs: what has not ended then never does.
_ROUNDS = 200
#: A run and those that its steps have started.
_FAMILY = """
    SELECT id::text, coalesce(parent_step, '') AS begun_by FROM run
    WHERE id = :run OR parent_run = :run
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """A platform with one worker, which this process lets work."""

    settings: Settings
    main: Platform
    worker: Worker
    api: Api

    @property
    def hints(self) -> list[Any]:
        assert isinstance(self.main.broker, Kept)
        return self.main.broker.hints


@pytest.fixture(scope="module")
def house(
    shared_services: Services, tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox
) -> Iterator[House]:
    with (
        site.of_its_own(shared_services, tmp_path_factory.mktemp("patterns")) as settings,
        site.controlled(settings) as main,
        platforms.platform(settings, DatabaseRole.WORKER) as theirs,
        site.served(main) as app,
    ):
        quiet = replace(theirs, broker=Kept(app=theirs.broker.app))
        keeper = Keeper(quiet)
        keeper.start()
        worker = Worker(name="w1", platform=quiet, sandbox=sandbox, keeper=keeper)
        for name, source in SOURCES.items():
            platforms.register(main, name, source)
        built = House(settings=settings, main=main, worker=worker, api=site.member(app, main))
        for path in WORKFLOWS.values():
            published(built, path.read_bytes())
        yield built
        keeper.close()


def published(house: House, document: bytes) -> str:
    """The name of a workflow that is published now."""
    kind = "application/yaml"
    response = house.api.post("/api/v1/workflows", data=document, content_type=kind)
    assert response.status_code == 201, response.json
    return str(response.json["workflow"])


def submitted(house: House, workflow: str, inputs: dict[str, Any]) -> RunId:
    """A run that has taken its first turn."""
    asked = {"workflow": workflow, "inputs": inputs}
    response = house.api.post("/api/v1/runs", json=asked)
    assert response.status_code == 201, response.json
    run = RunId(TENANT, response.json["run_id"])
    turns.take_turns(house.main, [run])
    return run


def carried_out(house: House, run: RunId, acts: list[Act]) -> None:
    """Bring a run to its end: what is done outside, then what is ready, then what time brings."""
    for _ in range(_ROUNDS):
        if acts and (acts[0].after == 0 or not house.hints) and done(house, run, acts[0]):
            acts = acts[1:]
        elif house.hints:
            hint = house.hints.pop(0)
            execute(house.worker, hint.step)
            turns.take_turns(house.main, [hint.step.run_id])
        elif views.status(house.main, run).terminal:
            assert not acts, "there was no occasion"
            return
        else:
            platforms.wake(house.settings)
            sweep.sweep(house.main)
    raise AssertionError(f"it goes no further: {views.run(house.main, run)}")


def done(house: House, run: RunId, act: Act) -> bool:
    """Do an act where somebody is there for it."""
    main, place = house.main, act.place
    live = [step.key for step in views.run(main, run).steps if place in (step.node, step.key)]
    match act:
        case Answered(choice=choice, form=form):
            family = {row.id: row.begun_by for row in platforms.sql(main, _FAMILY, run=run.run)}
            open_now = waits.page(main, TENANT, limit=500)
            asked = [one for one in open_now if one.node == place and one.run_id in family]
            # Those that began together may ask in any order, and in memory the first is asked.
            asked.sort(key=lambda one: family[one.run_id])
            if not asked:
                return False
            here = RunId(TENANT, asked[0].run_id)
            answers.answer(main, here, asked[0].step, by=act.by, choice=choice, form=form)
        case Sent(name=name, payload=payload, match=match):
            if place is not None and not live:
                return False
            _, woken = events.send(main, TENANT, name, payload, by=act.by, match=match)
            turns.take_turns(main, woken)
        case Added(items=items) if live:
            waits.add_items(main, run, live[0], list(items), by=act.by)
        case Completed() if live:
            waits.complete(main, run, live[0], by=act.by)
        case _:
            return False
    return True


def visits_and_edges(house: House, run: RunId) -> tuple[set[str], dict[str, list[str]]]:
    """What the history of a run tells over the API."""
    lines = house.api.get(f"/api/v1/runs/{run.run}/history?limit=500").json["items"]
    visits = {one["body"]["step"] for one in lines if one["kind"] in ("RequestStart", "PassNode")}
    edges = {
        one["body"]["step"]: [taken["edge"] for taken in one["body"].get("taken", ())]
        for one in lines
        if one["kind"] == "TakeEdges"
    }
    return visits, edges


def in_memory(record: Record) -> tuple[set[str], dict[str, list[str]]]:
    """The same of a run in memory."""
    visits = {step.key for step in record.steps}
    took: list[msg.TakeEdges] = list(record.records(msg.TakeEdges))
    return visits, {one.step: [taken.edge for taken in one.taken] for one in took}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_pattern_runs_on_the_platform_as_it_does_in_memory(name: str, house: House) -> None:
    inputs, acts = INPUTS.get(name, {}), ACTS.get(name, ())
    record = run_in_memory(
        graph_of(name), inputs, functions=FUNCTIONS, workflows=WORKFLOWS, acts=acts
    )
    run = submitted(house, published(house, text(name)), inputs)
    carried_out(house, run, [*acts])
    ended = views.run(house.main, run)
    assert (ended.status, ended.reason) == (record.status, record.reason), ended.message
    assert ended.steps == ()
    if name not in RACES:
        assert visits_and_edges(house, run) == in_memory(record)
        assert ended.variables == record.variables
