from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from engine import tools
from engine.core.values import Json
from engine.errors import Conflict, Invalid, NotFound
from engine.platform import Platform
from engine.runs import catalogue, events, graphs, launch
from engine.settings import Settings
from engine.store import session
from engine.tools import Standing
from tests.support import platforms
from tests.support.platforms import TENANT

SOURCE = (
    'def grow(state, by: int = 1):\n    """Add to n."""\n    state["n"] += by\n    return state\n'
)


@pytest.fixture
def main(settings: Settings) -> Iterator[Platform]:
    with platforms.platform(settings) as built:
        with session.transaction(built.database) as connection:
            connection.execute(text("INSERT INTO tenant (id, name) VALUES ('other', 'Other')"))
        yield built


def register(main: Platform, name: str, code: str = SOURCE, **options: Any) -> int:
    namespace = options.pop("namespace", "function")
    return catalogue.register(main, TENANT, namespace, name, code, by="ada", **options).version


def document(uses: str = "grow", **more: Json) -> dict[str, Json]:
    return {"workflow": "w", "nodes": {"a": {"uses": uses}}, "edges": ["a -> end"], **more}


# --- functions and tools ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code", "path", "message"),
    [
        ("grow", "import os\ndef grow(state): ...", "code", "Import statements are not allowed"),
        ("grow", "x = 1", "code", "No function is defined"),
        ("grow", "def grow(:", "code", "Syntax error"),
        ("grow", "def grow(state): ..." + " " * 20_000, "code", "20020 characters; 20000"),
        ("", SOURCE, "name", "is not a name"),
        ("a b", SOURCE, "name", "is not a name"),
        ("a@1", SOURCE, "name", "is not a name"),
        ("a\x00", SOURCE, "name", "is not a name"),
        ("x" * 129, SOURCE, "name", "is not a name"),
    ],
)
def test_what_cannot_be_registered_is_refused_with_its_field(
    main: Platform, name: str, code: str, path: str, message: str
) -> None:
    with pytest.raises(Invalid) as refused:
        register(main, name, code)
    assert [(p.path, message in p.message) for p in refused.value.problems] == [(path, True)]
    assert catalogue.function_list(main, TENANT, "function") == ()


def test_every_problem_is_told_at_once(main: Platform) -> None:
    with pytest.raises(Invalid) as refused:
        register(main, "a b", "import os")
    assert {problem.path for problem in refused.value.problems} == {"name", "code"}


def test_an_unknown_function_is_not_found_by_its_name(main: Platform) -> None:
    with pytest.raises(NotFound, match="Function not found: grow"):
        catalogue.function(main, TENANT, "function", "grow")
    register(main, "grow")
    with pytest.raises(NotFound, match="Function not found: grow@2"):
        catalogue.function(main, TENANT, "function", "grow", 2)
    with pytest.raises(NotFound, match="Tool not found: grow"):
        catalogue.function(main, TENANT, "tool", "grow")
    with pytest.raises(NotFound):
        catalogue.function(main, "other", "function", "grow")


def test_a_function_is_kept_with_what_can_be_told_of_it(main: Platform) -> None:
    register(main, "grow")
    found = catalogue.function(main, TENANT, "function", "grow")
    assert (found.source, found.library, found.description) == (SOURCE, None, "Add to n.")
    assert (found.version, found.effect, found.created_by) == (1, "pure", "ada")
    assert found.parameters["by"] == {"annotation": "int", "default": 1, "required": False}
    assert found.parameters["state"] == {"annotation": "Any", "default": None, "required": True}


def test_the_same_source_again_is_the_same_version_and_a_changed_one_the_next(
    main: Platform,
) -> None:
    assert [register(main, "grow"), register(main, "grow")] == [1, 1]
    assert register(main, "grow", SOURCE + "\n") == 2
    assert register(main, "grow", SOURCE) == 3
    assert register(main, "grow", SOURCE, description="Grow.") == 4
    versions = catalogue.function_versions(main, TENANT, "function", "grow")
    assert [each.version for each in versions] == [4, 3, 2, 1]


def test_functions_and_tools_are_two_namespaces(main: Platform) -> None:
    register(main, "grow")
    register(main, "grow", SOURCE + "#", namespace="tool")
    assert [f.version for f in catalogue.function_list(main, TENANT, "tool")] == [1]
    assert catalogue.function(main, TENANT, "function", "grow").source == SOURCE


def test_functions_are_listed_by_name_in_their_newest_version(main: Platform) -> None:
    for name in ("c", "a", "b", "a"):
        register(main, name, SOURCE + f"# {len(catalogue.function_list(main, TENANT, 'function'))}")
    first = catalogue.function_list(main, TENANT, "function", limit=2)
    assert [(f.name, f.version) for f in first] == [("a", 2), ("b", 1)]
    rest = catalogue.function_list(main, TENANT, "function", after=first[-1].name, limit=2)
    assert [(f.name, f.version) for f in rest] == [("c", 1)]
    assert catalogue.function_list(main, "other", "function") == ()


