"""`celeriac me`, `user`, `key`, `tenant`."""

from __future__ import annotations

import json

from click.testing import CliRunner, Result

from celeriac.cli import main
from engine.settings import Settings
from tests.cli.conftest import Shell


def test_a_user_gets_a_key_and_can_do_what_his_role_brings(shell: Shell) -> None:
    made = shell("user", "create", "cli-ada", "--role", "viewer", "--permission", "read:documents")
    assert (made.exit_code, made.stdout) == (0, "cli-ada: viewer, read:documents\n"), made.stderr
    key = shell("key", "create", "laptop", "--user", "cli-ada", "--days", "30")
    assert key.exit_code == 0
    token = key.stdout.strip()
    assert "not shown again" in key.stderr

    me = shell("me", CELERIAC_API_KEY=token)
    assert me.stdout.startswith("cli-ada of local, by key:")
    assert shell("runs", CELERIAC_API_KEY=token).exit_code == 0
    refused = shell("cancel", "01975c3e-0000-7000-8000-000000000001", CELERIAC_API_KEY=token)
    assert (refused.exit_code, "run:control" in refused.stderr) == (1, True)
    listed = json.loads(shell("key", "list", "--user", "cli-ada", "--json").stdout)
    assert [(each["name"], each["token"]) for each in listed] == [("laptop", None)]

    fresh = json.loads(shell("key", "rotate", listed[0]["id"], "--json").stdout)
    assert shell("me", CELERIAC_API_KEY=token).exit_code == 2
    assert shell("me", CELERIAC_API_KEY=fresh["token"]).exit_code == 0
    ended = shell("key", "revoke", fresh["id"], "--why", "lost")
    assert ended.stdout == f"{fresh['id']} (laptop of cli-ada) is revoked\n"
    assert shell("me", CELERIAC_API_KEY=fresh["token"]).exit_code == 2


def test_a_user_is_changed_and_listed(shell: Shell) -> None:
    shell("user", "create", "cli-ben")
    assert shell("user", "create", "cli-ben").exit_code == 1
    assert shell("user", "change", "cli-ben", "--role", "a", "--no-roles").exit_code == 2
    changed = shell("user", "change", "cli-ben", "--role", "operator", "--inactive")
    assert changed.stdout == "cli-ben (inactive): operator\n"
    assert (
        shell("user", "change", "cli-ben", "--no-roles", "--active").stdout == "cli-ben: nothing\n"
    )
    listed = {user["id"]: user for user in json.loads(shell("user", "list", "--json").stdout)}
    assert (listed["cli-ben"]["roles"], listed["cli-ben"]["active"]) == ([], True)
    assert "cli-ben" in shell("user", "list").stdout


def test_an_operator_makes_tenants_with_the_database_at_hand(settings: Settings) -> None:
    assert _run(settings, "tenant", "create", "Acme GmbH").exit_code == 1
    made = _run(settings, "tenant", "create", "acme", "--name", "Acme", "--admin", "ann")
    assert made.exit_code == 0, made.stderr
    assert made.stdout.startswith("clr_")
    again = _run(settings, "tenant", "create", "acme")
    assert (again.exit_code, "already" in again.stderr) == (1, True)
    assert [
        each["id"] for each in json.loads(_run(settings, "tenant", "list", "--json").stdout)
    ] == ["acme"]
    assert _run(settings, "tenant", "admit", "nowhere", "eve").exit_code == 1
    rescued = _run(settings, "tenant", "admit", "acme", "eve", "--why", "ann has left")
    assert (rescued.exit_code, rescued.stdout[:4]) == (0, "clr_")
    assert "There were none." in _run(settings, "tenant", "strangers").stderr


def _run(settings: Settings, *arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env=settings.to_environment())
