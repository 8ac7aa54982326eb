"""The review of changes as its example says, on real processes: a range of Git, two languages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from celeriac.client import Client
from engine.runs import doctor
from engine.settings import Folder
from tests.support import platforms
from tests.support import stack as stacks
from tests.support.repositories import Repository, repository
from tests.support.services import ROOT, Services

pytestmark = pytest.mark.timeout(180)

EXAMPLE = ROOT / "examples" / "change-review"
GRANTED = "workflow:change-review"

#: Whatever was there before is full of what reviewers find, and none of it is reported.
OLD_PRICE = """import math


class Anything:
    def __eq__(self, other):
        return other is None


def untouched(a, b):
    print(a == None, 4711)
    return 1234


def find(items, wanted):
    return -1


def area(w, h):
    return 0
"""
PRICE = OLD_PRICE.replace(
    "    return -1\n",
    """    for item in items:
        if item == None:
            return -1
        else:
            if item == wanted:
                return 42
    return 0
""",
).replace("    return 0\n\n\ndef area", "    return 0\n\n\ndef area", 1)
PRICE = PRICE.removesuffix("    return 0\n") + "    unused = {}\n    return w * h\n"
TESTS = """
from shop.price import Anything, area, find


def test_none():
    assert find([Anything()], 3) == -1


def test_found():
    assert find([3], 3) == 42


def test_area():
    assert area(2, 3) == 6
"""
OLD_CART = "export function untouched(a, b, c, d, e, f, g) {}\n\nexport function add(a) {}\n"
CART = OLD_CART.replace("add(a)", "add(a, b, c, d, e, f)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A platform that has the example, and the folder whose repositories it may read."""

    client: Client
    folder: Path

    def repository(self, name: str, *, granted: bool = True) -> Repository:
        made = repository(self.folder / name)
        if granted:
            self.client.grant(GRANTED, {"files": [str(made.folder)]})
        return made


