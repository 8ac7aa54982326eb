"""What must be seen to once in a while, by any process that coordinates."""

from __future__ import annotations

import structlog

from engine.errors import OutOfReach
from engine.platform import Platform
from engine.runs import large
from engine.store import batches, idempotency, ledger, partitions, session

_log = structlog.get_logger(__name__)

#: How often is often enough, in seconds.
EVERY = 3600.0
#: How long an Idempotency-Key is remembered, in seconds.
KEYS_KEPT = 7 * 86_400.0
_BATCH = 10_000


def upkeep(platform: Platform) -> None:
    """Make the partitions of the months ahead; forget old keys, accounts and blobs."""
    with session.transaction(platform.database) as connection:
        partitions.ensure(connection, session.today(connection))
    with session.transaction(platform.database) as connection:
        idempotency.forget(connection, older_than=KEYS_KEPT, limit=_BATCH)
        batches.forget(connection, older_than=KEYS_KEPT, limit=_BATCH)
    with session.transaction(platform.database) as connection:
        ledger.forget(connection, _BATCH)
    try:
        large.collect(platform)
    except OutOfReach as error:
        # They cost room and nothing else: the next time will do.
        _log.warning("upkeep.blobs", error=str(error))
