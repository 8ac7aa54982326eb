"""Nodes that ask an API and a database: called as every tool is, and held to the tenant's policies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg2
import pytest

from engine import documents, tools
from engine.capabilities import subject
from engine.core.values import Json
from engine.errors import Invalid
from engine.platform import DatabaseRole, Platform
from engine.runs import capabilities, catalogue, policies, usage, views
from engine.settings import Settings
from engine.store.ids import RunId
from engine.store.usage import Which
from tests.support.hands import carry_out
from tests.support.platforms import TENANT, chain, platform, publish, register, submit
from tests.unit.services import outside
from tests.unit.services.outside import Server, reply
from workers.execution import Worker

pytestmark = pytest.mark.usefixtures("sound")

EXAMPLE = Path(__file__).parents[2] / "examples" / "order-total"


@pytest.fixture
def folder(database: str) -> str:
    """Where the sockets of the database's server are."""
    return parse_qs(urlsplit(database).query)["host"][0]


@pytest.fixture
def settings(settings: Settings, folder: str) -> Settings:
    """A platform whose operator lets services into this machine, and its own database's socket."""
    return replace(settings, private_hosts=("127.0.0.1", f"{folder}/.s.PGSQL.5432"))


@pytest.fixture
def shop(database: str, folder: str) -> dict[str, Json]:
    """The configuration of a service of a database with three orders."""
    with closing(psycopg2.connect(database.replace("+psycopg2", ""))) as connection:
        with connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE purchase (id int, customer text, amount numeric)")
            cursor.execute(
                "INSERT INTO purchase VALUES (1, 'ada', 10.5), (2, 'ada', 9.5), (3, 'bob', 1)"
            )
    name = urlsplit(database).path[1:]
    return {"url": f"postgresql://celeriac@/{name}?host={folder}", "allow_private": [folder]}


def _rates(handler: Any) -> None:
    if "to=XXX" in handler.path:
        reply(handler, 404, b'{"error": "no such currency"}', content_type="application/json")
    else:
        reply(handler, body=b'{"rate": 0.5}', content_type="application/json")


@pytest.fixture
def rates() -> Iterator[Server]:
    with outside.http(_rates) as server:
        yield server


def at(server: Server) -> dict[str, Json]:
    return {"hosts": [server.url], "base": server.url, "allow_private": ["127.0.0.1"]}


def serve(main: Platform, name: str, kind: str, config: dict[str, Json], **more: Any) -> None:
    catalogue.register_service(main, TENANT, name, kind, config, by="ada", **more)


def ended(main: Platform, worker: Worker, run: RunId) -> tuple[str, str | None, str]:
    detail = carry_out(main, worker, run)
    return detail.status, detail.reason, detail.message or ""


# --- the example ------------------------------------------------------------------------------


def test_one_task_of_each_sort_runs(
    main: Platform, worker: Worker, shop: Any, rates: Server
) -> None:
    example: Any = {
        name: documents.read_text((EXAMPLE / f"{name}.yaml").read_text())
        for name in ("shop", "rates", "order-total")
    }
    # As they are written they can be registered; here they are somewhere else.
    for name, config in (("shop", shop), ("rates", at(rates))):
        serve(main, name, example[name]["kind"], example[name]["config"])
        serve(main, name, example[name]["kind"], config)
    register(main, "total", (EXAMPLE / "total.py").read_text())
    run = submit(main, publish(main, example["order-total"]), customer="ada")
    assert ended(main, worker, run)[0] == "completed"
    assert views.run(main, run).outputs == {"total": 10.0}
    assert rates.heard[0].path == "/latest?from=USD&to=EUR"
    made = {call.tool: call for call in views.calls(main, run)}
    assert made.keys() == {"shop", "rates"}
    assert made["shop"].effect == "pure"
    assert made["rates"].effect == "idempotent"


# --- policies and walls -----------------------------------------------------------------------


