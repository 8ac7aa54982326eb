"""More than was set aside: what a running attempt tells that it has used beyond its reservation.

It is set aside at once, as far as the budgets have room; where they have none the attempt must not
go on. What it has used by then is charged all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from engine.core import codec
from engine.core import messages as msg
from engine.platform import Platform
from engine.runs import budgets, ledgers, letters, policies
from engine.runs.attempts import Leased
from engine.runs.budgets import Asking
from engine.store import calls, inbox, ledger, session
from engine.store.ledger import Unopened


def take(
    platform: Platform, lease: Leased, aside: Mapping[str, Decimal], beyond: Mapping[str, Decimal]
) -> str | None:
    """Set aside more for an attempt than is, by unit; why it must not go on where there is no room."""
    while True:
        try:
            return _take(platform, lease, aside, beyond)
        except Unopened as unopened:
            ledgers.open_accounts(platform, unopened)


def _take(
    platform: Platform, lease: Leased, aside: Mapping[str, Decimal], beyond: Mapping[str, Decimal]
) -> str | None:
    run = lease.step.run_id
    with session.transaction(platform.database) as connection:
        ledger.share(connection, [run])
        row = calls.hold(connection, lease.held)
        if row is None:
            return "the lease of this step has ended"
        governance = policies.governance(connection, run.tenant, row.governance)
        asking = Asking(
            step=lease.step,
            attempt=lease.attempt,
            ordinal=0,
            node=lease.node,
            at=row.now,
            amounts=beyond,
            before=aside,
            # What is under way waits for nobody.
            unasked=True,
            # What undoes what was done is not stopped half way.
            exceed=lease.undoes,
        )
        short = budgets.reserve(connection, governance, lease.charged, asking)
        if short is None:
            return None
        # Whatever the budget does when it has no room for what is yet to start, this runs.
        event = msg.Judged(
            at=codec.UNTIMED,
            step=msg.StepKey(lease.step.key),
            attempt=lease.attempt,
            moment="use",
            rules=0,
            verdicts=(short.verdict,),
        )
        inbox.put(connection, [letters.letter(run, event)])
        return f"{short.id}: {short.verdict.message}"
