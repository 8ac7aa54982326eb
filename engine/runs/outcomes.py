"""Calls of which nobody knows whether they happened: their workers died before they were recorded.

One that may be repeated is (`engine.runs.calls`). Of any other somebody is asked who can look: the step
waits, without a worker, until he says whether it happened and what came of it, or gives the step up.
It is never made again on a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, Row

from engine import asking
from engine.core.permits import permit
from engine.core.values import Json, canonical, digest
from engine.runs import guard
from engine.runs.attempts import Leased, Suspended
from engine.runs.definitions import Definition
from engine.store import calls, ledger, runs
from engine.store.ids import StepId

#: How a call ended of which a person says that it did not happen.
NOT_MADE = "not_made"

#: Bytes of arguments, as JSON, up to which people are shown them.
_SHOWN_BYTES = 65_536


def shown(arguments: Json) -> Json:
    """Arguments as people see them."""
    if len(canonical(arguments)) <= _SHOWN_BYTES:
        return arguments
    return {"too large to be shown, by sha256": digest(arguments)}


def ask(
    connection: Connection, lease: Leased, ordinal: int, definition: Definition, earlier: Row[Any]
) -> Suspended:
    """Ask people what has become of a call."""
    name = definition.name
    bound: dict[str, Json] = {
        "tool": name,
        "version": definition.version,
        "step": lease.step.key,
        "call": ordinal,
        "attempt": earlier.attempt,
        "arguments": shown(orjson.loads(earlier.arguments)),
    }
    why = (
        f"it began in attempt {earlier.attempt}, whose worker was lost before its end was recorded"
    )
    asks = asking.permit(
        bound,
        title=f"What has become of the call of {name}?",
        policy_id=f"tool:{name}",
        why=f"{why}; look whether it happened, and say so. It is not made again if it did",
        four_eyes=False,
    )
    asks |= {"form": dict(_HAPPENED), "resolves": {"call": ordinal, "attempt": earlier.attempt}}
    # However the lease ends, the times of the questions are the database's.
    until = runs.glance(connection, lease.step.run_id).now + timedelta(seconds=guard.PERMIT_SECONDS)
    permits = (permit("call", f"unknown:{name}", digest(bound)),)
    return Suspended(permits=permits, asks=asks, until=until)


#: What people fill in who know what has become of a call.
_HAPPENED: Mapping[str, Json] = {
    "type": "object",
    "properties": {
        "happened": {"type": "boolean"},
        "result": {"description": "What the tool gave back, if it happened"},
    },
    "required": ["happened"],
    "additionalProperties": False,
}


def resolve(
    connection: Connection,
    step: StepId,
    asks: Mapping[str, Any],
    form: Mapping[str, Json],
    *,
    by: str,
) -> None:
    """Record what somebody says has become of a call, where that is what was asked."""
    if (which := asks.get("resolves")) is None:
        return
    happened = bool(form["happened"])
    calls.end(
        connection,
        step,
        which["call"],
        which["attempt"],
        reason=None if happened else NOT_MADE,
        message=None if happened else f"{by} says that it did not happen",
        value=canonical(form.get("result")) if happened else None,
        usage="{}",
    )
    if not happened:
        # It was taken to have cost what was set aside for it.
        ledger.settle(connection, step, which["attempt"], which["call"], used={})
