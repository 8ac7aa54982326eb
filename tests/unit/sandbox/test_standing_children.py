"""Installed code is trusted: a child of it carries out one execution after the other."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.sandbox.jobs import alive, deed, node, within
from workers.sandbox import Outcome, Sandbox
from workers.sandbox.inside import process


@pytest.fixture(scope="module")
def own() -> Iterator[Sandbox]:
    with Sandbox() as started:
        yield started


def test_a_child_of_installed_code_is_used_again(own: Sandbox) -> None:
    first, second = (own.run(deed("process")).value for _ in range(2))
    assert first == second


def test_a_child_of_source_never_is(own: Sandbox) -> None:
    job = node("math.marked = getattr(math, 'marked', 0) + 1\nreturn math.marked")
    assert [own.run(job).value for _ in range(2)] == [1, 1]


def test_a_child_whose_code_has_raised_is_used_again(own: Sandbox) -> None:
    first = own.run(deed("process")).value
    failed = own.run(deed("process", {"raises": True}))
    assert (failed.reason, own.run(deed("process")).value) == ("error", first)


@pytest.mark.parametrize(
    "left",
    [
        "a thread",
        "a thread that Python does not count",
        "a process",
        "a signal that it has blocked",
        "a hard limit",
        "its output closed",
    ],
)
def test_a_child_that_leaves_something_behind_is_not_used_again(own: Sandbox, left: str) -> None:
    first = own.run(deed("process", {"leaves": left}))
    assert first.ok
    again = own.run(deed("process"))
    assert again.ok
    assert again.value != first.value


@pytest.mark.parametrize("leaves_session", [False, True])
def test_a_process_that_has_lost_its_parent_does_not_go_on_beside_the_next_execution(
    own: Sandbox, *, leaves_session: bool
) -> None:
    child, orphan = _pair(own.run(deed("orphan", {"leaves_session": leaves_session})))
    again = own.run(deed("process"))
    assert again.ok
    assert not alive(orphan)
    # One that has left for another session is nothing that the next execution could notice.
    assert (again.value == child) == leaves_session


@pytest.mark.parametrize("told", ["nothing", "of all but the last, once"])
def test_one_that_the_kernel_does_not_tell_of_is_looked_for_by_the_zygote(
    own: Sandbox, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    assert all(own.run(deed("process", whose=whose)).ok for whose in ("", "another"))
    whole = process.told
    shown = iter([slice(-1)])

    def lacking(path: str) -> bytes:
        if told == "nothing":
            return b""
        return b" ".join(whole(path).split()[next(shown, slice(None))])

    monkeypatch.setattr("workers.sandbox.zygote.process.told", lacking)
    _, orphan = _pair(own.run(deed("orphan", {"leaves_session": False})))
    assert own.run(deed("process")).ok
    assert not alive(orphan)


@pytest.mark.parametrize("changes", ["all", "all, and its folder is gone"])
def test_what_one_execution_changes_of_its_process_is_not_the_next_ones(
    own: Sandbox, changes: str
) -> None:
    first = own.run(deed("surroundings", {"changes": changes}))
    assert first.ok, first.message
    assert own.run(deed("surroundings")).value == first.value


@pytest.mark.parametrize("timer", [signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF])
def test_a_timer_of_one_execution_does_not_end_the_next(own: Sandbox, timer: int) -> None:
    first = own.run(deed("set_timer", {"timer": timer})).value
    assert own.run(deed("spin")).ok
    assert own.run(deed("process")).value == first


def test_what_one_tenants_code_leaves_in_its_modules_no_other_tenants_sees(own: Sandbox) -> None:
    def hoard(whose: str) -> list[int]:
        return _pair(own.run(deed("hoard", {"megabytes": 1}, whose=whose)))

    (child, once), (another, others) = hoard("one"), hoard("two")
    assert (once, others) == (1, 1)
    assert child != another
    assert hoard("one") == [child, 2]


def test_of_children_that_wait_the_one_that_has_waited_longest_makes_room(
    own: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.sandbox.zygote._MOST_PARKED", 1)
    first, second = (own.run(deed("process", whose=whose)).value for whose in ("one", "two"))
    assert own.run(deed("process", whose="two")).value == second
    assert own.run(deed("process", whose="one")).value != first


def test_a_child_that_keeps_too_much_memory_is_not_used_again(own: Sandbox) -> None:
    def hoard(megabytes: int) -> list[int]:
        return _pair(own.run(deed("hoard", {"megabytes": megabytes}, whose="a miser")))

    child, _ = hoard(30)
    # Together more than a child may keep, though no execution keeps that much.
    assert hoard(40) == [child, 2]
    assert hoard(1)[1] == 1


def test_what_a_c_library_prints_is_told_with_the_execution_that_printed_it(own: Sandbox) -> None:
    lines: list[str] = []
    first = own.run(deed("speak_in_c", {"says": "C"}), on_log=lambda _, line: lines.append(line))
    assert lines == ["C"]
    assert own.run(deed("process")).value == first.value


@pytest.mark.parametrize("deadly", [deed("spin_deaf", limits=within(0.2)), deed("fill")])
def test_a_child_that_was_ended_or_has_run_out_of_memory_is_not_used_again(
    own: Sandbox, deadly
) -> None:
    first = own.run(deed("process")).value
    assert not own.run(deadly).ok
    assert own.run(deed("process")).value != first


def test_a_child_that_dies_while_it_waits_is_not_missed(own: Sandbox) -> None:
    first = own.run(deed("process")).value
    assert isinstance(first, int)
    (zygote,) = (each for trusted, each in own._zygotes.items() if trusted)
    (lane,) = (each for each in zygote._parked if each.pid == first)
    os.kill(first, signal.SIGKILL)
    # Its end of the socket is closed.
    assert select.select([lane.messages], [], [], 10)[0]
    again = own.run(deed("process"))
    assert again.ok
    assert again.value != first


def test_what_one_execution_prints_is_not_the_next_ones(own: Sandbox) -> None:
    told: list[list[str]] = []
    for word in ("first", "second"):
        lines: list[str] = []
        own.run(deed("process", {"says": word}), on_log=lambda _, line: lines.append(line))  # noqa: B023
        told.append(lines)
    assert told == [["first"], ["second"]]


def test_each_execution_is_charged_its_own_time(own: Sandbox) -> None:
    own.run(deed("spin", limits=within(20, cpu_seconds=10)))
    assert own.run(deed("process")).cpu_seconds < 0.3


def test_executions_side_by_side_have_a_child_each(own: Sandbox) -> None:
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: own.run(deed("process")).ok, range(40)))
    assert all(found)


def _pair(outcome: Outcome) -> list[int]:
    assert isinstance(outcome.value, list), outcome.message
    first, second = outcome.value
    assert isinstance(first, int)
    assert isinstance(second, int)
    return [first, second]
