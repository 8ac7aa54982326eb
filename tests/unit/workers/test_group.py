from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from engine.errors import GaveUp, Unavailable
from tests.support.waiting import wait_until
from workers.group import Group


class Held:
    """Something that is done for many, and waits for a sign at the first time."""

    def __init__(self, do: Callable[[int], int] = lambda asked: 10 * asked) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.go = threading.Event(), threading.Event()
        self._do = do

    def __call__(self, asked: Sequence[int]) -> list[int]:
        self.batches.append([*asked])
        if len(self.batches) == 1:
            self.begun.set()
            assert self.go.wait(10)
        return [self._do(one) for one in asked]


def asked_beside(held: Held, most: int, late: Sequence[int]) -> list[Future[int]]:
    """0 is asked for, and while that is done the others are, one after the other."""
    group = Group(held, most=most)
    with ThreadPoolExecutor(len(late) + 1) as threads:
        found = [threads.submit(group.ask, 0)]
        assert held.begun.wait(10)
        for number, one in enumerate(late, start=1):
            found.append(threads.submit(group.ask, one))
            wait_until(lambda number=number: len(group._waiting) == number)
        held.go.set()
    return found


def test_who_asks_alone_waits_for_nobody() -> None:
    group = Group(lambda asked: [10 * one for one in asked], most=5)
    assert [group.ask(one) for one in (1, 2, 3)] == [10, 20, 30]


def test_what_is_asked_for_meanwhile_is_done_together() -> None:
    held = Held()
    found = asked_beside(held, 50, [1, 2, 3])
    assert held.batches == [[0], [1, 2, 3]]
    assert [one.result() for one in found] == [0, 10, 20, 30]


def test_no_more_is_done_at_a_time_than_may_be() -> None:
    held = Held()
    found = asked_beside(held, 2, [1, 2, 3, 4, 5])
    assert held.batches == [[0], [1, 2], [3, 4], [5]]
    assert [one.result() for one in found] == [0, 10, 20, 30, 40, 50]


def test_one_that_cannot_be_done_fails_alone() -> None:
    def do(asked: int) -> int:
        if asked == 2:
            raise ValueError("not two")
        return asked

    held = Held(do)
    found = asked_beside(held, 50, [1, 2, 3])
    assert held.batches == [[0], [1, 2, 3], [1], [2], [3]]
    assert [one.result() for one in (found[0], found[1], found[3])] == [0, 1, 3]
    with pytest.raises(ValueError, match="not two"):
        found[2].result()


def test_what_is_nobodys_fault_is_told_to_all_and_not_tried_again() -> None:
    def do(asked: int) -> int:
        if asked:
            raise Unavailable("it is away")
        return asked

    held = Held(do)
    found = asked_beside(held, 50, [1, 2])
    assert held.batches == [[0], [1, 2]]
    for one in found[1:]:
        with pytest.raises(Unavailable, match="away"):
            one.result()


def test_after_a_failure_it_goes_on() -> None:
    def do(asked: Sequence[int]) -> list[int]:
        raise ValueError(f"{asked}")

    group: Group[int, int] = Group(do, most=5)
    for _ in range(2):
        with pytest.raises(ValueError, match="7"):
            group.ask(7)


def test_however_many_ask_each_gets_its_own_answer() -> None:
    group: Group[int, Any] = Group(lambda asked: [(one, one + 1) for one in asked], most=7)
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(group.ask, range(2000)))
    assert found == [(one, one + 1) for one in range(2000)]


def test_what_the_database_gave_up_on_for_one_is_tried_for_each() -> None:
    def do(asked: int) -> int:
        if asked == 2:
            raise GaveUp("a row is held")
        return asked

    held = Held(do)
    found = asked_beside(held, 50, [1, 2, 3])
    assert [one.result() for one in (found[0], found[1], found[3])] == [0, 1, 3]
    with pytest.raises(GaveUp):
        found[2].result()


def test_as_many_lead_at_once_as_may_and_none_does_anothers() -> None:
    begun, go = threading.Semaphore(0), threading.Event()
    batches: list[list[int]] = []

    def do(asked: Sequence[int]) -> list[int]:
        batches.append([*asked])
        if asked[0] < 2:
            begun.release()
            assert go.wait(10)
        return [10 * one for one in asked]

    group = Group(do, most=2, at_once=2)
    with ThreadPoolExecutor(8) as threads:
        found = []
        for one in range(2):
            found.append(threads.submit(group.ask, one))
            assert begun.acquire(timeout=10)
        for number, one in enumerate(range(2, 7), start=1):
            found.append(threads.submit(group.ask, one))
            wait_until(lambda number=number: len(group._waiting) == number)
        go.set()
        assert [one.result(10) for one in found] == [0, 10, 20, 30, 40, 50, 60]
    assert batches[:2] == [[0], [1]]
    assert sorted(one for batch in batches for one in batch) == list(range(7))
    assert max(map(len, batches)) == 2
    # Who comes later leads again.
    assert group.ask(7) == 70


def test_one_that_takes_its_time_holds_up_those_with_it_alone() -> None:
    slow = Held()
    group = Group(slow, most=5, at_once=2)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(group.ask, 1)
        assert slow.begun.wait(10)
        assert [group.ask(one) for one in (2, 3)] == [20, 30]
        slow.go.set()
        assert first.result(10) == 10


def test_the_first_waits_for_those_who_are_about_to_ask() -> None:
    batches: list[list[int]] = []

    def do(asked: Sequence[int]) -> list[int]:
        batches.append([*asked])
        return [*asked]

    group = Group(do, most=5, gathered=lambda: wait_until(lambda: len(group._waiting) == 2))
    with ThreadPoolExecutor(3) as threads:
        assert sorted(threads.map(group.ask, range(3))) == [0, 1, 2]
    assert [sorted(batch) for batch in batches] == [[0, 1, 2]]
