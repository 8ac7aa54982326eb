"""The composition root: the one place that knows what the platform is made of.

Nothing happens at import anywhere in the project; processes build a platform, hand it on,
and close it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from sqlalchemy import Engine, make_url

from engine import broker, faults, live
from engine.blobs import Anchors, Blobs
from engine.broker import Broker
from engine.core.policy import DEFAULT, Policy
from engine.errors import Unavailable
from engine.live import Live
from engine.settings import Settings
from engine.store import session


class DatabaseRole(StrEnum):
    """As whom a process speaks to the database."""

    API = "celeriac_api"  #: the API: what the coordinator may do, for one tenant at a time
    CONTROL = "celeriac_control"  #: coordinator, upkeep
    WORKER = "celeriac_worker"  #: lease, report, read what it needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What every process stands on."""

    settings: Settings
    database: Engine
    broker: Broker
    live: Live
    blobs: Blobs
    #: Where anchors are kept outside the database; None where nobody said.
    anchors: Anchors | None
    policy: Policy
    #: Called at the protocol's named points; tests kill the process there.
    fault: Callable[[str], None]

    def of(self, tenant: str) -> Platform:
        """The same platform as one tenant may use it: its transactions are bound to that tenant."""
        return replace(self, database=session.bound(self.database, tenant))

    def close(self) -> None:
        """Let go of every connection."""
        self.live.close()
        self.broker.close()
        self.database.dispose()


def build(settings: Settings, role: DatabaseRole, *, connections: int = 8) -> Platform:
    """Build the platform of a process. Connects to nothing yet.

    Raises `Unavailable` when a URL is missing.
    """
    if settings.database_url is None or settings.broker_url is None:
        raise Unavailable(
            "DATABASE_URL and BROKER_URL are not set; set both, or start the embedded platform "
            "with `celeriac up`"
        )
    database = session.connect(
        settings.database_url,
        role=role,
        size=connections,
        impatient=role is DatabaseRole.WORKER,
    )
    channel = f"celeriac:live:{make_url(settings.database_url).database}"
    return Platform(
        settings=settings,
        database=database,
        broker=broker.connect(settings),
        live=live.connect(settings.redis_url, channel),
        blobs=Blobs(settings.blob_url, settings.blob_keys),
        anchors=None if settings.anchor_url is None else Anchors(settings.anchor_url),
        policy=DEFAULT,
        fault=faults.armed(settings.fault_dir),
    )
