"""A budget of ten cents, fifty who want a cent each at once, and four workers that may die."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from engine.core import codec
from engine.core import messages as msg
from engine.core.values import Json
from engine.platform import Platform
from engine.runs import answers, doctor, launch, policies, sealing, tenants, views, waits
from engine.runs.waits import Filter
from engine.store.ids import RunId
from tests.faults.conftest import Stage
from tests.support import clock, platforms
from tests.support.fleet import wait_for_end, wait_until
from tests.support.platforms import TENANT, sql

WORKERS = ("worker1", "worker2", "worker3", "worker4", "coordinator1")
DIME = Decimal("0.10")
ASKED = 50
PAID = 10
OTHER = "other"
POLICY = """
policy: purse
budgets:
  - {name: hourly, scope: user, window: hour, metric: cost_usd, limit: 0.10}
"""
INPUTS: Json = {"witness": {"type": "string"}, "go": {"type": "string"}}
#: As a node of its own, and from inside a step: there is one way to call a tool.
SHOPS: dict[str, Any] = {
    "tool": {
        "kind": "tool",
        "tool": "charge",
        "with": {"witness": "$witness", "go": "$go"},
        "timeout": 300,
    },
    "code": {"uses": "buy", "timeout": 300},
}

pytestmark = pytest.mark.parametrize("stage", [WORKERS], indirect=True)


@pytest.fixture
def own_servers(own_servers):
    """Servers whose hour is not over in the middle of a test."""
    clock.give(own_servers.database_url)
    return own_servers


@dataclass(frozen=True, kw_only=True)
class Market:
    """Where a cent is paid for each call, by whom and how often an outsider sees."""

    stage: Stage
    go: Path
    #: Workflow versions by tenant and kind of node.
    shops: dict[tuple[str, str], str]

    @property
    def platform(self) -> Platform:
        return self.stage.platform

    def want(
        self,
        number: int,
        *,
        by: str = "ada",
        tenant: str = TENANT,
        kinds: Sequence[str] = ("tool", "code"),
    ) -> list[RunId]:
        """So many runs, submitted at once, that want to pay a cent each."""
        inputs = {"witness": str(self.stage.witness), "go": str(self.go)}

        def submit(which: int) -> RunId:
            version = self.shops[tenant, kinds[which % len(kinds)]]
            return launch.submit(self.platform, tenant, version, inputs, by=by).run

        with ThreadPoolExecutor(8) as threads:
            runs = list(threads.map(submit, range(number)))
        self.platform.broker.nudge(runs)
        return runs

    def handled(self, runs: list[RunId]) -> list[tuple[str, int]]:
        """The runs that reached the handler, and in which attempt, each time that one did."""
        seen = self.stage.witness.read_text().splitlines() if self.stage.witness.exists() else []
        lines = [line.split() for line in seen]
        wanted = {run.run for run in runs}
        return [(run, int(attempt)) for run, _, attempt in lines if run in wanted]

    def ended(self, runs: list[RunId]) -> list[RunId]:
        return [run for run in runs if views.status(self.platform, run).terminal]

    def settled(self, runs: list[RunId]) -> bool:
        """Whether each has ended, or asks people."""
        asked = {one.run_id for one in waits.page(self.platform, TENANT, limit=ASKED)}
        return all(run.run in asked for run in runs if run not in self.ended(runs))

    def answer(self, run: RunId, form: dict[str, Json]) -> None:
        """Say what has become of a call that a run asks about."""
        (asked,) = waits.page(self.platform, TENANT, which=Filter(run=run.run))
        answers.answer(
            self.platform,
            run,
            asked.step,
            by="eve",
            choice="approve",
            form=form,
            digest=asked.digest,
        )

    def denials(self, run: RunId) -> list[msg.Verdict]:
        """The verdicts in a run's history."""
        lines = views.history(self.platform, run, limit=1000, payloads=True)
        records = [
            codec.read(line.kind, line.body, line.payload or {}, at=line.at, number=line.format)
            for line in lines
        ]
        return [
            one for record in records if isinstance(record, msg.Judged) for one in record.verdicts
        ]

    def money(self, user: str = "ada", tenant: str = TENANT) -> tuple[Decimal, Decimal]:
        """What is charged and what is set aside for a user of a tenant, seen at one moment."""
        ((charged, aside),) = sql(
            self.platform,
            "SELECT (SELECT coalesce(sum((usage->>'cost_usd')::numeric), 0) FROM ledger"
            "  WHERE tenant_id = :tenant AND user_id = :user),"
            " (SELECT coalesce(sum((amounts->>'cost_usd')::numeric), 0) FROM reservation"
            "  WHERE tenant_id = :tenant AND user_id = :user)",
            tenant=tenant,
            user=user,
        )
        return charged, aside

    def check_denied(self, runs: list[RunId]) -> None:
        """Each failed, and says for which budget, what it wanted and what it might."""
        for run in runs:
            seen = views.run(self.platform, run)
            assert seen.status == "failed", seen
            assert "purse:hourly" in (seen.message or ""), seen
            (verdict, *_) = self.denials(run)
            assert (verdict.policy, verdict.rule, verdict.action) == (
                "purse",
                "hourly",
                "reject_execution",
            )
            assert (verdict.scope, verdict.window, verdict.limit) == ("user", "hour", 0.1)
            # From inside a step, or a step that may yet call it: nothing is left for either.
            assert verdict.observed in (0.11, 0.1)

    def check_books(self) -> None:
        """Accounts hold what the ledger and what is set aside come to; nothing else is broken."""
        rows = sql(
            self.platform,
            "SELECT a.tenant_id, a.subject, sum(p.spent) AS spent, sum(p.reserved) AS aside"
            " FROM account a JOIN purse p ON p.tenant_id = a.tenant_id AND p.account = a.key"
            " WHERE a.scope = 'user' AND a.unit = 'cost_usd' GROUP BY 1, 2",
        )
        for row in rows:
            assert (row.spent, row.aside) == self.money(row.subject, row.tenant_id), row
        assert sql(self.platform, "SELECT FROM reservation") == []
        # The hour that was made to pass is one that no sealer has seen.
        sealing.seal(self.platform)
        assert doctor.examine(self.platform.database) == ()


