"""Files and modules that code is granted, and that it has no others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.sandbox.jobs import node, within
from workers.sandbox import FURTHER_MODULES, Job, Opened, Outcome, Sandbox
from workers.sandbox.inside.namespace import FURTHER, MODULES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`in` may be read, `out` written too, `other` neither."""
    made = tmp_path_factory.mktemp("granted")
    # Whoever code runs as has to be let in by modes, too.
    for place in (made, *made.parents):
        if place.stat().st_uid and place.owner() != "root":
            break
        if place == Path(made.anchor) or place.name == "tmp":
            break
        place.chmod(0o777)
    for name in ("in", "out", "other"):
        (made / name).mkdir()
        (made / name).chmod(0o777)
        (made / name / "a.txt").write_text(f"text of {name}")
        (made / name / "a.txt").chmod(0o666)
    (made / "in" / "escape").symlink_to(made / "other" / "a.txt")
    (made / "in" / "door").symlink_to(made / "other")
    return made


@pytest.fixture(scope="module", params=["full", "portable"])
def granting(request: pytest.FixtureRequest, folder: Path) -> Iterator[Sandbox]:
    folders = [Opened(path=str(folder / "in")), Opened(path=str(folder / "out"), write=True)]
    with Sandbox(mode=request.param, folders=folders) as sandbox:
        if sandbox.standing().mode is None:
            pytest.skip(str(sandbox.standing().lacking))
        yield sandbox


def read(sandbox: Sandbox, path: Path, *granted: Opened) -> Outcome:
    return sandbox.run(node(f"return open({str(path)!r}).read()", files=granted))


#: Breaks out of the namespace, to see that the walls hold what `open` only says.
OPEN = """
for kind in object.__subclasses__():
    if kind.__name__ == "_wrap_close":
        real = kind.__init__.__globals__
"""


# --- sad paths ------------------------------------------------------------------------------


def test_without_a_grant_open_says_so(granting: Sandbox, folder: Path) -> None:
    outcome = read(granting, folder / "in" / "a.txt")
    assert outcome.reason == "error"
    assert "open() is not available" in outcome.message


def test_what_is_not_granted_is_refused_with_path_and_rule(granting: Sandbox, folder: Path) -> None:
    outcome = read(granting, folder / "other" / "a.txt", Opened(path=str(folder / "in")))
    assert outcome.reason == "error"
    assert "PermissionError" in outcome.message
    assert f"{folder}/other/a.txt may not be read" in outcome.message
    assert f"{folder}/in (read only)" in outcome.message


@pytest.mark.parametrize("path", ["in/../other/a.txt", "in/./../other/a.txt"])
def test_a_way_around_by_dots_is_seen_through(granting: Sandbox, folder: Path, path: str) -> None:
    outcome = granting.run(
        node(f"return open({f'{folder}/{path}'!r}).read()", files=(Opened(path=f"{folder}/in"),))
    )
    assert "other/a.txt may not be read" in outcome.message


@pytest.mark.parametrize("name", ["escape", "door/a.txt"])
def test_a_link_out_of_a_folder_leads_nowhere(granting: Sandbox, folder: Path, name: str) -> None:
    outcome = read(granting, folder / "in" / name, Opened(path=str(folder / "in")))
    assert outcome.reason == "error"
    assert "text of other" not in str(outcome)


def test_a_grant_of_a_link_out_of_a_folder_is_none(granting: Sandbox, folder: Path) -> None:
    path = folder / "in" / "escape"
    outcome = read(granting, path, Opened(path=str(path)))
    assert outcome.reason == "error"
    assert "is not there" in outcome.message
    assert "text of other" not in str(outcome)


def test_a_grant_of_what_is_not_there_says_so(granting: Sandbox, folder: Path) -> None:
    path = folder / "in" / "missing.txt"
    outcome = read(granting, path, Opened(path=str(path)))
    assert outcome.reason == "error"
    assert "is not there" in outcome.message