def test_a_policy_rejects_a_call_before_anything_is_sent(
    main: Platform, worker: Worker, shop: Any, rates: Server
) -> None:
    serve(main, "rates", "http", at(rates))
    serve(main, "shop", "sql", {**shop, "write": True})
    rules: Json = [
        {"tool": "rates", "arguments": {"path": "url", "regex": "^secret"}, "action": "deny"},
        {
            "tool": "shop",
            "arguments": {"path": "statement", "regex": "(?i)delete"},
            "action": "deny",
        },
    ]
    policies.apply(main, TENANT, json.dumps({"policy": "p", "rules": rules}), by="ada")
    asks: dict[str, Json] = {"kind": "http", "service": "rates", "url": "secret/plans"}
    deletes: dict[str, Json] = {
        "kind": "sql",
        "service": "shop",
        "statement": "DELETE FROM purchase",
    }
    for node in (asks, deletes):
        run = submit(main, publish(main, chain(a=node)))
        assert ended(main, worker, run)[:2] == ("failed", "rejected")
    assert rates.heard == []
    counts: dict[str, Json] = {
        "kind": "sql",
        "service": "shop",
        "save": {"left": "$result.rows[0].left"},
        "statement": "SELECT count(*) AS left FROM purchase",
    }
    run = submit(main, publish(main, {**chain(a=counts), "outputs": {"left": "$left"}}))
    assert ended(main, worker, run)[0] == "completed"
    assert views.run(main, run).outputs == {"left": 3}


@pytest.mark.parametrize("statement", ["DELETE FROM purchase", "SELECT 1; DELETE FROM purchase"])
def test_a_service_that_may_not_write_fails_for_good(
    main: Platform, worker: Worker, shop: Any, statement: str
) -> None:
    serve(main, "shop", "sql", shop)
    node: dict[str, Json] = {"kind": "sql", "service": "shop", "statement": statement}
    run = submit(main, publish(main, chain(a={**node, "retry": {"attempts": 3, "backoff": 0}})))
    status, reason, message = ended(main, worker, run)
    assert (status, reason) == ("failed", "client_error")
    assert "SQLSTATE 42601" in message
    assert len(views.attempts(main, run)) == 1


def test_a_status_that_fails_says_what_the_server_said(
    main: Platform, worker: Worker, rates: Server
) -> None:
    serve(main, "rates", "http", at(rates))
    node: dict[str, Json] = {
        "kind": "http",
        "service": "rates",
        "url": "latest",
        "query": {"to": "XXX"},
    }
    run = submit(main, publish(main, chain(a=node)))
    status, reason, message = ended(main, worker, run)
    assert (status, reason) == ("failed", "client_error")
    assert "answered 404 Not Found" in message
    assert "no such currency" in message
    run = submit(main, publish(main, chain(a={**node, "accept": [404]})))
    assert ended(main, worker, run)[0] == "completed"


def test_a_service_that_nobody_opened_a_private_place_to_does_not_get_there(
    main: Platform, worker: Worker, rates: Server, settings: Settings
) -> None:
    serve(main, "rates", "http", {**at(rates), "allow_private": []})
    metadata: dict[str, Json] = {
        "hosts": ["http://169.254.169.254"],
        "allow_private": ["169.254.0.0/16"],
    }
    serve(main, "metadata", "http", metadata)
    for service, url in (("rates", "/"), ("metadata", "http://169.254.169.254/latest/meta-data/")):
        node: dict[str, Json] = {"kind": "http", "service": service, "url": url}
        run = submit(main, publish(main, chain(a=node)))
        assert ended(main, worker, run)[:2] == ("failed", "blocked")
    assert rates.heard == []
    assert settings.private_hosts


def test_a_service_does_not_reach_the_platforms_own_servers(
    main: Platform, worker: Worker, rates: Server, shop: Any, folder: str
) -> None:
    # As if the platform's own API listened there; its database's socket is named by the operator.
    narrow = replace(worker.platform.settings, port=rates.port)
    inside = replace(worker, platform=replace(worker.platform, settings=narrow))
    serve(main, "rates", "http", at(rates))
    node: dict[str, Json] = {"kind": "http", "service": "rates", "url": "/"}
    run = submit(main, publish(main, chain(a=node)))
    status, reason, message = ended(main, inside, run)
    assert (status, reason) == ("failed", "blocked")
    assert "the platform's own servers" in message
    serve(main, "shop", "sql", shop)
    asks: dict[str, Json] = {"kind": "sql", "service": "shop", "statement": "SELECT 1"}
    for hosts in (("127.0.0.1",), ("127.0.0.1", folder)):
        closed = replace(narrow, private_hosts=hosts)
        outsider = replace(worker, platform=replace(worker.platform, settings=closed))
        run = submit(main, publish(main, chain(a=asks)))
        assert ended(main, outsider, run)[:2] == ("failed", "blocked")


