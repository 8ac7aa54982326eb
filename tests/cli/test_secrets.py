"""`celeriac secrets` and `celeriac capabilities`, against a real platform."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from celeriac.cli import main
from tests.cli.conftest import Shell

VALUE = "typed-4711-value"


@pytest.mark.parametrize("arguments", [[VALUE], [], ["-", VALUE], ["--value", VALUE]])
def test_a_value_is_never_an_argument(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["secrets", "put", "KEY", *arguments])
    assert result.exit_code == 2


def test_a_profile_is_an_object(tmp_path: Path) -> None:
    file = tmp_path / "profile.yaml"
    file.write_text("[secrets]")
    result = CliRunner().invoke(main, ["capabilities", "grant", "function:f", str(file)])
    assert result.exit_code == 2
    assert "a profile is an object" in result.stderr


def test_a_secret_is_put_listed_sealed_anew_and_deleted_and_never_shown(shell: Shell) -> None:
    refused = shell("secrets", "put", "KEY", "-", text="short")
    assert refused.exit_code == 1
    assert "6 characters at least" in refused.stderr
    told = [
        shell("secrets", "put", "KEY", "-", text=f"{VALUE}\n"),
        shell("secrets", "put", "KEY", "-", "--reason", "it leaked", text=f"{VALUE} anew"),
        shell("secrets", "put", "MODEL", "-", "--plain", text="m-1"),
        shell("secrets", "list"),
        shell("secrets", "list", "--versions", "KEY", "--json"),
        shell("secrets", "rotate"),
        shell("secrets", "delete", "KEY"),
    ]
    assert [result.exit_code for result in told] == [0] * 7, [result.output for result in told]
    assert not any(VALUE in result.output for result in told)
    assert told[0].stdout == "KEY, version 1\n"
    assert told[1].stdout == "KEY, version 2\n"
    assert "MODEL" in told[3].stdout
    assert [one["version"] for one in json.loads(told[4].stdout)] == [2, 1]
    assert told[5].stdout == "0 sealed anew with vault\n"
    assert told[6].stdout == "KEY is deleted\n"
    assert shell("secrets", "delete", "KEY").exit_code == 1


@pytest.mark.usefixtures("functions")
def test_capabilities_are_granted_shown_listed_and_revoked(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "profile.yaml"
    file.write_text("modules: [os]\nhosts: [nowhere]")
    refused = shell("capabilities", "grant", "function:nap", str(file))
    assert refused.exit_code == 1
    assert "profile.modules[0]: os is never allowed" in refused.stderr
    assert "profile.hosts[0]" in refused.stderr
    profile = "hosts: [https://api.example.com]\nsecrets: [KEY]"
    granted = shell("capabilities", "grant", "function:nap", "-", text=profile)
    assert granted.exit_code == 0, granted.output
    lines = "function:nap\n  hosts: https://api.example.com:443\n  secrets: KEY\n"
    assert granted.stdout == lines
    assert shell("capabilities", "show", "function:nap@1").stdout == lines
    listed = shell("capabilities", "list", "--json")
    assert [one["subject"] for one in json.loads(listed.stdout)] == ["function:nap"]
    assert "hosts, secrets" in shell("capabilities", "list").stdout
    assert shell("capabilities", "revoke", "function:nap").exit_code == 0
    assert shell("capabilities", "show", "function:nap").exit_code == 1
