"""The filter of system calls, evaluated as the kernel does, case by case out of its own table."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.sandbox.inside import filters
from workers.sandbox.inside.filters import ANSWERED, MACHINES, NUMBERS, Check, Machine

ALLOW, KILL, ERRNO = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
REFUSE = ERRNO | errno.EPERM
OWN = 4711
WHOLE = (1 << 64) - 1

machines = pytest.mark.parametrize("machine", MACHINES.values(), ids=lambda machine: machine.name)
variants = pytest.mark.parametrize("writing", [False, True])


def evaluate(program: bytes, data: bytes) -> int:
    """What a program answers to `struct seccomp_data`."""
    code = [struct.unpack_from("=HBBI", program, place) for place in range(0, len(program), 8)]
    held, at = 0, 0
    while True:
        kind, then, otherwise, value = code[at]
        at += 1
        if kind == 0x20:
            (held,) = struct.unpack_from("=I", data, value)
        elif kind == 0x54:
            held &= value
        elif kind == 0x15:
            at += then if held == value else otherwise
        elif kind == 0x35:
            at += then if held >= value else otherwise
        else:
            assert kind == 0x06
            return int(value)


def called(
    machine: Machine, number: int, *arguments: int, architecture: int | None = None
) -> bytes:
    given = [*arguments, *[0] * (6 - len(arguments))]
    return struct.pack("=IIQ6Q", number, architecture or machine.architecture, 0, *given)


def program(machine: Machine, *, writing: bool = False, threads: bool = True) -> bytes:
    return filters.build(machine, writing=writing, threads=threads).of(OWN)


def number_of(machine: Machine, name: str) -> int | None:
    return NUMBERS[name][machine.column]


def own(value: int) -> int:
    return OWN if value == filters._OWN_ID else value


def fitting(checks: tuple[Check, ...]) -> list[int]:
    given = [0] * 6
    for check in checks:
        given[check.argument] = own(check.values[0])
    return given


def wrong(check: Check) -> Iterator[int]:
    """Each value that differs from an allowed one in one bit that is looked at, and is not allowed."""
    allowed = {own(value) for value in check.values}
    for value in allowed:
        for bit in range(64):
            changed = value ^ (1 << bit)
            if check.bits >> bit & 1 and changed & check.bits not in allowed:
                yield changed


@machines
@variants
def test_what_is_not_in_the_table_is_refused_and_what_is_alone_allowed(
    machine: Machine, writing: bool
) -> None:
    code = program(machine, writing=writing)
    ways = filters.guarded(writing=writing, threads=True)
    known = {number_of(machine, name): name for name in NUMBERS}
    for number in range(1000):
        name = known.get(number)
        if name is None:
            assert evaluate(code, called(machine, number)) == REFUSE, number
        elif name in ANSWERED:
            assert evaluate(code, called(machine, number)) == ERRNO | ANSWERED[name]
        elif name not in ways:
            assert evaluate(code, called(machine, number, *[WHOLE] * 6)) == ALLOW, name


@machines
@variants
def test_each_argument_that_is_looked_at_is_looked_at_in_all_its_bits(
    machine: Machine, writing: bool
) -> None:
    code = program(machine, writing=writing)
    tried = 0
    for name, ways in filters.guarded(writing=writing, threads=True).items():
        number = number_of(machine, name)
        if number is None:
            continue
        for checks in ways:
            for check in checks:
                given = fitting(checks)
                for value in check.values:
                    given[check.argument] = own(value)
                    assert evaluate(code, called(machine, number, *given)) == ALLOW, (name, given)
                    # Bits that say nothing, say nothing.
                    given[check.argument] |= WHOLE & ~check.bits
                    assert evaluate(code, called(machine, number, *given)) == ALLOW, (name, given)
                others = [other for other in ways if other is not checks]
                for value in wrong(check):
                    given = fitting(checks)
                    given[check.argument] = value
                    if any(_holds(other, given) for other in others):
                        continue
                    tried += 1
                    assert evaluate(code, called(machine, number, *given)) == REFUSE, (name, given)
    assert tried > 500


def _holds(checks: tuple[Check, ...], given: list[int]) -> bool:
    return all(
        given[check.argument] & check.bits in {own(value) for value in check.values}
        for check in checks
    )


@machines
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("sendto", (3, 0, 0, 0, 1 << 32, 16)),
        ("sendto", (3, 0, 0, 0, 0x7FFF_0000_0000, 16)),
        ("prlimit64", (0, 7, 1 << 40, 0)),
        ("prlimit64", (1, 9, 0, 0)),
        ("mmap", (0, 4096, 7, 0x22, WHOLE, 0)),
        ("mprotect", (0, 4096, 5)),
        ("tgkill", (OWN + 1, OWN, 9)),
        ("socketpair", (1, 2, 0, 0)),
        ("socketpair", (2, 1, 0, 0)),
        ("fcntl", (3, 8, 1)),
        ("ioctl", (0, 0x5412, 0)),
        ("clone", (17,)),
        ("clone", (0x3D0F00 | 0x1000_0000,)),
        ("clone", (0x3D0F00 | 1 << 32,)),
        ("openat", (0, 0, os.O_RDONLY | os.O_TRUNC)),
        ("openat", (0, 0, os.O_RDONLY | os.O_CREAT)),
        ("openat", (0, 0, os.O_RDWR | 0o20_200_000)),
        ("openat", (0, 0, os.O_RDWR | 0o20_040_000)),
    ],
)
def test_what_was_thought_of_is_refused(
    machine: Machine, name: str, arguments: tuple[int, ...]
) -> None:
    number = number_of(machine, name)
    assert number is not None
    for writing in (False, True):
        assert (
            evaluate(program(machine, writing=writing), called(machine, number, *arguments))
            == REFUSE
        )


@machines
def test_threads_are_made_where_they_can_be_counted_alone(machine: Machine) -> None:
    number = number_of(machine, "clone")
    assert number is not None
    for flags in (0x3D0F00, 0x7D0F00):  # of glibc, of musl
        assert evaluate(program(machine), called(machine, number, flags)) == ALLOW
        assert evaluate(program(machine, threads=False), called(machine, number, flags)) == REFUSE


@machines
def test_files_are_written_by_the_filter_for_that_alone(machine: Machine) -> None:
    number = number_of(machine, "openat")
    assert number is not None
    for how in (os.O_WRONLY, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
        data = called(machine, number, 0, 0, how | os.O_CLOEXEC)
        assert evaluate(program(machine, writing=True), data) == ALLOW
        assert evaluate(program(machine), data) == REFUSE


@machines
def test_another_convention_of_calls_ends_the_process(machine: Machine) -> None:
    for other in (0x4000_0003, 0x4000_0028, *(each.architecture for each in MACHINES.values())):
        if other != machine.architecture:
            assert evaluate(program(machine), called(machine, 0, architecture=other)) == KILL
    if machine.foreign is not None:
        assert evaluate(program(machine), called(machine, machine.foreign)) == KILL
        assert evaluate(program(machine), called(machine, machine.foreign | 39)) == KILL


@machines
def test_the_numbers_are_those_of_the_kernel(machine: Machine) -> None:
    """As far as its headers are here."""
    place = {
        "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
        "aarch64": "/usr/include/asm-generic/unistd.h",
    }[machine.name]
    if not Path(place).exists():
        pytest.skip(f"no {place}")
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(place).read_text())
    known = {("newfstatat" if name == "fstatat" else name): int(number) for name, number in found}
    for name in NUMBERS:
        assert number_of(machine, name) == known.get(name), name


def test_a_program_fits_the_kernel() -> None:
    for machine in MACHINES.values():
        assert len(program(machine)) // 8 <= 4096
        assert program(machine).count(struct.pack("=I", OWN)) == 1


def test_another_processor_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert filters.machine() in MACHINES.values()
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert filters.machine() is None
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(ctypes, "sizeof", lambda _: 4)
    assert filters.machine() is None