def test_those_who_register_at_once_get_a_version_each(main: Platform) -> None:
    versions = _at_once(lambda number: register(main, "grow", f"{SOURCE}# {number % 3}"), 6)
    known = catalogue.function_versions(main, TENANT, "function", "grow")
    assert sorted(f.version for f in known) == list(range(1, len(known) + 1))
    assert {f.source for f in known} == {f"{SOURCE}# {number}" for number in range(3)}
    assert set(versions) <= {f.version for f in known}


TERMS = tools.terms(
    {
        "parameters": {"state": {"type": "object"}, "by": {"type": "integer", "default": 1}},
        "required_permissions": ["read:documents"],
        "cost_estimate_usd": 0.01,
        "tokens_estimate": 100,
        "timeout_seconds": 1,
        "rate_per_minute": 60,
        "rate_per_hour": 1000,
        "requires_approval": True,
        "category": "search",
    }
)


def test_a_version_keeps_its_terms_and_every_change_of_them_is_the_next(main: Platform) -> None:
    add = partial(register, main, "grow", namespace="tool")
    assert [add(), add(terms=TERMS), add(terms=TERMS)] == [1, 2, 2]
    changes: list[dict[str, Any]] = [
        {"cost_estimate_usd": Decimal("0.02")},
        {"timeout_seconds": 2.0},
        {"requires_approval": False},
        {"rate_per_hour": None},
        {"required_permissions": ()},
        {"schema": None},
        {"tokens_estimate": 1},
        {"category": None},
    ]
    for number, change in enumerate(changes, start=3):
        assert add(terms=replace(TERMS, **change)) == number
    assert catalogue.function(main, TENANT, "tool", "grow", 2).terms == TERMS
    assert catalogue.function(main, TENANT, "tool", "grow", 1).terms == tools.USUAL


def test_how_a_tool_stands_holds_for_all_versions_and_is_an_act(main: Platform) -> None:
    register(main, "grow", namespace="tool")
    with pytest.raises(NotFound, match="Tool not found: shrink"):
        catalogue.stand(main, TENANT, "shrink", {"status": "disabled"}, by="ada")
    with pytest.raises(NotFound):
        catalogue.stand(main, "other", "grow", {"status": "disabled"}, by="ada")
    with pytest.raises(Invalid):
        catalogue.stand(main, TENANT, "grow", {"status": "off"}, by="ada")
    catalogue.stand(main, TENANT, "grow", {"status": "disabled"}, by="ada", why="it broke")
    catalogue.stand(main, TENANT, "grow", {"status": "disabled"}, by="ada")
    catalogue.stand(main, TENANT, "grow", {"tags": ["b", "a"]}, by="eve")
    assert register(main, "grow", namespace="tool") == 1
    assert register(main, "grow", SOURCE + "#", namespace="tool") == 2
    for each in catalogue.function_versions(main, TENANT, "tool", "grow"):
        assert each.standing == Standing(status="disabled", tags=("a", "b"))
    with session.transaction(main.database) as connection:
        acts = connection.execute(
            text(
                "SELECT by, action, subject, why, before IS NULL AS new FROM admin_act"
                " WHERE action = 'tool.stand' ORDER BY id"
            )
        ).all()
    assert [tuple(act) for act in acts] == [
        ("ada", "tool.stand", "tool:grow", "it broke", False),
        ("eve", "tool.stand", "tool:grow", "", False),
    ]


def test_a_tool_on_terms_is_called_and_never_run_as_a_function(main: Platform) -> None:
    register(main, "grow", namespace="tool")
    plain = catalogue.publish(main, TENANT, document(), by="ada")
    register(main, "grow", namespace="tool", terms=TERMS)
    refused = "called on terms, not run as a function"
    with pytest.raises(Invalid, match=refused):
        catalogue.publish(main, TENANT, document(version="2.0.0"), by="ada")
    with pytest.raises(Invalid, match=refused):
        launch.submit(main, TENANT, plain.id, {}, by="ada")


def test_the_platform_keeps_some_names_for_itself(main: Platform) -> None:
    own = {**document(), "workflow": "celeriac.session"}
    register(main, "grow")
    for publish in (
        lambda: catalogue.publish(main, TENANT, own, by="ada"),
        lambda: catalogue.publish_text(main, TENANT, json.dumps(own), by="ada"),
    ):
        with pytest.raises(Invalid, match="the platform's own"):
            publish()
    with pytest.raises(Invalid, match="the platform's own"):
        events.send(main, TENANT, "celeriac.step", {}, by="ada")


