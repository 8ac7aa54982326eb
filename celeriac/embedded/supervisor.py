"""The supervisor: `up` brings the whole platform up and keeps it up, `down` ends it in order.

One supervisor per data folder, by a lock that the kernel takes back when its holder dies. It starts the
two servers, brings the schema up to date, then starts web, coordinator, workers and beat as children with
the servers' URLs in their environment. A child that ends is started again, later each time it ends soon.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import migrations
from celeriac.embedded import folders, postgres, processes, sealing, valkey
from celeriac.embedded.folders import Home
from celeriac.embedded.install import install
from celeriac.embedded.processes import Running
from engine.core.problem import Problem
from engine.errors import Conflict, Unavailable
from engine.settings import Settings, SettingsError

Report = Callable[[str], None]

#: How long children may take to finish what they are at before they are killed.
GRACE = 25.0
_LOOK = 0.2
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0
#: A child that ran this long had started well: the next end is a new story.
_SETTLED = 30.0
#: A web that ended this often while we waited for it will not come.
_ENDS_AT_START = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a running supervisor tells other processes of the same user."""

    pid: int
    #: Where the API answers.
    url: str
    database_url: str
    broker_url: str
    redis_url: str


def up(
    settings: Settings,
    *,
    workers: int = 1,
    ready: Callable[[State], None] = lambda _: None,
    report: Report = lambda _: None,
) -> None:
    """Run the platform in the foreground, from the main thread, until Ctrl-C or SIGTERM; a second one hurries."""
    stop, hurry = threading.Event(), threading.Event()

    def asked(_signal: int, _frame: object) -> None:
        (hurry if stop.is_set() else stop).set()

    with _handling(asked), _platform(settings, workers, report, hurry=hurry, stop=stop) as whole:
        if not stop.is_set():
            ready(whole.state)
        while not stop.wait(_LOOK):
            whole.tend()


@contextlib.contextmanager
def running(
    settings: Settings, *, workers: int = 1, report: Report = lambda _: None
) -> Iterator[State]:
    """The platform for the length of a block: the one that is up, else one that ends with the block."""
    state = status(settings)
    if state is not None:
        yield state
        return
    never = threading.Event()
    with _platform(settings, workers, report, hurry=never, stop=never) as whole:
        yield whole.state


@contextlib.contextmanager
def servers(settings: Settings, *, report: Report = lambda _: None) -> Iterator[Settings]:
    """Settings with URLs that answer, for the length of a block; servers that were down are again after."""
    if settings.database_url is not None or status(settings) is not None:
        yield attach(settings)
        return
    with _alone(settings) as home, _servers(settings, home, report) as whole:
        yield whole.settings


def attach(settings: Settings) -> Settings:
    """The same settings with the URLs of the platform that is up; a fleet's have theirs."""
    if settings.database_url is not None:
        return settings
    state = status(settings)
    if state is None:
        raise Unavailable(
            f"the platform in {settings.home} is not running; start it with: celeriac up"
        )
    return replace(
        sealing.with_keys(settings, Home(folder=settings.home)),
        database_url=state.database_url,
        broker_url=state.broker_url,
        redis_url=state.redis_url,
        supervised=True,
    )


def status(settings: Settings) -> State | None:
    """What is up on this data folder; None when nothing is, or not yet."""
    home = Home(folder=settings.home)
    return _read_state(home) if _holder(home) is not None else None


def down(settings: Settings, *, report: Report = lambda _: None) -> bool:
    """End whatever runs on this data folder, in order; whether anything did.

    Also what a supervisor that was killed has left behind.
    """
    home = Home(folder=settings.home)
    if not home.lock.exists():
        return False
    holder = _holder(home)
    if holder is not None:
        report(f"ending the platform (pid {holder})")
        with contextlib.suppress(ProcessLookupError):
            os.kill(holder, signal.SIGTERM)
        if not processes.wait_until(lambda: _holder(home) is None, seconds=2 * GRACE):
            logs = home.folder / "logs"
            raise Unavailable(f"the platform did not end within {2 * GRACE:.0f} s; see {logs}")
    with _alone(settings):
        return _end_what_was_left(home, report) or holder is not None


# --- the platform -----------------------------------------------------------------------------


class _Kept:
    """A process that is kept running: started, and started again whenever it ends."""

    def __init__(self, name: str, log: Path, launch: Callable[[], Running]) -> None:
        self.name = name
        self.log = log
        self._launch = launch
        self._delay = _FIRST_DELAY
        self._started = self._due = 0.0
        #: How often it has ended.
        self.ends = 0
        self.running: Running | None = None

    def start(self) -> None:
        self._started = time.monotonic()
        self.running = self._launch()

    def tend(self, report: Report) -> None:
        """Start it again when it has ended: at once after a good time, else later and later."""
        now = time.monotonic()
        if self.running is None:
            if now >= self._due:
                try:
                    self.start()
                except (Unavailable, OSError) as error:
                    report(
                        f"{self.name} could not be started; again in {self._wait(now):g} s: {error}"
                    )
        elif not processes.alive(self.running):
            how = _how(self.running.process.returncode if self.running.process else None)
            self.sweep()
            self.running = None
            self.ends += 1
            report(f"{self.name} ended{how}; again in {self._wait(now):g} s; see {self.log}")

    def sweep(self) -> None:
        """Kill what is left of the process group of one that has ended."""
        if self.running is not None and self.running.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.running.pid, signal.SIGKILL)

    def _wait(self, now: float) -> float:
        if now - self._started > _SETTLED:
            self._delay = _FIRST_DELAY
            self._due = now
        else:
            self._due = now + self._delay
            self._delay = min(2 * self._delay, _LONGEST_DELAY)
        return self._due - now


