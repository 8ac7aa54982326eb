"""Agents as commands, typed as anybody would, to a platform of real processes."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Shell
from tests.support.services import ROOT

LIBRARY = ROOT / "examples" / "agents" / "library.json"


@pytest.fixture(scope="session")
def library(shell: Shell) -> None:
    """The example's agents."""
    result = shell("agent", "import", str(LIBRARY))
    assert result.exit_code == 0, result.output


def written(folder: Path, **agents: Any) -> str:
    file = folder / "agents.json"
    file.write_text(json.dumps({"agents": agents}))
    return str(file)


def template(prompt: str, *inputs: str) -> Mapping[str, Any]:
    return {"type": "template", "prompt": prompt, "inputs": [*inputs], "outputs": ["out"]}


# --- what does not work -----------------------------------------------------------------------


@pytest.mark.usefixtures("library")
def test_an_input_that_is_missing_is_wrong_usage_and_usage_is_told(shell: Shell) -> None:
    result = shell("agent", "greet")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage:" in result.stderr
    assert "Missing option '--name'" in result.stderr


@pytest.mark.usefixtures("library")
def test_a_flag_that_no_input_stands_behind_is_wrong_usage(shell: Shell) -> None:
    for flags in (("--name", "x", "--colour", "red"), ("--name", "x", "--dryrun")):
        result = shell("agent", "greet", *flags)
        assert result.exit_code == 2
        assert "No such option" in result.stderr


@pytest.mark.usefixtures("library")
def test_an_agent_that_fails_says_why_on_stderr(shell: Shell) -> None:
    result = shell("agent", "fail", "--reason", "disk full")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: fail: disk full" in result.stderr


def test_an_agent_that_is_not_there_is_named(shell: Shell) -> None:
    result = shell("agent", "nobody")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Agent not found: nobody" in result.stderr


def test_without_a_platform_nothing_is_run(shell: Shell) -> None:
    result = shell("agent", "greet", CELERIAC_URL="http://127.0.0.1:9")
    assert result.exit_code == 3


@pytest.mark.usefixtures("library")
def test_stdin_can_be_given_once(shell: Shell) -> None:
    result = shell("agent", "greet", "--name", "-", "--greeting", "-", text="x")
    assert result.exit_code == 2
    assert "stdin can be given once" in result.stderr


def test_what_cannot_be_entered_is_told_with_its_place(shell: Shell, tmp_path: Path) -> None:
    for text, said in {
        "{": "not JSON",
        "[]": "there are no agents in it",
        '{"agents": {"a": {"type": "template", "inputs": []}}}': "agents.a.prompt: the agent has no",
    }.items():
        file = tmp_path / "a.json"
        file.write_text(text)
        result = shell("agent", "import", str(file))
        assert result.exit_code == 1
        assert said in result.stderr
    assert shell("agent", "import", str(tmp_path / "gone.json")).exit_code == 2


# --- what does --------------------------------------------------------------------------------


@pytest.mark.usefixtures("library")
def test_flags_are_those_of_the_definition_and_help_is_its_own(shell: Shell) -> None:
    told = shell("agent", "greet", "--help").stdout
    for line in ("Greet somebody", "--name VALUE", "Whom to greet  [required]", "--greeting VALUE"):
        assert line in told
    result = shell("agent", "greet", "--name", "Ada", "--greeting", "Hello")
    assert result.exit_code == 0
    assert result.stdout == 'Hello Ada, {"and": "{nobody}"}'


@pytest.mark.usefixtures("library")
def test_the_published_loop_gives_the_published_output(shell: Shell) -> None:
    assert shell("agent", "loop_test", "--loop_max", "3").stdout == "3"
    told = json.loads(shell("agent", "loop_test", "--loop_max", "3", "--json").stdout)
    assert told == {"loop_idx_1": 3}


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("text", ["007", "1e3", "1.0", "true", "null", "é", "a\nb", '"x"', "[ 1]"])
def test_what_is_typed_is_what_is_given(shell: Shell, text: str) -> None:
    expected = "" if text == "null" else "x" if text == '"x"' else text
    assert shell("agent", "echo", "--input", text).stdout == expected
    assert shell("agent", "echo", "--input", "-", text=text).stdout == text


@pytest.mark.usefixtures("library")
def test_bytes_go_in_and_come_out_as_they_are(shell: Shell) -> None:
    data = random.Random(5).randbytes(5 * 1024 * 1024)
    coded = shell("agent", "encode_base64", "--data", "-", text=data)
    assert coded.exit_code == 0, coded.stderr
    back = shell("agent", "decode_base64", "--data", "-", text=coded.stdout_bytes)
    assert back.exit_code == 0, back.stderr
    assert back.stdout_bytes == data


