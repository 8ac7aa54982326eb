"""Every route, tried by everybody: nobody, wrong and ended keys, another tenant's, each role.

Generated from the route table and from what each route says that it needs. A route that is new is
tried as well; one whose body is not known here fails the test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.routing import IntegerConverter, Rule

from engine.core.principal import ADMIN, ROLES, Principal
from engine.platform import DatabaseRole, Platform
from engine.runs import access
from engine.sessions import story
from engine.settings import Settings
from engine.store import keys, session, tenants
from tests.support import belongings, digests, platforms, site
from tests.support.platforms import TENANT, sql
from tests.support.services import Services
from web import permissions
from web import site as sites
from web.app import create_app


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """An app, what is in it, and the credentials of everybody."""

    app: Flask
    control: Platform
    #: Sees every row.
    owner: Engine
    #: Values of the parameters of addresses, that name what is there.
    things: Mapping[str, str]
    #: What differs for a role: a session does only what whoever began it says.
    own: Mapping[str, Mapping[str, str]]
    #: Those who stand for nobody, by what is wrong with them.
    ended: Mapping[str, str]
    roles: Mapping[str, str]
    stranger: str


@pytest.fixture(scope="module")
def world(shared_services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        site.of_its_own(shared_services, tmp_path_factory.mktemp("home")) as settings,
        site.controlled(site.local(settings)) as control,
        platforms.platform(settings, DatabaseRole.WORKER) as worker,
        site.served(control) as app,
        _owner(settings) as owner,
    ):
        yield World(
            app=app,
            control=control,
            owner=owner,
            things=belongings.of(control, worker),
            own={
                role: belongings.session(control, role) for role in ROLES if _may(role, "run:start")
            },
            ended=_ended(control),
            roles={role: belongings.key(control, role, {role}) for role in ROLES}
            | {"nothing": belongings.key(control, "nothing", set())},
            stranger=_stranger(control),
        )


@contextmanager
def _owner(settings: Settings) -> Iterator[Engine]:
    engine = session.connect(settings.database_url or "")
    yield engine
    engine.dispose()


# --- declaring -------------------------------------------------------------------------------------


def test_every_route_says_what_it_asks_for(world: World) -> None:
    known = {permission for held in ROLES.values() for permission in held}
    of_admins = {
        *("user:read", "user:write", "key:read", "key:write", "policy:write"),
        *("secret:read", "secret:write", "capability:read", "capability:grant"),
        "service:write",
    }
    for rule in world.app.url_map.iter_rules():
        needed = permissions.of(world.app, rule.endpoint)
        assert needed in known | of_admins | {permissions.ANYBODY, permissions.PUBLIC}, rule


def test_an_app_with_a_route_that_says_nothing_does_not_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.docs.page.__needs__", None)
    with pytest.raises(permissions.Undeclared, match=re.escape("/docs (docs.page)")):
        create_app(world.control)


def test_the_description_says_what_each_route_asks_for(world: World) -> None:
    paths = world.app.test_client().get("/openapi.json").json["paths"]
    for rule in world.app.url_map.iter_rules():
        told = paths.get(re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), {})
        for method in (rule.methods or set()) & {name.upper() for name in told}:
            needed = permissions.of(world.app, rule.endpoint)
            assert told[method.lower()]["x-permission"] == needed, (method, rule)


def test_what_needs_nobody_is_harmless(world: World) -> None:
    """A list, so that opening a route is seen by whoever reads the change."""
    public = {
        rule.rule
        for rule in world.app.url_map.iter_rules()
        if permissions.of(world.app, rule.endpoint) == permissions.PUBLIC
    }
    assert public == {
        "/",
        "/docs",
        "/docs/<name>",
        "/openapi.json",
        "/health",
        "/api/v1/health",
        "/api/v1/ready",
        "/api/v1/schema",
        "/api/v1/schema/policy",
    }


# --- asking ----------------------------------------------------------------------------------------


def test_who_may_not_is_refused_everywhere_and_changes_nothing(world: World) -> None:
    before = digests.of(world.owner)
    for rule, method in _closed(world.app):
        needed = permissions.of(world.app, rule.endpoint) or ""
        for name, token in {"none": None, **world.ended}.items():
            response = _ask(world, rule, method, token)
            assert response.status_code == 401, (name, method, rule.rule)
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
        for role, token in world.roles.items():
            if not _may(role, needed):
                response = _ask(world, rule, method, token)
                assert response.status_code == 403, (role, method, rule.rule)
                assert method == "HEAD" or needed in response.get_data(as_text=True)
    assert digests.of(world.owner) == before
    _check_records(world)


def test_what_is_anothers_is_not_there(world: World) -> None:
    """Byte by byte the same as what is nobody's; and asking for it changes nothing."""
    before = digests.of(world.owner, tenant=TENANT)
    random = {**world.things, **dict.fromkeys(_IDS, str(uuid4())), "sha256": "f" * 64}
    random |= {name: f"no-{name}" for name in _NAMES} | {"key": "no#1", "seq": "9", "exec_id": "x"}
    random["session_id"] = story.workflow_id(random["session_id"])
    random["subject"] = "function:no-thing"
    random["request_id"] = belongings.request(random["asking"])
    for rule, method in _closed(world.app):
        if not (_named(rule) | _named_in_body(rule)) & (_IDS | _NAMES | {"sha256"}):
            continue
        if rule.endpoint in _MAKES_ITS_OWN:
            continue
        theirs = _ask(world, rule, method, world.stranger)
        nobodys = _ask(world, rule, method, world.stranger, things=random)
        expected = 200 if rule.endpoint in _ANSWERS_EACH else 404
        assert theirs.status_code == nobodys.status_code == expected, (method, rule, theirs.text)
        assert _plain(theirs, world.things) == _plain(nobodys, random), (method, rule.rule)
    assert digests.of(world.owner, tenant=TENANT) == before


