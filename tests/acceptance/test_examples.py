"""The examples, as their index has them typed, on a platform of real processes."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg2
import pytest

from engine.settings import Folder
from tests.support import following, services, stack
from tests.support.services import ROOT, Services

pytestmark = pytest.mark.timeout(300)

EXAMPLES = ROOT / "examples"
INDEX = (EXAMPLES / "README.md").read_text()
HEADINGS = [line for line in INDEX.splitlines() if line.startswith("## ")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """Somebody's checkout: the examples reach what is there in a test."""

    folder: Path
    environment: Mapping[str, str]
    #: What stands in the examples, and what does here.
    instead: Mapping[str, str]

    def here(self, text: str) -> str:
        for there, here in self.instead.items():
            text = text.replace(there, here)
        return text


@pytest.fixture(scope="module")
def checkout(
    shared_services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Checkout]:
    folder = tmp_path_factory.mktemp("checkout")
    with services.short_folder() as streams:
        # Code runs as nobody else does.
        streams.chmod(0o777)
        url = services.create_database(shared_services)
        sockets = parse_qs(urlsplit(url).query)["host"][0]
        here = f"postgresql://celeriac@/{urlsplit(url).path[1:]}?host={sockets}"
        router, tools = _free_ports(2)
        instead = {
            "postgresql://reader@10.20.0.5/sales": here,
            "postgresql://reporter@10.20.0.5/reports": here,
            "  password: $env.WAREHOUSE_PASSWORD\n": "",
            "  password: $env.REPORTS_PASSWORD\n": "",
            "10.20.0.5": sockets,
            "8600": router,
            "8601": tools,
            "/tmp/streams": str(streams),
        }
        opened = ("127.0.0.1", f"{sockets}/.s.PGSQL.5432")
        _tables(url)
        try:
            with stack.running(
                shared_services,
                tmp_path_factory.mktemp("platform"),
                private_hosts=opened,
                sandbox_folders=(Folder(path=streams, write=True),),
            ) as platform:
                outside = {k: v for k, v in os.environ.items() if not k.startswith("CELERIAC_")}
                found = Checkout(
                    folder=folder,
                    environment={
                        **outside,
                        "HOME": str(tmp_path_factory.mktemp("home")),
                        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                        "PYTHONUNBUFFERED": "1",
                        "CELERIAC_URL": f"http://{platform.address}",
                        "CELERIAC_HOME": str(platform.settings.home),
                    },
                    instead=instead,
                )
                (folder / ".venv").symlink_to(sys.prefix)
                _copy(found)
                yield found
        finally:
            services.drop_database(shared_services, url)


def test_the_index_names_every_example() -> None:
    there = {path.name for path in EXAMPLES.iterdir()} - {"README.md", "__pycache__"}
    assert {name for name in there if f"({name})" not in INDEX} == set()


@pytest.mark.long
@pytest.mark.parametrize("heading", HEADINGS)
def test_an_example_does_what_the_index_shows(checkout: Checkout, heading: str) -> None:
    text = following.section(INDEX, heading)
    following.follow(checkout.here(text), checkout.environment, checkout.folder)


def _tables(url: str) -> None:
    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection:
        with connection, connection.cursor() as cursor:
            cursor.execute((EXAMPLES / "warehouse" / "tables.sql").read_text())


def _copy(checkout: Checkout) -> None:
    shutil.copytree(EXAMPLES, checkout.folder / "examples")
    for path in (checkout.folder / "examples").rglob("*"):
        if path.suffix in {".yaml", ".py"}:
            path.write_text(checkout.here(path.read_text()))


def _free_ports(count: int) -> list[str]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [str(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return found