def test_a_call_that_sent_nothing_costs_nothing(
    main: Platform, worker: Worker, rates: Server, shop: Any
) -> None:
    terms = tools.terms({"cost_estimate_usd": 0.5})
    serve(main, "rates", "http", at(rates), terms=terms)
    serve(main, "closed", "http", {**at(rates), "allow_private": []}, terms=terms)
    serve(main, "shop", "sql", shop, terms=terms)
    asks: dict[str, Json] = {"kind": "http", "service": "rates", "url": "latest"}
    asks_shop: dict[str, Json] = {"kind": "sql", "service": "shop", "statement": "SELECT 1"}

    def spent(node: dict[str, Json]) -> tuple[str | None, float]:
        run = submit(main, publish(main, chain(a=node)))
        reason = ended(main, worker, run)[1]
        (whole,) = usage.page(main, TENANT, which=Which(run=run.run))
        return reason, float(whole.used.get("cost_usd", 0))

    assert spent({**asks, "service": "closed"}) == ("blocked", 0)
    assert spent({**asks_shop, "statement": "SELECT :a"}) == ("arguments_refused", 0)
    assert spent({**asks, "dry_run": True}) == ("end", 0)
    assert spent({**asks_shop, "dry_run": True}) == ("end", 0)
    assert rates.heard == []
    assert spent(asks) == ("end", 0.5)
    assert spent(asks_shop) == ("end", 0.5)


def test_a_redirect_leads_code_nowhere_that_it_was_not_granted(
    main: Platform, worker: Worker, rates: Server, settings: Settings
) -> None:
    register(main, "asks", "def asks(state):\n    invoke('moved', url='/')\n    return {}\n")
    with (
        platform(settings, DatabaseRole.API) as api,
        outside.http(lambda handler: reply(handler, 302, location=rates.url)) as server,
    ):
        config = {**at(server), "hosts": [server.url, rates.url], "redirects": 1}
        serve(main, "moved", "http", config)
        version = publish(main, chain(a={"uses": "asks"}))
        for hosts, heard in (([server.url], 0), ([server.url, rates.url], 1)):
            profile: Json = {"services": ["moved"], "hosts": [*hosts]}
            capabilities.grant(
                api.of(TENANT), TENANT, subject("function:asks@1"), profile, by="ada"
            )
            ended(main, worker, submit(main, version))
            assert len(rates.heard) == heard
        assert len(server.heard) == 2


def test_a_configuration_that_is_wrong_registers_nothing(main: Platform) -> None:
    with pytest.raises(Invalid) as raised:
        serve(main, "rates", "http", {"hosts": ["ftp://x"], "auth": {"bearer": 7}})
    assert {problem.path for problem in raised.value.problems} == {
        "config.hosts[0]",
        "config.auth.bearer",
    }
    assert catalogue.function_list(main, TENANT, "tool") == ()


@pytest.mark.parametrize(
    ("status", "ends"),
    [(429, ("completed", "end", 2)), (503, ("failed", "unknown_outcome", 1))],
)
def test_what_was_turned_away_at_the_door_is_sent_again_and_what_may_have_happened_is_not(
    main: Platform, worker: Worker, status: int, ends: tuple[str, str | None, int]
) -> None:
    def answer(handler: Any) -> None:
        reply(handler, status if len(server.heard) == 1 else 200, b"{}")

    with outside.http(answer) as server:
        serve(main, "orders", "http", {**at(server), "methods": ["POST"]})
        node = {"kind": "http", "service": "orders", "method": "POST", "url": "/", "json": {}}
        again = {"attempts": 2, "backoff": 0, "on": ["rate_limited", "server_error"]}
        run = submit(main, publish(main, chain(a={**node, "retry": again})))
        detail = carry_out(main, worker, run)
        assert (detail.status, detail.reason, len(server.heard)) == ends
        keys = {request.headers["idempotency-key"] for request in server.heard}
        assert len(keys) == 1
