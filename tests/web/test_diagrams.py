"""Drawings of versions and of runs, over HTTP."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest
from flask import Flask

from engine.formats import dot, mermaid
from engine.formats.taken import taken
from engine.platform import Platform
from engine.runs import diagrams, turns, views
from engine.store import history, reads, visits
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.platforms import finish, take
from tests.support.site import Api

LAPS: dict[str, Any] = {
    "workflow": "laps",
    "variables": {"n": {"default": 0}},
    "nodes": {"a": {"uses": "noop"}, "b": {"uses": "noop"}, "c": {"uses": "noop"}},
    "edges": [
        "a -> b",
        {"from": "b", "to": "a", "when": "$n < 2", "label": "loop"},
        {"from": "b", "to": "c", "when": "$n > 5"},
        "b -> end",
        "c -> end",
    ],
}
VERSION = "/api/v1/workflows/laps/versions/1.0.0/diagram"


@pytest.fixture
def laps(control: Platform) -> str:
    platforms.register(control, "noop")
    return platforms.publish(control, LAPS)


@pytest.fixture
def run(control: Platform, worker: Platform, laps: str) -> RunId:
    """A run on its second lap."""
    found = platforms.submit(control, laps)
    for n, key in enumerate(("a#1", "b#1")):
        finish(control, worker, take(worker, found, key), n=n)
    return found


@pytest.mark.parametrize(
    "path", ["/api/v1/workflows/nobody/versions/1.0.0", "/api/v1/workflows/laps/versions/9.9.9"]
)
def test_what_is_not_there_is_not_drawn(api: Api, laps: str, path: str) -> None:
    assert api.get(f"{path}/diagram").status_code == 404


def test_a_run_that_is_not_there_is_not_drawn(api: Api, stranger: Api, run: RunId) -> None:
    nobody = "/api/v1/runs/01890000-0000-7000-8000-000000000000/diagram"
    assert api.get(nobody).status_code == 404
    assert stranger.get(f"/api/v1/runs/{run.run}/diagram").status_code == 404


def test_a_notation_that_nobody_knows_is_refused(api: Api, laps: str) -> None:
    response = api.get(f"{VERSION}?format=png")
    assert response.status_code == 422
    assert "format" in response.text


def test_whoever_has_no_credential_sees_nothing(app: Flask, laps: str) -> None:
    assert app.test_client().get(VERSION).status_code == 401


@pytest.mark.parametrize("notation", [mermaid, dot])
def test_a_version_is_drawn_in_text_that_can_be_read_again(
    api: Api, laps: str, notation: Any
) -> None:
    name = notation.__name__.rpartition(".")[2]
    response = api.get(f"{VERSION}?format={name}")
    assert response.status_code == 200
    assert response.mimetype.startswith("text/vnd.")
    data = notation.read(response.text)
    assert data["workflow"] == "laps"
    assert set(data["nodes"]) == {"a", "b", "c", "end"}
    assert [(edge["from"], edge["to"]) for edge in data["edges"]] == [
        *(("a", "b"), ("b", "a"), ("b", "c"), ("b", "end"), ("c", "end")),
    ]


def test_a_version_is_drawn_as_a_picture_unless_asked_otherwise(api: Api, laps: str) -> None:
    response = api.get(VERSION)
    assert response.content_type == "image/svg+xml; charset=utf-8"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert ET.fromstring(response.text).tag == "{http://www.w3.org/2000/svg}svg"


def test_a_run_is_drawn_with_the_way_it_took(api: Api, run: RunId) -> None:
    picture = ET.fromstring(api.get(f"/api/v1/runs/{run.run}/diagram").text)
    classes = {
        group.get("data-node") or group.get("data-edge"): set(group.get("class", "").split())
        for group in picture.iter("{http://www.w3.org/2000/svg}g")
    }
    assert "live" in classes["a"]
    assert "taken" in classes["b"]
    assert "untaken" in classes["c"]
    assert "taken" in classes["b->a"]
    assert "untaken" in classes["b->end"]


def test_laps_are_counted(api: Api, control: Platform, worker: Platform, run: RunId) -> None:
    finish(control, worker, take(worker, run, "a#2"))
    finish(control, worker, take(worker, run, "b#2"), n=2)
    text = api.get(f"/api/v1/runs/{run.run}/diagram?format=mermaid").text
    assert 'a["a \u00d72"]' in text
    assert 'a -->|"\u00d72"| b' in text
    assert "class a,b,end_ taken" in text
    assert "linkStyle 0,1,3 " in text


def test_what_the_database_counts_is_what_the_history_tells(
    control: Platform, worker: Platform, run: RunId
) -> None:
    finish(control, worker, take(worker, run, "a#2"))
    with reads.reading(control.database) as connection:
        counted = visits.counted(connection, run)
        rows = [views.record(row) for row in _history(connection, run)]
    told = taken(rows)
    assert {(row.what, row.name, row.times) for row in counted} == {
        *(("node", name, times) for name, times in told.nodes.items()),
        *(("edge", name, times) for name, times in told.edges.items()),
    }


def _history(connection: Any, run: RunId) -> Any:
    return history.read(connection, run, after=0, upto=history.LAST, limit=1000)


def test_the_way_out_of_a_starved_join_is_counted(control: Platform, worker: Platform) -> None:
    platforms.register(control, "noop")
    found = platforms.publish(
        control,
        {
            "workflow": "starved",
            "variables": {"go": {"default": False}},
            "nodes": {
                "f": {"uses": "noop"},
                "x": {"uses": "noop"},
                "y": {"uses": "noop"},
                "j": {"uses": "noop", "join": "all"},
                "s": {"kind": "pass"},
            },
            "edges": [
                {"from": "f", "to": ["x", "y"], "type": "parallel"},
                {"from": "x", "to": "j", "type": "join"},
                {"from": "y", "to": "j", "type": "join", "when": "$go"},
                {"from": "j", "to": "s", "on": "short"},
                "j -> end",
                "s -> end",
            ],
        },
    )
    run = platforms.submit(control, found)
    for key in ("f#1", "x#1", "y#1"):
        finish(control, worker, take(worker, run, key))
    turns.take_turns(control, [run])
    with reads.reading(control.database) as connection:
        told = taken(map(views.record, _history(connection, run)))
        counted = {(row.what, row.name): row.times for row in visits.counted(connection, run)}
    assert counted["edge", "j->s"] == counted["node", "s"] == 1
    assert counted == {
        **{("node", name): times for name, times in told.nodes.items()},
        **{("edge", name): times for name, times in told.edges.items()},
    }


def test_every_notation_that_is_offered_draws(control: Platform, laps: str) -> None:
    for notation in diagrams.NOTATIONS:
        assert diagrams.of_version(control, "local", "laps", None, notation)
