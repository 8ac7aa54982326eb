"""What attempts and calls are charged, and what it takes to charge it.

Seconds, processor time and memory are measured of everything; they are charged where an account
counts them. Whatever else an attempt uses, dollars and tokens first, is charged wherever it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from sqlalchemy import Connection

from engine.core.fold.guard import added
from engine.platform import Platform
from engine.store import ledger, session
from engine.store.ids import StepId
from engine.store.ledger import Unopened

#: What the sandbox measures, whoever asks for it or not.
MEASURED = frozenset({"seconds", "cpu_seconds", "max_rss", "latency_ms"})


def spends(usage: Mapping[str, float]) -> bool:
    """Whether there is anything in a usage but what is measured of everything."""
    return any(amount for name, amount in usage.items() if name not in MEASURED)


def at_least(usage: Mapping[str, float], estimate: Mapping[str, float]) -> dict[str, float]:
    """What an attempt is charged that says itself what it used: no less than it was said to.

    Whoever writes the code of a node could else have it say that it cost nothing.
    """
    return {**usage, **{name: max(usage.get(name, 0.0), low) for name, low in estimate.items()}}


def open_accounts(platform: Platform, unopened: Unopened) -> None:
    """Open accounts that somebody asked for, in a transaction of its own.

    It waits for everybody who charges accounts of the tenant: whoever asked must have let go.
    """
    with session.transaction(platform.database) as connection:
        ledger.open_accounts(connection, unopened.tenant, unopened.accounts)


def lose(
    connection: Connection, lost: Sequence[tuple[StepId, int]]
) -> Mapping[StepId, dict[str, float]]:
    """Charge attempts that were lost: as far as they had told, else all that was set aside.

    Calls of theirs that are under way are charged likewise. What each is charged in all.
    """
    charged: dict[StepId, dict[str, float]] = {}
    for step, attempt, ordinal in ledger.open_of(connection, lost):
        used = ledger.settle(connection, step, attempt, ordinal, used=None, assumed=True)
        charged[step] = added(charged.get(step, {}), used or {})
    return charged


def more(told: Mapping[str, float], reserved: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """What an attempt has used beyond what is set aside for it, by unit."""
    beyond = {
        name: Decimal(str(amount)) - reserved.get(name, Decimal(0)) for name, amount in told.items()
    }
    return {name: amount for name, amount in beyond.items() if amount > 0}
