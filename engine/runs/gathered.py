"""The results of steps that are done, read back from where they lie."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from sqlalchemy import Connection

from engine.core import codec
from engine.core.values import Json, plain
from engine.platform import Platform
from engine.runs import large
from engine.store import payloads, session
from engine.store.ids import RunId, StepId

#: Results that are read at a time.
_BATCH = 500


def values(connection: Connection, run: RunId, steps: Sequence[str]) -> dict[str, Json]:
    """The results of those of the steps that succeeded."""
    return {
        row.step: plain(codec.value(orjson.loads(row.result)))
        for row in payloads.results(connection, run, steps)
    }


def items(platform: Platform, of: StepId, count: int) -> list[Json]:
    """The results of a map's items in order; None for those that have none."""
    found: list[Json] = []
    with session.transaction(platform.database) as connection:
        for first in range(0, count, _BATCH):
            keys = [f"{of.key}.{index}" for index in range(first, min(first + _BATCH, count))]
            known = values(connection, of.run_id, keys)
            found += [known.get(key) for key in keys]
    return [large.shown(platform, of.tenant, value) for value in found]
