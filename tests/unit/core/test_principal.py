from __future__ import annotations

import pytest

from engine.core import principal
from engine.core.principal import LOCAL, ROLES, Principal


def who(*roles: str, permissions: set[str] = frozenset(), scopes: set[str] | None = None):
    return Principal(
        tenant="acme",
        user="ada",
        roles=frozenset(roles),
        permissions=frozenset(permissions),
        scopes=None if scopes is None else frozenset(scopes),
    )


def test_each_role_holds_what_is_said_of_it():
    assert ROLES["viewer"] == {"run:read", "definition:read", "usage:read"}
    assert ROLES["operator"] - ROLES["viewer"] == {
        "run:start",
        "run:control",
        "event:send",
        "audit:read",
        "audit:verify",
        "policy:read",
    }
    assert ROLES["editor"] - ROLES["operator"] == {"definition:write"}
    assert ROLES["approver"] - ROLES["viewer"] == {"approval:answer"}
    assert ROLES["admin"] == {"*"}


@pytest.mark.parametrize(
    ("held", "wanted", "enough"),
    [
        ({"run:read"}, "run:read", True),
        ({"run:read"}, "run:start", False),
        ({"run:*"}, "run:start", True),
        ({"run:*"}, "running:start", False),
        ({"run:*"}, "run:*", True),
        ({"run:read", "run:start"}, "run:*", False),
        ({"*"}, "whatever:else", True),
        ({"*"}, "*", True),
        ({"run:*"}, "*", False),
        (set(), "run:read", False),
    ],
)
def test_what_is_held_covers_what_is_asked(held, wanted, enough):
    assert principal.covers(held, wanted) is enough


def test_a_team_brings_nothing():
    assert not who("finance").may("run:read")
    assert who("finance", permissions={"read:documents"}).may("read:documents")


def test_scopes_only_narrow():
    assert who("viewer", scopes={"run:read"}).may("run:read")
    assert not who("viewer", scopes={"run:read"}).may("definition:read")
    assert not who("viewer", scopes={"run:*", "*"}).may("run:start")
    assert not who("admin", scopes=set()).may("run:read")
    assert who("admin", scopes={"run:*"}).may("run:start")


def test_nobody_grants_what_he_does_not_hold():
    assert who("admin").may_grant({"admin", "finance"}, {"read:documents"})
    assert not who("admin", scopes={"user:write"}).may_grant({"viewer"}, ())
    assert who("editor").may_grant({"editor"}, {"run:read"})
    assert not who("editor").may_grant({"operator"}, ())
    assert not who("editor").may_grant((), {"approval:answer"})
    assert not who("editor").may_grant({"admin"}, ())
    assert who().may_grant((), ())


def test_who_somebody_is_does_not_depend_on_his_credential():
    assert who("viewer") == who("viewer")
    key = Principal(tenant="acme", user="ada", roles=frozenset({"viewer"}), credential="key:1")
    assert key == who("viewer")
    assert LOCAL.may("*")


@pytest.mark.parametrize("text", ["*", "run:read", "run:*", "read:documents", "a.b-c_1:x"])
def test_a_permission_is_noun_and_verb(text):
    assert principal.is_permission(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "run",
        "run:",
        ":read",
        "*:read",
        "run:read:all",
        "Run:read",
        "run:read\n",
        "r" * 101 + ":x",
    ],
)
def test_what_is_neither_is_none(text):
    assert not principal.is_permission(text)
