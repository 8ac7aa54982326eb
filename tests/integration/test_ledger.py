"""Limits hold whoever asks at the same time, and a denial is always true."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Connection, Engine, text

from engine.runs import access, identity
from engine.store import ledger, session
from engine.store.ids import RunId, StepId
from engine.store.ledger import Account, Limit, Short, Unopened, Wanted

NOW = datetime(2026, 5, 4, 10, 59, 59, tzinfo=UTC)
DIME = Decimal("0.10")
VERSION = "01890000-0000-7000-8000-000000000001"


@pytest.fixture
def control(database: str) -> Iterator[Engine]:
    engine = session.connect(database, role="celeriac_control", size=16)
    access.ensure_local(engine)
    with session.transaction(engine) as connection:
        connection.execute(text("INSERT INTO workflow (tenant_id, name) VALUES ('local', 'shop')"))
        connection.execute(
            text(
                "INSERT INTO workflow_version (tenant_id, id, workflow, version, document, checksum,"
                " created_by) VALUES ('local', :id, 'shop', '1.0.0', '{}', 'c', 'ada')"
            ),
            {"id": VERSION},
        )
    yield engine
    engine.dispose()


def _account(scope: str = "user", subject: str = "ada", span: str = "hour") -> Account:
    return ledger.account(scope, subject, "cost_usd", span, NOW)


def _wanted(
    amount: str,
    *limits: Limit,
    step: StepId | None = None,
    ordinal: int = 1,
    at: datetime = NOW,
    meters: Sequence[Account] = (),
) -> Wanted:
    return Wanted(
        step=step or StepId("local", identity.new_run(), "pay#1"),
        attempt=1,
        ordinal=ordinal,
        user="ada",
        workflow="shop",
        node="pay",
        tool="charge",
        at=at,
        amounts={"cost_usd": Decimal(amount)},
        limits=limits,
        meters=meters,
    )


def _submitted(connection: Connection, run: str) -> None:
    """A run that there is, whose ever it is."""
    connection.execute(
        text(
            "INSERT INTO run (tenant_id, id, version_id, root, rules, submitted_by)"
            " VALUES ('local', :run, :version, :run, 1, 'ada') ON CONFLICT DO NOTHING"
        ),
        {"run": run, "version": VERSION},
    )


class _Died(Exception):
    """A transaction that does not come to its end."""


def _ask(control: Engine, wanted: Wanted) -> Short | None:
    with session.transaction(control) as connection:
        _submitted(connection, wanted.step.run)
    try:
        with session.transaction(control) as connection:
            return ledger.reserve(connection, wanted)
    except Unopened as unopened:
        with session.transaction(control) as connection:
            ledger.open_accounts(connection, unopened.tenant, unopened.accounts)
        return _ask(control, wanted)


def _settle(control: Engine, wanted: Wanted, used: Mapping[str, float] | None) -> None:
    with session.transaction(control) as connection:
        ledger.settle(connection, wanted.step, wanted.attempt, wanted.ordinal, used=used)


def _held(control: Engine, account: Account) -> tuple[Decimal, Decimal]:
    with session.transaction(control) as connection:
        row = connection.execute(
            text("SELECT sum(reserved) AS r, sum(spent) AS s FROM purse WHERE account = :key"),
            {"key": account.key},
        ).one()
    return row.r, row.s


def test_exactly_as_many_are_let_in_as_the_limit_has_room_for(control: Engine) -> None:
    limit = Limit(account=_account(), most=DIME)
    with ThreadPoolExecutor(16) as threads:
        said = list(threads.map(lambda _: _ask(control, _wanted("0.01", limit)), range(50)))
    assert said.count(None) == 10
    assert {one.used for one in said if one is not None} == {DIME}
    assert _held(control, _account()) == (DIME, 0)


def test_what_is_let_go_of_can_be_had_by_others_before_anybody_is_denied(control: Engine) -> None:
    limit = Limit(account=_account(), most=Decimal(1))
    first = [_wanted("0.10", limit) for _ in range(10)]
    assert [_ask(control, one) for one in first] == [None] * 10
    for one in first:
        _settle(control, one, {"cost_usd": 0.01})
    # 0.90 lie in whichever purses they were handed back to: none of them alone has so much.
    assert _ask(control, _wanted("0.90", limit)) is None
    denied = _ask(control, _wanted("0.01", limit))
    assert denied is not None
    assert denied.used == 1


def test_a_limit_is_never_passed_and_no_denial_is_false_whoever_pays_hands_back_or_dies(
    control: Engine,
) -> None:
    accounts = [_account(), _account("tenant", "local", "day"), _account("workflow", "shop")]
    most = {accounts[0]: Decimal("0.50"), accounts[1]: Decimal("0.60"), accounts[2]: Decimal(9)}
    limits = [Limit(account=one, most=most[one]) for one in accounts]
    over = threading.Event()
    broken: list[str] = []

    def spend(seed: int) -> int:
        drawn = random.Random(seed)  # the same chances every time
        made = 0
        for _ in range(25):
            wanted = _wanted(f"0.{drawn.randint(1, 9):02}", *limits)
            if drawn.random() < 0.1:
                # A transaction that dies has set nothing aside.
                with suppress(Unopened, _Died), session.transaction(control) as connection:
                    ledger.reserve(connection, wanted)
                    raise _Died
                continue
            said = _ask(control, wanted)
            if said is not None:
                account = next(one for one in accounts if one.key == said.account)
                if said.used + said.wanted <= most[account]:
                    broken.append(f"denied {said} under {most[account]}")
                continue
            made += 1
            if drawn.random() < 0.8:
                part = float(wanted.amounts["cost_usd"]) * drawn.choice([0, 0.1, 0.5])
                _settle(control, wanted, {"cost_usd": round(part, 4)})
        return made

    def watch() -> None:
        while not over.is_set():
            for account in accounts:
                held = sum(part or Decimal(0) for part in _held(control, account))
                if held > most[account]:
                    broken.append(f"{account.key} holds {held}")

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(8) as threads:
        made = sum(threads.map(spend, range(8)))
    over.set()
    watcher.join()
    assert broken == []
    assert made > 20
    with session.transaction(control) as connection:
        spent = connection.execute(
            text("SELECT coalesce(sum((usage->>'cost_usd')::numeric), 0) FROM ledger")
        ).scalar_one()
        aside = connection.execute(
            text("SELECT coalesce(sum((amounts->>'cost_usd')::numeric), 0) FROM reservation")
        ).scalar_one()
    for account in accounts:
        assert _held(control, account) == (aside, spent)


def test_every_account_must_have_room_or_none_is_charged(control: Engine) -> None:
    wide, narrow = _account("tenant", "local"), _account()
    limits = Limit(account=wide, most=Decimal(9)), Limit(account=narrow, most=DIME)
    denied = _ask(control, _wanted("0.11", *limits))
    assert denied is not None
    assert denied.account == narrow.key
    assert (_held(control, wide)[0], _held(control, narrow)[0]) == (0, 0)


def test_nothing_more_starts_that_may_cost_something_once_a_limit_is_reached(
    control: Engine,
) -> None:
    limit = Limit(account=_account(), most=DIME)
    assert _ask(control, _wanted("0.10", limit)) is None
    assert _ask(control, _wanted("0", limit)) is not None
    free = Limit(account=_account(), most=DIME, free=True)
    assert _ask(control, _wanted("0", free)) is None


def test_what_people_let_pass_a_limit_gives_nobody_else_room(control: Engine) -> None:
    limit = Limit(account=_account(), most=DIME)
    passing = Limit(account=_account(), most=DIME, exceed=True)
    assert _ask(control, _wanted("0.08", limit)) is None
    allowed, dropped = (_wanted(amount, passing) for amount in ("0.05", "0.50"))
    assert [_ask(control, one) for one in (allowed, dropped)] == [None, None]
    denied = _ask(control, _wanted("0.01", limit))
    assert denied is not None
    assert denied.used == Decimal("0.63")
    # It came to less, or to nothing: what was let pass goes with it.
    _settle(control, allowed, {"cost_usd": 0.01})
    _settle(control, dropped, {})
    assert _ask(control, _wanted("0.02", limit)) is not None
    assert _ask(control, _wanted("0.01", limit)) is None
    assert _held(control, _account()) == (Decimal("0.09"), Decimal("0.01"))


def test_nothing_of_a_request_stands_that_finds_room_in_some_accounts_alone(
    control: Engine,
) -> None:
    wide = Limit(account=_account("tenant", "local"), most=DIME, exceed=True)
    tight = Limit(account=_account(), most=Decimal("0.01"))
    assert _ask(control, _wanted("0.50", wide, tight)) is not None
    assert _held(control, _account("tenant", "local")) == (0, 0)
    assert _ask(control, _wanted("0.20", Limit(account=wide.account, most=DIME))) is not None


def test_who_sets_aside_more_after_it_was_charged_leaves_nothing_behind(control: Engine) -> None:
    limit = Limit(account=_account(), most=Decimal(1))
    wanted = _wanted("0.10", limit)
    assert _ask(control, wanted) is None
    with session.transaction(control) as connection:
        ledger.settle(connection, wanted.step, 1, 1, used=None, assumed=True)
    # Its worker was only slow.
    assert _ask(control, replace(wanted, amounts={"cost_usd": Decimal("0.40")})) is None
    _settle(control, wanted, {"cost_usd": 0.5})
    assert _held(control, _account()) == (0, Decimal("0.5"))


def test_what_is_set_aside_in_two_windows_is_handed_back_to_both(control: Engine) -> None:
    after = NOW + timedelta(seconds=2)
    later = ledger.account("user", "ada", "cost_usd", "hour", after)
    wanted = _wanted("0.10", Limit(account=_account(), most=Decimal(1)))
    assert _ask(control, wanted) is None
    more = replace(wanted, at=after, limits=[Limit(account=later, most=Decimal(1))])
    assert _ask(control, more) is None
    assert (_held(control, _account())[0], _held(control, later)[0]) == (DIME, DIME)
    _settle(control, wanted, {"cost_usd": 0.15})
    # It is charged where it was begun.
    assert _held(control, _account()) == (0, Decimal("0.15"))
    assert _held(control, later) == (0, 0)


def test_a_lower_limit_holds_at_once_though_room_was_handed_out_under_the_higher(
    control: Engine,
) -> None:
    assert _ask(control, _wanted("0.01", Limit(account=_account(), most=Decimal(100)))) is None
    denied = _ask(control, _wanted("0.01", Limit(account=_account(), most=Decimal("0.01"))))
    assert denied is not None
    assert denied.used == Decimal("0.01")


def test_the_next_window_is_another_account_and_a_charge_stays_where_it_was_set_aside(
    control: Engine,
) -> None:
    limit = Limit(account=_account(), most=DIME)
    late = _wanted("0.10", limit)
    assert _ask(control, late) is None
    assert _ask(control, _wanted("0.10", limit)) is not None
    after = NOW + timedelta(seconds=1)
    following = ledger.account("user", "ada", "cost_usd", "hour", after)
    assert _ask(control, _wanted("0.10", Limit(account=following, most=DIME), at=after)) is None
    _settle(control, late, {"cost_usd": 0.07})
    assert _held(control, _account()) == (0, Decimal("0.07"))
    assert _held(control, following) == (DIME, 0)


def test_an_account_that_is_opened_late_begins_with_what_was_charged_and_is_set_aside(
    control: Engine,
) -> None:
    limit = Limit(account=_account(), most=Decimal(9))
    paid, owed = _wanted("0.05", limit), _wanted("0.03", limit)
    assert [_ask(control, one) for one in (paid, owed)] == [None, None]
    _settle(control, paid, {"cost_usd": 0.04})
    late = _account("tenant", "local", "day")
    denied = _ask(control, _wanted("0.04", Limit(account=late, most=DIME)))
    assert denied is not None
    assert denied.used == Decimal("0.07")
    _settle(control, owed, {"cost_usd": 0.01})
    assert _held(control, late) == (0, Decimal("0.05"))


def test_a_charge_that_was_assumed_is_set_right_once(control: Engine) -> None:
    limit = Limit(account=_account(), most=Decimal(9))
    wanted = _wanted("0.50", limit)
    assert _ask(control, wanted) is None
    with session.transaction(control) as connection:
        charged = ledger.settle(connection, wanted.step, 1, 1, used=None, assumed=True)
        assert charged == {"cost_usd": 0.5}
    for used in (0.2, 0.3):
        _settle(control, wanted, {"cost_usd": used})
    assert _held(control, _account()) == (0, Decimal("0.2"))


def test_what_is_used_beyond_what_was_set_aside_is_charged_all_the_same_and_told(
    control: Engine,
) -> None:
    limit = Limit(account=_account(), most=DIME)
    wanted = _wanted("0.04", limit)
    assert _ask(control, wanted) is None
    _settle(control, wanted, {"cost_usd": 0.25})
    assert _held(control, _account()) == (0, Decimal("0.25"))
    assert _ask(control, _wanted("0.01", limit)) is not None
    with session.transaction(control) as connection:
        beyond = connection.execute(text("SELECT beyond FROM account")).scalar_one()
    assert beyond == Decimal("0.21")


def test_what_will_not_be_made_is_let_go_of_and_what_began_is_charged_as_assumed(
    control: Engine,
) -> None:
    limit = Limit(account=_account(), most=Decimal(9))
    run = identity.new_run()
    never, begun = (
        _wanted("0.10", limit, step=StepId("local", run, key), ordinal=0) for key in ("a#1", "b#1")
    )
    assert [_ask(control, one) for one in (never, begun)] == [None, None]
    with session.transaction(control) as connection:
        connection.execute(
            text(
                "INSERT INTO attempt (tenant_id, run_id, step, attempt, fence, worker)"
                " VALUES ('local', :run, 'b#1', 1, 1, 'w')"
            ),
            {"run": run},
        )
        ledger.close(connection, [RunId("local", run)])
    assert _held(control, _account()) == (0, Decimal("0.10"))
    with session.transaction(control) as connection:
        rows = connection.execute(text("SELECT step, assumed FROM ledger")).all()
    assert [tuple(row) for row in rows] == [("b#1", True)]


def test_what_no_limit_is_about_is_added_up_as_often_as_it_is_told(control: Engine) -> None:
    first = _wanted("0.01", meters=[_account()])
    for told in (first, replace(first, amounts={"cost_usd": Decimal("0.02")})):
        assert _ask(control, told) is None
    _settle(control, first, {"cost_usd": 0.03})
    assert _held(control, _account()) == (0, Decimal("0.03"))


@pytest.mark.parametrize(
    ("span", "most", "moment", "after"),
    [
        ("minute", 60, "2026-05-04T10:59:59+00:00", "2026-05-04T11:00:00+00:00"),
        ("hour", 1000, "2026-05-04T10:59:59+00:00", "2026-05-04T11:00:00+00:00"),
        # The day is that of UTC, wherever whoever asks may be.
        ("day", 3, "2026-05-04T23:59:59+00:00", "2026-05-05T02:00:00+02:00"),
    ],
)
def test_a_window_takes_as_much_as_it_may_and_the_next_one_anew(
    control: Engine, span: str, most: int, moment: str, after: str
) -> None:
    """S3-C5, S3-11, S3-12."""

    def ask(at: datetime) -> Short | None:
        account = ledger.account("user", "ada", "calls", span, at)
        wanted = _wanted("0", Limit(account=account, most=Decimal(most)), at=at)
        return _ask(control, replace(wanted, amounts={"calls": Decimal(1)}))

    now = datetime.fromisoformat(moment)
    assert [ask(now) for _ in range(most)] == [None] * most
    denied = ask(now)
    assert denied is not None
    assert denied.used == most
    assert ask(datetime.fromisoformat(after)) is None


def test_accounts_of_windows_that_are_long_over_are_forgotten_and_nothing_else(
    control: Engine,
) -> None:
    now = datetime.now(UTC)
    here = ledger.account("user", "ada", "cost_usd", "hour", now)
    old, young = (
        _wanted("0.10", Limit(account=account, most=Decimal(1)), at=at)
        for account, at in ((_account(), NOW), (here, now))
    )
    assert [_ask(control, one) for one in (old, young)] == [None, None]
    with session.transaction(control) as connection:
        assert ledger.forget(connection, 10) == 1
    # Whoever was begun then is charged then, all the same.
    _settle(control, old, {"cost_usd": 0.05})
    assert _held(control, here) == (DIME, 0)
    assert _ask(control, _wanted("0.95", Limit(account=_account(), most=Decimal(1)))) is None
    assert _held(control, _account()) == (Decimal("0.95"), Decimal("0.05"))