@pytest.fixture(scope="module")
def stage(shared_services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("review")
    (folder / "repositories").mkdir()
    opened = (Folder(path=folder / "repositories"),)
    with (
        stacks.running(shared_services, folder, sandbox_folders=opened) as stack,
        Client(f"http://{stack.address}", stack.key_file.read_text().strip()) as client,
    ):
        for name in ("review-file", "change-review"):
            client.publish(EXAMPLE / f"{name}.yaml")
        yield Stage(client=client, folder=folder / "repositories")
        with platforms.platform(stack.settings) as platform:
            assert doctor.examine(platform.database) == ()


def reviewed(stage: Stage, shop: Repository, **inputs: Any) -> Any:
    run = stage.client.submit("change-review", {"repository": str(shop.folder), **inputs})
    return run.wait(90)


def placed(report: Any) -> list[tuple[str, str, str, int]]:
    return [
        (each["path"], each["function"], each["rule"], each["line"]) for each in report["findings"]
    ]


def test_three_changed_functions_in_two_languages_are_reviewed_and_mended(stage: Stage) -> None:
    shop = stage.repository("three")
    shop.commit({"shop/price.py": OLD_PRICE, "web/cart.js": OLD_CART})
    shop.git("checkout", "--quiet", "-b", "topic")
    shop.commit({"shop/price.py": PRICE, "web/cart.js": CART, "tests/test_price.py": TESTS})
    tests = {"shop/price.py": "tests/test_price.py"}
    ended = reviewed(stage, shop, base="main", head="topic", tests=tests, threshold=10)
    assert ended.status == "completed", ended.message
    report = ended.outputs["report"]
    mine = [each for each in placed(report) if each[0] != "tests/test_price.py"]
    assert mine == [
        ("shop/price.py", "find", "E711", 16),
        ("shop/price.py", "find", "RET505", 18),
        ("shop/price.py", "find", "magic_numbers", 20),
        ("shop/price.py", "area", "F841", 25),
        ("web/cart.js", "add", "too_many_args", 3),
    ]
    assert report["left_out"] == []
    price = next(each for each in report["files"] if each["path"] == "shop/price.py")
    passing = ["<module>", "test_none", "test_found", "test_area"]
    assert [(lap["change"], lap["passed"]) for lap in price["laps"]] == [
        ("fix RET505", passing),
        ("name the literals of find", passing),
        ("fix F841 (unsafe)", passing),
    ]
    assert price["scores"] == sorted(set(price["scores"]))
    assert price["stop_reason"] == "nothing_left"
    (back,) = price["rolled_back"]
    assert back["change"] == "fix E711 (unsafe)"
    assert back["why"].startswith("test_none failed")
    assert "print(a == None, 4711)" in price["code_after"]
    _passes(price["code_after"])


def _passes(code: str) -> None:
    names: dict[str, Any] = {}
    exec(compile(code, "price", "exec"), names)
    exec(TESTS.replace("from shop.price import Anything, area, find", ""), names)
    for name in ("test_none", "test_found", "test_area"):
        names[name]()


def test_hostile_files_are_findings_and_leave_the_others_in_peace(stage: Stage) -> None:
    shop = stage.repository("hostile")
    shop.commit({"a.txt": "1"})
    (shop.folder / "passwd.py").symlink_to("/etc/passwd")
    shop.commit(
        {
            "ruff.toml": 'extend = "/etc/passwd"\n',
            "pyproject.toml": '[tool.ruff.lint]\nignore = ["ALL"]\n',
            "broken.py": "def f(:\n",
            "long.py": "x = '" + "a" * 1_000_000 + "'\n",
            "nul.py": b"x = '\0'\n",
            "mark.py": "\ufeffdef f():\n    return 1\n",
            "wide.py": "x = 1\n".encode("utf-16"),
            "latin.py": b"# coding: latin-1\nx = '\xe9'\n",
            "quiet.py": "# ruff: noqa\ndef f():\n    x = 1  # noqa\n",
            "-rf.go": "package a\nfunc f( {\n",
        }
    )
    ended = reviewed(stage, shop, base="HEAD~1", threshold=0)
    assert ended.status == "completed", ended.message
    found = [(path, rule, line) for path, _, rule, line in placed(ended.outputs["report"])]
    assert sorted(found) == [
        ("-rf.go", "syntax_error", 2),
        ("broken.py", "syntax_error", 1),
        ("latin.py", "encoding", 2),
        ("long.py", "line_too_long", 1),
        ("mark.py", "byte_order_mark", 1),
        ("nul.py", "binary", 1),
        ("quiet.py", "F841", 3),
        ("wide.py", "encoding", 1),
    ]
    left_out = {each["path"]: each["rule"] for each in ended.outputs["report"]["left_out"]}
    assert left_out == {
        "passwd.py": "symlink",
        "ruff.toml": "unknown_language",
        "pyproject.toml": "unknown_language",
    }


def test_a_repository_is_read_where_it_was_granted_and_nowhere_else(
    stage: Stage, tmp_path: Path
) -> None:
    other = repository(tmp_path / "other")
    other.commit({"a.py": "x = 1\n"})
    shop = stage.repository("a", granted=False)
    shop.commit({"a.py": "x = 1\n"})
    shop.commit({"a.py": "x = 2\n"})
    ended = reviewed(stage, shop, base="HEAD~1")
    assert (ended.status, ended.reason) == ("failed", "not_granted")
    assert "an admin grants it with files: [" in ended.message
    stage.client.grant(GRANTED, {"files": [str(shop.folder), str(other.folder)]})
    assert reviewed(stage, shop, base="HEAD~1").status == "completed"
    link = shop.folder.parent / "link"
    link.symlink_to(other.folder)
    for folder in (other.folder, link, shop.folder / ".." / ".." / "other"):
        ended = reviewed(stage, Repository(folder=folder), base="HEAD")
        assert (ended.status, ended.reason) == ("failed", "not_granted")
        assert "CELERIAC_SANDBOX_FOLDERS" in ended.message
    ended = reviewed(stage, shop, base="--output=/tmp/x")
    assert (ended.status, ended.reason) == ("failed", "error")
    assert "base: '--output=/tmp/x' names no commit" in ended.message
