"""The few things Linux offers processes that Python does not."""

from __future__ import annotations

import ctypes
import os

_SET_PDEATHSIG, _SET_DUMPABLE, _SET_NAME, _SET_CHILD_SUBREAPER, _SET_NO_NEW_PRIVS = 1, 4, 15, 36, 38

_libc = ctypes.CDLL(None, use_errno=True)


def signal_when_parent_dies(number: int) -> None:
    """Have the kernel send `number` here when the thread that forked this process ends."""
    _prctl(_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Make every descendant whose parent ends a child of this process, not of init."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def hide() -> None:
    """Close this process's memory and environment to others of the same user."""
    _prctl(_SET_DUMPABLE, 0)


def give_up_privileges() -> None:
    """Let no program started from here gain rights by setuid or file capabilities."""
    _prctl(_SET_NO_NEW_PRIVS, 1)


def name(text: str) -> None:
    """What `ps` and `top` show."""
    buffer = ctypes.create_string_buffer(text.encode()[:15])
    _prctl(_SET_NAME, ctypes.addressof(buffer))


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"prctl {option}")