def test_models_are_told_of_the_tools_that_may_be_called(main: Platform) -> None:
    for name in ("a", "b", "c", "d"):
        standing = {"tags": ["useful"]} if name in "ad" else {}
        register(main, name, namespace="tool", terms=TERMS, standing=standing)
    register(main, "e", namespace="tool")
    register(main, "f")
    for name, status in (("a", "deprecated"), ("b", "disabled"), ("c", "maintenance")):
        catalogue.stand(main, TENANT, name, {"status": status}, by="ada")

    def names(**asked: Any) -> list[str]:
        return [each.name for each in catalogue.for_models(main, TENANT, **asked)]

    assert names() == ["a", "d", "e"]
    assert names(limit=1) == ["a"]
    assert names(after="a", limit=1) == ["d"]
    assert names(tag="useful") == ["a", "d"]
    assert names(category="search") == ["a", "d"]
    assert names(category="admin") == []


# --- workflows --------------------------------------------------------------------------------


def test_a_workflow_that_names_what_is_not_registered_is_refused_with_every_place(
    main: Platform,
) -> None:
    register(main, "known")
    broken: dict[str, Json] = {
        "workflow": "w",
        "nodes": {
            "a": {"uses": "missing"},
            "b": {"kind": "tool", "tool": "known"},
            "c": {"uses": "known@2", "choose": "judge"},
        },
        "edges": ["a -> b -> c -> end"],
    }
    with pytest.raises(Invalid) as refused:
        catalogue.publish(main, TENANT, broken, by="ada")
    assert [(p.path, p.message) for p in refused.value.problems] == [
        ("nodes.a.uses", "Function not found: missing"),
        ("nodes.b.tool", "Tool not found: known"),
        ("nodes.c.uses", "Function not found: known@2"),
        ("nodes.c.choose", "Function not found: judge"),
    ]
    assert catalogue.versions(main, TENANT) == ()


def test_a_document_that_is_not_valid_is_refused_and_nothing_is_kept(main: Platform) -> None:
    with pytest.raises(Invalid):
        catalogue.publish(main, TENANT, {"workflow": "w", "nodes": {}, "edges": []}, by="ada")
    with pytest.raises(Invalid):
        catalogue.publish_simple(main, TENANT, {"nodes": [], "edges": []}, by="ada")
    assert catalogue.latest(main, TENANT) == ()


def test_a_function_of_another_tenant_does_not_exist(main: Platform) -> None:
    register(main, "grow")
    with pytest.raises(Invalid, match="Function not found: grow"):
        catalogue.publish(main, "other", document(), by="eve")


def test_a_version_never_changes(main: Platform) -> None:
    register(main, "grow")
    first = catalogue.publish(main, TENANT, document(version="2.0.0"), by="ada")
    assert catalogue.publish(main, TENANT, document(version="2.0.0"), by="bob") == first
    with pytest.raises(Conflict, match=r"version 2\.0\.0 of w is published"):
        catalogue.publish(main, TENANT, document(version="2.0.0", limits={"steps": 5}), by="ada")


def test_without_a_version_of_its_own_a_document_gets_the_next_patch(main: Platform) -> None:
    register(main, "grow")

    def publish(**more: Json) -> str:
        asked = {**document(), **more}
        return catalogue.publish(main, TENANT, asked, by="ada").version

    assert publish() == "1.0.0"
    assert publish() == "1.0.0"
    assert publish(limits={"steps": 5}) == "1.0.1"
    assert publish(version="1.10.0") == "1.10.0"
    assert publish(version="1.9.0", limits={"steps": 6}) == "1.9.0"
    assert publish(limits={"steps": 7}) == "1.10.1"
    assert publish(version="2.0.0-rc.1") == "2.0.0-rc.1"
    assert publish(limits={"steps": 8}) == "1.10.2"
    assert catalogue.find(main, TENANT, "w").version == "1.10.2"
    assert catalogue.find(main, TENANT, "w", "2.0.0-rc.1").version == "2.0.0-rc.1"
    assert [v.version for v in catalogue.versions(main, TENANT, name="w")] == [
        "1.10.2",
        "2.0.0-rc.1",
        "1.10.1",
        "1.9.0",
        "1.10.0",
        "1.0.1",
        "1.0.0",
    ]


def test_a_pre_release_is_found_by_its_number_alone(main: Platform) -> None:
    register(main, "grow")
    catalogue.publish(main, TENANT, document(version="1.0.0-beta"), by="ada")
    for asked in (None, "latest", "^1", "1.x", ">=0.1", "~1.0"):
        with pytest.raises(NotFound, match=r"such as w@1\.0\.0-beta"):
            catalogue.find(main, TENANT, "w", asked)
    assert catalogue.find(main, TENANT, "w", "1.0.0-beta").version == "1.0.0-beta"
    assert [each.version for each in catalogue.latest(main, TENANT)] == ["1.0.0-beta"]
    changed = document(limits={"steps": 5})
    assert catalogue.publish(main, TENANT, changed, by="ada").version == "1.0.0"
    assert catalogue.find(main, TENANT, "w").version == "1.0.0"


