"""What if a statement forgot its tenant: the wall still stands.

Every condition on a tenant is taken out of every statement on its way to the database. Behind the wall
nobody sees a thing of another's; without it (as the coordinator's role) the same requests leak, which
proves that the conditions are really gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event

from engine.platform import DatabaseRole, Platform
from engine.runs import catalogue, delegations, identity
from engine.runs.waits import Person
from engine.store import principals, session
from engine.store.ids import QuestionId, RunId
from tests.support import platforms, site
from tests.support.platforms import LINE, TENANT, finish, take
from tests.support.waiting import waits_at
from web import site as sites
from web.app import create_app

_CONDITION = re.compile(
    r"(?:\w+\.)?tenant_id (?:= (?:%\(\w+\)s(?:::\w+)?|\$\d+|\w+\.tenant\b)|IN \(%\(\w+\)s(?:::\w+)?\))"
)


@pytest.fixture
def places(control: Platform, worker: Platform) -> list[str]:
    """Addresses of what is the local tenant's."""
    platforms.register(control, "noop")
    run = platforms.submit(control, platforms.publish(control, LINE))
    finish(control, worker, take(worker, run, "a#1"))
    version = catalogue.find(control, TENANT, "line").id
    below = f"/api/v1/runs/{run.run}"
    asking = platforms.submit(control, platforms.publish(control, waits_at("approval")))
    request = identity.question(QuestionId(*asking, "w#1", 1, 1))
    hand_over(control, asking)
    return [
        below,
        f"{below}/history",
        f"{below}/attempts",
        f"{below}/steps/a%231",
        f"{below}/steps/a%231/result",
        f"{below}/diagram",
        f"/api/v1/audit/verify?run={run.run}",
        f"/api/v1/runs/{asking.run}/steps/w%231/answers",
        f"/api/v1/approvals/{request}",
        "/api/v1/workflows/line",
        "/api/v1/functions/noop",
        "/api/v1/users/local",
        f"/graph/{version}",
        f"/graph/state/{run.run}",
    ]


def hand_over(control: Platform, asking: RunId) -> None:
    """A say of the admin's in the hands of a namesake of whoever looks from another tenant."""
    with session.transaction(control.database) as connection:
        principals.add(connection, TENANT, "eve", roles=["approver"], by="me")
    giver = Person(user="local", roles=["admin"])
    delegations.give(control, TENANT, giver, "eve", reason="away", run=asking.run, step="w#1")


LISTS = [
    *("/api/v1/runs", "/api/v1/workflows", "/api/v1/functions"),
    *("/api/v1/waits", "/api/v1/waits?view=mine", "/api/v1/approvals", "/api/v1/delegations"),
]


@pytest.mark.parametrize("lists", [LISTS])
def test_a_statement_without_its_tenant_still_finds_nothing_of_another(
    control: Platform, places: list[str], lists: list[str]
) -> None:
    with _forgetful(control, DatabaseRole.API) as app:
        eve = site.stranger(app, control)
        assert {place: eve.get(place).status_code for place in places} == dict.fromkeys(places, 404)
        assert [place for place in lists if eve.get(place).json["items"] != []] == []
        cancelled = eve.post(f"{places[0]}/cancel", json={})
        assert cancelled.status_code == 404
        assert [user["id"] for user in eve.get("/api/v1/users").json["items"]] == ["eve"]
        mine = site.member(app, control)
        assert {place: mine.get(place).status_code for place in places} == dict.fromkeys(
            places, 200
        )


def test_without_the_wall_it_would(control: Platform, places: list[str]) -> None:
    with _forgetful(control, DatabaseRole.CONTROL) as app:
        eve = site.stranger(app, control)
        leaked = [place for place in places if eve.get(place).status_code == 200]
        assert len(leaked) > len(places) / 2
        seen = {place: eve.get(place).json["items"] for place in LISTS}
        assert all(seen.values()), seen


@contextmanager
def _forgetful(platform: Platform, role: DatabaseRole) -> Iterator[Flask]:
    """An app whose statements have lost every condition on a tenant."""
    database = session.connect(platform.settings.database_url or "", role=role)

    def forget(*given: Any) -> tuple[str, Any]:
        statement, parameters = given[2], given[3]
        return _CONDITION.sub("true", statement), parameters

    event.listen(database, "before_cursor_execute", forget, retval=True)
    app = create_app(replace(platform, database=database))
    try:
        yield app
    finally:
        sites.of(app).close()
        database.dispose()
