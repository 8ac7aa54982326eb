"""Following a run: its history by `seq`, first what there is, then what comes.

The bell is only a hint. Whoever follows reads the database when it rings and once a second
without, so a hint that was lost costs a second and never a line; what was read is known by its
`seq`, so a stream is taken up again exactly where it ended.

A stream that waits costs one look at the head of the run in a second. While the database is
away it waits on: what it has told stays told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import structlog

from engine.errors import Unavailable
from engine.live import Bell
from engine.runs import views
from engine.runs.views import Line, Status
from engine.store.ids import RunId
from web.site import Site

#: How long a hint may be late.
LOOK_SECONDS = 1.0
#: How often it is asked whether whoever follows still may.
ASK_SECONDS = 15.0
_BATCH = 500

_log = structlog.get_logger(__name__)


def follow(
    site: Site,
    run: RunId,
    bell: Bell,
    *,
    after: int,
    payloads: bool = True,
    may: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Line, ...]]:
    """The lines of a run's history after a seq, in batches, until the run has ended.

    Yields an empty batch whenever it has looked and found nothing, so that the caller may look
    after its client. Ends early, without a word, when the process is about to end. `may` is asked
    now and then, and raises when whoever follows may not any more.
    """
    asked = time.monotonic()
    while not site.stopping.is_set():
        try:
            if time.monotonic() - asked >= ASK_SECONDS:
                may()
                asked = time.monotonic()
            status = views.status(site.platform, run)
            if status.seq > after:
                found = views.history(
                    site.platform, run, after=after, limit=_BATCH, payloads=payloads
                )
                if found:
                    after = found[-1].seq
                    yield found
                    continue
            if status.terminal:
                return
        except Unavailable as error:
            _log.warning("stream.waiting", run=run.run, error=str(error).partition("\n")[0])
        yield ()
        bell.wait(LOOK_SECONDS)


def until_ended(
    site: Site, run: RunId, *, seconds: float, gone: Callable[[], bool] = lambda: False
) -> Status:
    """Where a run stands when it has ended, when the time is over, or when nobody waits any more."""
    deadline = time.monotonic() + seconds
    with site.listener.bell(run, at_end=True) as bell:
        while True:
            status = views.status(site.platform, run)
            left = deadline - time.monotonic()
            if status.terminal or left <= 0 or site.stopping.is_set() or gone():
                return status
            bell.wait(min(left, LOOK_SECONDS))
