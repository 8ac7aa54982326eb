"""The embedded platform's servers: whatever is killed, the next start goes on with everything there."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis

from celeriac.drill.servers import Servers
from celeriac.embedded import folders, postgres, processes, supervisor, valkey
from engine.errors import Conflict, Unavailable
from engine.settings import Settings
from tests.support import services

AS_ROOT = os.geteuid() == 0
FAR = {"PGHOST": "nowhere", "PGPORT": "1", "PGUSER": "nobody", "PGOPTIONS": "-c search_path=none"}


@pytest.fixture
def embedded(short_folder: Path) -> Iterator[Settings]:
    settings = Settings.from_environment({"CELERIAC_HOME": str(short_folder / "home")})
    yield settings
    supervisor.down(settings)


def rows(url: str) -> list[int]:
    with cursor_of(url) as cursor:
        cursor.execute("SELECT number FROM kept ORDER BY number")
        return [number for (number,) in cursor]


def keep(url: str, number: int) -> None:
    with cursor_of(url) as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS kept (number integer)")
        cursor.execute("INSERT INTO kept VALUES (%s)", (number,))


def setting(url: str, name: str) -> str:
    with cursor_of(url) as cursor:
        cursor.execute(f"SHOW {name}")
        return str(cursor.fetchone()[0])


@contextlib.contextmanager
def cursor_of(url: str) -> Iterator[Any]:
    with contextlib.closing(psycopg2.connect(_dsn(url))) as connection:
        with connection, connection.cursor() as cursor:
            yield cursor


def holder(settings: Settings) -> subprocess.Popen[str]:
    """Another process that has the servers up, and will not let go by itself."""
    script = """
import sys, time
from celeriac.embedded import supervisor
from engine.settings import Settings
with supervisor.servers(Settings.from_environment()) as settings:
    print(settings.database_url, flush=True)
    time.sleep(600)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "CELERIAC_HOME": str(settings.home)},
        cwd=services.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("postgresql+psycopg2://")
    return process


def kill(process: subprocess.Popen[str]) -> None:
    with process:
        process.kill()


# --- what is killed ---------------------------------------------------------------------------


def test_servers_outlive_who_started_them_and_are_adopted(embedded: Settings) -> None:
    starter = holder(embedded)
    home = folders.Home(folder=embedded.home)
    cluster = postgres.locate(home.postgres, log=home.log("postgres"))
    keep(cluster.url(), 1)
    served_by = postgres.find(cluster)
    kill(starter)
    with supervisor.servers(embedded) as settings:
        assert settings.database_url == cluster.url()
        assert postgres.find(cluster) == served_by
        assert rows(settings.database_url) == [1]
    assert postgres.find(cluster) is None


def test_rows_and_keys_survive_the_death_of_both_servers(own_servers: Servers) -> None:
    for number in range(3):
        keep(own_servers.database_url, number)
        session = psycopg2.connect(_dsn(own_servers.database_url))
        with redis.from_url(own_servers.redis_url) as client:
            client.lpush("queue", number)
            client.execute_command("WAITAOF", 1, 0, 5000)
        own_servers.crash_valkey()
        own_servers.kill_postgres()
        own_servers.start_postgres()
        own_servers.start_valkey()
        session.close()
    assert rows(own_servers.database_url) == [0, 1, 2]
    with redis.from_url(own_servers.redis_url) as client:
        assert client.lrange("queue", 0, -1) == [b"2", b"1", b"0"]


def test_a_server_that_still_runs_is_never_started_twice(own_servers: Servers) -> None:
    before = (own_servers.postgres.pid, own_servers.valkey.pid)
    assert postgres.start(own_servers.cluster).pid == before[0]
    assert valkey.start(own_servers.valkey_server).pid == before[1]


def test_a_first_start_that_was_cut_short_is_begun_anew(short_folder: Path) -> None:
    cluster = postgres.locate(short_folder / "postgres", log=short_folder / "log")
    unfinished = cluster.folder / "data.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    running = postgres.start(cluster, leash=signal.SIGKILL)
    try:
        assert postgres.answers(cluster)
        assert not unfinished.exists()
    finally:
        postgres.stop(cluster, running)


def test_a_process_id_that_another_program_has_by_now_is_no_server(own_servers: Servers) -> None:
    keep(own_servers.database_url, 1)
    lock = own_servers.cluster.data / "postmaster.pid"
    before = lock.read_text()
    own_servers.crash_postgres()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        lock.write_text(re.sub(r"^\d+", str(stranger.pid), before))
        if own_servers.cluster.account:
            os.chown(lock, own_servers.cluster.account.user, -1)
        own_servers.start_postgres()
        assert rows(own_servers.database_url) == [1]
        assert stranger.poll() is None
        stranger.kill()


