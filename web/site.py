"""What the routes of one web process share, made once by `create_app`."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import cast

from flask import Flask, current_app

from engine.broker import Nudger
from engine.live import Listener
from engine.platform import Platform
from web import background
from web.background import Errands
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
    #: Set when the process is about to end; streams end with it.
    stopping: threading.Event = field(default_factory=threading.Event)

    def close(self) -> None:
        """Send what is left and stop listening; the platform is the caller's."""
        self.stopping.set()
        self.listener.close()
        self.nudger.close()
        self.errands.close()


def build(platform: Platform) -> Site:
    """The site of a process that serves a platform."""
    errands = Errands()
    return Site(
        platform=background.behind(platform, errands),
        errands=errands,
        nudger=Nudger(platform.broker),
        listener=Listener(platform.live),
        places=Places(platform.settings.streams),
    )


def install(app: Flask, site: Site) -> None:
    """Make a site known to the routes of an app."""
    app.extensions[_KEY] = site


def of(app: Flask) -> Site:
    """The site of an app."""
    return cast("Site", app.extensions[_KEY])


def current() -> Site:
    """The site of the app that answers the current request."""
    return of(current_app)
