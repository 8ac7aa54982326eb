"""Usage and budgets over REST, and by the client of the SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from flask import Flask

from celeriac.client import Client, Invalid, NotFound
from engine.core.principal import Principal
from engine.platform import Platform
from engine.runs import access, policies
from engine.runs.attempts import Succeeded
from engine.store.ids import RunId
from tests.support.described import fits
from tests.support.platforms import TENANT, chain, finish, publish, register, submit, take
from tests.support.site import Api

PLACE = "/api/v1/usage"


@pytest.fixture
def spent(control: Platform, worker: Platform) -> RunId:
    """A run that has used dimes, and for which more is set aside."""
    budget = {"name": "hourly", "scope": "user", "window": "hour", "metric": "cost_usd", "limit": 5}
    policies.apply(control, TENANT, json.dumps({"policy": "p", "budgets": [budget]}), by="ada")
    register(control, "noop")
    node = {"uses": "noop", "estimate": {"cost_usd": 0.2}}
    run = submit(control, publish(control, chain(a=node, b=node)))
    own = {"cost_usd": 0.3, "tokens_used": 812, "seconds": 2.5}
    assert finish(control, worker, take(worker, run, "a#1"), Succeeded(own=own, usage=own))
    return run


@pytest.fixture
def client(app: Flask, control: Platform) -> Iterator[Client]:
    token = access.create_key(
        control.database, Principal(tenant=TENANT, user="ada", roles=frozenset({"viewer"}))
    )
    transport = httpx2.WSGITransport(app=app)
    with Client("http://127.0.0.1", token, transport=transport) as made:
        yield made


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ({"by": "planet"}, "by[0]"),
        ({"by": "user,,run"}, "by[1]"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-01-01T00:00:00"}, "since"),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "until"),
        ({"since": "2026-01-02T00:00:00Z", "window": "day"}, "window"),
        ({"window": "year"}, "window"),
        ({"run": "1"}, "run"),
        ({"cursor": "nope"}, "cursor"),
        ({"by": "user", "cursor": "WyJhIiwiYiJd"}, "cursor"),
        ({"by": "user", "cursor": "WzFd"}, "cursor"),
        ({"by": "hour", "cursor": "WyJhIl0"}, "cursor"),
        ({"by": "hour", "cursor": "WyIyMDI2LTAxLTAxIl0"}, "cursor"),
        ({"limit": "501"}, "limit"),
        ({"tenant": "other"}, "tenant"),
    ],
)
def test_what_is_asked_wrongly_is_refused_by_name(
    api: Api, query: dict[str, str], path: str
) -> None:
    response = api.get(PLACE, query_string=query)
    assert response.status_code == 422, response.text
    assert [each["path"] for each in response.json["errors"]] == [path]


def test_a_run_says_whose_its_budgets_are_and_must_be_there(api: Api, spent: RunId) -> None:
    both = api.get(f"{PLACE}/budgets", query_string={"run": spent.run, "user": "bob"})
    assert (both.status_code, both.json["errors"][0]["path"]) == (422, "run")
    absent = api.get(f"{PLACE}/budgets", query_string={"run": str(uuid4())})
    assert absent.status_code == 404


def test_nobody_sees_what_another_tenant_uses(api: Api, stranger: Api, spent: RunId) -> None:
    for by in ("user", "run", "workflow"):
        assert api.get(PLACE, query_string={"by": by}).json["items"] != []
        assert stranger.get(PLACE, query_string={"by": by}).json["items"] == []
    (nothing,) = stranger.get(PLACE, query_string={"run": spent.run}).json["items"]
    assert (nothing["tenant"], nothing["used"], nothing["reserved"]) == ("other", {}, {})
    theirs = stranger.get(f"{PLACE}/budgets", query_string={"run": spent.run})
    assert theirs.status_code == 404
    assert stranger.get(f"{PLACE}/budgets").json["budgets"] == []


@pytest.mark.usefixtures("spent")
def test_numbers_are_numbers_and_fit_their_description(
    api: Api, app: Flask, spec: dict[str, Any]
) -> None:
    response = api.get(PLACE, query_string={"by": "user,node,tool,day"})
    for answer in (response, api.get(f"{PLACE}/budgets"), api.get(PLACE)):
        fits(app, spec, answer)
    first, second = response.json["items"]
    assert first["used"] == {"cost_usd": 0.3, "tokens_used": 812, "steps": 1}
    assert '"tokens_used":812,' in response.text or '"tokens_used":812}' in response.text
    assert (first["attempts"], first["calls"], first["reserved"]) == (1, 0, {})
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert first["by"] == {
        "user": "ada",
        "node": "a",
        "tool": None,
        "day": today.isoformat(),
    }
    assert (second["by"]["node"], second["reserved"]) == ("b", {"cost_usd": 0.2, "steps": 1})


def test_pages_follow_by_their_cursor(api: Api, spent: RunId) -> None:
    query: dict[str, Any] = {"by": "hour,node,run", "limit": 1}
    first = api.get(PLACE, query_string=query).json
    second = api.get(PLACE, query_string={**query, "cursor": first["next"]}).json
    assert [page["items"][0]["by"]["node"] for page in (first, second)] == ["a", "b"]
    assert (second["next"], second["items"][0]["by"]["run"]) == (None, spent.run)


def test_the_client_tells_decimals(client: Client, spent: RunId) -> None:
    (found,) = client.usage(user="ada", run=spent.run, window="day")
    assert found.used == {
        "cost_usd": Decimal("0.3"),
        "tokens_used": Decimal(812),
        "steps": Decimal(1),
    }
    assert found.reserved["cost_usd"] == Decimal("0.2")
    assert [each.by for each in client.usage("node", "tool", workflow="w")] == [
        {"node": "a", "tool": None},
        {"node": "b", "tool": None},
    ]
    later = datetime.now(UTC) + timedelta(hours=1)
    assert list(client.usage("run", since=later)) == []
    with pytest.raises(Invalid):
        list(client.usage("planet"))


def test_the_client_tells_budgets(client: Client, spent: RunId) -> None:
    mine, runs = client.budgets(), client.budgets(run=spent.run)
    assert (mine.user, mine.workflow, runs.workflow, runs.run) == ("ada", None, "w", spent.run)
    assert mine.budgets == runs.budgets
    (found,) = mine.budgets
    assert (found.policy, found.name, found.subject) == ("p", "hourly", "ada")
    assert (found.limit, found.spent, found.reserved, found.left) == (
        Decimal(5),
        Decimal("0.3"),
        Decimal("0.2"),
        Decimal("4.5"),
    )
    assert found.ends is not None
    assert found.ends - mine.at <= timedelta(hours=1)
    (other,) = client.budgets(user="bob").budgets
    assert (other.subject, other.left) == ("bob", Decimal(5))
    with pytest.raises(NotFound):
        client.budgets(run=str(uuid4()))
