from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
from click.testing import CliRunner, Result

import migrations
from celeriac.cli import main
from engine.platform import DatabaseRole, build
from engine.runs import access
from engine.settings import Settings


def run(settings: Settings, *arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env=settings.to_environment())


@pytest.mark.parametrize(
    "arguments", [("db", "upgrade"), ("db", "current"), ("doctor",)], ids=" ".join
)
def test_a_database_that_is_away_is_not_reachable(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    nowhere = Settings(
        database_url=f"postgresql+psycopg2://x@/x?host={tmp_path}",
        broker_url="redis+socket:///nowhere",
        blob_url="memory:///",
        home=tmp_path,
    )

    result = run(nowhere, *arguments)

    assert result.exit_code == 3
    assert result.stderr.startswith("Error: the database ")
    assert str(tmp_path) in result.stderr


def test_an_upgrade_prepares_an_empty_database(settings: Settings) -> None:
    assert settings.database_url is not None
    migrations.downgrade(settings.database_url)

    assert json.loads(run(settings, "db", "current", "--json").stdout)["current"] is None
    result = run(settings, "db", "upgrade")

    assert result.exit_code == 0
    assert run(settings, "db", "current").stdout == f"{migrations.head()}\n"
    with closing(build(settings, DatabaseRole.CONTROL, connections=1)) as platform:
        key = (settings.home / "admin.key").read_text().strip()
        assert access.authenticate(platform.database, key) == access.LOCAL


def test_an_upgrade_that_is_done_again_keeps_the_key(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "key"
    run(settings, "db", "upgrade", "--key-file", str(file))
    first = file.read_text()

    result = run(settings, "db", "upgrade", "--key-file", str(file))

    assert result.exit_code == 0
    assert file.read_text() == first
    assert str(file) in result.stderr


def test_a_library_that_cannot_be_imported_is_told(settings: Settings) -> None:
    result = run(replace(settings, libraries=("no_such_library",)), "db", "upgrade")

    assert result.exit_code == 1
    assert "no_such_library" in result.stderr


def test_the_doctor_names_what_does_not_hold(settings: Settings) -> None:
    run(settings, "db", "upgrade")
    _plant_a_run_without_history(settings)

    result = run(settings, "doctor")

    assert result.exit_code == 1
    assert _RUN in result.stdout
    findings = json.loads(run(settings, "doctor", "--json").stdout)["findings"]
    assert {finding["run"] for finding in findings} == {_RUN}


def test_the_doctor_says_that_everything_holds(settings: Settings) -> None:
    assert run(settings, "doctor").stdout == "Everything holds.\n"
    assert json.loads(run(settings, "doctor", "--json").stdout) == {"findings": []}


_RUN = "01890000-0000-7000-8000-000000000000"


def _plant_a_run_without_history(settings: Settings) -> None:
    assert settings.database_url is not None
    dsn = settings.database_url.replace("+psycopg2", "")
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO run (tenant_id, id, root, version_id, submitted_by, status, rules, seq)"
            " SELECT tenant_id, %s, %s, id, 'ada', 'running', 1, 3 FROM workflow_version LIMIT 1",
            (_RUN, _RUN),
        )
