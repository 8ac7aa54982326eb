"""Places of runs over REST: looked at, held against each other, named."""

from __future__ import annotations

import pytest

from engine.platform import Platform
from engine.runs import views
from engine.runs.attempts import Succeeded
from engine.store.ids import RunId
from tests.support.platforms import LINE, finish, publish, register, sql, submit, take
from tests.support.site import Api


@pytest.fixture
def run(control: Platform, worker: Platform) -> RunId:
    """A run whose first step has settled, and whose second is ready."""
    register(control, "noop")
    begun = submit(control, publish(control, dict(LINE)), kept=1, n=0)
    done = Succeeded(patch={"n": 1, "new": "x"}, usage={"cost_usd": 0.5})
    finish(control, worker, take(worker, begun, "a#1"), done)
    return begun


def place_of(run: RunId) -> str:
    return f"/api/v1/runs/{run.run}/checkpoints"


def test_a_place_that_is_not_there_has_no_name_and_differs_from_nothing(
    api: Api, run: RunId
) -> None:
    assert api.send("PUT", f"{place_of(run)}/99", json={"name": "x"}).status_code == 404
    assert api.send("PUT", f"{place_of(run)}/0", json={"name": "x"}).status_code == 404
    assert api.get(f"{place_of(run)}/1?against=99").status_code == 404


def test_a_name_has_one_place_in_its_run(api: Api, control: Platform, run: RunId) -> None:
    assert api.send("PUT", f"{place_of(run)}/2", json={"name": "good"}).status_code == 200
    taken = api.send("PUT", f"{place_of(run)}/3", json={"name": "good"})
    assert taken.status_code == 409
    assert f"line 2 of run {run.run} is called 'good'" in taken.json["detail"]
    assert api.send("PUT", f"{place_of(run)}/2", json={"name": "good"}).status_code == 200
    other = submit(control, publish(control, {**LINE, "version": "2.0.0"}))
    assert api.send("PUT", f"{place_of(other)}/2", json={"name": "good"}).status_code == 200


def test_a_place_that_is_named_is_listed_and_was_named_by_somebody(
    api: Api, control: Platform, run: RunId
) -> None:
    assert 2 not in [point["seq"] for point in api.get(place_of(run)).json["items"]]
    api.send("PUT", f"{place_of(run)}/2", json={"name": "first"})
    again = api.send("PUT", f"{place_of(run)}/2", json={"name": "asked"})
    assert (again.json["name"], again.json["named_by"]) == ("asked", "ada")
    listed = {point["seq"]: point for point in api.get(place_of(run)).json["items"]}
    assert (listed[2]["name"], listed[2]["named_by"], listed[2]["step"]) == ("asked", "ada", None)
    assert {point["name"] for seq, point in listed.items() if seq != 2} == {None}
    acts = sql(control, "SELECT detail FROM admin_act WHERE action = 'checkpoint.name' ORDER BY id")
    assert [act.detail for act in acts] == [
        {"seq": 2, "name": "first", "was": None},
        {"seq": 2, "name": "asked", "was": "first"},
    ]


def test_a_place_shows_where_threads_stand_what_was_spent_and_what_has_changed(
    api: Api, control: Platform, run: RunId
) -> None:
    last = views.status(control, run).seq
    (settled,) = api.get(place_of(run)).json["items"]
    assert settled["step"] == "a#1"
    shown = api.get(f"{place_of(run)}/{settled['seq']}").json
    assert shown["frontier"]["steps"] == []
    assert [(token["target"], token["waits"]) for token in shown["frontier"]["tokens"]] == [
        ("b", False)
    ]
    assert shown["spent"]["cost_usd"] == 0.5
    assert (shown["against"], shown["difference"]) == (None, None)
    now = api.get(f"{place_of(run)}/{last}?against=3").json
    assert [step["key"] for step in now["frontier"]["steps"]] == ["b#1"]
    found = now["difference"]
    assert now["against"] == 3
    assert found["added"] == {"new": "x"}
    assert found["removed"] == {}
    assert found["changed"] == {"n": {"before": 0, "after": 1}}
    assert (found["begun"], found["settled"]) == (["b#1"], ["a#1"])
    assert (found["visited"], found["spent"]["cost_usd"]) == (1, 0.5)
    back = api.get(f"{place_of(run)}/3?against={last}").json["difference"]
    assert (back["removed"], back["begun"], back["visited"]) == ({"new": "x"}, ["a#1"], -1)
    same = api.get(f"{place_of(run)}/{last}?against={last}").json["difference"]
    assert same["added"] == same["removed"] == same["changed"] == same["spent"] == {}
