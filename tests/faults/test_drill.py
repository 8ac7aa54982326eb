"""Drills: the platform holds, and one without a part of its protocol does not."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from celeriac.drill import fleet, plan
from celeriac.drill.drill import Order, Report, drill
from celeriac.embedded import processes
from engine.errors import Invalid
from tests.support.fleet import wait_until
from tests.support.services import ROOT

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

#: In CI at least so many faults are done.
FAULTS = 2_000
#: A busy machine takes its time to settle; a stuck run would take for ever.
SETTLE = 120.0


def test_of_thousands_of_faults_of_every_kind_none_loses_or_doubles_anything() -> None:
    """What `celeriac drill` does, until it has done enough of it."""
    report = drill(Order(seconds=150, seed=2026, settle_seconds=SETTLE, step_seconds=0.8))
    assert report.held, told(report)
    assert report.injected >= FAULTS, report.faults
    assert {kind for kind in plan.KINDS if not report.faults.get(kind)} <= report.not_here.keys()
    # It was under load, and there was something to recover from.
    assert report.steps > 200, told(report)
    assert report.recovery_seconds, told(report)


def test_what_is_struck_goes_on_within_a_lease_or_as_soon_as_it_is_known_to_be_lost() -> None:
    """With leases as in production: 30 s. A busy machine takes longer to start a worker again."""
    kinds = ("worker-kill", "broker-flush")
    report = drill(Order(kinds=kinds, seconds=40, seed=3, lease_seconds=30, settle_seconds=SETTLE))
    assert report.held, told(report)
    assert report.unrecovered == 0
    assert report.recovery_seconds["worker-kill"] < 1.5 * 35, told(report)
    # Were messages repeated by their age alone, some would come a minute later.
    assert report.recovery_seconds["broker-flush"] < 3 * 10, told(report)


@pytest.mark.parametrize(
    ("part", "kinds", "more"),
    [
        ("fence", ["worker-stall"], {"lease_seconds": 2.0, "step_seconds": 1.5, "seconds": 30}),
        ("sweeper", ["broker-flush", "worker-kill"], {"seconds": 12, "settle_seconds": 20}),
    ],
)
def test_without_a_part_of_the_protocol_a_drill_fails(
    part: str, kinds: Sequence[str], more: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    order = Order(**{"kinds": kinds, "seed": 5, "settle_seconds": SETTLE, **more})
    report = drill(order, command=weakened(part))
    assert report.injected, report
    assert not report.held, told(report)
    assert report.lost if part == "sweeper" else report.doubled or report.findings, told(report)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_a_drill_ends_all_that_it_started(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "celeriac", "drill", "beat-kill", "--seconds", "600"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background hears no interrupt, nor does what that starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # one thread
    ) as drilling:
        assert drilling.stderr is not None
        assert any("beat-kill" in line for line in drilling.stderr), "it has not begun"
        started = family(drilling.pid)
        folder = next(
            Path(arg).parent for pid in started for arg in argv(pid) if "witness.sock" in arg
        )
        assert folder.is_dir()
        # Both servers, the witness, six processes, and what these have made.
        assert len(started) > 9
        drilling.send_signal(number)
        # Read on: whoever is not heard waits before it ends.
        _, told = drilling.communicate(timeout=60)
        assert drilling.returncode == (-number if number == signal.SIGKILL else 130), told
    wait_until(lambda: not any(map(processes.exists, started)), what="all to end")
    assert folder.exists() == (number == signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def test_what_cannot_be_drilled_here_is_said_and_not_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("celeriac.drill.stage.can_have_disk", lambda: "needs what is not here")
    with pytest.raises(Invalid, match="needs what is not here"):
        drill(Order(kinds=["disk-full"]))
    report = drill(Order(kinds=["disk-full", "web-kill"], seconds=5, settle_seconds=SETTLE))
    assert (report.held, report.not_here) == (True, {"disk-full": "needs what is not here"})
    assert report.faults.keys() == {"web-kill"}


def family(pid: int) -> list[int]:
    """The processes that a process has made, and those that they have."""
    made = fleet.children(pid)
    return [*made, *(each for child in made for each in family(child))]


def argv(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []


def weakened(part: str) -> Callable[[str], Sequence[str]]:
    """How the processes of a fleet start that lack a part."""

    def command(name: str) -> Sequence[str]:
        kind = fleet.kind_of(name)
        if kind in {"worker", "coordinator"}:
            return [sys.executable, "-P", "-m", "tests.support.weakened", part, kind]
        return fleet.plain(name)

    return command


def told(report: Report) -> str:
    """The report, one field a line."""
    return "\n".join(f"{name}: {getattr(report, name)}" for name in Report.__slots__)
