"""What a sandbox says of its walls, and that it runs no source where they do not stand."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from engine.settings import SANDBOX_MODES, Settings
from tests.unit.sandbox.jobs import deed, node
from workers import processes
from workers.sandbox import MODES, Sandbox, SandboxUnavailable, attacks, proof, zygote
from workers.sandbox.attacks import ATTACKS
from workers.sandbox.inside import walls

ROOT = Path(__file__).parents[3]


def lacking(monkeypatch: pytest.MonkeyPatch, *modes: str) -> None:
    """Be on a machine that cannot have these modes."""
    ready = zygote.Zygote._await_ready

    def refused(self: Any, setup: Any) -> None:
        if not setup["library"] and setup["mode"] in modes:
            raise zygote.WallsLacking(f"no {setup['mode']} here")
        ready(self, setup)

    monkeypatch.setattr(zygote.Zygote, "_await_ready", refused)


def test_where_no_wall_can_be_had_source_is_refused_and_libraries_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lacking(monkeypatch, *MODES)
    with Sandbox() as sandbox:
        with pytest.raises(SandboxUnavailable) as refused:
            sandbox.run(node("return 1"))
        for part in ("full: no full here", "portable: no portable here", "Landlock", "MINIMUM"):
            assert part in str(refused.value)
        assert sandbox.standing().mode is None
        assert sandbox.standing().layers == ()
        assert sandbox.run(deed("grow")).patch == {"n": 1}


def test_a_mode_that_was_asked_for_is_not_replaced_by_a_weaker_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lacking(monkeypatch, "full")
    with Sandbox(mode="full", minimum="limits") as sandbox:
        assert sandbox.standing().mode is None
        with pytest.raises(SandboxUnavailable, match="no full here"):
            sandbox.run(node("return 1"))


def test_a_breach_keeps_source_from_being_run(monkeypatch: pytest.MonkeyPatch) -> None:
    leak = replace(ATTACKS[0], name="99 gets through", body="return 'BREACH'")
    monkeypatch.setattr(proof, "ATTACKS", (ATTACKS[0], leak))
    with Sandbox() as sandbox:
        assert sandbox.standing().breaches == ("99 gets through",)
        with pytest.raises(SandboxUnavailable, match="99 gets through"):
            sandbox.run(node("return 1"))
        assert sandbox.run(deed("grow")).patch == {"n": 1}


def test_walls_that_are_not_raised_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof proves: a mode that promises more than it raises is found out."""
    monkeypatch.setattr(zygote, "_BOOT", zygote._BOOT.replace(
        "from inside.zygote import main;",
        "from inside import walls; walls._WITH_LANDLOCK = frozenset(); from inside.zygote import main;",
    ))  # fmt: skip
    with Sandbox(mode="portable") as sandbox:
        assert "02 reads a secret in a file of the worker" in sandbox.standing().breaches
        with pytest.raises(SandboxUnavailable, match="did not hold"):
            sandbox.run(node("return 1"))


@pytest.mark.parametrize(
    ("mode", "minimum"), [("strong", "full"), ("full", "strong"), ("full", "auto"), ("", "full")]
)
def test_modes_are_known(mode: str, minimum: str) -> None:
    with pytest.raises(ValueError, match="modes are auto"):
        Sandbox(mode=mode, minimum=minimum)


def test_the_minimum_may_be_more_than_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch, "full")
    with Sandbox(minimum="full") as sandbox:
        assert sandbox.standing().refusal is not None
    with Sandbox(minimum="portable") as sandbox:
        assert sandbox.standing().mode == "portable"
        assert sandbox.standing().lacking == {"full": "no full here"}
        assert sandbox.run(node("return 1")).value == 1


def test_a_machine_without_landlock_or_filters_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.sandbox.inside.landlock.version", lambda: 0)
    with pytest.raises(walls.Lacking, match="Landlock: the kernel has none"):
        walls._rules(())
    monkeypatch.setattr("workers.sandbox.inside.filters.available", lambda: False)
    with pytest.raises(walls.Lacking, match="takes no filters"):
        walls._filters(threads=False)
    monkeypatch.setattr("platform.machine", lambda: "vax")
    with pytest.raises(walls.Lacking, match="x86_64 and aarch64 are"):
        walls._filters(threads=False)