@pytest.fixture
def market(stage: Stage, tmp_path: Path) -> Market:
    platform = stage.platform
    tenants.create(platform.database, OTHER, name="Other", admin="ada")
    shops = {}
    for tenant in (TENANT, OTHER):
        platforms.register(
            platform,
            "charge",
            library="tests.support.witness:charge",
            namespace="tool",
            effect="at_most_once",
            tenant=tenant,
            cost_estimate_usd=0.01,
        )
        platforms.register(platform, "buy", library="tests.support.witness:buy", tenant=tenant)
        policies.apply(platform, tenant, POLICY, by="ada")
        for kind, node in SHOPS.items():
            document = {
                "workflow": f"shop-{kind}",
                "inputs": INPUTS,
                "nodes": {"pay": node},
                "edges": ["pay -> end"],
            }
            shops[tenant, kind] = platforms.publish(platform, document, tenant=tenant)
    return Market(stage=stage, go=tmp_path / "go", shops=shops)


@contextmanager
def watched(look: Callable[[], Decimal]) -> Iterator[list[Decimal]]:
    """What is seen, again and again, for as long as the block lasts."""
    over, seen = threading.Event(), [Decimal(0)]

    def watch() -> None:
        while not over.wait(0.01):
            seen.append(look())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def test_of_fifty_calls_at_once_ten_are_paid_and_forty_are_told_which_budget_is_used_up(
    market: Market,
) -> None:
    with watched(lambda: sum(market.money(), Decimal(0))) as seen:
        runs = market.want(ASKED)
        # Those who pay hold on to their cents until every other has been told.
        wait_until(
            lambda: (len(market.handled(runs)), len(market.ended(runs))) == (PAID, ASKED - PAID),
            what="ten to be called, and forty to be denied",
        )
        assert market.money() == (0, DIME)
        denied = market.ended(runs)
        beside = market.want(2, by="bob"), market.want(2, tenant=OTHER)
        wait_until(
            lambda: [len(market.handled(one)) for one in beside] == [2, 2], what="the others"
        )
        market.go.touch()
        wait_for_end(market.platform, [*runs, *beside[0], *beside[1]])
    assert max(seen) == DIME
    market.check_denied(denied)
    assert sorted(market.handled(runs)) == sorted((run.run, 1) for run in set(runs) - set(denied))
    for run in (*(set(runs) - set(denied)), *beside[0], *beside[1]):
        assert views.status(market.platform, run).status == "completed"
    assert market.money() == (DIME, 0)
    assert market.money("bob") == market.money(tenant=OTHER) == (Decimal("0.02"), 0)
    # The hour is used up for whoever comes late, and for nobody once it is over.
    late = market.want(2)
    wait_for_end(market.platform, late)
    market.check_denied(late)
    clock.an_hour_later(market.stage.settings.database_url or "")
    again = market.want(PAID + 2)
    wait_for_end(market.platform, again)
    assert len(market.handled(again)) == PAID
    assert market.money() == (2 * DIME, 0)
    market.check_books()


