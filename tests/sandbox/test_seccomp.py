"""The filter of system calls, run step by step for both processors."""

import errno
import re
import struct
from pathlib import Path

import pytest

from asyncsvc.sandbox import seccomp
from asyncsvc.sandbox.system_calls import AARCH64, LAST_KNOWN, NUMBERS, X86_64, number

MACHINES = [X86_64, AARCH64]
HEADERS = {
    X86_64: Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    AARCH64: Path("/usr/include/asm-generic/unistd.h"),
}


def verdict(machine: str, name: str | int, *arguments: int, architecture: str = "") -> int | str:
    """What the kernel would do: "allow", "kill", or an errno."""
    called = number(name, machine) if isinstance(name, str) else name
    assert called is not None
    values = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=iIQ6Q", called, seccomp.ARCHITECTURES[architecture or machine], 0, *values)
    steps = list(struct.iter_unpack("=HBBI", seccomp.filter_program(machine)))
    at = accumulator = 0
    while True:
        code, yes, no, value = steps[at]
        at += 1
        if code == seccomp.LOAD:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == seccomp.RETURN:
            if value == seccomp.ALLOW:
                return "allow"
            return "kill" if value == seccomp.KILL else value & 0xFFFF
        else:
            holds = {
                seccomp.EQUAL: accumulator == value,
                seccomp.AT_LEAST: accumulator >= value,
                seccomp.ANY_BIT: bool(accumulator & value),
            }[code]
            at += yes if holds else no


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_that_no_program_needs_are_refused(machine: str) -> None:
    for name in seccomp.DENIED:
        if number(name, machine) is not None:
            assert verdict(machine, name) == errno.EPERM, name
    for name in seccomp.ABSENT:
        assert verdict(machine, name) == errno.ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_that_are_not_listed_are_allowed_and_unknown_ones_are_not(machine: str) -> None:
    listed = {number(name, machine) for name in NUMBERS}
    for called in set(range(LAST_KNOWN + 1)) - listed:
        assert verdict(machine, called) == "allow"
    for called in (LAST_KNOWN + 1, 1000, 0x40000000 | 39):
        assert verdict(machine, called) == errno.ENOSYS


def test_a_process_that_speaks_for_another_processor_is_killed() -> None:
    assert verdict(X86_64, 39, architecture=AARCH64) == "kill"
    assert verdict(AARCH64, 39, architecture=X86_64) == "kill"


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("clone", (0x11,), "allow"),
        ("clone", (0x3D0F00,), "allow"),
        *((("clone", (0x11 | 1 << bit,), errno.EPERM)) for bit in (17, 25, 26, 27, 28, 29, 30)),
        ("socketpair", (1, 1), "allow"),
        ("socketpair", (1, 0o2004001), "allow"),
        ("socketpair", (1, 5), "allow"),
        ("socketpair", (1, 2), errno.EPERM),
        ("socketpair", (1, 0o2000002), errno.EPERM),
        ("socketpair", (1, 3), errno.EPERM),
        ("socketpair", (2, 1), errno.EPERM),
        ("socketpair", (1 | 1 << 32, 1), "allow"),
        ("personality", (0,), "allow"),
        ("personality", (0xFFFFFFFF,), "allow"),
        ("personality", (0x40000,), errno.EPERM),
        ("fcntl", (0, 3), "allow"),
        ("fcntl", (0, 1024), errno.EPERM),
        ("ioctl", (0, 0x5401), "allow"),
        ("ioctl", (0, 0x5412), errno.EPERM),
        ("ioctl", (0, 0x5412 | 1 << 32), errno.EPERM),
        ("ioctl", (0, 0x541C), errno.EPERM),
        ("openat", (0, 0, 0o101, 0o644), "allow"),
        ("openat", (0, 0, 0o101, 0o4755), errno.EPERM),
        ("openat", (0, 0, 0o20200001, 0o2755), errno.EPERM),
        ("openat", (0, 0, 0, 0o4755), "allow"),
        ("fchmod", (0, 0o755), "allow"),
        ("fchmod", (0, 0o1777), "allow"),
        ("fchmod", (0, 0o4755), errno.EPERM),
        ("fchmod", (0, 0o2755), errno.EPERM),
        ("fchmodat", (0, 0, 0o4755), errno.EPERM),
        ("fchmodat2", (0, 0, 0o4755), errno.EPERM),
        ("mknodat", (0, 0, 0o104755), errno.EPERM),
        ("mknodat", (0, 0, 0o10644), "allow"),
    ],
)
def test_calls_that_depend_on_their_arguments(
    machine: str, name: str, arguments: tuple[int, ...], expected: int | str
) -> None:
    assert verdict(machine, name, *arguments) == expected


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("open", (0, 0o101, 0o644), "allow"),
        ("open", (0, 0o101, 0o4755), errno.EPERM),
        ("open", (0, 0, 0o4755), "allow"),
        ("creat", (0, 0o4755), errno.EPERM),
        ("creat", (0, 0o755), "allow"),
        ("chmod", (0, 0o4755), errno.EPERM),
        ("mknod", (0, 0o104755), errno.EPERM),
    ],
)
def test_calls_that_only_x86_64_has(
    name: str, arguments: tuple[int, ...], expected: int | str
) -> None:
    assert verdict(X86_64, name, *arguments) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_those_of_the_headers(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("the headers of Linux (linux-libc-dev) are not installed")
    found = re.findall(
        r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text(encoding="utf-8")
    )
    listed = {name: int(value) for name, value in found}
    assert len(listed) > 250
    for name in NUMBERS:
        if name in listed:
            assert number(name, machine) == listed[name], name


def test_the_program_is_short_enough_for_the_kernel() -> None:
    assert all(len(seccomp.filter_program(machine)) // 8 < 4096 for machine in MACHINES)
