"""Budgets kept in memory; that they are those of the ledger is tried beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from engine.guardrails import document
from engine.guardrails import governance as rules
from engine.guardrails.governance import Active
from engine.guardrails.spending import Asking, Execution, Short, Spending, Whom

AT = datetime(2026, 1, 1, tzinfo=UTC)
TEXT = """
policy: p
applies_to: {users: [ada]}
budgets: [{name: low, scope: run, metric: cost_usd, limit: 3}]
"""
GOVERNANCE = rules.govern(1, [Active(policy=document.read(TEXT), version=1)])


def asks(spending: Spending, run: str, step: str, cost: int, **more: object) -> Short | None:
    """A run of the root `root` asks for dollars."""
    user = str(more.pop("user", "ada"))
    asking = Asking(
        whom=Whom(run=run, root="root", workflow="w", user=user, tenant="t"),
        execution=Execution(run, step, 1, 0),
        at=AT,
        amounts={"cost_usd": Decimal(cost)},
        **more,  # type: ignore[arg-type]  # fields of it
    )
    return spending.reserve(asking, GOVERNANCE.budgets("w", user))


def test_a_run_and_those_that_it_starts_are_charged_as_one() -> None:
    spending = Spending()
    assert asks(spending, "root", "a#1", 2) is None
    short = asks(spending, "child", "a#1", 2)
    assert short is not None
    assert (short.verdict.id, short.verdict.observed, short.then) == ("p:low", 4, "deny")
    spending.release_all("root")
    assert asks(spending, "child", "a#1", 2) is None


def test_what_was_let_pass_is_let_go_of_with_what_passed() -> None:
    spending = Spending()
    assert asks(spending, "root", "a#1", 5, allowed={"p:low"}) is None
    assert asks(spending, "root", "undo a#1", 9, exceed=True) is None
    spending.move(Execution("root", "a#1", 1, 0), Execution("root", "a#1", 2, 0))
    assert asks(spending, "root", "b#1", 1) is not None
    spending.release_all("root")
    assert asks(spending, "root", "b#1", 3) is None
    assert asks(spending, "root", "c#1", 1) is not None


def test_what_is_set_aside_lies_where_it_is_limited() -> None:
    spending = Spending()
    assert asks(spending, "root", "a#1", 9, user="eve") is None
    assert asks(spending, "root", "b#1", 3) is None
