"""Bundles: an archive of a DOT drawing and the code of its nodes, as seed 001 uploads them.

    agent_graph.dot             the drawing, the only *.dot in the root
    plans/NODE/plan.py          for each plan: def plan(plan_input) -> …
    tasks/NODE/task.py          for each task: def task(task_input) -> …
    …/requirements.txt          what the code asks for, if anything

Archives (.tar, .tar.gz, .zip) are read where they lie and never unpacked to disk; in memory is
only the code that is wanted of them. What an archive
may do to its reader is refused first: names that lead out of it, links and devices, one name
twice, encryption, and sizes, as the archive tells them and as they turn out to be. Only the
files named above are read.
"""

from __future__ import annotations

import gzip
import io
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Self

from engine.core.problem import Problem
from engine.core.section import short
from engine.core.values import Json
from engine.formats import drawing as drawings
from engine.formats.dot import reading
from engine.formats.drawing import Drawing

#: What may be sent, and what may come of it.
MAX_BYTES = 100 * 1_048_576
MAX_UNPACKED = 256 * 1_048_576
MAX_FILES = 10_000
#: One drawing or one file of code.
MAX_FILE = 1_048_576
#: All that is kept of a bundle.
MAX_WANTED = 32 * 1_048_576
#: What a header of a tar may go on for: a long name, a few attributes.
_HEADER = 65_536
_CHUNK = 1_048_576