def test_what_may_be_read_may_not_be_written(granting: Sandbox, folder: Path) -> None:
    path = folder / "out" / "a.txt"
    outcome = granting.run(node(f"open({str(path)!r}, 'w')", files=(Opened(path=str(path)),)))
    assert "may not be written" in outcome.message
    assert path.read_text() == "text of out"


@pytest.mark.parametrize(
    ("path", "how"),
    [
        ("other/a.txt", 0),
        ("other/a.txt", 1),
        ("other/new", 0o101),
        ("in/a.txt", 1),
        ("in/a.txt", 0o1001),
    ],
)
def test_the_walls_hold_what_open_says(
    granting: Sandbox, folder: Path, path: str, how: int
) -> None:
    """Reading, writing, making and emptying, by the call itself."""
    body = f"{OPEN}\nreturn real['open']({f'{folder}/{path}'!r}, {how})"
    granted = (Opened(path=f"{folder}/in"), Opened(path=f"{folder}/out", write=True))
    outcome = granting.run(node(body, files=granted))
    assert outcome.reason == "error", outcome
    assert "Error" in outcome.message
    assert (folder / "in" / "a.txt").read_text() == "text of in"
    assert not (folder / "other" / "new").exists()


def test_a_file_grows_no_further_than_its_limit(granting: Sandbox, folder: Path) -> None:
    path = folder / "out" / f"large-{granting.standing().mode}"
    job = node(
        f"with open({str(path)!r}, 'wb') as file:\n  for _ in range(100): file.write(bytes(65536))",
        files=(Opened(path=str(folder / "out"), write=True),),
        limits=within(20, file_bytes=1 << 20),
    )
    outcome = granting.run(job)
    assert not outcome.ok
    assert path.stat().st_size <= 1 << 20


@pytest.mark.parametrize(
    ("path", "write", "why"),
    [
        ("/etc/passwd", False, "in no folder that this worker's operator opens"),
        ("/", False, "in no folder"),
        ("other", False, "in no folder"),
        ("in/../other", False, "no plain absolute path"),
        ("in/", False, "no plain absolute path"),
        ("in", True, "to be read alone"),
        ("relative", False, "no plain absolute path"),
    ],
)
def test_what_no_operator_opens_cannot_be_granted(
    granting: Sandbox, folder: Path, path: str, write: bool, why: str
) -> None:
    full = path if path.startswith("/") or path == "relative" else f"{folder}/{path}"
    outcome = granting.run(node("return 1", files=(Opened(path=full, write=write),)))
    assert (outcome.ok, outcome.reason) == (False, "refused")
    assert why in outcome.message


@pytest.mark.parametrize(
    "name",
    ["os", "sys", "subprocess", "ctypes", "importlib", "socket", "inspect", "pickle", "nonsense"],
)
def test_modules_that_lead_out_are_never_granted(sandbox: Sandbox, name: str) -> None:
    outcome = sandbox.run(node("return 1", modules=(name,)))
    assert (outcome.ok, outcome.reason) == (False, "refused")
    assert f"module {name} is not for code registered as source" in outcome.message


def test_a_module_that_was_not_granted_is_not_there(sandbox: Sandbox) -> None:
    assert "NameError" in sandbox.run(node("return csv.QUOTE_ALL")).message
    outcome = sandbox.run(node("return csv.QUOTE_ALL", modules=("heapq",)))
    assert "NameError" in outcome.message


@pytest.mark.parametrize("path", ["", "relative", "/no/such/folder", "/etc/passwd", "/"])
def test_an_operator_names_folders_that_exist(path: str) -> None:
    with pytest.raises(ValueError, match="no absolute path of a folder"):
        Sandbox(folders=[Opened(path=path)])


# --- and what works ---------------------------------------------------------------------------


def test_granted_files_are_read(granting: Sandbox, folder: Path) -> None:
    path = folder / "in" / "a.txt"
    for granted in (path, path.parent):
        assert read(granting, path, Opened(path=str(granted))).value == "text of in"


