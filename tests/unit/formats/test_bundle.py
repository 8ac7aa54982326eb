from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.formats import bundle
from engine.formats.bundle import Bundle

DRAWING = """
digraph Research {
  plan_it [type="plan"];
  do_it [type="task"];
  plan_it -> do_it -> plan_it;
}
"""
FILES: Mapping[str, str] = {
    "agent_graph.dot": DRAWING,
    "plans/plan_it/plan.py": "def plan(plan_input): ...",
    "plans/plan_it/requirements.txt": "# none\n\nrequests==2.0  # for the web\n",
    "tasks/do_it/task.py": "def task(task_input): ...",
    "tasks/do_it/helper.py": "x = 1",
    "README.md": "# Research",
}
Packed = Callable[[Mapping[str, str | bytes]], bytes]


def tarred(files: Mapping[str, str | bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return made.getvalue()


def gzipped(files: Mapping[str, str | bytes]) -> bytes:
    return gzip.compress(tarred(files), mtime=0)


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return made.getvalue()


PACKED = [tarred, gzipped, zipped]
packed = pytest.mark.parametrize("pack", PACKED, ids=lambda each: each.__name__)


def refused(data: bytes, *, strict: bool = False) -> str:
    found = bundle.read(data, strict=strict)
    assert isinstance(found, tuple), found
    assert all(problem.remedy for problem in found)
    return "\n".join(problem.message for problem in found)


# --- what is refused ---------------------------------------------------------------------------


@packed
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agent_graph.dot": None}, "INVALID_STRUCTURE: there is no *.dot in the root"),
        ({"other.dot": DRAWING}, "INVALID_STRUCTURE: several drawings: agent_graph.dot, other.dot"),
        ({"agent_graph.dot": "digraph {}"}, "INVALID_STRUCTURE: the digraph has no name"),
        ({"agent_graph.dot": b"\xff"}, "'agent_graph.dot' is not UTF-8 at byte 0"),
        ({"tasks/do_it/task.py": None}, "MISSING_PYTHON_FILE: there is no tasks/do_it/task.py"),
        (
            {"plans/plan_it/plan.py": None, "plans/plan_it/requirements.txt": None},
            "MISSING_DIRECTORY: there is no plans/plan_it/ for plan_it",
        ),
        ({"tasks/do_it/task.py": "x" * 1_048_577}, "has more than 1048576 bytes"),
        ({"../evil.py": ""}, "'../evil.py' is no path within the bundle"),
        ({"tasks/../../evil.py": ""}, "is no path within the bundle"),
        ({"/etc/passwd": ""}, "is no path within the bundle"),
        ({"C:\\evil.py": ""}, "is no path within the bundle"),
        ({"tasks\\do_it\\task.py": ""}, "is no path within the bundle"),
        ({"a\nb": ""}, "is no path within the bundle"),
        ({"./README.md": ""}, "'README.md' is there twice"),
        ({"tasks//do_it/task.py": ""}, "'tasks/do_it/task.py' is there twice"),
    ],
)
def test_a_bundle_that_is_not_as_it_should_be_is_refused(
    pack: Packed, changes: Mapping[str, str | bytes | None], message: str
) -> None:
    files = {name: content for name, content in {**FILES, **changes}.items() if content is not None}
    assert message in refused(pack(files))


@packed
def test_a_drawing_in_a_folder_is_told_where_it_belongs(pack: Packed) -> None:
    found = bundle.read(pack({f"research/{name}": content for name, content in FILES.items()}))
    assert isinstance(found, tuple)
    assert found[0].remedy == "pack what is in 'research'"


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(kind: bytes) -> None:
    made = io.BytesIO(tarred(FILES))
    with tarfile.open(fileobj=made, mode="a") as archive:
        entry = tarfile.TarInfo("plans/evil")
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    assert "'plans/evil' is a link or a device" in refused(made.getvalue())


def test_links_in_a_zip_are_refused() -> None:
    made = io.BytesIO(zipped(FILES))
    with zipfile.ZipFile(made, "a") as archive:
        entry = zipfile.ZipInfo("plans/evil")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    assert "'plans/evil' is a link or a device" in refused(made.getvalue())


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_there_twice_is_refused() -> None:
    made = io.BytesIO(zipped(FILES))
    with zipfile.ZipFile(made, "a") as archive:
        archive.writestr("README.md", "again")
    assert "'README.md' is there twice" in refused(made.getvalue())


