"""What was used, told from the ledger: equal to what histories tell, and at once."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from engine import tools
from engine.core.values import Json
from engine.errors import Invalid, NotFound
from engine.platform import Platform
from engine.runs import attempts, catalogue, control, policies, sweep, usage
from engine.runs.attempts import Succeeded
from engine.runs.ledgers import MEASURED
from engine.runs.usage import Used
from engine.settings import Settings
from engine.store import ledger, session, tenants
from engine.store.ids import RunId
from engine.store.usage import Which
from tests.support.hands import carry_out
from tests.support.platforms import (
    TENANT,
    as_owner,
    chain,
    finish,
    lose_leases,
    publish,
    register,
    sql,
    submit,
    take,
    wake,
)
from workers.execution import Worker

#: Dimes, which floats cannot add up.
SPENDS = """
def spends(state, context):
    for _ in range(3):
        context.use(cost_usd=0.1, tokens_used=7)
    invoke("look", q=1)
    invoke("look", q=2)
    return 1
"""
FAILS_ONCE = """
def fails_once(state, context):
    context.use(cost_usd=0.3, words=11)
    invoke("look", q=3)
    if context.attempt == 1:
        raise ValueError("not yet")
    return 1
"""
FAILS = """
def fails(state, context):
    context.use(cost_usd=0.07)
    raise ValueError("never")
