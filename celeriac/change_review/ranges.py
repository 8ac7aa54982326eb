"""What a range of Git changed, read by plumbing from the objects of a repository alone.

Nothing is checked out, and no index or working tree is looked at. A repository is a stranger's: its
configuration may name programs (`diff.external`, text conversions, file system monitors, helpers of
remotes), its names may look like options, its objects may lie elsewhere. So git gets no configuration
of the machine, no pager, no attributes, no external diff, no transport; commits are given as the hashes
that they were resolved to, contents as hashes of blobs; and a repository that leads elsewhere, by links
or alternates, is refused.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celeriac.change_review import languages, texts

#: Files of one range, and bytes of all of them.
MOST_FILES = 300
MOST_BYTES = 16 * 1024 * 1024

_SECONDS = 30.0
_COMMIT = re.compile(r"(?!-)(?!.*\.\.)[\w./@^~+#=-]{1,200}")
_HASH = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_HUNK = re.compile(rb"@@ -\d+(?:,\d+)? \+(\d+)(?:,(\d+))? @@")
_NOTHING = re.compile(rb"0+")

#: Over whatever the repository says itself.
_SETTINGS = (
    "core.bare=true",
    "core.attributesFile=/dev/null",
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    # The worker bounds our address space.
    "core.packedGitWindowSize=16m",
    "core.packedGitLimit=64m",
    "core.deltaBaseCacheLimit=32m",
    "diff.renameLimit=400",
    "protocol.allow=never",
)
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}
#: What git looks for objects and names in; none of them may lead elsewhere.
_INSIDE = ("HEAD", "config", "objects", "objects/info", "objects/pack", "refs", "packed-refs")
#: Files by which a repository borrows from another.
_BORROWED = ("commondir", "objects/info/alternates", "objects/info/http-alternates")


class RangeError(ValueError):
    """A range cannot be read: what, where and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Changed:
    """A file that was added or changed."""

    path: str
    mode: bytes
    before: bytes | None  #: hash; None for what is new
    after: bytes


def changed_files(
    repository: str, base: str, head: str, tests: dict[str, str] | None = None
) -> dict[str, Any]:
    """The files that differ between two commits, as they are at `head`, and the lines that do.

    `{"files": [{path, language, code, changed, tests, unreadable}], "left_out": [{path, rule, message}]}`.
    `tests` names, by the path of a file, the file with its tests, read at `head`, too. Raises `RangeError`.
    """
    git = _Git(_objects(repository))
    old, new = git.commit(base, "base"), git.commit(head, "head")
    files: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    total = 0
    for one in git.changed(old, new):
        if why := _unfit(one):
            left_out.append({"path": one.path, "rule": why[0], "message": why[1]})
            continue
        if len(files) >= MOST_FILES or total >= MOST_BYTES:
            message = f"The review ends at {MOST_FILES} files or {MOST_BYTES} bytes; narrow it."
            left_out.append({"path": one.path, "rule": "too_much", "message": message})
            continue
        file = _file(git, one)
        if file["changed"] == []:
            continue
        total += len(file["code"])
        named = (tests or {}).get(one.path)
        file["tests"] = "" if named is None else git.text_at(new, named)
        files.append(file)
    return {"files": files, "left_out": left_out}


def _unfit(one: _Changed) -> tuple[str, str] | None:
    """Why a file is not reviewed, by rule and in words."""
    if one.mode == b"160000":
        return "submodule", "A submodule: review the range of its own repository."
    if one.mode == b"120000":
        return "symlink", "A symbolic link, which is not followed."
    if languages.of(one.path) is None:
        return "unknown_language", f"No language that is read: {', '.join(languages.known())}."
    return None


def _file(git: _Git, one: _Changed) -> dict[str, Any]:
    """A file as its review takes it."""
    unreadable: dict[str, Any] | None = None
    code, changed = "", None
    try:
        size = git.size(one.after)
        if size > texts.MOST_BYTES:
            raise texts.too_large(size)
        code = texts.decoded(git.blob(one.after))
        if one.before is not None and git.size(one.before) <= texts.MOST_BYTES:
            changed = git.ranges(one.before, one.after)
    except texts.UnreadableError as error:
        unreadable = {"rule": error.rule, "message": error.message, "line": error.line}
    lines = code.count("\n") + 1
    return {
        "path": one.path,
        "language": languages.of(one.path),
        "code": code,
        # Of what is new, every line; of what cannot be read, none is known.
        "changed": [[1, lines]] if changed is None else changed,
        "unreadable": unreadable,
    }


