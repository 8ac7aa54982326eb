"""What the routes of one web process share, made once by `create_app`."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import cast

from flask import Flask, current_app, g

from engine.broker import Nudger
from engine.live import Listener
from engine.platform import Platform
from web import background
from web.background import Errands
from web.clerk import Clerk
from web.places import Places

_KEY = "celeriac"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The platform, and what lets requests wait without holding anybody up."""

    #: Its messages go out in the background: no request waits for the broker.
    platform: Platform
    errands: Errands
    #: Nudges coordinators, many at a time.
    nudger: Nudger
    #: Rings when something of a run is new.
    listener: Listener
    #: Streams and waiting requests share these.
    places: Places
    #: Writes down what was refused, and which keys are in use.
    clerk: Clerk
    #: Set when the process is about to end; streams end with it.
    stopping: threading.Event = field(default_factory=threading.Event)

    def close(self) -> None:
        """Send what is left and stop listening; the platform is the caller's."""
        self.stopping.set()
        self.listener.close()
        self.nudger.close()
        self.clerk.close()
        self.errands.close()


def build(platform: Platform) -> Site:
    """The site of a process that serves a platform."""
    errands = Errands()
    return Site(
        platform=background.behind(platform, errands),
        errands=errands,
        nudger=Nudger(platform.broker.nudge),
        listener=Listener(platform.live),
        places=Places(platform.settings.streams),
        clerk=Clerk(platform),
    )


def install(app: Flask, site: Site) -> None:
    """Make a site known to the routes of an app."""
    app.extensions[_KEY] = site


def of(app: Flask) -> Site:
    """The site of an app."""
    return cast("Site", app.extensions[_KEY])


def current() -> Site:
    """The site of the app that answers the current request, as whoever asks may use it.

    Until it is known who asks, no tenant's rows are seen from here.
    """
    return cast("Site", g.get(_KEY) or of(current_app))


def bind(tenant: str) -> None:
    """From here on the current request sees and writes what is a tenant's, and nothing else."""
    here = of(current_app)
    setattr(g, _KEY, replace(here, platform=here.platform.of(tenant)))
