"""Live wake-ups: "something of this run is new", published after commits.

Only hints. Whoever waits for a run reads its history by `seq` when hinted, and every so
often without: a hint that is lost costs a second, not an entry. So nobody waits for one to be
published, either: a thread sees to it, and says at once what has gathered in a moment.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import redis
import structlog
from redis.exceptions import RedisError

from engine.store.ids import RunId

_log = structlog.get_logger(__name__)
_TIMEOUT = 1.0
#: So long hints gather for the next message, unless a run has ended; seconds.
_MOMENT = 0.01
#: Behind the name of a run that has ended.
_ENDED = "!"


class Live:
    """Publishes hints on one channel, in a thread of its own; without a Redis it does nothing."""

    def __init__(self, client: redis.Redis | None, channel: str) -> None:
        self.client = client
        self.channel = channel
        #: What is to be said next: runs, and whether they have ended.
        self._new: dict[RunId, bool] = {}
        self._lock = threading.Lock()
        self._told = threading.Event()
        #: Somebody waits for the end of a run, or of this process.
        self._hurried = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def publish(self, runs: Sequence[RunId], *, ended: Collection[RunId] = ()) -> None:
        """Say that the runs have something new, and which of them have ended. Never raises, never waits."""
        if self.client is None or not runs:
            return
        with self._lock:
            for run in runs:
                self._new[run] = run in ended or self._new.get(run, False)
            if self._thread is None or not self._thread.is_alive():
                self._start()
        if ended:
            self._hurried.set()
        self._told.set()

    def close(self) -> None:
        """Say what is left, as far as two seconds take it, then stop."""
        with self._lock:
            self._closed, thread = True, self._thread
        self._hurried.set()
        self._told.set()
        if thread is not None:
            thread.join(timeout=2 * _TIMEOUT)
        if self.client is not None:
            self.client.close()

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="hints", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # there may be no more threads; the next hint tries again
            _log.warning("live.unsaid", error=str(error))
        else:
            self._thread = thread

    def _work(self) -> None:
        while not self._closed:
            self._told.wait()
            # In this order: what is told from now on wakes this thread again.
            self._told.clear()
            self._hurried.clear()
            self._say()
            if not self._closed:
                self._hurried.wait(_MOMENT)
        self._say()

    def _say(self) -> None:
        with self._lock:
            new, self._new = self._new, {}
        if not new or self.client is None:
            return
        names = (f"{run.tenant}/{run.run}{_ENDED * ended}" for run, ended in new.items())
        try:
            self.client.publish(self.channel, " ".join(names))
        except (RedisError, OSError) as error:
            _log.warning("live.unreachable", error=str(error))
        except Exception:  # noqa: BLE001  # the next ones must be said
            _log.exception("live.defect")


def connect(url: str | None, channel: str) -> Live:
    """Connect to the Redis that carries hints; nothing is opened before the first one."""
    if url is None:
        return Live(None, channel)
    client = redis.Redis.from_url(
        url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT, retry=None
    )
    return Live(client, channel)


@dataclass
class Bell:
    """What one waiting thread listens to."""

    #: Whether it rings at the end of the run alone.
    at_end: bool = False
    _rung: threading.Event = field(default_factory=threading.Event)

    def ring(self) -> None:
        self._rung.set()

    def wait(self, seconds: float) -> bool:
        """Wait until it rings, at most so long; True when it rang. Ready for the next."""
        rang = self._rung.wait(seconds)
        self._rung.clear()
        return rang


class Listener:
    """One subscription of a process, shared by all its waiting threads."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._bells: dict[RunId, list[Bell]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def bell(self, run: RunId, *, at_end: bool = False) -> Iterator[Bell]:
        """A bell that rings when something of the run is new, or when it has ended alone."""
        bell = Bell(at_end=at_end)
        with self._lock:
            self._bells.setdefault(run, []).append(bell)
            if self._thread is None and self._live.client is not None:
                self._thread = threading.Thread(target=self._listen, name="live", daemon=True)
                self._thread.start()
        try:
            yield bell
        finally:
            with self._lock:
                self._bells[run].remove(bell)
                if not self._bells[run]:
                    del self._bells[run]

    def close(self) -> None:
        """Stop listening."""
        self._closed.set()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                self._subscribe()
            # ValueError: the connection was closed under a read that was waiting.
            except (RedisError, OSError, ValueError) as error:
                if not self._closed.wait(1.0):
                    _log.warning("live.lost", error=str(error))

    def _subscribe(self) -> None:
        assert self._live.client is not None
        with self._live.client.pubsub(  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            ignore_subscribe_messages=True
        ) as subscription:
            subscription.subscribe(self._live.channel)
            while not self._closed.is_set():
                message = subscription.get_message(timeout=_TIMEOUT)
                if message is not None:
                    self._ring(message["data"].decode())

    def _ring(self, names: str) -> None:
        with self._lock:
            for name in names.split():
                tenant, _, run = name.removesuffix(_ENDED).partition("/")
                for bell in self._bells.get(RunId(tenant, run), ()):
                    if name.endswith(_ENDED) or not bell.at_end:
                        bell.ring()
