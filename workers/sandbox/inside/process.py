"""The few things Linux offers processes that Python does not."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed leaves it out
import ctypes
import os

_SET_PDEATHSIG, _SET_DUMPABLE, _SET_KEEPCAPS, _SET_NAME, _CAPBSET_DROP = 1, 4, 8, 15, 24
_SET_CHILD_SUBREAPER, _SET_NO_NEW_PRIVS = 36, 38
#: The version of the calls on capabilities that has room for 64 of them.
_CAPABILITIES = 0x20080522
CAP_SYS_ADMIN = 21
#: A user of our own for code, where the worker is root: no range of ids that systems hand out
#: holds it, so it owns nothing, and whatever runs as it is ours.
NOBODY = 60_714

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)


#: What `signal` wraps, which turns what it takes and gives into enumerations: that takes ten times as long.
handle, handler = _signal.signal, _signal.getsignal


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def signal_when_parent_dies(number: int) -> None:
    """Have the kernel send `number` here when the thread that forked this process ends.

    Has to be asked for again after a change of user.
    """
    prctl(_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Make every descendant whose parent ends a child of this process, not of init."""
    prctl(_SET_CHILD_SUBREAPER, 1)


def hide() -> None:
    """Close this process's memory and environment to others of the same user.

    Nobody but root can trace, freeze or read it any more; for a process that has not called this,
    whatever runs as the same user can.
    """
    prctl(_SET_DUMPABLE, 0)


def give_up_privileges() -> None:
    """Let no program started from here gain rights by setuid or file capabilities."""
    prctl(_SET_NO_NEW_PRIVS, 1)


def become(user: int, *, keep: frozenset[int] = frozenset()) -> None:
    """Be another user and group, in no further groups, with no capabilities but those to keep."""
    prctl(_SET_KEEPCAPS, 1 if keep else 0)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    keep_capabilities(keep)


def keep_capabilities(kept: frozenset[int] = frozenset()) -> None:
    """Give up every capability but these."""
    bits = sum(1 << number for number in kept)
    sets = (_Sets * 2)()
    for half in range(2):
        word = (bits >> (32 * half)) & 0xFFFFFFFF
        sets[half].effective = sets[half].permitted = word
    header = _Header(_CAPABILITIES, 0)
    if _libc.capset(ctypes.byref(header), sets) != 0:
        raise _error("capset")


def bound_capabilities() -> None:
    """Let no program that is started from here ever have a capability."""
    number = 0
    while _libc.prctl(_CAPBSET_DROP, number, 0, 0, 0) == 0:
        number += 1  # until there is no such capability


def flush() -> None:
    """Write what C libraries have printed and still hold."""
    _libc.fflush(None)


def name(text: str) -> None:
    """What `ps` and `top` show."""
    buffer = ctypes.create_string_buffer(text.encode()[:15])
    prctl(_SET_NAME, ctypes.addressof(buffer))


def prctl(option: int, argument: int, another: int = 0) -> None:
    """Raises `OSError`."""
    if _libc.prctl(option, argument, another, 0, 0) != 0:
        raise _error(f"prctl {option}")


def unshare(flags: int) -> None:
    """Raises `OSError`."""
    if _libc.unshare(ctypes.c_int(flags)) != 0:
        raise _error("unshare")


def enter(namespace: int, kind: int) -> None:
    """Move to the namespace of a descriptor; for a pid namespace, what is forked from now on."""
    if _libc.setns(ctypes.c_int(namespace), ctypes.c_int(kind)) != 0:
        raise _error("setns")


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """Raises `OSError`, which names the target."""
    done = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode(),
    )
    if done != 0:
        raise _error(f"mount on {target}")


def detach(target: str) -> None:
    """Take a mount, and all below it, out of the tree."""
    mnt_detach = 2
    if _libc.umount2(os.fsencode(target), mnt_detach) != 0:
        raise _error(f"umount {target}")


def set_host_name(text: str) -> None:
    """Of this namespace."""
    if _libc.sethostname(text.encode(), ctypes.c_size_t(len(text))) != 0:
        raise _error("sethostname")


def told(path: str) -> bytes:
    """What a file of the kernel's says, for a fraction of what a file object costs."""
    place = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # A part at a time, where it is long.
        return b"".join(iter(lambda: os.read(place, 65_536), b""))
    finally:
        os.close(place)


def syscall(number: int, *arguments: object, what: str) -> int:
    """A call that the C library has no function for. Raises `OSError`."""
    found = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if found < 0:
        raise _error(what)
    return found


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
