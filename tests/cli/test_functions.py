from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import SOURCES, Shell

TWICE = '''
def twice(n: int, times: int = 2) -> int:
    """Multiply."""
    return n * times
'''


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os\ndef f(state): return state\n", "Import statements are not allowed"),
        ("def f(state:\n", "code: "),
        ("x = 1\n", "code: "),
    ],
)
def test_source_that_is_refused_says_why(shell: Shell, source: str, said: str) -> None:
    result = shell("register", "function", "-", "--name", "f", text=source)

    assert result.exit_code == 1
    assert said in result.stderr


def test_a_file_that_is_no_text_is_wrong_usage(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    file.write_bytes(b"\xff")

    result = shell("register", "tool", str(file))

    assert result.exit_code == 2
    assert "is not UTF-8 at byte 0" in result.stderr


def test_a_function_is_registered_under_its_own_name(shell: Shell) -> None:
    result = shell("register", "function", "-", text=SOURCES["increment"])

    assert result.exit_code == 0
    assert result.stdout.startswith("increment@")
    listed = json.loads(shell("functions", "--json").stdout)
    (increment,) = [each for each in listed if each["name"] == "increment"]
    assert increment["description"] == "Add one to n."


def test_a_tool_is_registered_with_its_effect(shell: Shell) -> None:
    result = shell(
        "register", "tool", "-", "--name", "twice", "--effect", "idempotent", "--json", text=TWICE
    )

    assert json.loads(result.stdout)["effect"] == "idempotent"
    (row,) = [row for row in shell("tools").stdout.splitlines() if row.startswith("twice")]
    assert "n, [times]" in row
    assert "Multiply." in row


def test_a_tool_is_registered_on_terms_and_told_how_to_stand(shell: Shell, tmp_path: Path) -> None:
    terms = tmp_path / "terms.yaml"
    terms.write_text("cost_estimate_usd: -1\n")
    register = ("register", "tool", "-", "--name", "thrice", "--terms", str(terms), "--json")
    refused = shell(*register, text=TWICE)
    assert (refused.exit_code, "cost_estimate_usd" in refused.stderr) == (1, True)
    terms.write_text("cost_estimate_usd: 0.01\nparameters: {n: {type: integer}}\n")

    made = json.loads(shell(*register, text=TWICE).stdout)
    stood = shell("stand", "thrice", "deprecated", "--tag", "math", "--reason", "use twice")

    assert (made["cost_estimate_usd"], made["parameters"]["required"]) == (0.01, ["n"])
    assert stood.exit_code == 0
    (found,) = [t for t in json.loads(shell("tools", "--json").stdout) if t["name"] == "thrice"]
    assert (found["status"], found["tags"]) == ("deprecated", ["math"])


def test_the_versions_of_a_workflow_are_listed(shell: Shell, tmp_path: Path) -> None:
    shell("register", "function", "-", text=SOURCES["increment"])
    file = tmp_path / "twofold.yaml"
    for text in ("edges: [a -> end]", "edges: [a -> b -> end]"):
        nodes = "  a: {uses: increment}\n" + ("  b: {uses: increment}\n" if "b" in text else "")
        file.write_text(f"workflow: twofold\nnodes:\n{nodes}{text}\n")
        assert shell("run", str(file), "--no-wait").exit_code == 0

    assert "twofold" in shell("graphs").stdout
    versions = json.loads(shell("graphs", "twofold", "--json").stdout)
    assert [version["version"] for version in versions] == ["1.0.1", "1.0.0"]


# --- services ---------------------------------------------------------------------------------

SERVICE = """
name: rates
kind: http
description: Exchange rates.
config: {hosts: [https://rates.example.com], auth: {bearer: $env.TOKEN}}
rate_per_minute: 60
"""


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("[]", 1, "it is no object"),
        ("kind: http", 1, "config"),
        ("name: [", 1, ""),
        (SERVICE.replace("http\n", "htp\n"), 1, "there is no kind 'htp'"),
        (SERVICE.replace("https://", "ftp://"), 1, "config.hosts[0]"),
        (SERVICE + "colour: blue\n", 1, "colour"),
        (SERVICE + "parameters: {a: {type: string}}\n", 1, "parameters"),
    ],
)
def test_a_service_that_is_refused_says_why(shell: Shell, text: str, code: int, said: str) -> None:
    result = shell("register", "service", "-", text=text)

    assert result.exit_code == code
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_service_is_registered_from_its_document(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "rates.yaml"
    file.write_text(SERVICE)

    assert shell("register", "service", str(file)).stdout.startswith("rates@")
    again = json.loads(shell("register", "service", str(file), "--json").stdout)
    assert again["version"] == 1
    assert again["service"]["config"]["auth"] == {"bearer": "$env.TOKEN"}
    (row,) = [row for row in shell("tools").stdout.splitlines() if row.startswith("rates")]
    assert "http" in row


def test_syncing_what_is_no_server_says_so(shell: Shell) -> None:
    assert shell("register", "service", "-", text=SERVICE).exit_code == 0

    for name, said in (("rates", "no server of tools"), ("nobody", "not found")):
        result = shell("services", "sync", name)
        assert result.exit_code == 1
        assert said in result.stderr
        assert result.stdout == ""


def test_syncing_a_server_that_may_not_be_reached_says_so(shell: Shell) -> None:
    text = "name: inner\nkind: mcp\nconfig: {url: 'http://169.254.169.254/mcp'}\n"
    assert shell("register", "service", "-", text=text).exit_code == 0

    result = shell("services", "sync", "inner")

    assert result.exit_code == 1
    assert "may not be reached" in result.stderr