def test_granted_folders_are_written(granting: Sandbox, folder: Path) -> None:
    path = folder / "out" / f"made-{granting.standing().mode}.txt"
    outcome = granting.run(
        node(
            f"with open({str(path)!r}, 'w') as file: file.write('é')\nreturn open({str(path)!r}).read()",
            files=(Opened(path=str(folder / "out"), write=True),),
        )
    )
    assert outcome.value == "é", outcome.message
    assert path.read_text(encoding="utf-8") == "é"


def test_a_grant_is_for_one_execution(granting: Sandbox, folder: Path) -> None:
    path = folder / "in" / "a.txt"
    assert read(granting, path, Opened(path=str(path))).ok
    body = f"{OPEN}\nreturn real['open']({str(path)!r}, 0)"
    assert granting.run(node(body)).reason == "error"


@pytest.mark.parametrize("name", FURTHER)
def test_each_further_module_is_there_by_its_name(sandbox: Sandbox, name: str) -> None:
    outcome = sandbox.run(node(f"return len(str({name})) > 0", modules=(name,)))
    assert outcome.value is True, outcome.message


@pytest.mark.parametrize(
    ("modules", "body", "value"),
    [
        (("csv", "io"), "return list(csv.reader(io.StringIO('a,b')))", [["a", "b"]]),
        (("urllib.parse",), "return urllib.parse.quote('a b')", "a%20b"),
        (("html", "html.parser"), "return [html.escape('<'), html.parser.HTMLParser.__name__]", ["&lt;", "HTMLParser"]),
        (("xml.etree.ElementTree",), "return xml.etree.ElementTree.fromstring('<a b=\"1\"/>').get('b')", "1"),
        (("collections.abc",), "return [isinstance([], collections.abc.Sequence), collections.Counter('aa')['a']]", [True, 2]),
        (("zoneinfo",), "return str(datetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo('Europe/Paris')).utcoffset())", "2:00:00"),
        (("asyncio",), "async def later():\n  await asyncio.sleep(0)\n  return 7\nreturn asyncio.run(later())", 7),
        (("lzma", "bz2", "zlib"), "return [lzma.decompress(lzma.compress(b'a')) == bz2.decompress(bz2.compress(b'a')) == zlib.decompress(zlib.compress(b'a'))]", [True]),
        (("secrets",), "return len(secrets.token_hex(4))", 8),
        (("decimal",), "return str(decimal.Decimal(1))", "1"),
    ],
)  # fmt: skip
def test_further_modules_work(
    sandbox: Sandbox, modules: tuple[str, ...], body: str, value: object
) -> None:
    outcome = sandbox.run(node(body, modules=modules))
    assert outcome.value == value, outcome.message


def test_further_modules_can_be_imported_by_who_may_import(sandbox: Sandbox) -> None:
    text = "import csv\nfrom urllib.parse import quote\nimport urllib.parse as u\n\ndef f(state):\n  return [csv.QUOTE_ALL, quote(' '), u.unquote('%20')]"
    given = {"mode": "node", "name": "f", "source": text, "arguments": {"state": {}}}
    assert sandbox.run(Job(**given, modules=("csv", "urllib.parse"))).value == [1, "%20", " "]  # type: ignore[arg-type]
    assert sandbox.run(Job(**given, modules=("csv",))).reason == "error"  # type: ignore[arg-type]


def test_threads_work_where_they_can_be_counted(sandbox: Sandbox) -> None:
    body = "found = []\nthread = threading.Thread(target=found.append, args=(1,))\nthread.start()\nthread.join()\nreturn found"
    outcome = sandbox.run(node(body, modules=("threading",)))
    if sandbox.standing().threads:
        assert outcome.value == [1], outcome.message
    else:
        assert outcome.reason == "error"


def test_everything_that_may_be_granted_is_known_outside() -> None:
    assert frozenset(FURTHER) == FURTHER_MODULES
    assert not {module.__name__ for module in MODULES} & FURTHER_MODULES
