"""What Celery's monitors are told, a few times a second rather than with each task.

A worker tells of every task three times. Celery gathers that until its loop turns, which is with
each task; the messages then cost more than the tasks. Flower and its kin lose nothing by half a second.
"""

from __future__ import annotations

from typing import Any

import orjson
from celery import Celery, bootsteps
from celery.worker.consumer.events import Events
from kombu import serialization
from kombu.utils import json

#: The name of our way to write JSON; whoever reads it sees no difference.
_QUICK = "celeriac-json"
#: Seconds between two messages.
EVERY = 0.5
#: Events that are told at once, however soon.
MOST = 500


class Gathered(bootsteps.StartStopStep):
    """A step of Celery's consumer, taken after the one that sets up the telling of events."""

    requires = (Events,)

    def __init__(self, c: Any, **options: Any) -> None:
        super().__init__(c, **options)
        self._timer: Any = None

    def start(self, c: Any) -> None:
        """Gather from now on. A consumer that has reconnected begins anew."""
        self.stop(c)
        dispatcher = c.event_dispatcher
        if dispatcher is None or c.hub is None:
            return
        dispatcher.on_send_buffered = None
        dispatcher.buffer_limit = MOST
        self._timer = c.hub.call_repeatedly(EVERY, dispatcher.flush)

    def stop(self, c: Any) -> None:
        """Tell what is left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if c.event_dispatcher is not None:
            c.event_dispatcher.flush()


def gather(app: Celery) -> None:
    """Have the workers of an app gather their events, and write them quickly."""
    serialization.register(
        _QUICK, _written, json.loads, content_type="application/json", content_encoding="utf-8"
    )
    app.conf.event_serializer = _QUICK
    app.steps["consumer"].add(Gathered)


def _written(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        # What only Celery's own way knows how to write.
        text: str = json.dumps(value)
        return text
