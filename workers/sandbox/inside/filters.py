"""Which system calls a child may make: a table, and what the kernel is told of it (seccomp).

What is not in the table fails with EPERM, so that code which tries gets an error that it can
say, not a death. Arguments are compared in all their bits: of a pointer that is to be null, both
halves. A call by another convention than this machine's own (32 bits, x32) ends the process, as
its numbers mean other calls.

New calls of a C library fail with EPERM until they are written here; `clone3` is answered as if
the kernel did not know it, upon which C libraries fall back to `clone`, whose flags can be seen.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from . import process

_INT, _WHOLE = 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF
#: Stands for the process's own id until it is known.
_OWN_ID = 0x7EAD_BEEF


@dataclass(frozen=True, slots=True)
class Check:
    """The bits of one argument that are looked at, and what they may be."""

    argument: int
    values: tuple[int, ...]
    bits: int = _INT


#: Ways to be allowed: any of them, of each all checks.
Ways: TypeAlias = tuple[tuple[Check, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A processor's convention of calls."""

    name: str
    architecture: int
    column: int  #: of the table of numbers
    foreign: int | None = None  #: numbers from here on are of another convention


MACHINES: Mapping[str, Machine] = {
    "x86_64": Machine(name="x86_64", architecture=0xC000_003E, column=0, foreign=0x4000_0000),
    "aarch64": Machine(name="aarch64", architecture=0xC000_00B7, column=1),
}

