"""What attempts and calls are charged, and what it takes to charge it.

Seconds, processor time and memory are measured of everything; they are charged where an account
counts them. Whatever else an attempt uses, dollars and tokens first, is charged wherever it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import orjson
from sqlalchemy import Connection

from engine.platform import Platform
from engine.runs.budgets import STEPS
from engine.store import ledger, session, steps
from engine.store.ids import RunId, StepId
from engine.store.ledger import Unopened

#: What the sandbox measures, whoever asks for it or not.
MEASURED = frozenset({"seconds", "cpu_seconds", "max_rss", "latency_ms"})


def charges(usage: Mapping[str, float]) -> dict[str, float]:
    """What of a usage is charged: all but what is measured of everything."""
    return {name: amount for name, amount in usage.items() if name not in MEASURED}


def spends(usage: Mapping[str, float]) -> bool:
    """Whether there is anything in a usage but what is measured of everything."""
    return any(amount for name, amount in usage.items() if name not in MEASURED)


def believed(
    told: Mapping[str, float], estimate: Mapping[str, float], *, trusted: bool
) -> dict[str, float]:
    """What is charged of what code says itself that it used.

    Code that is installed is believed, and taken to have used its estimate of what it does not speak
    of. Whoever sends code could have it say that it cost nothing: it is charged no less than its
    estimate.
    """
    if trusted:
        return {**estimate, **told}
    return {**told, **{name: max(told.get(name, 0.0), low) for name, low in estimate.items()}}


def open_accounts(platform: Platform, unopened: Unopened) -> None:
    """Open accounts that somebody asked for, in a transaction of its own.

    It waits for everybody who charges accounts of the tenant: whoever asked must have let go.
    """
    with session.transaction(platform.database) as connection:
        ledger.open_accounts(connection, unopened.tenant, unopened.accounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """An attempt whose worker will report no more."""

    step: StepId
    attempt: int
    #: What it had told that it used, as JSON; None if nothing.
    told: str | None
    #: Somebody has it made anew: it was no step yet.
    anew: bool = False


def lose(connection: Connection, lost: Sequence[Lost]) -> Mapping[StepId, Mapping[str, float]]:
    """Charge attempts that were lost, and their calls that are under way, as *assumed*.

    An attempt is charged what it had told, and what was set aside of all that it did not speak of;
    a call all that was set aside. What each attempt has come to in all, its calls included, by step.
    """
    attempts = [(one.step, one.attempt) for one in lost]
    aside = ledger.open_of(connection, attempts)
    told = {one.step: orjson.loads(one.told) for one in lost if one.told is not None}
    unreserved = told.keys() - {step for step, _, ordinal, _ in aside if ordinal == 0}
    numbers = dict(attempts)
    anew = {one.step for one in lost if one.anew}
    for step, attempt, ordinal, amounts in [
        *aside,
        *((step, numbers[step], 0, {}) for step in unreserved),
    ]:
        used = None
        if ordinal == 0 and (step in told or step in anew):
            used = {**amounts, **told.get(step, {})}
        if used is not None and step in anew:
            used.pop(STEPS, None)
        ledger.settle(connection, step, attempt, ordinal, used=used, assumed=True)
    # Steps are counted by accounts alone: they are no usage of an attempt.
    return {
        step: {name: amount for name, amount in usage.items() if name != STEPS}
        for step, usage in ledger.charged(connection, attempts).items()
    }


def underway(connection: Connection, runs: Sequence[RunId]) -> Sequence[Lost]:
    """The attempts of runs that are under way, with what they have told."""
    return [
        Lost(step=StepId(row.tenant_id, row.run_id, row.key), attempt=row.attempt, told=row.used)
        for row in steps.underway(connection, runs)
    ]


def let_go(connection: Connection, runs: Sequence[RunId], underway: Sequence[Lost]) -> None:
    """Charge attempts that were under way and whose steps are gone; let go of what is left of them."""
    if underway:
        rows = steps.load(connection, [one.step for one in underway])
        live = {(StepId(row.tenant_id, row.run_id, row.key), row.attempt) for row in rows}
        lose(connection, [one for one in underway if (one.step, one.attempt) not in live])
    ledger.close(connection, runs)


def more(told: Mapping[str, float], reserved: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """What an attempt has used beyond what is set aside for it, by unit."""
    beyond = {
        name: Decimal(str(amount)) - reserved.get(name, Decimal(0)) for name, amount in told.items()
    }
    return {name: amount for name, amount in beyond.items() if amount > 0}
