"""Namespaces: a root with nothing in it but what is shown, no network, no other processes.

They are entered once, by the zygote, before it forks: the process that was started stays outside
and waits (`_stand_by`), its child is the first process of a pid namespace and goes on as the
zygote. Each execution gets a pid namespace of its own within that one. When the first process of
such a namespace dies, the kernel kills all the others: nothing survives an execution, and no
execution survives the zygote.

Where the worker is root, root is mapped for as long as mounts are made, and `process.NOBODY`
for all the rest; where it is a user, that user alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import process
from .landlock import Opened

_NEW_MOUNTS, _NEW_HOST_NAME, _NEW_IPC = 0x0002_0000, 0x0400_0000, 0x0800_0000
_NEW_USERS, NEW_PIDS, _NEW_NETWORK = 0x1000_0000, 0x2000_0000, 0x4000_0000

_NO_SUID, _NO_DEV, _NO_EXEC = 2, 4, 8
_BIND, _DEEP, _PRIVATE = 0x1000, 0x4000, 0x4_0000
# Attributes of mounts, for the call that sets them on all mounts of a tree.
_MOUNT_SETATTR = 442
_ATTR_READ_ONLY, _ATTR_NO_SUID, _ATTR_NO_DEV, _ATTR_NO_EXEC = 1, 2, 4, 8
_RECURSIVE = 0x8000
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
#: Where the new root is built; any folder would do.
_PLACES = ("/tmp", "/mnt", "/var", "/usr")  # noqa: S108  # nothing is written there


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("users", ctypes.c_uint64),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The namespaces that have been entered."""

    #: Descriptor of the zygote's pid namespace, to fork into again.
    pids: int

    def fork(self) -> int:
        """Like `os.fork`, into a pid namespace of its own, in which the child is process 1."""
        process.unshare(NEW_PIDS)
        try:
            pid = os.fork()
        except OSError:
            process.enter(self.pids, NEW_PIDS)
            raise
        if pid:
            process.enter(self.pids, NEW_PIDS)
        return pid


def enter(paths: Sequence[str], folders: Sequence[Opened]) -> Shown:
    """Show `paths` to be read and `folders`, and nothing else; returns in the new process alone.

    Raises `OSError` where the kernel, or a container around it, does not let us.
    """
    root = os.geteuid() == 0
    with _mapping(root=root) as map_users:
        process.unshare(
            _NEW_USERS | _NEW_MOUNTS | _NEW_HOST_NAME | _NEW_IPC | NEW_PIDS | _NEW_NETWORK
        )
        map_users()
    pid = os.fork()
    if pid:
        _stand_by(pid)
    process.signal_when_parent_dies(signal.SIGKILL)
    _build(paths, folders)
    process.set_host_name("celeriac")
    found = Shown(pids=os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC))
    process.bound_capabilities()
    # What it forks it puts into pid namespaces; for anything else it needs no rights.
    kept = frozenset({process.CAP_SYS_ADMIN})
    if root:
        process.become(process.NOBODY, keep=kept)
        process.signal_when_parent_dies(signal.SIGKILL)
    else:
        process.keep_capabilities(kept)
    return found


def _stand_by(zygote: int) -> None:
    """Wait for the zygote, as the process that the worker knows, and end as it ended."""
    worker = os.getppid()

    def look(_number: int, _frame: object) -> None:
        if os.getppid() != worker:
            os._exit(0)  # the zygote dies of it

    signal.signal(signal.SIGUSR1, look)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    process.name("celeriac-stand")
    process.hide()
    process.keep_capabilities()
    # The control socket among them, whose end the zygote must see.
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    _, status = os.waitpid(zygote, 0)
    os._exit(0 if status == 0 else 1)


@contextlib.contextmanager
def _mapping(*, root: bool) -> Iterator[Callable[[], None]]:
    """What says who is who in a new namespace, once this process is in it.

    A user may map himself. Two are mapped by somebody with rights outside: a process from before.
    """
    if not root:
        user, group = os.geteuid(), os.getegid()
        yield partial(_map, "self", [user], [group])
        return
    hear, tell = os.pipe()
    answer, say = os.pipe()
    target = os.getpid()
    helper = os.fork()
    if helper == 0:
        status = 1
        try:
            os.close(tell)
            if os.read(hear, 1):
                _map(str(target), [0, process.NOBODY], [0, process.NOBODY])
                os.write(say, b"y")
            status = 0
        finally:
            os._exit(status)
    os.close(hear)
    os.close(say)

    def mapped() -> None:
        os.write(tell, b"y")
        if not os.read(answer, 1):
            raise PermissionError("uid_map: the users cannot be mapped")

    try:
        yield mapped
    finally:
        os.close(tell)
        os.close(answer)
        os.waitpid(helper, 0)


def _map(process_id: str, users: Sequence[int], groups: Sequence[int]) -> None:
    proc = Path("/proc") / process_id
    if process_id == "self":
        (proc / "setgroups").write_text("deny")
    for kind, ids in (("uid_map", users), ("gid_map", groups)):
        (proc / kind).write_text("".join(f"{each} {each} 1\n" for each in ids))


def _build(paths: Sequence[str], folders: Sequence[Opened]) -> None:
    """Make the new root and move there."""
    process.mount("none", "/", None, _DEEP | _PRIVATE)
    wanted = [
        *(Opened(path=path) for path in paths if Path(path).exists()),
        # Outer folders before those in them.
        *sorted(folders, key=lambda folder: folder.path),
    ]
    # Opened first: the root is built on top of a folder that some may lie in.
    places = [(os.open(each.path, os.O_PATH | os.O_CLOEXEC), each) for each in wanted]
    root = next(place for place in _PLACES if Path(place).is_dir())
    process.mount("tmpfs", root, "tmpfs", _NO_SUID | _NO_DEV, "size=1m,nr_inodes=1k,mode=0755")
    for place, each in places:
        _show(place, root + each.path, each)
    proc = f"{root}/proc"
    Path(proc).mkdir(exist_ok=True)
    process.mount("proc", proc, "proc", _NO_SUID | _NO_DEV | _NO_EXEC)
    _set(root, _ATTR_READ_ONLY | _ATTR_NO_SUID | _ATTR_NO_EXEC)
    os.chdir(root)
    process.syscall(_PIVOT_ROOT[os.uname().machine], b".", b".", what="pivot_root")
    # The old root lies on top of the new one now.
    process.detach(".")
    os.chdir("/")
    for place, _ in places:
        os.close(place)


def _show(place: int, target: str, shown: Opened) -> None:
    path = Path(target)
    if stat.S_ISDIR(os.fstat(place).st_mode):
        path.mkdir(parents=True, exist_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    process.mount(f"/proc/self/fd/{place}", target, None, _BIND | _DEEP)
    attributes = _ATTR_NO_SUID | _ATTR_NO_EXEC
    if not shown.write:
        attributes |= _ATTR_READ_ONLY
    if not shown.path.startswith("/dev/"):
        attributes |= _ATTR_NO_DEV
    _set(target, attributes, deep=True)


def _set(target: str, attributes: int, *, deep: bool = False) -> None:
    told = _Attributes(attributes, 0, 0, 0)
    process.syscall(
        _MOUNT_SETATTR,
        ctypes.c_int(-100),
        os.fsencode(target),
        ctypes.c_uint(_RECURSIVE if deep else 0),
        ctypes.byref(told),
        ctypes.c_size_t(ctypes.sizeof(told)),
        what=f"mount_setattr on {target}",
    )