def test_a_log_that_valkey_cannot_read_is_set_aside(own_servers: Servers) -> None:
    own_servers.crash_valkey()
    for part in (own_servers.valkey_server.folder / "appendonlydir").glob("*.aof"):
        part.write_bytes(b"nothing that was ever written")
    own_servers.start_valkey()
    with redis.from_url(own_servers.redis_url) as client:
        assert client.dbsize() == 0
    assert (own_servers.valkey_server.folder / "unreadable").exists()


def test_a_child_on_a_leash_ends_with_its_parent() -> None:
    script = """
import signal, time
from pathlib import Path
from celeriac.embedded import processes
child = processes.spawn(["sleep", "600"], log=Path("/dev/null"), environment={"PATH": "/bin:/usr/bin"}, leash=signal.SIGKILL)
print(child.pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script], cwd=services.ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert processes.exists(child)
    kill(parent)
    assert processes.wait_until(lambda: not processes.exists(child), seconds=5)


def test_what_outlived_its_supervisor_is_ended_with_the_rest(embedded: Settings) -> None:
    kill(holder(embedded))
    marks = {"CELERIAC_SUPERVISED": "1", "CELERIAC_HOME": str(embedded.home)}
    with subprocess.Popen(["sleep", "600"], env={**os.environ, **marks}) as orphan:
        assert supervisor.down(embedded)
        assert orphan.wait(5) == -signal.SIGKILL
    assert not supervisor.down(embedded)


# --- who may, and who may not -----------------------------------------------------------------


def test_a_second_supervisor_is_refused_by_name(embedded: Settings) -> None:
    first = holder(embedded)
    with pytest.raises(Conflict, match=rf"already runs on .*\(pid {first.pid}\).*celeriac down"):
        with supervisor.servers(embedded):
            pass
    kill(first)


def test_servers_listen_on_private_sockets_alone_and_keep_what_they_confirmed(
    embedded: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in FAR.items():
        monkeypatch.setenv(name, text)
    monkeypatch.delenv("PGOPTIONS")
    with supervisor.servers(embedded) as settings:
        assert settings.database_url
        assert settings.redis_url
        assert setting(settings.database_url, "listen_addresses") == ""
        assert setting(settings.database_url, "fsync") == "on"
        assert setting(settings.database_url, "synchronous_commit") == "on"
        assert setting(settings.database_url, "full_page_writes") == "on"
        with redis.from_url(settings.redis_url) as client:
            found = client.config_get("port", "maxmemory-policy", "appendonly", "appendfsync")
        assert found == {
            "port": "0",
            "maxmemory-policy": "noeviction",
            "appendonly": "yes",
            "appendfsync": "everysec",
        }
        home = folders.Home(folder=settings.home)
        cluster = postgres.locate(home.postgres, log=home.log("postgres"))
        server = valkey.locate(home.valkey, log=home.log("valkey"))
        for place in (cluster.data, cluster.sockets, server.socket.parent, home.valkey, home.blobs):
            assert stat.S_IMODE(place.stat().st_mode) == 0o700, place


@pytest.mark.skipif(not AS_ROOT, reason="only root can ask as somebody else")
def test_not_even_the_servers_own_account_may_connect(own_servers: Servers) -> None:
    account = own_servers.cluster.account
    assert account is not None
    refused = subprocess.run(
        [
            own_servers.cluster.binaries / "psql",
            "-h",
            own_servers.cluster.sockets,
            "-U",
            "celeriac",
            "-l",
        ],
        user=account.user,
        group=account.group,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert refused.returncode != 0
    assert "Peer authentication failed" in refused.stderr


def test_a_data_folder_of_another_user_is_refused(
    embedded: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders.lay_out(embedded.home)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(Unavailable, match="belongs to another user"):
        folders.lay_out(embedded.home)


def test_a_socket_folder_that_somebody_else_made_is_refused(short_folder: Path) -> None:
    (short_folder / "open").mkdir(mode=0o755)
    (short_folder / "open").chmod(0o755)
    with pytest.raises(Unavailable, match="only its owner may enter"):
        folders.private(short_folder / "open")
    (short_folder / "link").symlink_to(short_folder)
    with pytest.raises(Unavailable, match="only its owner may enter"):
        folders.private(short_folder / "link")


# --- what a start needs -----------------------------------------------------------------------


def test_a_data_folder_with_a_long_name_has_its_sockets_elsewhere(short_folder: Path) -> None:
    home = short_folder / ("long" * 30)
    settings = Settings.from_environment({"CELERIAC_HOME": str(home)})
    with supervisor.servers(settings) as found:
        assert found.database_url
        keep(found.database_url, 1)
        assert rows(found.database_url) == [1]
    places = folders.Home(folder=home)
    assert folders.sockets(places.valkey).parent == Path("/tmp")
    for place in (places.valkey, places.postgres):
        shutil.rmtree(
            folders.sockets(place, owner=_server_uid() if place == places.postgres else None)
        )


def test_a_folder_with_spaces_and_signs_in_its_name_will_do(short_folder: Path) -> None:
    settings = Settings.from_environment(
        {"CELERIAC_HOME": str(short_folder / "my data & 100% é?#")}
    )
    with supervisor.servers(settings) as found:
        assert found.database_url
        assert found.redis_url
        keep(found.database_url, 1)
        with redis.from_url(found.redis_url) as client:
            assert client.ping()
        # What a child reads from its environment leads to the same servers.
        assert Settings.from_environment(found.to_environment()) == found


def test_data_of_another_major_version_is_refused_before_it_is_touched(
    own_servers: Servers,
) -> None:
    own_servers.crash_postgres()
    (own_servers.cluster.data / "PG_VERSION").write_text("14\n")
    with pytest.raises(Unavailable, match="was made by Postgres 14"):
        own_servers.start_postgres()


def test_a_machine_without_postgres_is_told_which_urls_to_set(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_candidates", lambda: iter(()))
    with pytest.raises(Unavailable, match="set DATABASE_URL and BROKER_URL"):
        postgres.locate(short_folder / "postgres", log=short_folder / "log")


def test_who_asks_while_nothing_runs_is_told_how_to_start_it(embedded: Settings) -> None:
    with pytest.raises(Unavailable, match="celeriac up"):
        supervisor.attach(embedded)


@pytest.mark.skipif(not AS_ROOT, reason="root's own trouble")
def test_root_keeps_data_elsewhere_where_its_server_cannot_enter(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    cluster = postgres.locate(closed / "postgres", log=tmp_path / "log")
    try:
        assert cluster.folder.parent == Path("/var/lib/celeriac")
        running = postgres.start(cluster, leash=signal.SIGKILL)
        keep(postgres.ensure_database(cluster), 1)
        postgres.stop(cluster, running)
        again = postgres.locate(closed / "postgres", log=tmp_path / "log")
        assert again.folder == cluster.folder
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    finally:
        shutil.rmtree(cluster.folder)
    with pytest.raises(Unavailable, match="is gone"):
        postgres.locate(closed / "postgres", log=tmp_path / "log")


@pytest.mark.skipif(not AS_ROOT, reason="runs as an ordinary user anyway")
def test_an_ordinary_user_needs_nothing_of_root(short_folder: Path) -> None:
    ordinary = pwd.getpwnam("nobody")
    # Root's Python may lie where only root can read, so all imports are done before the user changes:
    # by living through it once as root.
    script = f"""
