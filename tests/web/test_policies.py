"""Policies over REST: put in force, looked at, linted, tried, withdrawn."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from engine.core.principal import Principal
from engine.guardrails import judge, verdicts
from engine.guardrails.facts import Facts
from engine.guardrails.vocabulary import OPERATORS
from engine.platform import Platform
from engine.runs import access, policies
from engine.store import session
from tests.support import platforms
from tests.support.described import fits
from tests.support.site import Api

PLACE = "/api/v1/policies"
SPENDING = "policy: spending\nrules:\n  - sum(tokens_used) > 10\u2009000 → abort_lifetime\n"
DATA = {"policy": "tools", "rules": [{"tool": "file_delete", "action": "REQUIRE_APPROVAL"}]}


def apply(api: Api, text: str = SPENDING, kind: str = "text/yaml", **query: str) -> Any:
    return api.post(PLACE, data=text.encode(), content_type=kind, query_string=query)


# --- what goes wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "status", "path", "message"),
    [
        ("policy: [", "text/yaml", 422, "", "not YAML"),
        (
            "policy: p\nrulez: 1\nrules: [steps > 1 → warn]",
            "application/yaml",
            422,
            "rulez",
            "(line 2, column 8)",
        ),
        (
            "policy: p\nrules: [nonsense]",
            "application/x-yaml",
            422,
            "rules[0]",
            "(line 2, column 9)",
        ),
        ('{"policy": "p", "policy": "q"}', "application/json", 422, "", "given twice"),
        ("policy: p\n#" + "x" * 70_000, "text/yaml", 422, "", "more than 65536 bytes"),
        ("a: &a [x]\nb: [*a, *a]", "text/yaml", 422, "", "(line 1, column 4)"),
        (SPENDING, "text/plain", 415, None, ""),
        ("", "text/yaml", 422, "", "nothing (null) stands here"),
    ],
)
def test_what_is_no_policy_changes_nothing(
    *,
    api: Api,
    control: Platform,
    text: str,
    kind: str,
    status: int,
    path: str | None,
    message: str,
) -> None:
    for place in (PLACE, f"{PLACE}/lint"):
        response = api.post(place, data=text.encode(), content_type=kind)
        if place.endswith("lint") and status == 422:
            assert (response.status_code, response.json["valid"]) == (200, False)
            problems = response.json["problems"]
        else:
            assert response.status_code == status, response.text
            problems = response.json.get("errors", [])
        assert [each["path"] for each in problems] == ([] if path is None else [path])
        assert all(message in each["message"] for each in problems)
    assert policies.listed(control, "local") == ()


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "policy"),
        ({"policy": SPENDING}, "facts"),
        ({"policy": SPENDING, "facts": {}, "run": "01900000-0000-7000-8000-000000000000"}, "facts"),
        ({"policy": SPENDING, "run": "me"}, "run"),
        ({"policy": SPENDING, "facts": []}, "facts"),
        ({"policy": SPENDING, "facts": {"moment": "never"}}, "facts.moment"),
        ({"policy": SPENDING, "facts": [{}, {"tols": 1}]}, "facts[1].tols"),
        ({"policy": SPENDING, "facts": {"usage": {"x": "much"}}}, "facts.usage.x"),
        ({"policy": SPENDING, "facts": {"totals": {"galaxy x": 1}}}, "facts.totals.galaxy x"),
        ({"policy": 5, "facts": {}}, ""),
        ({"policy": SPENDING, "facts": {}, "more": 1}, "more"),
    ],
)
def test_a_trial_that_makes_no_sense_is_refused(api: Api, body: Any, path: str) -> None:
    response = api.post(f"{PLACE}/test", json=body)
    assert response.status_code == 422, response.text
    assert [each["path"] for each in response.json["errors"]] == [path]


def test_nobody_reaches_the_policies_of_another_tenant(api: Api, stranger: Api) -> None:
    apply(api)
    for place in ("spending", "spending/versions", "spending/versions/1"):
        assert stranger.get(f"{PLACE}/{place}").status_code == 404
        assert api.get(f"{PLACE}/{place}").status_code == 200
    assert stranger.post(f"{PLACE}/spending/withdraw").status_code == 404
    assert stranger.get(PLACE).json["items"] == []
    assert api.get(f"{PLACE}/spending").json["active"] is True
    # A policy of theirs of the same name is another one.
    assert apply(stranger, SPENDING.replace("10", "20")).json["policy"]["version"] == 1


@pytest.mark.parametrize(("role", "read"), [("viewer", 403), ("approver", 403), ("editor", 200)])
def test_too_small_a_role_changes_nothing(
    *, app: Flask, api: Api, control: Platform, role: str, read: int
) -> None:
    apply(api)
    principal = Principal(
        tenant="local", user="vic", roles=frozenset({role}), permissions=frozenset()
    )
    small = Api(client=app.test_client(), token=access.create_key(control.database, principal))
    assert apply(small, SPENDING.replace("10", "20")).status_code == 403
    assert small.post(f"{PLACE}/spending/withdraw").status_code == 403
    assert small.get(f"{PLACE}/spending").status_code == read
    assert small.get("/api/v1/schema/policy").status_code == 200
    assert api.get(f"{PLACE}/spending").json["version"] == 1


def test_without_a_credential_nothing_is_told(app: Flask) -> None:
    client = app.test_client()
    for method, place in (
        ("GET", ""),
        ("POST", ""),
        ("POST", "/lint"),
        ("POST", "/test"),
        ("GET", "/spending"),
        ("POST", "/spending/withdraw"),
    ):
        assert client.open(f"{PLACE}{place}", method=method).status_code == 401
    assert client.get("/api/v1/schema/policy").json["$id"] == "urn:celeriac:policy"


@pytest.mark.parametrize(
    "place", ["nothing", "spending/versions/2", f"spending/versions/{2**40}", "nothing/versions"]
)
def test_what_is_not_there_is_said_to_be_so(api: Api, place: str) -> None:
    apply(api)
    assert api.get(f"{PLACE}/{place}").status_code == 404


# --- what goes well ---------------------------------------------------------------------------


def test_a_policy_is_applied_looked_at_and_withdrawn(
    app: Flask, api: Api, control: Platform
) -> None:
    spec = app.test_client().get("/openapi.json").json
    first = apply(api, reason="the bill")
    assert (first.status_code, first.json["changed"]) == (201, True)
    assert first.headers["Location"] == f"{PLACE}/spending/versions/1"
    again = apply(api)
    assert (again.status_code, again.json["changed"]) == (200, False)
    second = apply(api, SPENDING.replace("10\u2009000", "20 000"))
    assert second.json["policy"]["version"] == 2
    assert apply(
        api, '{"policy": "tools", "rules": [{"tool": "x", "action": "deny"}]}', "application/json"
    ).json["warnings"] == [
        {
            "path": "rules[0].tool",
            "message": "there is no tool 'x'",
            "remedy": "it will be for a tool that is added later",
        }
    ]
    listed = api.get(PLACE, query_string={"limit": 1})
    assert [(each["name"], each["version"]) for each in listed.json["items"]] == [("spending", 2)]
    rest = api.get(PLACE, query_string={"cursor": listed.json["next"]})
    assert [each["name"] for each in rest.json["items"]] == ["tools"]
    versions = api.get(f"{PLACE}/spending/versions", query_string={"limit": 1})
    older = api.get(f"{PLACE}/spending/versions", query_string={"cursor": versions.json["next"]})
    assert [each["version"] for each in (*versions.json["items"], *older.json["items"])] == [2, 1]
    assert api.get(f"{PLACE}/spending/versions/1").json["document"] == SPENDING
    gone = api.post(f"{PLACE}/spending/withdraw", json={"reason": "enough"})
    assert (gone.status_code, gone.json["active"]) == (200, False)
    twice = api.post(f"{PLACE}/spending/withdraw")
    assert twice.status_code == 409
    for response in (first, again, listed, versions, gone, twice, api.get(f"{PLACE}/spending")):
        fits(app, spec, response)
    told = platforms.sql(
        control,
        "SELECT by, action, subject, why FROM admin_act"
        " WHERE starts_with(subject, 'policy:') ORDER BY id",
    )
    assert [tuple(each) for each in told] == [
        ("ada", "policy.apply", "policy:spending", "the bill"),
        ("ada", "policy.apply", "policy:spending", ""),
        ("ada", "policy.apply", "policy:tools", ""),
        ("ada", "policy.withdraw", "policy:spending", "enough"),
    ]


def test_a_policy_is_linted_and_nothing_is_changed(app: Flask, api: Api) -> None:
    spec = app.test_client().get("/openapi.json").json
    response = api.post(f"{PLACE}/lint", json=DATA)
    fits(app, spec, response)
    assert response.json == {
        "valid": True,
        "problems": [],
        "warnings": [
            {
                "path": "rules[0].tool",
                "message": "there is no tool 'file_delete'",
                "remedy": "it will be for a tool that is added later",
            }
        ],
    }
    assert api.get(PLACE).json["items"] == []


def test_a_policy_is_tried_on_facts(app: Flask, api: Api) -> None:
    spec = app.test_client().get("/openapi.json").json
    facts = [
        {"moment": "report", "totals": {"tokens_used": 10_000}},
        {"moment": "report", "totals": {"tokens_used": "10 001"}, "node": "n"},
    ]
    response = api.post(f"{PLACE}/test", json={"policy": SPENDING, "facts": facts})
    fits(app, spec, response)
    quiet, loud = response.json["moments"]
    assert (quiet["action"], quiet["verdicts"]) == ("allow", [])
    assert (loud["action"], loud["node"]) == ("abort_lifetime", "n")
    (verdict,) = loud["verdicts"]
    assert (verdict["observed"], verdict["limit"]) == (10_001, 10_000)
    assert response.json["fired"] == {"sum(tokens_used) > 10 000 → abort_lifetime": 1}
    asked = {**DATA, "rules": [{**DATA["rules"][0], "from": "role:approver", "quorum": 2}]}  # type: ignore[dict-item,index]
    response = api.post(f"{PLACE}/test", json={"policy": asked, "facts": {"tool": "file_delete"}})
    fits(app, spec, response)
    (verdict,) = response.json["moments"][0]["verdicts"]
    assert (verdict["from"], verdict["quorum"]) == (["role:approver"], 2)


LATER = """
policy: later
priority: 9
rules:
  - {tool: look, action: allow}
  - {tool: pay, action: allow_with_audit}
  - {name: eve, tool: pay, arguments: {path: to.name, eq: eve}, action: require_approval}