def _objects(repository: str) -> Path:
    """The folder of a repository that git reads. Raises `RangeError` for one that leads elsewhere."""
    place = Path(repository)
    folder = place / ".git" if (place / ".git").exists() else place
    if folder.is_symlink() or not (folder / "objects").is_dir():
        raise RangeError(
            f"{repository} is no repository of its own: neither a .git folder nor a bare one. "
            "Name the folder that holds them; links, worktrees and submodules are not followed."
        )
    inside = [folder / name for name in _INSIDE]
    for place in (folder / "objects", folder / "objects" / "pack"):
        inside += place.iterdir() if place.is_dir() and not place.is_symlink() else []
    for place in inside:
        if place.is_symlink():
            raise RangeError(f"{place} is a link; a repository must lie in one place")
    for name in _BORROWED:
        if (folder / name).exists():
            raise RangeError(
                f"{folder / name} borrows from another repository; repack it (git repack -ad) first"
            )
    return folder


class _Git:
    """The plumbing of one repository."""

    def __init__(self, folder: Path) -> None:
        settings = [part for setting in _SETTINGS for part in ("-c", setting)]
        self._command = ["git", "--no-pager", f"--git-dir={folder}", *settings]

    def commit(self, name: str, what: str) -> str:
        """The hash of a commit by its name. Raises `RangeError`."""
        if not _COMMIT.fullmatch(name):
            raise RangeError(
                f"{what}: {name[:80]!r} names no commit; give a branch, a tag or a hash"
            )
        asked = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        found = self._ask(*asked, may_fail=True).strip().splitlines()
        if not found or not _HASH.fullmatch(found[-1]):
            raise RangeError(f"{what}: there is no commit {name[:80]} in this repository")
        return found[-1].decode()

    def changed(self, old: str, new: str) -> Iterator[_Changed]:
        """What was added, changed or renamed; what was removed is left out."""
        told = self._ask(
            *("diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--find-renames"),
            *("--diff-filter=AMRT", "--no-ext-diff", "--no-textconv", "-O/dev/null"),
            *(old, new, "--"),
        )
        parts = iter(told.split(b"\0"))
        for head in parts:
            if not head:
                return
            _, mode, before, after, status = head.lstrip(b":").split(b" ")
            path = next(parts)
            if status.startswith((b"R", b"C")):
                path = next(parts)
            yield _Changed(
                path=path.decode(errors="backslashreplace"),
                mode=mode,
                before=None if _NOTHING.fullmatch(before) else before,
                after=after,
            )

    def size(self, blob: bytes) -> int:
        return int(self._ask("cat-file", "-s", blob.decode()))

    def blob(self, blob: bytes) -> bytes:
        return self._ask("cat-file", "blob", blob.decode())

    def ranges(self, before: bytes, after: bytes) -> list[list[float]]:
        """The lines of a blob that another has not; a place between two where lines are gone."""
        told = self._ask(
            *("diff", "--unified=0", "--inter-hunk-context=0", "--text", "--no-color"),
            *("--no-ext-diff", "--no-textconv", "-O/dev/null"),
            *(before.decode(), after.decode(), "--"),
        )
        rows = told.split(b"\n")
        found: list[list[float]] = []
        for row, following in zip(rows, [*rows[1:], b""], strict=True):
            hunk = _HUNK.match(row)
            if hunk is None:
                continue
            first, count = int(hunk[1]), int(hunk[2] or b"1")
            if count:
                found.append([first, first + count - 1])
            elif following[:1] == b"-" and following[1:2] in {b" ", b"\t"} and following.strip():
                # What stood indented below a line stood in the same block.
                found.append([first, first])
            else:
                found.append([first + 0.5, first + 0.5])
        return found

    def text_at(self, commit: str, path: str) -> str:
        """A file of a commit by its path; raises `RangeError` where it is none that can be read."""
        told = self._ask("ls-tree", "-z", "--full-tree", commit, "--", f":(literal,top){path}")
        found = [row.partition(b"\t")[0].split() for row in told.split(b"\0") if row]
        match found:
            case [[b"100644" | b"100755", b"blob", blob]]:
                pass
            case _:
                raise RangeError(f"tests: there is no file {path[:200]!r} at head")
        try:
            if (size := self.size(blob)) > texts.MOST_BYTES:
                raise texts.too_large(size)
            return texts.checked(texts.decoded(self.blob(blob))).text
        except texts.UnreadableError as error:
            raise RangeError(f"tests: {path[:200]}: {error.message}") from None

    def _ask(self, *arguments: str, may_fail: bool = False) -> bytes:
        command: Sequence[str] = [*self._command, *arguments]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                env=_ENVIRONMENT,
                cwd="/",
                check=False,
            )
        except FileNotFoundError:
            raise RangeError("git is not installed on this worker; install it") from None
        except subprocess.TimeoutExpired:
            raise RangeError(f"git {arguments[0]} took more than {_SECONDS:g} s") from None
        if done.returncode != 0 and not may_fail:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
            raise RangeError(f"git {arguments[0]} failed and said: {said[-1][:200]}")
        return done.stdout
