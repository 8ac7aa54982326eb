"""Users, their keys and tokens, over `/api/v1`: what holds, and from when on it does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask

from engine.core.principal import ADMIN, Principal
from engine.errors import Conflict, Unavailable
from engine.platform import Platform
from engine.runs import access, refusals, users
from engine.runs import tenants as installation
from engine.settings import Settings
from tests.support import platforms, signing, site
from tests.support.platforms import TENANT, as_owner, sql
from tests.support.services import Services
from tests.support.site import Api
from web import clerk as clerks
from web import site as sites
from web import streams

USERS, KEYS = "/api/v1/users", "/api/v1/keys"


@pytest.fixture(scope="module")
def own(shared_services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with site.of_its_own(shared_services, tmp_path_factory.mktemp("home")) as settings:
        yield replace(site.local(settings), signers=signing.trusted())


@pytest.fixture(scope="module")
def control(own: Settings) -> Iterator[Platform]:
    with site.controlled(own) as platform:
        yield platform


@pytest.fixture(scope="module")
def app(control: Platform) -> Iterator[Flask]:
    with site.served(control) as app:
        yield app


@pytest.fixture(scope="module")
def api(app: Flask, control: Platform) -> Api:
    return site.member(app, control)


_made = iter(range(10_000))


def someone(api: Api, *roles: str, permissions: tuple[str, ...] = ()) -> str:
    """A new user."""
    user = f"user {next(_made)}"
    made = api.post(USERS, json={"id": user, "roles": roles, "permissions": permissions})
    assert made.status_code == 201, made.text
    return user


def key_of(api: Api, user: str, **given: Any) -> Api:
    """A client with a new key of a user."""
    made = api.post(KEYS, json={"name": "k", "user": user, **given})
    assert made.status_code == 201, made.text
    return replace(api, token=made.json["token"])


def id_of(client: Api) -> str:
    return client.token.partition(".")[0].removeprefix("clr_")


def acts(control: Platform, action: str, subject: str) -> list[Any]:
    return list(
        sql(
            control,
            "SELECT * FROM admin_act WHERE action = :action AND subject = :subject ORDER BY at",
            action=action,
            subject=subject,
        )
    )


# --- users ---------------------------------------------------------------------------------------


def test_everybody_may_ask_who_he_is(api: Api) -> None:
    told = key_of(api, someone(api), scopes=["run:read"]).get("/api/v1/me")
    assert told.status_code == 200
    assert (told.json["tenant"], told.json["roles"], told.json["permissions"]) == (TENANT, [], [])
    assert told.json["scopes"] == ["run:read"]
    assert told.json["credential"].startswith("key:")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "id"),
        ({"id": ""}, "id"),
        ({"id": "x" * 201}, "id"),
        ({"id": "a\nb"}, "id"),
        ({"id": "a\u0000b"}, "id"),
        ({"id": "x", "roles": "admin"}, "roles"),
        ({"id": "x", "roles": [""]}, "roles[0]"),
        ({"id": "x", "roles": ["viewer", "r" * 101]}, "roles[1]"),
        ({"id": "x", "roles": ["r"] * 101}, "roles"),
        ({"id": "x", "permissions": ["everything"]}, "permissions[0]"),
        ({"id": "x", "tenant": "other"}, "tenant"),
        ({"id": "x", "tenant_id": "other"}, "tenant_id"),
        ({"id": "x", "created_by": "god"}, "created_by"),
        ({"id": "x", "active": False}, "active"),
    ],
)
def test_a_user_who_cannot_be_is_refused_by_field(
    api: Api, control: Platform, body: dict[str, Any], path: str
) -> None:
    before = sql(control, "SELECT count(*) FROM principal")
    refused = api.post(USERS, json=body)
    assert refused.status_code == 422
    assert [problem["path"] for problem in refused.json["errors"]] == [path]
    assert sql(control, "SELECT count(*) FROM principal") == before


def test_a_user_is_made_once_and_the_act_is_kept(api: Api, control: Platform) -> None:
    user = someone(api, "editor", "finance", permissions=("read:documents",))
    assert api.post(USERS, json={"id": user}).status_code == 409
    shown = api.get(f"{USERS}/{user}").json
    assert shown["roles"] == ["editor", "finance"]
    assert (shown["permissions"], shown["created_by"]) == (["read:documents"], "ada")
    (act,) = acts(control, "user.create", f"user:{user}")
    assert (act.tenant_id, act.by, act.detail["roles"]) == (TENANT, "ada", ["editor", "finance"])
    assert act.after is not None


def test_any_text_is_an_id(api: Api) -> None:
    user = "Zoë/Ops@acme.example"
    made = api.post(USERS, json={"id": user})
    assert api.get(made.headers["Location"]).json["id"] == user


def test_users_and_keys_are_listed_in_pages(api: Api) -> None:
    for _ in range(3):
        key_of(api, someone(api))
    for place, name in ((USERS, "id"), (KEYS, "id")):
        whole = [each[name] for each in api.get(f"{place}?limit=500").json["items"]]
        paged, cursor = [], ""
        while cursor is not None:
            page = api.get(f"{place}?limit=2{cursor}").json
            paged += [each[name] for each in page["items"]]
            cursor = f"&cursor={page['next']}" if page["next"] else None
        assert paged == whole
        assert len(set(whole)) == len(whole) > 3


def test_a_change_holds_from_the_next_request_and_is_kept(api: Api, control: Platform) -> None:
    user = someone(api, "editor")
    client = key_of(api, user)
    assert client.get("/api/v1/runs").status_code == 200
    changed = api.send("PATCH", f"{USERS}/{user}", json={"roles": ["finance"], "why": "moved"})
    assert (changed.status_code, changed.json["roles"]) == (200, ["finance"])
    refused = client.get("/api/v1/runs")
    assert (refused.status_code, "run:read" in refused.json["detail"]) == (403, True)
    assert api.send("DELETE", f"{USERS}/{user}").json["active"] is False
    assert client.get("/api/v1/me").status_code == 401
    assert api.send("PATCH", f"{USERS}/{user}", json={"active": True}).status_code == 200
    assert client.get("/api/v1/me").status_code == 200
    first, second, third = acts(control, "user.change", f"user:{user}")
    assert (first.why, first.before != first.after) == ("moved", True)
    assert (second.before, third.after) == (first.after, first.after)


def test_nobody_gives_or_takes_what_he_does_not_hold(api: Api, control: Platform) -> None:
    manager = someone(api, "operator", permissions=("user:write", "key:write", "read:documents"))
    client, boss, peer = key_of(api, manager), someone(api, ADMIN), someone(api, "viewer")
    theirs = key_of(api, boss)
    before = sql(control, "SELECT * FROM principal ORDER BY id")
    for body in (
        {"id": "x", "roles": ["admin"]},
        {"id": "x", "roles": ["approver"]},
        {"id": "x", "roles": ["finance"]},
        {"id": "x", "permissions": ["definition:write"]},
        {"id": "x", "permissions": ["run:*"]},
        {"id": "x", "permissions": ["*"]},
    ):
        assert client.post(USERS, json=body).status_code == 403, body
    for user, body in (
        (manager, {"roles": ["admin"]}),
        (manager, {"permissions": ["*"]}),
        (boss, {"active": False}),
        (boss, {"roles": []}),
        (peer, {"active": False}),
    ):
        assert client.send("PATCH", f"{USERS}/{user}", json=body).status_code == 403, (user, body)
    assert sql(control, "SELECT * FROM principal ORDER BY id") == before
    assert client.post(KEYS, json={"name": "k", "user": boss}).status_code == 403
    scoped = {"name": "k", "user": boss, "scopes": ["run:read"]}
    assert client.post(KEYS, json=scoped).status_code == 403
    assert client.send("DELETE", f"{KEYS}/{id_of(theirs)}").status_code == 403
    assert client.post(f"{KEYS}/{id_of(theirs)}/rotate").status_code == 403
    assert theirs.get("/api/v1/me").status_code == 200
    made = client.post(USERS, json={"id": "junior", "roles": ["operator"]})
    assert made.status_code == 201
    assert client.post(KEYS, json={"name": "k", "user": "junior"}).status_code == 201


def test_a_narrow_key_makes_no_wider_one(api: Api) -> None:
    narrow = key_of(api, someone(api, ADMIN), scopes=["key:write", "run:read"])
    assert narrow.post(KEYS, json={"name": "k"}).status_code == 403
    assert narrow.post(KEYS, json={"name": "k", "scopes": ["*"]}).status_code == 403
    assert narrow.post(KEYS, json={"name": "k", "scopes": ["run:start"]}).status_code == 403
    assert narrow.post(KEYS, json={"name": "k", "scopes": ["run:read"]}).status_code == 201
    assert narrow.post(USERS, json={"id": "x"}).status_code == 403


# --- the last admin --------------------------------------------------------------------------------


def test_the_last_active_admin_stays(app: Flask, control: Platform) -> None:
    token = installation.create(control.database, "solo", name="Solo", admin="ann")
    ann = Api(client=app.test_client(), token=token)
    assert ann.post(USERS, json={"id": "ben", "roles": ["admin"]}).status_code == 201
    assert ann.send("DELETE", f"{USERS}/ben").status_code == 200
    for body in ({"active": False}, {"roles": ["viewer"]}, {"roles": [], "permissions": ["*"]}):
        refused = ann.send("PATCH", f"{USERS}/ann", json=body)
        assert (refused.status_code, "last active admin" in refused.json["detail"]) == (409, True)
    assert ann.send("PATCH", f"{USERS}/ben", json={"active": True}).status_code == 200
    assert ann.send("DELETE", f"{USERS}/ann").status_code == 200
    assert ann.get("/api/v1/me").status_code == 401


def test_an_operator_lets_a_tenant_in_that_is_locked_out(app: Flask, control: Platform) -> None:
    installation.create(control.database, "locked", name="Locked", admin="ann")
    as_owner(control.settings, "UPDATE principal SET active = false WHERE tenant_id = 'locked'")
    token = installation.admit(control.database, "locked", "ann", why="asked by mail")
    ann = Api(client=app.test_client(), token=token)
    assert ann.get("/api/v1/me").json["roles"] == ["admin"]
    (act,) = acts(control, "user.admit", "user:ann")
    assert (act.tenant_id, act.by, act.why) == ("locked", "celeriac", "asked by mail")


def test_two_admins_who_demote_each_other_cannot_both(control: Platform) -> None:
    installation.create(control.database, "duel", name="Duel", admin="a")
    a = Principal(tenant="duel", user="a", roles=frozenset({ADMIN}))
    users.create(control, a, "b", roles=[ADMIN])
    meeting, outcomes = threading.Barrier(2), []

    def demote(by: str, whom: str) -> None:
        meeting.wait(timeout=10)
        try:
            users.change(control, replace(a, user=by), whom, roles=["viewer"])
            outcomes.append("done")
        except Conflict:
            outcomes.append("refused")

    racing = [threading.Thread(target=demote, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join(timeout=30)
    assert sorted(outcomes) == ["done", "refused"]
    admins = sql(
        control, "SELECT id FROM principal WHERE tenant_id = 'duel' AND 'admin' = ANY(roles)"
    )
    assert len(admins) == 1


# --- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "k", "scopes": ["all"]}, "scopes[0]"),
        ({"name": "k", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "k", "expires_at": "2030-01-01T00:00:00"}, "expires_at"),
        ({"name": "k", "roles": ["admin"]}, "roles"),
        ({"name": "k", "hash": "x"}, "hash"),
        ({"name": "k", "tenant": "other"}, "tenant"),
    ],
)
def test_a_key_that_cannot_be_is_refused_by_field(
    api: Api, body: dict[str, Any], path: str
) -> None:
    refused = api.post(KEYS, json=body)
    assert refused.status_code == 422
    assert [problem["path"] for problem in refused.json["errors"]] == [path]


def test_a_key_is_of_a_user_who_is_there_and_active(api: Api) -> None:
    gone = someone(api)
    api.send("DELETE", f"{USERS}/{gone}")
    for user in (gone, "nobody at all"):
        assert api.post(KEYS, json={"name": "k", "user": user}).status_code == 404


def test_a_token_is_shown_once_and_kept_nowhere(api: Api, control: Platform, own: Settings) -> None:
    client = key_of(api, someone(api, "viewer"))
    secret = client.token.partition(".")[2]
    shown = api.get(f"{KEYS}?limit=500").json["items"]
    assert id_of(client) in {key["id"] for key in shown}
    assert all("token" not in key and "hash" not in key for key in shown)
    dumped = json.dumps(
        [
            dict(row._mapping)
            for table in ("api_key", "admin_act")
            for row in sql(control, f"SELECT to_jsonb(t)::text FROM {table} t")
        ]
    )
    assert id_of(client) in dumped
    assert secret not in dumped
    assert secret.encode().hex() not in dumped
    (act,) = acts(control, "key.create", f"key:{id_of(client)}")
    assert (act.by, act.detail["name"]) == ("ada", "k")


def test_a_key_may_do_what_it_is_for_and_its_user_may(api: Api) -> None:
    user = someone(api, "viewer")
    assert key_of(api, user).get("/api/v1/runs").status_code == 200
    assert key_of(api, user, scopes=["run:read"]).get("/api/v1/runs").status_code == 200
    assert key_of(api, user, scopes=["definition:*"]).get("/api/v1/runs").status_code == 403
    assert key_of(api, user, scopes=[]).get("/api/v1/me").status_code == 200
    wide = key_of(api, user, scopes=["*"])
    assert wide.post(USERS, json={"id": "x"}).status_code == 403


def test_a_bulk_signal_is_an_event_that_is_sent(api: Api) -> None:
    held = key_of(api, someone(api, "operator"), scopes=["run:control"])
    asked: dict[str, Any] = {"action": "signal", "filter": {"workflow": "w"}}
    refused = held.post("/api/v1/runs/bulk", json={**asked, "event": {"name": "paid"}})
    assert (refused.status_code, "event:send" in refused.json["detail"]) == (403, True)
    asked["action"] = "pause"
    assert held.post("/api/v1/runs/bulk", json=asked).status_code == 200


def test_a_revoked_key_ends_at_once_and_for_good(api: Api, control: Platform) -> None:
    client = key_of(api, someone(api, "viewer"))
    assert client.get("/api/v1/me").status_code == 200
    ended = api.send("DELETE", f"{KEYS}/{id_of(client)}", json={"reason": "lost"})
    assert (ended.status_code, ended.json["revoked_at"] is not None) == (200, True)
    assert client.get("/api/v1/me").status_code == 401
    again = api.send("DELETE", f"{KEYS}/{id_of(client)}")
    assert (again.status_code, again.json["revoked_at"]) == (200, ended.json["revoked_at"])
    (act,) = acts(control, "key.revoke", f"key:{id_of(client)}")
    assert act.why == "lost"
    assert api.post(f"{KEYS}/{id_of(client)}/rotate").status_code == 409
    assert api.send("DELETE", f"{KEYS}/{'0' * 16}").status_code == 404


def test_a_key_is_replaced_by_one_for_the_same(api: Api, control: Platform) -> None:
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    client = key_of(api, someone(api, "editor"), scopes=["run:read"], expires_at=until)
    made = api.post(f"{KEYS}/{id_of(client)}/rotate", json={"grace_seconds": 60})
    assert made.status_code == 201
    assert (made.json["scopes"], made.json["expires_at"] is not None) == (["run:read"], True)
    fresh = replace(api, token=made.json["token"])
    assert [each.get("/api/v1/runs").status_code for each in (client, fresh)] == [200, 200]
    again = api.post(f"{KEYS}/{id_of(fresh)}/rotate")
    assert again.status_code == 201
    last = replace(api, token=again.json["token"])
    assert [each.get("/api/v1/runs").status_code for each in (fresh, last)] == [401, 200]
    assert last.get("/api/v1/workflows").status_code == 403
    (act,) = acts(control, "key.rotate", f"key:{id_of(client)}")
    assert act.detail["by_key"] == id_of(fresh)


def test_use_of_a_key_is_noted_once_a_minute(app: Flask, api: Api, control: Platform) -> None:
    client = key_of(api, someone(api, "viewer"))

    def used() -> Any:
        assert client.get("/api/v1/me").status_code == 200
        assert sites.of(app).clerk.settled()
        return sql(control, "SELECT last_used_at FROM api_key WHERE id = :id", id=id_of(client))[0][
            0
        ]

    first = used()
    assert first is not None
    assert used() == first
    as_owner(
        control.settings,
        "UPDATE api_key SET last_used_at = last_used_at - interval '2 minutes' WHERE id = :id",
        id=id_of(client),
    )
    assert used() > first


def test_a_use_that_cannot_be_noted_fails_no_request(
    app: Flask, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise Unavailable("the database is away")

    client = key_of(api, someone(api, "viewer"))
    monkeypatch.setattr(clerks.access, "note_use", away)
    assert client.get("/api/v1/me").status_code == 200
    assert sites.of(app).clerk.settled()


# --- tokens ----------------------------------------------------------------------------------------


@pytest.fixture
def bearer(app: Flask) -> Any:
    def made(token: str) -> Api:
        return Api(client=app.test_client(), token=token)

    return made


@pytest.mark.parametrize("how", signing.forged())
def test_a_forged_token_stands_for_nobody(bearer: Any, how: str) -> None:
    refused = bearer(signing.forged()[how]).get("/api/v1/me")
    assert refused.status_code == 401
    assert refused.json["detail"] == "the credential is unknown, wrong or expired"


@pytest.mark.parametrize("kid", signing.ALGORITHMS)
def test_a_token_stands_for_its_user_as_he_is_now(api: Api, bearer: Any, kid: str) -> None:
    user = someone(api, "editor", "finance")
    client = bearer(signing.token(kid, signing.claims(user=user)))
    told = client.get("/api/v1/me").json
    assert (told["user"], told["roles"]) == (user, ["editor", "finance"])
    assert told["credential"] == f"jwt:{kid}"
    api.send("PATCH", f"{USERS}/{user}", json={"roles": []})
    assert client.get("/api/v1/runs").status_code == 403
    api.send("DELETE", f"{USERS}/{user}")
    assert client.get("/api/v1/me").status_code == 401


def test_a_token_narrows_and_never_widens(api: Api, bearer: Any) -> None:
    user = someone(api, "editor", "finance")
    narrow = bearer(signing.token(told=signing.claims(user=user, roles=["finance", "admin"])))
    assert narrow.get("/api/v1/me").json["roles"] == ["finance"]
    scoped = bearer(signing.token(told=signing.claims(user=user, scope="run:read user:write")))
    assert scoped.get("/api/v1/runs").status_code == 200
    assert scoped.get("/api/v1/workflows").status_code == 403
    assert scoped.post(USERS, json={"id": "x"}).status_code == 403


@pytest.mark.parametrize(
    ("tenant", "user"), [(TENANT, "nobody"), ("nowhere", "ada"), ("No Tenant!", "ada")]
)
def test_a_token_of_nobody_stands_for_nobody(bearer: Any, tenant: str, user: str) -> None:
    token = signing.token(told=signing.claims(tenant=tenant, user=user))
    assert bearer(token).get("/api/v1/me").status_code == 401


def test_a_token_whose_time_is_over_is_told_to_its_tenant(
    app: Flask, bearer: Any, control: Platform
) -> None:
    assert bearer(signing.expired()).get("/api/v1/runs").status_code == 401
    assert sites.of(app).clerk.settled()
    kept = acts(control, "request.refuse", "route:GET /api/v1/runs")
    assert ("jwt:ed", "expired") in {
        (act.detail["credential"], act.detail["reason"]) for act in kept
    }


# --- streams ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "status"), [({"active": False}, 401), ({"roles": []}, 403)], ids=str
)
def test_a_stream_ends_when_whoever_follows_may_not_any_more(
    api: Api,
    control: Platform,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    status: int,
) -> None:
    monkeypatch.setattr(streams, "ASK_SECONDS", 0.0)
    platforms.register(control, f"noop{status}")
    document = platforms.chain(a={"uses": f"noop{status}"})
    run = platforms.submit(control, platforms.publish(control, document))
    user = someone(api, "viewer")
    client, place = key_of(api, user), f"/api/v1/runs/{run.run}/events"
    told = iter(client.get(place, buffered=False).response)
    assert "retry" in str(next(told))
    assert api.send("PATCH", f"{USERS}/{user}", json=change).status_code == 200
    assert not any("event: end" in str(line) for line in told)
    assert client.get(place).status_code == status


# --- what is refused -------------------------------------------------------------------------------


def test_a_flood_is_one_act_and_a_count(app: Flask, api: Api, control: Platform) -> None:
    client = key_of(api, someone(api))
    for _ in range(60):
        assert client.get("/api/v1/waits").status_code == 403
    assert sites.of(app).clerk.settled()
    kept = sql(
        control,
        "SELECT count AS number FROM refused_request WHERE credential = :key",
        key=f"key:{id_of(client)}",
    )
    of_it = [
        act
        for act in acts(control, "request.refuse", "route:GET /api/v1/waits")
        if act.detail["credential"] == f"key:{id_of(client)}"
    ]
    # A minute may have ended meanwhile.
    assert len(of_it) == len(kept) <= 2
    assert sum(row.number for row in kept) == 60
    assert of_it[0].by.startswith("user ")


def test_what_was_refused_is_kept_while_the_database_is_away(
    control: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clerks, "_AGAIN_SECONDS", 0.01)
    asked: list[int] = []

    def count(platform: Platform, reason: str, number: int) -> None:
        asked.append(number)
        if len(asked) < 3:
            raise Unavailable("the database is away")
        refusals_count(platform, reason, number)

    refusals_count = refusals.count
    monkeypatch.setattr(clerks.refusals, "count", count)
    clerk = clerks.Clerk(control)
    clerk.refused(access.Refused(reason="away"), by="", route="", peer="")
    assert clerk.settled()
    clerk.close()
    assert sql(control, "SELECT sum(count)::int FROM unknown_request WHERE reason = 'away'") == [
        (1,)
    ]


def test_what_waits_to_be_written_has_a_bound(
    control: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clerks, "_KINDS", 2)
    asked, away = threading.Event(), threading.Event()

    def count(*_: object) -> None:
        asked.set()
        away.wait(10)

    monkeypatch.setattr(clerks.refusals, "count", count)
    clerk = clerks.Clerk(control)
    clerk.refused(access.Refused(reason="first"), by="", route="", peer="")
    assert asked.wait(10)
    for number in range(100):
        clerk.refused(access.Refused(reason=f"reason {number}"), by="", route="", peer="")
    assert len(clerk._refused) == 2
    away.set()
    assert clerk.settled()
    clerk.close()


def test_the_operator_reads_the_counts_of_strangers(
    app: Flask, bearer: Any, control: Platform
) -> None:
    assert bearer("nope").get("/api/v1/me").status_code == 401
    assert sites.of(app).clerk.settled()
    found = installation.unknown_requests(control.database, limit=10)
    assert {each.reason for each in found} >= {"malformed"}


# --- without a credential --------------------------------------------------------------------------


def test_the_local_user_is_anonymous_only_while_he_is_active(app: Flask, control: Platform) -> None:
    client = app.test_client()
    assert client.get("/graph/list").status_code == 200
    for active, status in ((False, 401), (True, 200)):
        as_owner(
            control.settings,
            "UPDATE principal SET active = :active WHERE (tenant_id, id) = ('local', 'local')",
            active=active,
        )
        assert client.get("/graph/list").status_code == status