def test_no_more_are_paid_when_a_worker_is_killed_in_the_middle_of_calls(market: Market) -> None:
    stage, platform = market.stage, market.platform
    with watched(lambda: sum(market.money(), Decimal(0))) as seen:
        # Code that was lost would be refused its next start: it may cost more, and nothing is left.
        runs = market.want(ASKED, kinds=["tool"])
        wait_until(lambda: bool(market.handled(runs)), what="the first call to be under way")
        victim = worker_of(market, market.handled(runs)[0][0])
        stage.fleet.kill_whole(victim)
        wait_until(lambda: bool(stage.age()), what="the steps that it held")
        market.go.touch()
        wait_until(lambda: market.settled(runs), what="all to end, or to ask what has become of it")
    assert max(seen) == DIME
    unknown = [run for run in runs if run not in market.ended(runs)]
    paid = [run for run in runs if views.status(platform, run).status == "completed"]
    market.check_denied([run for run in runs if run not in (*unknown, *paid)])
    assert unknown
    # A call that was authorised and then killed may or may not have been made: it is charged as if
    # it had, and is not made again.
    assert len(unknown) + len(paid) == PAID
    handled = market.handled(runs)
    assert {run.run for run in paid} <= {run for run, _ in handled}
    assert len(handled) == len({run for run, _ in handled}) <= PAID
    charged = sql(
        platform,
        "SELECT run_id::text AS run, assumed FROM ledger WHERE ordinal > 0"
        " AND (usage->>'cost_usd')::numeric = 0.01",
    )
    assert {row.run for row in charged if row.assumed} == {run.run for run in unknown}
    assert {row.run for row in charged if not row.assumed} == {run.run for run in paid}
    assert market.money() == (DIME, 0)
    # Somebody looks: it did happen. So it is not made again, and the runs go on.
    for run in unknown:
        market.answer(run, {"happened": True, "result": "paid"})
    wait_for_end(platform, unknown)
    ended = {run: views.run(platform, run) for run in unknown}
    assert {seen.status for seen in ended.values()} == {"completed"}, ended
    assert market.handled(runs) == handled
    market.check_books()


def worker_of(market: Market, run: str) -> str:
    """The name of the worker that holds the step of a run."""
    ((worker,),) = sql(
        market.platform, "SELECT worker FROM step WHERE run_id = CAST(:run AS uuid)", run=run
    )
    pid = int(worker.rpartition(":")[2])
    (name,) = [one for one in WORKERS if market.stage.fleet.pid(one) == pid]
    return name
