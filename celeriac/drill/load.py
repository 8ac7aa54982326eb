"""Who submits runs while the platform is disturbed: clients that repeat themselves until answered."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from dataclasses import dataclass

from celeriac.client import Client
from celeriac.client.errors import ApiError
from celeriac.drill.stage import Stage
from celeriac.drill.steps import EFFECTS, EVENT
from engine.errors import Unavailable
from engine.store import drills, session

#: So many runs are kept under way, by so many clients.
LIVE = 40
_CLIENTS = 3
_PAUSE = 0.1
#: For so long a client repeats itself before it gives up.
_INSIST_SECONDS = 60.0
#: Every so many submissions one is repeated although it was answered, as by a client that did not hear.
_DEAF = 7
#: The steps of every so many runs take time.
_EVERY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A submission that was answered."""

    ticket: str
    workflow: str
    run: str
    #: How long the answer that counts took, in seconds.
    seconds: float


class Load:
    """Submits from `start` to `stop`; what was submitted is in `submitted`, what went wrong in `wrong`."""

    def __init__(self, stage: Stage, *, seed: int, step_seconds: float) -> None:
        self._stage = stage
        self._seed = seed
        self._step_seconds = step_seconds
        self._numbers = itertools.count(1)
        self._stopped = threading.Event()
        self._live = 0
        self._lock = threading.Lock()
        self.submitted: list[Submitted] = []
        self.wrong: list[str] = []
        self._threads = [
            threading.Thread(target=self._submit_until, name=f"client {number}", daemon=True)
            for number in range(_CLIENTS)
        ]
        self._counter = threading.Thread(target=self._count_until, name="counter", daemon=True)

    def start(self) -> None:
        """Begin."""
        for thread in (self._counter, *self._threads):
            thread.start()

    def stop(self, *, seconds: float) -> None:
        """Submit nothing more, but for what was begun; it is repeated for so long until answered."""
        self._stopped.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self.wrong.append(f"{thread.name} has no answer {seconds:g} s after the last fault")
        self._counter.join(seconds)

    def _count_until(self) -> None:
        while not self._stopped.wait(_PAUSE):
            with (
                contextlib.suppress(Unavailable),
                session.transaction(self._stage.database) as connection,
            ):
                self._live = drills.live(connection)

    def _submit_until(self) -> None:
        with Client(self._stage.url, self._stage.key, timeout=10) as client:
            while not self._stopped.is_set():
                if self._live >= LIVE:
                    self._stopped.wait(_PAUSE)
                    continue
                with self._lock:
                    number = next(self._numbers)
                    self._live += 1
                try:
                    self._submit(client, number)
                except ApiError as error:
                    self.wrong.append(f"submission {number} was answered {error.status}: {error}")

    def _submit(self, client: Client, number: int) -> None:
        workflow = sorted(EFFECTS)[number % len(EFFECTS)]
        ticket = f"{self._seed}-{number}"
        inputs: dict[str, object] = {
            "witness": str(self._stage.witness),
            "ticket": ticket,
            "seconds": 0 if number % _EVERY else self._step_seconds,
        }
        run, seconds = self._insisted(client, workflow, inputs, ticket)
        if number % _DEAF == 0:
            again, _ = self._insisted(client, workflow, inputs, ticket)
            if again != run:
                self.wrong.append(f"ticket {ticket} is run {run} and run {again}")
        if workflow == "drill-waiting":
            session.insist(
                lambda: client.send(EVENT, {}, run=run, idempotency_key=f"{ticket}-event"),
                seconds=_INSIST_SECONDS,
            )
        self.submitted.append(Submitted(ticket=ticket, workflow=workflow, run=run, seconds=seconds))

    def _insisted(
        self, client: Client, workflow: str, inputs: dict[str, object], ticket: str
    ) -> tuple[str, float]:
        """The run that a submission became, and how long the answer took that said so."""

        def submit() -> tuple[str, float]:
            began = time.monotonic()
            run = client.submit(workflow, inputs, idempotency_key=ticket)
            return run.id, time.monotonic() - began

        return session.insist(submit, seconds=_INSIST_SECONDS)