import os, sys
from pathlib import Path
from tests.integration import test_embedded
test_embedded.live(Path(sys.argv[1]) / "root")
(Path(sys.argv[1]) / "user").mkdir()
os.chown(Path(sys.argv[1]) / "user", {ordinary.pw_uid}, {ordinary.pw_gid})
os.setgroups([]); os.setgid({ordinary.pw_gid}); os.setuid({ordinary.pw_uid})
test_embedded.live(Path(sys.argv[1]) / "user" / "home")
sys.stdout.write("lived")
"""
    life = subprocess.run(
        [sys.executable, "-c", script, short_folder],
        cwd=services.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert life.returncode == 0, life.stdout + life.stderr
    assert life.stdout == "lived"


def live(folder: Path) -> None:
    """Start, keep a row, have both servers killed, start again."""
    settings = Settings.from_environment({"CELERIAC_HOME": str(folder)})
    with supervisor.servers(settings) as found:
        assert found.database_url
        keep(found.database_url, 1)
        home = folders.Home(folder=settings.home)
        cluster = postgres.locate(home.postgres, log=home.log("postgres"))
        server = valkey.locate(home.valkey, log=home.log("valkey"))
        assert stat.S_IMODE(settings.home.stat().st_mode) == (0o700 if os.geteuid() else 0o711)
        for running in (postgres.find(cluster), valkey.find(server)):
            assert running is not None
            owner = Path(f"/proc/{running.pid}").stat().st_uid
            assert owner == (
                os.geteuid() or (_server_uid() if "postgres" in _name(running.pid) else 0)
            )
            os.kill(running.pid, signal.SIGKILL)
    with supervisor.servers(settings) as found:
        assert found.database_url
        assert rows(found.database_url) == [1]


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text()


def _server_uid() -> int:
    return pwd.getpwnam("nobody").pw_uid if AS_ROOT else os.geteuid()


def _dsn(url: str) -> str:
    return url.replace("+psycopg2", "")
