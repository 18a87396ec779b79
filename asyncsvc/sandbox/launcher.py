"""The launcher of the backend "namespaces": a program that makes a sandbox around another one.

Runs as `python -I -S launcher.py DESCRIPTOR` with an empty environment; the descriptor holds the
description that `namespaces.py` writes. Imports nothing of the service, as it runs without it.

    launcher (outside)    joins the control groups, makes the namespaces, waits
    └── init (process 1)  mounts, gives up its rights, waits; at its end the kernel ends all others
        └── the program

A step that fails ends the launcher, with the reason on stderr, which is the socket of the
handshake (`handshake.py`) until the program starts. Without threads, so that it may fork. It
imports little, as each call pays for it: json, signal and typing alone would be half of its time.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

SETUP_FAILED, NOT_STARTED, NOT_FOUND = 125, 126, 127
NEW_MOUNTS, NEW_CGROUPS, NEW_UTS, NEW_IPC = 0x20000, 0x02000000, 0x04000000, 0x08000000
NEW_USERS, NEW_PROCESSES, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
"""CLONE_NEW… of linux/sched.h."""
READ_ONLY, NO_SETUID, NO_DEVICES, NO_PROGRAMS = 1, 2, 4, 8
REMOUNT, BIND, RECURSIVE, PRIVATE = 32, 4096, 16384, 1 << 18
"""MS_… of linux/mount.h; the first four are also MOUNT_ATTR_…"""
DETACH = 2
AT_RECURSIVE, AT_EMPTY_PATH = 0x8000, 0x1000
DEATH_SIGNAL, DUMPABLE, SECCOMP, BOUNDING_DROP, NO_NEW_PRIVILEGES, AMBIENT = 1, 4, 22, 24, 38, 47
"""PR_… of linux/prctl.h."""
KILL, SIGINT, SIGPIPE, SIGXFSZ = 9, 2, 13, 25
CAPABILITIES_VERSION = 0x20080522
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT, MOUNT_SETATTR = 444, 445, 446, 442
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
CAPSET = {"x86_64": 126, "aarch64": 91}
LANDLOCK_LEAST = 2
"""The first version forbids moving a file from one folder to another."""
LANDLOCK_FILES = {2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All rights on files that a version of the kernel's interface knows."""
LANDLOCK_READ = 0b1101
"""Run a program, read a file, read a folder."""
LANDLOCK_TCP = 0b11
LANDLOCK_SCOPES = 0b11
"""Abstract sockets and signals."""

LIBC = ctypes.CDLL(None, use_errno=True)


class SetupFailed(Exception):
    """A step of the sandbox failed; the message names it."""


def checked(step: str, result: int) -> int:
    if result < 0:
        raise SetupFailed(f"{step}: {os.strerror(ctypes.get_errno())}")
    return result


def system_call(step: str, number: int, *arguments: Any) -> int:
    return checked(step, LIBC.syscall(ctypes.c_long(number), *arguments))


def control(step: str, option: int, *arguments: int) -> None:
    values = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    checked(step, LIBC.prctl(option, *values))


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    checked(
        f"mount {target}",
        LIBC.mount(
            source.encode(),
            target.encode(),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            options.encode() or None,
        ),
    )


def restrict_mount(path: str, attributes: int) -> None:
    """Set attributes of a mount and of all below it (Linux 5.12)."""
    wanted = struct.pack("=QQQQ", attributes, 0, 0, 0)
    system_call(
        f"mount_setattr {path}", MOUNT_SETATTR, -100, path.encode(), AT_RECURSIVE, wanted,
        ctypes.c_size_t(len(wanted)),
    )  # fmt: skip


def write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        raise SetupFailed(f"{path}: {error.strerror}") from error


def make_namespaces(identity: int) -> None:
    """Enter new namespaces, as the user `identity` that is ourselves outside."""
    user, group = os.getuid(), os.getgid()
    checked(
        "user namespaces",
        LIBC.unshare(
            NEW_USERS | NEW_PROCESSES | NEW_NETWORK | NEW_MOUNTS | NEW_IPC | NEW_UTS | NEW_CGROUPS
        ),
    )
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"{identity} {user} 1")
    write("/proc/self/gid_map", f"{identity} {group} 1")


def place(path: str, *, folder: bool) -> None:
    """An empty folder or file to mount on, if there is none."""
    if folder:
        os.makedirs(path, exist_ok=True)
    elif not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o444))


def bind(path: str, target: str, attributes: int) -> None:
    source = f"/old{path}"
    place(target, folder=os.path.isdir(source))
    mount(source, target, None, BIND | RECURSIVE)
    restrict_mount(target, attributes)


def memory(target: str, size: int, mode: str) -> None:
    place(target, folder=True)
    mount(
        "tmpfs", target, "tmpfs", NO_SETUID | NO_DEVICES, f"size={size},mode={mode},nr_inodes=16384"
    )