def test_the_same_document_under_another_name_is_another_workflow(main: Platform) -> None:
    register(main, "grow")
    first = catalogue.publish(main, TENANT, document(), by="ada")
    second = catalogue.publish(main, TENANT, document(workflow="v"), by="ada")
    assert first.id != second.id
    assert [(v.workflow, v.version) for v in catalogue.latest(main, TENANT)] == [
        ("v", "1.0.0"),
        ("w", "1.0.0"),
    ]


def test_those_who_publish_at_once_get_a_version_each(main: Platform) -> None:
    register(main, "grow")

    def publish(number: int) -> str:
        return catalogue.publish(
            main, TENANT, document(limits={"steps": 10 + number}), by="ada"
        ).version

    assert sorted(_at_once(publish, 5)) == [f"1.0.{patch}" for patch in range(5)]


def test_lists_page_by_key_whatever_is_published_meanwhile(main: Platform) -> None:
    register(main, "grow")
    for name in ("a", "b", "c"):
        catalogue.publish(main, TENANT, document(workflow=name), by="ada")
    first = catalogue.versions(main, TENANT, limit=2)
    catalogue.publish(main, TENANT, document(workflow="d"), by="ada")
    rest = catalogue.versions(main, TENANT, before=first[-1].id, limit=2)
    assert [v.workflow for v in (*first, *rest)] == ["c", "b", "a"]
    assert [v.workflow for v in catalogue.latest(main, TENANT, after="b")] == ["c", "d"]


@pytest.mark.parametrize(
    "name",
    ["", "nonsense", "01975c3e-0000-7000-8000-000000000001", "01975C3E", "' OR true --"],
)
def test_an_unknown_id_is_not_found_whatever_it_looks_like(main: Platform, name: str) -> None:
    with pytest.raises(NotFound, match="Workflow version not found"):
        catalogue.version(main, TENANT, name)
    with session.transaction(main.database) as connection, pytest.raises(NotFound):
        graphs.load(connection, TENANT, name)
    assert catalogue.versions(main, TENANT, before=name) == ()


def test_a_version_is_its_tenants_alone(main: Platform) -> None:
    register(main, "grow")
    version = catalogue.publish(main, TENANT, document(), by="ada")
    with pytest.raises(NotFound):
        catalogue.version(main, "other", version.id)
    with pytest.raises(NotFound):
        catalogue.find(main, "other", "w")
    assert catalogue.version(main, TENANT, version.id).checksum == version.checksum


def test_what_is_published_from_the_simple_language_can_be_read_back(main: Platform) -> None:
    register(main, "grow")
    body: dict[str, Json] = {
        "nodes": [{"name": "a", "function": "grow"}, {"name": "z", "type": "end"}],
        "edges": [{"source": "a", "target": "z"}],
    }
    version = catalogue.publish_simple(main, TENANT, body, by="ada")
    assert (version.workflow, version.version) == ("workflow", "1.0.0")
    with session.transaction(main.database) as connection:
        graph = graphs.load(connection, TENANT, version.id)
    assert (graph.start, graph.version) == ("a", "1.0.0")
    assert graph.origin is not None


# --- pins -------------------------------------------------------------------------------------


def test_a_run_keeps_to_the_versions_of_its_submission(main: Platform) -> None:
    register(main, "grow")
    register(main, "twice", namespace="tool")
    nodes: Json = {
        "a": {"uses": "grow"},
        "b": {"kind": "tool", "tool": "twice"},
        "c": {"uses": "twice"},
        "d": {"uses": "grow@1"},
    }
    version = catalogue.publish(
        main, TENANT, document(nodes=nodes, edges=["a -> b -> c -> d -> end"]), by="ada"
    )
    register(main, "grow", SOURCE + "#")
    register(main, "twice", SOURCE + "#")
    run = launch.submit(main, TENANT, version.id, {}, by="ada").run
    with session.transaction(main.database) as connection:
        pins = connection.execute(
            text("SELECT pins FROM run WHERE id = CAST(:id AS uuid)"), {"id": run.run}
        ).scalar_one()
    assert pins == {
        "function:grow": 2,
        "function:grow@1": 1,
        "tool:twice": 1,
        "function:twice": 1,
    }


def _at_once(act: Callable[[int], Any], count: int) -> list[Any]:
    meeting, found = threading.Barrier(count), []

    def start(number: int) -> None:
        meeting.wait(timeout=10)
        found.append(act(number))

    racing = [threading.Thread(target=start, args=(number,)) for number in range(count)]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join(timeout=30)
    assert len(found) == count
    return found
