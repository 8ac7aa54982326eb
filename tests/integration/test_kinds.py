"""A kind of node that an installed package brings, and places where it is not installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.core.values import Json
from engine.errors import Invalid
from engine.platform import Platform
from engine.runs import catalogue, policies, views
from tests.support.hands import carry_out
from tests.support.platforms import TENANT, chain, publish, submit
from workers.execution import Worker

pytestmark = pytest.mark.usefixtures("sound")

SHOUT = """
from engine import waiting
from workers.kinds import tool


def shout(execution):
    given = waiting.arguments(execution.node, execution.scope())
    return tool.answered(execution, "loud", {"text": given["text"]})


def broken(execution):
    raise KeyError("text")
"""
ENTRIES = "[celeriac.kinds]\nacme.shout = acme_kinds:shout\nacme.broken = acme_kinds:broken\n"
LOUD = "def loud(text):\n    return text.upper() + '!'"


def shouting(kind: str = "acme.shout") -> dict[str, Json]:
    node: dict[str, Json] = {"kind": kind, "with": {"text": "$text"}, "save": {"said": "$result"}}
    return {**chain(a=node), "inputs": {"text": {"type": "string"}}, "outputs": {"said": "$said"}}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A package of somebody else's, installed as packages are, until the patch is undone."""
    (tmp_path / "acme_kinds.py").write_text(SHOUT)
    about = tmp_path / "acme_kinds-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-kinds\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRIES)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        yield patch
    sys.modules.pop("acme_kinds", None)


@pytest.fixture
def loud(main: Platform) -> None:
    catalogue.register(main, TENANT, "tool", "loud", LOUD, by="ada")


def test_where_it_is_not_installed_it_is_not_published(main: Platform) -> None:
    with pytest.raises(Invalid) as raised:
        publish(main, shouting())
    (problem,) = raised.value.problems
    assert problem.path == "nodes.a.kind"
    assert "no package here brings a kind acme.shout" in problem.message
    assert "an entry point acme.shout of the group celeriac.kinds" in problem.remedy
    assert catalogue.latest(main, TENANT) == ()


@pytest.mark.usefixtures("loud")
def test_a_worker_that_lacks_it_says_so(
    main: Platform, worker: Worker, package: pytest.MonkeyPatch
) -> None:
    run = submit(main, publish(main, shouting()), text="hear")
    package.undo()
    done: Any = carry_out(main, worker, run)
    assert (done.status, done.reason) == ("failed", "unknown_kind")
    assert "acme.shout" in done.message


@pytest.mark.usefixtures("package", "loud")
def test_one_that_breaks_fails_its_step_and_not_the_worker(main: Platform, worker: Worker) -> None:
    done: Any = carry_out(
        main, worker, submit(main, publish(main, shouting("acme.broken")), text="")
    )
    assert (done.status, done.reason) == ("failed", "defect")
    assert "KeyError" in done.message


@pytest.mark.usefixtures("package", "loud")
def test_its_calls_pass_the_control_plane(main: Platform, worker: Worker) -> None:
    rules: Json = [
        {"tool": "loud", "arguments": {"path": "text", "regex": "^psst"}, "action": "deny"}
    ]
    policies.apply(main, TENANT, json.dumps({"policy": "quiet", "rules": rules}), by="ada")
    version = publish(main, shouting())
    denied = submit(main, version, text="psst")
    done: Any = carry_out(main, worker, denied)
    assert (done.status, done.reason) == ("failed", "rejected")
    run = submit(main, version, text="hear ye")
    assert carry_out(main, worker, run).status == "completed"
    assert views.run(main, run).outputs == {"said": "HEAR YE!"}
    (call,) = views.calls(main, run)
    assert (call.tool, call.step) == ("loud", "a#1")
