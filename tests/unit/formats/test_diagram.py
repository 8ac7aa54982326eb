from __future__ import annotations

import itertools
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import documents
from engine.core import document
from engine.core.graph import EdgeId, Graph, NodeId
from engine.formats import diagram, dot, lettering, mermaid
from engine.formats.layout import Box, Layout, Line, layout
from engine.formats.taken import Taken
from tests.support.graphs import TEXTS, graphs
from tests.support.services import ROOT

SVG = "{http://www.w3.org/2000/svg}"


def coding_agent() -> Graph:
    examples = ROOT / "examples"
    sidecar = documents.read_text((examples / "coding-agent.sidecar.yaml").read_bytes())
    found = mermaid.read_graph((examples / "coding-agent.mmd").read_text(), sidecar)
    assert isinstance(found, Graph), found
    return found


def written(**fields: object) -> Graph:
    found = document.read({"workflow": "w", **fields})  # type: ignore[dict-item]  # a document
    assert isinstance(found, Graph), found
    return found


def drawn(graph: Graph, taken: Taken | None = None) -> ET.Element:
    return ET.fromstring(diagram.svg(graph, taken))


def nodes(picture: ET.Element) -> dict[str, set[str]]:
    """The classes of each node."""
    return {
        found.attrib["data-node"]: set(found.attrib["class"].split())
        for found in picture.iter(f"{SVG}g")
        if "data-node" in found.attrib
    }


def edges(picture: ET.Element) -> dict[str, set[str]]:
    return {
        found.attrib["data-edge"]: set(found.attrib["class"].split())
        for found in picture.iter(f"{SVG}g")
        if "data-edge" in found.attrib
    }


def texts(picture: ET.Element) -> list[str]:
    return [found.text or "" for found in picture.iter(f"{SVG}text")]


# --- what people wrote is text -----------------------------------------------------------------


@given(TEXTS, TEXTS)
def test_no_text_becomes_anything_else(title: str, label: str) -> None:
    plain = written(nodes={"a": {"uses": "f", "title": "x"}}, edges=["a -> end"])
    odd = written(
        nodes={"a": {"uses": "f", "title": title, "notes": label}},
        edges=[{"from": "a", "to": "end", "title": label}],
    )
    tags = {found.tag for found in drawn(odd).iter()}
    assert tags <= {found.tag for found in drawn(plain).iter()} | {f"{SVG}polygon"}


def test_markup_in_a_title_is_shown_and_not_obeyed() -> None:
    evil = "</text><script>alert(1)</script>\"'&<!--"
    graph = written(
        workflow=evil[:20].replace("/", ""),
        nodes={"a": {"uses": "f", "title": evil}},
        edges=[{"from": "a", "to": "end", "title": "]]> <b>"}],
    )
    picture = drawn(graph)
    assert not list(picture.iter(f"{SVG}script"))
    assert "]]> <b>" in texts(picture)


def test_a_picture_asks_for_nothing_from_outside() -> None:
    text = diagram.svg(coding_agent())
    assert not re.search(r"href|url\(|@import|<script|<image|<foreignObject", text)
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]


# --- what is shown -----------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_every_node_and_every_edge_is_drawn_once(graph: Graph) -> None:
    picture = drawn(graph)
    assert sorted(nodes(picture)) == sorted(map(lettering.printable, graph.nodes))
    assert len([g for g in picture.iter(f"{SVG}g") if "data-edge" in g.attrib]) == len(graph.edges)


def test_a_picture_says_what_a_node_waits_for_and_what_it_cancels() -> None:
    graph = written(
        nodes={
            "a": {"uses": "f"},
            "b": {"uses": "b", "cancels": ["c", "m"]},
            "c": {"uses": "g", "cancels": ["b"]},
            "m": {"kind": "milestone", "at": "c", "cancels": ["b"]},
        },
        edges=[
            {"from": "a", "to": ["b", "c", "m"], "type": "parallel"},
            {"from": "m", "to": "end", "on": "short"},
        ],
    )
    picture = drawn(graph)
    assert nodes(picture)["m"] == {"node", "control"}
    said = {"cancels c, m", "g; cancels b", "waits for c; cancels b"}
    assert said <= set(texts(picture))
    assert "short" in texts(picture)


