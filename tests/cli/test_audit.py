from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from celeriac.cli import main
from engine import signing
from engine.runs import control
from engine.settings import Settings
from engine.signing import SigningKeys
from tests.support import platforms
from tests.support.platforms import LINE, TENANT, as_owner, publish, register, sql, submit

KEYS = SigningKeys(keys=(signing.generate("test"),))


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """A fleet with a signed audit, in which one run was cancelled and one goes on."""
    signed = replace(settings, audit_keys=KEYS, anchor_url=(tmp_path / "anchors").as_uri())
    with platforms.platform(signed) as platform:
        register(platform, "noop")
        version = publish(platform, dict(LINE))
        control.cancel(platform, submit(platform, version, n=1), by="=eve", reason="+1")
        submit(platform, version)
    return signed


def run(settings: Settings, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["audit", *arguments], env=settings.to_environment())


def ended(settings: Settings) -> str:
    with platforms.platform(settings) as platform:
        (row,) = sql(platform, "SELECT id::text FROM run WHERE finished_at IS NOT NULL")
    return str(row.id)


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "--keys", "nonsense"),
        ("verify", "--keys", "a:public:c2hvcnQ="),
        ("verify", "--anchors", "folder"),
        ("export", "--since", "yesterday"),
        ("export", "--format", "xml"),
        ("shred", "x"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_told(settings: Settings, arguments: tuple[str, ...]) -> None:
    assert run(settings, *arguments).exit_code == 2


def test_a_run_that_there_is_not_is_told(settings: Settings) -> None:
    unknown = str(uuid4())
    for arguments in (("verify", "--run", unknown), ("shred", unknown, "--why", "x")):
        result = run(settings, *arguments)
        assert (result.exit_code, unknown in result.stderr) == (1, True)


def test_verifying_says_what_is_promised_and_what_is_not(settings: Settings) -> None:
    before = run(settings, "verify")
    assert before.exit_code == 0
    assert "nothing is anchored yet" in before.stdout
    assert "of 2 runs" in before.stdout
    assert run(settings, "seal").exit_code == 0
    after = run(settings, "verify")
    assert after.exit_code == 0
    assert "not anchored yet" not in after.stdout
    assert "nothing was altered, moved or removed up to " in after.stdout
    (told,) = json.loads(run(settings, "verify", "--json").stdout)
    assert (told["sound"], told["faults"], told["copies"]) == (True, [], 1)


def test_what_was_altered_is_named_with_a_public_half_alone(
    settings: Settings, tmp_path: Path
) -> None:
    run(settings, "seal")
    keys = run(settings, "keys").stdout.strip()
    assert keys == KEYS.verifying().text()
    elsewhere = replace(settings, audit_keys=SigningKeys(), anchor_url=None)
    options = ("verify", "--keys", keys, "--anchors", (tmp_path / "anchors").as_uri())
    assert run(elsewhere, *options).exit_code == 0
    as_owner(settings, "UPDATE anchor SET at = at - interval '1 day'")
    as_owner(settings, "UPDATE history SET kind = 'Woke' WHERE seq = 2")
    result = run(elsewhere, *options)
    assert result.exit_code == 1
    for told in ("is not what the key 'test' has signed", "not what its copy outside says"):
        assert told in result.stdout
    assert re.search(rf"history +{ended(settings)} +2 +was altered", result.stdout)


def test_everything_is_exported_as_json_and_csv(settings: Settings) -> None:
    lines = [json.loads(line) for line in run(settings, "export").stdout.splitlines()]
    result = run(settings, "export", "--format", "csv")
    rows = [*csv.DictReader(io.StringIO(result.stdout, newline=""))]
    assert len(rows) == len(lines) > 5
    assert [row["hash"] for row in rows] == [line["hash"] or "" for line in lines]
    (cancelled,) = (row for row in rows if row["action"] == "CancelRequested")
    assert (cancelled["by"], cancelled["why"]) == ("'=eve", "'+1")
    run_id = ended(settings)
    chosen = run(settings, "export", "--run", run_id, "--action", "CancelRequested", "--by", "=eve")
    assert [json.loads(line)["run"] for line in chosen.stdout.splitlines()] == [run_id]
    assert run(settings, "export", "--until", "2020-01-01").stdout == ""
    assert run(settings, "export", "--tenant", "other").stdout == ""


def test_an_ended_run_is_shredded(settings: Settings) -> None:
    run(settings, "seal")
    result = run(settings, "shred", ended(settings), "--why", "asked to", "--tenant", TENANT)
    assert (result.exit_code, "1 payloads" in result.stderr) == (0, True)
    verified = run(settings, "verify", "--tenant", TENANT)
    assert verified.exit_code == 0
    assert "1 payloads were shredded, as acts say" in verified.stdout