def test_what_an_agent_prints_goes_to_stderr(shell: Shell, tmp_path: Path) -> None:
    code = "def talk(output):\n    print('working')\n    return 'done'"
    talks = {"type": "proc", "function": "talk", "function_def": code, "outputs": ["said"]}
    assert shell("agent", "import", written(tmp_path, talk=talks)).exit_code == 0
    result = shell("agent", "talk")
    assert (result.stdout, result.stderr) == ("done", "working\n")


def test_an_agent_is_a_command_as_soon_as_it_is_entered(shell: Shell, tmp_path: Path) -> None:
    first = shell("agent", "import", written(tmp_path, fresh=template("one {x}", "x")))
    assert first.stdout == "fresh@1.0\n"
    assert shell("agent", "fresh", "--x", "1").stdout == "one 1"
    second = shell("agent", "import", written(tmp_path, fresh=template("two {y}", "y")))
    assert second.stdout == "fresh@2.0\n"
    assert shell("agent", "fresh", "--y", "1").stdout == "two 1"
    assert shell("agent", "fresh@1", "--x", "1").stdout == "one 1"
    again = shell("agent", "import", written(tmp_path, fresh=template("two {y}", "y")))
    assert again.stdout == "fresh@2.0  unchanged\n"
    told = [
        each["version"] for each in json.loads(shell("agent", "versions", "fresh", "--json").stdout)
    ]
    assert told == ["2.0", "1.0"]
    assert "2.0" in shell("agent", "versions", "fresh").stdout


def test_a_folder_of_files_is_entered_as_one(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "inner.json").write_text(json.dumps(template("in {x}", "x")))
    calls = {"agent": "inner", "params": {"x": 1}, "output": ["out"]}
    outer = {"type": "workflow", "inputs": [], "outputs": ["out"], "steps": [calls]}
    written(tmp_path, outer=outer)
    assert shell("agent", "import", str(tmp_path)).stdout == "inner@1.0\nouter@1.0\n"
    assert shell("agent", "outer").stdout == "in 1"
    (tmp_path / "inner.json").write_text(json.dumps(template("twice")))
    assert "inner is in another file as well" in shell("agent", "import", str(tmp_path)).stderr
    (tmp_path / "empty").mkdir()
    assert shell("agent", "import", str(tmp_path / "empty")).exit_code == 1


def test_agents_are_listed_shown_renamed_and_deleted(shell: Shell, tmp_path: Path) -> None:
    calls = {"agent": "used", "params": {"x": 1}, "output": ["out"]}
    user = {"type": "workflow", "inputs": [], "outputs": ["out"], "steps": [calls]}
    used = {**template("{x}", "x"), "help": "Say x.\nMore."}
    shell("agent", "import", written(tmp_path, used=used, user=user))
    for arguments in (("agent",), ("agent", "list")):
        (row,) = [
            line for line in shell(*arguments).stdout.splitlines() if line.startswith("used ")
        ]
        assert row.split() == ["used", "1.0", "template", "x", "out", "Say", "x."]
    assert "used" in {each["name"] for each in json.loads(shell("agent", "list", "--json").stdout)}
    assert json.loads(shell("agent", "show", "used").stdout) == {"agents": {"used": used}}
    result = shell("agent", "delete", "used")
    assert result.exit_code == 1
    assert "used is used by user; change or remove them first" in result.stderr
    assert shell("agent", "rename", "used", "said").stdout == "said@1.0\nuser@1.1\n"
    assert shell("agent", "user").stdout == "1"
    assert shell("agent", "delete", "user", "--reason", "tidying").exit_code == 0
    assert shell("agent", "delete", "said").exit_code == 0
    assert shell("agent", "show", "said").exit_code == 1


@pytest.mark.usefixtures("library")
def test_a_shell_completes_names_and_flags(shell: Shell) -> None:
    def completed(*words: str) -> list[str]:
        typed = " ".join(("celeriac", *words))
        asked = {"COMP_WORDS": typed, "COMP_CWORD": str(len(words))}
        # The runner's name for the command.
        result = shell(_MAIN_COMPLETE="bash_complete", **asked)
        return [line.partition(",")[2] for line in result.stdout.splitlines()]

    assert "encode_base64" in completed("agent", "enc")
    assert completed("agent", "greet", "--gr") == ["--greeting"]
    assert completed("agent", "nobody", "--x") == [""]
    for shell_name in ("bash", "zsh", "fish"):
        script = shell("completion", shell_name).stdout
        assert "_CELERIAC_COMPLETE" in script
    assert shell("completion", "tcsh").exit_code == 2
