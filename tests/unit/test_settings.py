from __future__ import annotations

import base64
from pathlib import Path

import pytest

from engine.settings import Folder, Settings, SettingsError

FLEET = {"DATABASE_URL": "postgresql://db/celeriac", "BROKER_URL": "redis://broker:6379/0"}


def problems(environment: dict[str, str]) -> dict[str, str]:
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment(environment)
    return {problem.path: problem.message for problem in raised.value.problems}


def test_every_problem_is_reported_together() -> None:
    found = problems(
        {
            "DATABASE_URL": "mysql://root:hush@db/x",
            "BROKER_URL": "somewhere",
            "BLOB_URL": "ftp://host/folder",
            "CELERIAC_BLOB_KEYS": "2026:hush",
            "CELERIAC_SECRET_KEYS": "2026:hush",
            "CELERIAC_PRIVATE_HOSTS": "10.0.0.0/8, localhost",
            "CELERIAC_VALUE_BYTES": "1048575",
            "CELERIAC_SANDBOX_BYTES": "lots",
            "CELERIAC_SANDBOX": "strong",
            "CELERIAC_SANDBOX_MINIMUM": "auto",
            "CELERIAC_SANDBOX_FOLDERS": "/srv/in,srv/out",
            "CELERIAC_LEASE_SECONDS": "soon",
            "CELERIAC_SWEEP_SECONDS": "0",
            "CELERIAC_STREAMS": "0",
            "CELERIAC_PORT": "65536",
            "CELERIAC_CONCURRENCY": "many",
            "CELERIAC_ANONYMOUS": "yes",
            "CELERIAC_LIBRARIES": "fine.module,not-a-module",
            "CELERIAC_LOG_LEVEL": "loud",
        }
    )
    assert found.keys() == {
        "DATABASE_URL",
        "BROKER_URL",
        "BLOB_URL",
        "CELERIAC_BLOB_KEYS",
        "CELERIAC_SECRET_KEYS",
        "CELERIAC_PRIVATE_HOSTS",
        "CELERIAC_VALUE_BYTES",
        "CELERIAC_SANDBOX_BYTES",
        "CELERIAC_SANDBOX",
        "CELERIAC_SANDBOX_MINIMUM",
        "CELERIAC_SANDBOX_FOLDERS",
        "CELERIAC_LEASE_SECONDS",
        "CELERIAC_SWEEP_SECONDS",
        "CELERIAC_STREAMS",
        "CELERIAC_PORT",
        "CELERIAC_CONCURRENCY",
        "CELERIAC_ANONYMOUS",
        "CELERIAC_LIBRARIES",
        "CELERIAC_LOG_LEVEL",
    }
    assert "not-a-module" in found["CELERIAC_LIBRARIES"]
    assert "hush" not in found["CELERIAC_BLOB_KEYS"] + found["CELERIAC_SECRET_KEYS"]
    assert "auto, limits, landlock, seccomp, portable, full" in found["CELERIAC_SANDBOX"]
    assert "'srv/out'" in found["CELERIAC_SANDBOX_FOLDERS"]


@pytest.mark.parametrize("name", ["CELERIAC_LEASE_SECONDS", "CELERIAC_WAIT_SECONDS"])
@pytest.mark.parametrize("text", ["-1", "0", "nan", "inf", "86401", "1e400", "1\x00"])
def test_a_duration_that_no_clock_can_keep_is_refused(name: str, text: str) -> None:
    assert name in problems({name: text})


def test_a_password_never_shows_in_a_problem_or_in_the_settings_text() -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({"DATABASE_URL": "mysql://root:hush@db/x", "BROKER_URL": "hush"})
    assert "hush" not in str(raised.value)
    settings = Settings.from_environment({**FLEET, "DATABASE_URL": "postgres://app:hush@db/x"})
    assert "hush" not in repr(settings)


@pytest.mark.parametrize("text", ["/", "here", "/srv:read", "/srv:write:write", ":write"])
def test_a_folder_that_cannot_be_opened_to_code_is_refused(text: str) -> None:
    assert "CELERIAC_SANDBOX_FOLDERS" in problems({"CELERIAC_SANDBOX_FOLDERS": text})


