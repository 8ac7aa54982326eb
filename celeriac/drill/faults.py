"""How each kind of fault is done, and what of it recovers."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import redis

from celeriac.drill import plan
from celeriac.drill.fleet import kind_of
from celeriac.drill.network import Network
from celeriac.drill.recovery import Recoveries
from celeriac.drill.stage import Stage
from celeriac.embedded import processes
from engine.broker import STEPS, Hint
from engine.errors import Unavailable
from engine.store import drills, session
from engine.store.drills import Stake
from engine.store.ids import StepId
from workers.execution import name_of

#: How long a server or a network stays away, in seconds.
AWAY = (0.5, 3.0)
#: How much later everything is delivered while the network is slow: from nothing to twice that.
LATE_SECONDS = 0.05
SLOW = (2.0, 5.0)
#: By how much a worker's clock may be off, in seconds, to either side.
SKEW_SECONDS = 3600.0
#: How long a process may take to end by itself when another is to take its place.
_GRACE = 15.0
#: How many steps messages may name, and how long they are the same, in seconds.
_KNOWN, _FRESH = 200, 1.0


@dataclass(slots=True)
class _Known:
    steps: tuple[StepId, ...] = ()


class Faults:
    """Does faults to a stage, at most one of a kind at a time."""

    def __init__(self, stage: Stage, recoveries: Recoveries) -> None:
        self._stage = stage
        self._recoveries = recoveries
        self._locks = {kind: threading.Lock() for kind in plan.KINDS}
        # What restarts a server must not meet another that does.
        self._locks["disk-full"] = self._locks["postgres-restart"]
        self._locks["broker-flush"] = self._locks["broker-restart"]
        self._known = _Known()
        self._fresh = 0.0
        self._done: Mapping[str, Callable[[random.Random], bool]] = {
            "worker-kill": self._kill_worker,
            "coordinator-kill": lambda rng: self._kill("coordinator", rng),
            "web-kill": lambda rng: self._kill("web", rng),
            "beat-kill": lambda rng: self._kill("beat", rng),
            "broker-flush": self._flush,
            "broker-restart": self._restart_broker,
            "broker-mute": self._mute,
            "postgres-restart": self._restart_postgres,
            "slow-network": self._slow,
            "clock-skew": self._skew,
            "worker-stall": self._stall,
            "disk-full": self._fill,
            "deploy": self._deploy,
            "duplicate-delivery": self._repeat,
            "connection-cut": self._cut,
        }

    def do(self, fault: plan.Fault) -> bool:
        """Do it; whether there was anything to do it to. It may take some seconds."""
        # Another fault may have taken away what this one was to be done to.
        away = (Unavailable, OSError, redis.RedisError)
        with self._locks[fault.kind], contextlib.suppress(*away):
            return self._done[fault.kind](random.Random(fault.draw))  # noqa: S311  # no secret
        return False

    # --- processes ----------------------------------------------------------------------------

    def _kill_worker(self, rng: random.Random) -> bool:
        fleet = self._stage.fleet
        name = self._one("worker", rng)
        if rng.random() < 0.25:  # noqa: PLR2004  # now and then it is its children that die
            return fleet.kill_children(name) > 0
        dead = name_of(fleet.pid(name))
        (fleet.kill_whole if rng.random() < 0.5 else fleet.kill)(name)  # noqa: PLR2004
        self._recoveries.watch("worker-kill", lambda of: drills.held(of, [dead]))
        return True

    def _kill(self, kind: str, rng: random.Random) -> bool:
        fleet = self._stage.fleet
        name = self._one(kind, rng)
        if kind == "web" and rng.random() < 0.5:  # noqa: PLR2004
            # Those that answer, not the one that keeps them.
            with contextlib.suppress(ProcessLookupError):
                return fleet.kill_forks(name) > 0
        before = fleet.pid(name)
        fleet.kill(name)
        if kind == "web":
            self._recoveries.await_(
                "web-kill", lambda: fleet.pid(name) != before and self._stage.answers()
            )
        else:
            self._recoveries.watch(f"{kind}-kill", drills.ready)
        return True

    def _stall(self, rng: random.Random) -> bool:
        """Have a worker stand still for longer than its leases, and then go on as if nothing were."""
        fleet, seconds = self._stage.fleet, self._stage.settings.lease_seconds
        name = self._one("worker", rng)
        pid = fleet.pid(name)
        fleet.send(name, signal.SIGSTOP)
        self._recoveries.watch("worker-stall", lambda of: drills.held(of, [name_of(pid)]))
        try:
            self._recoveries.pause(seconds * rng.uniform(1.2, 1.6))
        finally:
            if fleet.pid(name) == pid:
                fleet.send(name, signal.SIGCONT)
        return True

    def _deploy(self, _rng: random.Random) -> bool:
        """Replace every process by another, one after the other."""
        for name in self._stage.fleet.names:
            self._stage.fleet.replace(name, seconds=_GRACE)
            if kind_of(name) == "web":
                processes.wait_until(self._stage.answers, seconds=_GRACE)
        self._recoveries.watch("deploy", drills.ready)
        return True

    def _skew(self, rng: random.Random) -> bool:
        name = self._one("worker", rng)
        ahead = rng.choice((-SKEW_SECONDS, -60.0, -1.0, 1.0, 60.0, SKEW_SECONDS))
        self._stage.clock(name).write_text(str(ahead))
        return True

    # --- the broker ---------------------------------------------------------------------------

    def _flush(self, _rng: random.Random) -> bool:
        with self._valkey() as client:
            client.flushall()
        self._recoveries.watch("broker-flush", drills.ready)
        return True

    def _restart_broker(self, rng: random.Random) -> bool:
        servers = self._stage.servers
        if rng.random() < 0.5:  # noqa: PLR2004  # with, or without what it held
            with self._valkey() as client:
                client.flushall()
        servers.crash_valkey()
        try:
            self._recoveries.pause(rng.uniform(*AWAY))
        finally:
            servers.start_valkey()
        self._recoveries.watch("broker-restart", drills.ready)
        return True

    def _mute(self, rng: random.Random) -> bool:
        self._stage.broker_network.mute()
        try:
            self._recoveries.pause(rng.uniform(*AWAY))
        finally:
            self._stage.broker_network.mend()
        self._recoveries.watch("broker-mute", drills.ready)
        return True

    def _repeat(self, rng: random.Random) -> bool:
        """Send a message that was sent before: for a step that is live or long over, or a run."""
        steps = self._steps()
        if not steps:
            return False
        chosen, how = rng.choice(steps), rng.random()
        if how < 0.2:  # noqa: PLR2004  # the queue turned round: what is first comes last
            with self._valkey() as client:
                if client.rpoplpush(STEPS, STEPS) is not None:
                    return True
        if how < 0.7:  # noqa: PLR2004
            self._stage.broker.send([Hint(step=chosen, workflow="drill")])
        else:
            self._stage.broker.nudge([chosen.run_id])
        return True

    def _steps(self) -> tuple[StepId, ...]:
        now = self._recoveries.now()
        if now - self._fresh > _FRESH:
            with (
                contextlib.suppress(Unavailable),
                session.transaction(self._stage.database) as connection,
            ):
                self._known.steps = tuple(drills.known(connection, most=_KNOWN))
            self._fresh = now
        return self._known.steps

    # --- the database, and the ways to both ---------------------------------------------------

    def _restart_postgres(self, rng: random.Random) -> bool:
        """Stop it as by a power cut, and start it again."""
        servers = self._stage.servers
        stake = self._stake()
        servers.crash_postgres()
        try:
            self._recoveries.pause(rng.uniform(0, AWAY[0]))
        finally:
            servers.start_postgres()
        self._recoveries.watch("postgres-restart", lambda _: stake)
        return True

    def _fill(self, rng: random.Random) -> bool:
        """Leave no byte on the disk of Postgres for a while; start it again if it gave up."""
        disk, servers = self._stage.disk, self._stage.servers
        if disk is None:
            return False
        ballast = disk / "ballast"
        try:
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 20))
            with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            self._recoveries.pause(rng.uniform(*SLOW))
        finally:
            ballast.unlink(missing_ok=True)
            if not processes.alive(servers.postgres):
                servers.start_postgres()
        self._recoveries.watch("disk-full", drills.ready)
        return True

    def _slow(self, rng: random.Random) -> bool:
        network = self._network(rng, 0.5)
        network.slow(LATE_SECONDS)
        try:
            self._recoveries.pause(rng.uniform(*SLOW))
        finally:
            network.slow(0.0)
        return True

    def _cut(self, rng: random.Random) -> bool:
        if rng.random() < 0.25:  # noqa: PLR2004  # now and then it is the server that hangs up
            with session.transaction(self._stage.database) as connection:
                return drills.hang_up(connection, rng.getrandbits(16))
        return self._network(rng, 0.9).hang_up(rng)

    # --- small things -------------------------------------------------------------------------

    def _network(self, rng: random.Random, database: float) -> Network:
        """The database's, with that probability, or the broker's."""
        stage = self._stage
        return stage.database_network if rng.random() < database else stage.broker_network

    def _one(self, kind: str, rng: random.Random) -> str:
        return rng.choice([name for name in self._stage.fleet.names if kind_of(name) == kind])

    def _stake(self) -> Stake:
        with (
            contextlib.suppress(Unavailable),
            session.transaction(self._stage.database) as connection,
        ):
            return drills.ready(connection)
        return Stake()

    def _valkey(self) -> redis.Redis:
        return redis.Redis.from_url(self._stage.servers.redis_url, socket_timeout=5)
