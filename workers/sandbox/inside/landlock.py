"""Landlock: which files a child may open, and that no TCP port, process or socket is in reach.

A ruleset is a descriptor, made once and entered by every child. It grants and never takes away,
so all that is not named is closed. It says nothing of what is not opened: the names and sizes of
files (`stat`), their modes, sockets in the file system, datagrams, and processes forked; those
are for the other walls.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from . import process

# The same on every machine.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_MAKE_REG, _TRUNCATE = 1 << 8, 1 << 14
#: Rights on files that each version of the interface knows: the last is for all later ones.
_FILES = (0, 0x1FFF, 0x3FFF, 0x7FFF, 0x7FFF, 0xFFFF)
#: Binding and connecting TCP, from this version on.
_NET, _NET_SINCE = 0b11, 4
#: Abstract unix sockets and signals of others, from this version on.
_SCOPED, _SCOPED_SINCE = 0b11, 6


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("files", ctypes.c_uint64),
        ("net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("folder", ctypes.c_int32))


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A file, or a folder with all in it, that may be opened."""

    path: str
    write: bool = False


class Elsewhere(Exception):
    """A path leads to another place than its name says."""


def version() -> int:
    """Of the kernel's interface; 0 where it has none, or was told to do without."""
    try:
        return process.syscall(
            _CREATE_RULESET,
            None,
            ctypes.c_size_t(0),
            ctypes.c_uint32(_VERSION),
            what="landlock",
        )
    except OSError:
        return 0


def ruleset(paths: Iterable[str], files: Iterable[Opened] = ()) -> int:
    """The descriptor of a ruleset: `paths` may be read where they exist, `files` must exist.

    Raises `OSError`, and `Elsewhere` for a file whose path is not its real one: it was granted
    by that name.
    """
    known = version()
    handled = _Ruleset(
        _FILES[min(known, len(_FILES) - 1)],
        _NET if known >= _NET_SINCE else 0,
        _SCOPED if known >= _SCOPED_SINCE else 0,
    )
    size = 8 if known < _NET_SINCE else 16 if known < _SCOPED_SINCE else 24
    rules = process.syscall(
        _CREATE_RULESET,
        ctypes.byref(handled),
        ctypes.c_size_t(size),
        ctypes.c_uint32(0),
        what="landlock_create_ruleset",
    )
    try:
        for path in paths:
            try:
                place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            _grant(rules, place, handled.files & (_READ_FILE | _READ_DIR))
        for file in files:
            rights = _READ_FILE | _READ_DIR
            if file.write:
                rights |= _WRITE_FILE | _MAKE_REG | _TRUNCATE
            _grant(rules, _open(file.path), handled.files & rights)
    except BaseException:
        os.close(rules)
        raise
    return rules


def enter(rules: int) -> None:
    """Hold this process, for good, to a ruleset. Raises `OSError`."""
    process.syscall(
        _RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0), what="landlock_restrict_self"
    )


def _open(path: str) -> int:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    # Of what is open now; whoever changes a link on the way later changes nothing.
    real = os.readlink(f"/proc/self/fd/{place}")  # noqa: PTH115  # a link that is no path
    if real != path:
        os.close(place)
        raise Elsewhere(f"{path} leads to {real}")
    return place


def _grant(rules: int, place: int, rights: int) -> None:
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _READ_FILE | _WRITE_FILE | _TRUNCATE
        process.syscall(
            _ADD_RULE,
            ctypes.c_int(rules),
            ctypes.c_int(_PATH_BENEATH),
            ctypes.byref(_Beneath(rights, place)),
            ctypes.c_uint32(0),
            what="landlock_add_rule",
        )
    finally:
        os.close(place)