def test_walls_are_the_strongest_and_portable_at_least_unless_it_is_said_otherwise() -> None:
    settings = Settings.from_environment({})
    assert (settings.sandbox, settings.sandbox_minimum) == ("auto", "portable")
    assert settings.sandbox_folders == ()
    chosen = Settings.from_environment(
        {
            "CELERIAC_SANDBOX": "seccomp",
            "CELERIAC_SANDBOX_MINIMUM": "limits",
            "CELERIAC_SANDBOX_FOLDERS": " /srv/in , /srv/out:write ",
        }
    )
    assert (chosen.sandbox, chosen.sandbox_minimum) == ("seccomp", "limits")
    assert chosen.sandbox_folders == (
        Folder(path=Path("/srv/in")),
        Folder(path=Path("/srv/out"), write=True),
    )
    assert Settings.from_environment(chosen.to_environment()) == chosen


def test_half_a_fleet_is_refused_with_what_is_missing() -> None:
    assert problems({"DATABASE_URL": "postgresql://db/x"}).keys() == {"BROKER_URL"}
    assert problems({"BROKER_URL": "redis://broker"}).keys() == {"DATABASE_URL"}
    assert problems({"REDIS_URL": "redis://broker"}).keys() == {"DATABASE_URL", "BROKER_URL"}


def test_anonymous_requests_are_for_the_embedded_platform_only() -> None:
    assert problems({**FLEET, "CELERIAC_ANONYMOUS": "local"}).keys() == {"CELERIAC_ANONYMOUS"}
    child = {**FLEET, "CELERIAC_ANONYMOUS": "local", "CELERIAC_SUPERVISED": "1"}
    assert Settings.from_environment(child).anonymous
    assert Settings.from_environment({}).anonymous
    assert not Settings.from_environment({"CELERIAC_ANONYMOUS": "off"}).anonymous
    assert not Settings.from_environment(FLEET).anonymous


def test_an_empty_environment_means_the_embedded_platform() -> None:
    settings = Settings.from_environment({"XDG_DATA_HOME": "/data"})
    assert settings.embedded
    assert settings.home == Path("/data/celeriac")
    assert settings.blob_url == "file:///data/celeriac/blobs"
    assert settings.database_url is None
    assert settings.broker_url is None
    assert settings.redis_url is None
    assert settings.anonymous


def test_an_empty_variable_counts_as_unset() -> None:
    assert Settings.from_environment({"DATABASE_URL": "", "BROKER_URL": " "}).embedded


def test_a_relative_data_folder_is_taken_from_the_working_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.from_environment({"CELERIAC_HOME": "data"}).home == tmp_path / "data"


def test_a_relative_xdg_folder_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    settings = Settings.from_environment({"XDG_DATA_HOME": "relative"})
    assert settings.home == Path("/home/somebody/.local/share/celeriac")


@pytest.mark.parametrize(
    "given",
    [
        "postgres://app@db:5432/celeriac?sslmode=require",
        "postgresql://app@db:5432/celeriac?sslmode=require",
        "postgresql+psycopg2://app@db:5432/celeriac?sslmode=require",
        "POSTGRESQL://app@db:5432/celeriac?sslmode=require",
    ],
)
def test_every_spelling_of_postgres_names_the_one_driver(given: str) -> None:
    settings = Settings.from_environment({**FLEET, "DATABASE_URL": given})
    expected = "postgresql+psycopg2://app@db:5432/celeriac?sslmode=require"
    assert settings.database_url == expected
    assert not settings.embedded


def test_another_postgres_driver_is_refused() -> None:
    assert "DATABASE_URL" in problems({**FLEET, "DATABASE_URL": "postgresql+asyncpg://db/x"})


@pytest.mark.parametrize(
    ("given", "broker", "redis"),
    [
        ("redis://broker:6379/1", "redis://broker:6379/1", "redis://broker:6379/1"),
        ("valkey://broker/1", "redis://broker/1", "redis://broker/1"),
        ("rediss://:pw@broker/0", "rediss://:pw@broker/0", "rediss://:pw@broker/0"),
        ("valkeys://broker/0", "rediss://broker/0", "rediss://broker/0"),
        ("unix:///run/v.sock", "redis+socket:///run/v.sock", "unix:///run/v.sock"),
        (
            "valkey+unix:///run/v.sock?db=3",
            "redis+socket:///run/v.sock?virtual_host=3",
            "unix:///run/v.sock?db=3",
        ),
        (
            "redis+socket://:pw@/run/v.sock?virtual_host=3",
            "redis+socket://:pw@/run/v.sock?virtual_host=3",
            "unix://:pw@/run/v.sock?db=3",
        ),
        ("amqp://guest@rabbit//", "amqp://guest@rabbit//", None),
        ("memory://", "memory://", None),
        ("sqs://", "sqs://", None),
    ],
)
def test_a_broker_is_spelled_as_celery_and_redis_want_it(
    given: str, broker: str, redis: str | None
) -> None:
    settings = Settings.from_environment({**FLEET, "BROKER_URL": given})
    assert settings.broker_url == broker
    assert settings.redis_url == redis