def test_shapes_say_what_a_node_is_for() -> None:
    graph = written(
        nodes={
            "s": {"kind": "start"},
            "a": {"uses": "f"},
            "p": {"role": "plan", "uses": "g"},
            "j": {"uses": "h"},
        },
        edges=[
            "s -> p",
            {"from": "p", "to": ["a", "j"], "type": "parallel"},
            {"from": "a", "to": "j", "type": "join"},
            {"from": "a", "to": "end", "on": "error", "reason": ["timeout"]},
            "j -> end",
        ],
    )
    picture = drawn(graph)
    shapes = {name: classes - {"node"} for name, classes in nodes(picture).items()}
    assert shapes == {
        "s": {"control", "start"},
        "a": {"task"},
        "p": {"plan"},
        "j": {"task"},
        "end": {"control", "end"},
    }
    assert "parallel" in edges(picture)["p->a"]
    assert "error" in edges(picture)["a->end"]
    assert "error: timeout" in texts(picture)
    bars = [g for g in picture.iter(f"{SVG}g") if g.find(f"{SVG}path[@class='bar']") is not None]
    assert [g.attrib["data-node"] for g in bars] == ["j"]


def test_the_laps_of_loops_lead_up() -> None:
    graph = written(
        nodes={"a": {"uses": "f"}, "b": {"uses": "f"}},
        edges=[
            "a -> b",
            {"from": "b", "to": "a", "when": "$x", "label": "loop"},
            {"from": "b", "to": "b", "when": "$y", "label": "loop"},
            "b -> end",
        ],
    )
    found = edges(drawn(graph))
    assert {name for name, classes in found.items() if "back" in classes} == {"b->a", "b->b"}


def test_long_titles_are_broken_and_cut_and_told_in_full() -> None:
    title = "word " * 39
    graph = written(nodes={"a": {"uses": "f", "title": title}}, edges=["a -> end"])
    picture = drawn(graph)
    shown = [text for text in texts(picture) if text.startswith("word")]
    assert len(shown) == 3
    assert shown[-1].endswith("…")
    assert any(title in (found.text or "") for found in picture.iter(f"{SVG}title"))


def test_it_is_light_or_dark_as_its_reader_prefers() -> None:
    assert "@media (prefers-color-scheme: dark)" in diagram.svg(coding_agent())


# --- the way that a run took -------------------------------------------------------------------


def test_without_a_run_nothing_is_marked() -> None:
    picture = drawn(coding_agent())
    for classes in [*nodes(picture).values(), *edges(picture).values()]:
        assert not classes & {"taken", "untaken", "live"}


def test_what_a_run_passed_is_marked_and_counted_and_the_rest_steps_back() -> None:
    graph = coding_agent()
    first = graph.edges[0].id
    taken = Taken(
        nodes={NodeId("Start"): 1, NodeId("TaskHITL"): 2, NodeId("PlanRAG"): 1},
        edges={first: 1, EdgeId("TaskHITL->PlanRAG"): 12},
        live=frozenset({NodeId("PlanRAG")}),
    )
    picture = drawn(graph, taken)
    assert "taken" in nodes(picture)["TaskHITL"]
    assert "live" in nodes(picture)["PlanRAG"]
    assert "untaken" in nodes(picture)["End"]
    assert "taken" in edges(picture)[first]
    assert "untaken" in edges(picture)["HumanAcceptReject1->End"]
    assert {"\u00d72", "human input \u00d712"} <= set(texts(picture))


# --- the same graph gives the same picture -----------------------------------------------------