#: Calls by name: their numbers on x86_64 and on aarch64.
NUMBERS: Mapping[str, tuple[int | None, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "brk": (12, 214),
    "futex": (202, 98),
    "openat": (257, 56),
    "newfstatat": (262, 79),
    "fstat": (5, 80),
    "close": (3, 57),
    "lseek": (8, 62),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "exit_group": (231, 94),
    "open": (2, None),
    "stat": (4, None),
    "lstat": (6, None),
    "statx": (332, 291),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "readv": (19, 65),
    "writev": (20, 66),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "pipe2": (293, 59),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "restart_syscall": (219, 128),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getcpu": (309, 168),
    "getcwd": (79, 17),
    "getdents64": (217, 61),
    "getrandom": (318, 278),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "prlimit64": (302, 261),
    "set_robust_list": (273, 99),
    "get_robust_list": (274, 100),
    "rseq": (334, 293),
    "sigaltstack": (131, 132),
    "exit": (60, 93),
    "clone": (56, 220),
    "clone3": (435, 435),
    "tgkill": (234, 131),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "socketpair": (53, 199),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "eventfd2": (290, 19),
}

_PROT_EXEC = 4
_RLIMIT_AS = 9
_AF_UNIX, _SOCK_STREAM = 1, 1
# dup, flags of a descriptor and of a file, and dup that closes at exec.
_FCNTL = (0, 1, 2, 3, 4, 1030)
# Is it a terminal, non-blocking, bytes to be read, close at exec or not.
_IOCTL = (0x5401, 0x5421, 0x541B, 0x5451, 0x5450)
# What a thread shares, and what a C library may ask of the kernel for it besides.
_THREAD = 0x0001_0000 | 0x0000_0800 | 0x0000_0100
_OF_A_THREAD = 0x0000_0200 | 0x0000_0400 | 0x0004_0000 | 0x0008_0000 | 0x0010_0000 | 0x0020_0000
_DETACHED = 0x0040_0000  # of older C libraries; the kernel takes no notice
# Opening to read: neither written, nor made, nor emptied, nor without a name.
_HOW = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | 0o20_000_000
_READING = (os.O_RDONLY,)
_WRITING = tuple(
    how | made for how in (os.O_WRONLY, os.O_RDWR) for made in (0, os.O_CREAT, os.O_TRUNC)
) + tuple(how | os.O_CREAT | os.O_TRUNC for how in (os.O_WRONLY, os.O_RDWR))


def guarded(*, writing: bool, threads: bool) -> dict[str, Ways]:
    """The calls that are allowed with some arguments only."""
    how = _READING + _WRITING if writing else _READING
    ways: dict[str, Ways] = {
        # What is written is never run, and what is run was there before.
        "mmap": ((Check(2, (0,), _PROT_EXEC),),),
        "mprotect": ((Check(2, (0,), _PROT_EXEC),),),
        "open": ((Check(1, how, _HOW),),),
        "openat": ((Check(2, how, _HOW),),),
        # A process may signal itself.
        "tgkill": ((Check(0, (_OWN_ID,)),),),
        # Its limits may be read; that of memory may be raised to the hard one, for last words.
        "prlimit64": (
            (Check(0, (0,)), Check(2, (0,), _WHOLE)),
            (Check(0, (0,)), Check(1, (_RLIMIT_AS,))),
        ),
        "fcntl": ((Check(1, _FCNTL),),),
        "ioctl": ((Check(1, _IOCTL),),),
        # Event loops wake themselves by these. Nothing can be sent by them but bytes.
        "socketpair": (
            (
                Check(0, (_AF_UNIX,)),
                Check(1, (_SOCK_STREAM,), _INT & ~(os.O_CLOEXEC | os.O_NONBLOCK)),
            ),
        ),
        "sendto": ((Check(4, (0,), _WHOLE),),),
        "clone": (),
    }
    if threads:
        rest = _WHOLE & ~(_OF_A_THREAD | _DETACHED)
        ways["clone"] = ((Check(0, (_THREAD,), rest),),)
    return ways


#: Answered with an error of their own.
ANSWERED: Mapping[str, int] = {"clone3": errno.ENOSYS}


@dataclass(frozen=True, slots=True)
class Filter:
    """What the kernel is told, but for the id of the process."""

    program: bytes

    def of(self, pid: int) -> bytes:
        """The program for a process."""
        return self.program.replace(struct.pack("=I", _OWN_ID), struct.pack("=I", pid))


def machine() -> Machine | None:
    """This machine, if its calls are known here."""
    return MACHINES.get(platform.machine()) if ctypes.sizeof(ctypes.c_void_p) == 8 else None  # noqa: PLR2004


def build(on: Machine, *, writing: bool, threads: bool) -> Filter:
    """The filter of a machine: `writing` opens files to be written, too, if Landlock lets it."""
    ways = guarded(writing=writing, threads=threads)
    code = [
        _load(_ARCHITECTURE),
        _Instruction(_EQUAL, 1, 0, on.architecture),
        _KILL,
        _load(_NUMBER),
    ]
    if on.foreign is not None:
        code += [_Instruction(_AT_LEAST, 0, 1, on.foreign), _KILL]
    bodies: dict[int, list[_Instruction]] = {}
    for name, numbers in NUMBERS.items():
        number = numbers[on.column]
        if number is None:
            continue
        if name in ANSWERED:
            bodies[number] = [_fail(ANSWERED[name])]
        elif name in ways:
            bodies[number] = [*(each for way in ways[name] for each in _way(way)), _REFUSE]
        else:
            bodies[number] = [_ALLOW]
    code += _search(sorted(bodies.items()))
    return Filter(b"".join(each.packed() for each in code))


def _search(bodies: Sequence[tuple[int, list[_Instruction]]]) -> list[_Instruction]:
    """Code that finds the body of a number among sorted ones, by halves.

    For each child the kernel tries every number there is, to know which need no further look.
    """
    if len(bodies) <= _FEW:
        code = [
            each
            for number, body in bodies
            for each in (_Instruction(_EQUAL, 0, len(body), number), *body)
        ]
        return [*code, _REFUSE]
    middle = len(bodies) // 2
    lower, upper = _search(bodies[:middle]), _search(bodies[middle:])
    return [_Instruction(_AT_LEAST, len(lower), 0, bodies[middle][0]), *lower, *upper]


def available() -> bool:
    """Whether the kernel takes filters."""
    try:
        process.prctl(_SET_SECCOMP, _MODE_FILTER)
    except OSError as error:
        return error.errno == errno.EFAULT  # it looked for the filter, which is not there
    return True  # pragma: no cover  # there is no filter at no address


def enter(program: bytes) -> None:
    """Hold this process, all its threads to come included, to a filter. Raises `OSError`."""
    buffer = ctypes.create_string_buffer(program, len(program))
    told = _Program(len(program) // 8, ctypes.addressof(buffer))
    process.prctl(_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(told))


# --- the kernel's language -------------------------------------------------------------------

_SET_SECCOMP, _MODE_FILTER = 22, 2
#: Where a program finds the number of the call, the convention, and the arguments.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
#: Numbers up to which looking at each is quicker than halving.
_FEW = 3
#: As far as a jump goes that is not resolved yet.
_FAILED = -1


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


@dataclass(frozen=True, slots=True)
class _Instruction:
    code: int
    then: int
    otherwise: int
    value: int

    def packed(self) -> bytes:
        return struct.pack("=HBBI", self.code, self.then, self.otherwise, self.value)


def _load(place: int) -> _Instruction:
    return _Instruction(_LOAD, 0, 0, place)


def _fail(number: int) -> _Instruction:
    return _Instruction(_RETURN, 0, 0, 0x0005_0000 | number)


_ALLOW = _Instruction(_RETURN, 0, 0, 0x7FFF_0000)
_KILL = _Instruction(_RETURN, 0, 0, 0x8000_0000)
_REFUSE = _fail(errno.EPERM)


def _way(checks: Sequence[Check]) -> list[_Instruction]:
    """Code that allows if all checks hold, and else goes on behind itself."""
    code = [each for check in checks for each in _check(check)]
    code.append(_ALLOW)
    return [
        _Instruction(each.code, each.then, len(code) - place - 1, each.value)
        if each.otherwise == _FAILED
        else each
        for place, each in enumerate(code)
    ]


def _check(check: Check) -> list[_Instruction]:
    """Code that goes on behind itself if a check holds. Arguments have 64 bits, code has 32."""
    assert all(value >> 32 == 0 for value in check.values)
    place = _ARGUMENTS + 8 * check.argument
    code: list[_Instruction] = []
    if upper := check.bits >> 32:
        code += [
            _load(place + 4),
            _Instruction(_AND, 0, 0, upper),
            _Instruction(_EQUAL, 0, _FAILED, 0),
        ]
    code += [_load(place), _Instruction(_AND, 0, 0, check.bits & _INT)]
    *others, last = check.values
    for index, value in enumerate(others):
        code.append(_Instruction(_EQUAL, len(others) - index, 0, value))
    code.append(_Instruction(_EQUAL, 0, _FAILED, last))
    return code
