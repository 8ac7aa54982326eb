"""Doing for many at once what threads ask for one by one.

There is no timer: what is asked for while the last doing is under way is done together next. So one
who asks alone waits for nobody, and the more there are, the less each costs. Where more are known to be
about to ask, the first may wait for them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

from engine.errors import GaveUp, Unavailable

_log = structlog.get_logger(__name__)

Asked = TypeVar("Asked")
Given = TypeVar("Given")


def _held() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(slots=True, eq=False)
class _Ticket(Generic[Asked, Given]):
    asked: Asked
    #: Held until it is called: a lock costs a third of what an event does.
    uncalled: threading.Lock = field(default_factory=_held)
    #: It is this thread's turn to do what waits; else its own is done.
    leads: bool = False
    given: Given | None = None
    error: BaseException | None = None


class Group(Generic[Asked, Given]):
    """Does `do` for what is asked, in the order of asking, at most `most` at a time.

    `do` gets what was asked and gives as many answers, in the same order. The thread that asks
    first does it for all who wait by then; whoever waits longest is next. So many of them do so
    `at_once`. Where it fails for several it is tried for each alone, so that one cannot hold up the
    others; but for a database that is away, which is nobody's fault and told to all. `gathered`
    returns once all have asked who are about to; it does not raise.
    """

    def __init__(
        self,
        do: Callable[[Sequence[Asked]], Sequence[Given]],
        *,
        most: int,
        at_once: int = 1,
        gathered: Callable[[], None] = lambda: None,
    ) -> None:
        self._do = do
        self._gathered = gathered
        self._most = most
        self._lock = threading.Lock()
        #: Those that nobody does anything for yet; none while somebody might.
        self._waiting: deque[_Ticket[Asked, Given]] = deque()
        #: How many more threads may lead.
        self._idle = at_once

    def ask(self, asked: Asked) -> Given:
        """Have it done; the answer. Raises whatever doing it raises."""
        ticket: _Ticket[Asked, Given] = _Ticket(asked)
        with self._lock:
            if self._idle:
                self._idle -= 1
                ticket.leads = True
            else:
                self._waiting.append(ticket)
        if not ticket.leads:
            ticket.uncalled.acquire()
        if ticket.leads:
            self._lead(ticket)
        if ticket.error is not None:
            raise ticket.error
        return ticket.given  # type: ignore[return-value]  # there is an answer where there is no error

    def _lead(self, own: _Ticket[Asked, Given]) -> None:
        """Do this thread's own and what waits, then call whoever comes next."""
        self._gathered()
        with self._lock:
            others = min(self._most - 1, len(self._waiting))
            batch = [own, *(self._waiting.popleft() for _ in range(others))]
        try:
            self._carry_out(batch)
        finally:
            with self._lock:
                following = self._waiting.popleft() if self._waiting else None
                self._idle += following is None
            for ticket in batch[1:]:
                ticket.uncalled.release()
            if following is not None:
                following.leads = True
                following.uncalled.release()

    def _carry_out(self, batch: Sequence[_Ticket[Asked, Given]]) -> None:
        try:
            for ticket, given in zip(batch, self._do([one.asked for one in batch]), strict=True):
                ticket.given = given
        except BaseException as error:  # noqa: BLE001  # each is raised where it was asked for
            away = isinstance(error, Unavailable) and not isinstance(error, GaveUp)
            if len(batch) == 1 or away:
                for ticket in batch:
                    ticket.error = error
                return
            _log.info("group.apart", asked=len(batch), error=str(error))
            for ticket in batch:
                self._carry_out([ticket])