"""
LOOK = "def look(q):\n    return q"


def govern(main: Platform, name: str = "p", **document: Json) -> None:
    policies.apply(main, TENANT, json.dumps({"policy": name, **document}), by="ada")


def told(main: Platform, run: RunId | None = None) -> Mapping[str, Decimal]:
    """What histories say that attempts used, by unit."""
    found: defaultdict[str, Decimal] = defaultdict(Decimal)
    for row in sql(main, "SELECT run_id::text, body::text FROM history"):
        if run is None or row.run_id == run.run:
            body = json.loads(row.body, parse_float=Decimal, parse_int=Decimal)
            for name, amount in body.get("usage", {}).items():
                found[name] += amount
    # Steps are counted by the ledger alone.
    return {name: amount for name, amount in found.items() if name not in {*MEASURED, "steps"}}


def charged(main: Platform, run: RunId | None = None) -> Mapping[str, Decimal]:
    (found,) = used(main, run=None if run is None else run.run)
    return {name: amount for name, amount in found.used.items() if name != "steps"}


def used(main: Platform, *by: str, **which: Any) -> tuple[Used, ...]:
    return usage.page(main, TENANT, by=by, which=Which(**which))


def by(main: Platform, key: str, unit: str = "cost_usd", **which: Any) -> dict[Any, str]:
    return {each.by[key]: str(each.used.get(unit)) for each in used(main, key, **which)}


@pytest.fixture
def spending(main: Platform) -> str:
    """The version of a workflow whose nodes spend, retry, and call a tool."""
    terms = tools.terms({"cost_estimate_usd": 0.01, "tokens_estimate": 5})
    catalogue.register(main, TENANT, "tool", "look", LOOK, terms=terms, by="ada")
    register(main, "spends", SPENDS)
    register(main, "fails_once", FAILS_ONCE)
    node = {"uses": "spends", "estimate": {"cost_usd": 0.2}}
    retried = {"uses": "fails_once", "retry": {"attempts": 2, "backoff": 0}}
    return publish(main, chain(a=node, b=retried))


# --- what goes wrong ------------------------------------------------------------------------------


def test_what_makes_no_sense_is_refused(main: Platform) -> None:
    now = datetime.now(UTC)
    with pytest.raises(Invalid, match="until: is not after"):
        used(main, since=now, until=now)
    for which in (Which(since=now), Which(until=now)):
        with pytest.raises(Invalid, match="window: is a span"):
            usage.page(main, TENANT, which=which, window="hour")
    with pytest.raises(NotFound):
        usage.budgets(main, TENANT, user="ada", run=str(uuid4()))


def test_where_nothing_was_used_there_is_one_sum_of_nothing_and_no_group(main: Platform) -> None:
    (nothing,) = used(main)
    assert (nothing.used, nothing.assumed, nothing.reserved) == ({}, {}, {})
    assert (nothing.attempts, nothing.calls, nothing.by) == (0, 0, {})
    assert used(main, *usage.KEYS) == ()
    assert usage.budgets(main, TENANT, user="ada").budgets == ()


# --- equal to what was told -------------------------------------------------------------------------


@pytest.mark.usefixtures("sound")
@pytest.mark.parametrize("governed", [False, True])
def test_it_comes_to_what_histories_tell_to_the_last_digit(
    main: Platform, worker: Worker, settings: Settings, spending: str, *, governed: bool
) -> None:
    if governed:
        govern(
            main,
            budgets=[
                {"name": "b", "scope": "user", "window": "hour", "metric": "cost_usd", "limit": 99},
                {"name": "s", "scope": "run", "metric": "steps", "limit": 99},
            ],
        )
    done = submit(main, spending)
    assert carry_out(main, worker, done).status == "completed"
    register(main, "fails", FAILS)
    failed = submit(main, publish(main, {**chain(f={"uses": "fails"}), "workflow": "failing"}))
    assert carry_out(main, worker, failed).status == "failed"
    # One attempt is lost that told what it used, one that told nothing; then somebody begins anew.
    register(main, "noop")
    patient = {"uses": "noop", "estimate": {"cost_usd": 0.03, "tokens_used": 1}}
    lost = submit(main, publish(main, {**chain(p=patient), "workflow": "losing"}))
    lease = take(worker.platform, lost, "p#1")
    attempts.beat(worker.platform, [lease.held], {lease.held: {"cost_usd": 0.1, "words": 2}})
    lose_leases(settings)
    sweep.sweep(main)
    wake(settings)
    sweep.sweep(main)
    take(worker.platform, lost, "p#1")
    lose_leases(settings)
    sweep.sweep(main)
    wake(settings)
    sweep.sweep(main)
    take(worker.platform, lost, "p#1")
    control.retry(main, lost, "p#1", by="eve")
    last = take(worker.platform, lost, "p#1")
    own = {"cost_usd": 0.2, "seconds": 1.5}
    assert finish(main, worker.platform, last, Succeeded(own=own, usage=own))

    for run in (done, failed, lost):
        assert charged(main, run) == told(main, run)
    assert charged(main) == told(main)
    assert charged(main, done)["cost_usd"] == Decimal("0.93")
    # What the second attempt asked for again it was served, and it cost nothing.
    assert charged(main, done)["calls"] == 3
    assert charged(main, failed) == {"cost_usd": Decimal("0.07")}
    assumed = Decimal("0.16") if governed else Decimal("0.1")
    assert charged(main, lost)["cost_usd"] == Decimal("0.2") + assumed
    (sums,) = used(main, run=lost.run)
    assert sums.assumed["cost_usd"] == assumed
    assert sums.reserved == {}
    (sums,) = used(main)
    assert sums.used == {
        name: sum(each.used.get(name, Decimal(0)) for each in used(main, *usage.KEYS))
        for name in sums.used
    }


@pytest.mark.usefixtures("sound")
def test_what_was_assumed_is_assumed_until_it_is_set_right(
    main: Platform, worker: Worker, settings: Settings
) -> None:
    register(main, "noop")
    run = submit(main, publish(main, chain(a={"uses": "noop"})))
    lease = take(worker.platform, run, "a#1")
    attempts.beat(worker.platform, [lease.held], {lease.held: {"cost_usd": 0.07}})
    lose_leases(settings)
    sweep.sweep(main)
    (before,) = used(main)
    assert before.used == before.assumed == {"cost_usd": Decimal("0.07")}
    late = Succeeded(own={"cost_usd": 0.09}, usage={"cost_usd": 0.09})
    assert not finish(main, worker.platform, lease, late)
    (after,) = used(main)
    assert (after.used, after.assumed) == ({"cost_usd": Decimal("0.09")}, {})
    assert (before.attempts, after.attempts) == (1, 1)


# --- whose, and what for -----------------------------------------------------------------------------


def charge(main: Platform, usage_of: Mapping[str, float], **entry: Any) -> None:
    """An entry of the ledger, as the owner would make it up."""
    given = {
        "tenant": TENANT,
        "run": "01890000-0000-7000-8000-000000000001",
        "step": "a#1",
        "ordinal": 0,
        "user": "ada",
        "workflow": "shop",
        "node": "a",
        "tool": "",
        "model": "",
        "at": datetime(2026, 5, 4, 10, 59, 59, tzinfo=UTC),
        **entry,
    }
    with session.transaction(main.database) as connection:
        connection.exec_driver_sql(
            "INSERT INTO ledger (tenant_id, run_id, step, attempt, ordinal, part, user_id, workflow,"
            " node, tool, model, usage, charged_at) VALUES (%(tenant)s, %(run)s, %(step)s, 1,"
            " %(ordinal)s, 1, %(user)s, %(workflow)s, %(node)s, %(tool)s, %(model)s, %(usage)s, %(at)s)",
            {**given, "usage": json.dumps(dict(usage_of))},
        )


@pytest.fixture
def ledgered(main: Platform) -> None:
    """Five entries of two users on two days, and one of another tenant."""
    early, late = (datetime(2026, 5, day, 10, 59, 59, tzinfo=UTC) for day in (4, 5))
    soon = early + timedelta(seconds=1)
    charge(main, {"cost_usd": 0.1, "seconds": 9, "max_rss": 1e6})
    charge(main, {"cost_usd": 0.2, "calls": 1}, ordinal=1, tool="look", model="m")
    charge(main, {"cost_usd": 0.3}, step="b#1", node="b", at=soon)
    charge(main, {"tokens_used": 7, "cost_usd": 0.4}, step="c#1", user="bob", workflow="x", at=soon)
    charge(
        main,
        {"cost_usd": 0.5},
        step="d#1",
        user="bob",
        at=late,
        run="01890000-0000-7000-8000-000000000002",
    )
    with session.transaction(main.database) as connection:
        tenants.ensure(connection, "other", name="Somebody else")
    charge(main, {"cost_usd": 99}, tenant="other")


@pytest.mark.usefixtures("ledgered")
def test_it_is_told_apart_and_filtered_by_whose_and_what_for(main: Platform) -> None:
    (everything,) = used(main)
    assert everything.used == {
        "cost_usd": Decimal("1.5"),
        "tokens_used": Decimal(7),
        "calls": Decimal(1),
    }
    assert (everything.attempts, everything.calls, everything.tenant) == (4, 1, TENANT)
    assert by(main, "user") == {"ada": "0.6", "bob": "0.9"}
    assert by(main, "workflow") == {"shop": "1.1", "x": "0.4"}
    assert by(main, "node") == {"a": "1.2", "b": "0.3"}
    assert by(main, "tool") == {None: "1.3", "look": "0.2"}
    assert by(main, "model") == {None: "1.3", "m": "0.2"}
    assert list(by(main, "run").values()) == ["1.0", "0.5"]
    assert by(main, "user", workflow="shop") == {"ada": "0.6", "bob": "0.5"}
    assert by(main, "user", tool="look", model="m", node="a", user="ada") == {"ada": "0.2"}
    assert by(main, "user", "tokens_used", run="01890000-0000-7000-8000-000000000001") == {
        "ada": "None",
        "bob": "7",
    }
    assert by(main, "user", user="eve") == {}
    both = {(each.by["user"], each.by["workflow"]): each for each in used(main, "user", "workflow")}
    assert [*both] == [("ada", "shop"), ("bob", "shop"), ("bob", "x")]


@pytest.mark.usefixtures("ledgered")
def test_it_is_told_by_windows_in_utc(main: Platform) -> None:
    day, hour = (
        {f"{at:%d %H}": amount for at, amount in by(main, key).items()} for key in ("day", "hour")
    )
    assert day == {"04 00": "1.0", "05 00": "0.5"}
    assert hour == {"04 10": "0.3", "04 11": "0.7", "05 10": "0.5"}
    eleven = datetime(2026, 5, 4, 11, tzinfo=UTC)
    assert by(main, "user", since=eleven) == {"ada": "0.3", "bob": "0.9"}
    assert by(main, "user", until=eleven) == {"ada": "0.3"}
    assert usage.page(main, TENANT, by=["user"], window="day") == ()
    charge(main, {"cost_usd": 0.6}, step="e#1", at=datetime.now(UTC))
    for window in usage.WINDOWS:
        (now,) = usage.page(main, TENANT, window=window)
        assert now.used == {"cost_usd": Decimal("0.6")}


@pytest.mark.usefixtures("ledgered")
def test_pages_follow_each_other_whatever_they_are_told_by(main: Platform) -> None:
    for keys in (usage.KEYS, ("hour",), ("tool", "day"), ("user",)):
        whole, after, paged = used(main, *keys), None, []
        while page := usage.page(main, TENANT, by=keys, after=after, limit=1):
            paged += page
            after = page[-1].key
        assert tuple(paged) == whole
        assert len(whole) > 1


# --- at once ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("sound")
def test_it_is_told_as_soon_as_it_is_committed(main: Platform, worker: Worker) -> None:
    govern(main, budgets=[{"name": "b", "scope": "user", "metric": "cost_usd", "limit": 1}])
    register(main, "noop")
    run = submit(main, publish(main, chain(a={"uses": "noop", "estimate": {"cost_usd": 0.2}})))
    (aside,) = used(main, "user", "node", "tool")
    assert (aside.used, aside.reserved["cost_usd"], aside.attempts) == ({}, Decimal("0.2"), 0)
    assert aside.by == {"user": "ada", "node": "a", "tool": None}
    assert used(main, "user", model="m") == used(main, "user", user="bob") == ()
    lease = take(worker.platform, run, "a#1")
    attempts.report(worker.platform, "w1", [(lease, Succeeded(own={"cost_usd": 0.05}))])
    (spent,) = used(main, "user")
    assert (spent.used["cost_usd"], spent.reserved, spent.attempts) == (Decimal("0.05"), {}, 1)


@pytest.mark.usefixtures("sound")
def test_a_run_that_is_ended_by_force_keeps_nothing_aside(
    main: Platform, worker: Worker, settings: Settings
) -> None:
    govern(main, budgets=[{"name": "b", "scope": "user", "metric": "cost_usd", "limit": 1}])
    register(main, "noop")
    node = {"uses": "noop", "estimate": {"cost_usd": 0.2}}
    version = publish(main, chain(a=node))
    waiting, begun = submit(main, version), submit(main, version)
    take(worker.platform, begun, "a#1")
    for run in (waiting, begun):
        spoilt = "UPDATE run SET head = '{\"nonsense\": 1}' WHERE id = :id"
        as_owner(settings, spoilt, id=run.run)
        assert control.cancel(main, run, by="ada") == "running"
        assert control.cancel(main, run, by="ada") == "cancelled"
    (found,) = used(main)
    # Nobody knows what the one that had begun used: all that it might have.
    assert (found.used["cost_usd"], found.assumed["cost_usd"]) == (Decimal("0.2"), Decimal("0.2"))
    assert found.reserved == {}


# --- budgets ------------------------------------------------------------------------------------------


def standing(main: Platform, **whose: Any) -> dict[str, tuple[str | None, ...]]:
    found = usage.budgets(main, TENANT, **{"user": "ada", **whose})
    return {
        each.name: (
            each.subject,
            *(
                None if amount is None else f"{amount.normalize():f}"
                for amount in (each.limit, each.spent, each.reserved, each.left)
            ),
        )
        for each in found.budgets
    }


@pytest.mark.usefixtures("sound")
def test_budgets_say_what_is_left_whether_their_accounts_are_open_or_not(
    main: Platform, worker: Worker
) -> None:
    register(main, "noop")
    node = {"uses": "noop", "estimate": {"cost_usd": 0.2}}
    version = publish(main, chain(a=node, b=node))
    free = submit(main, version)
    lease = take(worker.platform, free, "a#1")
    assert finish(main, worker.platform, lease, Succeeded(own={"cost_usd": 0.3}))
    spent = {"metric": "cost_usd", "limit": 2}
    govern(
        main,
        budgets=[
            {"name": "each", "scope": "execution", **spent},
            {"name": "run", "scope": "run", **spent},
            {"name": "workflow", "scope": "workflow", **spent, "on_shortfall": "pause"},
            {"name": "user", "scope": "user", "window": "hour", **spent, "ask_above": 0.8},
            {"name": "tenant", "scope": "tenant", "window": "day", **spent},
        ],
    )
    govern(
        main,
        "looks",
        enforce=False,
        applies_to={"users": ["ada"], "workflows": ["w", "v*"]},
        budgets=[{"name": "looking", "scope": "tenant", "metric": "cost_usd", "limit": 0.1}],
    )
    # Nobody has opened an account yet.
    assert sql(main, "SELECT FROM account") == []
    assert standing(main) == {
        "each": (None, "2", None, None, None),
        "run": (None, "2", None, None, None),
        "workflow": (None, "2", None, None, None),
        "user": ("ada", "2", "0.3", "0", "1.7"),
        "tenant": ("local", "2", "0.3", "0", "1.7"),
        "looking": ("local", "0.1", "0.3", "0", "0"),
    }
    assert standing(main, user="bob", workflow="else") == {
        "each": (None, "2", None, None, None),
        "run": (None, "2", None, None, None),
        "workflow": ("else", "2", "0", "0", "2"),
        "user": ("bob", "2", "0", "0", "2"),
        "tenant": ("local", "2", "0.3", "0", "1.7"),
    }
    # One is set aside now, and all accounts of its run are open.
    run = submit(main, version)
    assert len(sql(main, "SELECT FROM account")) == 5
    assert standing(main, run=run.run, user="bob") == {
        "each": (None, "2", None, None, None),
        "run": (run.run, "2", "0", "0.2", "1.8"),
        "workflow": ("w", "2", "0.3", "0.2", "1.5"),
        "user": ("ada", "2", "0.3", "0.2", "1.5"),
        "tenant": ("local", "2", "0.3", "0.2", "1.5"),
        "looking": ("local", "0.1", "0.3", "0", "0"),
    }
    found = usage.budgets(main, TENANT, user="ada")
    assert {each.name for each in found.budgets if not each.enforced} == {"looking"}
    hourly = next(each for each in found.budgets if each.name == "user")
    assert hourly.begins is not None
    assert hourly.ends is not None
    assert hourly.begins <= found.at < hourly.ends == hourly.begins + timedelta(hours=1)
    assert (hourly.ask_above, hourly.on_shortfall, hourly.policy) == (Decimal("0.8"), "deny", "p")


def test_what_people_allowed_beyond_a_limit_is_told(main: Platform) -> None:
    govern(main, budgets=[{"name": "b", "scope": "tenant", "metric": "cost_usd", "limit": 1}])
    account = ledger.account("tenant", TENANT, "cost_usd", "none", datetime.now(UTC))
    with session.transaction(main.database) as connection:
        ledger.open_accounts(connection, TENANT, [account])
        connection.exec_driver_sql("UPDATE account SET extra = 0.5")
    (found,) = usage.budgets(main, TENANT, user="ada").budgets
    assert (found.limit, found.extra, found.left) == (1, Decimal("0.5"), Decimal("1.5"))