def make_root(wanted: dict[str, Any]) -> None:
    """Replace the root by memory that holds the allow-list, and forget the old one."""
    mount("none", "/", None, RECURSIVE | PRIVATE)
    # Over /tmp, in our own namespace only; what is below it is reached as /old/tmp.
    memory("/tmp", 1 << 20, "0755")
    os.mkdir("/tmp/old")
    system_call("pivot_root", PIVOT_ROOT[os.uname().machine], b"/tmp", b"/tmp/old")
    os.chdir("/")
    for path in wanted["read_only"]:
        bind(path, path, READ_ONLY | NO_SETUID | NO_DEVICES)
    for path in wanted["devices"]:
        # They can be written all the same, but their mode and owner are held.
        bind(path, path, READ_ONLY | NO_SETUID | NO_PROGRAMS)
    for path, target in wanted["links"]:
        os.symlink(target, path)
    memory("/dev/shm", wanted["shared_memory"], "1777")
    memory("/tmp", wanted["scratch"], "1777")
    bind(wanted["workspace"], wanted["workspace_at"], NO_SETUID | NO_DEVICES)
    place("/proc", folder=True)
    # Read-only: as root outside, we would own /proc/sys.
    mount("proc", "/proc", "proc", READ_ONLY | NO_SETUID | NO_DEVICES | NO_PROGRAMS)
    checked("umount", LIBC.umount2(b"/old", DETACH))
    os.rmdir("/old")
    mount("none", "/", None, REMOUNT | BIND | READ_ONLY | NO_SETUID | NO_DEVICES)
    checked("hostname", LIBC.sethostname(wanted["host"].encode(), len(wanted["host"])))
    os.chdir(wanted["workspace_at"])


def drop_rights() -> None:
    """Give up every capability, for good."""
    control("ambient", AMBIENT, 4)
    for capability in range(64):
        # The kernel knows fewer, and says so for the first that it does not know.
        if LIBC.prctl(BOUNDING_DROP, ctypes.c_ulong(capability), 0, 0, 0) < 0:
            break
    header = struct.pack("=Ii", CAPABILITIES_VERSION, 0)
    system_call("capset", CAPSET[os.uname().machine], header, bytes(24))
    control("no_new_privs", NO_NEW_PRIVILEGES, 1)


def restrict_with_landlock(writable: list[str]) -> None:
    """A second wall where the kernel has it: files by path, TCP, abstract sockets, signals."""
    version = LIBC.syscall(ctypes.c_long(LANDLOCK_CREATE), None, ctypes.c_size_t(0), 1)
    if version < LANDLOCK_LEAST:
        return
    files = LANDLOCK_FILES[max(known for known in LANDLOCK_FILES if known <= version)]
    fields = [files]
    fields += [LANDLOCK_TCP] if version >= 4 else []
    fields += [LANDLOCK_SCOPES] if version >= 6 else []
    rules = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = system_call("landlock", LANDLOCK_CREATE, rules, ctypes.c_size_t(len(rules)), 0)
    for path, rights in [("/", LANDLOCK_READ), *((path, files) for path in writable)]:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rights &= files if os.path.isdir(path) else 0b10 | 0b100 | (files & (3 << 14))
        rule = struct.pack("=Qi", rights, folder)
        system_call("landlock rule", LANDLOCK_ADD, ruleset, 1, rule, 0)
        os.close(folder)
    system_call("landlock restriction", LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)


def restrict_calls(program: bytes) -> None:
    """Install the filter of system calls."""
    steps = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("@HP", len(program) // 8, ctypes.addressof(steps))
    filtered = ctypes.create_string_buffer(head, len(head))
    control("seccomp", SECCOMP, 2, ctypes.addressof(filtered))


def limit(limits: list[tuple[str, int]]) -> None:
    import resource

    for name, value in limits:
        resource.setrlimit(getattr(resource, name), (value, value))


def start(words: list[str], environment: dict[str, str]) -> NoReturn:
    """Become the program."""
    for number in (SIGINT, SIGPIPE, SIGXFSZ):
        # Python ignores the last two, and a program would inherit that.
        LIBC.signal(number, None)
    try:
        os.execvpe(words[0], words, environment)
    except OSError as error:
        os.write(2, f"{words[0]}: {error.strerror}\n".encode())
        os._exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_STARTED)


def wait(child: int) -> int:
    """The exit code of a child, other children being reaped meanwhile."""
    while True:
        ended, status = os.wait()
        if ended == child and not os.WIFSTOPPED(status):
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def shake_hands() -> None:
    """Wait for the service's word to start the program; stderr becomes the program's."""
    os.write(2, b"\0")
    if not os.read(2, 1):
        raise SetupFailed("the service has gone")
    os.dup2(1, 2)


def init(wanted: dict[str, Any], program: bytes) -> int:
    """Process 1: all walls first, then the program, then its end."""
    control("death signal", DEATH_SIGNAL, KILL)
    make_root(wanted)
    limit(wanted["limits"])
    drop_rights()
    # Dropping rights clears it. The program could write to the memory of a process 1 that has
    # more rights than itself, so it has none left, and cannot be looked into at all.
    control("death signal", DEATH_SIGNAL, KILL)
    restrict_with_landlock(wanted["writable"])
    restrict_calls(program)
    # Nothing of process 1 can be read; the program is an ordinary process again once it is started.
    control("dumpable", DUMPABLE, 0)
    shake_hands()
    child = os.fork()
    if child == 0:
        start(wanted["words"], wanted["environment"])
    return wait(child)


def attempt(action: Callable[[], int]) -> NoReturn:
    """End with the action's code, or with the reason why the sandbox could not be made."""
    try:
        code = action()
    except (SetupFailed, OSError, ValueError) as error:
        os.write(2, str(error).encode(errors="replace"))
        code = SETUP_FAILED
    os._exit(code)


def main(descriptor: int) -> NoReturn:
    with open(descriptor, "rb") as file:
        wanted = marshal.load(file)

    def outside() -> int:
        for path in wanted["groups"]:
            write(path, "0")
        make_namespaces(wanted["identity"])
        control("death signal", DEATH_SIGNAL, KILL)
        child = os.fork()
        if child == 0:
            attempt(lambda: init(wanted, wanted["filter"]))
        return wait(child)

    attempt(outside)


if __name__ == "__main__":
    main(int(sys.argv[1]))