def test_the_same_graph_gives_the_same_picture_in_every_process() -> None:
    program = (
        "from engine import documents; from engine.formats import diagram, mermaid;"
        "s = documents.read_text(open('examples/coding-agent.sidecar.yaml').read());"
        "g = mermaid.read_graph(open('examples/coding-agent.mmd').read(), s);"
        "print(diagram.svg(g), end='')"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {diagram.svg(coding_agent())}


# --- layout ------------------------------------------------------------------------------------


@st.composite
def wirings(draw: st.DrawFn) -> tuple[list[Box], list[Line]]:
    count = draw(st.integers(1, 12))
    boxes = [
        Box(width=width, height=draw(st.sampled_from([30.0, 60.0])), level=width - 28)
        for width in draw(
            st.lists(st.sampled_from([44.0, 120.0, 230.0]), min_size=count, max_size=count)
        )
    ]
    ends = st.integers(0, count - 1)
    lines = [
        Line(source=source, target=target, width=width, height=18.0 if width else 0.0)
        for source, target, width in draw(
            st.lists(st.tuples(ends, ends, st.sampled_from([0.0, 40.0, 170.0])), max_size=25)
        )
    ]
    return boxes, lines


def rectangles(
    boxes: Sequence[Box], lines: Sequence[Line], placed: Layout
) -> list[tuple[float, float, float, float]]:
    """Everything that takes room, as left, top, right, bottom."""
    sizes = [(*at, box.width, box.height) for at, box in zip(placed.boxes, boxes, strict=True)]
    sizes += [
        (*route.label, line.width, line.height)
        for route, line in zip(placed.routes, lines, strict=True)
        if route.label
    ]
    return [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in sizes]


@settings(max_examples=200, deadline=None)
@given(wirings())
def test_nothing_covers_anything_else(wiring: tuple[list[Box], list[Line]]) -> None:
    boxes, lines = wiring
    placed = layout(boxes, lines)
    found = rectangles(boxes, lines, placed)
    for one, other in itertools.combinations(found, 2):
        apart = (
            one[2] <= other[0] + 0.01
            or other[2] <= one[0] + 0.01
            or one[3] <= other[1] + 0.01
            or other[3] <= one[1] + 0.01
        )
        assert apart, (one, other)


@settings(max_examples=200, deadline=None)
@given(wirings())
def test_everything_lies_within_the_picture(wiring: tuple[list[Box], list[Line]]) -> None:
    boxes, lines = wiring
    placed = layout(boxes, lines)
    for left, top, right, bottom in rectangles(boxes, lines, placed):
        assert -0.01 <= left <= right <= placed.width + 0.01
        assert -0.01 <= top <= bottom <= placed.height + 0.01
    for route in placed.routes:
        for x, y in route.points:
            assert -0.01 <= x <= placed.width + 0.01
            assert -0.01 <= y <= placed.height + 0.01


def test_a_chain_is_drawn_straight_down() -> None:
    boxes = [Box(width=w, height=40, level=20) for w in (50, 120, 80, 200)]
    placed = layout(boxes, [Line(source=i, target=i + 1) for i in range(3)])
    assert len({round(x, 3) for x, _ in placed.boxes}) == 1
    assert [y for _, y in placed.boxes] == sorted(y for _, y in placed.boxes)


def test_what_leads_on_stays_straight_beside_the_laps_of_a_loop() -> None:
    boxes = [Box(width=100, height=40, level=72)] * 4
    lines = [Line(source=i, target=(i + 1) % 4) for i in range(4)]
    placed = layout(boxes, lines)
    assert len({round(x, 3) for x, _ in placed.boxes}) == 1
    assert placed.routes[-1].aside == (True, True)


@pytest.mark.parametrize("laps", [False, True])
def test_the_largest_graph_there_may_be_is_drawn_soon(laps: bool) -> None:
    count = 1000
    lines = [Line(source=i, target=i + 1, width=50, height=18) for i in range(count - 1)]
    lines += [
        Line(source=(i * 7919) % count, target=(i * 104_729 + 13) % count)
        if not laps
        else Line(source=i % 900 + 100, target=i % 900)
        for i in range(4000)
    ]
    began = time.thread_time()
    placed = layout([Box(width=100, height=40, level=72)] * count, lines)
    assert time.thread_time() - began < 20
    assert len(placed.routes) == len(lines)


@pytest.mark.parametrize("write", [diagram.svg, mermaid.write, dot.write])
def test_a_list_of_a_thousand_steps_is_drawn_whole_and_soon(write: Callable[[Graph], str]) -> None:
    graph = document.read({"workflow": "w", "steps": [{"agent": "f"}] * 1000})
    assert isinstance(graph, Graph)
    began = time.process_time()
    drawn = write(graph)
    assert time.process_time() - began < 5
    assert all(step in drawn for step in graph.nodes)