def test_another_tenant_named_in_a_request_is_not_there(world: World) -> None:
    """K29: the credential alone says which tenant is meant."""
    client, header = world.app.test_client(), _header(world.roles[ADMIN])
    before = digests.of(world.owner)
    asked = [
        client.get("/api/graph-bundle/list?tenantId=other", headers=header),
        client.get("/api/graph-bundle/list?tenantId=nobody", headers=header),
        client.post(
            "/api/v1/validation/graph", json={"name": "x", "tenantId": "other"}, headers=header
        ),
        client.post(
            "/api/graph-bundle/upload",
            data={"file": belongings.archive(), "tenantId": "other"},
            headers=header,
        ),
    ]
    assert [response.status_code for response in asked] == [404] * 4
    assert digests.of(world.owner) == before


def test_who_may_is_let_in(world: World) -> None:
    """Last, because it changes what is there."""
    for rule, method in sorted(_closed(world.app), key=lambda each: each[1] == "DELETE"):
        needed = permissions.of(world.app, rule.endpoint) or ""
        for role, token in world.roles.items():
            if _may(role, needed):
                things = {**world.things, **world.own.get(role, {})}
                response = _ask(world, rule, method, token, things=things)
                assert response.status_code not in _WRONG, (
                    role,
                    method,
                    rule.rule,
                    response.text,
                )


#: None of them can be, where the body is right and who asks may.
_WRONG = {400, 401, 403, 405, 415, 422, 500}

# --- everybody -------------------------------------------------------------------------------------


def _ended(control: Platform) -> dict[str, str]:
    """Credentials that stand for nobody."""
    good = belongings.key(control, "ended", {ADMIN})
    (now,) = sql(control, "SELECT clock_timestamp()")[0]
    revoked = belongings.key(control, "ended", {ADMIN})
    inactive = belongings.key(control, "gone", {ADMIN})
    with session.transaction(control.database) as connection:
        keys.revoke(connection, TENANT, belongings.key_id(revoked))
        connection.execute(text("UPDATE principal SET active = false WHERE id = 'gone'"))
    return {
        "malformed": "nope",
        "unknown": f"clr_{'0' * 16}.{'0' * 43}",
        "secret": good.partition(".")[0] + "." + revoked.partition(".")[2],
        "expired": belongings.key(control, "ended", {ADMIN}, expires_at=now),
        "revoked": revoked,
        "inactive": inactive,
        "forged": "eyJhbGciOiJub25lIn0.e30.",
    }


def _stranger(control: Platform) -> str:
    with session.transaction(control.database) as connection:
        tenants.ensure(connection, "other", name="Somebody else")
    eve = Principal(tenant="other", user="eve", roles=frozenset({ADMIN}))
    return access.create_key(control.database, eve)


def _may(role: str, needed: str) -> bool:
    who = Principal(tenant=TENANT, user=role, roles=frozenset({role}))
    return needed == permissions.ANYBODY or who.may(needed)


