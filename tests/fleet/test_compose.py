"""docker-compose.yml, Dockerfile and Procfile: what must be true of them as they are written."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence

import click
import pytest

from celeriac.cli import main
from tests.fleet import compose
from tests.support.services import ROOT

OURS = ("web", "coordinator", "worker", "beat", "flower")
SERVERS = ("postgres", "valkey")
ONE_SHOT = "migrate"

#: `${NAME}`, `${NAME:-default}`, `${NAME:?message}`; `$$` is a dollar of the container's own.
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}")
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|AUTH|KEY", re.IGNORECASE)
URL_PASSWORD = re.compile(r"://[^\s/@:]*:([^\s@]*)@")


#: Secrets that may be left out: without them nobody is trusted.
UNTRUSTING = {"CELERIAC_JWT_KEYS"}


def test_no_file_holds_a_password() -> None:
    for name in ("docker-compose.yml", "Dockerfile", "Procfile", ".env.example"):
        text = (ROOT / name).read_text()
        for password in URL_PASSWORD.findall(text):
            found = VARIABLE.fullmatch(password)
            assert found, f"{name}: {password}"
            assert found[2] == "?", f"{name}: {password} has a default"
    for line in (ROOT / ".env.example").read_text().splitlines():
        variable, equals, value = line.partition("=")
        if equals and SECRET.search(variable):
            assert value == "", line


def test_what_is_secret_must_be_given_and_has_no_default() -> None:
    for service, variable, value in _environment():
        if SECRET.search(variable):
            found = VARIABLE.fullmatch(value)
            assert found, f"{service}: {variable}"
            if variable in UNTRUSTING:
                assert value == f"${{{variable}:-}}"
            else:
                assert found[2] == "?", f"{service}: {variable} has a default"
    build = (ROOT / "Dockerfile").read_text()
    assert not [
        line
        for line in build.splitlines()
        if re.match(r"\s*(ARG|ENV)\b.*", line) and SECRET.search(line)
    ]


def test_no_secret_stands_in_a_command() -> None:
    secrets = {
        variable[1]
        for _, name, value in _environment()
        if SECRET.search(name) and (variable := VARIABLE.fullmatch(value))
    }
    assert secrets == {
        "POSTGRES_PASSWORD",
        "VALKEY_PASSWORD",
        "FLOWER_BASIC_AUTH",
        "CELERIAC_BLOB_KEYS",
        "CELERIAC_SECRET_KEYS",
        "CELERIAC_AUDIT_KEYS",
        *UNTRUSTING,
    }
    for name, service in compose.services().items():
        for words in (service.get("command", []), service.get("healthcheck", {}).get("test", [])):
            assert (
                not {variable for variable, _, _ in VARIABLE.findall(" ".join(words))} & secrets
            ), name


def test_the_processes_are_the_same_in_both_files() -> None:
    assert set(compose.procfile()) == set(OURS)
    assert set(compose.services()) == {*OURS, *SERVERS, ONE_SHOT}


@pytest.mark.parametrize("name", [*OURS, ONE_SHOT])
def test_a_service_runs_a_command_that_there_is(name: str) -> None:
    _parse(compose.command(name))


@pytest.mark.parametrize("name", OURS)
def test_a_line_of_the_procfile_runs_a_command_that_there_is(name: str) -> None:
    line = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", compose.procfile()[name])
    program, *words = shlex.split(line)
    assert program == "celeriac"
    assert words[0] == name
    _parse(words)


def test_every_service_that_stays_has_a_health_check_and_is_started_again() -> None:
    for name, service in compose.services().items():
        if name == ONE_SHOT:
            assert service["restart"].startswith("on-failure")
        else:
            assert compose.health_check(name)
            assert service["restart"] == "unless-stopped"


def test_nothing_starts_before_what_it_needs() -> None:
    waits = {
        name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        for name, service in compose.services().items()
    }
    assert waits[ONE_SHOT] == {"postgres": "service_healthy"}
    assert waits["web"] == {ONE_SHOT: "service_completed_successfully"}
    for name in set(OURS) - {"web"}:
        assert waits[name] == {
            ONE_SHOT: "service_completed_successfully",
            "valkey": "service_healthy",
        }


def test_only_this_machine_is_served_unless_somebody_says_otherwise() -> None:
    published = {
        name: [VARIABLE.sub(lambda found: found[3], port) for port in service["ports"]]
        for name, service in compose.services().items()
        if "ports" in service
    }
    assert published == {"web": ["127.0.0.1:8000:8000"], "flower": ["127.0.0.1:5555:5555"]}
    assert compose.document()["networks"]["servers"] == {"internal": True}
    for name in SERVERS:
        assert compose.services()[name]["networks"] == ["servers"]


def test_no_container_has_more_rights_than_it_needs() -> None:
    for name, service in compose.services().items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    for name in SERVERS:
        assert compose.services()[name]["user"] == name
    users = re.findall(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert users == [("10001", "10001")]


def test_what_has_to_last_lies_in_a_named_volume() -> None:
    volumes = {
        name: {volume.partition(":")[0] for volume in service.get("volumes", ())}
        for name, service in compose.services().items()
    }
    assert set().union(*volumes.values()) == set(compose.document()["volumes"])
    assert volumes["postgres"] == {"postgres"}
    assert volumes["valkey"] == {"valkey"}
    # User code runs in workers; the admin's key is none of theirs.
    assert [name for name, used in volumes.items() if "keys" in used] == [ONE_SHOT]


def test_the_broker_keeps_its_queues_and_drops_none() -> None:
    words = " ".join(compose.command("valkey"))
    assert "--maxmemory-policy noeviction" in words
    assert "--appendonly yes" in words


def test_the_example_names_every_variable() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    asked = {name for name, _, _ in VARIABLE.findall(text)}
    named = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert asked == named


def test_the_image_holds_every_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    build = (ROOT / "Dockerfile").read_text()
    assert set(re.findall(r"^COPY (\w+) \1$", build, re.MULTILINE)) == packages
    admitted = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    copied = {
        word
        for words in re.findall(r"^COPY (?!--from)(.+) \S+$", build, re.MULTILINE)
        for word in words.split()
    }
    assert copied == admitted
    assert all((ROOT / name).exists() for name in copied)


def _environment() -> Iterator[tuple[str, str, str]]:
    for name, service in compose.services().items():
        for variable, value in service.get("environment", {}).items():
            yield name, variable, str(value)


def _parse(words: Sequence[str]) -> None:
    """Have click read a command line to its end, carrying nothing out."""
    command: click.Command = main
    rest = list(words)
    context: click.Context | None = None
    while isinstance(command, click.Group):
        # With its settings: a command keeps the help option of the context that it first was read in.
        context = click.Context(
            command, info_name=command.name, parent=context, **command.context_settings
        )
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None, name
        command = found
    command.make_context(command.name, rest, parent=context)
