"""A peer of the benchmark that does not install, start, answer or end is named with its reason."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from benchmarks import configuration, peer, workloads
from benchmarks.peers import Task
from tests.support.waiting import wait_until

NAME = "swift"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where environments and requirements of peers lie."""
    monkeypatch.setattr(peer, "_ENVIRONMENTS", tmp_path / "environments")
    monkeypatch.setattr(peer, "_REQUIREMENTS", tmp_path)
    (tmp_path / f"{NAME}.txt").write_text("")
    return tmp_path


def told(folder, script, *, seconds=30):
    """What a peer comes to whose Python is this script."""
    program = folder / "environments" / NAME / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    task = Task(
        sockets="/nowhere",
        user="nobody",
        database="none",
        folder=str(folder),
        settings={"seconds": seconds},
        size={},
        servers={},
    )
    servers = SimpleNamespace(environment={"PATH": os.environ["PATH"]}, folder=folder)
    return peer._told(servers, NAME, task)


def test_a_peer_that_may_not_be_installed_says_so(folder):
    assert "is not installed" in peer.install(NAME, may=False)


def test_a_peer_whose_packages_are_nowhere_says_what_pip_said(folder, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (folder / f"{NAME}.txt").write_text("a-package-that-nobody-has==1\n")
    reason = peer.install(NAME, may=True)
    assert reason.startswith("does not install: ")
    assert "a-package-that-nobody-has==1" in reason
    assert "a-package-that-nobody-has==1" in peer.install(NAME, may=True)


def test_a_peer_that_fails_says_how(folder):
    assert told(folder, "echo 'no such table' >&2; exit 1").reason == (
        "was not measured: no such table"
    )


def test_a_peer_that_does_not_end_is_ended_with_all_that_it_started(folder):
    script = "sleep 100 & echo $! > child; wait"
    assert told(folder, script, seconds=1).reason == "not measured in 1 s"
    child = int((folder / "child").read_text())
    wait_until(lambda: child not in workloads.family([child]) or _ended(child), what="it to end")


def test_a_peer_answers_with_one_line_among_others(folder):
    answer = told(folder, """echo noise; echo '{"figures": {"n": 1.0}, "versions": {}}'""")
    assert (answer.figures, answer.reason) == ({"n": 1.0}, "")


def test_a_peer_is_installed_once_for_the_same_requirements(folder):
    assert peer.install(NAME, may=True) == ""
    assert peer.install(NAME, may=False) == ""
    (folder / f"{NAME}.txt").write_text("# another\n")
    assert "is not installed" in peer.install(NAME, may=False)


def test_every_peer_has_its_requirements_and_its_module():
    for name, settings in configuration.section("peers").items():
        place = configuration.FILE.parent / "peers"
        assert (place / f"{name}.py").exists()
        pinned = (place / f"{name}.txt").read_text().lower()
        assert all(f"{package}==" in pinned for package in settings["packages"]), name


def _ended(pid):
    """Whether what is left of a process waits for its parent alone."""
    return workloads.family([pid])[pid][0] == "Z"
