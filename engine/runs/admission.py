"""The one port through which every start must pass.

The core asks for a start; a turn puts each of its requests to `admit`, in the transaction
that decides, and records the answer with the values it saw. A named lock is given here, to
one thread at a time; who has to wait for it is woken when it is given up (`locks`). Money
will be reserved here too; the run's own step budget the core itself counts.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from engine import waiting
from engine.core import messages as msg
from engine.core.graph import Graph
from engine.core.state import State, Step
from engine.store import locks
from engine.store.ids import RunId

Answer = msg.Admitted | msg.Refused | msg.Deferred

#: Seconds after which whoever waits for a lock asks again, should nobody have woken it.
AGAIN_SECONDS = 60.0


def admit(
    connection: Connection, run: RunId, graph: Graph, state: State, step: Step, *, now: datetime
) -> Answer:
    """Answer the request of a step to start."""
    node = graph.node(step.node)
    if node.lock is None:
        return msg.Admitted(at=now, step=step.key)
    try:
        name = waiting.lock_name(run.run, node, node.lock, waiting.scope_of(state, step))
    except waiting.Unfit as unfit:
        return msg.Refused(at=now, step=step.key, rule="lock", message=unfit.message)
    if any(held == name for held, _ in step.holds):
        return msg.Admitted(at=now, step=step.key)
    if locks.take(connection, run, name):
        return msg.Admitted(at=now, step=step.key, lock=name, kept_until=node.lock.until)
    return msg.Deferred(
        at=now,
        step=step.key,
        rule=f"lock {name.partition(':')[2]} is held",
        until=now + timedelta(seconds=AGAIN_SECONDS),
        lock=name,
    )