def test_a_redis_of_its_own_wins_over_the_brokers() -> None:
    settings = Settings.from_environment({**FLEET, "REDIS_URL": "redis+unix:///run/r.sock?db=2"})
    assert settings.broker_url == "redis://broker:6379/0"
    assert settings.redis_url == "unix:///run/r.sock?db=2"


def test_something_else_than_redis_cannot_carry_live_streams() -> None:
    assert "REDIS_URL" in problems({**FLEET, "REDIS_URL": "amqp://rabbit"})


def test_a_child_reads_the_settings_that_its_parent_wrote() -> None:
    settings = Settings.from_environment(
        {
            "DATABASE_URL": "postgres://db/x",
            "BROKER_URL": "unix:///run/v.sock?db=3",
            "CELERIAC_SUPERVISED": "1",
            "CELERIAC_ANONYMOUS": "local",
            "CELERIAC_HOME": "/data",
            "CELERIAC_LIBRARIES": "one, two.three",
            "CELERIAC_LEASE_SECONDS": "2.5",
            "CELERIAC_PORT": "0",
            "CELERIAC_FAULT_DIR": "/faults",
            "CELERIAC_LOG_LEVEL": "debug",
        }
    )
    assert settings.libraries == ("one", "two.three")
    assert settings.fault_dir == Path("/faults")
    assert settings.log_level == "DEBUG"
    assert Settings.from_environment(settings.to_environment()) == settings


def test_keys_are_handed_to_a_child_and_never_shown() -> None:
    secret = base64.b64encode(b"s" * 32).decode()
    settings = Settings.from_environment({"CELERIAC_BLOB_KEYS": f"new:{secret}, old:{secret}"})
    assert [key.id for key in settings.blob_keys.keys] == ["new", "old"]
    assert Settings.from_environment(settings.to_environment()).blob_keys == settings.blob_keys
    assert secret not in repr(settings)
    assert "sss" not in repr(settings)


def test_places_that_services_may_be_let_into_are_handed_on() -> None:
    text = "10.0.0.0/8, 127.0.0.1 ,10.1.2.3:5432,[::1]:80,/run/postgresql"
    settings = Settings.from_environment({"CELERIAC_PRIVATE_HOSTS": text})
    assert settings.private_hosts == tuple(place.strip() for place in text.split(","))
    assert (
        Settings.from_environment(settings.to_environment()).private_hosts == settings.private_hosts
    )
    assert Settings.from_environment({}).private_hosts == ()


@pytest.mark.parametrize(
    ("name", "url", "place"),
    [
        ("DATABASE_URL", "postgresql://u:hush@db/x", "db:5432"),
        ("DATABASE_URL", "postgresql://u@db:6000/x", "db:6000"),
        ("DATABASE_URL", "postgresql://u@/x?host=/run/postgresql&port=5432", "/run/postgresql"),
        ("DATABASE_URL", "postgresql://u@[::1]/x", "[::1]:5432"),
        ("BROKER_URL", "valkeys://:hush@queue/0", "queue:6379"),
        ("DATABASE_URL", "postgresql://u@/x?host=one&host=two:6000&port=5433", "one:5433"),
        ("DATABASE_URL", "postgresql://u@/x?host=one&host=two:6000&port=5433", "two:6000"),
        ("BROKER_URL", "amqp://u:hush@one//;amqp://u:hush@two:99//", "one:5672"),
        ("BROKER_URL", "amqp://u:hush@one//;amqp://u:hush@two:99//", "two:99"),
        ("BROKER_URL", "amqp://queue", "queue:5672"),
        ("REDIS_URL", "redis://10.0.0.7:7000/1", "10.0.0.7:7000"),
        ("BLOB_URL", "https://blobs.example/x", "blobs.example:443"),
    ],
)
def test_where_the_platforms_own_servers_listen_is_known(name: str, url: str, place: str) -> None:
    own = Settings.from_environment({**FLEET, name: url}).own_servers
    assert place in own
    assert "127.0.0.1:8000" in own
    assert "hush" not in str(own)