def _header(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


# --- everything ------------------------------------------------------------------------------------

#: Parameters that are ids of something of a tenant's, and those that are names.
_IDS = {
    *("api_key", "run_id", "graph_id", "process_id", "event", "version_id"),
    *("session_id", "step_id", "checkpoint_id", "delegation", "asking", "request_id"),
}
_NAMES = {"name", "user", "subject"}
#: What somebody of another tenant makes is his own: no id of ours is in it.
_MAKES_ITS_OWN = {"sent.send", "drafts.save"}
#: Of several runs, what became of each is told beside the others.
_ANSWERS_EACH = {"runs.act_on_many", "waits.answer_many"}


def _closed(app: Flask) -> Iterator[tuple[Rule, str]]:
    """Every route that is not public, by each of its methods."""
    for rule in app.url_map.iter_rules():
        if permissions.of(app, rule.endpoint) != permissions.PUBLIC and not rule.websocket:
            for method in sorted((rule.methods or set()) - {"OPTIONS"}):
                yield rule, method


def _named_in_body(rule: Rule) -> set[str]:
    marks = {name: f"@{name}" for name in _IDS | _NAMES}
    sent = json.dumps(belongings.bodies(marks).get(rule.endpoint, {}).get("json"))
    return {name for name, mark in marks.items() if mark in sent}


def _ask(
    world: World,
    rule: Rule,
    method: str,
    token: str | None,
    *,
    things: Mapping[str, str] | None = None,
) -> Any:
    things = world.things if things is None else things
    named = {name: _thing(rule, name, things) for name in rule.arguments}
    built = rule.build(named)
    assert built is not None, rule
    given = belongings.bodies(things).get(rule.endpoint, {"json": {}})
    with_body = given if method in {"POST", "PUT", "PATCH", "DELETE"} else {}
    response = world.app.test_client().open(
        built[1],
        method=method,
        headers=_header(token),
        # From elsewhere: without a credential nobody is served.
        environ_overrides={"REMOTE_ADDR": "8.8.8.8"},
        buffered=False,
        **with_body,
    )
    if response.is_streamed and response.status_code == 200:
        response.close()
    else:
        response.get_data()
    return response


def _thing(rule: Rule, name: str, things: Mapping[str, str]) -> Any:
    if isinstance(rule._converters[name], IntegerConverter):
        return int(things[name][0])
    return things["api_key" if _names_a_key(rule) else name]


def _named(rule: Rule) -> set[str]:
    return {"api_key"} if _names_a_key(rule) else set(rule.arguments)


def _names_a_key(rule: Rule) -> bool:
    """`key` is the key of a step elsewhere."""
    return rule.endpoint.startswith("keys.") and bool(rule.arguments)


# --- what came of it -------------------------------------------------------------------------------


def _check_records(world: World) -> None:
    """An act for each credential, route and reason where the tenant is known, else a count."""
    assert sites.of(world.app).clerk.settled(60)
    closed = [f"{method} {rule.rule}" for rule, method in _closed(world.app)]
    kept = sql(world.control, "SELECT * FROM refused_request")
    counted = {(row.credential, row.route): row.reason for row in kept}
    for name in ("secret", "expired", "revoked", "inactive"):
        credential = f"key:{belongings.key_id(world.ended[name])}"
        assert {route for key, route in counted if key == credential} == set(closed), name
        assert {why for (key, _), why in counted.items() if key == credential} == {name}
    for role, token in world.roles.items():
        refused = {
            f"{method} {rule.rule}": f"missing {permissions.of(world.app, rule.endpoint)}"
            for rule, method in _closed(world.app)
            if not _may(role, permissions.of(world.app, rule.endpoint) or "")
        }
        credential = f"key:{belongings.key_id(token)}"
        assert {route: why for (key, route), why in counted.items() if key == credential} == refused
    acts = sql(world.control, "SELECT * FROM admin_act WHERE action = 'request.refuse'")
    assert len(acts) == len(kept)
    assert {act.tenant_id for act in acts} == {TENANT}
    assert {(act.detail["credential"], act.subject.removeprefix("route:")) for act in acts} == set(
        counted
    )
    told = json.dumps([dict(act._mapping) for act in acts], default=str)
    assert not any(token.partition(".")[2] in told for token in world.roles.values())
    unknown = dict(
        sql(world.control, "SELECT reason, sum(count)::int FROM unknown_request GROUP BY 1")
    )
    assert unknown == dict.fromkeys(("none", "malformed", "unknown", "forged"), len(closed))


def _plain(response: Any, things: Mapping[str, str]) -> str:
    """An answer, but for what was asked for and for the id of the request."""
    told = response.get_data(as_text=True)
    asked = {things[name] for name in _IDS | _NAMES | {"sha256"}}
    # A session is a run, and is told as one. Longest first: some of them hold others.
    for value in sorted(asked | {story.run_of(things["session_id"])}, key=len, reverse=True):
        told = told.replace(value, "…")
    return re.sub(r'"request_id":"[^"]*"', "", told)
