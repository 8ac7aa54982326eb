"""What Celery's monitors hear of a fleet, as Flower would."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from engine.broker import EXECUTE_STEP
from engine.platform import Platform
from engine.store.ids import RunId
from tests.support.fleet import wait_until


@contextmanager
def heard(platform: Platform) -> Iterator[list[dict[str, Any]]]:
    """What Celery's monitors are told of steps once they ask, for the length of a block."""
    found: list[dict[str, Any]] = []
    listening, over = threading.Event(), threading.Event()

    def listen() -> None:
        with platform.broker.app.connection() as connection:
            receiver = platform.broker.app.events.Receiver(connection, handlers={"*": found.append})
            consumer = receiver.itercapture(limit=None, timeout=None, wakeup=True)
            listening.set()
            for _ in consumer:
                if over.is_set():
                    return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert listening.wait(30)
    wait_until(lambda: any(e["type"] == "worker-heartbeat" for e in found), what="a heartbeat")
    assert platform.broker.app.control.enable_events(reply=True)
    yield found
    over.set()
    thread.join(30)


def told(found: Sequence[dict[str, Any]], run: RunId) -> Counter[tuple[str, str]]:
    """What was told of each step of a run."""
    ids = {
        event["uuid"]: event["args"].split()[1]
        for event in list(found)
        if event["type"] == "task-received"
        and event["name"] == EXECUTE_STEP
        and run.run in event["args"]
    }
    return Counter(
        (ids[event["uuid"]], event["type"]) for event in list(found) if event.get("uuid") in ids
    )