def test_the_strongest_that_can_be_had_is_taken_and_proved() -> None:
    with Sandbox() as sandbox:
        standing = sandbox.standing()
        assert standing.mode in {"full", "portable"}
        assert standing.refusal is None
        assert standing.tried >= 40
        assert standing.breaches == ()
        assert standing.layers[-1] == "seccomp"
        if standing.mode == "portable":
            assert "namespaces" in standing.lacking["full"]
        if os.geteuid() != 0:
            assert not standing.other_user


def test_a_zygote_that_is_replaced_has_the_same_walls() -> None:
    with Sandbox() as sandbox:
        sandbox._zygotes[False].kill()
        with proof.targets(sandbox._zygote(library=False).pid) as targets:
            for attack in attacks.ATTACKS[:7]:
                assert proof.held(attack, sandbox.run(attack.job(targets)))


def test_settings_know_the_modes() -> None:
    assert SANDBOX_MODES == MODES


def test_a_worker_says_at_its_start_which_walls_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_log", structlog.get_logger())
    for mode, events in (
        ("auto", ["sandbox.walls"]),
        ("limits", ["sandbox.walls", "sandbox.refuses"]),
    ):
        with Sandbox(mode=mode) as sandbox, structlog.testing.capture_logs() as said:
            processes._tell(sandbox)
        assert [entry["event"] for entry in said] == events
        assert said[0]["mode"] == sandbox.standing().mode
        assert said[-1].get("why") == sandbox.standing().refusal


def test_nothing_that_was_put_up_for_the_proof_is_left() -> None:
    with proof.targets(1) as targets:
        folder = Path(str(targets["folder"]))
        assert folder.is_dir()
    assert not folder.exists()


def test_what_a_worker_left_that_was_killed_is_removed_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("celeriac-walls-old", "celeriac-walls-new", "other-old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "secret").touch()
    for name in ("celeriac-walls-old", "other-old"):
        os.utime(tmp_path / name, (1, 1))
    with proof.targets(1):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"celeriac-walls-new", "other-old"}


#: What a container does whose profile allows no namespaces: `unshare` and `clone` with new users fail.
CONTAINER = """
import ctypes, os, struct, sys
sys.path.insert(0, os.getcwd())
from workers.sandbox import Sandbox
from workers.sandbox.inside import filters, process

def instruction(code, then, otherwise, value):
    return struct.pack("=HBBI", code, then, otherwise, value)

unshare = 97 if os.uname().machine == "aarch64" else 272
program = (
    instruction(0x20, 0, 0, 0)
    + instruction(0x15, 0, 1, unshare)
    + instruction(0x06, 0, 0, 0x50001)
    + instruction(0x06, 0, 0, 0x7FFF0000)
)
process.give_up_privileges()
filters.enter(program)
from tests.unit.sandbox.jobs import node
with Sandbox() as sandbox:
    standing = sandbox.standing()
    print(standing.mode, standing.lacking, standing.breaches, sandbox.run(node("return 7")).value)
"""


def test_a_container_that_denies_namespaces_gets_portable_walls_and_is_told_why() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CONTAINER], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("portable {'full': 'namespaces: unshare"), done.stderr
    assert done.stdout.endswith("} () 7\n")


@pytest.mark.parametrize("kind", ["worker", "coordinator", "beat"])
def test_processes_close_themselves_to_others_before_they_know_a_secret(
    monkeypatch: pytest.MonkeyPatch, kind: str, tmp_path: Path
) -> None:
    class Built(Exception):
        pass

    def build(*_: object, **__: object) -> None:
        raise Built

    hidden: list[bool] = []
    monkeypatch.setattr(processes.process, "hide", lambda: hidden.append(True))
    monkeypatch.setattr(processes, "build", build)
    monkeypatch.setattr(processes.telemetry, "configure", lambda *_: None)
    settings = Settings.from_environment({"CELERIAC_HOME": str(tmp_path)})
    with pytest.raises(Built):
        getattr(processes, kind)(settings)
    assert hidden == [True]