"""
EARLIER = """
policy: earlier
priority: 1
rules:
  - {name: ne, tool: pay, arguments: {path: to.name, ne: eve}, action: warn}
  - {name: in, tool: pay, arguments: {path: to.name, in: [mallory]}, action: deny}
  - {name: not_in, tool: pay, arguments: {path: to.name, not_in: [eve, mallory]}, action: warn}
  - {name: contains, tool: pay, arguments: {path: tags, contains: gift}, action: warn}
  - {name: regex, tool: pay, arguments: {path: to.name, regex: "^mal"}, action: warn}
  - {name: gt, tool: pay, arguments: {path: sum, gt: 10}, action: warn}
  - {name: gte, tool: pay, arguments: {path: sum, gte: 10}, action: warn}
  - {name: lt, tool: pay, arguments: {path: sum, lt: 10}, action: warn}
  - {name: lte, tool: pay, arguments: {path: sum, lte: 10}, action: warn}
"""


@pytest.mark.parametrize(
    ("arguments", "action", "fired"),
    [
        (
            {"to": {"name": "eve"}, "sum": 10, "tags": ["gift"]},
            "require_approval",
            {"contains", "gte", "lte", "eve"},
        ),
        (
            {"to": {"name": "mallory"}, "sum": 11, "tags": []},
            "reject_execution",
            {"ne", "in", "regex", "gt", "gte"},
        ),
        (
            {"to": {"name": "bob"}, "sum": 9, "tags": []},
            "warn",
            {"ne", "not_in", "lt", "lte"},
        ),
    ],
)
def test_a_set_of_rules_decides_by_fields_and_a_denial_wins(
    api: Api, control: Platform, arguments: Any, action: str, fired: set[str]
) -> None:
    """S3-C6: put in force over REST, and asked in the order of their priority."""
    for text in (LATER, EARLIER):
        assert apply(api, text).status_code == 201
    facts = Facts(moment="call", tool="pay", arguments=arguments)
    with session.transaction(control.database) as connection:
        held = policies.governance(connection, "local", 2)
    found = judge.judge(held, facts, {}).verdicts
    assert {each.rule for each in found if each.rule in ("eve", *OPERATORS)} == fired
    assert [each.policy for each in found] == sorted(each.policy for each in found)
    strongest = verdicts.strongest(found)
    assert strongest is not None
    assert strongest.action == action


def test_a_policy_is_tried_on_a_run(api: Api, stranger: Api, control: Platform) -> None:
    platforms.register(control, "noop")
    run = platforms.submit(control, platforms.publish(control, dict(platforms.LINE)))
    body = {"policy": SPENDING, "run": run.run}
    response = api.post(f"{PLACE}/test", json=body)
    assert (response.status_code, response.json["moments"]) == (200, [])
    assert stranger.post(f"{PLACE}/test", json=body).status_code == 404
