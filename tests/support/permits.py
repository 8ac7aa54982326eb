"""Steps that wait for a permit, made from steps that wait for an approval."""

from __future__ import annotations

from typing import Any

from engine import asking
from engine.core.values import Json, canonical, digest
from engine.platform import Platform
from engine.store import session
from engine.store import waits as rows
from engine.store.ids import RunId, StepId
from engine.store.waits import Wait
from tests.support.platforms import as_owner, publish, submit
from tests.support.waiting import waits_at


def permit(main: Platform, arguments: Json, **more: Any) -> RunId:
    """A run of ada's with a step that waits for a permit to call `mail`."""
    run = submit(main, publish(main, waits_at("approval")))
    asks = asking.permit(bound(arguments), policy_id="p7", why="mail goes out", **more)
    with session.transaction(main.database) as connection:
        one = Wait(step=StepId(*run, "w#1"), kind="permit", asks=canonical(asks))
        rows.put(connection, [one])
    as_owner(
        main.settings,
        "UPDATE step SET wait = 'permit', asked = 'start:this' WHERE run_id = CAST(:run AS uuid)",
        run=run.run,
    )
    return run


def bound(arguments: Json) -> dict[str, Json]:
    return {"tool": "mail", "version": 2, "arguments": arguments, "cost_usd": 0.5}


def of(arguments: Json) -> str:
    """The digest of what is asked about these arguments."""
    return digest(bound(arguments))
