from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from celeriac.cli import main
from celeriac.cli.commands import SECTIONS
from engine.errors import Conflict, Unavailable

NAMES = [name for section in SECTIONS.values() for name in section]
#: Costs too much to be imported for a page of help.
HEAVY = (
    "alembic",
    "celery",
    "engine.settings",
    "flask",
    "httpx2",
    "psycopg2",
    "rich",
    "sqlalchemy",
)


def test_an_unknown_command_is_wrong_usage() -> None:
    result = CliRunner().invoke(main, ["review"])

    assert result.exit_code == 2
    assert "No such command 'review'" in result.stderr
    assert result.stdout == ""


def test_an_unknown_option_is_wrong_usage() -> None:
    result = CliRunner().invoke(main, ["version", "--colour"])

    assert result.exit_code == 2
    assert "No such option" in result.stderr


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (Conflict("it has ended"), 1, "Error: it has ended\n"),
        (Unavailable("nobody answers"), 3, "Error: nobody answers\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_told_without_a_traceback(
    raised: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def version() -> None:
        raise raised

    monkeypatch.setattr("celeriac.cli.version.version", version)

    result = CliRunner().invoke(main, ["version"])

    assert result.exit_code == code
    assert result.stderr == said


def test_settings_that_cannot_be_used_are_wrong_usage_and_all_named() -> None:
    wrong = {"DATABASE_URL": "mysql://x", "CELERIAC_PORT": "http"}

    result = CliRunner().invoke(main, ["down"], env=wrong)

    assert result.exit_code == 2
    assert "DATABASE_URL: " in result.stderr
    assert "CELERIAC_PORT: " in result.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_command_says_of_itself_what_the_list_says(name: str) -> None:
    listed = next(section[name].help for section in SECTIONS.values() if name in section)
    command = main.get_command(click.Context(main), name)

    assert command is not None
    assert command.name == name
    assert (command.help or "").partition("\n")[0] == listed


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_a_page_of_help(name: str) -> None:
    result = CliRunner().invoke(main, [name, "-h"])

    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: main {name}")


def test_help_names_every_command_and_the_exit_codes() -> None:
    result = CliRunner().invoke(main, ["--help"])

    assert result.exit_code == 0
    assert all(f"  {name} " in result.stdout for name in NAMES)
    assert "3 not reachable" in result.stdout.replace("\n  ", " ")


def test_help_imports_nothing_that_takes_long() -> None:
    code = (
        "import sys; from celeriac.cli import main; main(['--help'], standalone_mode=False);"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr.strip() == ""


@pytest.mark.parametrize(
    ("name", "unneeded"),
    [("worker", ["alembic", "flask"]), ("web", ["alembic", "celeriac.embedded"])],
)
def test_a_process_imports_what_it_needs_alone(name: str, unneeded: list[str]) -> None:
    code = (
        "import sys; from celeriac.cli import main;"
        f"main([{name!r}, '--help'], standalone_mode=False);"
        f"print(*[name for name in {unneeded!r} if name in sys.modules], file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr.strip() == ""


def test_the_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(main, ["version"])

    assert result.stdout.startswith("celeriac 0.")