class _Platform:
    """What runs: the servers where they are ours, and the children."""

    def __init__(self, settings: Settings, report: Report) -> None:
        self.settings = settings
        self.report = report
        self.servers: list[_Kept] = []
        self.children: list[_Kept] = []

    @property
    def state(self) -> State:
        settings = self.settings
        return State(
            pid=os.getpid(),
            url=f"http://{_reachable(settings.host)}:{settings.port}",
            database_url=settings.database_url or "",
            broker_url=settings.broker_url or "",
            redis_url=settings.redis_url or "",
        )

    def tend(self) -> None:
        """Start again whatever has ended."""
        for kept in (*self.servers, *self.children):
            kept.tend(self.report)


@contextlib.contextmanager
def _platform(
    settings: Settings,
    workers: int,
    report: Report,
    *,
    hurry: threading.Event,
    stop: threading.Event,
) -> Iterator[_Platform]:
    _check_host(settings)
    with _alone(settings) as home:
        home.state.unlink(missing_ok=True)
        settings = replace(settings, port=_free_port(settings), supervised=settings.embedded)
        with _servers(settings, home, report) as whole:
            _prepare(whole.settings, home)
            whole.children = list(_children(whole.settings, home, workers))
            try:
                for child in whole.children:
                    child.start()
                _wait_for_web(whole, stop)
                folders.write_private(home.state, json.dumps(_plain(whole.state)))
                yield whole
            finally:
                home.state.unlink(missing_ok=True)
                _end_children(whole, hurry)


@contextlib.contextmanager
def _servers(settings: Settings, home: Home, report: Report) -> Iterator[_Platform]:
    """Both servers, on whatever was left behind; those of a fleet are given."""
    whole = _Platform(settings, report)
    if settings.database_url is not None:
        yield whole
        return
    settings = sealing.with_keys(settings, home, make=True)
    _end_orphans(home, report)
    cluster, server = _located(home)
    database = _Kept("postgres", cluster.log, lambda: postgres.start(cluster))
    broker = _Kept("valkey", server.log, lambda: valkey.start(server))
    whole.servers = [database, broker]
    try:
        broker.start()
        database.start()
        whole.settings = replace(
            settings,
            database_url=postgres.ensure_database(cluster),
            broker_url=server.broker_url(),
            redis_url=server.redis_url(),
            supervised=True,
        )
        yield whole
    finally:
        if database.running is not None:
            postgres.stop(cluster, database.running)
        if broker.running is not None:
            valkey.stop(server, broker.running)


def _located(home: Home) -> tuple[postgres.Cluster, valkey.Server]:
    return (
        postgres.locate(home.postgres, log=folders.rotate(home.log("postgres"))),
        valkey.locate(home.valkey, log=folders.rotate(home.log("valkey"))),
    )


def _prepare(settings: Settings, home: Home) -> None:
    """What must be there before anything else starts; of a fleet's tenants we know nothing."""
    assert settings.database_url is not None
    if settings.supervised:
        install(settings, key_file=home.admin_key)
    else:
        migrations.upgrade(settings.database_url)


def _children(settings: Settings, home: Home, workers: int) -> Iterator[_Kept]:
    # A user's libpq variables would redirect our connections.
    outside = {name: text for name, text in os.environ.items() if not name.startswith("PG")}
    # Only coordinators sign; whoever else is broken into must not be able to.
    verifying = replace(settings, audit_keys=settings.audit_keys.verifying())
    names = [
        "web",
        "coordinator",
        *(f"worker-{number}" for number in range(1, workers + 1)),
        "beat",
    ]
    for name in names:
        log = folders.rotate(home.log(name))
        told = settings if name == "coordinator" else verifying
        environment = {**outside, **told.to_environment(), "PYTHONUNBUFFERED": "1"}
        # -P: the working folder of whoever typed `up` must not shadow our packages.
        command = [sys.executable, "-P", "-m", "celeriac", name.partition("-")[0]]
        launch = partial(
            processes.spawn,
            command,
            log=log,
            environment=environment,
            folder=home.folder,
            leash=signal.SIGKILL,
        )
        yield _Kept(name, log, launch)


