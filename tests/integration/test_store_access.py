from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from engine.runs import access
from engine.runs.access import LOCAL, Principal
from engine.store import session

ADA = Principal(tenant="acme", user="ada", roles=frozenset({"editor", "approver"}))


@pytest.fixture
def control(database: str) -> Iterator[Engine]:
    engine = session.connect(database, role="celeriac_control")
    access.ensure_local(engine)
    with session.transaction(engine) as connection:
        connection.execute(text("INSERT INTO tenant (id, name) VALUES ('acme', 'Acme')"))
    yield engine
    engine.dispose()


@pytest.mark.parametrize(
    "token",
    [
        "",
        "clr_",
        "clr_0123456789abcdef",
        "clr_0123456789abcdef.",
        "clr_0123456789abcdef.short",
        "clr_0123456789abcdef." + "x" * 44,
        "clr_0123456789abcdef." + "x" * 43 + "\n",
        "clr_0123456789ABCDEF." + "x" * 43,
        "clr_0123456789abcdef." + "é" * 43,
        "clr_0123456789abcde\x00." + "x" * 43,
        "' OR true --",
        "clr_0123456789abcdef." + "x" * 43,
    ],
)
def test_a_token_that_is_none_stands_for_nobody(control: Engine, token: str) -> None:
    assert access.authenticate(control, token) is None


def test_the_right_id_with_a_wrong_secret_stands_for_nobody(control: Engine) -> None:
    token, other = (access.create_key(control, ADA) for _ in range(2))
    mixed = token.partition(".")[0] + "." + other.partition(".")[2]
    assert access.authenticate(control, mixed) is None
    assert access.authenticate(control, token[:-1] + ("a" if token[-1] != "a" else "b")) is None


def test_an_expired_key_stands_for_nobody(control: Engine) -> None:
    now = _ask(control, "SELECT clock_timestamp()")
    soon = _ask(control, "SELECT clock_timestamp() + interval '1 hour'")
    assert access.authenticate(control, access.create_key(control, ADA, expires_at=now)) is None
    assert access.authenticate(control, access.create_key(control, ADA, expires_at=soon)) == ADA


def test_a_token_stands_for_whom_it_was_made(control: Engine) -> None:
    token = access.create_key(control, ADA)
    assert access.authenticate(control, token) == ADA
    assert access.create_key(control, ADA) != token


def test_the_secret_is_not_in_the_database(control: Engine) -> None:
    secret = access.create_key(control, ADA).partition(".")[2]
    row = _ask(control, "SELECT row_to_json(api_key)::text FROM api_key")
    assert secret not in row
    assert secret.encode().hex() not in row


def test_the_local_tenant_is_made_once(control: Engine) -> None:
    access.ensure_local(control)
    assert _ask(control, "SELECT count(*) FROM tenant WHERE id = 'local'") == 1


def test_the_local_key_is_made_once_and_for_its_owner_alone(
    control: Engine, tmp_path: Path
) -> None:
    file = tmp_path / "keys" / "admin"
    access.ensure_local_admin(control, file)
    token = file.read_text().strip()
    assert access.authenticate(control, token) == LOCAL
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    file.chmod(0o644)
    access.ensure_local_admin(control, file)
    assert (file.read_text().strip(), file.stat().st_mode & 0o777) == (token, 0o600)
    assert [path.name for path in file.parent.iterdir()] == ["admin"]


@pytest.mark.parametrize("content", ["", "rubbish\n", "\xff", "clr_0123456789abcdef." + "x" * 43])
def test_a_file_without_its_key_gets_a_new_one_and_the_lost_key_ends(
    control: Engine, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "admin"
    access.ensure_local_admin(control, file)
    lost = file.read_text().strip()
    file.write_bytes(content.encode("latin-1"))
    access.ensure_local_admin(control, file)
    assert access.authenticate(control, lost) is None
    assert access.authenticate(control, file.read_text().strip()) == LOCAL


def test_a_deleted_file_gets_a_new_key_and_the_lost_one_ends(
    control: Engine, tmp_path: Path
) -> None:
    file = tmp_path / "admin"
    access.ensure_local_admin(control, file)
    lost = file.read_text().strip()
    file.unlink()
    access.ensure_local_admin(control, file)
    assert access.authenticate(control, lost) is None
    assert access.authenticate(control, file.read_text().strip()) == LOCAL


def test_a_key_of_somebody_else_in_the_file_is_replaced_and_stays_valid(
    control: Engine, tmp_path: Path
) -> None:
    file = tmp_path / "admin"
    theirs = access.create_key(control, ADA)
    file.write_text(theirs)
    access.ensure_local_admin(control, file)
    assert access.authenticate(control, file.read_text().strip()) == LOCAL
    assert access.authenticate(control, theirs) == ADA


def test_processes_that_start_together_agree_on_one_local_key(
    control: Engine, tmp_path: Path
) -> None:
    file, meeting = tmp_path / "admin", threading.Barrier(4)

    def start() -> None:
        meeting.wait(timeout=10)
        access.ensure_local_admin(control, file)

    racing = [threading.Thread(target=start) for _ in range(4)]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join(timeout=30)
    assert access.authenticate(control, file.read_text().strip()) == LOCAL
    assert _ask(control, "SELECT count(*) FROM api_key WHERE tenant_id = 'local'") == 1


def _ask(engine: Engine, statement: str) -> Any:
    with session.transaction(engine) as connection:
        return connection.execute(text(statement)).scalar_one()