def test_a_name_that_hides_what_follows_is_refused() -> None:
    data = zipped({**FILES, "plans/aXevil": "x"}).replace(b"plans/aXevil", b"plans/a\x00evil")
    assert "is no path within the bundle" in refused(data)


def test_an_encrypted_zip_is_refused() -> None:
    data = bytearray(zipped({"agent_graph.dot": DRAWING}))
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + place] |= 1
    assert "is encrypted" in refused(bytes(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_is_packed_in_a_way_of_its_own_is_refused(method: int) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        archive.writestr("agent_graph.dot", DRAWING)
    assert "is packed in a way of its own" in refused(made.getvalue())


def test_more_than_may_be_sent_is_refused_unread() -> None:
    assert "a bundle of more than 104857600 bytes" in refused(bytes(bundle.MAX_BYTES + 1))


@pytest.mark.parametrize("pack", [gzipped, zipped])
def test_a_small_archive_of_large_files_is_refused(
    pack: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "MAX_UNPACKED", 2_000_000)
    assert "it unpacks to more than 2000000 bytes" in refused(
        pack({**FILES, "big": bytes(3_000_000)})
    )


def test_a_zip_that_lies_about_its_sizes_is_refused() -> None:
    data = bytearray(zipped({"agent_graph.dot": DRAWING + " " * 2_000_000}))
    place = data.index(b"PK\x01\x02") + 24
    data[place : place + 4] = (100).to_bytes(4, "little")
    assert "INVALID_STRUCTURE" in refused(bytes(data))


@pytest.mark.parametrize("pack", [tarred, zipped])
def test_more_files_than_anybody_packs_are_refused(
    pack: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "MAX_FILES", 50)
    assert "more than 50 files" in refused(pack({f"f{i}": "" for i in range(60)}))


def test_a_header_that_asks_for_the_world_is_refused() -> None:
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 10**9
    assert "an entry of no sensible size" in refused(header.tobuf() + bytes(10_240))


@packed
def test_an_archive_that_breaks_off_is_refused(pack: Packed) -> None:
    whole = pack(FILES)
    for length in (0, 1, 100, 200):
        assert "INVALID_STRUCTURE" in refused(whole[:length])


@settings(max_examples=150, deadline=None)
@given(
    pack=st.sampled_from(PACKED),
    changes=st.lists(
        st.tuples(st.integers(0, 100_000), st.integers(0, 255)), min_size=1, max_size=8
    ),
)
def test_an_archive_with_faults_is_read_or_told_what_is_wrong(
    pack: Packed, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(pack(FILES))
    for place, value in changes:
        data[place % len(data)] = value
    found = bundle.read(bytes(data))
    assert isinstance(found, Bundle | tuple)


@given(
    st.binary(max_size=2000),
    st.sampled_from([b"", b"PK\x03\x04", b"\x1f\x8b\x08\x00", b"PK\x05\x06"]),
)
def test_what_is_no_archive_is_refused(data: bytes, magic: bytes) -> None:
    assert "INVALID_STRUCTURE" in refused(magic + data)


# --- what is read ------------------------------------------------------------------------------


@packed
def test_a_bundle_is_a_document_and_the_code_of_its_nodes(pack: Packed) -> None:
    found = bundle.read(pack(FILES), strict=True)
    assert isinstance(found, Bundle), found
    assert found.document["workflow"] == "Research"
    assert found.sources == {
        "plan_it": "def plan(plan_input): ...",
        "do_it": "def task(task_input): ...",
    }
    assert found.requirements == {"plan_it": ("requests==2.0",)}
    assert found.unread == ("README.md", "tasks/do_it/helper.py")


@packed
def test_a_node_that_works_otherwise_needs_no_code(pack: Packed) -> None:
    files = {name: content for name, content in FILES.items() if not name.startswith("tasks")}
    found = bundle.read(pack(files), {"nodes": {"do_it": {"uses": "do_it@3"}}})
    assert isinstance(found, Bundle), found
    assert set(found.sources) == {"plan_it"}


def test_folders_may_be_entries_of_their_own() -> None:
    made = io.BytesIO(tarred({"./" + name: content for name, content in FILES.items()}))
    with tarfile.open(fileobj=made, mode="a") as archive:
        for name in (".", "./plans", "./tasks"):
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
    found = bundle.read(made.getvalue())
    assert isinstance(found, Bundle), found
    assert found.unread == ("README.md", "tasks/do_it/helper.py")
    assert isinstance(bundle.read(zipped({"plans/": "", "tasks/": "", **FILES})), Bundle)