_WANTED = re.compile(
    r"[^/.][^/]*\.dot|(?:plans/[^/]+/plan\.py|tasks/[^/]+/task\.py|(?:plans|tasks)/[^/]+/requirements\.txt)"
)
_DRAWING = re.compile(r"[^/.][^/]*\.dot")
_UNSAFE = re.compile(r"^/|^[A-Za-z]:|\\|(?:^|/)\.\.(?:/|$)|[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What a bundle says."""

    document: Mapping[str, Json]
    #: The code of each node, by its name: the function that the document names so.
    sources: Mapping[str, str]
    #: What the code of a node asks for, line by line.
    requirements: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Files that say nothing here.
    unread: tuple[str, ...] = ()


def read(
    data: bytes | IO[bytes], sidecar: Json = None, *, strict: bool = False
) -> Bundle | tuple[Problem, ...]:
    """Read a bundle, or say everything that is wrong with it. A file must be one to seek in."""
    file: IO[bytes] = io.BytesIO(data) if isinstance(data, bytes) else data
    if file.seek(0, io.SEEK_END) > MAX_BYTES:
        return (
            _structure(f"a bundle of more than {MAX_BYTES} bytes", "leave out what is not code"),
        )
    try:
        files = _files(file)
        texts = {
            name: _text(name, content) for name, content in files.items() if content is not None
        }
    except _Refused as refused:
        return (_structure(refused.message, refused.remedy),)
    drawn = [name for name in texts if _DRAWING.fullmatch(name)]
    if len(drawn) != 1:
        return (_no_drawing(drawn, files),)
    drawing = reading.drawing(texts[drawn[0]], strict=strict)
    if not isinstance(drawing, Drawing):
        return drawing
    document = drawings.lowered(drawing, sidecar)
    if not isinstance(document, dict):
        return document
    code = _code(document)
    if problems := tuple(_missing(code, files)):
        return problems
    asked = {node: f"{file.rpartition('/')[0]}/requirements.txt" for node, file in code.items()}
    read_files = {drawn[0], *code.values(), *asked.values()}
    return Bundle(
        document=document,
        sources={node: texts[file] for node, file in code.items()},
        requirements={n: found for n, f in asked.items() if (found := _lines(texts.get(f, "")))},
        unread=tuple(
            sorted(name for name in files if name not in read_files and not name.endswith("/"))
        ),
    )


class _Refused(Exception):
    """An archive is not read any further."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


def _files(file: IO[bytes]) -> dict[str, bytes | None]:
    """The files of an archive by their path, those that are wanted with what is in them."""
    files = _of_zip(file) if _begins(file) == b"PK" else _of_tar(file)
    found: dict[str, bytes | None] = {}
    kept = 0
    try:
        for name, content in files:
            if name in found:
                raise _Refused(f"{short(name)} is there twice", "pack it once")
            found[name] = content
            kept += len(content or b"")
            if kept > MAX_WANTED:
                raise _Refused(f"more than {MAX_WANTED} bytes of code", "split the workflow")
            if len(found) > MAX_FILES:
                raise _too_many()
    except _UNREADABLE as error:
        raise _Refused("not an archive that can be read", _PACK) from error
    return found


#: What the readers of archives make of bytes that are none.
_UNREADABLE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error),
    *(EOFError, OSError, ValueError, ArithmeticError, LookupError, RuntimeError),
)


_PACK = "pack it with tar czf bundle.tar.gz *, or as a zip"


def _begins(file: IO[bytes]) -> bytes:
    file.seek(0)
    found = file.read(2)
    file.seek(0)
    return found


def _entries(file: IO[bytes]) -> int:
    """How many entries the directory of a zip may have; it is read whole."""
    mark, found, before = b"PK\x01\x02", 0, b""
    while chunk := file.read(_CHUNK):
        found += (before + chunk).count(mark)
        before = chunk[-len(mark) + 1 :]
    file.seek(0)
    return found


def _of_zip(file: IO[bytes]) -> Iterator[tuple[str, bytes | None]]:
    if _entries(file) > MAX_FILES:
        raise _too_many()
    with zipfile.ZipFile(file) as archive:
        total = 0
        for entry in archive.infolist():
            # As it stands: Python cuts a name at a NUL, which hides what follows.
            name = _path(entry.orig_filename)
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise _Refused(f"{short(name)} is a link or a device", "pack plain files")
            if entry.flag_bits & 0x1:
                raise _Refused(f"{short(name)} is encrypted", "pack it without a password")
            if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise _Refused(f"{short(name)} is packed in a way of its own", "use deflate")
            total += entry.file_size
            _bound(total)
            content = None
            if _WANTED.fullmatch(name):
                _small(name, entry.file_size)
                with archive.open(entry) as opened:
                    content = opened.read(MAX_FILE + 1)
                _small(name, len(content))
            yield name, content


def _of_tar(file: IO[bytes]) -> Iterator[tuple[str, bytes | None]]:
    gzipped = _begins(file) == b"\x1f\x8b"
    stream: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=file) if gzipped else file
    # As a stream: what is read is counted, and nothing is sought back and forth.
    with tarfile.open(fileobj=_Counted(stream), mode="r|", tarinfo=_Entry) as archive:
        for entry in archive:
            name = _path(entry.name + "/" if entry.isdir() else entry.name)
            if not (entry.isreg() or entry.isdir()) or entry.issparse():
                raise _Refused(f"{short(name)} is a link or a device", "pack plain files")
            content = None
            if _WANTED.fullmatch(name):
                _small(name, entry.size)
                opened = archive.extractfile(entry)
                content = opened.read(MAX_FILE + 1) if opened else b""
            yield name, content


class _Entry(tarfile.TarInfo):
    """The header of a file, refused where reading on would take what it asks for at its word."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        extended = not (found.isreg() or found.isdir() or found.type == tarfile.GNUTYPE_SPARSE)
        if found.size < 0 or (extended and found.size > _HEADER):
            raise _Refused("an entry of no sensible size", _PACK)
        return found


class _Counted(io.RawIOBase):
    """A stream that ends in a refusal when more comes of it than may."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile) -> None:
        self._stream = stream
        self._total = 0

    def read(self, size: int = -1, /) -> bytes:
        # A block at a time, whatever a header asks for.
        found = self._stream.read(min(size, MAX_FILE) if size >= 0 else MAX_FILE)
        self._total += len(found)
        _bound(self._total)
        return found

    def readable(self) -> bool:
        return True


def _too_many() -> _Refused:
    return _Refused(f"more than {MAX_FILES} files", "leave out what is not code")


def _bound(total: int) -> None:
    if total > MAX_UNPACKED:
        raise _Refused(
            f"it unpacks to more than {MAX_UNPACKED} bytes", "leave out what is not code"
        )


def _small(name: str, size: int) -> None:
    if size > MAX_FILE:
        raise _Refused(f"{short(name)} has more than {MAX_FILE} bytes", "split it")


def _path(name: str) -> str:
    """A path within the archive. Raises `_Refused` for one that leads out of it."""
    if _UNSAFE.search(name):
        raise _Refused(f"{short(name)} is no path within the bundle", "pack it from its root")
    path = "/".join(part for part in name.split("/") if part not in {"", "."})
    return f"{path}/" if name.endswith("/") else path


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        message = f"{short(name)} is not UTF-8 at byte {error.start}"
        raise _Refused(message, "save it as UTF-8") from error


def _code(document: Mapping[str, Json]) -> dict[str, str]:
    """Where the code of each node lies that works by a function of its own name."""
    nodes = document["nodes"]
    assert isinstance(nodes, dict)
    found: dict[str, str] = {}
    for name, fields in nodes.items():
        if isinstance(fields, dict) and fields.get("uses") == name:
            role = "plan" if fields.get("role") == "plan" else "task"
            found[name] = f"{role}s/{name}/{role}.py"
    return found


def _missing(code: Mapping[str, str], files: Mapping[str, bytes | None]) -> Iterator[Problem]:
    folders = {"/".join(name.split("/")[:2]) for name in files if name.count("/") > 1}
    for node, file in code.items():
        folder = file.rpartition("/")[0]
        if file not in files:
            there = folder in folders
            kind = "MISSING_PYTHON_FILE" if there else "MISSING_DIRECTORY"
            missing = file if there else f"{folder}/"
            yield Problem(
                path=f"nodes.{node}",
                message=f"{kind}: there is no {missing} for {node}",
                remedy=f"add {file}",
            )


def _no_drawing(drawn: list[str], files: Mapping[str, bytes | None]) -> Problem:
    if drawn:
        return _structure(f"several drawings: {', '.join(sorted(drawn)[:5])}", "keep one of them")
    deeper = next((name for name in sorted(files) if name.endswith(".dot")), None)
    if deeper:
        folder = deeper.rpartition("/")[0]
        return _structure(f"{short(deeper)} is not in the root", f"pack what is in {short(folder)}")
    return _structure("there is no *.dot in the root", "add agent_graph.dot")


def _lines(text: str) -> tuple[str, ...]:
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return tuple(line for line in lines if line)


def _structure(message: str, remedy: str) -> Problem:
    return drawings.whole(f"INVALID_STRUCTURE: {message}", remedy)