def _wait_for_web(whole: _Platform, stop: threading.Event, *, seconds: float = 60) -> None:
    """Wait until the API takes connections; a child that ends meanwhile is started again."""
    deadline = time.monotonic() + seconds
    web = whole.children[0]
    while not stop.is_set() and not _connects(whole.settings.host, whole.settings.port):
        if time.monotonic() > deadline or web.ends >= _ENDS_AT_START:
            raise Unavailable(f"web did not start; {web.log} ends with\n{processes.tail(web.log)}")
        whole.tend()
        stop.wait(0.05)


def _end_children(whole: _Platform, hurry: threading.Event) -> None:
    running = [(child, child.running) for child in whole.children if child.running is not None]
    for _, process in running:
        if processes.alive(process):
            os.kill(process.pid, signal.SIGTERM)
    processes.wait_until(
        lambda: hurry.is_set() or not any(processes.alive(process) for _, process in running),
        seconds=GRACE,
    )
    for child, process in running:
        if processes.alive(process):
            whole.report(f"{child.name} did not end in time and is killed; see {child.log}")
            processes.end(process, signal.SIGKILL, seconds=5)
        child.sweep()


# --- what was left behind ---------------------------------------------------------------------


def _end_what_was_left(home: Home, report: Report) -> bool:
    ended = _end_orphans(home, report)
    if (home.postgres / "data").exists() or (home.postgres / "cluster").is_symlink():
        cluster, server = _located(home)
        if (found := postgres.find(cluster)) is not None:
            report(f"ending Postgres (pid {found.pid})")
            postgres.stop(cluster, found)
            ended = True
        if (found := valkey.find(server)) is not None:
            report(f"ending Valkey (pid {found.pid})")
            valkey.stop(server, found)
            ended = True
    return ended


def _end_orphans(home: Home, report: Report) -> bool:
    """Kill processes that a supervisor of this data folder had started, and that outlived it."""
    marks = {"CELERIAC_SUPERVISED": "1", "CELERIAC_HOME": str(home.folder)}
    ended = False
    for pid in processes.started_with(marks):
        if pid != os.getpid():
            report(f"ending a process that outlived its supervisor (pid {pid})")
            processes.end(Running(pid=pid), signal.SIGKILL, seconds=5)
            ended = True
    return ended


# --- one supervisor per data folder -----------------------------------------------------------


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[Home]:
    """Hold the data folder for a block; a conflict where another supervisor does."""
    home = folders.lay_out(settings.home)
    with _locked(home) as file:
        # Who only looks holds the lock for a moment, too.
        if not processes.wait_until(lambda: _take(file, fcntl.LOCK_EX), seconds=1):
            state = _read_state(home)
            where = f" (pid {_holder(home)})" + (f" at {state.url}" if state else "")
            raise Conflict(
                f"Celeriac already runs on {home.folder}{where}; end it with: celeriac down"
            )
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        yield home


def _holder(home: Home) -> int | None:
    """The process that holds the data folder, if one does."""
    if not home.lock.exists():
        return None
    with _locked(home) as file:
        # Shared, so that two who look do not take each other for a supervisor.
        if _take(file, fcntl.LOCK_SH):
            return None
        return int(os.pread(file, 20, 0) or 0) or None


@contextlib.contextmanager
def _locked(home: Home) -> Iterator[int]:
    file = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield file
    finally:
        os.close(file)


def _take(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _plain(state: State) -> dict[str, object]:
    return {name: getattr(state, name) for name in State.__slots__}


def _read_state(home: Home) -> State | None:
    written = folders.read_state(home)
    if written is None or set(written) != set(State.__slots__):
        return None
    return State(**written)  # type: ignore[arg-type]  # we wrote it, under the lock


# --- small things -----------------------------------------------------------------------------


@contextlib.contextmanager
def _handling(handler: Callable[[int, object], None]) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # What is ignored was meant to be: nohup, or a shell's background job.
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, handled in before.items():
            signal.signal(number, handled)


def _check_host(settings: Settings) -> None:
    """Refuse to serve one user's platform to the network: its servers and keys are this machine's."""
    host = settings.host
    try:
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    if settings.embedded and not here:
        raise SettingsError(
            [
                Problem(
                    path="CELERIAC_HOST",
                    message=f"{host!r} is not this machine alone, which the embedded platform serves",
                    remedy="leave it out; to serve others run a fleet, with DATABASE_URL and BROKER_URL",
                )
            ]
        )


def _free_port(settings: Settings) -> int:
    """The port the API will listen on: the one asked for, or any for 0; refused when it is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise Conflict(
                f"cannot listen on {settings.host} port {settings.port}: {error.strerror};"
                " name another port: CELERIAC_PORT=8001"
            ) from error
        return int(probe.getsockname()[1])


def _connects(host: str, port: int) -> bool:
    with (
        contextlib.suppress(OSError),
        socket.create_connection((_reachable(host), port), timeout=1),
    ):
        return True
    return False


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104


def _how(code: int | None) -> str:
    # One that was adopted tells its own parent, not us.
    if code is None:
        return ""
    return f" ({signal.Signals(-code).name})" if code < 0 else f" (exit code {code})"
